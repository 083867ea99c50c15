"""Plots of the transition probabilities of a Markov chain."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.abilities import EmittingModel
from pgnn.errors import Unsupported
from pgnn.plot.axes import axes_of
from pgnn.plot.fonts import with_fonts

_WRITTEN = 12
"""Largest number of states for which probabilities are written into the cells."""
_LABELS = 40
"""Largest number of labels along an axis."""


def transitions(model: Any, *, ax: Any = None) -> Any:
    """Draw the transition matrix: probabilities of the next states (columns) given states (rows).

    Args:
        model: A hidden Markov model with time-invariant transitions.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If the model has no chain of states, or its transitions depend on inputs.
    """
    if not isinstance(model, EmittingModel):
        raise Unsupported(f"expected a model with transitions, got {type(model).__name__}")
    moves, first = model.transitions, model.initial[model.state.name]
    if moves.inputs or first.inputs:
        raise Unsupported(
            "transitions that depend on inputs differ between steps and cannot be drawn"
        )
    labels = [str(s) for s in model.state.states or ()]
    parts = [first.factor().log_values.exp()[None], moves.factor().log_values.exp()]
    table = np.concatenate([p.detach().cpu().numpy() for p in parts])
    written = len(labels) <= _WRITTEN
    size = 1.8 + (0.5 if written else 0.25) * min(len(labels), 32)
    ax = axes_of(ax, (size + 0.8, size))
    image = ax.imshow(table, cmap="Blues", vmin=0, vmax=1 if written else None, aspect="auto")
    _label(ax, labels)
    ax.grid(visible=False)
    ax.axhline(0.5, color="white", linewidth=4)
    ax.set(xlabel="to", ylabel="from")
    if not written:
        ax.figure.colorbar(image, ax=ax, label="probability")
        return with_fonts(ax)
    for (i, j), p in np.ndenumerate(table):
        text = "0" if p == 0 else f"{p:.2f}" if p >= 0.005 else "<.01"
        ax.text(j, i, text, ha="center", va="center", color="white" if p > 0.6 else "black")
    return with_fonts(ax)


def _label(ax: Any, labels: list[str]) -> None:
    """Label rows and columns; rotate long labels, and skip some if there are many."""
    step = -(-len(labels) // _LABELS)
    upright = max(map(len, labels)) > 8
    ax.set_xticks(range(0, len(labels), step), labels[::step])
    ax.tick_params(axis="x", rotation=90 if upright else 0)
    ax.set_yticks([0, *range(1, len(labels) + 1, step)], ["first", *labels[::step]])
