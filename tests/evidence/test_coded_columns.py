"""Frames, mappings and matrices as state codes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn.errors import DataError
from pgnn.evidence.coded_columns import BLOCK, CodedColumns
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.factors import Variable

SMOKE = Variable("smoke", ["no", "yes"])
AGE = Variable("age", [20, 30, 40])
KIND = Variable("kind", 3)
FLAG = Variable("flag", [False, True])
EXPECTED = [[0, 2, 1, 1], [1, 0, 0, 0], [-1, 1, 2, 1], [1, -1, -1, -1]]


def coded(variables: list[Variable], data: Any) -> CodedColumns:
    return EvidenceReader(variables).columns(data)


def codes_of(variables: list[Variable], data: Any) -> np.ndarray:
    table = coded(variables, data)
    return table.block(0, table.num_rows).T


def columns() -> dict[str, list[Any]]:
    return {
        "smoke": ["no", "yes", None, "yes"],
        "age": [40, 20, 30, None],
        "kind": [1, 0, 2, None],
        "flag": [True, False, True, None],
    }


def categorical() -> pd.DataFrame:
    frame = pd.DataFrame(columns())
    frame["smoke"] = pd.Categorical(frame["smoke"], ["never", "yes", "no"])  # "never" not used
    frame["age"] = pd.Categorical(frame["age"], [20, 30, 40])
    frame["kind"] = pd.Categorical(frame["kind"], [2, 1, 0])
    return frame


FORMS: dict[str, Callable[[], Any]] = {
    "lists": columns,
    "tuples": lambda: {k: tuple(c) for k, c in columns().items()},
    "object frame": lambda: pd.DataFrame(columns(), dtype=object),
    "frame with floats": lambda: pd.DataFrame(columns()),
    "frame in another order": lambda: pd.DataFrame(columns())[["flag", "kind", "smoke", "age"]],
    "extension types": lambda: pd.DataFrame(columns()).convert_dtypes(),
    "categorical": categorical,
    "own index": lambda: pd.DataFrame(columns(), index=[7, 7, 8, 9]),
    "another library": lambda: polars.DataFrame(columns()),
    "another library, of categories": lambda: polars.DataFrame(columns()).with_columns(
        polars.col("smoke").cast(polars.Categorical)
    ),
    "rows": lambda: pd.DataFrame(columns(), dtype=object).to_dict("records"),
    "series": lambda: {k: pd.Series(c) for k, c in columns().items()},
    "bare categoricals": lambda: {**columns(), "smoke": pd.Categorical(columns()["smoke"])},
    "indices in tensors": lambda: {
        "smoke": torch.tensor([0, 1, -1, 1]),
        "age": pgnn.codes(torch.tensor([2, 0, 1, -1], dtype=torch.int8)),
        "kind": np.array([1.0, 0.0, 2.0, np.nan]),
        "flag": np.array([1, 0, 1, -1]),
    },
    "matrix": lambda: pgnn.codes(np.array(EXPECTED)),
    "matrix of labels": lambda: np.array(
        [[0, 40, 1, 1], [1, 20, 0, 0], [-1, 30, 2, 1], [1] + [-1] * 3]
    ),
    "tensor": lambda: pgnn.codes(torch.tensor(EXPECTED, dtype=torch.int16)),
    "strided tensor": lambda: pgnn.codes(torch.tensor(EXPECTED).t().contiguous().t()),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_of_data(form: Callable[[], Any]) -> None:
    found = codes_of([SMOKE, AGE, KIND, FLAG], form())
    np.testing.assert_array_equal(found, EXPECTED)
    assert found.dtype == np.int32
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(
        EvidenceReader([SMOKE, AGE, KIND, FLAG]).read(form()).codes, EXPECTED
    )


def test_booleans_are_indices_unless_they_are_labels() -> None:
    array = np.array([True, False])
    backwards = Variable("x", [True, False])
    assert codes_of([backwards], {"x": array})[:, 0].tolist() == [0, 1]
    assert codes_of([Variable("x", 2)], {"x": array})[:, 0].tolist() == [1, 0]
    assert codes_of([Variable("x", 2)], torch.tensor([[True]]))[:, 0].tolist() == [1]


def test_cells_are_labels_in_frames_and_in_arrays() -> None:
    reversed_digits = Variable("x", [2, 1, 0])
    assert codes_of([reversed_digits], {"x": [2, 0]})[:, 0].tolist() == [0, 2]
    frame = pd.DataFrame({"x": np.array([2, 0])})
    assert codes_of([reversed_digits], frame)[:, 0].tolist() == [0, 2]
    assert codes_of([reversed_digits], {"x": np.array([2, 0])})[:, 0].tolist() == [0, 2]
    assert codes_of([reversed_digits], np.array([[2], [0]]))[:, 0].tolist() == [0, 2]
    plain = pgnn.codes({"x": np.array([2, 0])})
    assert codes_of([reversed_digits], plain)[:, 0].tolist() == [2, 0]


@given(seed=st.integers(0, 10**6), size=st.integers(1, 300), block=st.integers(1, 80))
def test_blocks_are_pieces_of_the_whole(seed: int, size: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    variables = [Variable(f"v{k}", [f"s{i}" for i in range(rng.integers(1, 5))]) for k in range(4)]
    codes = np.stack([rng.integers(-1, v.num_states, size) for v in variables], axis=1)
    labels = {v.name: list(v.decode(codes[:, k])) for k, v in enumerate(variables)}
    frame = pd.DataFrame(labels, dtype=object).astype({"v1": "category", "v2": "str"})
    for data in (labels, frame, codes, torch.from_numpy(codes)):
        table = coded(variables, data)
        pieces = list(table.blocks(block))
        assert [start for start, _ in pieces] == list(range(0, size, block))
        np.testing.assert_array_equal(np.concatenate([p for _, p in pieces], axis=1), codes.T)


def test_some_variables_of_a_matrix() -> None:
    known = [SMOKE, Variable("dose"), AGE, KIND]
    matrix = np.array([[1, 99, 2, 0], [0, -7, 1, 2]])
    reader = EvidenceReader(known)
    codes = reader.columns(pgnn.codes(matrix), ["kind", "smoke"]).block(0, 2)
    np.testing.assert_array_equal(codes, [[0, 2], [1, 0]])
    frame = pd.DataFrame({"dose": [0.3, 0.1], "smoke": ["no", "yes"]})
    assert reader.columns(frame, ["smoke"]).block(0, 2).tolist() == [[0, 1]]


def long_matrix() -> np.ndarray:
    matrix = np.zeros((BLOCK + 10, 2), dtype=np.int64)
    matrix[BLOCK + 3, 1] = 2**32 + 1
    return matrix


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"smoke": ["no"]}, "no column 'kind'.*EM"),
        (
            {"smoke": ["no"], "kinds": [1]},
            "^unknown column 'kinds'; did you mean 'kind'",
        ),
        (
            pd.DataFrame({"smoke": ["no"], "kind": [1], "x": [1]}),
            r"unknown column 'x'.*pgnn.observed\(data, ignore=\['x'\]\)",
        ),
        (
            {"smoke": ["no", "yes", "yess", "yess"], "kind": [0, 1, 2, 0]},
            r"column 'smoke', row 2: .*no state 'yess'.*'yes'\? \(1 more rows",
        ),
        (
            {"smoke": pd.Categorical(["no", "yess"]), "kind": [0, 1]},
            "column 'smoke', row 1: .*no state 'yess'",
        ),
        ({"smoke": ["no"], "kind": [3]}, "column 'kind', row 0: .*no state 3"),
        ({"smoke": ["no"], "kind": [0.5]}, "column 'kind', row 0: .*no state 0.5"),
        (
            {"smoke": ["no"], "kind": np.array([0.5])},
            "column 'kind', row 0: no state 0.5; .* fractional",
        ),
        (
            {"smoke": ["no"] * 2, "kind": torch.tensor([0, 3])},
            r"row 1: .* index 3 .* range 0..2",
        ),
        (
            {"smoke": ["no"] * 2, "kind": np.array([0, -2])},
            r"row 1: .* index -2 .* range 0..2",
        ),
        ({"smoke": ["no"], "kind": [1, 2]}, r"same number of rows, got \{'smoke': 1, 'kind': 2\}"),
        ({"smoke": [], "kind": []}, "no rows"),
        (pd.DataFrame({"smoke": [], "kind": []}), "no rows"),
        (np.zeros((0, 2), dtype=int), "no rows"),
        (np.zeros((3, 3), dtype=int), r"shape \(N, 2\), columns in the order \['smoke', 'kind'\]"),
        (np.zeros((3, 2)), "integer state indices.*got float64.*data frame"),
        (np.array([["no", "1"]]), "integer state indices.*got <U2.*data frame"),
        (
            np.array([[0, 0], [1, 3]]),
            r"row 1: .*index 3 of 'kind' is out of range 0..2",
        ),
        (torch.tensor([[0, 0], [-2, 0]]), "column 'smoke', row 1: .*state index -2"),
        (long_matrix(), f"column 'kind', row {BLOCK + 3}: .*state index 4294967297"),
        ({"smoke": "no", "kind": [1]}, "column 'smoke' must be a sequence .*got 'no'"),
        ({"smoke": 1, "kind": [1]}, "column 'smoke' must be a sequence .*got 1"),
        ({"smoke": np.zeros((2, 2)), "kind": [1]}, r"shape \(N,\), got \(2, 2\)"),
        ({"smoke": [["no"]], "kind": [1]}, r"'smoke' has shape \(1, 1\); expected \(B,\) states"),
        ([["no", 1]], "expected a DataFrame, a mapping.*got list"),
        (
            pd.DataFrame([["no", 1, 1]], columns=["smoke", "kind", "kind"]),
            "column 'kind' occurs twice in the data frame; keep one",
        ),
    ],
)
def test_wrong_data(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        codes_of([SMOKE, KIND], data)


def test_unknown_categories_that_no_row_has() -> None:
    column = pd.Categorical(["yes", None], ["maybe", "yes", "no"])
    assert codes_of([SMOKE], {"smoke": column})[:, 0].tolist() == [1, -1]


def test_data_stay_as_they_are() -> None:
    frame, tensor = categorical(), torch.tensor(EXPECTED)
    codes_of([SMOKE, AGE, KIND, FLAG], frame)
    codes_of([SMOKE, AGE, KIND, FLAG], pgnn.codes(tensor))
    pd.testing.assert_frame_equal(frame, categorical())
    assert torch.equal(tensor, torch.tensor(EXPECTED))
