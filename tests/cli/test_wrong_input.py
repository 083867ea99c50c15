"""What a command says about wrong input: one line, in words of the shell."""

import io
import json
import os
import stat
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import pgnn
from pgnn.cli import main
from pgnn.errors import AdvisedWarning
from pgnn.io.source import draft_of
from tests.cli.commands import complaint, messages, run

PYTHON_WORDS = ("Traceback", "Error:", "error of pgnn", "pgnn.", "()", "=True", "encoding=")


@pytest.fixture
def folder(asia: Path, tmp_path: Path) -> Path:
    """Files of several kinds, and models of real variables and over time."""
    frame = pgnn.read(asia).sample(8, seed=0).frame()
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for ending in ("bif", "csv", "parquet", "safetensors"):
        (tmp_path / f"binary.{ending}").write_bytes(bytes(range(256)) * 4)
        (tmp_path / f"empty.{ending}").write_bytes(b"")
    x = np.linspace(-1.0, 1.0, 20)
    edges, parts = [("x", "y")], {"x": pgnn.Gaussian, "y": pgnn.LinearGaussian}
    real = pgnn.BayesianNetwork(edges, parts).fit({"x": x, "y": x**2}, progress=False)
    real.save(tmp_path / "real.safetensors")
    (tmp_path / "words.csv").write_text("x,y\n1,\n2,abc\n")
    regression = pgnn.LinearRegression("y", ["x"]).fit({"x": x, "y": x**2}, progress=False)
    regression.save(tmp_path / "line.safetensors")
    (tmp_path / "two.uai").write_text("BAYES\n1\n2\n1\n1 0\n\n2\n 0.5 0.5\n")
    (tmp_path / "two.evid").write_text("2\n1 0 1\n1 0 0\n")
    (tmp_path / "scaled.uai").write_text("BAYES\n1\n2\n1\n1 0\n\n2\n 1.0 3.0\n")
    return tmp_path


CASES = [
    (1, "query {asia} -e asia=maybe", "unknown state 'maybe' of 'asia'; known: 'yes', 'no'"),
    (1, "query {asia} --sample 3", "give --evidence-file, too"),
    (1, "query {asia} --engine KalmanFilter", "about linear dynamical systems"),
    (1, "query binary.bif", "Convert text to UTF-8"),
    (1, "query real.safetensors -e x=nan", "'x' takes a finite number, got 'nan'"),
    (1, "query real.safetensors -e x=1e400", "'x' takes a finite number, got '1e400'"),
    (1, "predict {asia} empty.csv", "expected the names of columns, got an empty file"),
    (1, "fit {asia} empty.csv --to o.bif", "expected the names of columns, got an empty file"),
    (1, "fit {asia} binary.parquet --to o.bif", "binary.parquet: expected a table of values"),
    (1, "impute {asia} empty.parquet", "empty.parquet: expected a table of values"),
    (1, "predict real.safetensors words.csv", "expected a number in column 2, got 'abc'"),
    (1, "fit real.safetensors words.csv --to o.bif", "got Series with 'abc' in row 1"),
    (
        1,
        "predict {asia} rows.csv -t lung --to /proc/o.csv",
        "/proc/o.csv: No such file or directory",
    ),
    (1, "predict {asia} rows.csv -t lung --engine MCMC", "got 8"),
    (1, "query {asia} --engine BranchAndBound", "BranchAndBound has no marginals; use --engine"),
    (1, "convert real.safetensors o.bif", "'x' is real and cannot be written as a table; write a"),
    (1, "query two.uai --evidence-file two.evid", "choose one by --evidence-row, from 0 to 1"),
    (1, "query line.safetensors -t y", "'x' has no distribution; observe it by -e x=VALUE"),
    (1, "fit {asia} rows.csv --to -", "has no ending that names a format"),
    (1, "convert {asia} -", "use pgnn convert FILE - --format NAME"),
    (1, "fit {asia} rows.csv --to o.bif --learner KMeans", "mixtures of normal distributions"),
    (1, "plot {asia} --to -", "expected a file, got standard output"),
    (1, "explore {asia} --port 99999", "--port must be from 0 to 65535, got 99999"),
    (1, "verify {asia} --cases 0", "--cases must be at least 1, got 0"),
    (1, "verify {asia} --seed -1", "seed must not be negative, got -1"),
    (1, "verify {asia} --tolerance -1", "--tolerance must not be negative, got -1"),
    (1, "verify real.safetensors", "'x' is real"),
    (2, "fit {asia} rows.csv --chow-liu --to o.bif", "--chow-liu stands in place of the file"),
    (2, "fit {asia} rows.csv --naive lung --to o.bif", "--naive stands in place of the file"),
]


@pytest.mark.parametrize(("code", "words", "said"), CASES)
def test_one_line_in_words_of_the_shell(
    code: int,
    words: str,
    said: str,
    folder: Path,
    asia: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    arguments = words.format(asia=asia).split()
    if code == 1:
        told = complaint(capsys, *arguments)
    else:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        told = messages(capsys.readouterr().err).splitlines()[-1]
    assert said in told
    assert not [w for w in PYTHON_WORDS if w in told.replace("KalmanFilter()", "")]
    assert not Path("o.bif").exists()


def test_a_structure_that_is_written_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert run("fit", "rows.csv", "--chow", "--to", "o.bif") == 0
    assert Path("o.bif").exists()


def test_warnings_name_options(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run("query", "scaled.uai") == 0
    told = messages(capsys.readouterr().err)
    assert told.endswith("; --normalise divides each row by its sum\n")
    with pytest.warns(AdvisedWarning, match="; normalise=True divides them by their sums"):
        pgnn.read("scaled.uai")


def test_sizes_and_differences_of_real_models(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run("info", "real.safetensors") == 0
    assert "nodes            2\n" in capsys.readouterr().out
    assert run("compare", "real.safetensors", "real.safetensors", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["edges"] == [1, 1]
    assert found["largest_difference_of_means"] == 0.0


def test_what_the_encoding_of_standard_output_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.bif"
    path.write_text(
        "variable \xf6 { type discrete [ 1 ] { x }; }\nprobability ( \xf6 ) { table 1; }"
    )
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert run("query", path) == 1
    told = messages(capsys.readouterr().err)
    assert told == (
        "pgnn: standard output takes ascii, which has no '\\xf6'; set PYTHONIOENCODING=utf-8\n"
    )


def test_a_device_or_pipe_is_written_and_not_replaced(tmp_path: Path, asia: Path) -> None:
    assert draft_of(Path(os.devnull)) == Path(os.devnull)
    assert draft_of(tmp_path / "new.csv") != tmp_path / "new.csv"
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    rows = tmp_path / "rows.csv"
    rows.write_text("asia,tub\nyes,\n")
    assert run("predict", asia, rows, "-t", "tub", "--to", pipe) == 0
    assert os.read(reader, 1000).decode().startswith('"tub=yes"')
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
