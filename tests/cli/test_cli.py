"""The command line: answers in text and JSON, exit codes, one readable line for every error."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn.cli import main, query
from pgnn.cli.inputs import lookup, split_finding
from pgnn.errors import EvidenceError
from tests.cli.commands import complaint, messages, run

CHAIN = """MARKOV
3
2 2 3
2
2 0 1
2 1 2

4
 1.0 2.0
 3.0 4.0
6
 1.0 1.0 2.0
 5.0 1.0 0.5
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A Markov chain of three variables in UAI format."""
    path = tmp_path / "chain.uai"
    path.write_text(CHAIN)
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert run(*words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_query_as_json(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "query", asia, "-e", "smoke=yes", "-t", "lung", "-t", "bronc", "--json")
    assert found["kind"] == "exact"
    assert found["evidence"] == {"smoke": "yes"}
    assert list(found["posterior"]) == ["lung", "bronc"]
    # Lung cancer and bronchitis depend on smoking alone: two rows of the printed tables.
    assert found["posterior"]["lung"] == pytest.approx({"yes": 0.1, "no": 0.9}, abs=1e-12)
    assert found["posterior"]["bronc"] == pytest.approx({"yes": 0.6, "no": 0.4}, abs=1e-12)
    assert found["log_evidence"] == pytest.approx(-0.6931471805599453, abs=1e-12)
    assert "most_probable" not in found


def test_query_without_target_asks_for_all_that_was_not_observed(
    asia: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "query", asia, "-e", "smoke=yes", "--json")
    assert set(found["posterior"]) == {"asia", "tub", "lung", "bronc", "either", "xray", "dysp"}


def test_query_as_text(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", asia, "-e", "smoke=yes", "-t", "lung", "--mpe") == 0
    printed = capsys.readouterr().out
    assert "lung" in printed
    assert "0.1" in printed
    assert "most probable state" in printed


def test_most_probable_explanation(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "query", asia, "-e", "smoke=no", "-t", "lung", "--mpe", "--json")
    mode = found["most_probable"]
    names = ["asia", "tub", "lung", "bronc", "either", "xray", "dysp"]
    assert {name: mode["states"][name] for name in names} == dict.fromkeys(names, "no")
    # .99 .99 .5 .99 .7 1 .95 .9: each variable in its likeliest state given its parents'.
    joint = 0.99 * 0.99 * 0.5 * 0.99 * 0.7 * 0.95 * 0.9
    assert 2.718281828459045 ** mode["log_prob"] == pytest.approx(joint, abs=1e-9)


def test_compressed_file(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = asia.with_suffix(".bif.gz")
    packed.write_bytes(gzip.compress(asia.read_bytes()))
    found = answer(capsys, "query", packed, "-e", "smoke=yes", "-t", "lung", "--json")
    assert found["posterior"]["lung"]["yes"] == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input(
    asia: Path, pack: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(asia.read_bytes()))))
    found = answer(capsys, "query", "-", "-e", "smoke=yes", "-t", "lung", "--json")
    assert found["posterior"]["lung"]["yes"] == pytest.approx(0.1, abs=1e-12)


def test_uai_with_evidence_file(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    observed = chain.with_suffix(".uai.evid")
    observed.write_text("1 2 0\n")
    found = answer(
        capsys, "query", chain, "--evidence-file", observed, "-e", "0=1", "-t", "1", "--json"
    )
    # States 0 and 1 of the middle variable weigh 3 * 1 and 4 * 5.
    assert list(found["posterior"]["1"].values()) == pytest.approx([3 / 23, 20 / 23], abs=1e-12)


@pytest.mark.parametrize("option", ["--evidence-row", "--sample"])
def test_one_of_several_samples_of_evidence(
    option: str, chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observed = chain.with_suffix(".uai.evid")
    observed.write_text("2\n1 2 0\n2 0 1 2 2\n")
    told = complaint(capsys, "query", chain, "--evidence-file", observed)
    assert "2 samples of evidence; choose one by --evidence-row, from 0 to 1" in told
    words = ["query", chain, "--evidence-file", observed, option, "1", "-t", "1", "--json"]
    found = answer(capsys, *words)
    assert found["evidence"] == {"0": "1", "2": "2"}
    assert list(found["posterior"]["1"].values()) == pytest.approx([6 / 8, 2 / 8], abs=1e-12)


@pytest.mark.parametrize(("text", "said"), [("1 7 0", "variable 7"), ("1 2 9", "state 9")])
def test_evidence_file_of_another_model(
    text: str, said: str, chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observed = chain.with_suffix(".uai.evid")
    observed.write_text(text)
    assert said in complaint(capsys, "query", chain, "--evidence-file", observed)


def test_warnings_are_one_readable_line(tmp_path: Path) -> None:
    path = tmp_path / "scaled.uai"
    path.write_text("BAYES\n1\n2\n1\n1 0\n\n2\n 1.0 3.0\n")
    command = [sys.executable, "-m", "pgnn", "query", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = messages(done.stderr)
    assert told.startswith("pgnn: warning: ")
    assert told.count("\n") == 1
    assert json.loads(done.stdout)["posterior"]["0"] == pytest.approx({"0": 0.25, "1": 0.75})


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_uai_from_standard_input(
    chain: Path, pack: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(chain.read_bytes()))))
    assert answer(capsys, "info", "-", "--json")["nodes"] == 3


def test_info(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "info", asia, "--json")
    sizes = {"nodes": 8, "edges": 8, "states": 16, "most_states": 2, "free_parameters": 18}
    assert {name: found[name] for name in sizes} == sizes
    assert found["plan"]["treewidth"] == 2
    assert run("info", asia) == 0
    assert "treewidth" in capsys.readouterr().out


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo") == 0
    printed = capsys.readouterr().out
    assert "most probable state" in printed
    assert "treewidth" in printed


def test_demo_writes_the_network_that_the_pages_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "asia.bif"
    assert run("demo", "--to", path) == 0
    printed = capsys.readouterr()
    assert (printed.out, messages(printed.err)) == ("", f"pgnn: wrote {path}\n")
    assert pgnn.read(path).num_free_parameters == 18
    assert run("demo", "--to", tmp_path / "asia.nothing") == 1
    assert "asia.nothing" in capsys.readouterr().err


def test_errors_are_one_readable_line(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'smoke'" in complaint(capsys, "query", asia, "-e", "smok=yes")
    line = complaint(capsys, "query", asia, "-e", "smoke=yess")
    assert "'smoke'" in line
    assert "did you mean 'yes'" in line
    assert "'lung'" in complaint(capsys, "query", asia, "-t", "lunge")
    impossible = complaint(capsys, "query", asia, "-e", "lung=yes", "-e", "either=no", "-t", "asia")
    assert "lung" in impossible
    assert "either" in impossible


def test_a_variable_observed_in_two_states_is_an_error(
    asia: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(capsys, "query", asia, "-e", "lung=yes", "-e", "lung=no")
    assert "'lung' was observed as 'yes' and as 'no'" in line
    assert run("query", asia, "-e", "lung=yes", "-e", "lung=yes") == 0


def test_file_errors_are_one_readable_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "missing.bif" in complaint(capsys, "info", tmp_path / "missing.bif")
    assert complaint(capsys, "info", tmp_path)
    broken = tmp_path / "broken.bif"
    broken.write_text("network x {}\nvariable a { type discrete [ 2 ] { yes, no }; }\nprobab")
    assert "3" in complaint(capsys, "info", broken)
    broken.write_bytes(b"\xff\xfe\x00")
    assert complaint(capsys, "query", broken)


def test_errors_of_standard_input_name_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO(b"network x {")
    stream.name = "<stdin>"  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    assert "<stdin>:1:" in complaint(capsys, "info", "-")


def test_ctrl_c_is_one_line(
    asia: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(query, "read_model", interrupted)
    assert run("query", asia) == 130
    told = capsys.readouterr()
    assert (told.out, messages(told.err)) == ("", "pgnn: interrupted\n")


@pytest.mark.parametrize(
    "words", [[], ["query"], ["nonsense"], ["query", "x.bif", "-e", "smoke"], ["info", "a", "b"]]
)
def test_wrong_usage_exits_with_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "usage: pgnn" in capsys.readouterr().err


def test_help_exits_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_a_reader_that_closes_early_is_no_error(asia: Path) -> None:
    command = f"{sys.executable} -m pgnn info {asia} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, messages(done.stderr)) == (0, "")


def test_findings_may_contain_equals_signs() -> None:
    assert split_finding("smoke=yes", {"smoke"}) == ("smoke", "yes")
    assert split_finding("load=>=10", {"load"}) == ("load", ">=10")
    assert split_finding("a=b=c", {"a=b"}) == ("a=b", "c")
    assert split_finding("unknown=x", {"a"}) == ("unknown", "x")


def test_labels_are_found_as_they_are_written() -> None:
    assert lookup("3", [1, 2, 3], "state") == 3
    assert lookup("True", [False, True], "state") is True
    with pytest.raises(EvidenceError, match="unknown state 'x'"):
        lookup("x", ["a", "b"], "state")


def test_a_closed_standard_input_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    told = complaint(capsys, "info", "-")
    assert told == "pgnn: standard input is closed; name a file instead\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--version")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"pgnn {pgnn.__version__}\n"


def test_approximate_answers_say_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    field = pgnn.MarkovRandomField.grid(
        (45, 45), coupling=0.3, field=draw.normal(size=(45, 45)), name="x"
    )
    path = tmp_path / "grid.uai"
    pgnn.write(field, path)
    found = answer(capsys, "query", path, "-t", "0", "--mpe", "--json")
    assert (found["kind"], found["engine"]) == ("estimate", "BeliefPropagation")
    assert found["diagnostics"]["converged"] is True
    assert "reason" in found["diagnostics"]
    best = found["most_probable"]
    assert best["engine"] == "DualDecomposition"
    assert best["upper_bound"] >= best["log_prob"] - 1e-9
    assert best["proved"] == (best["upper_bound"] - best["log_prob"] < 1e-9)


def test_completes_a_table(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    model = pgnn.read(asia)
    holes = model.sample(30, seed=0).frame().astype(object)
    holes.insert(0, "name", [f"patient {k}" for k in range(30)])
    holes.loc[::3, "lung"], holes.loc[::4, "xray"] = None, None
    holes.to_csv(tmp_path / "holes.csv", index=False)
    expected = model.impute(holes, ignore=["name"])

    assert run("impute", asia, tmp_path / "holes.csv", "--ignore", "name") == 0
    text = capsys.readouterr().out
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), expected, check_dtype=False)
    monkeypatch.setattr("sys.stdin", io.StringIO((tmp_path / "holes.csv").read_text()))
    model.save(tmp_path / "kept.safetensors")
    assert run("impute", tmp_path / "kept.safetensors", "-", "--ignore", "name") == 0
    assert capsys.readouterr().out == text

    words = ["--draws", 3, "--seed", 1, "--to", tmp_path / "drawn.csv", "--ignore", "name"]
    assert run("impute", asia, tmp_path / "holes.csv", *words) == 0
    drawn = pd.read_csv(tmp_path / "drawn.csv")
    assert len(drawn) == 90
    assert not drawn.isna().any(axis=None)
    assert set(drawn["draw"]) == {0, 1, 2}
    assert capsys.readouterr().out == ""

    assert run("impute", asia, tmp_path / "holes.csv") == 1
    assert "'name'" in capsys.readouterr().err
