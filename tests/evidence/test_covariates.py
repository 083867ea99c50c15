"""Covariates mean the same in every container of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.evidence.covariates import read_covariates

ROWS = np.arange(6.0, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize(
    "value", [ROWS, torch.tensor(ROWS), ROWS.tolist(), pd.DataFrame(ROWS), ROWS.astype(int)]
)
def test_containers(value: Any) -> None:
    found = read_covariates({"u": value})["u"]
    assert torch.equal(found.float(), torch.tensor(ROWS))


def test_text_is_no_number() -> None:
    with pytest.raises(pgnn.EvidenceError, match="'u' must be numbers"):
        read_covariates({"u": [["a"], ["b"]]})


def test_fits_take_what_queries_take() -> None:
    digit = pgnn.Variable("digit", ["x", "y"])
    torch.manual_seed(0)
    net = pgnn.Neural(digit, [], torch.nn.Linear(2, 2), inputs=["u"])
    model = pgnn.BayesianNetwork(
        [("digit", "even")], [net], states={"digit": ["x", "y"], "even": 2}
    )
    rows = {"digit": ["x", "y", "x"], "even": [0, 1, 0]}
    model.fit(rows, inputs={"u": ROWS}, learner=pgnn.Gradient(l2=0.1), progress=False)
    assert model.query("even", inputs={"u": ROWS})["even"].probs.shape == (3, 2)


def test_unknown_inputs_of_a_fit_are_told() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(pgnn.DataError, match="no input 'z': it takes none"):
        model.fit({"a": [0], "b": [1]}, inputs={"z": torch.zeros(1)})
