"""Labels, indices and what counts as missing."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from pgnn.errors import EvidenceError, Intractable, ModelError
from pgnn.factors.variable import Variable

RAIN = Variable("rain", ["no", "yes"])
DICE = Variable("dice", [1, 2, 3])
FLAG = Variable("flag", [True, False])


@pytest.mark.parametrize("state", ["yes", 1, 1.0, np.int64(1), np.float32(1)])
def test_labels_and_indices_where_no_label_is_a_number(state: object) -> None:
    assert RAIN.index(state) == 1


def test_numbers_are_labels_where_a_label_is_a_number() -> None:
    assert DICE.index(1) == 0
    with pytest.raises(EvidenceError, match=r"no state 0; known: 1, 2, 3; or pgnn\.codes"):
        DICE.index(0)


def test_integers_mean_the_same_in_every_container() -> None:
    np.testing.assert_array_equal(DICE.encode(np.array([1, 3])), [0, 2])
    np.testing.assert_array_equal(DICE.encode(torch.tensor([1, 3, -1])), [0, 2, -1])
    np.testing.assert_array_equal(DICE.encode([1, 3]), [0, 2])
    np.testing.assert_array_equal(DICE.encode(pd.Series([1, 3])), [0, 2])


def test_booleans() -> None:
    assert FLAG.index(True) == 0
    np.testing.assert_array_equal(FLAG.encode(np.array([True, False])), [0, 1])
    np.testing.assert_array_equal(RAIN.encode(np.array([True, False])), [1, 0])
    assert RAIN.index(True) == 1
    with pytest.raises(EvidenceError, match=r"'yes' or the state index 1, 'no'; .*codes\(1\)"):
        Variable("rain", ["yes", "no"]).index(True)
    with pytest.raises(EvidenceError, match=r"'positive' or the state index 1, 'negative'"):
        Variable("test", ["positive", "negative"]).index(True)
    with pytest.raises(EvidenceError, match=r"False for 'c' is none of its states 'a', 'b'"):
        Variable("c", ["a", "b"]).encode(np.array([False, True]))
    assert Variable("rain", ["TRUE", "FALSE"]).index(True) == 0
    assert Variable("rain", ["TRUE", "FALSE"]).index(1) == 1
    for only in (Variable("x", ["no", True]), DICE):
        with pytest.raises(EvidenceError, match="no state False"):
            only.index(False)


def test_labels_that_spell_numbers() -> None:
    spelled, numbers = Variable("x", ["1", "2"]), Variable("x", [1, 2.5])
    assert [spelled.index(x) for x in ("2", 2, 2.0, np.int64(2), True)] == [1, 1, 1, 1, 0]
    assert [numbers.index(x) for x in ("1", "2.5", 2.5)] == [0, 1, 1]
    np.testing.assert_array_equal(spelled.encode(np.array([2, 1, -1])), [1, 0, -1])
    np.testing.assert_array_equal(Variable("x", ["0", "1"]).encode(np.array([1, 0])), [1, 0])
    with pytest.raises(EvidenceError, match="no state 0; known: '1', '2'"):
        spelled.index(0)
    with pytest.raises(EvidenceError, match="no state '0_1'"):
        numbers.index("0_1")


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, -1])
def test_missing(value: object) -> None:
    assert RAIN.index(value) == DICE.index(value) == -1
    np.testing.assert_array_equal(RAIN.encode([value, "no"]), [-1, 0])


def test_categorical_columns() -> None:
    column = pd.Series(["yes", None, "no"], dtype=pd.CategoricalDtype(["yes", "no", "maybe"]))
    np.testing.assert_array_equal(RAIN.encode(column), [1, -1, 0])
    with pytest.raises(EvidenceError, match="no state 'maybe'"):
        RAIN.encode(pd.Series(["maybe"], dtype="category"))


def test_decode_undoes_encode() -> None:
    assert RAIN.decode(RAIN.encode(["yes", None, "no"])) == ("yes", None, "no")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([2**32]), "out of range"),
        (np.array([0, -2]), "index -2 of 'rain' is out of range"),
        (np.array([0.5]), "likelihood needs shape"),
        (torch.tensor([2]), "index 2 of 'rain' is out of range"),
        (["ye"], "did you mean 'yes'"),
        ([[["yes"], "no"]], "single values and lists"),
        ([float("inf")], "no state inf"),
        ([1.5], "no state 1.5"),
        ([5], "index 5 of 'rain' is out of range 0..1"),
        ([5], "no state 5; known: 'no', 'yes'; state index 5"),
    ],
)
def test_wrong_evidence(values: object, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        RAIN.encode(values)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ("no", "list of labels"),
        (2.0, "list of labels"),
        (True, "list of labels"),
        (0, "no states"),
        ([], "no states"),
        (["a", "b", "a"], "'a' of variable 'x' occurs twice"),
        ([["a"]], "hashable"),
    ],
)
def test_wrong_states(states: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Variable("x", states)  # type: ignore[arg-type]


def test_real_variables_have_no_states() -> None:
    height = Variable("height", shape=(3,))
    assert not height.is_discrete
    with pytest.raises(ModelError, match="'height' is real"):
        _ = height.num_states


def test_identity_survives_copies() -> None:
    for twin in (copy.deepcopy(RAIN), pickle.loads(pickle.dumps(RAIN))):
        assert twin == RAIN
        assert hash(twin) == hash(RAIN)
        assert twin.index("yes") == 1
    assert Variable("rain", ["yes", "no"]) != RAIN


def test_states_that_cannot_be():
    with pytest.raises(ModelError, match="must have an order; give a list"):
        Variable("x", {"no", "yes"})
    with pytest.raises(Intractable, match=r"1\.0 billion states"):
        Variable("x", 10**9)
    with pytest.raises(ModelError, match="state 99999 of variable 'x' occurs twice"):
        Variable("x", [*range(100_000), 99_999])
