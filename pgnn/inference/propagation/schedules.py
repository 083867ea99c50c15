"""Orders in which messages are updated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flooding:
    """All messages at once, from those of the iteration before.

    The order of the model's variables does not matter, and an iteration is cheapest.
    """


@dataclass(frozen=True)
class Sequential:
    """The messages into one variable after another, forward and backward in turn.

    Information crosses the graph in one iteration: a tree needs two. Usually fewer iterations than
    :class:`Flooding`, and fewer oscillations.
    """


@dataclass(frozen=True)
class Residual:
    """The messages into the variable whose neighbours' beliefs have changed most.

    A variable's priority is the sum of its neighbours' changes of belief since it was last
    updated; as many updates as there are variables count as one iteration.

    References:
        Elidan, McGraw and Koller (2006), Residual belief propagation: informed scheduling for
        asynchronous message passing. Sutton and McCallum (2007), Improved dynamic schedules for
        belief propagation.
    """


Schedule = Flooding | Sequential | Residual
