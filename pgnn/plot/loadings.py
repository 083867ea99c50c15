"""Plots of factor loadings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pgnn.abilities import LatentFactorModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.plot.axes import axes_of
from pgnn.plot.fonts import with_fonts

_WRITTEN = 20
"""Largest number of loadings that are written into the cells."""


def loadings(model: Any, *, shape: Sequence[int] | None = None, ax: Any = None) -> Any:
    """Draw the loadings of each factor on the components of a vector, or the pixels of an image.

    Args:
        model: A fitted ``FactorAnalysis`` or ``PrincipalComponents``.
        shape: ``(height, width)`` of images whose pixels are the components: each factor is drawn
            as an image.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If the model has no factors.
        EvidenceError: If the shape does not fit.
    """
    if not isinstance(model, LatentFactorModel):
        raise Unsupported(
            f"expected a FactorAnalysis or PrincipalComponents, got {type(model).__name__}"
        )
    conditional: Any = model.conditionals[model.vector]
    weight = conditional.weight.detach().cpu().numpy()
    if shape is not None:
        return _pictures(weight, shape, ax)
    labels = [str(n) for n in model.columns] or [str(k) for k in range(len(weight))]
    ax = axes_of(ax, (1.6 + 0.55 * min(weight.shape[1], 20), 1.2 + 0.3 * min(len(labels), 30)))
    largest = float(np.abs(weight).max()) or 1.0
    image = ax.imshow(weight, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    ax.set_xticks(range(weight.shape[1]), [str(k) for k in range(weight.shape[1])])
    step = -(-len(labels) // 40)
    ax.set_yticks(range(0, len(labels), step), labels[::step])
    ax.set(xlabel=str(model.latent))
    if len(labels) > _WRITTEN:
        ax.figure.colorbar(image, ax=ax, label="loading")
        return with_fonts(ax)
    for (i, j), value in np.ndenumerate(weight):
        colour = "white" if abs(value) > 0.6 * largest else "black"
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    return with_fonts(ax)


def _pictures(weight: np.ndarray, shape: Sequence[int], ax: Any) -> Any:
    height, width = (int(n) for n in shape)
    if height * width != len(weight):
        raise EvidenceError(f"images of shape {(height, width)} must have {len(weight)} pixels")
    number = weight.shape[1]
    across = int(np.ceil(number**0.5))
    down = -(-number // across)
    sheet = np.full((down * (height + 1) - 1, across * (width + 1) - 1), np.nan)
    for k in range(number):
        picture = weight[:, k].reshape(height, width)
        largest = np.abs(picture).max() or 1.0
        i, j = divmod(k, across)
        top, left = i * (height + 1), j * (width + 1)
        sheet[top : top + height, left : left + width] = picture / largest
    ax = axes_of(ax, (1.1 * across, 1.1 * down * height / width))
    ax.imshow(sheet, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_axis_off()
    return with_fonts(ax)
