"""Denoise a picture of a letter with an Ising model, and compare four inference engines.

Every pixel is a spin: paper or ink. Neighbouring pixels tend to be equal. The grey value y of a
pixel is normally distributed around -1 or +1, so it contributes the external field y / sigma^2.
"""

from __future__ import annotations

import numpy as np
from common import arguments, save

import pgnn

SIGMA = 1.0
ENGINES = {
    "belief propagation": pgnn.BeliefPropagation(),
    "mean field": pgnn.MeanField(),
    "Gibbs sampling": pgnn.Gibbs(burn_in=200, samples=1000, max_r_hat=1.1, seed=0),
}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the share of wrong pixels by engine."""
    args = arguments(__doc__ or "", argv)
    with np.load(args.data / "grids" / "letterA.npz") as archive:
        noisy, truth = archive["AwithoutHole"], archive["A"] > 128

    model = pgnn.MarkovRandomField.grid(
        noisy.shape, ["paper", "ink"], coupling=0.8, field=noisy / SIGMA**2, name="pixel"
    )
    ink = {name: model.query(engine=e)["pixel"].probs[..., 1] for name, e in ENGINES.items()}
    best = model.most_probable(engine=pgnn.DualDecomposition())
    pictures = {name: p.numpy() for name, p in ink.items()}
    pictures["most probable"] = best["pixel"] == "ink"

    errors = {"threshold": float(((noisy > 0) != truth).mean())}
    errors |= {name: float(((p > 0.5) != truth).mean()) for name, p in pictures.items()}
    for name, error in errors.items():
        print(f"{name:<20} {error:7.2%} of the pixels wrong")
    draw({"measured": noisy, "truth": truth, **pictures}, errors, args.out / "denoise_letter.png")
    return errors


def draw(pictures: dict[str, np.ndarray], errors: dict[str, float], path) -> None:
    """Show the pictures side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(pictures), figsize=(2.6 * len(pictures), 3))
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray")
        axis.set_title(f"{name}\n{errors[name]:.1%} wrong" if name in errors else f"{name}\n")
        axis.set_axis_off()
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
