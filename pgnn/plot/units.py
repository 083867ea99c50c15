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
from pgnn.plot.axes import axes_of, check_drawn, colours_of

_MARGIN = 1


def filters(
    model: Any, *, shape: tuple[int, int] | None = None, most: int = 100, ax: Any = None
) -> Any:
    """Draw the receptive fields of hidden units, their couplings to visible units, as images.

    Args:
        model: A model with layers of units, such as a restricted Boltzmann machine.
        shape: Shape of an image; by default, that of the visible array, or a square.
        most: Largest number of units, those with the largest couplings first.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If the visible units are not an image.
    """
    if not isinstance(model, UnitModel):
        raise EvidenceError(
            f"expected a model with coupled layers of units, got {type(model).__name__}",
            "for a DeepBeliefNetwork, pass model.machine(0)",
        )
    layers = model.layers()
    if set(layers.names) == set(model.visible):
        raise EvidenceError("filters need hidden units, but the model has none")
    most = whole_number("most", most, 1)
    visible, hidden = model.visible[0], next(n for n in layers.names if n not in model.visible)
    matrix = layers.between(hidden, visible)
    if matrix is None:
        raise EvidenceError(f"filters need couplings between {visible!r} and {hidden!r}; got none")
    weight = matrix.detach().cpu().double().numpy()
    order = np.argsort(-np.square(weight).sum(1), kind="stable")[:most]
    size = image_shape(shape or layers.variables[visible].shape, weight.shape[1])
    chosen = weight[order].reshape(len(order), *size)
    reach = np.abs(chosen).max(axis=(1, 2), keepdims=True)
    drawn = tiled(chosen / np.where(reach > 0, reach, 1.0), math.nan)
    ax = axes_of(ax, (6.0, 6.0))
    ax.imshow(drawn, cmap=_with_gaps("RdBu_r"), vmin=-1, vmax=1, interpolation="nearest")
    return _bare(ax, f"{len(order)} filters of {len(weight)}, each in its own scale")


def samples(
    draws: Any, name: Any = None, *, shape: tuple[int, int] | None = None, most: int = 100,
    ax: Any = None,
) -> Any:  # fmt: skip
    """Draw arrays of units as images.

    Args:
        draws: Samples such as ``model.sample(100)``, probabilities of a posterior, or values
            ``(N, *shape)``.
        name: Name of the layer of samples; the first one by default.
        shape: Shape of an image, see :func:`filters`.
        most: Largest number of images.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If the values are not images.
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
    ax.imshow(
        tiled(images, math.nan), cmap=_with_gaps("gray_r"), vmin=low, vmax=max(high, low + 1e-12),
        interpolation="nearest",
    )  # fmt: skip
    return _bare(ax, "")


def energy(recall: Any, *, ax: Any = None) -> Any:
    """Plot the energy of a network during recall.

    Args:
        recall: Result of ``model.recall(...)``.
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
    ax.plot(values.reshape(len(values), -1), color=colours_of(1)[0], lw=1.0, alpha=0.7, marker=".")
    ax.set(xlabel="sweep", ylabel="energy")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def recall(
    loads: Sequence[float], overlaps: Sequence[float] | Mapping[str, Sequence[float]], *,
    ax: Any = None,
) -> Any:  # fmt: skip
    """Plot the quality of recall against the number of stored patterns.

    A dashed line marks 0.138 patterns per unit, the capacity of Hebbian learning in large networks.

    Args:
        loads: Numbers of patterns per unit.
        overlaps: Mean overlaps of recalled with stored patterns; or a mapping from names of rules
            to overlaps.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        EvidenceError: If there is not one overlap for each load.

    References:
        Amit, Gutfreund and Sompolinsky (1985), Storing infinite numbers of patterns in a spin-glass
        model of neural networks.
    """
    curves = overlaps if isinstance(overlaps, Mapping) else {"": overlaps}
    ax = axes_of(ax, (6.0, 3.4))
    for (name, values), colour in zip(curves.items(), colours_of(len(curves)), strict=True):
        if len(values) != len(loads):
            of_rule = f" of {name!r}" if name else ""
            raise EvidenceError(
                f"expected {len(loads)} overlaps{of_rule}, one per load, got {len(values)}"
            )
        ax.plot(loads, values, marker="o", ms=3, color=colour, label=name or None)
    ax.axvline(0.138, color="0.6", lw=0.8, ls="--")
    ax.annotate(
        "0.138, Hebbian capacity", (0.138, 0.02), color="0.5", xytext=(3, 0),
        textcoords="offset points",
    )  # fmt: skip
    ax.set(xlabel="patterns per unit", ylabel="overlap after recall", ylim=(0, 1.05))
    if any(curves):
        ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def image_shape(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of an image with a number of units.

    Raises:
        EvidenceError: If the shape has another size, or is not given and the units fill no square.
    """
    if len(shape) == 2:
        if math.prod(shape) != size:
            raise EvidenceError(f"an image of shape {tuple(shape)} must have {size} units")
        return int(shape[0]), int(shape[1])
    side = math.isqrt(size)
    if side * side != size:
        raise EvidenceError(f"{size} units do not fill a square", "give shape=(rows, columns)")
    return side, side


def tiled(images: np.ndarray, gap: float) -> np.ndarray:
    """Tile images ``(N, rows, columns)`` into one, separated by lines."""
    count, rows, columns = images.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    step = rows + _MARGIN, columns + _MARGIN
    out = np.full((down * step[0] - _MARGIN, across * step[1] - _MARGIN), gap)
    for k, image in enumerate(images):
        i, j = divmod(k, across)
        out[i * step[0] : i * step[0] + rows, j * step[1] : j * step[1] + columns] = image
    return out


def _with_gaps(colours: str) -> Any:
    """Return a colour map whose gaps between images are grey, on any background."""
    import matplotlib

    return matplotlib.colormaps[colours].with_extremes(bad="0.6")


def _bare(ax: Any, title: str) -> Any:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("0.6")
    if title:
        ax.set_title(title, fontsize=9)
    return ax
