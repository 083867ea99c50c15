"""Restarts of expectation maximisation, run in parallel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError, PgnnError
from pgnn.inference.convergence import Trend
from pgnn.inference.learning.chain_e_step import expect_side_by_side
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.extrapolation import Extrapolation, Squarem
from pgnn.inference.loop import Info
from pgnn.inference.threads import Stop, interruptible

_WINDOW = 10
"""Number of noisy values in each of two windows that are compared."""
_ROUNDING = 1e-13
"""Largest relative gain that is treated as zero."""
_FALL = 1e-8
"""Relative decrease of the value that may be a rounding error."""


class EMSettings(Protocol):
    """The settings of :class:`EM` that a start uses."""

    @property
    def batch_size(self) -> int | None:
        """Rows per step of streaming EM."""

    @property
    def decay(self) -> float:
        """Exponent of the step sizes of streaming EM."""

    @property
    def hard(self) -> bool:
        """Whether hidden states are replaced by the most probable ones."""

    @property
    def accelerate(self) -> bool | type[Extrapolation]:
        """Whether and how steps are extrapolated."""

    @property
    def tolerance(self) -> float:
        """Relative gain at which to stop."""


class Start:
    """One start: a copy of the model that is improved by passes over the data.

    Args:
        e_step: E-step of the model, whose parameters are changed.
        observed: Rows or sequences.
        priors: Priors of the conditionals, by name.
        settings: Settings of the steps.
        seed: Random seed of the start and of the order of batches.

    Attributes:
        trace: ``log_likelihood`` and ``objective`` of each pass.
        done: Whether further passes are unnecessary.
        converged: Whether the value converged.
        fell: The values before and after a decrease, if any.
        stuck: Names of conditionals whose last M-step made no progress although the gradient is not
            zero.
        unit: Mean weight of the rows, at most one, with which changes are compared that are small
            relative to one row.
    """

    def __init__(
        self,
        e_step: EStep[Any],
        observed: Any,
        priors: Mapping[Hashable, Any],
        settings: EMSettings,
        seed: int,
    ) -> None:
        self.e_step, self.observed, self.priors = e_step, observed, priors
        self.settings, self._seed = settings, seed
        self.trace: dict[str, list[float]] = {"log_likelihood": [], "objective": []}
        self.done = self.converged = False
        self.fell: tuple[float, float] | None = None
        self.stuck: list[Hashable] = []
        self.unit = 1.0
        self._value, self._steps = -math.inf, 0
        self._sums: ExpectedStatistics | None = None
        self._rng = np.random.default_rng(seed)
        self._gain = math.inf
        self._extrapolation: Extrapolation | None = None
        self._before: list[Tensor] | None = None
        self._earlier: list[Tensor] | None = None

    @property
    def streams(self) -> bool:
        """Whether it is streaming EM."""
        return self.settings.batch_size is not None

    def initialize(self, at_random: bool) -> None:
        """Initialise by clusters of the observations; randomised for restarts."""
        self.e_step.initialize(self.observed, self._seed, at_random)

    def accelerate(self) -> None:
        """Enable extrapolation, if the state consists of parameters only."""
        e_step = self.e_step
        plain = self.streams or e_step.learns_other_parameters or e_step.noisy
        if not plain and self._extrapolation is None:
            kind = self.settings.accelerate
            chosen = Squarem if isinstance(kind, bool) else kind
            parameters = [*self.e_step.parameters]
            self._extrapolation = chosen(parameters, map(self.e_step.unit_of, parameters))

    def settle(self) -> None:
        """Undo the last extrapolation if its value is still unknown."""
        own = self._extrapolation
        if own is None or not (own.pending or own.unproven):
            return
        if own.unproven:
            self._forget_last()
        own.reject()

    def finish(self) -> ExpectedStatistics:
        """Undo a last step that decreased the value; return the expectations in the end."""
        last = self.e_step.expect(self.observed)
        if self.done or self._before is None or self.settings.hard:
            return last
        value = last.log_likelihood + self._log_prior()
        if not self._falls(value):
            return last
        self._undo(self._value, value)
        return self.e_step.expect(self.observed)

    def value(self) -> float:
        """Return the log-likelihood plus the log prior at the current parameters."""
        return self.e_step.total(self.observed) + self._log_prior()

    def snapshot(self) -> dict[str, Any]:
        """Return the state that further passes depend on, in a form for files."""
        sums, own = self._sums, self._extrapolation
        return {
            "model": {n: x.clone() for n, x in self.e_step.model.state_dict().items()},
            "e_step": self.e_step.snapshot(),
            "trace": {n: [*x] for n, x in self.trace.items()},
            "flags": (self.done, self.converged, self.fell, [*self.stuck]),
            "value": (self._value, self._gain, self._steps),
            "random": self._rng.bit_generator.state,
            "extrapolation": None if own is None else own.snapshot(),
            "before": (self._before, self._earlier),
            "sums": None
            if sums is None
            else (sums.log_likelihood, sums.weight, dict(sums.sums), sums.occupancy),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`snapshot`."""
        self.e_step.model.load_state_dict(state["model"])
        self.e_step.restore(state["e_step"])
        self.trace = state["trace"]
        self.done, self.converged, self.fell, self.stuck = state["flags"]
        self._value, self._gain, self._steps = state["value"]
        self._rng.bit_generator.state = state["random"]
        if state["extrapolation"] is not None:
            self.accelerate()
            if self._extrapolation is not None:
                self._extrapolation.restore(state["extrapolation"])
        self._before, self._earlier = state["before"]
        if state["sums"] is not None:
            total, weight, sums, occupancy = state["sums"]
            self._sums = ExpectedStatistics(total, weight, sums, {}, occupancy)

    def advance(self, expected: ExpectedStatistics | None = None) -> None:
        """One pass: an E-step, a check of the value, and an M-step.

        Args:
            expected: Result of the E-step, if already known.

        Raises:
            DataError: If a row is impossible, or the value is NaN.
        """
        if self.streams:
            self._stream()
            return
        expected, value = self._valued(expected)
        self._weigh(expected.weight)
        if not self.e_step.noisy and self._falls(value):
            self._undo(self._value, value)
            return
        before = self._note(expected.log_likelihood, value)
        scale = max(abs(self.e_step.unit_free(value)), self.unit)
        gain, self._gain = self._gain, value - before
        if self.e_step.noisy:
            self.done = self.converged = self._at_rest()
            self._step(expected)
        elif self._to_come(gain, self._gain) <= self.settings.tolerance * scale:
            self.done, self.converged = True, not self.stuck
        else:
            self._step(expected)

    def _valued(self, expected: ExpectedStatistics | None) -> tuple[ExpectedStatistics, float]:
        """Return expectations and value; an extrapolation is undone if the value decreased."""
        extrapolation = self._extrapolation
        if extrapolation is not None and extrapolation.pending:
            try:
                moved = self._expect()
                value = moved.log_likelihood + self._log_prior()
            except (PgnnError, ValueError):  # invalid parameters of a distribution
                value = -math.inf
            if value >= self._value:
                extrapolation.accept()
                return moved, value
            extrapolation.reject()
            expected = None
        if expected is None:
            expected = self._expect()
        value = expected.log_likelihood + self._log_prior()
        if extrapolation is not None and extrapolation.unproven:
            if value < self._value - _ROUNDING * abs(self._value):
                self._forget_last()
                extrapolation.reject()
                return self._valued(None)
            extrapolation.prove()
        return expected, value

    def _expect(self) -> ExpectedStatistics:
        """Return the E-step, on completed rows for hard EM."""
        hard = self.settings.hard
        return self.e_step.expect(self.e_step.completed(self.observed) if hard else self.observed)

    def _forget_last(self) -> None:
        """Remove the last value from the record, with the step that was taken from there."""
        for figure in self.trace.values():
            figure.pop()
        self._value, self._before = self.trace["objective"][-1], self._earlier

    def _weigh(self, total: float) -> None:
        """Set the mean weight of the rows, given their total."""
        self.unit = min(1.0, total / self.e_step.of_all(self.observed.num_rows))

    def _falls(self, value: float) -> bool:
        """Whether a value is below the last one by more than rounding."""
        return value < self._value - _FALL * max(abs(value), self.unit)

    def _undo(self, before: float, value: float) -> None:
        """Stop at the parameters before the last step, which decreased the value."""
        self.done, self.fell = True, (before, value)
        if self._before is not None:
            with torch.no_grad():
                for p, x in zip(self._learnable(), self._before, strict=True):
                    p.copy_(x)

    def _learnable(self) -> list[Tensor]:
        """Return the parameters that steps change."""
        return [p for p in self.e_step.model.parameters() if p.requires_grad]

    def _step(self, expected: ExpectedStatistics) -> None:
        """Run an M-step, and an extrapolation if one is due."""
        if not self.e_step.noisy:
            self._earlier = None if self._extrapolation is None else self._before
            self._before = [p.detach().clone() for p in self._learnable()]
        if self._extrapolation is not None:
            self._extrapolation.before_step()
        self.stuck = self.e_step.improve(expected, self.priors)
        if self._extrapolation is not None:
            self._extrapolation.after_step()

    def _at_rest(self) -> bool:
        """Whether a noisy value has converged."""
        values = self.trace["objective"]
        if len(values) < 2 * _WINDOW:
            return False
        tolerance = self.settings.tolerance * max(abs(self._value), self.unit)
        return Trend.of(values, _WINDOW).at_rest(tolerance, math.inf)

    def _to_come(self, before: float, gain: float) -> float:
        """Return the gain plus the extrapolated sum of further gains (Aitken)."""
        if gain <= _ROUNDING * abs(self._value):
            return 0.0
        own = self._extrapolation
        if own is not None and own.length > 1.0:
            return max(gain, before) * own.length  # gains of a step, and of an extrapolation
        return gain / (1.0 - gain / before) if gain < before else math.inf

    def _stream(self) -> None:
        """One pass of streaming EM over batches in random order."""
        observed, size = self.observed, self.settings.batch_size or 1
        order = self._rng.permutation(observed.num_rows)
        total_weight = float(observed.row_weights.sum())
        for first in range(0, len(order), size):
            part = observed.take(order[first : first + size])
            if part.is_empty or not float(part.row_weights.sum()):
                continue
            expected = self.e_step.expect(part)
            share = (self._steps + 2.0) ** -self.settings.decay if self._sums else 1.0
            scale = total_weight / expected.weight
            self._sums = (self._sums or expected).mixed(expected, share, scale)
            self._steps += 1
            self.stuck = self.e_step.improve(self._sums, self.priors)
        value = self.value()
        before = self._note(value - self._log_prior(), value)
        self._weigh(total_weight)
        near = abs(value - before) <= self.settings.tolerance * max(abs(value), self.unit)
        self.done, self.converged = near, near and not self.stuck

    def _note(self, log_likelihood: float, value: float) -> float:
        """Record a value; return the previous one."""
        if not math.isfinite(value):
            raise DataError(f"the log-likelihood became {value}", "use a prior or other starts")
        self.trace["log_likelihood"].append(log_likelihood)
        self.trace["objective"].append(value)
        before, self._value = self._value, value
        return before

    def _log_prior(self) -> float:
        return self.e_step.log_prior(self.priors)


class Restarts:
    """All starts as one iterative method: an iteration is one pass of each unfinished start.

    Chains of few short sequences are batched, others run in threads, with the same results.

    Args:
        starts: The starts, of one model and the same rows.
    """

    def __init__(self, starts: Sequence[Start]) -> None:
        self.starts = starts

    def init(self) -> None:
        """Return None: the starts hold the state."""

    def step(self, state: None) -> tuple[None, Info]:
        """Run one pass of every unfinished start."""
        active = [s for s in self.starts if not s.done]
        together = None
        if len(active) > 1 and not active[0].streams:
            together = expect_side_by_side([s.e_step for s in active], active[0].observed)
        if together is not None:
            for start, expected in zip(active, together, strict=True):
                start.advance(expected)
        else:
            self._on_threads(active)
        done = all(s.done for s in self.starts)
        best = max(self.starts, key=lambda s: s.trace["objective"][-1])
        return None, Info(done, {"log_likelihood": best.trace["log_likelihood"][-1]})

    def _on_threads(self, active: Sequence[Start]) -> None:
        # all processes must make calls in the same order
        shared = bool(active) and active[0].e_step.shared
        threads = 1 if shared else min(torch.get_num_threads(), len(active))
        if threads == 1:
            for start in active:
                start.advance()
            return

        def advance(start: Start, _: Stop) -> None:  # nested work checks the flag
            start.advance()

        interruptible([partial(advance, start) for start in active], threads)
