"""CpG islands: stretches of DNA in which a C is often followed by a G.

A hidden Markov model with eight states: the four letters inside (A+, C+, G+, T+) and outside of
islands (A-, ...), each of which emits its letter. Durbin, Eddy, Krogh and Mitchison (1998),
Biological Sequence Analysis, section 3.2. The parameters are estimated by counting in sequences
with labelled islands; the model then finds the islands of other sequences.
"""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
from common import arguments, save

import pgnn

LETTERS = "ACGT"
STATES = [*(x + "+" for x in LETTERS), *(x + "-" for x in LETTERS)]
SHOWN = 3  # number of held-out sequences


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return how well islands are found in held-out sequences."""
    args = arguments(__doc__ or "", argv)
    letters = read(args.data / "hmm" / "CpG-islands.2K.seq.fa.gz", LETTERS)
    island = read(args.data / "hmm" / "CpG-islands.2K.lbl.fa.gz", "NC") == 1
    state = np.where(letters < 0, -1, letters + 4 * ~island)  # a letter N is unknown
    order = np.random.default_rng(0).permutation(len(letters))
    train, test = order[:500], order[500:700]

    model = pgnn.HiddenMarkovModel(STATES, {"letter": np.concatenate([np.eye(4), np.eye(4)])})
    begin = time.perf_counter()
    observed = {"letter": letters[train], "state": state[train]}
    model.fit(observed, learner=pgnn.EM(prior=pgnn.Laplace()), progress=False)
    posterior = model.smooth({"letter": letters[test]})["state"].probs[..., :4].sum(-1)
    probs = posterior.detach().numpy()
    print(f"{time.perf_counter() - begin:.1f} s to count {len(train)} and smooth {len(test)}")

    guess, true = probs > 0.5, island[test]
    path = model.decode({"letter": letters[test]}).codes.numpy()
    figures = {
        "sensitivity": (guess & true).sum() / true.sum(),
        "precision": (guess & true).sum() / guess.sum(),
        "right": (guess == true).mean(),
        "right on the best path": ((path < 4) == true).mean(),
        "CG after C inside": model.transitions.probs[1, 2].item(),
        "CG after C outside": model.transitions.probs[5, 6].item(),
    }
    for name, figure in figures.items():
        print(f"{name:<24} {figure:.3f}")
    draw(probs[:SHOWN], true[:SHOWN], args.out / "cpg_islands.png")
    return {name: float(figure) for name, figure in figures.items()}


def read(path: Path, alphabet: str) -> np.ndarray:
    """``(B, T)`` letters as numbers, -1 for others."""
    with gzip.open(path, "rt") as file:
        rows = [line.strip() for line in file if not line.startswith(">")]
    codes = np.full(128, -1)
    codes[[ord(x) for x in alphabet]] = np.arange(len(alphabet))
    return np.stack([codes[np.frombuffer(row.encode(), dtype=np.uint8)] for row in rows])


def draw(probs: np.ndarray, true: np.ndarray, path: Path) -> None:
    """Show the probability of an island along some sequences, and where islands are."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(probs), 1, figsize=(10, 1.7 * len(probs)), sharex=True, layout="constrained"
    )
    for axis, row, where in zip(axes, probs, true, strict=True):
        axis.fill_between(
            range(len(row)), 0, where, color="#E69F00", alpha=0.4, lw=0, label="island"
        )
        axis.plot(row, color="#0072B2", lw=1, label="probability")
        axis.set(ylim=(0, 1.02), yticks=[0, 1], xlim=(0, len(row)))
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes[-1].set_xlabel("position")
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
