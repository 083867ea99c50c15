"""Orders in which messages are updated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flooding:
    """All messages are updated at once, from those of the previous iteration.

    The result does not depend on the order of the variables, and iterations are cheap.
    """


@dataclass(frozen=True)
class Sequential:
    """The messages into one variable after another, alternately forward and backward.

    Information crosses the graph in one iteration: a tree needs two. Usually converges in fewer
    iterations than :class:`Flooding`, with fewer oscillations.
    """


@dataclass(frozen=True)
class Residual:
    """The messages into the variable whose neighbours' beliefs have changed most.

    A variable's priority is the sum of its neighbours' changes of belief since it was last
    updated; an iteration consists of as many updates as there are variables.

    References:
        Elidan, McGraw and Koller (2006), Residual belief propagation: informed scheduling for
        asynchronous message passing. Sutton and McCallum (2007), Improved dynamic schedules for
        belief propagation.
    """


Schedule = Flooding | Sequential | Residual
