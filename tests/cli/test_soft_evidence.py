"""Soft evidence on the command line is that of Python."""

import json
from pathlib import Path

import pytest

import pgnn
from tests.cli.commands import complaint, run

SOFT = {"xray": {"yes": 0.9, "no": 0.2}}


def test_soft_evidence_is_that_of_python(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", asia, "-e", "xray=yes:0.9,no:0.2", "-e", "smoke=yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    posterior = pgnn.read(asia).query(["lung", "xray"], {**SOFT, "smoke": "yes"})
    for name in ("lung", "xray"):  # which is not observed, so that it is a target
        expected = dict(zip(("yes", "no"), posterior[name].probs.tolist(), strict=True))
        assert found["posterior"][name] == pytest.approx(expected, abs=1e-12)
    assert found["evidence"] == {**SOFT, "smoke": "yes"}
    assert found["log_evidence"] == pytest.approx(float(posterior.log_evidence), abs=1e-12)


def test_commands_that_take_soft_evidence(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-e", "xray=yes:1,no:0")
    assert run("mpe", asia, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["states"]["xray"] == "yes"
    assert run("sample", asia, *words, "-n", 20, "--seed", 0) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    place = header.split(",").index("xray")
    assert {row.split(",")[place] for row in rows} == {"yes"}
    pytest.importorskip("matplotlib")
    assert run("plot", asia, *words, "--to", tmp_path / "net.png") == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("xray=yes:0.9", "has no weight for 'no'"),
        ("xray=yes:0.9,yes:0.1,no:0.2", "has two weights for 'yes'"),
        ("xray=yes:0.9,maybe:1", "unknown state 'maybe' of 'xray'"),
        ("xray=yes:-1,no:1", "finite and not negative"),
        ("xray=yes:a,no:1", "unknown state 'yes:a,no:1' of 'xray'"),
        ("xray=maybe:1,no:1", "unknown state 'maybe' of 'xray'"),
    ],
)
def test_wrong_soft_evidence(
    text: str, said: str, asia: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(capsys, "query", asia, "-e", text)


def test_labels_with_colons_and_commas_are_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clock.safetensors"
    states = {"t": ["9:30", "9:45", "a,b"]}
    pgnn.BayesianNetwork([], {"t": [0.2, 0.3, 0.5]}, states=states).save(path)
    assert run("query", path, "-e", "t=9:30", "--json") == 0
    assert json.loads(capsys.readouterr().out)["evidence"] == {"t": "9:30"}
    assert run("query", path, "-e", "t=9:30:1,9:45:1,a,b:1", "--json") == 1
    assert "unknown state" in capsys.readouterr().err
    assert run("query", path, "-e", "t=9:30:1,9:45:1", "--json") == 1
    assert "has no weight for 'a,b'" in capsys.readouterr().err
