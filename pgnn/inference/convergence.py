"""Whether an iterative method converged, judged and reported in one place."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

from pgnn.errors import NotConverged

LEAST_EFFECTIVE = 2.0
"""Weighted draws that are worth fewer independent ones say nothing: one of them has all weight."""
TRUSTED_DRAWS = 100.0
"""Weighted draws that are worth fewer: not even their standard errors are to be trusted."""
LARGEST_R_HAT = 1.05
"""Chains of a larger R-hat do not agree (Vehtari et al. 2021 take 1.01 where draws are many)."""
_LIBRARY = str(Path(__file__).parents[1]) + os.sep
_NAMES = 5
_ROUNDING = 1.0 + 1e-9  # draws of equal weight are worth all of them


@dataclass
class Convergence:
    """Doubts about the result of an iterative method; it converged if there are none.

    Every learner and engine judges by these rules, so that no result leaves without a word that
    made no progress, stands at a saddle or at a bound, was stopped at its limit, or is made of
    draws that are worth one.

    Args:
        method: What messages begin with.

    Attributes:
        concerns: The doubts, a sentence each.

    Example:
        >>> fit = Convergence("Gradient").stopped(500, "raise max_iterations")
        >>> fit.converged, fit.concerns
        (False, ['stopped after 500 iterations, before it came to rest; raise max_iterations'])
    """

    method: str
    concerns: list[str] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        """Whether nothing is doubtful."""
        return not self.concerns

    def add(self, concern: str | None) -> Self:
        """Note something that is doubtful; nothing if it is None."""
        if concern is not None:
            self.concerns.append(concern)
        return self

    def rows_not_converged(self, converged: Any, advice: str) -> Self:
        """Note that some rows of a batch did not converge; nothing if all of them did.

        Args:
            converged: ``(B,)`` truth values.
            advice: What to do; may be empty.
        """
        rows = np.asarray(converged, dtype=np.bool_).reshape(-1)
        if rows.all():
            return self
        text = f"{int((~rows).sum())} of {len(rows)} rows did not converge"
        return self.add(f"{text}; {advice}" if advice else text)

    def stopped(self, iterations: int, advice: str, what: str = "before it came to rest") -> Self:
        """Note that the limit of iterations came first."""
        return self.add(f"stopped after {iterations} iterations, {what}; {advice}")

    def no_progress(self, gradient: float, advice: str, what: str = "the parameters") -> Self:
        """Note that no step was a gain although there is a gradient.

        Args:
            gradient: The largest derivative there.
            advice: What to do.
            what: What did not change.
        """
        return self.add(
            f"no step improves {what}, though the largest derivative is {gradient:.2g}; {advice}"
        )

    def at_saddle(self, advice: str) -> Self:
        """Note that the gradient vanishes where the value is no maximum."""
        return self.add(f"stands at a saddle, where the gradient vanishes; {advice}")

    def at_bound(self, names: Iterable[Hashable], what: str, advice: str) -> Self:
        """Note that estimates are held by a bound; nothing if there are no names.

        Args:
            names: Of the parameters at the bound.
            what: The bound, such as "the least variance that is allowed".
            advice: What to do.
        """
        quoted = [repr(n) for n in names]
        shown = ", ".join(quoted[:_NAMES]) + (", ..." if len(quoted) > _NAMES else "")
        return self.add(f"{shown} stands at {what}; {advice}" if quoted else None)

    def few_draws(
        self, sizes: Any, total: int, advice: str, least: float = LEAST_EFFECTIVE
    ) -> Self:
        """Note that weighted draws are worth hardly any; nothing if they are worth enough.

        Args:
            sizes: Effective sample sizes, one for each row; zero where no draw counts, which is
                said elsewhere.
            total: Draws.
            advice: What to do.
            least: How many they must be worth, no more than there are.
        """
        each = np.asarray(sizes, dtype=np.float64).reshape(-1)
        each = each[~(each <= 0.0)]
        few = each * _ROUNDING < min(least, total)
        if not few.any():
            return self
        where = "" if len(each) == 1 else f" in {int(few.sum())} of {len(each)} rows"
        worst = float(np.nanmin(each))
        return self.add(
            f"{total} draws are worth {worst:.3g} independent ones{where}, too few to trust; "
            f"{advice}"
        )

    def chains_apart(
        self, r_hats: Mapping[Hashable, float], advice: str, largest: float = LARGEST_R_HAT
    ) -> Self:
        r"""Note which quantities chains disagree about; nothing if they agree.

        Args:
            r_hats: :math:`\\hat R` by name.
            advice: What to do.
            largest: Above which chains do not agree.
        """
        apart = {n: x for n, x in r_hats.items() if not x <= largest}
        if not apart:
            return self
        worst = ", ".join(f"{n!r} ({x:.2f})" for n, x in apart.items())
        return self.add(f"the chains disagree about {worst}, R-hat above {largest}; {advice}")

    def warn(self) -> None:
        """Warn of the doubts, at the line that called the library.

        Warns:
            NotConverged: If something is.
        """
        if self.concerns:
            text = f"{self.method}: " + "; ".join(self.concerns)
            warnings.warn(text, NotConverged, stacklevel=_depth_of_verb() + 1)


def _depth_of_verb() -> int:
    """How many calls up from here is who called the library first."""
    frame: FrameType | None = sys._getframe(1)
    depth = outermost = 1
    while frame is not None:
        if frame.f_code.co_filename.startswith(_LIBRARY):
            outermost = depth
        frame, depth = frame.f_back, depth + 1
    return outermost


@dataclass(frozen=True)
class Trend:
    """How a noisy value changes: its mean over a window, and over the window before.

    Attributes:
        change: What the later mean is above the earlier one.
        error: Standard error of that.
        gain: What the later mean is above the values that the run began with.

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
            values: Two windows of them at least.
            window: Values in each.
        """
        both = np.array(values[-2 * window :], dtype=np.float64).reshape(2, window)
        before, last = both.mean(axis=1)
        error = np.sqrt(both.var(axis=1).sum() / window)
        first = float(np.mean(values[: max(1, window // 10)]))
        return cls(float(last - before), float(error), float(last - first))

    def at_rest(self, tolerance: float, noise: float) -> bool:
        """Whether the value has settled: it changes by no more than the noise, which is small.

        Args:
            tolerance: What changes may be in any case.
            noise: Largest standard error at which that can be decided; more noise hides a rise.
        """
        flat = abs(self.change) <= tolerance + self.error
        return flat and self.error <= max(tolerance, noise)

    def rises(self, tolerance: float) -> bool:
        """Whether the value changes by more than the noise."""
        return abs(self.change) > tolerance + 2.0 * self.error
