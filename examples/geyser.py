"""Old Faithful: how many kinds of eruptions are there, and which follows which?

A hidden Markov model of the waiting times and durations of 299 eruptions, in minutes; the emissions
are normal distributions with full covariances. The number of states is selected by the Bayesian
information criterion, and by the log-likelihood of the second half under models fitted to the
first; both select four. (The last quarter alone is too short: models with four to six states have
nearly the same log-likelihood, in an order that depends on the initial values.)
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from common import arguments, save

import pgnn
from pgnn.metrics import Bic, HeldOut, choose
from pgnn.plot.axes import colours_of

STATES = range(1, 7)
LEARNER = pgnn.EM(restarts=10, tolerance=1e-5)


def geyser(states: int) -> pgnn.HiddenMarkovModel:
    """Eruptions of so many kinds; durations of 2 and 4 minutes are rounded, so none is narrow."""
    minutes, state = pgnn.Variable("minutes", shape=(2,)), pgnn.Variable("state", states)
    normal = pgnn.Gaussian(minutes, [state], form=pgnn.Full(min_variance=0.01))
    return pgnn.HiddenMarkovModel(states, {"minutes": normal})


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the number of states by each criterion, and how often a long one follows a short."""
    args = arguments(__doc__ or "", argv)
    with (args.data / "hmm" / "geyser.csv").open() as file:
        rows = [(float(r["waiting"]), float(r["duration"])) for r in csv.DictReader(file)]
    data = {"minutes": np.array(rows)}
    choices = {}
    for name, criterion in {"BIC": Bic(), "held out": HeldOut(share=0.5)}.items():
        candidates = {k: geyser(k) for k in STATES}
        fit = {"learner": LEARNER, "seed": 0, "progress": False}
        choices[name] = choose(candidates, data, criterion=criterion, **fit)
        print(f"{name}: {choices[name].name} states", choices[name].frame().round(3), sep="\n")
    model = choices["BIC"].model
    short = model.emissions["minutes"].mean[:, 1] < 3.0  # minutes
    after_short = model.transitions.probs[short][:, ~short].sum(dim=1).min().item()
    print(f"after a short eruption comes a long one with probability {after_short:.2f} or more")
    draw(model, data, args.out / "geyser.png")
    found = {name: float(choice.name) for name, choice in choices.items()}
    return {**found, "long after short": after_short}


def draw(model: pgnn.HiddenMarkovModel, data: dict[str, np.ndarray], path: Path) -> None:
    """Show the eruptions by decoded state with ellipses of two deviations, and the transitions."""
    import matplotlib.pyplot as plt

    states = model.decode(data)["state"]
    normal = model.emissions["minutes"]
    means, covariances = normal.mean.detach().numpy(), normal.covariance.detach().numpy()
    angle = np.linspace(0.0, 2.0 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for k, colour in enumerate(colours_of(len(means))):
        left.scatter(*data["minutes"][states == k].T, s=14, color=colour, label=str(k))
        left.plot(
            *(means[k][:, None] + 2.0 * np.linalg.cholesky(covariances[k]) @ circle), c=colour
        )
    left.set(xlabel="minutes waited before", ylabel="minutes of eruption")
    left.legend(title="state", frameon=False, loc="lower left")
    left.spines[["top", "right"]].set_visible(False)
    pgnn.plot.transitions(model, ax=right)
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
