"""The passes of a fit that saves its progress and can resume an interrupted fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pgnn.inference.learning.checkpoints import Keeper
from pgnn.inference.loop import Info, Run, iterate


class Passes(Protocol):
    """A method whose step is one pass over the rows.

    Attributes:
        passes: Number of passes made.
    """

    passes: int

    def init(self) -> int:
        """Return the number of passes made."""

    def step(self, state: int) -> tuple[int, Info]:
        """Make a pass."""

    def snapshot(self) -> Mapping[str, Any]:
        """Return the state on which all further passes depend."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a snapshot of the same fit."""


def run_passes(
    work: Passes,
    keeper: Keeper,
    total: int,
    progress: bool,
    begin: Callable[[], None] | None = None,
) -> Run[int]:
    """Run the remaining passes with checkpoints, which are removed at the end.

    Args:
        work: Runs the passes.
        keeper: Stores the checkpoints of the fit.
        total: Number of passes, including those of an interrupted fit.
        progress: Whether to show a progress bar.
        begin: Called first, unless an interrupted fit is resumed.
    """
    before = keeper.state()
    if before is not None:
        work.restore(before)
    elif begin is not None:
        begin()
    with keeper.saving_on_interrupt():
        run = iterate(
            work, total - work.passes, progress=progress, label="passes",
            after=lambda _: keeper.after(work.snapshot),
        )  # fmt: skip
    keeper.close()
    return run
