"""The sites of a guide, those that are computed from others included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgnn.errors import ModelError
from pgnn.models.program_parameters import ProgramParameters
from pgnn.models.program_run import Visitor, _private, execute, seeded_with
from pgnn.models.program_structure import Site, site_of


def guide_sites(guide: Callable[[], Any], parameters: ProgramParameters) -> dict[str, Site]:
    """Run a guide once and return its sites, in order.

    Raises:
        ModelError: If a name occurs twice or a shape does not fit a plate.
    """
    visitor = _Sites()

    def run() -> None:
        seeded_with(0)
        guide()

    execute(run, visitor, parameters)
    return visitor.sites


def set_up(guide: Callable[[], Any]) -> None:
    """Run a guide that is a module once: Pyro's automatic ones make their parameters then."""
    with _private():
        seeded_with(0)
        guide()


class _Sites(Visitor):
    """Draws, and notes all sites."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        if name in self.sites:
            raise ModelError(f"site {name!r} occurs twice in the guide; rename one")
        value = fn() if observed is None else observed
        self.sites[name] = site_of(name, fn, value, observed, message)
        return value
