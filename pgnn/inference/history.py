"""The record of a fit."""

from __future__ import annotations

from typing import Any

from pgnn.errors import short_repr

RUNNING = "running"
"""Name of the statistics to which further batches are added; they are not printed."""


class History(dict[str, Any]):
    """Statistics of a fit by name: ``learner``, ``rows``, ``log_likelihood``, ``seconds``, ...

    Iterative learners add ``iterations``, ``converged`` and ``trace``, a mapping of lists.

    Attributes:
        progress: State from which a learner can continue, if it supports that; not saved in files.
        voters: All parameter vectors of a voted perceptron, if they are kept; not saved in files.

    Example:
        >>> record = History(iterations=2, trace={"log_likelihood": [-3.0, -2.5]})
        >>> record["trace"]["log_likelihood"][-1]
        -2.5
    """

    progress: Any = None
    voters: Any = None

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.items() if k not in ("trace", RUNNING)}
        steps = {k: f"{len(v)} values" for k, v in self.get("trace", {}).items()}
        shown |= {"trace": steps} if steps else {}
        cells = (f"{k!r}: {short_repr(v, 80)}" for k, v in shown.items())
        return f"History({{{', '.join(cells)}}})"

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import history_html

        return history_html(self, hidden=RUNNING)

    def plot(self, ax: Any = None) -> Any:
        """Draw the trace, see :func:`pgnn.plot.history`."""
        from pgnn.plot.history import history

        return history(self, ax=ax)
