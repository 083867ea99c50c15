"""Runs propagation by compiled kernels or in torch, and returns the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.inference.numba_support import has_numba
from pgnn.inference.propagation.cpu_propagation import Control, CpuPropagation, arc_consistent
from pgnn.inference.propagation.implicit_differentiation import (
    differentiable_beliefs,
    differentiable_log_partition,
    observed_field,
)
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from pgnn.inference.question import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Messages:
    """Messages that can initialise another run.

    Attributes:
        values: ``(B, M)`` probabilities, or log probabilities.
        logarithms: Whether the values are log probabilities.
    """

    values: Floats
    logarithms: bool

    @property
    def log(self) -> Floats:
        """``(B, M)`` logarithms."""
        if self.logarithms:
            return self.values
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.values))

    def for_rows(self, rows: slice, num_rows: int, width: int) -> Floats:
        """Return the initial log messages of some rows, ``(b, M)`` or ``(1, M)``.

        Raises:
            ModelError: If they belong to another graph, or another number of rows.
        """
        num_given, num_messages = self.values.shape
        if num_messages != width or num_given not in (1, num_rows):
            raise ModelError(
                f"start must be an answer about the same model and one row or {num_rows}; it has "
                f"{num_given} rows of {num_messages} numbers, {width} are needed"
            )
        return Messages(self.values[rows] if num_given > 1 else self.values, self.logarithms).log


@dataclass(frozen=True, eq=False)
class Outcome:
    r"""Beliefs and log values of some rows.

    Attributes:
        beliefs: ``(B, S)`` probabilities; at temperature zero max-marginals that sum to one.
        log_value: ``(B,)`` the estimate of :math:`\log \sum_x \tilde p(x)^{1/T}` (of the maximum
            at temperature zero), or the upper bound; ``-inf`` in impossible rows.
        converged: ``(B,)`` whether a row has converged.
        iterations: ``(B,)`` number of iterations.
        residual: ``(B,)`` largest change of a message in the last iteration.
        damping: ``(B,)`` final weight of the old messages.
        messages: The last messages.
    """

    beliefs: Floats
    log_value: Floats
    converged: Mask
    iterations: Ints
    residual: Floats
    damping: Floats
    messages: Messages

    @classmethod
    def join(cls, parts: Sequence[Outcome]) -> Outcome:
        """Concatenate outcomes of consecutive rows."""
        if len(parts) == 1:
            return parts[0]
        names = ("beliefs", "log_value", "converged", "iterations", "residual", "damping")
        joined: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
        values = np.concatenate([p.messages.values for p in parts])
        return cls(**joined, messages=Messages(values, parts[0].messages.logarithms))

    def replaced(self, rows: Ints, other: Outcome) -> Outcome:
        """Return the outcome with some rows replaced; all messages become log messages."""
        for name in ("beliefs", "log_value", "converged", "iterations", "residual", "damping"):
            getattr(self, name)[rows] = getattr(other, name)
        log = self.messages.log
        log[rows] = other.messages.log
        return replace(self, messages=Messages(log, True))


def outcome_of(propagation: CpuPropagation) -> Outcome:
    """Return the outcome for the current messages."""
    plan, row_progress = propagation.plan, propagation.row_progress
    elements_part, value = propagation.bethe()
    if plan.forests is not None:
        value = propagation.upper_bound(elements_part)
    value[row_progress.state == CpuPropagation.IMPOSSIBLE] = -np.inf
    return Outcome(
        beliefs=_probabilities(plan, propagation.numbers.belief, value),
        log_value=value,
        converged=row_progress.state != CpuPropagation.ACTIVE,
        iterations=row_progress.iterations,
        residual=row_progress.residual,
        damping=row_progress.damping,
        messages=Messages(propagation.numbers.message, plan.max_product),
    )


def propagate_in_torch(
    plan: PropagationPlan,
    rows: Ints,
    log_field: torch.Tensor,
    control: Control,
    log_messages: Floats | None = None,
) -> Outcome:
    """Run a flooding schedule in log space by torch, on the device of the field.

    With forests the value is an upper bound for rows that have converged, and infinity for others.

    Args:
        plan: Plan of the graph.
        rows: Indices of the rows of the plan's tables.
        log_field: ``(b, S)`` fields of these rows.
        control: Settings; the damping is constant, and at least a third if it is adaptive. Without
            loops the number of steps is the depth of the graph.
        log_messages: ``(b, M)`` initial messages.
    """
    device = log_field.device
    weights = None if plan.forests is None else torch.from_numpy(plan.forests.weights).to(device)
    graph = plan.graph.at_rows(rows)
    propagation = TorchPropagation(graph, log_field, temperature=plan.temperature, weights=weights)
    damping = max(control.damping, 1 / 3) if control.adaptive else control.damping
    limit, tolerance = control.max_iterations, control.tolerance
    if plan.acyclic:
        limit, tolerance, damping = 2 * plan.depth + 1, -1.0, 0.0
    start = None if log_messages is None else torch.from_numpy(log_messages).to(log_field)
    if start is not None:
        start = start.expand(len(log_field), -1)
    result = propagation.run(
        limit,
        tolerance,
        damping,
        messages=start,
        progress=control.progress,
    )
    value = propagation.bethe(result.messages).double().numpy(force=True)
    converged = result.converged.numpy(force=True)
    if weights is not None:
        value = np.where(converged | np.isneginf(value), value, np.inf)
    log_beliefs = propagation.beliefs(result.messages).double().numpy(force=True)
    beliefs = log_beliefs if plan.max_product else np.exp(log_beliefs)
    return Outcome(
        beliefs=_probabilities(plan, beliefs, value),
        log_value=np.array(value),
        converged=np.array(converged) | plan.acyclic,
        iterations=np.array(result.iterations.numpy(force=True)),
        residual=result.residual.double().numpy(force=True).copy(),
        damping=np.full(len(value), damping),
        messages=Messages(result.messages.double().numpy(force=True).copy(), True),
    )


def _probabilities(plan: PropagationPlan, beliefs: Floats, value: Floats) -> Floats:
    """Return normalised beliefs, ``NaN`` in impossible rows."""
    if plan.max_product and beliefs.size:
        beliefs = np.exp(beliefs)
        offset = plan.graph.elements.offset
        total = np.add.reduceat(beliefs, offset[:-1], axis=1)
        total[total == 0] = 1.0
        beliefs /= np.repeat(total, np.diff(offset), axis=1)
    if np.isneginf(value).any():
        beliefs[np.isneginf(value)] = np.nan
    return beliefs


ROOM = 2**28
"""Largest number of bytes of messages and beliefs of a batch of rows, and of cached messages."""


@dataclass(frozen=True, eq=False)
class Propagator:
    """Propagation for all rows of a query.

    Args:
        question: The query.
        plan: Plan of the query's graph.
        control: Settings of the updates.
        start: Initial messages; uniform ones if not given.
    """

    question: Question
    plan: PropagationPlan
    control: Control
    start: Messages | None = None

    def run(self) -> tuple[Outcome, list[float] | None]:
        """Return the outcome, and the history of residuals if all rows fit in one batch."""
        log_field, width = self.question.log_field(), int(self.plan.graph.wiring.message[-1])
        step = max(1, ROOM // (8 * (width + 3 * log_field.shape[1] + 1)))
        outcomes, histories = [], []
        for first in range(0, max(len(log_field), 1), step):
            rows = slice(first, first + step)
            start = None
            if self.start is not None:
                start = self.start.for_rows(rows, self.question.num_rows, width)
            if not self._runs_on_cpu:
                outcome = self._run_in_torch(rows, log_field[rows], start)
            else:
                outcome, history = self._run_on_cpu(rows, log_field[rows], start)
                histories.append(history)
            outcomes.append(self._checked_for_rounding(outcome, rows, log_field[rows]))
        return Outcome.join(outcomes), histories[0] if len(histories) == 1 else None

    def decode(self, outcome: Outcome, order: Ints | None = None) -> Ints:
        """Return ``(B, E)`` states decoded sequentially, each given those before.

        Without numba, the state of largest belief of each element.

        Args:
            outcome: The outcome, whose messages are decoded.
            order: ``(E,)`` elements; a traversal of the graph if not given.
        """
        if not has_numba():
            return best_states(self.question, outcome.beliefs)
        log_field, messages = self.question.log_field(), outcome.messages
        step = max(1, ROOM // (8 * (messages.values.shape[1] + log_field.shape[1] + 1)))
        parts = [np.zeros((0, len(self.plan.order)), dtype=np.int64)]
        for first in range(0, len(log_field), step):
            rows = slice(first, first + step)
            propagation = CpuPropagation(self.plan, log_field[rows], rows)
            propagation.set_messages(Messages(messages.values[rows], messages.logarithms).log)
            parts.append(propagation.decode(order))
        return np.concatenate(parts)

    def derive(self, outcome: Outcome) -> tuple[Tensor, Tensor]:
        """Return differentiable beliefs ``(B, S)`` and log values ``(B,)``, in float64."""
        forests = self.plan.forests
        field = observed_field(self.question).double()
        weights = None if forests is None else torch.from_numpy(forests.weights).to(field)
        propagation = TorchPropagation(
            self.plan.graph, field, temperature=self.plan.temperature, weights=weights
        )
        messages = torch.from_numpy(outcome.messages.log).to(field)
        impossible = torch.from_numpy(~np.isfinite(outcome.log_value)).to(field.device)
        log_z = differentiable_log_partition(propagation, messages).masked_fill(impossible, 0.0)
        beliefs = differentiable_beliefs(propagation, messages)
        beliefs = beliefs.masked_fill(impossible[:, None], 0.0)
        values = (
            torch.from_numpy(outcome.beliefs).to(field),
            torch.from_numpy(outcome.log_value).to(field),
        )
        return values[0] + (beliefs - beliefs.detach()), values[1] + (log_z - log_z.detach())

    @property
    def _runs_on_cpu(self) -> bool:
        on_cpu = self.plan.graph.device.type == "cpu" and has_numba()
        return on_cpu and CpuPropagation.fits_doubles(self.plan)

    def _run_on_cpu(
        self, rows: slice, log_field: Floats, start: Floats | None
    ) -> tuple[Outcome, list[float]]:
        propagation = CpuPropagation(self.plan, log_field, rows, start)
        if self.plan.acyclic:
            propagation.solve()
        else:
            propagation.run(self.control)
        outcome = outcome_of(propagation)
        underflown = np.flatnonzero(np.isneginf(outcome.log_value))
        if not self.plan.max_product and len(underflown):
            consistent = arc_consistent(self.plan, log_field[underflown], rows.start + underflown)
            underflown = underflown[consistent]
        if not self.plan.max_product and len(underflown):
            field = torch.from_numpy(log_field[underflown])
            again = propagate_in_torch(self.plan, rows.start + underflown, field, self.control)
            if self.plan.forests is None:  # diverged messages do not prove impossibility
                again.log_value[~again.converged & ~np.isneginf(again.log_value)] = np.nan
            outcome = outcome.replaced(underflown, again)
        return outcome, propagation.history

    def _checked_for_rounding(self, outcome: Outcome, rows: slice, log_field: Floats) -> Outcome:
        """Mark rows of value ``-inf`` as not converged unless zeros prove them impossible."""
        doubtful = np.flatnonzero(np.isneginf(outcome.log_value))
        if len(doubtful) and has_numba():
            consistent = arc_consistent(self.plan, log_field[doubtful], rows.start + doubtful)
            doubtful = doubtful[consistent]
            outcome.log_value[doubtful] = np.nan if self.plan.forests is None else np.inf
            outcome.converged[doubtful] = False
        return outcome

    def _run_in_torch(self, rows: slice, log_field: Floats, start: Floats | None) -> Outcome:
        graph = self.plan.graph
        field = torch.from_numpy(log_field).to(graph.device, graph.dtype)
        indices = np.arange(rows.start, rows.start + len(log_field))
        return propagate_in_torch(self.plan, indices, field, self.control, start)


def best_states(question: Question, beliefs: Floats) -> Ints:
    """Return ``(B, E)`` the (first) state of largest belief of each element."""
    offset = question.graph.elements.offset
    finite = np.nan_to_num(beliefs)
    states = np.zeros((len(beliefs), len(offset) - 1), dtype=np.int64)
    for e in range(len(offset) - 1):
        states[:, e] = finite[:, offset[e] : offset[e + 1]].argmax(axis=1)
    return states
