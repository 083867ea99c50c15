"""Hidden semi-Markov models, with explicit durations of states."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import networkx as nx
import torch
from torch.distributions import Categorical

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.hidden_markov_model import HiddenMarkovModel
from pgnn.models.repeated_slice import check_steps, conditional_at
from pgnn.models.segment_tables import countdown


class HiddenSemiMarkovModel(HiddenMarkovModel):
    r"""A hidden Markov model in which each state has an explicit duration distribution.

    .. math:: p(x, z, d) = p(z_1) \prod_{s \ge 2} p(z_s \mid z_{s-1}) \prod_s p(d_s \mid z_s)
        \prod_t p(x_t \mid z(t))

    A sequence consists of segments ``s``; the last one may extend beyond its end. In an ordinary
    hidden Markov model durations are geometric, with a mode of one step.

    Args:
        states: Number or labels of the hidden states.
        emissions: See :class:`HiddenMarkovModel`.
        durations: Longest duration ``D`` (a learnable table), a table ``(K, D)`` of probabilities
            of lasting 1, ..., D steps, or a conditional of ``Variable("duration", D)`` given the
            state.
        initial: ``(K,)`` probabilities of the first state; learnable if not given.
        transitions: ``(K, K)`` probabilities of the next segment's state; learnable if not given,
            without self-transitions.
        mask: See :class:`HiddenMarkovModel`.
        shapes: See :class:`HiddenMarkovModel`.
        name: Name of the state.
        normalise: See :class:`HiddenMarkovModel`.

    ``most_probable`` and ``decode`` return the states of the best segmentation, in which the last
    segment has its full duration.

    Raises:
        ModelError: If a table has a wrong shape, or transitions depend on inputs.

    References:
        Yu (2010), Hidden semi-Markov models, Artificial Intelligence 174(2).

    Example:
        >>> signal = HiddenSemiMarkovModel(
        ...     ["red", "green"],
        ...     {"observed": [[0.9, 0.1], [0.1, 0.9]]},
        ...     durations=[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]],  # three steps red, two green
        ...     initial=[1.0, 0.0],
        ... )
        >>> signal.decode({"observed": [0, 0, 1, 1, 1, 0]})["state"].tolist()
        ['red', 'red', 'red', 'green', 'green', 'red']
    """

    is_stepwise = False

    def __init__(
        self,
        states: int | Iterable[Hashable],
        emissions: Mapping[Hashable, Any],
        durations: Any,
        initial: Any = None,
        transitions: Any = None,
        *,
        mask: Any = None,
        shapes: Mapping[Hashable, tuple[int, ...]] | None = None,
        name: Hashable = "state",
        normalise: bool = False,
    ) -> None:
        labels = states if isinstance(states, int) else tuple(states)
        state = Variable(name, labels)
        if transitions is None and mask is None and state.num_states > 1:
            mask = 1 - torch.eye(state.num_states)
        rest: dict[str, Any] = {"shapes": shapes, "name": name, "normalise": normalise}
        super().__init__(labels, emissions, initial, transitions, mask=mask, **rest)
        if self.transitions.inputs or self.initial[name].inputs:
            raise ModelError("the segments of a semi-Markov model cannot depend on inputs")
        self._durations = _durations(state, durations, normalise)

    def settings(self) -> Settings:
        """Return the states and the conditionals, including that of the duration."""
        return super().settings() | {"durations": self._durations}

    @property
    def durations(self) -> Conditional:
        """The duration of a segment given its state; its states are 1, ..., D steps."""
        return self._durations

    def stationary(self) -> Categorical:
        """Return the long-run fraction of steps in each state, see the base class.

        Segments are weighted by their mean durations.
        """
        with torch.no_grad():
            lasts = self._durations.factor().log_values.double().exp()
            steps = lasts @ torch.arange(1.0, lasts.shape[-1] + 1, dtype=torch.float64)
        return Categorical(probs=super().stationary().probs * steps)

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters."""
        return super().num_free_parameters + self._durations.num_free_parameters

    def unroll(self, steps: int) -> BayesianNetwork:
        """Return the Bayesian network of some steps, with a node ``(name, t)`` for each cell.

        The remaining steps of the segment are additional variables ``("left", t)``. Emissions are
        shared; the tables of states and durations are constants.
        """
        steps = check_steps(self, steps)
        first, moves = self.initial[self._name].factor().log_values, self.transitions.factor()
        graph = nx.DiGraph()
        cells: dict[Hashable, Conditional] = {}
        lasts = self._durations.factor().log_values.detach().exp()
        go, count = countdown(moves.log_values.detach().exp(), lasts)
        for t in range(steps):
            state = Variable((self._name, t), self.state.states)
            left = Variable(("left", t), lasts.shape[1])
            if not t:
                cells[state.name] = Tabular(state, [], first.detach().exp())
                cells[left.name] = Tabular(left, [state], lasts)
            else:
                before = cells[self._name, t - 1].child, cells["left", t - 1].child
                cells[state.name] = Tabular(state, before, go)
                cells[left.name] = Tabular(left, [state, before[1]], count)
            for emission, conditional in self.emissions.items():
                piece = conditional if t else self.first(emission)
                cells[emission, t] = conditional_at(piece, t)
        for name, conditional in cells.items():
            graph.add_node(name)
            graph.add_edges_from((v.name, name) for v in conditional.parents)
        return BayesianNetwork(graph, cells)

    def __repr__(self) -> str:
        longest = self._durations.child.num_states
        return super().__repr__().replace("HiddenMarkovModel(", "HiddenSemiMarkovModel(")[:-1] + (
            f", up to {longest} steps each)"
        )


def _durations(state: Variable, declared: Any, normalise: bool) -> Conditional:
    """Return the conditional of the duration given the state."""
    if isinstance(declared, Conditional):
        parents = [v.name for v in declared.parents]
        if parents != [state.name] or declared.inputs or not declared.child.is_discrete:
            raise ModelError(
                f"durations must be a conditional of a discrete variable given {state.name!r} alone"
            )
        return declared
    if isinstance(declared, int):
        if declared < 1:
            raise ModelError(f"the longest duration must be at least 1, got {declared}")
        return Tabular(Variable("duration", range(1, declared + 1)), [state])
    longest = torch.as_tensor(declared).shape[-1]
    duration = Variable("duration", range(1, longest + 1))
    return Tabular(duration, [state], declared, normalise=normalise)
