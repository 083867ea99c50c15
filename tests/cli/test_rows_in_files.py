"""Tables of rows that are packed, end their lines in other ways, or come through pipes."""

import bz2
import gzip
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pgnn.cli import main

pytest.importorskip("pyarrow")
PACKED = {"csv": bytes, "csv.gz": gzip.compress, "csv.bz2": bz2.compress}
ONE = "smoke\nyes\n\nno\n"
SEVERAL = "smoke,lung\nyes,\n\nno,\n"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def predicted(asia: Path, table: Path) -> list[float]:
    to = table.parent / "out.csv"
    assert run("predict", asia, table, "-t", "lung", "--to", to) == 0
    return [float(p) for p in pd.read_csv(to)["lung=yes"]]


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_empty_lines_of_packed_files_and_of_all_line_ends(
    asia: Path, tmp_path: Path, ending: str, line_end: str
) -> None:
    table = tmp_path / f"rows.{ending}"
    for text, expected in [
        (ONE, [0.1, 0.055, 0.01]),  # of one column an empty line is a row
        (ONE.replace("\n\n", "\n"), [0.1, 0.01]),
        ('"smoke"' + ONE.removeprefix("smoke"), [0.1, 0.055, 0.01]),
        ("\ufeff" + ONE, [0.1, 0.055, 0.01]),
        (SEVERAL, [0.1, 0.01]),
        (SEVERAL.replace("\n\n", "\n"), [0.1, 0.01]),
        ('"smoke","lung"' + SEVERAL.removeprefix("smoke,lung"), [0.1, 0.01]),
    ]:
        table.write_bytes(PACKED[ending](text.replace("\n", line_end).encode()))
        np.testing.assert_allclose(predicted(asia, table), expected, atol=1e-12)


@pytest.mark.parametrize("text", [ONE, SEVERAL])
def test_a_stream_whose_lines_end_in_cr(
    asia: Path, text: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    stream = io.BytesIO(text.replace("\n", "\r").encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    assert run("predict", asia, "-", "-t", "lung") == 0
    found = pd.read_csv(io.BytesIO(capfdbinary.readouterr().out))["lung=yes"]
    expected = [0.1, 0.055, 0.01] if text == ONE else [0.1, 0.01]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_file_that_is_not_packed_as_it_ends(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv.gz"
    table.write_text(ONE)
    assert run("predict", asia, table, "-t", "lung") == 1
    told = capsys.readouterr().err
    assert "rows.csv.gz: cannot be read: " in told
    assert "is it packed as it ends?" in told


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_predict_reads_a_pipe_once(asia: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "rows"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(ONE,), daemon=True)
    writer.start()
    np.testing.assert_allclose(predicted(asia, pipe), [0.1, 0.055, 0.01], atol=1e-12)
    writer.join(timeout=10)
