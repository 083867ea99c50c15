"""Passes of a fit that goes on where an earlier one was interrupted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pgnn.errors import DataError
from pgnn.inference.learning.checkpoints import Checkpoints, Keeper
from pgnn.inference.learning.kept_passes import run_passes
from pgnn.inference.loop import Info


class Doubling:
    """Each pass doubles a number."""

    def __init__(self, interrupted_in: int | None = None) -> None:
        self.passes, self.value, self.made = 0, 1, 0
        self._interrupted_in = interrupted_in

    def init(self) -> int:
        return self.passes

    def step(self, state: int) -> tuple[int, Info]:
        if self.passes == self._interrupted_in:
            raise KeyboardInterrupt
        self.passes, self.value, self.made = state + 1, 2 * self.value, self.made + 1
        return self.passes, Info(False, {"value": float(self.value)})

    def snapshot(self) -> Mapping[str, Any]:
        return {"passes": self.passes, "value": self.value}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.passes, self.value = state["passes"], state["value"]


def keeper(path: Path, fit: str = "one") -> Keeper:
    return Keeper(Checkpoints(path, every=0.0), {"fit": fit})


def test_all_passes_are_made_and_nothing_is_left(tmp_path: Path) -> None:
    work, path, began = Doubling(), tmp_path / "fit.checkpoint", []
    run_passes(work, keeper(path), 5, False, lambda: began.append(1))
    assert (work.passes, work.value, began) == (5, 32, [1])
    assert not path.exists()


@pytest.mark.parametrize("interrupted_in", [1, 3])
def test_an_interrupted_fit_makes_the_passes_that_are_left(
    tmp_path: Path, interrupted_in: int
) -> None:
    path = tmp_path / "fit.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run_passes(Doubling(interrupted_in), keeper(path), 5, False)
    assert path.exists()
    with pytest.raises(DataError, match="the checkpoint of another fit, which differs in its fit"):
        run_passes(Doubling(), keeper(path, "two"), 5, False)
    work = Doubling()
    run_passes(work, keeper(path), 5, False, lambda: pytest.fail("it began already"))
    assert (work.passes, work.value, work.made) == (5, 32, 5 - interrupted_in)
    assert not path.exists()


def test_without_checkpoints_nothing_is_written(tmp_path: Path) -> None:
    work = Doubling()
    run_passes(work, Keeper(None, {}), 3, False)
    assert work.value == 8
    assert not [*tmp_path.iterdir()]
