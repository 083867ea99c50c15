"""CSV files in partitions are read as single files are."""

import re
from pathlib import Path

import pandas as pd
import pytest

import pgnn
from pgnn.io import file_block
from pgnn.io.row_partitions import PartitionAnswer, read_partitions

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
    monkeypatch.setattr(file_block, "_BYTES", 40)
    lines = [f"{'yes' if k % 3 else 'no'},{'' if k % 4 else 'no'}" for k in range(50)]
    found = rows(tmp_path, ["asia,tub\n" + "\n".join(lines)])
    assert [",".join(row) for row in found.fillna("").to_numpy()] == lines


@pytest.mark.parametrize("line", [2, 3, 9, 30, 51])
@pytest.mark.parametrize("cells", ["yes", "yes,no,no"])
def test_lines_are_those_of_the_file(
    line: int, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_block, "_BYTES", 40)
    lines = ["asia,tub", *[f"{'yes' if k % 3 else 'no'},no" for k in range(50)]]
    lines[line - 1] = cells
    with pytest.raises(pgnn.DataError, match=f"0.csv: line {line}: expected 2 cells") as caught:
        rows(tmp_path, ["\n".join(lines)])
    assert caught.value.line == line


@pytest.mark.parametrize("line", [2, 9, 30, 51])
def test_rows_are_counted_from_a_line_of_the_file(
    line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_block, "_BYTES", 40)
    model = pgnn.BayesianNetwork(
        [("asia", "tub")],
        {"asia": [0.5, 0.5], "tub": [[0.5, 0.5], [0.2, 0.8]]},
        states={name: v.states or () for name, v in VARIABLES.items()},
    )
    lines = ["asia,tub", *[f"{'yes' if k % 3 else 'no'}," for k in range(50)]]
    lines[line - 1] = "maybe,"
    (tmp_path / "0.csv").write_text("\n".join(lines))
    frame = read_partitions(str(tmp_path / "0.csv"), VARIABLES)
    answer = PartitionAnswer(model, ["tub"])
    with pytest.raises(pgnn.EvidenceError) as caught:
        [answer(part.compute(scheduler="synchronous")) for part in frame.to_delayed()]
    told = re.match(
        r"0.csv, rows from line (\d+) on: column 'asia', row (\d+): ", str(caught.value)
    )
    assert told is not None
    assert int(told[1]) + int(told[2]) == line
    lines[line - 1] = "yes,"
    (tmp_path / "0.csv").write_text("\n".join(lines))
    found = answer(frame.compute(scheduler="synchronous"))
    assert (len(found), found.attrs) == (50, {})


def test_packed_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"asia": ["yes", "no"], "tub": ["no", "yes"]})
    frame.to_csv(tmp_path / "0.csv.gz", index=False)
    found = read_partitions(str(tmp_path / "*.csv.gz"), VARIABLES)
    assert found.compute(scheduler="synchronous").to_numpy().tolist() == frame.to_numpy().tolist()
