"""Messages of the command line name its own options, and come before the work is done."""

import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import pgnn
from pgnn.cli.advice import in_options
from pgnn.errors import Advice
from tests.cli.commands import complaint, messages, run


@pytest.fixture
def table(asia: Path, tmp_path: Path) -> Path:
    """Rows with a column that is not a variable."""
    frame = pgnn.read(asia).sample(30, seed=0).frame()
    frame.insert(0, "the id", range(30))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def commands(asia: Path, table: Path) -> dict[str, list[object]]:
    to = table.parent / "out.bif"
    return {
        "fit": ["fit", asia, table, "--to", to],
        "impute": ["impute", asia, table],
        "compare": ["compare", asia, asia, "--data", table],
        "predict": ["predict", asia, table, "-t", "lung"],
    }


def test_rows_with_holes_name_the_learner(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pgnn.read(asia).sample(30, seed=0).frame()
    frame.loc[3, "lung"] = None
    frame.to_csv(tmp_path / "rows.csv", index=False)
    words = ("fit", asia, tmp_path / "rows.csv", "--to", tmp_path / "out.bif")
    told = complaint(capsys, *words)
    assert "--learner EM" in told
    assert "EM()" not in told
    assert run(*words, "--learner", "EM") == 0


@pytest.mark.parametrize("name", ["fit", "impute", "compare", "predict"])
def test_columns_that_are_no_variables(
    name: str, asia: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = commands(asia, table)[name]
    told = complaint(capsys, *words)
    assert "'the id'" in told
    assert "--ignore" in told
    assert "ignore=" not in told
    told = complaint(capsys, *words, "--ignore", "the id", "--ignore", "the idd")
    assert "'the idd'" in told
    assert "did you mean 'the id'?" in told
    assert run(*words, "--ignore", "the id") == 0


@pytest.mark.parametrize("name", ["fit", "impute", "compare", "predict"])
def test_a_table_that_is_missing(
    name: str, asia: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = commands(asia, table)[name]
    gone = table.with_name("gone.csv")
    told = complaint(capsys, *[gone if word == table else word for word in words])
    assert told == f"pgnn: {gone}: No such file or directory\n"


def test_cells_that_were_not_observed(
    asia: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table, dtype=str).drop(columns="the id")
    frame.loc[3, "lung"] = "NaN"
    frame.to_csv(table, index=False)
    for words in commands(asia, table).values():
        told = complaint(capsys, *words)
        assert "'lung' has no state 'NaN'" in told
        assert "leave the cell empty if it was not observed" in told


def test_where_to_write_is_checked_before_the_work(
    asia: Path, table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("read before --to was checked")

    monkeypatch.setattr(pgnn, "read", read)
    told = complaint(capsys, "fit", asia, table, "--to", table.with_name("out.csv"))
    assert "expected a file ending of" in told
    assert "got '.csv'; take one of these, or .safetensors" in told
    nowhere = table.with_name("nowhere")
    for words in (
        ["fit", asia, table, "--to", nowhere / "out.bif"],
        ["fit", asia, table, "--to", nowhere / "out.safetensors"],
        ["convert", asia, nowhere / "out.bif"],
        ["impute", asia, table, "--to", nowhere / "out.csv"],
        ["predict", asia, table, "--to", nowhere / "out.csv"],
        ["sample", asia, "--to", nowhere / "out.csv"],
        ["plot", asia, "--to", nowhere / "out.png"],
    ):
        assert f"there is no folder '{nowhere}'" in complaint(capsys, *words)
    folder = table.parent
    assert "got a folder" in complaint(capsys, "sample", asia, "--to", folder)


def test_advice_about_an_argument_becomes_an_option() -> None:
    text = "leave columns out by pgnn.observed(data, ignore=['a', 3, \"it's\"])"
    found = in_options(Advice(text, "ignore", ["a", 3, "it's"]), {"ignore": None})
    assert found == "leave columns out by --ignore a --ignore 3 --ignore 'it'\"'\"'s'"
    assert (
        in_options(Advice(text, "ignore"), {"ignore": None}) == "leave columns out by --ignore NAME"
    )
    assert in_options(Advice(text, "ignore"), {"seed": None}) == ""
    separator = Advice("pass pandas.read_csv('rows.csv', sep=';')", "separator", ";")
    assert in_options(separator, {"separator": None}) == "pass --separator ';'"
    assert (
        in_options(Advice("or pgnn.codes(3) for the index of a state", "codes"), {"file": None})
        == ""
    )
    unknown = Advice("pgnn.observed(data, unknown='missing')", "unknown")
    assert in_options(unknown, {}) == "leave the cell empty if it was not observed"
    known = Advice("pass format= as one of bif, net", "format", ["bif, net"])
    assert in_options(known, {"format": None}) == "pass --format NAME, one of bif, net"


def test_engines_and_learners_become_options() -> None:
    both = "learn with EM() or Gradient(), which sum out missing values"
    assert in_options(both, {"learner": None}) == (
        "learn with --learner EM or --learner Gradient, which sum out missing values"
    )
    assert in_options(both, {"engine": None}) == ""
    engine = "use engine=Gibbs(samples=9, chains=2), or observe more"
    assert in_options(engine, {"engine": None}) == (
        "use --engine 'Gibbs(samples=9, chains=2)', or observe more"
    )
    assert in_options("observe all of them", {}) == "observe all of them"
    leave = "leave out engine= to choose one automatically"
    assert in_options(leave, {"engine": None}) == "leave out --engine to choose one automatically"
    assert in_options(leave, {"learner": None}) == ""
    for python in ("use model.unroll(3)", "raise max_bytes", "give scale= too", "see pgnn.codes"):
        assert in_options(python, {"engine": None, "learner": None}) == ""


def test_only_what_python_alone_can_follow_is_left_out() -> None:
    either = "take model.unroll(3), or observe 'a_b'; the bound (at most 3) is valid"
    assert in_options(either, {}) == "observe 'a_b'; the bound (at most 3) is valid"
    assert in_options("observe it, or give inputs={'x': 1}. Rows differ", {}) == (
        "observe it. Rows differ"
    )


def test_settings_of_the_method_that_a_warning_is_about() -> None:
    raised = "raise max_iterations, or add a prior"
    assert in_options(raised, {"learner": None}, "EM") == (
        "raise max_iterations (--learner 'EM(max_iterations=5000)'), or add a prior"
    )
    given = {"learner": "EM(max_iterations=7, restarts=2)"}
    assert in_options(raised, given, "EM") == (
        "raise max_iterations (--learner 'EM(max_iterations=70, restarts=2)'), or add a prior"
    )
    assert in_options(raised, {"learner": "Gradient"}, "Gibbs") == "add a prior"
    both = "increase samples= and burn_in=, or use MeanField() or tree_reweighted=True"
    assert in_options(both, {"engine": "Gibbs(samples=50)"}, "Gibbs") == (
        "increase samples (--engine 'Gibbs(samples=500)') and burn_in"
    )
    assert in_options("use tree_reweighted=True", {"engine": None}, "BeliefPropagation") == (
        "use --engine 'BeliefPropagation(tree_reweighted=True)'"
    )


def test_a_learner_that_stopped_names_its_setting(
    asia: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("fit", asia, table, "--ignore", "the id", "--to", table.with_name("out.bif"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run(*words, "--learner", "Gradient(max_iterations=1)") == 0
    told = messages(capsys.readouterr().err)
    assert "raise max_iterations (--learner 'Gradient(max_iterations=10)')" in told


def test_names_of_data_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("EM(),normalise=True\nyes,\nno,yes\n,no\n")
    words = ("fit", rows, "--naive-bayes", "EM()", "--to", tmp_path / "out.bif")
    told = complaint(capsys, *words, "--learner", "MaximumLikelihood")
    assert "'EM()'" in told or "'normalise=True'" in told
    assert told.endswith("drop or fill those rows yourself\n")
    assert "--learner EM" in told


def test_predict_leaves_the_allocator_of_pyarrow(asia: Path, table: Path) -> None:
    before = pa.default_memory_pool().backend_name
    to = table.with_name("out.parquet")
    assert run("predict", asia, table, "-t", "lung", "--ignore", "the id", "--to", to) == 0
    assert pa.default_memory_pool().backend_name == before
    assert len(pd.read_parquet(to)) == 30


def test_the_package_of_the_command_runs() -> None:
    words = [sys.executable, "-m", "pgnn.cli", "--version"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout == f"pgnn {pgnn.__version__}\n"


def test_settings_of_engines_and_learners(
    asia: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("fit", asia, table, "--to", table.with_name("out.bif"), "--learner")
    told = complaint(capsys, *words, "EM(max_iterations=1, max_iterations=2)")
    assert told == "pgnn: learner EM: max_iterations is given twice; give it once\n"
    told = complaint(capsys, *words, "EM(prior=Laplace(count=1, count=2))")
    assert "prior Laplace: count is given twice" in told
    told = complaint(capsys, *words, "EM(tolerance=inf)")
    assert "unknown tolerance 'inf'; expected a number, True, False, None, a text" in told
    assert "known:" not in told
    assert "did you mean 'Laplace'" in complaint(capsys, *words, "EM(prior=Laplac)")
    assert "; known: " in complaint(capsys, *words, "qqq")
