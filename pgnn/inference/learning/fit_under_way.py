"""Restarts of expectation maximisation and their progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgnn.inference.learning.checkpoints import Keeper
from pgnn.inference.learning.restarts import Restarts, Start
from pgnn.inference.loop import iterate


class FitUnderWay:
    """A fit with several starts and checkpoints.

    Args:
        starts: All starts.
        seeds: Seeds of the starts.
        keeper: Keeper of the checkpoints.

    Attributes:
        best: Index of the start that runs to convergence; None while all run.
    """

    def __init__(self, starts: list[Start], seeds: list[int], keeper: Keeper) -> None:
        self._starts, self._seeds, self._keeper = starts, seeds, keeper
        self.best: int | None = None
        self._done = 0

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the saved state."""
        self.best, self._done = state["best"], state["iterations"]
        for start, kept in zip(self._starts, state["starts"], strict=True):
            if kept is not None:
                start.restore(kept)

    def chosen(self) -> Start:
        """Return the best start."""
        if self.best is None:
            values = [s.value() for s in self._starts] if len(self._starts) > 1 else [0.0]
            self.best, self._done = values.index(max(values)), 0
        return self._starts[self.best]

    def continue_fit(
        self, starts: list[Start], iterations: int, progress: bool, label: str
    ) -> None:
        """Run some starts up to a total number of iterations."""
        before = self._done

        def after(taken: int) -> None:
            self._done = before + taken
            self._keeper.after(self._state)

        left = iterations - before
        with self._keeper.saving_on_interrupt():
            iterate(Restarts(starts), left, progress=progress, label=label, after=after)

    def _state(self) -> dict[str, Any]:
        going = range(len(self._starts)) if self.best is None else [self.best]
        return {
            "seeds": self._seeds,
            "best": self.best,
            "iterations": self._done,
            "starts": [s.snapshot() if k in going else None for k, s in enumerate(self._starts)],
        }
