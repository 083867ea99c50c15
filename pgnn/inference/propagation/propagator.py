"""Runs propagation on whatever suits the rows: the processor's kernels, a device, log space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.inference.numba_support import has_numba
from pgnn.inference.propagation.arc_consistency import arc_consistent
from pgnn.inference.propagation.cpu_propagation import Control, CpuPropagation
from pgnn.inference.propagation.implicit import (
    differentiable_beliefs,
    differentiable_log_partition,
    observed_field,
)
from pgnn.inference.propagation.propagation_outcome import (
    Messages,
    Outcome,
    outcome_of,
    propagate_in_torch,
)
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from pgnn.inference.question import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROOM = 2**28
"""Bytes of messages and beliefs of the rows that are worked on at once, or kept."""


@dataclass(frozen=True, eq=False)
class Propagator:
    """Propagation on all rows of a question.

    Args:
        question: Graph and evidence.
        plan: Of its graph.
        control: How messages are renewed.
        start: Messages to begin with.
    """

    question: Question
    plan: PropagationPlan
    control: Control
    start: Messages | None = None

    def run(self) -> tuple[Outcome, list[float] | None]:
        """Return what came out, and the largest residuals if all rows fit in one piece."""
        log_field, width = self.question.log_field(), int(self.plan.graph.wiring.message[-1])
        step = max(1, ROOM // (8 * (width + 3 * log_field.shape[1] + 1)))
        parts, histories = [], []
        for first in range(0, max(len(log_field), 1), step):
            rows = slice(first, first + step)
            begin = None
            if self.start is not None:
                begin = self.start.for_rows(rows, self.question.num_rows, width)
            if not self._suits_the_processor:
                found = self._on_device(rows, log_field[rows], begin)
            else:
                found, history = self._on_processor(rows, log_field[rows], begin)
                histories.append(history)
            parts.append(self._certain(found, rows, log_field[rows]))
        return Outcome.join(parts), histories[0] if len(histories) == 1 else None

    def decode(self, found: Outcome, order: Ints | None = None) -> Ints:
        """Return ``(B, E)`` states chosen one after another, each given those before.

        Without numba each element's best on its own.

        Args:
            found: The messages.
            order: ``(E,)`` elements; a walk through the graph if not given.
        """
        if not has_numba():
            return best_states(self.question, found.beliefs)
        log_field, messages = self.question.log_field(), found.messages
        step = max(1, ROOM // (8 * (messages.values.shape[1] + log_field.shape[1] + 1)))
        parts = [np.zeros((0, len(self.plan.order)), dtype=np.int64)]
        for first in range(0, len(log_field), step):
            rows = slice(first, first + step)
            propagation = CpuPropagation(self.plan, log_field[rows], rows)
            propagation.put(Messages(messages.values[rows], messages.logarithms).log)
            parts.append(propagation.decode(order))
        return np.concatenate(parts)

    def derive(self, found: Outcome) -> tuple[Tensor, Tensor]:
        """Return beliefs ``(B, S)`` and log values ``(B,)`` that pass gradients on, in float64."""
        forests = self.plan.forests
        field = observed_field(self.question).double()
        weights = None if forests is None else torch.from_numpy(forests.weights).to(field)
        live = TorchPropagation(
            self.plan.graph, field, temperature=self.plan.temperature, weights=weights
        )
        messages = torch.from_numpy(found.messages.log).to(field)
        impossible = torch.from_numpy(~np.isfinite(found.log_value)).to(field.device)
        log_z = differentiable_log_partition(live, messages).masked_fill(impossible, 0.0)
        beliefs = differentiable_beliefs(live, messages).masked_fill(impossible[:, None], 0.0)
        own = torch.from_numpy(found.beliefs).to(field), torch.from_numpy(found.log_value).to(field)
        return own[0] + (beliefs - beliefs.detach()), own[1] + (log_z - log_z.detach())

    @property
    def _suits_the_processor(self) -> bool:
        on_processor = self.plan.graph.device.type == "cpu" and has_numba()
        return on_processor and CpuPropagation.suits(self.plan)

    def _on_processor(
        self, rows: slice, log_field: Floats, begin: Floats | None
    ) -> tuple[Outcome, list[float]]:
        propagation = CpuPropagation(self.plan, log_field, rows, begin)
        if self.plan.acyclic:
            propagation.solve()
        else:
            propagation.run(self.control)
        found = outcome_of(propagation)
        lost = np.flatnonzero(np.isneginf(found.log_value))
        if not self.plan.hard and len(lost):
            lost = lost[arc_consistent(self.plan, log_field[lost], rows.start + lost)]
        if not self.plan.hard and len(lost):
            field = torch.from_numpy(log_field[lost])
            again = propagate_in_torch(self.plan, rows.start + lost, field, self.control)
            if self.plan.forests is None:  # messages that run away tell nothing
                again.log_value[~again.converged & ~np.isneginf(again.log_value)] = np.nan
            found = found.replaced(lost, again)
        return found, propagation.history

    def _certain(self, found: Outcome, rows: slice, log_field: Floats) -> Outcome:
        """Let only those rows be impossible that zeros alone make so, whatever was rounded."""
        lost = np.flatnonzero(np.isneginf(found.log_value))
        if len(lost) and has_numba():
            lost = lost[arc_consistent(self.plan, log_field[lost], rows.start + lost)]
            found.log_value[lost] = np.nan if self.plan.forests is None else np.inf
            found.converged[lost] = False
        return found

    def _on_device(self, rows: slice, log_field: Floats, begin: Floats | None) -> Outcome:
        graph = self.plan.graph
        field = torch.from_numpy(log_field).to(graph.device, graph.dtype)
        which = np.arange(rows.start, rows.start + len(log_field))
        return propagate_in_torch(self.plan, which, field, self.control, begin)


def best_states(question: Question, beliefs: Floats) -> Ints:
    """``(B, E)`` the first best state of each element."""
    offset = question.graph.elements.offset
    known = np.nan_to_num(beliefs)
    states = np.zeros((len(beliefs), len(offset) - 1), dtype=np.int64)
    for e in range(len(offset) - 1):
        states[:, e] = known[:, offset[e] : offset[e + 1]].argmax(axis=1)
    return states
