"""Integer labels that floating point numbers round are exact, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pgnn
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.frames import matrix_of

BIG = 2**53
LABELS = [BIG, BIG + 1, BIG + 2]  # the second is rounded to the first
CELLS = [BIG + 1, None, BIG + 2]


def network(labels: list[Any]) -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(
        [("a", "c")],
        {"a": [0.5, 0.5], "c": [[0.1, 0.3, 0.6], [0.6, 0.1, 0.3]]},
        states={"a": 2, "c": labels},
    )


def posterior(labels: list[Any], found: Any) -> list[float]:
    return network(labels).query("a", {"c": found})["a"].probs[..., 1].reshape(-1).tolist()


@pytest.mark.parametrize(
    "cells",
    [
        CELLS,
        pd.Series(CELLS, dtype="Int64"),
        pd.Series(CELLS, dtype=object),
        pd.Series([None if x is None else str(x) for x in CELLS]),
        pl.Series(CELLS),
        pa.array(CELLS),
        np.ma.masked_array([BIG + 1, 0, BIG + 2], mask=[False, True, False]),
        np.array(CELLS, dtype=object),
    ],
    ids=lambda x: type(x).__module__,
)
@pytest.mark.parametrize("labels", [LABELS, [*map(str, LABELS)]])
def test_containers_that_hold_integers_are_exact(labels: list[Any], cells: Any) -> None:
    assert posterior(labels, cells) == pytest.approx([1 / 4, 1 / 2, 1 / 3])


@pytest.mark.parametrize("many", [1, 200])
@pytest.mark.parametrize(
    "make", [pd.Series, np.array, pl.Series, lambda x: x], ids=["pandas", "numpy", "polars", "list"]
)
def test_rounded_labels_are_refused(make: Any, many: int) -> None:
    cells = make([float(BIG + 1), np.nan, float(BIG + 2)] * many)
    for labels in (LABELS, [*map(str, LABELS)]):
        with pytest.raises(pgnn.EvidenceError, match=r"exact below 2\*\*53 only.*; give integers"):
            posterior(labels, cells)


def test_one_rounded_label_is_refused() -> None:
    for value in (float(BIG), np.float64(BIG), np.array(float(BIG))):
        with pytest.raises(pgnn.EvidenceError, match="may be another label than 9007199254740992"):
            posterior(LABELS, value)


def test_labels_that_are_floats_and_small_ones_are_as_they_were() -> None:
    floats = [1e20, 2e20, 3e20]
    assert posterior(floats, pd.Series([2e20, np.nan])) == pytest.approx([1 / 4, 1 / 2])
    small = [BIG - 3, BIG - 2, BIG - 1]
    assert posterior(small, pd.Series([BIG - 2, None])) == pytest.approx([1 / 4, 1 / 2])


def test_states_of_columns_with_holes() -> None:
    for column in (CELLS, pd.Series(CELLS, dtype="Int64"), pl.Series(CELLS), pa.array(CELLS)):
        assert pgnn.states_of({"c": column})["c"].states == (BIG + 1, BIG + 2)
    with pytest.raises(pgnn.DataError, match="column 'c' has floating point numbers from 2"):
        pgnn.states_of({"c": pd.Series(CELLS)})


def test_files_are_exact(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"a,c\n,{BIG + 1}\n0,\n1,{BIG}\n")
    network(LABELS).impute(table, to=tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == (f"a,c\n0,{BIG + 1}\n0,{BIG + 2}\n1,{BIG}\n")


def test_columns_of_frames_are_as_exact_as_series() -> None:
    column = pd.Series(CELLS, dtype="Int64")
    array = pgnn.Variable("c", LABELS, shape=(2,))
    model = pgnn.MarkovRandomField([pgnn.TabularPotential([pgnn.Variable("c", LABELS)], [1, 2, 3])])
    for frame in (column.to_frame("c"), pd.DataFrame({"c": column})):
        assert model.log_prob(frame).exp().tolist() == pytest.approx([2 / 6, 1, 3 / 6])
    cells = matrix_of(pd.DataFrame({"first": column, "second": column})).tolist()
    assert cells == [[BIG + 1] * 2, [None] * 2, [BIG + 2] * 2]
    codes = EvidenceReader([array]).read({"c": pd.DataFrame({0: column, 1: column})}).codes
    assert codes.tolist() == [[1, 1], [-1, -1], [2, 2]]
