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

import pgnn
from pgnn.cli import predict
from pgnn.cli.inputs import check_output
from tests.cli.commands import run

pytest.importorskip("pyarrow")
PACKED = {"csv": bytes, "csv.gz": gzip.compress, "csv.bz2": bz2.compress}
ONE = "smoke\nyes\n\nno\n"
SEVERAL = "smoke,lung\nyes,\n\nno,\n"


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("text", [ONE, SEVERAL])
def test_impute_reads_a_pipe_once(asia: Path, tmp_path: Path, text: str) -> None:
    table, pipe = tmp_path / "rows.csv", tmp_path / "rows"
    table.write_text(text)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()
    assert run("impute", asia, pipe, "--to", tmp_path / "piped.csv") == 0
    writer.join(timeout=10)
    assert run("impute", asia, table, "--to", tmp_path / "read.csv") == 0
    assert (tmp_path / "piped.csv").read_text() == (tmp_path / "read.csv").read_text()
    assert len(pd.read_csv(tmp_path / "read.csv")) == (3 if text == ONE else 2)


def test_columns_named_as_pandas_names_missing_cells(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("smoke,NA,NA\nyes,1,2\n")
    words = ("impute", asia, table, "--ignore", "NA", "--ignore", "NA.1")
    assert run(*words) == 1
    assert "rows.csv: two columns have the name 'NA'" in capsys.readouterr().err
    table.write_text("asia,NA\n,1\n")
    assert run("impute", asia, table, "--ignore", "NA") == 0
    assert capsys.readouterr().out == "asia,NA\nno,1\n"


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".gz", ""])
def test_what_pandas_packs_is_written(asia: Path, tmp_path: Path, ending: str) -> None:
    table, to = tmp_path / "rows.csv", tmp_path / f"out{ending}"
    table.write_text(SEVERAL)
    for words in (["sample", asia, "-n", 2, "--seed", 0], ["impute", asia, table]):
        assert run(*words, "--to", to) == 0
        assert len(pd.read_csv(to)) == 2


@pytest.mark.parametrize("ending", [".json.gz", ".parquet.xz", ".tar"])
def test_packed_files_of_other_formats_are_refused(
    asia: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, to = tmp_path / "rows.csv", tmp_path / f"out{ending}"
    table.write_text(SEVERAL)
    for words in (["sample", asia], ["impute", asia, table]):
        assert run(*words, "--to", to) == 1
        told = capsys.readouterr().err
        assert f"expected a file that ends in .csv or .csv.gz, got {ending}" in told
    assert run("predict", asia, table, "--to", tmp_path / "out.csv.gz") == 1
    assert "ends in .csv or .parquet or .pq, got .gz" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["asia.bif", "rows.csv"]


def test_addresses_are_no_folders(
    asia: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending in ("csv", "parquet"):
        check_output(f"s3://bucket/x.{ending}", ("csv", "parquet"), "rows.csv", addresses=True)
    with pytest.raises(pgnn.DataError, match=r"got \.json"):
        check_output("s3://bucket/x.json", ("csv", "parquet"), addresses=True)
    words = ("predict", asia, asia, "--to", "s3://bucket/x.parquet")
    assert run(*words) == 1
    assert "there is no folder" in capsys.readouterr().err
    asked: list[object] = []
    monkeypatch.setattr(predict, "_distribute", lambda *words: asked.extend(words))
    assert run(*words, "--dask", "tcp://head:8786") == 0
    assert len(asked) == 4
