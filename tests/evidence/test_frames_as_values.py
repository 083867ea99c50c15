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
