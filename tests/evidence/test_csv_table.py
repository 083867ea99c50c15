"""CSV files are read once, also where the last column has blank cells."""

import io
from pathlib import Path
from typing import Any

import pytest

import pgnn
from pgnn.evidence import csv_table as module
from pgnn.evidence.csv_table import csv_table

NAMES = {name: pgnn.Variable(name, ["no", "yes"]) for name in "abc"}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_cells_at_the_end_are_read_once(
    end: str, is_stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: object) -> None:
        raise AssertionError("the file is read twice")

    monkeypatch.setattr(module, "_check_cells", again)
    text = end.join(["a,b,c", "yes,no,", "", "no,,", "no,no,yes", ""])
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode())
    source: Any = io.BytesIO(text.encode()) if is_stream else path
    found = csv_table(source, NAMES)
    assert found.fillna("").to_numpy().tolist() == [
        ["yes", "no", ""],
        ["no", "", ""],
        ["no", "no", "yes"],
    ]


@pytest.mark.parametrize(
    ("rows", "line", "cells"),
    [
        ("yes,no,\nno,no\n", 3, 2),
        ('"yes",no\nno,no,yes\n', 2, 2),
        ("yes,no,yes,\nno,no\n", 3, 2),  # the separator at the end makes up for the missing one
        ('"y,n",no\nno,no,\n', 2, 2),  # and that in quotes
    ],
)
def test_short_lines_are_found(rows: str, line: int, cells: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n" + rows)
    with pytest.raises(pgnn.DataError, match=f"line {line}: expected 3 cells.*got {cells}"):
        csv_table(path, NAMES)
