"""The sites of a guide, those that are computed from others included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgnn.errors import ModelError
from pgnn.programs.handlers import Visitor, _private, execute, seeded_with
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import Kind, Site, site_of


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


def check_guide(
    guide: Callable[[], Any], sites: Mapping[str, Site], parameters: ProgramParameters
) -> None:
    """Check that a guide has the latent sites that cannot be summed out.

    Args:
        guide: With its arguments bound.
        sites: Of the program.
        parameters: Of both.

    Raises:
        ModelError: If it misses one, has others, or a shape differs; the site is named.
    """
    found = guide_sites(guide, parameters)
    for name, site in sites.items():
        if site.kind is Kind.REAL and name not in found:
            raise ModelError(f"the guide misses site {name!r} of the model" + _has(found))
        if name in found and site.kind is not Kind.OBSERVED:
            _check_alike(site, found[name])
    for name, site in found.items():
        if name not in sites and not site.auxiliary:
            raise ModelError(f"the guide has site {name!r}, the model has not")


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


def _has(sites: Iterable[str]) -> str:
    return f"; it has {', '.join(repr(n) for n in sites) or 'none'}"


def _check_alike(site: Site, other: Site) -> None:
    shapes = [(*s.sizes, *s.event) for s in (site, other)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"site {site.name!r} has shape {shapes[0]} in the model ({site.where()}) but "
            f"{shapes[1]} in the guide ({other.where()})"
        )
