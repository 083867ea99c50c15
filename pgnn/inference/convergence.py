"""Convergence checks and warnings of iterative methods."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

from pgnn.errors import AdvisedWarning, NotConverged

LEAST_EFFECTIVE = 2.0
"""Smallest meaningful effective sample size: below, a single draw has all the weight."""
TRUSTED_DRAWS = 100.0
"""Effective sample size below which even standard errors are unreliable."""
LARGEST_R_HAT = 1.05
"""Largest R-hat of converged chains (Vehtari et al. 2021 use 1.01 for many draws)."""
_LIBRARY = str(Path(__file__).parents[1]) + os.sep
_ROUNDING = 1.0 + 1e-9  # the effective sample size of equal weights is their number


@dataclass
class Convergence:
    """Concerns about the result of an iterative method; it has converged if there are none.

    All learners and engines use these checks: there is a warning for each result that made no
    progress, reached the limit of iterations, or has a small effective sample size.

    Args:
        method: Name of the method, the first word of each message.

    Attributes:
        concerns: The concerns, one sentence each.
        advice: What to do about them.

    Example:
        >>> fit = Convergence("Gradient").stopped(500, "raise max_iterations")
        >>> fit.converged, fit.concerns, fit.advice
        (False, ['stopped after 500 iterations, before it converged'], ['raise max_iterations'])
    """

    method: str
    concerns: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        """Whether there are no concerns."""
        return not self.concerns

    def add(self, concern: str, advice: str = "") -> Self:
        """Add a concern, and what to do about it.

        Args:
            concern: A sentence.
            advice: Another one; may be empty.
        """
        self.concerns.append(concern)
        if advice and advice not in self.advice:
            self.advice.append(advice)
        return self

    def include(self, doubt: AdvisedWarning | None) -> Self:
        """Add the concern that a warning tells, unless it is None."""
        return self if doubt is None else self.add(doubt.reason, doubt.advice)

    def rows_not_converged(self, converged: Any, advice: str) -> Self:
        """Add a concern if some rows of a batch did not converge.

        Args:
            converged: ``(B,)`` booleans.
            advice: What to do; may be empty.
        """
        rows = np.asarray(converged, dtype=np.bool_).reshape(-1)
        if rows.all():
            return self
        return self.add(f"{int((~rows).sum())} of {len(rows)} rows did not converge", advice)

    def stopped(self, iterations: int, advice: str, what: str = "before it converged") -> Self:
        """Add the concern that the limit of iterations was reached."""
        return self.add(f"stopped after {iterations} iterations, {what}", advice)

    def no_progress(self, gradient: float, advice: str, what: str = "the parameters") -> Self:
        """Add the concern that no step was an improvement although the gradient is not zero.

        Args:
            gradient: The largest absolute entry of the gradient.
            advice: What to do.
            what: The quantities that were optimised.
        """
        return self.add(
            f"no step improves {what}, although the largest partial derivative is {gradient:.2g}",
            advice,
        )

    def few_draws(
        self, sizes: Any, total: int, advice: str, least: float = LEAST_EFFECTIVE
    ) -> Self:
        """Add a concern if the effective sample size of weighted draws is small.

        Args:
            sizes: Effective sample size of each row; zero where all weights are zero, which is
                reported elsewhere.
            total: Number of draws.
            advice: What to do.
            least: Smallest acceptable size, at most ``total``.
        """
        each = np.asarray(sizes, dtype=np.float64).reshape(-1)
        each = each[~(each <= 0.0)]
        few = each * _ROUNDING < min(least, total)
        if not few.any():
            return self
        where = "" if len(each) == 1 else f" in {int(few.sum())} of {len(each)} rows"
        worst = float(np.nanmin(each))
        return self.add(
            f"{total} draws are equivalent to {worst:.3g} independent ones{where}, too few for "
            "a reliable estimate",
            advice,
        )

    def chains_apart(
        self,
        r_hats: Mapping[Hashable, float],
        advice: str,
        largest: float = LARGEST_R_HAT,
        chains: int | None = None,
    ) -> Self:
        r"""Add a concern if chains disagree about some quantities.

        Args:
            r_hats: :math:`\\hat R` by name.
            advice: What to do.
            largest: Largest value at which chains count as agreeing.
            chains: Number of chains, if known; a single one is compared by its halves.
        """
        apart = {n: x for n, x in r_hats.items() if not x <= largest}
        if not apart:
            return self
        worst = ", ".join(f"{n!r} ({x:.2f})" for n, x in apart.items())
        which = "halves of the chain" if chains == 1 else "chains"
        return self.add(f"the {which} disagree about {worst}, R-hat above {largest}", advice)

    def warn(self) -> None:
        """Issue a warning for the concerns, attributed to the line that called the library.

        Warns:
            NotConverged: If there are any.
        """
        if self.concerns:
            reason = f"{self.method}: " + "; ".join(self.concerns)
            warn_caller(NotConverged(reason, "; ".join(self.advice), self.method))


def warn_caller(warning: AdvisedWarning) -> None:
    """Issue a warning, attributed to the line that called the library."""
    warnings.warn(warning, stacklevel=_depth_of_verb() + 1)


def _depth_of_verb() -> int:
    """Return the stack level of the caller outside the library."""
    frame: FrameType | None = sys._getframe(1)
    depth = outermost = 1
    while frame is not None:
        if frame.f_code.co_filename.startswith(_LIBRARY):
            outermost = depth
        frame, depth = frame.f_back, depth + 1
    return outermost


@dataclass(frozen=True)
class Trend:
    """The change of a noisy value between its means over two consecutive windows.

    Attributes:
        change: The later mean minus the earlier one.
        error: Standard error of the change.
        gain: The later mean minus that of the first window.

    Example:
        >>> trend = Trend.of([0.0] * 50 + [2.0] * 50, 50)
        >>> trend.change, trend.error, trend.gain
        (2.0, 0.0, 2.0)
    """

    change: float
    error: float
    gain: float

    @classmethod
    def of(cls, values: Sequence[float], window: int) -> Trend:
        """Compare the last two windows of a trace.

        Args:
            values: The trace, of at least two windows.
            window: Number of values in a window.
        """
        both = np.array(values[-2 * window :], dtype=np.float64).reshape(2, window)
        before, last = both.mean(axis=1)
        error = np.sqrt(both.var(axis=1).sum() / window)
        first = float(np.mean(values[: max(1, window // 10)]))
        return cls(float(last - before), float(error), float(last - first))

    def at_rest(self, tolerance: float, noise: float) -> bool:
        """Whether the value has converged: its change is within the noise, which is small.

        Args:
            tolerance: Changes up to this are ignored.
            noise: Largest standard error at which the value counts as converged.
        """
        flat = abs(self.change) <= tolerance + self.error
        return flat and self.error <= max(tolerance, noise)

    def rises(self, tolerance: float) -> bool:
        """Whether the value changes by more than the noise."""
        return abs(self.change) > tolerance + 2.0 * self.error
