"""Plots of posteriors of states over time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from pgnn.errors import EvidenceError, Unsupported
from pgnn.plot.axes import axes_of, check_drawn, colours_of
from pgnn.plot.fonts import with_fonts

if TYPE_CHECKING:
    from pgnn.factors.variable import Variable
    from pgnn.inference.posterior import Posterior

_COLOURS = 8
"""Largest number of states that colours tell apart."""
_LABELLED, _LINE = 40, 12.0
"""Largest number of labels along an axis; height of a label in points."""


def states(
    posterior: Posterior,
    name: Hashable | None = None,
    *,
    row: int = 0,
    truth: Sequence[Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the probabilities of the states at every step, stacked.

    Of more than eight states a heat map is drawn, with a row for each, and crosses at the truth.

    Args:
        posterior: Result of ``model.smooth(...)`` or ``model.filter(...)``.
        name: Name of the variable; the first one by default.
        row: Row of a batch.
        truth: Labels or indices of the true states, drawn as a band below; None or -1 if
            unknown.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If the variable or the row does not exist, or the truth has another length.
        Unsupported: If it is not a posterior, or the variable has no axis of time.
    """
    check_drawn("states", posterior, hasattr(posterior, "log_evidence"),
                "posteriors over time, such as model.smooth(sequence)")  # fmt: skip
    variable, table = _over_time(posterior, name, row)
    labels, colours = variable.states or (), colours_of(variable.num_states)
    many = variable.num_states > _COLOURS
    lines = min(variable.num_states, _LABELLED) if many else 0
    ax = axes_of(ax, (9.0, max(2.6, 0.8 + 1.2 * lines * _LINE / 72.0)))
    if many:
        return _heat_map(ax, table, variable, truth)
    steps = np.arange(len(table) + 1)
    held = np.concatenate([table, table[-1:]])  # the last step is as wide as the others
    ax.stackplot(steps, held.T, step="post", colors=colours, labels=[str(s) for s in labels], lw=0)
    ticks = {0.0: "0", 0.5: "0.5", 1.0: "1"}
    if truth is not None:
        _band(ax, _codes_of(truth, variable, len(table)), colours)
        ticks = {-0.16: "truth", **ticks}
    ax.set(xlim=(0, max(len(table), 1)), ylim=(-0.22 if truth is not None else 0, 1), xlabel="step")
    _label_steps(ax, len(table))
    ax.set_ylabel(f"probability of {variable.name}")
    ax.set_yticks([*ticks], [*ticks.values()])
    ax.spines["left"].set_bounds(0, 1)
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        title=str(variable.name),
    )
    ax.spines[["top", "right"]].set_visible(False)
    return with_fonts(ax)


def _over_time(posterior: Posterior, name: Hashable | None, row: int) -> tuple[Variable, Any]:
    """Return a variable over time, and the ``(T, K)`` probabilities of its states in a row.

    Raises:
        EvidenceError: If the variable or the row does not exist.
        Unsupported: If the variable has no axis of time.
    """
    chosen = next(iter(posterior)) if name is None else name
    variable = next((v for v in posterior.variables if v.name == chosen), None)
    if variable is None:
        raise EvidenceError(f"the posterior has no target {chosen!r}")
    if len(variable.shape) != 1:
        raise Unsupported(f"{chosen!r} must be a sequence of states, got shape {variable.shape}")
    if not 0 <= row < posterior.num_rows:
        raise EvidenceError(
            f"row must be below {posterior.num_rows}, the number of rows, got {row}"
        )
    probs = posterior.probs(chosen)
    table = (probs[row] if posterior.batched else probs).detach().cpu().numpy()
    return variable, table[~np.isnan(table).any(axis=1)]


def _codes_of(truth: Sequence[Any], variable: Variable, num_steps: int) -> Any:
    codes = variable.encode(truth)
    if len(codes) != num_steps:
        raise EvidenceError(
            f"truth must have {num_steps} steps, as the posterior, got {len(codes)}"
        )
    return codes


def _label_steps(ax: Any, num_steps: int) -> None:
    """Put the numbers of steps below their middles."""
    from matplotlib.ticker import MaxNLocator

    numbers = MaxNLocator(nbins=10, integer=True).tick_values(0, max(num_steps - 1, 1))
    shown = [int(t) for t in numbers if 0 <= t < num_steps]
    ax.set_xticks([t + 0.5 for t in shown], [str(t) for t in shown])


def _heat_map(ax: Any, table: Any, variable: Variable, truth: Sequence[Any] | None) -> Any:
    """Draw probabilities with a row for each state."""
    steps, number = table.shape
    image = ax.imshow(
        table.T, cmap="cividis", vmin=0, vmax=1, aspect="auto", extent=(0, steps, number, 0),
        interpolation="nearest",
    )  # fmt: skip
    ax.figure.colorbar(image, ax=ax, label="probability")
    room = ax.get_window_extent().height / ax.figure.dpi * 72.0 / _LINE
    every = -(-number // max(1, min(int(room), _LABELLED)))
    labels = [str(s) for s in variable.states or ()][::every]
    ax.set_yticks([every * k + 0.5 for k in range(len(labels))], labels)
    if truth is not None:
        codes = _codes_of(truth, variable, steps)
        known = np.flatnonzero(codes >= 0)
        ax.plot(known + 0.5, codes[known] + 0.5, "x", color="#D55E00", ms=4, label="truth")
        ax.legend(loc="upper left", fontsize=8)
    _label_steps(ax, steps)
    ax.set(xlabel="step", ylabel=str(variable.name))
    return with_fonts(ax)


def _band(ax: Any, codes: Any, colours: Sequence[Any]) -> None:
    """Draw runs of states below the axis."""
    ends = np.flatnonzero(np.diff(codes, prepend=-2, append=-2))
    for start, end in pairwise(ends):
        if codes[start] >= 0:
            colour = colours[codes[start]]
            ax.broken_barh([(start, end - start)], (-0.22, 0.12), color=colour, lw=0)
