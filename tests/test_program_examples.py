"""The examples of programs run, and find what they say they find."""

from __future__ import annotations

import importlib
from pathlib import Path

import pyro
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Run an example; its picture goes to a folder."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    found: dict[str, float] = importlib.import_module(name).main(["--out", str(folder)])
    assert (folder / f"{name}.png").stat().st_size > 10_000
    return found


def test_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("program_mixture", tmp_path, monkeypatch)
    assert found["after"] > found["before"] + 100
    assert found["right"] > 0.95
    assert not [*pyro.get_param_store().keys()]


def test_three_hundred_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("program_300_sites", tmp_path, monkeypatch)
    assert found["treewidth"] <= 3
    assert found["right"] > 0.6
