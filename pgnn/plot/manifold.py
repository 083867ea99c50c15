"""Plots of the images decoded from two latent dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch

from pgnn.errors import EvidenceError
from pgnn.limits import whole_number
from pgnn.models.vae import VAE
from pgnn.plot.axes import axes_of, check_drawn
from pgnn.plot.units import image_shape, tiled


def manifold(
    model: VAE, *, size: int = 15, shape: tuple[int, int] | None = None, ax: Any = None
) -> Any:
    """Draw the images decoded from a grid of two latent dimensions, in equal steps of probability.

    Args:
        model: A variational autoencoder with two latent dimensions and a standard normal prior.
        size: Number of images along each side.
        shape: Shape of an image; by default, that of the data, or a square.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        Unsupported: If the model is not a variational autoencoder.
        EvidenceError: If there are not two latent dimensions, or the data is not an image.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes, figure 4.
    """
    check_drawn("manifold", model, isinstance(model, VAE), "a pgnn.VAE of two latent numbers")
    latent = next((v for n, v in model.variables.items() if n != model.vector), None)
    if latent is None or latent.shape != (2,):
        raise EvidenceError(f"a manifold needs two latent dimensions, got {latent!r}")
    size = whole_number("size", size, 2)
    edge = 0.5 / size
    steps = torch.special.ndtri(torch.linspace(edge, 1.0 - edge, size))
    grid = torch.cartesian_prod(-steps, steps)
    with torch.no_grad():
        means = model.decode(grid).mean.double().numpy(force=True)
    height, width = image_shape(shape or means.shape[1:], math.prod(means.shape[1:]))
    ax = axes_of(ax, (6.0, 6.0))
    ax.imshow(tiled(means.reshape(-1, height, width), math.nan), cmap="gray_r",
              interpolation="nearest")  # fmt: skip
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax
