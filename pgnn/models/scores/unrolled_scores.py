"""The factors of a conditional random field over a given number of steps."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
import torch

from pgnn.errors import EvidenceError
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.time_steps import at_step
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.models.conditional_random_field import ConditionalRandomField


class UnrolledScores(Potential):
    """The potentials of a chain of labels: a table for each step and for each transition.

    Args:
        field: The conditional random field.
        steps: Number of labels ``(name, t)``.
    """

    def __init__(self, field: ConditionalRandomField, steps: int) -> None:
        self.steps = steps
        label = field.state
        labels = [Variable(at_step(label.name, t), label.states) for t in range(steps)]
        pairs = [(t, t + 1) for t in range(steps - 1)]
        inputs = [at_step(name, t) for name in field.input_names for t in range(steps)]
        super().__init__(labels, np.array(pairs, dtype=np.int64).reshape(-1, 2), inputs)
        self.field = field

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return the tables of the steps, which depend on inputs, and those of the transitions."""
        covariates = self._stacked(inputs or {})
        rows = len(next(iter(covariates.values())))
        lengths = torch.full((rows,), self.steps)
        scores = self.field.field(covariates, lengths, self.steps)
        scores = scores.reshape(rows, self.steps, self.field.state.num_states)
        if self.field.ends:
            begins = (torch.arange(self.steps, device=scores.device) == 0).unsqueeze(-1)
            scores = scores + begins * self.field.first.to(scores)
        steps = TableGroup(self.numbers(elements)[:, None], scores)
        moves = self.field.moves().to(scores)
        return steps, TableGroup(self.placed(elements), moves[None])

    def _stacked(self, inputs: Inputs) -> dict[Hashable, torch.Tensor]:
        """Stack the inputs ``(name, t)`` of the steps to ``(B, T, ...)``."""
        names = [n[0] for n in inputs if isinstance(n, tuple) and n[1:] == (0,)]
        if not names:
            raise EvidenceError("the field needs its inputs at each step, named (name, t)")
        return {
            n: torch.stack([torch.as_tensor(inputs[n, t]) for t in range(self.steps)], dim=1)
            for n in names
        }


class UnrolledRuns(Potential):
    """The potentials of several adjacent labels: a table for each position.

    Args:
        field: The conditional random field.
        steps: Number of labels ``(name, t)``.
        size: Number of adjacent labels.
    """

    def __init__(self, field: ConditionalRandomField, steps: int, size: int) -> None:
        label = field.state
        labels = [Variable(at_step(label.name, t), label.states) for t in range(steps)]
        super().__init__(labels, np.arange(steps - size + 1)[:, None] + np.arange(size))
        self.field, self.size = field, size

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one table, shared by all positions."""
        assert self.field.histories is not None
        table = self.field.histories.all_tables(self.field.moves())[self.size - 2]
        return (TableGroup(self.placed(elements), table[None]),)
