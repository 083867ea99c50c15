"""The dishonest casino: which rolls were made with the loaded die?

300 rolls and the dice that produced them, from Durbin, Eddy, Krogh and Mitchison (1998), Biological
Sequence Analysis, section 3.2. The dice are inferred with the parameters of the book, and with the
parameters that Baum-Welch estimates from the rolls alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import arguments, save

import pgnn


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the share of dice found by each model, and how often the learned die shows a six."""
    args = arguments(__doc__ or "", argv)
    rolls, truth = read(args.data / "hmm" / "durbin_casino.txt")
    book = pgnn.HiddenMarkovModel(
        ["fair", "loaded"],
        {"roll": [[1 / 6] * 6, [0.1] * 5 + [0.5]]},
        initial=[0.5, 0.5],
        transitions=[[0.95, 0.05], [0.10, 0.90]],
    )
    learned = pgnn.HiddenMarkovModel(2, {"roll": 6})
    learned.fit({"roll": rolls}, learner=pgnn.EM(restarts=10), seed=0, progress=False)
    dice = learned.emissions["roll"].probs.detach()
    loaded = int(dice[:, 5].argmax())  # the order of the states is arbitrary

    posterior = book.smooth({"roll": rolls})
    guesses = {
        "book": posterior["state"].probs[:, 1],
        "learned": learned.smooth({"roll": rolls})["state"].probs[:, loaded].detach(),
    }
    found = {}
    for name, probs in guesses.items():
        found[name] = float(np.mean((probs.numpy() > 0.5) == (truth == "loaded")))
        print(f"{name:<7} {found[name]:.1%} of the dice found")
    found["six"] = float(dice[loaded, 5])
    print("loaded die as learned:", *(f"{p:.2f}" for p in dice[loaded].tolist()))
    draw(posterior, truth, guesses, args.out / "casino.png")
    return found


def read(path: Path) -> tuple[list[int], np.ndarray]:
    """Return the rolls, counted from 0, and the dice."""
    rolls, dice = (part.split("\n", 1)[1] for part in path.read_text().split(">")[1:])
    letters = np.array([*dice.replace("\n", "")])
    faces = [int(face) - 1 for face in rolls.replace("\n", "")]
    return faces, np.where(letters == "L", "loaded", "fair")


def draw(posterior, truth: np.ndarray, guesses: dict, path: Path) -> None:
    """Show the posterior of the book's model over the true dice, and that of the learned one."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, 1, figsize=(10, 4.6), sharex=True, height_ratios=[3, 2], layout="constrained"
    )
    pgnn.plot.states(posterior, truth=truth, ax=axes[0])
    axes[0].set(xlabel="", title="parameters of the book", ylabel="probability")
    for (name, probs), style in zip(guesses.items(), ("--", "-"), strict=True):
        axes[1].plot(np.arange(len(probs)) + 0.5, probs, style, color="#D55E00", label=name)
    axes[1].set(ylim=(0, 1), yticks=[0, 0.5, 1], xlabel="roll", ylabel="loaded")
    axes[1].set_title("learned from the rolls alone")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes[1].spines[["top", "right"]].set_visible(False)
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
