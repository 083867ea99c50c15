import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: the benchmarks pin theirs to one core.
    command = [sys.executable, "-m", "benchmarks.exact", *arguments]
    env = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)


def test_all_cases_on_asia_agree_with_every_contender(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    done = run(
        *("--networks", "asia", "--cases", "single", "batch", "mixed", "mpe"),
        *("--budget", "0.05", "--rounds", "2", "--rows", "100", "--single-rows", "5"),
        *("--json", str(file)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads(file.read_text())
    assert [o["case"] for o in outcomes] == ["single", "batch", "mixed", "mpe"]
    for outcome in outcomes:
        assert f"### {outcome['case']}" in done.stdout
        ours, *others = outcome["contenders"].values()
        assert ours["error"] is None
        assert ours["seconds"] > 0
        present = [c for c in others if "No module named" not in (c["error"] or "")]
        assert present
        for other in present:
            assert other["error"] is None
            assert other["max_abs_difference"] < 1e-12
            assert other["rows_compared"] >= 1
            assert other["ratio"] == pytest.approx(other["seconds"] / ours["seconds"], rel=0.5)


def test_tasks_on_alarm_agree_with_every_contender(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    done = run(
        *("--networks", "alarm", "--cases", "alarm", "--rows", "200"),
        *("--budget", "0.05", "--rounds", "1", "--json", str(file)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = {o["network"]: o for o in json.loads(file.read_text())}
    assert list(outcomes) == ["score", "sample", "count a data frame", "count a tensor"]
    for outcome in outcomes.values():
        differences = [
            c["max_abs_difference"] for n, c in outcome["contenders"].items() if n != "pgnn"
        ]
        assert any(d is not None for d in differences)


def test_evidence_is_possible_and_of_one_size() -> None:
    from benchmarks.networks import hide, load, observed_sets

    network = load("asia")
    rows = network.sample(200, seed=0)
    assert np.isfinite(network.log_joint(rows)).all()
    observed = observed_sets(network, 200, seed=1)
    assert (observed.sum(1) == 1).all()
    assert len(np.unique(observed, axis=0)) == len(network)
    codes = hide(rows, observed)
    assert ((codes >= 0) == observed).all()
    assert (codes[observed] == rows[observed]).all()


def test_turns_median_ratio_and_errors() -> None:
    from benchmarks.timing import Contender, geometric_mean, race

    class Fixed(Contender):
        name, items = "fixed", [np.array([0, 1]), np.array([2])]

        def run(self, prepared: np.ndarray) -> np.ndarray:
            return prepared * 10

        def answers(self, result: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return result[:, None]

    class Broken(Fixed):
        name = "broken"

        def run(self, prepared: np.ndarray) -> np.ndarray:
            raise ValueError("first line\nsecond")

    results = race([Fixed(), Broken()], budget=0.01, rounds=2, compare=[1, 2])
    assert results["broken"].error == "ValueError: first line"
    fixed = results["fixed"]
    assert fixed.num_rows == 3
    assert {r: a.tolist() for r, a in fixed.answers.items()} == {1: [10], 2: [20]}
    fixed.seconds = {0: [4.0, 2.0, 2.0], 1: [1.0]}
    assert fixed.median() == 1.5
    assert fixed.median([0]) == 2.0
    assert fixed.per_row() == 1.0
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_work_beside_a_gpu_runs_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    gpu = importlib.import_module("benchmarks.gpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = tmp_path / "out.json"
    arguments = ["--cases", "chain", "machine", "--size", "0.01", "--seconds", "0.1"]
    assert gpu.main([*arguments, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert [*figures] == ["chain", "machine"]
    assert all(line["cpu"].endswith(" s") for line in figures.values())
    assert "no GPU here" in capsys.readouterr().out
