"""Faces by a variational autoencoder: a plane of expressions, and anomaly detection.

The model with two latent dimensions is trained on photographs of one face (Roweis and Saul 2000).
The example decodes a grid of the latent dimensions, and computes anomaly scores of test faces, of
the same faces upside down, and of faces covered by a bar. Unusual images must have higher scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn

SHAPE = (28, 20)


def main(argv: list[str] | None = None, *, epochs: int = 60, hidden: int = 200) -> dict[str, float]:
    """Return how often an odd picture scores higher than a face that was not learned."""
    args = arguments(__doc__ or "", argv)
    faces = np.load(args.data / "images" / "frey_faces.npz")["x"] / 255.0
    order = np.random.default_rng(0).permutation(len(faces))
    rows = torch.from_numpy(faces[order]).float().reshape(-1, *SHAPE)
    learned, unseen = rows[:1700], rows[1700:]
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(560, hidden), nn.Tanh(), nn.Linear(hidden, 4))
    decoder = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 560), nn.Sigmoid())
    vae = pgnn.VAE(encoder, decoder, pgnn.NormalHead(SHAPE, scale=0.1), latent=2)
    learner = pgnn.LowerBound(
        bound=pgnn.Elbo(closed_form=True), batch_size=50, max_iterations=epochs
    )
    vae.fit(learned, learner=learner, seed=0)
    normal = vae.anomaly_score(unseen, seed=0)
    figures = {"nats": -float(normal.mean())}
    barred = unseen.clone()
    barred[:, 12:15] = 0.0
    for name, odd in (("upside down", unseen.flip(1)), ("barred", barred)):
        scores = vae.anomaly_score(odd, seed=0)
        figures[name] = float((scores[:, None] > normal).double().mean())
        print(f"{name:<12} scores higher in {figures[name]:.1%} of all pairs")
    draw(vae, unseen, normal, args.out / "frey_faces.png")
    return figures


def draw(vae: pgnn.VAE, unseen: Tensor, scores: Tensor, path: Path) -> None:
    """Show the plane of expressions, lines between faces, and the oddest of the unseen faces."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 5), layout="constrained")
    for ax, title in zip(
        axes, ("two latent numbers", "lines between faces", "the oddest faces"), strict=True
    ):
        ax.set_title(title)
    pgnn.plot.manifold(vae, size=8, ax=axes[0]).images[0].set_cmap("gray")
    lines = vae.interpolate(unseen[:6], unseen[6:12], steps=6).flatten(end_dim=1)
    for ax, pictures in ((axes[1], lines), (axes[2], unseen[scores.argsort(descending=True)[:36]])):
        pgnn.plot.samples(pictures, ax=ax).images[0].set_cmap("gray")
    save(figure, path)


if __name__ == "__main__":
    main()
