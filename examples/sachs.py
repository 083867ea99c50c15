"""Protein signalling: predict missing measurements of single cells.

The data are the levels of eleven proteins in 5,400 cells (Sachs et al. 2005). Half of the cells are
training data, with a fifth of the values removed. Three structures are compared: the consensus
network of biologists, a Chow-Liu tree, and a graph without edges. The criteria are the
log-likelihood of the other half, and the prediction of values that were removed from it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from common import arguments, save

import pgnn

EDGES = (
    "erk>akt mek12>erk pip3>pip2 pka>akt pka>erk pka>jnk pka>mek12 pka>p38 pka>raf pkc>jnk "
    "pkc>mek12 pkc>p38 pkc>pka pkc>raf plcy>pip2 plcy>pip3 raf>mek12"
)


def main(argv: list[str] | None = None, *, every: int = 1) -> dict[str, float]:
    """Return mean log-likelihoods of fresh cells, and shares of blanked numbers filled in right."""
    args = arguments(__doc__ or "", argv)
    with np.load(args.data / "tabular" / "sachs_discretized.npz") as file:
        names = [str(n) for n in file["labels"]]
        cells = pd.DataFrame(file["x"].astype(int), columns=names)
    cells = cells.sample(frac=1.0, random_state=0).reset_index(drop=True)[::every]
    half = len(cells) // 2
    hole = np.random.default_rng(0).random(cells.shape) < 0.2
    holes = cells.astype(float).mask(hole)
    old, new, truth = holes[:half], holes[half:], cells[half:]
    states = {n: [1, 2, 3] for n in names}
    agreed = [tuple(e.split(">")) for e in EDGES.split()]
    filled = old.fillna({n: old[n].mode()[0] for n in names}).astype(int)
    tree = pgnn.ChowLiuTree(states).fit(filled, progress=False)
    print("tree:", ", ".join(f"{a}-{b}" for a, b in tree.graph.edges))
    edges = {"agreed network": agreed, "best tree": [*tree.graph.edges], "no edges": []}
    scores: dict[str, float] = {}
    shares: dict[str, float] = {}
    for name, own in edges.items():
        model = pgnn.BayesianNetwork(own, states=states)
        learner = pgnn.EM(pgnn.Laplace(1.0), tolerance=1e-5)
        model.fit(old, learner=learner, seed=0, progress=False)
        scores[name] = float(model.log_prob(truth).mean())
        right = model.impute(new).astype(int).to_numpy() == truth.to_numpy()
        shares[name] = float(right[hole[half:]].mean())
        print(f"{name:<15} log-likelihood {scores[name]:.3f}, blanked right {shares[name]:.3f}")
    draw(scores, shares, args.out / "sachs.png")
    return scores | {f"{name}, right": share for name, share in shares.items()}


def draw(scores: dict[str, float], shares: dict[str, float], path: Path) -> None:
    """Show both figures for each structure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained")
    titles = ("log-likelihood of a fresh cell (nats)", "blanked numbers filled in right")
    for ax, found, title in zip(axes, (scores, shares), titles, strict=True):
        bars = ax.barh([*found][::-1], [*found.values()][::-1], color="#0072B2")
        ax.bar_label(bars, fmt="%.2f", padding=4, label_type="center", color="white")
        ax.set_title(title, loc="left", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
