"""Multiple imputation of a table with mixed columns and missing values.

The data are eruptions of Old Faithful: waiting time, duration, and whether the next wait was long.
A third of the values is removed, more of them from long eruptions. A mixture model of the numbers
and labels imputes the missing values by several draws from the posterior. A regression is fitted
to each completed table, and the results are pooled by Rubin's rules, which account for the
uncertainty of the imputation. Regressions on complete rows or on mean-imputed data do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from common import arguments, save

import pgnn


def table(folder: Path) -> pd.DataFrame:
    """Minutes before and of each eruption, and whether the wait after it was long."""
    rows = pd.read_csv(folder / "hmm" / "geyser.csv")[["waiting", "duration"]].astype(float)
    after = np.where(rows["waiting"].shift(-1) > 70.0, "long", "short")
    return rows.assign(after=after).iloc[:-1]


def slope(rows: pd.DataFrame) -> tuple[float, float]:
    """Minutes of eruption for each minute waited, and the standard error."""
    plain = pgnn.BayesianRegression("duration", "waiting", scale=10.0)
    weights = plain.fit(rows[["duration", "waiting"]], progress=False).coefficients().loc["waiting"]
    return float(weights["weight"]), float(weights["std"])


def main(argv: list[str] | None = None, *, draws: int = 20) -> dict[str, float]:
    """Return errors of cells that were filled in, and slopes with standard errors."""
    args = arguments(__doc__ or "", argv)
    whole = table(args.data)
    share = np.where(whole["duration"] > 3.0, 0.4, 0.2)[
        :, None
    ]  # missing at random: depends on an observed value
    hole = np.random.default_rng(0).random(whole.shape) < share * [0.7, 1.0, 1.0]
    holes = whole.mask(hole)
    features = {"waiting": pgnn.Gaussian, "duration": pgnn.Gaussian, "after": ["long", "short"]}
    mixture = pgnn.Mixture(4, features).fit(
        holes, learner=pgnn.EM(restarts=5), seed=0, progress=False
    )
    done = mixture.impute(holes)
    tables = mixture.impute(holes, draws=draws, seed=0)

    gone = hole[:, 1]
    error = {
        "mixture": float((done["duration"] - whole["duration"])[gone].abs().mean()),
        "column mean": float((holes["duration"].mean() - whole["duration"])[gone].abs().mean()),
    }
    labels = float((done["after"] == whole["after"])[hole[:, 2]].mean())
    slopes = np.array([slope(t) for t in tables])
    within, between = (slopes[:, 1] ** 2).mean(), slopes[:, 0].var(ddof=1)
    pooled = slopes[:, 0].mean(), float(np.sqrt(within + (1 + 1 / draws) * between))
    complete, everything = slope(holes.dropna()), slope(whole)
    print(f"missing minutes: {error}, labels right: {labels:.2f}")
    for name, (value, deviation) in {
        "no holes": everything, "complete rows": complete, f"{draws} completions": pooled
    }.items():  # fmt: skip
        print(f"{name:<16} {value:.4f} +- {deviation:.4f}")
    draw(whole, holes, tables[0], args.out / "impute_table.png")
    told = {"slope": everything[0], "pooled": float(pooled[0]), "pooled error": pooled[1]}
    return {**error, "labels": labels, **told}


def draw(whole: pd.DataFrame, holes: pd.DataFrame, drawn: pd.DataFrame, path: Path) -> None:
    """Show what was observed, and one completion of the rest, beside the truth."""
    import matplotlib.pyplot as plt

    lost = holes[["waiting", "duration"]].isna().any(axis=1)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for ax, rows, title in zip(axes, (drawn, whole), ("one completion", "the truth"), strict=True):
        ax.scatter(*rows[~lost][["waiting", "duration"]].to_numpy(float).T, s=10, color="0.6")
        ax.scatter(*rows[lost][["waiting", "duration"]].to_numpy(float).T, s=14, color="#D55E00")
        ax.set(xlabel="minutes waited", title=title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("minutes of eruption")
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
