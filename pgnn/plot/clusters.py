"""Plots of the components of Gaussian mixtures."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch

from pgnn.abilities import ClassModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.plot.axes import axes_of, colours_of
from pgnn.plot.fonts import with_fonts

_RADII = (1.0, 2.0)
"""Standard deviations of the ellipses."""
_FADED = 2_000
"""Largest number of points that are drawn opaque."""


def clusters(
    model: Any,
    data: Any = None,
    *,
    axes: Sequence[int] = (0, 1),
    feature: Hashable = None,
    ax: Any = None,
) -> Any:
    """Draw the components of a Gaussian mixture as ellipses, and points by their component.

    Args:
        model: A :class:`~pgnn.models.mixture.Mixture`, a ``GaussianDiscriminant`` or another class
            model with a Gaussian vector.
        data: Rows, as in a query; points have the colour of the most probable component.
        axes: The two components of the vector to draw.
        feature: Name of the vector, if there are several.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If the model has no such vector.
        EvidenceError: If the vector does not have these components, or is not observed.
    """
    name, normal = _vector(model, feature)
    pair = [*axes]
    if len(pair) != 2 or not all(0 <= k < normal.size for k in pair):
        raise EvidenceError(
            f"axes must be two of the {normal.size} components of {name!r}, got {axes}"
        )
    means = normal.mean.detach().double().reshape(-1, normal.size)[:, pair].numpy(force=True)
    whole = normal.covariance.detach().double().reshape(-1, normal.size, normal.size)
    covariances = whole[:, pair][:, :, pair].numpy(force=True)
    labels = [str(s) for s in model.variables[model.class_name].states or ()]
    colours = colours_of(len(labels))
    ax = axes_of(ax, (5.6, 4.4))
    if data is not None:
        _points(ax, model, name, data, pair, colours)
    angle = np.linspace(0.0, 2.0 * np.pi, 120)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for mean, covariance, label, colour in zip(means, covariances, labels, colours, strict=True):
        root = np.linalg.cholesky(covariance + 1e-300 * np.eye(2))
        for radius in _RADII:
            ax.plot(*(mean[:, None] + radius * root @ circle), color=colour, lw=1.6 / radius)
        ax.plot(*mean, "+", color=colour, ms=9, mew=2, label=label)
    columns = _columns(model, name)
    ax.set(xlabel=columns[pair[0]], ylabel=columns[pair[1]])
    ax.legend(title=str(model.class_name), frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return with_fonts(ax)


def _vector(model: Any, feature: Hashable) -> tuple[Hashable, Gaussian]:
    if not isinstance(model, ClassModel):
        raise Unsupported(f"expected a mixture of normal distributions, got {type(model).__name__}")
    result = {
        n: c
        for n, c in model.conditionals.items()
        if isinstance(c, Gaussian)
        and c.size > 1
        and n in (feature, n if feature is None else feature)
    }
    if len(result) != 1:
        raise Unsupported(
            f"the model has several Gaussian vectors, {[*result]}", "choose one by feature="
        )
    return next(iter(result.items()))


def _columns(model: Any, name: Hashable) -> list[str]:
    from pgnn.abilities import VectorModel

    known = model.columns if isinstance(model, VectorModel) and name == model.vector else ()
    size = model.variables[name].num_elements
    return [str(n) for n in known] or [f"{name}[{k}]" for k in range(size)]


def _points(
    ax: Any, model: Any, name: Hashable, data: Any, pair: list[int], colours: Sequence[Any]
) -> None:
    from pgnn.inference.model_reader import reader_of

    observed = reader_of(model).read(data)
    if name not in observed.reals:
        raise EvidenceError(f"{name!r} must be observed in data to draw points")
    x = observed.reals[name].detach().numpy(force=True)[:, pair]
    with torch.no_grad():
        best = model.query(model.class_name, observed)[model.class_name].probs.argmax(dim=-1)
    which = best.reshape(-1).numpy(force=True)
    alpha = 0.6 if len(x) <= _FADED else 0.2
    for k, colour in enumerate(colours):
        members = x[which == k]
        ax.scatter(members[:, 0], members[:, 1], s=9, color=colour, alpha=alpha, lw=0)
