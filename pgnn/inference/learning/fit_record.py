"""What happens while a model is fitted: history, early stopping, the best parameters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from pgnn.inference.learning.learnable import Learnable


class FitRecord:
    """Keeps figures of each iteration, and the parameters that were best on held-out rows.

    Args:
        learnable: Whose parameters.
        validate: Value on held-out rows; none if no rows are held out.
        patience: Iterations without a better value after which to stop; 0 for never.

    Attributes:
        trace: A list for each figure.
        iterations: Iterations done.
        stopped: Whether it was stopped early.
    """

    def __init__(
        self, learnable: Learnable, validate: Callable[[], float] | None, patience: int
    ) -> None:
        self._learnable, self._validate, self._patience = learnable, validate, patience
        self.trace: dict[str, list[float]] = {}
        self.iterations = 0
        self.stopped = False
        self._begin = time.perf_counter()
        self._best, self._since = -math.inf, 0
        self._saved: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock time since the beginning."""
        return time.perf_counter() - self._begin

    def add(self, figures: Mapping[str, float]) -> bool:
        """Record an iteration that ended at the present parameters; tell whether to stop."""
        self.iterations += 1
        return self.note(figures)

    def note(self, figures: Mapping[str, float]) -> bool:
        """Record the present parameters, where an iteration ended or the first one begins."""
        figures = {**figures, "seconds": self.seconds}
        if self._validate is not None:
            value = self._validate()
            figures["validation"] = value
            self._since += 1
            if value > self._best:
                self._best, self._since = value, 0
                self._saved = self._learnable.saved()
            self.stopped = 0 < self._patience <= self._since
        for name, value in figures.items():
            self.trace.setdefault(name, []).append(float(value))
        return self.stopped

    def finish(self) -> None:
        """Go back to the parameters that were best on held-out rows, if there are such."""
        if self._saved is not None:
            self._learnable.restore(self._saved)
