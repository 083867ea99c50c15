"""The examples run, and find what they say they find."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> Callable[[str], dict[str, float]]:
    """Run an example by name; its pictures go to a temporary folder."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name: str) -> dict[str, float]:
        module: ModuleType = importlib.import_module(name)
        found: dict[str, float] = module.main(["--data", str(data_dir), "--out", str(tmp_path)])
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        return found

    return run


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_length(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 90


def test_denoise_letter(example: Callable[[str], dict[str, float]]) -> None:
    errors = example("denoise_letter")
    threshold = errors.pop("threshold")
    assert threshold > 0.15
    assert len(errors) == 4
    assert max(errors.values()) < 0.01


def test_stereo(example: Callable[[str], dict[str, float]]) -> None:
    errors = example("stereo")
    assert errors["each pixel alone"] > 0.4
    assert errors["Potts field"] < 0.06


def test_learn_couplings(example: Callable[[str], dict[str, float]]) -> None:
    """With 4,000 samples of standard error about 1 / 63, times what neighbours already tell."""
    errors = example("learn_couplings")
    assert errors["exact likelihood"] < 0.022
    assert errors["pseudo-likelihood"] < 0.022
    assert errors["likelihood by belief propagation"] < 0.1
