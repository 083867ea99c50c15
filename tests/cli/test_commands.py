"""Commands about whole models and whole tables."""

import contextlib
import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn.cli import COMMANDS, main, parser, query
from pgnn.io import row_files
from tests.cli.commands import complaint, run


def test_mpe(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mpe", asia, "-e", "xray=yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    mode = pgnn.read(asia).most_probable({"xray": "yes"})
    assert found["states"] == {str(n): s for n, s in mode.items()}
    assert found["log_prob"] == pytest.approx(float(mode.log_prob))
    assert run("mpe", asia, "-e", "xray=yes", "-t", "lung") == 0
    assert "lung" in capsys.readouterr().out


def test_engines_by_name(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("query", asia, "-t", "lung", "--json")
    assert run(*words, "--engine", "JunctionTree(max_bytes=100000)") == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "JunctionTree"
    for text, message in [
        ("JunctionTre", "unknown engine 'JunctionTre'; did you mean 'JunctionTree'?"),
        ("BayesianNetwork", "unknown engine 'BayesianNetwork'"),
        ("JunctionTree(1)", "expected engine NAME or NAME(setting=number, ...)"),
        ("JunctionTree(max_bytes=__import__('os'))", "unknown max_bytes '__import__'"),
        ("JunctionTree(bytes=3)", "bytes"),
        ("(" * 5000, "expected engine NAME"),
    ]:
        assert message in complaint(capsys, *words, "--engine", text)


def test_settings_that_are_objects(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pgnn.read(asia).sample(50, seed=0).frame()
    rows.loc[0, "lung"] = None
    rows.to_csv(tmp_path / "rows.csv", index=False)
    words = ("fit", asia, tmp_path / "rows.csv", "--to", tmp_path / "found.bif", "--learner")
    found = []
    for text in ("EM(prior=Laplace(2))", "EM(prior=BDeu)"):
        assert run(*words, text) == 0
        found.append(float(pgnn.read(tmp_path / "found.bif").conditionals["asia"].probs[0]))
    assert found[0] != found[1]
    capsys.readouterr()
    for text, message in [
        ("EM(prior=1)", "prior must be one such as Laplace, or by name"),
        ("EM(prior=Laplas)", "unknown prior 'Laplas'"),
        ("EM(prior=open('x'))", "unknown prior 'open'"),
    ]:
        assert message in complaint(capsys, *words, text)


def test_saved_models_are_asked(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", asia, tmp_path / "asia.safetensors") == 0
    answers = []
    for path in (asia, tmp_path / "asia.safetensors"):
        assert run("query", path, "-e", "smoke=yes", "-t", "lung") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_convert(asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("net", "dsl", "xdsl", "xmlbif", "bif.gz"):
        assert run("convert", asia, tmp_path / f"asia.{ending}") == 0
        again = pgnn.read(tmp_path / f"asia.{ending}")
        assert again.variables["lung"].states == ("yes", "no")
    assert capsys.readouterr() == ("", "")
    assert run("convert", asia, "-", "--format", "uai") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("BAYES\n8\n")
    assert "does not hold the names of the variables, the names of the states" in captured.err
    assert "unknown format" in complaint(capsys, "convert", asia, "-", "--format", "doc")


def test_sample_fit_and_compare(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, learned = tmp_path / "rows.csv", tmp_path / "learned.net"
    assert run("sample", asia, "-n", 4000, "--seed", 3, "--to", rows) == 0
    frame = pd.read_csv(rows)
    assert list(frame) == list(pgnn.read(asia).variables)
    # P(smoke = yes) = .5, P(bronc = yes) = .45: four standard errors
    assert abs((frame["smoke"] == "yes").mean() - 0.5) < 0.032
    assert abs((frame["bronc"] == "yes").mean() - 0.45) < 0.032
    assert run("fit", asia, rows, "--to", learned) == 0
    out = capsys.readouterr().out
    fitted = pgnn.read(learned)
    assert out.startswith("4,000 rows, log-likelihood -")
    assert float(out.split()[-1]) == pytest.approx(float(fitted.log_prob(frame).sum()))
    assert run("compare", learned, asia, "--data", rows, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["edges_only_in_first"] == found["edges_only_in_second"] == []
    assert found["nodes"] == [8, 8]
    assert 0 < found["largest_difference_of_marginals"] < 0.032
    # maximum likelihood
    assert found["log_likelihood"][0] >= found["log_likelihood"][1]


def test_fit_from_rows_with_holes(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pgnn.read(asia).sample(300, seed=0).frame().astype(object)
    frame.loc[::3, "lung"] = None
    frame.insert(0, "patient", range(300))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    words = ("fit", asia, tmp_path / "rows.csv", "--to", tmp_path / "m.safetensors")
    assert "patient" in complaint(capsys, *words)
    assert run(*words, "--ignore", "patient", "--learner", "EM(tolerance=0.01)") == 0
    assert pgnn.load(tmp_path / "m.safetensors").history["learner"].startswith("EM(")


def test_verify(asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", asia, "--cases", 2, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    by_name = {row["name"]: row for row in found["methods"]}
    assert by_name["enumeration"]["worst"] < 1e-12
    assert by_name["JunctionTree, all rows at once"]["worst"] < 1e-12
    assert "differ by" in complaint_after(capsys, "verify", asia, "--cases", 1, "--tolerance", "0")


def complaint_after(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 1
    return capsys.readouterr().err


# --- predict ------------------------------------------------------------------------------------


@pytest.fixture
def rows(asia: Path) -> pd.DataFrame:
    frame = pgnn.read(asia).sample(50, seed=1).frame().astype(object)
    frame[np.random.default_rng(0).random(frame.shape) < 0.4] = None
    return frame.drop(columns=["lung", "tub"])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict(
    asia: Path, rows: pd.DataFrame, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(row_files, "BATCH", 7)
    monkeypatch.setattr(row_files, "_BLOCK", 256)
    expected = pgnn.read(asia).query(["lung", "tub"], rows)
    numbered = rows.assign(id=np.arange(50))
    if ending == "csv":
        numbered.to_csv(tmp_path / "rows.csv", index=False)
    else:
        numbered.to_parquet(tmp_path / "rows.parquet")
    to = tmp_path / f"out.{ending}"
    words = ("predict", asia, tmp_path / f"rows.{ending}", "--to", to)
    assert run(*words, "-t", "lung", "-t", "tub", "--ignore", "id") == 0
    found = pd.read_csv(to) if ending == "csv" else pd.read_parquet(to)
    assert list(found) == ["id", "lung=yes", "lung=no", "tub=yes", "tub=no"]
    np.testing.assert_array_equal(found["id"].astype(int), np.arange(50))
    for name in ("lung", "tub"):
        columns = [f"{name}=yes", f"{name}=no"]
        np.testing.assert_allclose(found[columns], expected[name].probs, rtol=1e-9)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_no_rows_are_predicted_as_no_rows(asia: Path, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pyarrow")
    rows, to = tmp_path / f"rows.{ending}", tmp_path / f"out.{ending}"
    none = pd.DataFrame({"smoke": pd.Series(dtype=str), "id": pd.Series(dtype=str)})
    if ending == "csv":
        none.to_csv(rows, index=False)
    else:
        none.to_parquet(rows)
    assert run("predict", asia, rows, "-t", "lung", "--ignore", "id", "--to", to) == 0
    found = pd.read_csv(to) if ending == "csv" else pd.read_parquet(to)
    assert list(found) == ["id", "lung=yes", "lung=no"]
    assert len(found) == 0


def test_predict_does_not_write_over_what_it_reads(
    asia: Path, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    rows.to_csv(table, index=False)
    before = table.read_bytes()
    told = complaint(capsys, "predict", asia, table, "-t", "lung", "--to", table)
    assert "names the file that is read; name another one" in told
    assert table.read_bytes() == before


def test_predict_between_streams(
    asia: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    pytest.importorskip("pyarrow")
    text = io.BytesIO(rows.to_csv(index=False).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(text))
    assert run("predict", asia, "-", "-t", "lung") == 0
    found = pd.read_csv(io.BytesIO(capfdbinary.readouterr().out))
    assert list(found) == ["lung=yes", "lung=no"]
    assert len(found) == 50


def test_what_predict_refuses_leaves_no_file(
    asia: Path, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(row_files, "BATCH", 7)
    monkeypatch.setattr(row_files, "_BLOCK", 256)
    table, to = tmp_path / "rows.csv", tmp_path / "out.csv"
    words = ("predict", asia, table, "-t", "lung", "--to", to)

    def refused(frame: pd.DataFrame) -> str:
        frame.to_csv(table, index=False)
        text = complaint(capsys, *words)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["asia.bif", "rows.csv"]
        return text

    wrong = rows.copy()
    wrong.loc[30, "smoke"] = "yess"
    assert "rows.csv: row 30: " in refused(wrong)
    assert "column 'smok' is not a variable of the model; did you mean 'smoke'?" in refused(
        rows.rename(columns={"smoke": "smok"})
    )
    impossible = rows.copy()
    impossible.loc[20, ["either", "tub"]] = ["no", "yes"]
    assert "row 20 has probability zero" in refused(impossible)
    table.write_text("smoke,xray\nyes,no\nyes\n")
    assert "line 3: expected 2 cells, one for each column, got 1" in complaint(capsys, *words)


def test_pyarrow_is_asked_for(
    asia: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'pgnn[arrow]'" in complaint(capsys, "predict", asia, asia, "-t", "lung")


@pytest.mark.filterwarnings("ignore")  # of the cluster
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_on_a_cluster(
    asia: Path, rows: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    pytest.importorskip("pyarrow")
    distributed = pytest.importorskip("distributed")
    expected = pgnn.read(asia).query(["lung", "tub"], rows)
    numbered = rows.assign(id=np.arange(50))
    for k, part in enumerate((numbered[:30], numbered[30:])):
        if ending == "csv":
            part.to_csv(tmp_path / f"rows{k}.csv", index=False)
        else:
            part.to_parquet(tmp_path / f"rows{k}.parquet")
    to = tmp_path / f"out.{ending}"
    words = ["predict", asia, tmp_path / f"rows*.{ending}", "--to", to, "-t", "lung", "-t", "tub"]
    with distributed.LocalCluster(
        n_workers=1, processes=False, dashboard_address=None, silence_logs=50
    ) as cluster:
        words += ["--dask", cluster.scheduler_address]
        assert "column 'id' is not a variable" in complaint(capsys, *words)
        assert run(*words, "--ignore", "id") == 0
        found = pd.read_csv(to) if ending == "csv" else pd.read_parquet(to)
        assert list(found) == ["id", "lung=yes", "lung=no", "tub=yes", "tub=no"]
        np.testing.assert_array_equal(found["id"].astype(int), np.arange(50))
        np.testing.assert_allclose(found["tub=no"], expected["tub"].probs[:, 1], rtol=1e-9)
        wrong = rows.head(3).assign(smoke="yess")
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        words[2:5] = [tmp_path / "wrong.csv", "--to", tmp_path / "none.csv"]
        told = complaint(capsys, *words)
        assert told.startswith("pgnn: wrong.csv, rows from line 2 on: column 'smoke', row 0: ")
        assert "'yess'" in told
        assert not [*tmp_path.glob("none*")]
    assert "name ROWS and --to" in complaint(capsys, "predict", asia, "-", "--dask", "tcp://x:1")


# --- the whole ----------------------------------------------------------------------------------


def test_debug_shows_where_an_error_comes_from(
    asia: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("query", asia, "-t", "lugn", "--debug") == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.splitlines()[-1].startswith("pgnn: unknown variable 'lugn'")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(query, "read_model", broken)
    assert "ZeroDivisionError: oh (an error of pgnn itself; --debug" in complaint(
        capsys, "query", asia
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    text = capsys.readouterr().out
    for word in ("query", "predict", "evidence", "completion"):
        assert word in text


def test_every_command_has_examples_that_are_commands() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert len(commands) > len(COMMANDS)
    for name, command in commands.items():
        lines = [line.split() for line in command.epilog.splitlines()[1:]]
        assert all(name in words for words in lines), name


PAGE = Path(__file__).resolve().parents[2] / "docs" / "command_line.md"


def test_commands_of_the_page_run(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    page = PAGE.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    with contextlib.chdir(asia.parent):
        for words in commands:
            assert words[0] == "pgnn"
            assert main(words[1:]) == 0, (words, capsys.readouterr().err)
    named = set(re.findall(r"^\| `pgnn (\w+)` \|", page, re.MULTILINE))
    assert named == set(parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]


def test_impute_does_not_write_over_what_it_reads(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("smoke,lung\nyes,\n")
    assert "name another one" in complaint(capsys, "impute", asia, table, "--to", table)
    assert table.read_text() == "smoke,lung\nyes,\n"


@pytest.mark.parametrize("ending", ["xlsx", "json", "tsv"])
def test_formats_that_cannot_be_written_are_refused(
    asia: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, to = tmp_path / "rows.csv", tmp_path / f"out.{ending}"
    table.write_text("smoke,lung\nyes,\n")
    for words in (["predict", asia, table], ["impute", asia, table], ["sample", asia]):
        told = complaint(capsys, *words, "--to", to)
        assert "expected a file that ends in .csv" in told
        assert f"got .{ending}" in told
        assert not to.exists()


def test_an_empty_line_of_one_column_is_a_row(
    asia: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    pytest.importorskip("pyarrow")
    table, to = tmp_path / "one.csv", tmp_path / "out.csv"
    for text in ("smoke\nyes\n\nno\n", '"smoke"\r\nyes\r\n\r\nno'):
        table.write_bytes(text.encode())
        assert run("predict", asia, table, "-t", "lung", "--to", to) == 0
        found = pd.read_csv(to)["lung=yes"]
        np.testing.assert_allclose(found, [0.1, 0.055, 0.01], atol=1e-12)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        capfdbinary.readouterr()
        assert run("predict", asia, "-", "-t", "lung") == 0
        streamed = pd.read_csv(io.BytesIO(capfdbinary.readouterr().out))
        np.testing.assert_allclose(streamed["lung=yes"], found)
        assert run("impute", asia, table, "--to", to) == 0
        assert len(pd.read_csv(to)) == 3
    table.write_text("smoke,lung\nyes,\n\nno,\n")  # lines between the rows of several columns
    assert run("predict", asia, table, "-t", "lung", "--to", to) == 0
    assert len(pd.read_csv(to)) == 2


def test_two_columns_of_one_name_and_other_encodings(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, to = tmp_path / "rows.csv", tmp_path / "out.bif"
    commands: list[list[object]] = [
        ["predict", asia, table, "-t", "lung"],
        ["impute", asia, table],
        ["impute", asia, table, "--ignore", "smoke.1"],
        ["fit", asia, table, "--to", to],
    ]
    for words in commands:
        table.write_text("smoke,lung,smoke\nyes,,no\n")
        assert "rows.csv: two columns have the name 'smoke'" in complaint(capsys, *words)
        table.write_bytes("smoke,caf\xe9\nyes,1\n".encode("latin-1"))
        assert "rows.csv: expected text in UTF-8" in complaint(capsys, *words)
