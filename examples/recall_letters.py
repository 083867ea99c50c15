"""Store letters in a Hopfield network, and measure its capacity.

Five letters of 7 x 5 pixels are stored by Hebb's rule and by the pseudo-inverse, and recalled from
versions with a fifth of the pixels flipped. Random patterns are then stored in 400 units: with
Hebb's rule, recall fails above about 0.138 patterns per unit (Amit, Gutfreund and Sompolinsky
1985).
"""

from __future__ import annotations

import numpy as np
import torch
from common import arguments, save

import pgnn

LETTERS = """
.###. #...# ##### ##### #...#
#...# #...# #.... ..#.. .#.#.
#...# #...# #.... ..#.. ..#..
##### #...# ####. ..#.. ..#..
#...# #...# #.... ..#.. ..#..
#...# #...# #.... ..#.. .#.#.
#...# .###. ##### ..#.. #...#
"""
LOADS = (0.02, 0.05, 0.08, 0.11, 0.138, 0.16, 0.18, 0.22)


def main(argv: list[str] | None = None, units: int = 400) -> dict[str, float]:
    """Return the share of right pixels for each rule, and the overlaps at two loads."""
    args = arguments(__doc__ or "", argv)
    rows = [line.split() for line in LETTERS.strip().splitlines()]
    letters = np.array(
        [[[1 if c == "#" else -1 for c in row[k]] for row in rows] for k in range(5)]
    )
    rng = np.random.default_rng(0)
    damaged = np.where(rng.random(letters.shape) < 0.2, -letters, letters)
    found, recalled = {}, {}
    for rule in (pgnn.Hebbian(), pgnn.PseudoInverse()):
        name = type(rule).__name__
        network = pgnn.Hopfield((7, 5)).fit(letters, learner=rule)
        recalled[name] = network.recall(damaged)
        found[name] = float((recalled[name].states.numpy() == letters).mean())
        print(f"{name:<14} {found[name]:.1%} of the pixels right")
    curves: dict[str, list[float]] = {"Hebbian": [], "PseudoInverse": []}
    for rule in (pgnn.Hebbian(), pgnn.PseudoInverse()):
        for load in LOADS:
            patterns = torch.from_numpy(rng.choice([-1, 1], (int(load * units), units)))
            settled = pgnn.Hopfield(units).fit(patterns, learner=rule).recall(patterns[:20])
            overlap = (settled.states * patterns[:20]).double().mean()
            curves[type(rule).__name__].append(float(overlap))
    found |= {f"load {load}": curves["Hebbian"][k] for k, load in enumerate(LOADS)}
    draw(damaged, recalled, curves, args.out / "recall_letters.png")
    return found


def draw(damaged: np.ndarray, recalled: dict, curves: dict, path) -> None:
    """Show damaged and recalled letters, the energies, and the capacity."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    pgnn.plot.samples(damaged, ax=axes[0]).set_title("damaged")
    pgnn.plot.samples(recalled["PseudoInverse"].states, ax=axes[1]).set_title("recalled")
    pgnn.plot.energy(recalled["PseudoInverse"], ax=axes[2])
    pgnn.plot.recall(LOADS, curves, ax=axes[3])
    save(figure, path)


if __name__ == "__main__":
    main()
