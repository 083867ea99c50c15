"""Frames in place of the values of one variable, or of an input, are their matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

import pgnn
from pgnn.evidence.frames import matrix_of, unframed

ROWS = np.random.default_rng(0).normal(size=(3, 3))  # square, as its transpose must not pass
FRAMES: dict[str, Callable[[np.ndarray], Any]] = {
    "pandas": pd.DataFrame,
    "nullable": lambda x: pd.DataFrame(x).convert_dtypes(),
    "polars": pl.DataFrame,
    "pyarrow": lambda x: pa.table({f"c{k}": column for k, column in enumerate(x.T)}),
}
frames = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


@frames
def test_matrix_is_that_of_the_rows(frame: Callable[[np.ndarray], Any]) -> None:
    np.testing.assert_array_equal(matrix_of(frame(ROWS)).astype(float), ROWS)
    both = unframed([frame(ROWS), ROWS])
    np.testing.assert_array_equal(np.asarray(both, dtype=float), [ROWS, ROWS])
    assert unframed({"a": 1}) == {"a": 1}


@frames
def test_vectors_of_rows(frame: Callable[[np.ndarray], Any]) -> None:
    model = pgnn.Mixture(1, {"x": pgnn.Gaussian}, shapes={"x": (3,)})
    data = np.concatenate([ROWS, -2 * ROWS])
    expected = model.fit({"x": data}, progress=False).log_prob({"x": ROWS})
    fitted = model.fit({"x": frame(data)}, progress=False)
    torch.testing.assert_close(fitted.log_prob({"x": frame(ROWS)}), expected)
    assert fitted.query("component", {"x": frame(ROWS)})["component"].probs.shape == (3, 1)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@frames
def test_vectors_over_time(frame: Callable[[np.ndarray], Any]) -> None:
    model = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}, shapes={"x": (3,)})
    rows = np.random.default_rng(1).normal(size=(2, 40, 3))
    model.fit({"x": rows}, learner=pgnn.EM(max_iterations=2), progress=False, seed=0)
    expected = model.log_prob({"x": [ROWS, 2 * ROWS]})
    got = model.log_prob({"x": [frame(ROWS), frame(2 * ROWS)]})
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(model.log_prob({"x": frame(ROWS)}), expected[0])


@frames
def test_arrays_of_states(frame: Callable[[np.ndarray], Any]) -> None:
    model = pgnn.RestrictedBoltzmannMachine(3, 2, weight=ROWS[:, :2])
    states = (ROWS > 0).astype(np.int64)
    expected = model.log_prob({"visible": states})
    torch.testing.assert_close(model.log_prob({"visible": frame(states)}), expected)


@pytest.mark.parametrize("frame", [*FRAMES.values(), np.ndarray.tolist], ids=[*FRAMES, "list"])
def test_inputs_of_networks(frame: Callable[[np.ndarray], Any]) -> None:
    torch.manual_seed(0)
    scores = pgnn.NeuralScores(nn.Linear(3, 2).double(), "x")
    field = pgnn.ConditionalRandomField(["a", "b"], scores=scores)
    for labels, pack in (([*"aba"], lambda x: x), ([[*"aba"]] * 2, lambda x: [x, x])):
        expected = field.log_prob(labels, inputs={"x": pack(ROWS)})
        torch.testing.assert_close(
            field.log_prob(labels, inputs={"x": pack(frame(ROWS))}), expected
        )
    ctc = pgnn.CTC(["a", "b"])
    expected = ctc.log_prob(["a"], inputs={"x": ROWS})
    torch.testing.assert_close(ctc.log_prob(["a"], inputs={"x": frame(ROWS)}), expected)
    vae = pgnn.VAE(nn.Linear(6, 4), nn.Linear(5, 3), pgnn.NormalHead((3,), 1.0), 2, inputs="c")
    expected = vae.anomaly_score(ROWS, {"c": ROWS}, seed=0, draws=2)
    torch.testing.assert_close(
        vae.anomaly_score(ROWS, {"c": frame(ROWS)}, seed=0, draws=2), expected
    )


def test_masked_inputs_are_refused_where_networks_read_them() -> None:
    masked = np.ma.array(ROWS, mask=ROWS > 0.3)
    field = pgnn.ConditionalRandomField(
        ["a", "b"], scores=pgnn.NeuralScores(nn.Linear(3, 2).double(), "x")
    )
    vae = pgnn.VAE(nn.Linear(6, 4), nn.Linear(5, 3), pgnn.NormalHead((3,), 1.0), 2, inputs="c")
    for call in (
        lambda: field.log_prob([*"aba"], inputs={"x": masked}),
        lambda: field.log_prob([[*"aba"]], inputs={"x": [masked]}),
        lambda: pgnn.CTC(["a", "b"]).log_prob(["a"], inputs={"x": masked}),
        lambda: vae.anomaly_score(ROWS, {"c": masked}),
        lambda: vae.encode(ROWS, {"c": masked}),
        lambda: vae.decode(ROWS[:, :2], {"c": masked}),
    ):
        with pytest.raises(pgnn.EvidenceError, match=r"^input '.' has masked cells"):
            call()


@frames
def test_columns_of_single_values(frame: Callable[[np.ndarray], Any]) -> None:
    states, numbers = np.array([[1], [0], [1], [1], [0]]), ROWS.reshape(-1, 1)[:5]
    rain = pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]})
    got = rain.query("b", {"a": frame(states)})["b"].probs
    torch.testing.assert_close(got, rain.query("b", {"a": states[:, 0]})["b"].probs)
    pair = pgnn.BayesianNetwork([("a", "b")]).fit({"a": frame(states), "b": [0, 0, 1, 1, 0]})
    torch.testing.assert_close(
        pair.conditionals["a"].probs.detach(), torch.tensor([0.4, 0.6]).double()
    )
    data = {"class": frame(states), "x": frame(numbers)}
    bayes = pgnn.NaiveBayes(2, {"x": pgnn.Gaussian}).fit(data)
    plain = pgnn.NaiveBayes(2, {"x": pgnn.Gaussian}).fit(
        {n: np.asarray(x).ravel() for n, x in (("class", states), ("x", numbers))}
    )
    assert bayes.variables["x"].shape == ()
    torch.testing.assert_close(bayes.conditionals["x"].mean, plain.conditionals["x"].mean)
    torch.testing.assert_close(
        bayes.log_prob(data), plain.log_prob({"class": states[:, 0], "x": numbers[:, 0]})
    )


@frames
def test_columns_over_time(frame: Callable[[np.ndarray], Any]) -> None:
    chain = pgnn.HiddenMarkovModel(
        2, {"r": [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]]}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]]
    )
    states = np.array([[0], [2], [1], [1]])
    expected = chain.log_prob({"r": states[:, 0]})
    torch.testing.assert_close(chain.log_prob({"r": frame(states)}), expected)
    both = chain.log_prob({"r": [frame(states), frame(states)]})
    torch.testing.assert_close(both, expected.expand(2))
    field = pgnn.ConditionalRandomField(scores=pgnn.NeuralScores(nn.Linear(3, 3).double(), "x"))
    fitted = field.fit({"label": [frame(states[:3])]}, inputs={"x": [ROWS]}, progress=False)
    assert fitted.state.states == (0, 1, 2)


@frames
@given(weights=arrays(float, (3, 2), elements=st.floats(0.125, 1.0)))
def test_likelihoods(frame: Callable[[np.ndarray], Any], weights: np.ndarray) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]})
    expected = model.query("b", {"a": pgnn.likelihood(weights)})["b"].probs
    got = model.query("b", {"a": pgnn.likelihood(frame(weights))})["b"].probs
    torch.testing.assert_close(got, expected)
    chain = pgnn.HiddenMarkovModel(2, {"r": np.eye(2)}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]])
    torch.testing.assert_close(
        chain.log_prob({"r": pgnn.likelihood(frame(weights))}),
        chain.log_prob({"r": pgnn.likelihood(weights)}),
    )


def test_frames_of_fractions_are_likelihoods() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]})
    weights = np.array([[0.2, 0.8], [0.5, 0.5]])
    expected = model.query("b", {"a": weights})["b"].probs
    for frame in FRAMES.values():
        torch.testing.assert_close(model.query("b", {"a": frame(weights)})["b"].probs, expected)


def test_labels_of_weights_are_heeded() -> None:
    model = pgnn.BayesianNetwork(
        [("a", "b")],
        {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]},
        states={"a": ["no", "yes"], "b": 2},
    )
    expected = model.query("b", {"a": {"yes": 0.2, "no": 0.8}})["b"].probs
    turned = pd.Series([0.2, 0.8], index=["yes", "no"])
    rows = pd.DataFrame([[0.2, 0.8]], columns=["yes", "no"])
    polars = pl.DataFrame({"yes": [0.2], "no": [0.8]})
    for weights in (turned, rows, polars):
        got = model.query("b", {"a": pgnn.likelihood(weights)})["b"].probs
        torch.testing.assert_close(got.reshape(2), expected)
    other = pd.Series([0.5, 0.25], index=["no", "yes"])
    product = pgnn.likelihood(turned, other).values
    assert (product["yes"], product["no"]) == (0.05, 0.4)
    product = pgnn.likelihood(rows, rows[["no", "yes"]]).values
    np.testing.assert_allclose(product[["yes", "no"]], [[0.04, 0.64]])
    by_place = pgnn.likelihood(pd.Series([0.8, 0.2]))
    torch.testing.assert_close(model.query("b", {"a": by_place})["b"].probs, expected)


@pytest.mark.parametrize("labels", [["yes", "maybe"], ["x", "y"], ["no", "no"]])
def test_labels_of_weights_that_are_not_the_states_are_refused(labels: list[str]) -> None:
    model = pgnn.BayesianNetwork([], {"a": [0.3, 0.7]}, states={"a": ["no", "yes"]})
    with pytest.raises(pgnn.EvidenceError, match="which are not its states"):
        model.log_prob({"a": pgnn.likelihood(pd.Series([0.2, 0.8], index=labels))})
    with pytest.raises(pgnn.EvidenceError, match="must have the same labels"):
        pgnn.likelihood(pd.Series([0.2, 0.8], index=labels), pd.Series([0.2, 0.8]))
