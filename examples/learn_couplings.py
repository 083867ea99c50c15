"""Learn the couplings of a spin glass from samples, exactly and by two cheaper approximations."""

from __future__ import annotations

import time

import numpy as np
import torch
from common import arguments, save

import pgnn

SIDE, SAMPLES = 8, 4000
LEARNERS = {
    "exact likelihood": pgnn.Gradient(),
    "likelihood by belief propagation": pgnn.Gradient(engine=pgnn.BeliefPropagation()),
    "pseudo-likelihood": pgnn.PseudoLikelihood(),
}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the root mean square error of the learned couplings by learner."""
    args = arguments(__doc__ or "", argv)
    rng = np.random.default_rng(0)
    num_edges = 2 * SIDE * (SIDE - 1)
    truth = rng.normal(0.0, 0.4, num_edges)
    world = pgnn.MarkovRandomField.grid((SIDE, SIDE), coupling=truth, name="spin")
    data = {"spin": world.sample(SAMPLES, seed=1)["spin"]}

    found, errors = {}, {}
    for name, learner in LEARNERS.items():
        model = pgnn.MarkovRandomField.grid((SIDE, SIDE), coupling=np.zeros(num_edges), name="spin")
        model.requires_grad_()
        begin = time.perf_counter()
        model.fit(data, learner=learner, progress=False)
        seconds = time.perf_counter() - begin
        found[name] = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
        errors[name] = float(np.sqrt(np.mean((found[name] - truth) ** 2)))
        print(f"{name:<34} error {errors[name]:.4f}  {seconds:6.2f} s")
    draw(truth, found, errors, args.out / "learn_couplings.png")
    return errors


def draw(truth: np.ndarray, found: dict[str, np.ndarray], errors: dict[str, float], path) -> None:
    """Plot learned against true couplings."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4 * len(found), 4), sharey=True)
    ends = [truth.min(), truth.max()]
    for axis, (name, couplings) in zip(axes, found.items(), strict=True):
        axis.plot(ends, ends, color="0.7", linewidth=1)
        axis.scatter(truth, couplings, s=8)
        axis.set_title(f"{name}\nroot mean square error {errors[name]:.3f}", fontsize=10)
        axis.set_xlabel("true coupling")
    axes[0].set_ylabel("learned coupling")
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
