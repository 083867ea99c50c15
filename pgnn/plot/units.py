"""Plots of arrays of units: receptive fields, samples, convergence to fixed points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module

from pgnn.errors import EvidenceError
from pgnn.factors.units.unit_layers import UnitModel
from pgnn.limits import whole_number
from pgnn.plot.axes import axes_of, check_drawn

_MARGIN = 1


def filters(
    model: Any, *, shape: tuple[int, int] | None = None, most: int = 100, ax: Any = None
) -> Any:
    """Draw the receptive field of each hidden unit: its couplings to the visible units, as images.

    Args:
        model: Of layers of units, such as a restricted Boltzmann machine.
        shape: Of an image; that of the visible array, or a square, if not given.
        most: Units that are shown, those with the largest couplings first.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If the visible units are no image.
    """
    if not isinstance(model, UnitModel):
        raise EvidenceError(
            f"filters are couplings of layers of units, and a {type(model).__name__} has none; of "
            "a DeepBeliefNetwork they are those of model.machine(0)"
        )
    layers = model.layers()
    if set(layers.names) == set(model.visible):
        raise EvidenceError("filters are those of hidden units, and this model has none")
    most = whole_number("most", most, 1)
    visible, hidden = model.visible[0], next(n for n in layers.names if n not in model.visible)
    matrix = layers.between(hidden, visible)
    if matrix is None:
        raise EvidenceError(f"{visible!r} and {hidden!r} are not coupled, so there are no filters")
    weight = matrix.detach().cpu().double().numpy()
    order = np.argsort(-np.square(weight).sum(1), kind="stable")[:most]
    size = image_shape(shape or layers.variables[visible].shape, weight.shape[1])
    chosen = weight[order].reshape(len(order), *size)
    reach = np.abs(chosen).max(axis=(1, 2), keepdims=True)
    drawn = tiled(chosen / np.where(reach > 0, reach, 1.0), math.nan)
    ax = axes_of(ax, (6.0, 6.0))
    ax.imshow(drawn, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    return _bare(ax, f"{len(order)} filters of {len(weight)}, each in its own scale")


def samples(
    draws: Any, name: Any = None, *, shape: tuple[int, int] | None = None, most: int = 100,
    ax: Any = None,
) -> Any:  # fmt: skip
    """Draw arrays of units as images.

    Args:
        draws: Such as ``model.sample(100)``, a posterior's probabilities, or ``(N, *shape)``
            values.
        name: Of the layer, of samples; the first one if not given.
        shape: Of an image, likewise as in :func:`filters`.
        most: Images that are shown.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If the values are no images.
        Unsupported: If it is a model.
    """
    check_drawn("samples", draws, not isinstance(draws, Module),
                "arrays of units, such as model.sample(100)")  # fmt: skip
    values = draws
    if isinstance(draws, Mapping):
        values = draws[next(iter(draws)) if name is None else name]
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    array = array.astype(np.float64)
    if array.ndim < 2 or not len(array):
        raise EvidenceError(f"images must have the shape (N, ...), got {array.shape}")
    most = whole_number("most", most, 1)
    size = image_shape(shape or array.shape[1:], math.prod(array.shape[1:]))
    images = array[:most].reshape(-1, *size)
    ax = axes_of(ax, (6.0, 6.0))
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    ax.imshow(tiled(images, math.nan), cmap="gray_r", vmin=low, vmax=max(high, low + 1e-12),
              interpolation="nearest")  # fmt: skip
    return _bare(ax, "")


def energy(recall: Any, *, ax: Any = None) -> Any:
    """Draw how the energy falls while a network settles.

    Args:
        recall: What ``model.recall(...)`` returned.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If it is no such answer.
    """
    check_drawn("energy", recall, hasattr(recall, "energies"),
                "the way to a pattern, such as model.recall(states)")  # fmt: skip
    values = np.array([x.detach().cpu().double().numpy() for x in recall.energies])
    ax = axes_of(ax, (6.0, 3.0))
    ax.plot(values.reshape(len(values), -1), color="#0072B2", lw=1.0, alpha=0.7, marker=".")
    ax.set(xlabel="sweep", ylabel="energy")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def recall(
    loads: Sequence[float], overlaps: Sequence[float] | Mapping[str, Sequence[float]], *,
    ax: Any = None,
) -> Any:  # fmt: skip
    """Draw how well patterns are recalled against how many are stored.

    Args:
        loads: Patterns for each unit.
        overlaps: Mean overlap of recalled with stored patterns; or of several rules by
            name.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If there is not one overlap for each load.
    """
    curves = overlaps if isinstance(overlaps, Mapping) else {"": overlaps}
    ax = axes_of(ax, (6.0, 3.4))
    for name, values in curves.items():
        if len(values) != len(loads):
            raise EvidenceError(f"{len(loads)} loads and {len(values)} overlaps {name}")
        ax.plot(loads, values, marker="o", ms=3, label=name or None)
    ax.axvline(0.138, color="0.6", lw=0.8, ls="--")
    ax.annotate("0.138", (0.138, 0.02), color="0.4", xytext=(3, 0), textcoords="offset points")
    ax.set(xlabel="patterns per unit", ylabel="overlap after recall", ylim=(0, 1.05))
    if any(curves):
        ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def image_shape(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return rows and columns of an image of so many units.

    Raises:
        EvidenceError: If their array is none and they fill no square, or has another size.
    """
    if len(shape) == 2:
        if math.prod(shape) != size:
            raise EvidenceError(f"{size} units do not fill an image of the shape {tuple(shape)}")
        return int(shape[0]), int(shape[1])
    side = math.isqrt(size)
    if side * side != size:
        raise EvidenceError(f"{size} units do not fill a square; give shape=(rows, columns)")
    return side, side


def tiled(images: np.ndarray, gap: float) -> np.ndarray:
    """Return images ``(N, rows, columns)`` side by side in one, a line between them."""
    count, rows, columns = images.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    step = rows + _MARGIN, columns + _MARGIN
    out = np.full((down * step[0] - _MARGIN, across * step[1] - _MARGIN), gap)
    for k, image in enumerate(images):
        i, j = divmod(k, across)
        out[i * step[0] : i * step[0] + rows, j * step[1] : j * step[1] + columns] = image
    return out


def _bare(ax: Any, title: str) -> Any:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title, fontsize=9)
    return ax
