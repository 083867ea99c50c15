"""Which variables ``pgnn predict`` answers about, and which cells are its evidence."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn.cli.target_scores import TargetScores
from pgnn.io import row_files
from tests.cli.commands import complaint, messages, run

pytest.importorskip("pyarrow")


def test_the_column_of_a_target_is_not_evidence(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(row_files, "BATCH", 7)
    frame = pgnn.read(asia).sample(30, seed=0).frame().astype(object)
    frame.loc[[3, 8], "bronc"] = None
    table, to = tmp_path / "rows.csv", tmp_path / "out.csv"
    frame.to_csv(table, index=False)
    assert run("predict", asia, table, "-t", "bronc", "--to", to) == 0
    found = pd.read_csv(to)
    probs = pgnn.read(asia).query("bronc", frame.drop(columns="bronc"))["bronc"].probs.numpy()
    np.testing.assert_allclose(found[["bronc=yes", "bronc=no"]], probs, atol=1e-12)
    truth = frame["bronc"].map({"yes": 0, "no": 1})
    known = truth.notna().to_numpy()
    codes = truth[known].astype(int).to_numpy()
    loss = -np.log(probs[known, codes]).mean()
    hits = (probs[known].argmax(-1) == codes).mean()
    assert messages(capsys.readouterr().err) == (
        "pgnn: column 'bronc' is a target, hence not evidence: "
        f"log loss {loss:.6f}, accuracy {hits:.4g} (28 rows)\n"
    )


def test_an_empty_column_of_a_target_is_not_mentioned(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("smoke,lung\nyes,\nno,\n")
    assert run("predict", asia, table, "-t", "lung", "--to", tmp_path / "out.csv") == 0
    assert messages(capsys.readouterr().err) == ""


@pytest.mark.parametrize("text", ["lung\nyes\nno\n", "id\n1\n2\n"])
def test_rows_without_evidence_have_an_answer_each(asia: Path, tmp_path: Path, text: str) -> None:
    table, to = tmp_path / "rows.csv", tmp_path / "out.csv"
    table.write_text(text)
    ignored = ["--ignore", "id"] if text.startswith("id") else []
    assert run("predict", asia, table, "-t", "lung", "--to", to, *ignored) == 0
    np.testing.assert_allclose(pd.read_csv(to)["lung=yes"], [0.055, 0.055], atol=1e-12)


def test_without_targets_all_that_is_missing_somewhere(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pgnn.read(asia).sample(20, seed=0).frame().astype(object)
    table, to = tmp_path / "rows.csv", tmp_path / "out.csv"
    frame.to_csv(table, index=False)
    assert "no cell is missing" in complaint(capsys, "predict", asia, table, "--to", to)
    frame.loc[19, "tub"] = None
    frame.drop(columns="dysp").to_csv(table, index=False)
    assert run("predict", asia, table, "--to", to) == 0
    assert list(pd.read_csv(to)) == ["tub=yes", "tub=no", "dysp=yes", "dysp=no"]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A network of two real variables, ``y ~ N(2 x, 1)``."""
    x, y = pgnn.Variable("x"), pgnn.Variable("y")
    network = pgnn.BayesianNetwork(
        [("x", "y")],
        {"x": pgnn.Gaussian(x, (), 0.0, 1.0), "y": pgnn.LinearGaussian(y, [x], [2.0], 0.0, 1.0)},
    )
    pgnn.save(network, tmp_path / "real.safetensors")
    return tmp_path / "real.safetensors"


def test_real_columns_that_are_observed_in_whole_batches(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(row_files, "BATCH", 2)
    monkeypatch.setattr(row_files, "_BLOCK", 8)
    table, to = tmp_path / "rows.csv", tmp_path / "out.csv"
    table.write_text("x,y\n1.5,\n2.5,\n3.5,\n,5\n")
    assert run("predict", real, table, "--to", to) == 0
    found = pd.read_csv(to)
    np.testing.assert_allclose(found["x"], [1.5, 2.5, 3.5, 2.0])
    np.testing.assert_allclose(found["y"], [3.0, 5.0, 7.0, 5.0])
    table.write_text("x,y\n1.5,4\n2.5,4\n")
    assert run("predict", real, table, "-t", "y", "--to", to) == 0
    np.testing.assert_allclose(pd.read_csv(to)["y"], [3.0, 5.0])
    assert "root mean squared error 1 (2 rows)" in capsys.readouterr().err


def test_columns_keep_their_order_where_some_batches_observe_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "BATCH", 2)
    monkeypatch.setattr(row_files, "_BLOCK", 8)
    a, x = pgnn.Variable("a", ["no", "yes"]), pgnn.Variable("x")
    table = {"a": [0.25, 0.75], "x": pgnn.Gaussian(x, [a], [0.0, 4.0], [1.0, 1.0])}
    model, rows, to = tmp_path / "model", tmp_path / "rows.csv", tmp_path / "out.csv"
    pgnn.BayesianNetwork([("a", "x")], table, states={"a": ["no", "yes"]}).save(model)
    rows.write_text("a,x\n" + 6 * ",1.5\n" + 6 * ",\n")
    assert run("predict", model, rows, "--to", to) == 0
    found = pd.read_csv(to)
    np.testing.assert_allclose(found["x"], [1.5] * 6 + [3.0] * 6)
    np.testing.assert_allclose(found["a=yes"][6:], 0.75)
    np.testing.assert_allclose(found["a=no"] + found["a=yes"], 1.0)


def test_scores_of_an_impossible_state_are_infinite() -> None:
    scores = TargetScores()
    answers = {"a=0": np.array([1.0]), "a=1": np.array([0.0])}
    scores.add(pgnn.Variable("a", 2), np.array([1]), answers)
    assert f"log loss {math.inf}, accuracy 0" in next(iter(scores.lines()))


@pytest.mark.parametrize(
    "words",
    [["impute", "rows.csv"], ["predict", "rows.csv", "-t", "lung"], ["sample", "--seed", "0"]],
    ids=lambda words: str(words[0]),
)
def test_a_dash_is_standard_output(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("smoke\nyes\n\nno\n")
    command, *rest = words
    printed = []
    for to in ([], ["--to", "-"]):
        assert run(command, asia, *rest, *to) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].count("\n") >= 2
    assert not Path("-").exists()
