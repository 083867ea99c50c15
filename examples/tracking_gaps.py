"""Track a walker through gaps in the observations by a Kalman smoother.

The hidden state consists of the position and the velocity in the plane. Noisy positions are
observed, with gaps. The process noise and the observation noise are estimated by expectation
maximisation from the same incomplete track.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import arguments, save

import pgnn

STEP = 1.0
MOVE = np.block([[np.eye(2), STEP * np.eye(2)], [np.zeros((2, 2)), np.eye(2)]])
SEE = np.hstack([np.eye(2), np.zeros((2, 2))])


def walk(steps: int, seed: int = 0) -> np.ndarray:
    """Positions of somebody whose speed drifts."""
    rng = np.random.default_rng(seed)
    speed = np.array([1.0, 0.3]) + np.cumsum(0.15 * rng.normal(size=(steps, 2)), axis=0)
    return np.cumsum(speed, axis=0)


def main(argv: list[str] | None = None, *, steps: int = 200) -> dict[str, float]:
    """Return root mean squared errors in the gaps, and the noise that was found."""
    args = arguments(__doc__ or "", argv)
    path = walk(steps)
    observed = path + 2.0 * np.random.default_rng(1).normal(size=path.shape)
    gap = np.zeros(steps, dtype=bool)
    for first in range(30, steps - 20, 50):
        gap[first : first + 15] = True
    observed[gap] = np.nan
    model = pgnn.LinearDynamicalSystem(
        4, 2, MOVE, None, SEE, None, np.r_[observed[0], 0, 0], 10.0 * np.eye(4),
        observation_offset=[0.0, 0.0],
    )  # fmt: skip
    model.fit({"observation": observed}, learner=pgnn.EM(tolerance=1e-6), seed=0, progress=False)
    smooth = model.smooth({"observation": observed})["state"]
    mean, std = smooth.mean[:, :2].numpy(), smooth.std[:, :2].numpy()
    whole = np.arange(steps)
    line = np.column_stack([np.interp(whole, whole[~gap], observed[~gap, k]) for k in (0, 1)])
    error = {
        name: float(np.sqrt(((guess - path)[gap] ** 2).sum(axis=1).mean()))
        for name, guess in {"smoother": mean, "straight lines": line}.items()
    }
    noise = model.conditionals["observation"].covariance.detach()
    error["noise"] = float(torch.trace(noise) / 2) ** 0.5
    print("error in the gaps:", {n: round(e, 2) for n, e in error.items()})
    draw(path, observed, gap, mean, std, args.out / "tracking_gaps.png")
    return error


def draw(
    path: np.ndarray,
    observed: np.ndarray,
    gap: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    file: Path,
) -> None:
    """Show the plane, and one coordinate with two standard deviations."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.plot(*path.T, color="0.6", label="true")
    left.plot(*observed.T, ".", ms=4, color="#E69F00", label="observed")
    left.plot(*mean.T, color="#0072B2", lw=1.2, label="smoothed")
    left.legend(frameon=False)
    steps = np.arange(len(path))
    right.fill_between(
        steps, *(mean[:, 1] + s * 2.0 * std[:, 1] for s in (-1, 1)), alpha=0.25, lw=0
    )
    right.plot(steps, mean[:, 1], color="#0072B2", lw=1.2)
    right.plot(steps, path[:, 1], color="0.6", lw=1.0)
    right.plot(steps, observed[:, 1], ".", ms=4, color="#E69F00")
    right.set(xlabel="step", ylabel="second coordinate")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    save(figure, file)
    plt.close(figure)


if __name__ == "__main__":
    main()
