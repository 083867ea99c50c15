"""Dates and durations are the same labels in every container and unit, and no numbers."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import pgnn

T, D = pd.Timedelta, pd.Timestamp
DAYS = [D("2020-01-01"), D("2021-01-01")]


def posterior(states: list[Any], found: Any) -> list[float]:
    """p(a = 1 | c), where a table tells the states of c."""
    table = [[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]] if len(states) == 3 else [[0.9, 0.1], [0.2, 0.8]]
    model = pgnn.BayesianNetwork(
        [("a", "c")], {"a": [0.3, 0.7], "c": table}, states={"a": 2, "c": states}
    )
    return model.query("a", {"c": found})["a"].probs[..., 1].reshape(-1).tolist()


@pytest.mark.parametrize("unit", ["ns", "us", "list", "one"])
def test_durations_are_labels(unit: str) -> None:
    states = [T(0), T(2, "s"), T(1, "s")]
    expected = [0.28, 0.7, 14 / 15]
    series = pd.Series(states)
    if unit == "one":
        found = [posterior(states, np.timedelta64(k, "s"))[0] for k in (0, 2, 1)]
        found_0d = [posterior(states, np.array(k, "m8[ns]"))[0] for k in (0, 2 * 10**9, 10**9)]
        assert found == pytest.approx(expected)
        assert found_0d == pytest.approx(expected)
        return
    values: Any = states if unit == "list" else series.astype(f"timedelta64[{unit}]")
    assert posterior(states, values) == pytest.approx(expected)
    if unit != "list":
        assert posterior(states, values.to_numpy()) == pytest.approx(expected)


DATES = [
    *(
        np.array(["2021-01-01", "2020-01-01", "NaT"], f"M8[{u}]")
        for u in ["Y", "M", "D", "h", "s", "ms", "ns"]
    ),
    pd.Series([DAYS[1], DAYS[0], None]).astype("datetime64[ns]"),
    [datetime.date(2021, 1, 1), datetime.datetime(2020, 1, 1), None],
    [np.datetime64("2021-01-01"), DAYS[0], np.datetime64("NaT")],
    pl.Series([datetime.date(2021, 1, 1), datetime.date(2020, 1, 1), None]),
]


@pytest.mark.parametrize("found", DATES)
@pytest.mark.parametrize("states", [DAYS, [d.date() for d in DAYS], [d.to_numpy() for d in DAYS]])
def test_dates_are_labels(found: Any, states: list[Any]) -> None:
    assert posterior(states, found) == pytest.approx([56 / 59, 14 / 41, 0.7])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_columns_of_dates_are_learned_from(unit: str) -> None:
    rows = pd.DataFrame({"a": [0, 1], "c": pd.Series(DAYS).astype(f"datetime64[{unit}]")})
    model = pgnn.BayesianNetwork([("a", "c")]).fit(rows, progress=False)
    assert [*model.variables["c"].states] == DAYS
    assert model.query("a", {"c": DAYS[1]})["a"].probs.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("unit", ["D", "h", "s"])
@pytest.mark.parametrize("kind", ["M8", "m8"])
def test_dates_are_no_numbers(unit: str, kind: str) -> None:
    model = pgnn.BayesianNetwork([], [pgnn.Gaussian(pgnn.Variable("x"), mean=0.0, covariance=4.0)])
    one = np.ones(1, f"{kind}[{unit}]")
    for x in (one, one[0], pd.Series(one.astype(f"{kind}[s]")), [one[0], None]):
        with pytest.raises(
            pgnn.EvidenceError, match=r"'x' must be numbers.*a date is a number only"
        ):
            model.log_prob({"x": x})


@pytest.mark.parametrize("kind", ["M8", "m8"])
def test_missing_dates_without_a_unit_are_missing(kind: str) -> None:
    gone = np.array(["NaT", "NaT"], dtype=kind)
    assert posterior(DAYS, gone) == pytest.approx([0.7, 0.7])
    assert posterior(DAYS, gone[0]) == pytest.approx([0.7])
    with pytest.raises(pgnn.DataError, match="column 'c' has no value to derive states from"):
        pgnn.states_of({"c": gone})


def test_durations_without_a_unit_are_refused() -> None:
    found = np.array([5, "NaT"], dtype="m8")
    for some in (found, found[0], [found[0], None]):
        with pytest.raises(pgnn.EvidenceError, match=r"'c'.*has no state np\.timedelta64\(5\)"):
            posterior(DAYS, some)
    with pytest.raises(pgnn.DataError, match=r"column 'c' has .* without a unit, got timedelta64"):
        pgnn.states_of({"c": found})
    with pytest.raises(pgnn.ModelError, match="states of 'c' must be hashable labels"):
        pgnn.Variable("c", [found[0]])


@pytest.mark.parametrize("value", [3.0, None, np.datetime64("NaT"), np.float64(2), np.array(1.0)])
def test_lone_values_are_no_columns(value: Any) -> None:
    model = pgnn.Mixture(2, {"x": pgnn.Gaussian})
    with pytest.raises(pgnn.DataError, match="column 'x' must have one value for each row, got"):
        model.fit({"x": value}, seed=0)
