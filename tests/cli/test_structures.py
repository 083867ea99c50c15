"""``pgnn fit`` with a structure in place of a file."""

from pathlib import Path

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
        (["a.bif", "rows.csv", "--chow-liu", "--to", "m.bif"], "unrecognized arguments: rows.csv"),
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
