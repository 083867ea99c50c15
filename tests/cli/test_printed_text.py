"""What commands print for readers: help, columns, names of engines."""

from pathlib import Path

import pytest

from pgnn.cli import COMMANDS, main
from tests.cli.commands import run

NAMES = ["mpe", *(module.__name__.rpartition(".")[2] for module in COMMANDS)]


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "interactive queries in a browser" in printed.err


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0
    assert printed.startswith(f"usage: pgnn {name} ")
    assert [line for line in printed.splitlines() if len(line) > 80] == []


def test_demo_fits_eighty_columns_before_its_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo") == 0
    question, _, _ = capsys.readouterr().out.partition(">>>")
    assert [line for line in question.splitlines() if len(line) > 80] == []


def test_query_names_the_engine(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", asia, "-e", "smoke=yes", "-t", "lung") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "log evidence -0.693147 (exact, JunctionTree)"
    words = ("-e", "lung=yes", "-t", "smoke", "--engine", "Gibbs(samples=1000, seed=0)")
    assert run("query", asia, *words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "log evidence is not known (estimate, Gibbs)"


def test_compare_has_a_column_for_each_model(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, rows = tmp_path / "other.net", tmp_path / "rows.csv"
    assert run("convert", asia, other) == 0
    assert run("sample", asia, "-n", 5, "--seed", 0, "--to", rows) == 0
    capsys.readouterr()
    assert run("compare", asia, other, "--data", rows) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [str(asia), str(other)]
    table = {line[:33].strip(): line[33:].split() for line in lines}
    assert table["nodes"] == ["8", "8"]
    assert table["free parameters"] == ["18", "18"]
    assert table["edges only in first"] == ["none"]
    (first, second) = table["log likelihood"]
    assert first == second
    assert {len(line) for line in lines if line.startswith(("nodes", "log"))} == {len(lines[0])}


def test_one_set_of_evidence_is_no_plural(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", asia, "--cases", 1) == 0
    assert capsys.readouterr().out.startswith("1 set of evidence, compared with ")
