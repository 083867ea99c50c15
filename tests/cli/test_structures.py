"""``pgnn fit`` with a structure in place of a file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn.cli.structures import edges_of
from tests.cli.commands import complaint, run


@pytest.fixture
def table(asia: Path, tmp_path: Path) -> Path:
    frame = pgnn.read(asia).sample(200, seed=0).frame()[["smoke", "lung", "bronc"]]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


@pytest.mark.parametrize("first", [True, False])
def test_naive_bayes(table: Path, tmp_path: Path, first: bool) -> None:
    to = tmp_path / "learned.bif"
    words = ["--naive-bayes", "smoke", "--to", to]
    assert run("fit", *([table, *words] if first else [*words, table])) == 0
    model = pgnn.read(to)
    assert set(model.graph.edges) == {("smoke", "lung"), ("smoke", "bronc")}
    frame = pd.read_csv(table)
    features = {"lung": None, "bronc": None}
    expected = pgnn.NaiveBayes(None, features, name="smoke").fit(frame, progress=False)
    evidence = {"lung": "yes", "bronc": "no"}
    found = model.query("smoke", evidence)["smoke"].probs.tolist()
    assert found == pytest.approx(expected.query("smoke", evidence)["smoke"].probs.tolist())


def test_edges(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "learned.bif"
    assert run("fit", table, "--edges", "smoke>lung, smoke > bronc", "--to", to) == 0
    assert set(pgnn.read(to).graph.edges) == {("smoke", "lung"), ("smoke", "bronc")}
    capsys.readouterr()
    told = complaint(capsys, "fit", table, "--edges", "smoke>lungs", "--to", to)
    assert "--edges: the table has no column 'lungs'; did you mean 'lung'" in told
    told = complaint(capsys, "fit", table, "--edges", "smoke>lung", "--to", to)
    assert "unknown column 'bronc'" in told
    assert "--ignore bronc" in told
    assert edges_of("a>b") == [("a", "b")]


def test_chow_liu(table: Path, tmp_path: Path) -> None:
    to = tmp_path / "learned.bif"
    assert run("fit", table, "--chow-liu", "--to", to) == 0
    tree = pgnn.ChowLiuTree(pgnn.states_of(pd.read_csv(table)))
    tree.fit(pd.read_csv(table), progress=False)
    assert set(pgnn.read(to).graph.edges) == set(tree.graph.edges)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rows.csv", "--to", "m.bif"], "or a table and a structure: --naive-bayes CLASS"),
        (["rows.csv", "--to", "m.bif", "--edges", "a,b"], "expected edges such as 'a>b, b>c'"),
        (["rows.csv", "--chow-liu", "--edges", "a>b", "--to", "m.bif"], "not allowed with"),
        (
            ["a.bif", "rows.csv", "--chow-liu", "--to", "m.bif"],
            "stands in place of the file of a model",
        ),
    ],
)
def test_words_that_do_not_fit(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("fit", *words)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert told in text
    assert "usage: pgnn" in text


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Rows with two real columns and a class."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200)
    width = rng.normal(3.0 * kind, 1.0)
    length = 2.0 * width + rng.normal(size=200)
    rows = pd.DataFrame({"kind": np.array(["a", "b"])[kind], "width": width, "length": length})
    path = tmp_path / "rows.csv"
    rows.round(3).to_csv(path, index=False)
    return path


def test_columns_of_measurements_are_real(measured: Path, tmp_path: Path) -> None:
    rows, to = pd.read_csv(measured), tmp_path / "model.safetensors"
    assert run("fit", measured, "--naive-bayes", "kind", "--to", to) == 0
    bayes = pgnn.load(to)
    for k, label in enumerate(["a", "b"]):
        mean = rows["width"][rows["kind"] == label].mean()
        assert float(bayes.conditionals["width"].mean[k].detach()) == pytest.approx(mean, abs=1e-6)
    assert run("fit", measured, "--edges", "kind>width, width>length", "--to", to) == 0
    network = pgnn.load(to)
    weight, _ = np.polyfit(rows["width"], rows["length"], 1)
    answers = network.query("length", {"width": [0.0, 1.0]})["length"].mean
    assert float(answers[1] - answers[0]) == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--naive-bayes", "width"], "the class 'width' must have states"),
        (["--edges", "width>kind"], "'kind' has states, and so its parent 'width' must have"),
        (["--chow-liu"], "the column 'width' must have states"),
    ],
)
def test_measurements_where_states_are_needed(
    measured: Path, tmp_path: Path, words: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert message in complaint(
        capsys, "fit", measured, *words, "--to", tmp_path / "model.safetensors"
    )
