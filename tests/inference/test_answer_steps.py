"""Answers over time as data frames with a row for each step."""

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn import EvidenceError

STATES = ["sun", "rain"]
MODEL = pgnn.HiddenMarkovModel(
    STATES, {"observed": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], [[0.7, 0.3], [0.4, 0.6]]
)
ONE, TWO = {"observed": [0, 1, 1]}, {"observed": [[0, 1, 1], [1, 0, 1]]}


def test_posteriors():
    answer = MODEL.query(None, ONE)
    frame = answer.frame(steps=True)
    assert frame.index.name == "step"
    assert frame.shape == (3, 4)
    np.testing.assert_allclose(frame["state"], answer["state"].probs)
    np.testing.assert_allclose(frame[("observed", 1)], [0.0, 1.0, 1.0])
    batch = MODEL.smooth(TWO)
    frame = batch.frame(steps=True)
    assert frame.index.names == ["row", "step"]
    assert len(frame) == 6
    np.testing.assert_allclose(frame.loc[1]["state"], batch["state"].probs[1])


def test_assignments():
    path = MODEL.decode(ONE)
    frame = path.frame(steps=True)
    assert list(frame.columns) == ["state"]
    assert list(frame["state"]) == list(path["state"])
    batch = MODEL.decode(TWO).frame(steps=True)
    assert batch.index.names == ["row", "step"]
    assert len(batch) == 6


def test_samples():
    drawn = MODEL.sample(2, {"T": 3}, seed=0)
    frame = drawn.frame(steps=True)
    assert frame.index.names == ["sample", "step"]
    assert list(frame.columns) == ["state", "observed"]
    expected = np.array(STATES)[drawn["state"][1].numpy()]
    assert list(frame.loc[1]["state"]) == list(expected)
    batch = MODEL.sample(2, TWO, seed=0)
    assert batch.frame(steps=True).index.names == ["sample", "row", "step"]
    real = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}, shapes={"x": (2,)})
    drawn = real.sample(2, {"T": 4}, seed=0)
    cells = drawn.frame(steps=True)
    assert len(cells) == 8
    np.testing.assert_allclose(cells.loc[(1, 2), "x"], drawn["x"][1, 2])


def test_a_frame_goes_in_and_a_frame_comes_out():
    days = pd.DataFrame({"observed": [0, 1, 1]}, index=["mon", "tue", "wed"])
    assert len(MODEL.smooth(days).frame(steps=True)) == 3


def test_variables_without_an_axis_are_refused():
    coin = pgnn.BayesianNetwork([], {"coin": [0.5, 0.5]})
    for answer in (coin.query(), coin.most_probable(), coin.sample(2)):
        with pytest.raises(EvidenceError, match="share a first axis"):
            answer.frame(steps=True)


def test_tables_of_some_variables():
    answer = MODEL.query(None, ONE)
    assert answer.table(("state", 1)).count("\n") == 1
    assert "observed" not in answer.table("state")
    with pytest.raises(EvidenceError, match="unknown variable"):
        answer.table("stat")
    with pytest.raises(EvidenceError, match="there is no row 3"):
        answer.table(row=3)


def test_rows_end_where_their_sequences_do() -> None:
    x = pgnn.Variable("x")
    states = pgnn.Variable("state", 2)
    normal = pgnn.Gaussian(x, [states], mean=[0.0, 3.0], covariance=[1.0, 1.0])
    model = pgnn.HiddenMarkovModel(2, {"x": normal}, initial=[0.5, 0.5],
                                   transitions=[[0.9, 0.1], [0.1, 0.9]])  # fmt: skip
    rows = {"x": np.array([0.1, 3.2, 0.2, 2.9, 3.1])}
    expected = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    for answer in (
        model.decode(rows, lengths=[2, 3]),
        model.smooth(rows, lengths=[2, 3]),
        model.filter(rows, lengths=[2, 3]),
    ):
        frame = answer.frame(steps=True)
        assert [*frame.index] == expected
        assert not frame.isna().any(axis=None)
    never = pgnn.HiddenMarkovModel(2, {"y": [[1.0, 0.0], [1.0, 0.0]]})
    gone = never.smooth({"y": [[0, 0], [0, 1, 0]]}, errors="nan").frame(steps=True)
    assert [*gone.index] == expected  # impossible rows keep their steps
    assert gone.isna().all(axis=1).tolist() == [False, False, True, True, True]
