"""Transition probabilities of a chain of states."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgnn.errors import Unsupported
from pgnn.plot.axes import axes_of

_WRITTEN = 12
"""States up to which probabilities are written into the cells."""


def transitions(model: Any, *, ax: Any = None) -> Any:
    """Draw the probability of each state (columns) after each other (rows), the first one on top.

    Args:
        model: A hidden Markov model whose transitions are the same at each step.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If the model has no chain of states, or inputs drive it.
    """
    if not hasattr(model, "transitions") or not hasattr(model, "state"):
        raise Unsupported(f"a {type(model).__name__} has no transitions between states")
    moves, first = model.transitions, model.initial[model.state.name]
    if moves.inputs or first.inputs:
        raise Unsupported("inputs drive the transitions: they differ from step to step")
    labels = [str(s) for s in model.state.states]
    parts = [first.factor().log_values.exp()[None], moves.factor().log_values.exp()]
    table = np.concatenate([p.detach().cpu().numpy() for p in parts])
    size = 1.8 + 0.5 * min(len(labels), 24)
    ax = axes_of(ax, (size + 0.8, size))
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(labels)), labels)
    ax.set_yticks(range(len(labels) + 1), ["first", *labels])
    ax.axhline(0.5, color="white", linewidth=4)
    ax.set(xlabel="to", ylabel="from")
    if len(labels) <= _WRITTEN:
        for (i, j), p in np.ndenumerate(table):
            text = "0" if p == 0 else f"{p:.2f}" if p >= 0.005 else "<.01"
            ax.text(j, i, text, ha="center", va="center", color="white" if p > 0.6 else "black")
    return ax
