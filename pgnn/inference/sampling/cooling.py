"""Schedules of temperatures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import ModelError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cooling(ABC):
    """A way from a high temperature to a low one.

    Args:
        start: First temperature, in the units of the log scores; chosen to suit the model if not
            given.
        end: Last temperature, likewise.

    Raises:
        ModelError: If a temperature is not positive.
    """

    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not 0.0 < value < np.inf:
                raise ModelError(f"{name} must be a positive temperature, got {value}")

    def temperatures(self, sweeps: int, hot: float = 10.0, cold: float = 0.1) -> Floats:
        """Return ``(sweeps,)`` temperatures.

        Args:
            sweeps: How many.
            hot: The first one if ``start`` is not given.
            cold: The last one if ``end`` is not given.
        """
        part = np.linspace(0.0, 1.0, sweeps) if sweeps > 1 else np.ones(sweeps)
        start = hot if self.start is None else self.start
        return self.between(start, cold if self.end is None else self.end, part, sweeps)

    @abstractmethod
    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """Return the temperatures after given parts of the way."""


@dataclass(frozen=True)
class GeometricCooling(Cooling):
    r"""A temperature that falls by a constant factor, :math:`T = T_0 (T_1 / T_0)^s`.

    Example:
        >>> GeometricCooling(8.0, 1.0).temperatures(4).round(3).tolist()
        [8.0, 4.0, 2.0, 1.0]

    References:
        Kirkpatrick, Gelatt & Vecchi (1983), Optimization by simulated annealing.
    """

    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """See :meth:`Cooling.between`."""
        return np.asarray(start * (end / start) ** part)


@dataclass(frozen=True)
class LinearCooling(Cooling):
    r"""A temperature that falls evenly, :math:`T = T_0 + s (T_1 - T_0)`.

    Example:
        >>> LinearCooling(4.0, 1.0).temperatures(4).tolist()
        [4.0, 3.0, 2.0, 1.0]
    """

    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """See :meth:`Cooling.between`."""
        return start + part * (end - start)


@dataclass(frozen=True)
class LogarithmicCooling(Cooling):
    r"""A temperature that falls as slowly as proofs of convergence ask, :math:`1 / \log(2 + t)`.

    It is shifted and stretched so as to begin at ``start`` and arrive at ``end``.

    Example:
        >>> LogarithmicCooling(4.0, 1.0).temperatures(4).round(3).tolist()
        [4.0, 2.055, 1.365, 1.0]

    References:
        Geman & Geman (1984), section XII; Hajek (1988).
    """

    def between(self, start: float, end: float, part: Floats, sweeps: int) -> Floats:
        """See :meth:`Cooling.between`."""
        height = np.log(2.0) / np.log(2.0 + part * (sweeps - 1))
        lowest = np.log(2.0) / np.log(1.0 + max(sweeps, 2))
        return np.asarray(end + (start - end) * (height - lowest) / (1.0 - lowest))


Schedule = Cooling | Callable[[int], float]


def temperatures_of(schedule: Schedule, sweeps: int, hot: float, cold: float) -> Floats:
    """Return ``(sweeps,)`` temperatures of a schedule, or of any function of the step.

    Raises:
        ModelError: If one is not positive.
    """
    if isinstance(schedule, Cooling):
        return schedule.temperatures(sweeps, hot, cold)
    values = np.array([float(schedule(step)) for step in range(sweeps)])
    wrong = np.flatnonzero(~((values > 0.0) & (values < np.inf)))
    if len(wrong):
        raise ModelError(
            f"a schedule must give positive temperatures, got {values[wrong[0]]} at step {wrong[0]}"
        )
    return values
