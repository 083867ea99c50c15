"""Which rows of its plates a program sees: all of them, or those of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro.poutine.subsample_messenger import SubsampleMessenger
from torch import Tensor

from pgnn.errors import Unsupported


class PlateRows:
    """Chooses the rows of plates that leave the choice to Pyro (``subsample_size=``).

    Args:
        rows: ``(B,)`` numbers of the rows that plates see, by name; other plates see all rows.

    Attributes:
        sizes: Of each plate of which a program asked for some rows: how many there are, and how
            many it asked for.
    """

    def __init__(self, rows: Mapping[str, Tensor] | None = None) -> None:
        self.rows = dict(rows or {})
        self.sizes: dict[str, tuple[int, int]] = {}

    def bound(self, program: Callable[[], Any]) -> Callable[[], Any]:
        """Return the program with its rows chosen."""

        def run() -> Any:
            with _chosen_by(self._choose):
                return program()

        return run

    def _choose(self, name: str, size: int, number: int) -> Tensor:
        self.sizes[name] = (size, number)
        found = self.rows.get(name)
        return torch.arange(size) if found is None else found


def check_vectorised(message: Mapping[str, Any]) -> None:
    """Raise if a site stands in a loop over some rows of a plate: its name would change."""
    for frame in message["cond_indep_stack"]:
        if frame.dim is None and frame.size != frame.full_size:
            raise Unsupported(
                f"plate {frame.name!r} is a loop over some of its rows, so that site "
                f"{message['name']!r} is not there for others; write `with pyro.plate(...) as "
                "rows:` instead of `for`"
            )


@contextlib.contextmanager
def _chosen_by(choose: Callable[[str, int, int], Tensor]) -> Iterator[None]:
    """Let a function choose the rows where Pyro would draw them.

    Pyro's messages can say which rows, but not how many: that is for the plate to say.
    """
    plates: Any = SubsampleMessenger
    own = vars(plates)["_subsample"]

    def subsample(
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        subsample: Tensor | None = None,
        *rest: Any,
    ) -> Any:
        if subsample is None and size is not None and (subsample_size or size) < size:
            assert subsample_size is not None
            subsample, subsample_size = choose(name, int(size), int(subsample_size)), None
        return own.__func__(name, size, subsample_size, subsample, *rest)

    plates._subsample = staticmethod(subsample)
    try:
        yield
    finally:
        plates._subsample = own
