"""Tables completed by mixtures of models, also nested ones, against enumeration of the states."""

import itertools

import numpy as np
import pandas as pd
import pytest

import pgnn

SETTINGS = {0: (0.0, 1.0, 0.2), 1: (3.0, -1.0, 0.7), 2: (6.0, 1.0, 0.4), 3: (-3.0, 2.0, 0.5)}
ROWS = pd.DataFrame(
    {"d": ["n", None, "y", None], "x": [1.0, None, 2.0, -8.0], "y": [None, 2.5, None, None]}
)


def part(k: int) -> pgnn.BayesianNetwork:
    """y ~ N(mean, 1) and x ~ N(slope y, 1), or N(1 + 2 slope y, 1) where d is "y"."""
    mean, slope, p = SETTINGS[k]
    y, x, d = pgnn.Variable("y"), pgnn.Variable("x"), pgnn.Variable("d", ["n", "y"])
    pieces = {
        "y": pgnn.Gaussian(y, [], mean, 1.0),
        "d": [1 - p, p],
        "x": pgnn.LinearGaussian(x, [d, y], [[slope], [2 * slope]], [0.0, 1.0], [1.0, 1.0]),
    }
    return pgnn.BayesianNetwork([("y", "x"), ("d", "x")], pieces, states={"d": ["n", "y"]})


def completed(row: pd.Series, weights: dict[int, float]) -> list:
    """The most probable component and d together, then the means given these."""
    best = (-np.inf, None)
    for k, d in itertools.product(weights, ("n", "y")):
        if pd.notna(row["d"]) and row["d"] != d:
            continue
        mean, slope, p = SETTINGS[k]
        a, b = (0.0, slope) if d == "n" else (1.0, 2 * slope)
        m = np.array([a + b * mean, mean])  # of x and y
        s = np.array([[1 + b * b, b], [b, 1.0]])
        known = np.flatnonzero([pd.notna(row["x"]), pd.notna(row["y"])])
        value = row[["x", "y"]].to_numpy(float)
        gap = value[known] - m[known]
        s_known = s[np.ix_(known, known)]
        score = np.log(weights[k] * (p if d == "y" else 1 - p))
        score -= (
            gap @ np.linalg.solve(s_known, gap) + np.linalg.slogdet(2 * np.pi * s_known)[1]
        ) / 2
        filled = m + s[:, known] @ np.linalg.solve(s_known, gap)
        filled[known] = value[known]
        if score > best[0]:
            best = (score, [d, *filled.tolist()])
    return best[1]


def check(model: pgnn.ModelMixture, weights: dict[int, float], **settings: object) -> None:
    table = model.impute(ROWS, **settings)
    for made, (_, row) in zip(table.itertuples(index=False), ROWS.iterrows(), strict=True):
        state, *numbers = completed(row, weights)
        assert made.d == state
        assert [made.x, made.y] == pytest.approx(numbers, abs=1e-9)


def test_rows_whose_components_see_all_of_one_variable_are_completed() -> None:
    model = pgnn.ModelMixture([part(0), part(1)], [0.5, 0.5])
    check(model, {0: 0.5, 1: 0.5})
    check(model, {0: 0.5, 1: 0.5}, engine=model.default_engine())
    densities = [pgnn.Density(pgnn.Gaussian(pgnn.Variable("x"), [], m, 1.0)) for m in (0.0, 5.0)]
    made = pgnn.ModelMixture(densities, [0.4, 0.6]).impute({"x": [1.0, None]})
    assert made["x"].tolist() == pytest.approx([1.0, 5.0])


def test_nested_mixtures_complete_rows_as_the_flat_one_does() -> None:
    inner = [pgnn.ModelMixture([part(i), part(i + 1)], [0.25, 0.75]) for i in (0, 2)]
    nested = pgnn.ModelMixture(inner, [0.6, 0.4], name="outer")
    check(nested, {0: 0.15, 1: 0.45, 2: 0.1, 3: 0.3})
