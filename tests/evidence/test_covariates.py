"""Covariates mean the same in every container of numbers."""

from __future__ import annotations

import warnings
from functools import partial
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


def test_masked_cells() -> None:
    cells = np.ma.masked_array(ROWS, ROWS == 3)
    for hidden in (cells, [*cells], [[*cells]]):
        with pytest.raises(pgnn.EvidenceError, match="'u' has masked cells"):
            read_covariates({"u": hidden})
    whole = np.ma.masked_array(ROWS, np.zeros_like(ROWS, dtype=bool))
    assert torch.equal(read_covariates({"u": whole})["u"], torch.tensor(ROWS))


def test_arrays_that_are_not_to_be_written_to() -> None:
    bytes_of_a_file = np.frombuffer(ROWS.tobytes(), np.float32).reshape(ROWS.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_covariates({"u": bytes_of_a_file})["u"]
    assert torch.equal(found, torch.tensor(ROWS))


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
    with pytest.raises(pgnn.DataError, match="no input 'z': it has no inputs"):
        model.fit({"a": [0], "b": [1]}, inputs={"z": torch.zeros(1)})


def verbs_of(model: Any, rows: Any) -> list[Any]:
    own = [model.query, model.most_probable, model.sample, model.log_prob]
    calls = [partial(verb, evidence=rows) for verb in own[:3]] + [partial(own[3], rows)]
    if isinstance(model, pgnn.HiddenMarkovModel):
        over_time = (model.smooth, model.filter, model.decode, partial(model.predict, steps=1))
        calls += [partial(verb, evidence=rows) for verb in over_time]
    return [*calls, partial(model.fit, rows, progress=False)]


def field() -> pgnn.MarkovRandomField:
    return pgnn.MarkovRandomField([("a", "b")], {("a", "b"): [[1.0, 2.0], [2.0, 1.0]]})


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: pgnn.BayesianNetwork([], {"a": [0.4, 0.6]}), {"a": [0, 1]}),
        (field, {"a": [0, 1], "b": [1, 0]}),
        (lambda: pgnn.RestrictedBoltzmannMachine(2, 1), {"visible": [[0, 1], [1, 0]]}),
        (lambda: pgnn.ModelMixture([field(), field()]), {"a": [0, 1], "b": [1, 0]}),
        (lambda: pgnn.HiddenMarkovModel(2, {"x": 3}), {"x": [[0, 1, 2, 2]]}),
        (lambda: pgnn.SigmoidBeliefNetwork([2, 2]), {"visible": [[0, 1], [1, 0]]}),
    ],
)
def test_unknown_inputs_are_told_by_every_verb(make: Any, rows: Any) -> None:
    for call in verbs_of(make(), rows):
        with pytest.raises((pgnn.EvidenceError, pgnn.DataError), match="no input 'z'"):
            call(inputs={"z": torch.zeros(2, 4)})


def test_components_take_the_inputs_that_are_theirs() -> None:
    variable = pgnn.Variable("y", 2)
    parts = []
    for name in ("u", "v"):
        torch.manual_seed(0)
        net = pgnn.Neural(variable, [], torch.nn.Linear(2, 2), inputs=[name])
        parts.append(pgnn.BayesianNetwork([], {"y": net}))
    mixture = pgnn.ModelMixture(parts, [0.5, 0.5])
    inputs = {"u": torch.tensor(ROWS), "v": torch.tensor(ROWS)}
    logs = [
        p.log_prob({"y": [0, 1, 0]}, inputs={n: inputs[n]})
        for n, p in zip("uv", parts, strict=True)
    ]
    expected = torch.stack(logs).double().logsumexp(0) - np.log(2)
    told = mixture.log_prob({"y": [0, 1, 0]}, inputs=inputs)
    torch.testing.assert_close(told.detach(), expected.detach(), check_dtype=False)
