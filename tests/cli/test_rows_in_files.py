"""Tables of rows that are packed, end their lines in other ways, or come through pipes."""

import bz2
import gzip
import io
import json
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


def test_elements_of_arrays_have_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = [[1.0, -2.0], [0.5, 1.0], [0.0, 2.0]]
    pixels = pgnn.Variable("y", 2, shape=(3,))
    machine = pgnn.RestrictedBoltzmannMachine(
        pixels, 2, visible_bias=[0.3, -0.2, 0.8], hidden_bias=[0.1, 0.2], weight=weights
    )
    file, table, to = tmp_path / "m.safetensors", tmp_path / "rows.csv", tmp_path / "out.csv"
    machine.save(file)
    assert run("sample", file, "-n", 4, "--seed", 1, "--to", table) == 0
    drawn = pd.read_csv(table)
    assert list(drawn) == ["('y', 0)", "('y', 1)", "('y', 2)", "('hidden', 0)", "('hidden', 1)"]
    some = drawn[["('y', 2)", "('y', 0)"]]  # in another order, and one of them not observed
    some.to_csv(table, index=False)
    evidence = {("y", 2): some["('y', 2)"].tolist(), ("y", 0): some["('y', 0)"].tolist()}
    expected = machine.query(["y", "hidden"], evidence)
    assert run("predict", file, table, "-t", "('y', 1)", "-t", "hidden", "--to", to) == 0
    found = pd.read_csv(to)
    np.testing.assert_allclose(found["('y', 1)=1"], expected["y"].probs.detach()[:, 1, 1])
    for k in range(2):
        probs = expected["hidden"].probs.detach()[:, k, 1]
        np.testing.assert_allclose(found[f"('hidden', {k})=1"], probs)
    drawn[["('y', 2)", "('y', 1)", "('y', 0)"]].to_csv(table, index=False)
    assert run("impute", file, table, "--to", to) == 0
    assert list(pd.read_csv(to)) == ["('y', 2)", "('y', 1)", "('y', 0)"]
    assert (pd.read_csv(to).to_numpy() == pd.read_csv(table).to_numpy()).all()
    capsys.readouterr()
    assert run("query", file, "-e", "('y', 1)=1", "-t", "('y', 0)", "--json") == 0
    posterior = json.loads(capsys.readouterr().out)["posterior"]
    exact = machine.query([("y", 0)], {("y", 1): 1})[("y", 0)].probs.tolist()
    assert posterior == {"('y', 0)": pytest.approx({"0": exact[0], "1": exact[1]})}
    assert run("mpe", file, "-e", "('y', 1)=1", "--json") == 0
    states = json.loads(capsys.readouterr().out)["states"]
    best = machine.most_probable({("y", 1): 1})
    assert states == {f"('y', {k})": str(best["y"][k]) for k in range(3)} | {
        f"('hidden', {k})": str(best["hidden"][k]) for k in range(2)
    }


def test_a_column_of_an_array_or_of_two_spellings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = tmp_path / "m.safetensors", tmp_path / "rows.csv"
    pgnn.RestrictedBoltzmannMachine(pgnn.Variable("y", 2, shape=(3,)), 2).save(file)
    table.write_text("y\n1\n")
    assert run("predict", file, table) == 1
    told = capsys.readouterr().err
    assert "give each element a column of its own, such as \"('y', 0)\"" in told
    table.write_text("\"('y', 0)\",\"('y',0)\"\n1,1\n")
    for command in ("predict", "impute"):
        assert run(command, file, table) == 1
        assert "two columns have the name \"('y', 0)\"" in capsys.readouterr().err


def test_real_vectors_are_written_in_cells_that_are_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.random.default_rng(0).normal(size=(40, 2))
    model = pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": data}, seed=0)
    file, table, to = tmp_path / "m.safetensors", tmp_path / "rows.csv", tmp_path / "out.csv"
    model.save(file)
    assert run("sample", file, "-n", 3, "--seed", 1, "--to", table) == 0
    drawn = model.sample(3, seed=1)
    rows = pd.read_csv(table)
    assert list(rows) == ["component", "('x', 0)", "('x', 1)"]
    np.testing.assert_allclose(rows.iloc[:, 1:], drawn["x"])
    rows.drop(columns="component").to_csv(table, index=False)
    assert run("predict", file, table, "-t", "component", "--to", to) == 0
    expected = model.query("component", {"x": drawn["x"]})["component"].probs
    np.testing.assert_allclose(pd.read_csv(to), expected, rtol=1e-6)
    capsys.readouterr()
    assert run("query", file, "--json") == 0
    posterior = json.loads(capsys.readouterr().out)["posterior"]
    known = model.query("x")["x"]
    assert posterior["('x', 1)"] == pytest.approx(
        {"mean": float(known.mean[1]), "standard deviation": float(known.stddev[1])}
    )


def test_numbered_variables_are_columns_of_their_numbers(tmp_path: Path) -> None:
    tables = {0: [0.4, 0.6], ("t", 1): [[0.5, 0.5], [0.1, 0.9]]}
    model = pgnn.BayesianNetwork([(0, ("t", 1))], tables, states=dict.fromkeys(tables, 2))
    file, table, to = tmp_path / "m.safetensors", tmp_path / "rows.csv", tmp_path / "out.csv"
    model.save(file)
    table.write_text("0,\"('t', 1)\"\n0,\n,1\n1,1\n")
    assert run("impute", file, table, "--to", to) == 0
    assert pd.read_csv(to).to_numpy().tolist() == [[0, 0], [1, 1], [1, 1]]
    words = ("fit", file, table, "--to", tmp_path / "n.safetensors", "--seed", 0)
    assert run(*words, "--learner", "EM") == 0
    assert run("predict", file, table, "--to", to) == 0
    np.testing.assert_allclose(pd.read_csv(to)["0=1"], [0, 0.54 / 0.74, 1])
    assert run("predict", file, table, "-t", "0", "--to", to) == 0  # whose column is no evidence
    np.testing.assert_allclose(pd.read_csv(to)["0=1"], [0.6, 0.54 / 0.74, 0.54 / 0.74])


@pytest.mark.parametrize("begin", ["\n", "\n\n", "\ufeff\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_empty_lines_before_the_names(
    asia: Path, tmp_path: Path, begin: str, line_end: str, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> None:  # fmt: skip
    table, to = tmp_path / "rows.csv", tmp_path / "out.csv"
    for text, expected in [(ONE, [0.1, 0.055, 0.01]), (SEVERAL, [0.1, 0.01])]:
        written = (begin + text).replace("\n", line_end).encode()
        table.write_bytes(written)
        np.testing.assert_allclose(predicted(asia, table), expected, atol=1e-12)
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written)))
        assert run("predict", asia, "-", "-t", "lung") == 0
        streamed = pd.read_csv(io.BytesIO(capfdbinary.readouterr().out))["lung=yes"]
        np.testing.assert_allclose(streamed, expected, atol=1e-12)
        assert run("impute", asia, table, "--to", to) == 0
        completed = pd.read_csv(to)["smoke"].tolist()
        assert completed in (["yes", "no"], ["yes", "yes", "no"], ["yes", "no", "no"])
        assert len(completed) == len(expected)


@pytest.mark.parametrize("begin", ["", "\n"])
def test_dask_reads_empty_lines_as_the_command_does(asia: Path, tmp_path: Path, begin: str) -> None:
    pytest.importorskip("dask.dataframe")
    from pgnn.io.row_partitions import PartitionAnswer, read_partitions

    model = pgnn.read(asia)
    for text, expected in [(ONE, [0.1, 0.055, 0.01]), (SEVERAL, [0.1, 0.01])]:
        for k in range(2):
            (tmp_path / f"rows{k}.csv").write_text(begin + text)
        frame = read_partitions(str(tmp_path / "rows*.csv"), model.variables)
        found = pd.concat([PartitionAnswer(model, ["lung"])(p.compute()) for p in frame.partitions])
        np.testing.assert_allclose(found["lung=yes"], expected * 2, atol=1e-12)


def test_dask_reads_elements_of_arrays(tmp_path: Path) -> None:
    pytest.importorskip("dask.dataframe")
    from pgnn.io.row_partitions import PartitionAnswer, read_partitions

    pixels = pgnn.Variable("y", 2, shape=(2,))
    machine = pgnn.RestrictedBoltzmannMachine(
        pixels, 1, visible_bias=[0.3, -0.2], hidden_bias=[0.1], weight=[[1.0], [2.0]]
    )
    table = tmp_path / "rows.csv"
    table.write_text("\"('y', 1)\"\n0\n\n1\n")
    frame = read_partitions(str(table), machine.variables)
    found = PartitionAnswer(machine, ["hidden"])(frame.compute())
    expected = machine.query("hidden", {("y", 1): [0, None, 1]})["hidden"].probs.detach()
    np.testing.assert_allclose(found["('hidden', 0)=1"], expected[:, 0, 1])
