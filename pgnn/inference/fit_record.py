"""What happens while a model is fitted: history, early stopping, the best parameters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from pgnn.inference.learnable import Learnable


class FitRecord:
    """Keeps figures of each iteration, and the parameters that were best on held-out rows.

    Args:
        learnable: Whose parameters.
        validate: Value on held-out rows; none if no rows are held out.
        patience: Iterations without a better value after which to stop; 0 for never.

    Attributes:
        history: A list for each figure.
        stopped: Whether it was stopped early.
    """

    def __init__(
        self, learnable: Learnable, validate: Callable[[], float] | None, patience: int
    ) -> None:
        self._learnable, self._validate, self._patience = learnable, validate, patience
        self.history: dict[str, list[float]] = {}
        self.stopped = False
        self._begin = time.perf_counter()
        self._best, self._since = -math.inf, 0
        self._saved: dict[str, Any] | None = None

    @property
    def iterations(self) -> int:
        """How many were recorded."""
        return len(self.history.get("seconds", []))

    def add(self, figures: Mapping[str, float]) -> bool:
        """Record an iteration that ended at the present parameters; tell whether to stop."""
        figures = {**figures, "seconds": time.perf_counter() - self._begin}
        if self._validate is not None:
            value = self._validate()
            figures["validation"] = value
            self._since += 1
            if value > self._best:
                self._best, self._since = value, 0
                self._saved = self._learnable.saved()
            self.stopped = 0 < self._patience <= self._since
        for name, value in figures.items():
            self.history.setdefault(name, []).append(float(value))
        return self.stopped

    def finish(self) -> None:
        """Go back to the parameters that were best on held-out rows, if there are such."""
        if self._saved is not None:
            self._learnable.restore(self._saved)
