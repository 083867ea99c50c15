"""Learn the Alarm network from data in which a fifth of the values is missing.

Rows are sampled from the published network, and values are removed at random. Expectation
maximisation marginalises the missing values. Two common alternatives are to replace them by the
most frequent state of their column, and to drop incomplete rows. The estimates are compared on new
data.
"""

from __future__ import annotations

import numpy as np
from common import arguments, save

import pgnn


def main(argv: list[str] | None = None, *, rows: int = 2000) -> dict[str, float]:
    """Return mean log-likelihoods of fresh rows, by way of learning."""
    args = arguments(__doc__ or "", argv)
    truth = pgnn.read(args.data / "bn" / "alarm.bif")
    states = {name: v.states for name, v in truth.variables.items()}
    whole = truth.sample(rows, seed=0).frame()
    fresh = truth.sample(2000, seed=1).frame()
    hole = np.random.default_rng(2).random(whole.shape) < 0.2
    holes = whole.astype(object).mask(hole)
    smooth = pgnn.Laplace(0.1)

    def learned(data: object, learner: pgnn.Learner) -> pgnn.BayesianNetwork:
        model = pgnn.BayesianNetwork([*truth.graph.edges], states=states)
        return model.fit(data, learner=learner, seed=0, progress=False)

    usual = {name: holes[name].mode()[0] for name in holes}
    em = learned(holes, pgnn.EM(smooth, tolerance=1e-5))
    models = {
        "no holes": learned(whole, pgnn.MaximumLikelihood(smooth)),
        "EM": em,
        "most frequent state": learned(holes.fillna(usual), pgnn.MaximumLikelihood(smooth)),
    }
    complete = holes.dropna()
    print(f"{len(complete)} of {rows} rows have no hole")
    found = {"truth": float(truth.log_prob(fresh).mean())}
    found |= {name: float(m.log_prob(fresh).mean()) for name, m in models.items()}
    for name, value in found.items():
        print(f"{name:<20} {value:8.3f}")
    right = (em.impute(holes) == whole).to_numpy()[hole].mean()
    guess = (holes.fillna(usual) == whole).to_numpy()[hole].mean()
    print(f"missing cells filled in correctly: {right:.3f}, by the most frequent state {guess:.3f}")
    draw(found, args.out / "alarm_missing.png")
    return {**found, "filled in": float(right), "guessed": float(guess)}


def draw(found: dict[str, float], path: object) -> None:
    """Show how far each way of learning stays behind the truth."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 3.0), layout="constrained")
    names = [n for n in found if n != "truth"]
    lost = [found["truth"] - found[n] for n in names]
    bars = ax.barh(names[::-1], lost[::-1], color="#0072B2")
    ax.bar_label(bars, fmt="%.2f", padding=4)
    ax.set(xlabel="log-likelihood of a fresh row lost to the true network (nats)")
    ax.set_title("Alarm, a fifth of the cells missing", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    save(figure, path)  # type: ignore[arg-type]
    plt.close(figure)


if __name__ == "__main__":
    main()
