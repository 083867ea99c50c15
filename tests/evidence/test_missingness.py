"""Columns that tell what is missing: no accident where income decides who answers."""

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn.errors import DataError


def test_a_modelled_pattern_takes_the_bias_away() -> None:
    random = np.random.default_rng(0)
    rich = random.random(4000) < 0.4
    silent = random.random(4000) < np.where(rich, 0.6, 0.1)
    frame = pd.DataFrame({"income": np.where(rich, "high", "low")}).mask(silent[:, None])
    columns = pgnn.missing_indicators(frame)
    assert columns["income missing"] == silent.tolist()
    mechanism = {"income missing": [[0.9, 0.1], [0.4, 0.6]]}  # low, high
    states = {"income": ["low", "high"], "income missing": [False, True]}
    model = pgnn.BayesianNetwork([("income", "income missing")], mechanism, states)
    model.fit(columns, learner=pgnn.EM(), progress=False)
    assert float(model.query("income")["income"].probs[1]) == pytest.approx(0.4, abs=0.03)
    plain = pgnn.BayesianNetwork([], states={"income": ["low", "high"]})
    plain.fit(frame, learner=pgnn.EM(), progress=False)
    assert float(plain.query("income")["income"].probs[1]) < 0.3  # who is observed is poorer


def test_vectors_names_and_what_is_wrong() -> None:
    x = np.array([[1.0, np.nan], [np.nan, np.nan]])
    assert pgnn.missing_indicators({"x": x, "n": [1, 2]})["x missing"] == [False, True]
    assert pgnn.missing_indicators({"n": [1, 2]}, ["n"], "?")["n?"] == [False, False]
    with pytest.raises(DataError, match="no column 'm'"):
        pgnn.missing_indicators({"n": [1]}, ["m"])
    with pytest.raises(DataError, match="already"):
        pgnn.missing_indicators({"n": [None], "n missing": [1]})
