"""CSV files in partitions are read as single files are."""

from pathlib import Path

import pandas as pd
import pytest

import pgnn
from pgnn.io import row_partitions
from pgnn.io.row_partitions import read_partitions

pytest.importorskip("dask.dataframe")

VARIABLES = {name: pgnn.Variable(name, ["yes", "no"]) for name in ("asia", "tub")}

FILES = [
    (["asia,tub\nyes,\n\nno,no\n"], [["yes", None], ["no", "no"]]),
    (["\n\nasia,tub\nyes,no\n", "asia,tub\nno,no\n"], [["yes", "no"], ["no", "no"]]),
    (["asia,tub\nyes,no\n", "\ntub,asia\nno,yes\n"], [["yes", "no"], ["yes", "no"]]),
    (["asia\nyes\n\nno\n"], [["yes"], [None], ["no"]]),
    (["\nasia\nyes\n", "asia\nyes\n\nno\n"], [["yes"], ["yes"], [None], ["no"]]),
    (["\r\nasia,tub\r\nyes,no\r\n\r\nno,no\r\n"], [["yes", "no"], ["no", "no"]]),
]


def rows(folder: Path, texts: list[str]) -> pd.DataFrame:
    for k, text in enumerate(texts):
        (folder / f"{k}.csv").write_bytes(text.encode())
    frame = read_partitions(str(folder / "*.csv"), VARIABLES)
    return frame.compute(scheduler="synchronous")


@pytest.mark.parametrize(("texts", "expected"), FILES)
def test_empty_lines(texts: list[str], expected: list[list[str | None]], tmp_path: Path) -> None:
    found = rows(tmp_path, texts)
    found = found[sorted(found.columns)].astype(object)
    assert found.where(found.notna(), None).to_numpy().tolist() == expected


@pytest.mark.parametrize(("line", "cells"), [("yes", 1), ("yes,no,no", 3)])
def test_lines_with_too_few_or_too_many_cells(line: str, cells: int, tmp_path: Path) -> None:
    with pytest.raises(pgnn.DataError, match=f"0.csv: line 2: expected 2 cells.*got {cells}"):
        rows(tmp_path, [f"asia,tub\n{line}\nno,no\n"])


def test_blocks_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_partitions, "_BLOCK", 40)
    lines = [f"{'yes' if k % 3 else 'no'},{'' if k % 4 else 'no'}" for k in range(50)]
    found = rows(tmp_path, ["asia,tub\n" + "\n".join(lines)])
    assert [",".join(row) for row in found.fillna("").to_numpy()] == lines


def test_packed_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"asia": ["yes", "no"], "tub": ["no", "yes"]})
    frame.to_csv(tmp_path / "0.csv.gz", index=False)
    found = read_partitions(str(tmp_path / "*.csv.gz"), VARIABLES)
    assert found.compute(scheduler="synchronous").to_numpy().tolist() == frame.to_numpy().tolist()
