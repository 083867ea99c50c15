"""What propagation has come to in some rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ModelError
from pgnn.inference.propagation.cpu_propagation import Control, CpuPropagation
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.torch_propagation import TorchPropagation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Messages:
    """Messages that another run may begin with.

    Attributes:
        values: ``(B, M)`` probabilities, or logarithms.
        logarithms: Which of the two.
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
        """``(b, M)`` or ``(1, M)`` logarithms to begin some rows with.

        Raises:
            ModelError: If they are of another graph, or of another number of rows.
        """
        given, own = self.values.shape
        if own != width or given not in (1, num_rows):
            raise ModelError(
                f"start must be an answer about the same model and one row or {num_rows}; it has "
                f"{given} rows of {own} numbers, {width} are needed"
            )
        return Messages(self.values[rows] if given > 1 else self.values, self.logarithms).log


@dataclass(frozen=True, eq=False)
class Outcome:
    r"""Beliefs and the value of some rows.

    Attributes:
        beliefs: ``(B, S)`` probabilities; at temperature zero max-marginals that sum to one.
        log_value: ``(B,)`` the estimate of :math:`\log \sum_x \tilde p(x)^{1/T}` (of the maximum
            at temperature zero), or the upper bound; ``-inf`` in impossible rows.
        converged: ``(B,)``.
        iterations: ``(B,)``.
        residual: ``(B,)`` largest change of a message in the last iteration.
        damping: ``(B,)`` share of the old messages in the end.
        messages: Where they came to rest.
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
        """Put pieces of the rows together."""
        if len(parts) == 1:
            return parts[0]
        names = ("beliefs", "log_value", "converged", "iterations", "residual", "damping")
        joined: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
        values = np.concatenate([p.messages.values for p in parts])
        return cls(**joined, messages=Messages(values, parts[0].messages.logarithms))

    def replaced(self, rows: Ints, other: Outcome) -> Outcome:
        """Return the outcome with that of some rows written over; all messages as logarithms."""
        for name in ("beliefs", "log_value", "converged", "iterations", "residual", "damping"):
            getattr(self, name)[rows] = getattr(other, name)
        log = self.messages.log
        log[rows] = other.messages.log
        return replace(self, messages=Messages(log, True))


def outcome_of(propagation: CpuPropagation) -> Outcome:
    """Read off what the messages of the processor say, as they are."""
    plan, course = propagation.plan, propagation.course
    own, value = propagation.bethe()
    if plan.forests is not None:
        value = propagation.upper_bound(own)
    value[course.state == CpuPropagation.IMPOSSIBLE] = -np.inf
    return Outcome(
        beliefs=_probabilities(plan, propagation.numbers.belief, value),
        log_value=value,
        converged=course.state != CpuPropagation.UNDER_WAY,
        iterations=course.iterations,
        residual=course.residual,
        damping=course.damping,
        messages=Messages(propagation.numbers.message, plan.hard),
    )


def propagate_in_torch(
    plan: PropagationPlan,
    rows: Ints,
    log_field: torch.Tensor,
    control: Control,
    log_messages: Floats | None = None,
) -> Outcome:
    """Flood in log space, on the device of the field, where nothing leaves the range of numbers.

    With forests the value is an upper bound where messages have come to rest; elsewhere it is
    infinite, which is one as well.

    Args:
        plan: Of the graph.
        rows: Which of the rows of its tables.
        log_field: ``(b, S)`` fields of these rows.
        control: Its damping is constant here, and at least a third if it may adapt. Where there
            are no loops only its ``progress`` counts: as many steps are taken as news need.
        log_messages: ``(b, M)`` where to begin.
    """
    device = log_field.device
    weights = None if plan.forests is None else torch.from_numpy(plan.forests.weights).to(device)
    graph = plan.graph.at_rows(rows)
    live = TorchPropagation(graph, log_field, temperature=plan.temperature, weights=weights)
    damping = max(control.damping, 1 / 3) if control.adaptive else control.damping
    limit, tolerance = control.max_iterations, control.tolerance
    if plan.acyclic:
        limit, tolerance, damping = 2 * plan.depth + 1, -1.0, 0.0
    begin = None if log_messages is None else torch.from_numpy(log_messages).to(log_field)
    if begin is not None:
        begin = begin.expand(len(log_field), -1)
    found = live.run(
        limit,
        tolerance,
        damping,
        messages=begin,
        progress=control.progress,
    )
    value = live.bethe(found.messages).double().numpy(force=True)
    converged = found.converged.numpy(force=True)
    if weights is not None:
        value = np.where(converged | np.isneginf(value), value, np.inf)
    log_beliefs = live.beliefs(found.messages).double().numpy(force=True)
    beliefs = log_beliefs if plan.hard else np.exp(log_beliefs)
    return Outcome(
        beliefs=_probabilities(plan, beliefs, value),
        log_value=np.array(value),
        converged=np.array(converged) | plan.acyclic,
        iterations=np.array(found.iterations.numpy(force=True)),
        residual=found.residual.double().numpy(force=True).copy(),
        damping=np.full(len(value), damping),
        messages=Messages(found.messages.double().numpy(force=True).copy(), True),
    )


def _probabilities(plan: PropagationPlan, beliefs: Floats, value: Floats) -> Floats:
    """Beliefs that sum to one, ``NaN`` in impossible rows."""
    if plan.hard and beliefs.size:
        beliefs = np.exp(beliefs)
        offset = plan.graph.elements.offset
        total = np.add.reduceat(beliefs, offset[:-1], axis=1)
        total[total == 0] = 1.0
        beliefs /= np.repeat(total, np.diff(offset), axis=1)
    if np.isneginf(value).any():
        beliefs[np.isneginf(value)] = np.nan
    return beliefs
