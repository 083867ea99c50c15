"""Handwritten digits by variational autoencoders: bounds, missing pixels, a manifold.

Two models, one with many latent dimensions and one with two, are trained on binary MNIST
(Salakhutdinov and Murray 2008). The example computes lower bounds on the log-likelihood of test
digits, decodes a grid of the two latent dimensions, and imputes the missing lower half of digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn


def main(
    argv: list[str] | None = None, rows: int = 50_000, epochs: int = 30, hidden: int = 200
) -> dict[str, float]:
    """Return lower bounds of the mean log probability of unseen digits, in nats."""
    args = arguments(__doc__ or "", argv)
    packed = np.load(args.data / "images" / "mnist" / "binarized_mnist_packed.npz")
    images = {
        name: torch.from_numpy(np.unpackbits(packed[name], axis=1)[:, :784]).float()
        for name in ("train", "test")
    }
    learner = pgnn.LowerBound(
        bound=pgnn.Elbo(closed_form=True), batch_size=100, max_iterations=epochs
    )
    deep, flat = (autoencoder(size, hidden) for size in (50, 2))
    for vae in (deep, flat):
        vae.fit(images["train"][:rows], learner=learner, seed=0)
    unobserved = images["test"][::20]
    bounds = {
        "fifty latent numbers, bound": bound(deep, unobserved, pgnn.Elbo(), 20),
        "the same, importance weighted": bound(deep, unobserved, pgnn.ImportanceWeighted(200), 200),
        "two latent numbers, bound": bound(flat, unobserved, pgnn.Elbo(), 20),
    }
    print({name: round(nats, 1) for name, nats in bounds.items()})
    holes = unobserved[::50].clone()
    holes[:, 392:] = torch.nan
    whole = torch.where(holes.isnan(), deep.reconstruct(holes), holes)
    pairs = torch.stack([holes.nan_to_num(0.5), whole]).reshape(2, -1, 28, 28)
    below = pairs.permute(0, 2, 1, 3).reshape(2 * 28, -1)
    draw(flat, below, args.out / "digit_manifold.png")
    return bounds


def autoencoder(latent: int, hidden: int) -> pgnn.VAE:
    """Return networks of one hidden layer each."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(784, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, 784))
    return pgnn.VAE(encoder, decoder, pgnn.BernoulliHead((784,)), latent)


def bound(vae: pgnn.VAE, rows: Tensor, objective: pgnn.Elbo, draws: int) -> float:
    """Return the mean bound of rows by the recognition as it is."""
    engine = pgnn.Variational(objective=objective, max_iterations=0, num_samples=draws, seed=0)
    return float(vae.log_prob(rows, engine=engine).mean())


def draw(flat: pgnn.VAE, completed: Tensor, path: Path) -> None:
    """Show the manifold of two latent numbers, and below it the digits that were completed."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(7, 9), layout="constrained", height_ratios=[5, 1]
    )
    pgnn.plot.manifold(flat, ax=above).set(title="what two latent numbers stand for")
    below.imshow(completed.numpy(), cmap="gray_r")
    below.set(title="lower halves that were completed", xticks=[], yticks=[])
    save(figure, path)


if __name__ == "__main__":
    main()
