"""Scores of predictions, where a table has the targets' own columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class TargetScores:
    """Log loss and accuracy of discrete targets, root mean squared error of real ones.

    Example:
        >>> from pgnn.factors.variable import Variable
        >>> scores = TargetScores()
        >>> answers = {"rain=no": np.array([0.5, 0.25]), "rain=yes": np.array([0.5, 0.75])}
        >>> scores.add(Variable("rain", ["no", "yes"]), np.array([-1, 1]), answers)
        >>> [*scores.lines()]
        ["column 'rain' is a target, hence not evidence: log loss 0.287682, accuracy 1 (1 rows)"]
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._rows: dict[str, int] = {}
        self._discrete: dict[str, bool] = {}

    def add(self, target: Any, values: Any, answers: Mapping[str, Any]) -> None:
        """Add rows of a target.

        Args:
            target: The variable.
            values: ``(N,)`` observed state indices, -1 where missing, or numbers, ``NaN`` where
                missing.
            answers: ``(N,)`` probabilities of states, or means, by name of the output column.
        """
        name = str(target.name)
        if target.is_discrete:
            known = np.flatnonzero(values >= 0)
            columns = [answers[f"{name}={state}"] for state in target.states]
            table = np.stack(columns, axis=-1)[known]
            codes = values[known]
            with np.errstate(divide="ignore"):
                losses = -np.log(table[np.arange(len(known)), codes])
            sums = np.array([losses.sum(), (table.argmax(axis=-1) == codes).sum()])
        else:
            known = np.flatnonzero(~np.isnan(values))
            sums = np.array([((answers[name][known] - values[known]) ** 2).sum()])
        if len(known):
            self._discrete[name] = target.is_discrete
            self._sums[name] = self._sums.get(name, 0.0) + sums
            self._rows[name] = self._rows.get(name, 0) + len(known)

    def lines(self) -> Iterator[str]:
        """Yield a line for each target that has observed cells."""
        for name, sums in self._sums.items():
            mean = sums / self._rows[name]
            text = (
                f"log loss {mean[0]:.6f}, accuracy {mean[1]:.4g}"
                if self._discrete[name]
                else f"root mean squared error {float(np.sqrt(mean[0])):.6g}"
            )
            yield (
                f"column {name!r} is a target, hence not evidence: {text} ({self._rows[name]:,} "
                "rows)"
            )
