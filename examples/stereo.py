"""Depth from two photographs: a Potts model of disparities.

A point at x in the right picture is at x + d in the left one, and near objects have a large
disparity d. Each pixel has 16 states d, scored by the similarity of the colours. Neighbouring
pixels tend to have equal disparities, less so where the picture has an edge.
"""

from __future__ import annotations

import time

import numpy as np
from common import arguments, save

import pgnn

NUM_DISPARITIES = 16
TRUNCATED = 20.0  # grey levels; larger differences are occlusions or noise
WEIGHT = 0.25
COUPLING = 2.0


def read(folder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both photographs ``(H, W, 3)`` and the true disparities, 0 where unknown."""
    import matplotlib.image as image

    left, right = (image.imread(folder / f"tsukuba_im{s}.png")[..., :3] * 255 for s in "LR")
    return left, right, image.imread(folder / "tsukuba_truedispL.png") * 255 / 16


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the share of pixels that are wrong by more than one disparity."""
    args = arguments(__doc__ or "", argv)
    left, right, truth = read(args.data / "grids")
    field = -WEIGHT * differences(left, right)
    model = pgnn.MarkovRandomField.grid(
        field.shape[:2], NUM_DISPARITIES, coupling=contrast(left), field=field, name="disparity"
    )
    begin = time.perf_counter()
    best = model.most_probable(engine=pgnn.DualDecomposition(tolerance=2e-3, search=None))
    seconds = time.perf_counter() - begin
    gap = float(best.upper_bound - best.log_prob)
    print(
        f"{seconds:.1f} s; log score {float(best.log_prob):.1f}, at most {gap:.1f} below the best"
    )

    found = {"each pixel alone": field.argmax(axis=2), "Potts field": best["disparity"]}
    errors = {name: wrong(d, truth) for name, d in found.items()}
    for name, error in errors.items():
        print(f"{name:<18} {error:6.2%} of the pixels wrong by more than one")
    draw({"left": left / 255, "truth": truth, **found}, errors, args.out / "stereo.png")
    return errors


def differences(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``(H, W, D)`` truncated mean colour differences for every disparity."""
    cost = np.full((*left.shape[:2], NUM_DISPARITIES), TRUNCATED)
    for d in range(NUM_DISPARITIES):
        gap = np.abs(left[:, d:] - right[:, : left.shape[1] - d]).mean(axis=2)
        cost[:, d:, d] = np.minimum(gap, TRUNCATED)
    return cost


def contrast(left: np.ndarray) -> np.ndarray:
    """One coupling for each edge of the grid: weaker where the picture changes."""
    steps = [np.abs(np.diff(left, axis=axis)).mean(axis=2).ravel() for axis in (0, 1)]
    return np.concatenate([np.where(s < 8.0, 2 * COUPLING, COUPLING) for s in steps])


def wrong(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of known pixels that are wrong by more than one."""
    known = truth > 0
    return float((np.abs(found - truth)[known] > 1).mean())


def draw(pictures: dict[str, np.ndarray], errors: dict[str, float], path) -> None:
    """Show the photograph, the truth and what was found."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    for axis, (name, picture) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow(picture, cmap=None if picture.ndim == 3 else "viridis", vmin=0, vmax=15)
        axis.set_title(f"{name}: {errors[name]:.1%} wrong" if name in errors else name)
        axis.set_axis_off()
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
