"""Where the states of a program's discrete sites are laid out, so that one run gives all tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
from torch import Tensor

from pgnn.errors import Intractable, Unsupported
from pgnn.factors.conditionals.conditional import MAX_TABLE
from pgnn.graphs.colouring import greedy_colouring
from pgnn.graphs.interaction import interaction_graph
from pgnn.programs.program_structure import Kind, Site

_MAX_DIMS = 64
"""Dimensions that a tensor of torch may have."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the states of each discrete site are laid out, and what each table is over.

    A site is given all of its states at once, along a dimension left of the plates. Two sites need
    different dimensions only if some table is over both, so these are the colours of a graph: a
    chain of any length needs two.

    Attributes:
        sites: All sites, in the order of the program.
        scopes: Of each site, the discrete sites that its table is over: parents, then itself.
        dims: Of each discrete site, its negative dimension.
        values: Of each discrete site, its states along that dimension.
        plates: How many dimensions are left to plates.
        power: What the logarithm of the sum over the discrete sites is multiplied by, since they
            stand in plates of which some rows are seen; tables are without it.
    """

    sites: Mapping[str, Site]
    scopes: Mapping[str, tuple[str, ...]]
    dims: Mapping[str, int]
    values: Mapping[str, Tensor]
    plates: int
    power: float = 1.0

    @classmethod
    def of(cls, sites: Mapping[str, Site], parents: Mapping[str, Sequence[str]]) -> Layout:
        """Choose dimensions for the discrete sites.

        Args:
            sites: All sites.
            parents: Of each site, the latent sites that it may depend on, in order.

        Raises:
            Intractable: If a table is too large to be written down, or has too many dimensions.
            Unsupported: If a site depends on a site in a plate that it is not in itself.
        """
        scopes: dict[str, tuple[str, ...]] = {}
        for name, site in sites.items():
            scope = [p for p in parents[name] if sites[p].kind is Kind.DISCRETE]
            if site.kind is Kind.DISCRETE:
                scope.append(name)
            scopes[name] = tuple(scope)
            _check_scope(site, scope, sites)
        discrete = [n for n, s in sites.items() if s.kind is Kind.DISCRETE]
        colours = _coloured(scopes, discrete)
        plates = max([-a.dim for s in sites.values() for a in s.axes], default=0)
        deepest = max([plates, *(s.log_prob.dim() for s in sites.values())])
        needed = deepest + max(colours.values(), default=-1) + 1
        widest = max((len(s.event) for s in sites.values()), default=0) + 1
        if needed + widest > _MAX_DIMS:
            crowded = max(scopes, key=lambda n: len(scopes[n]))
            raise Intractable(
                f"the table of site {crowded!r} over its parents {listed(scopes[crowded][:-1])} "
                f"and others like it need {needed} dimensions, torch has {_MAX_DIMS}; use "
                "engine=pgnn.ExecutionSampling()"
            )
        dims = {n: -(deepest + 1 + c) for n, c in colours.items()}
        values = {n: _laid_out(sites[n], dims[n]) for n in dims}
        power = max([sites[n].thinning for n in discrete], default=1.0)
        made = cls(sites, scopes, dims, values, deepest, power)
        if power != 1.0:
            made.check_independent()
        return made

    def check_independent(self) -> None:
        """Check that each discrete cell that is seen stands for others, with all that it decides.

        Raises:
            Unsupported: If not; then the logarithm of a sum over batches is not right on average.
        """
        for name, site in self.sites.items():
            if self.scopes[name] and site.thinning != self.power:
                other = next(n for n in self.dims if self.sites[n].thinning == self.power)
                where = self.sites[other].where()
                raise Unsupported(
                    f"site {name!r} (in {site.where()}) counts {site.thinning:g} times for rows "
                    f"that are not seen, site {other!r} (in {where}) {self.power:g} times, and "
                    "discrete sites are summed out of both: that is right only for cells of one "
                    "plate, independent given the rest; let plates see all of their rows"
                )


def listed(names: Sequence[str]) -> str:
    """Return some names as text."""
    shown = ", ".join(repr(n) for n in names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown or "nothing"


def _laid_out(site: Site, dim: int) -> Tensor:
    assert site.support is not None
    return site.support.reshape(len(site.support), *[1] * (-dim - 1), *site.event)


def _coloured(scopes: Mapping[str, tuple[str, ...]], discrete: Sequence[str]) -> dict[str, int]:
    graph: nx.Graph = interaction_graph(scopes.values(), discrete)
    both = (greedy_colouring(graph, discrete), greedy_colouring(graph))
    fewest = min(both, key=lambda colours: max(colours.values(), default=0))
    return {str(name): colour for name, colour in fewest.items()}


def _check_scope(site: Site, scope: Sequence[str], sites: Mapping[str, Site]) -> None:
    for parent in scope:
        outside = [a for a in sites[parent].axes if a not in site.axes]
        if outside:
            raise Unsupported(
                f"site {site.name!r} (in {site.where()}) depends on {parent!r} (in "
                f"{sites[parent].where()}): all elements of {parent!r} together, of which there "
                "is no table; use engine=pgnn.ExecutionSampling()"
            )
    entries = math.prod(sites[n].num_states for n in scope)
    if entries > MAX_TABLE:
        parents = [n for n in scope if n != site.name]
        raise Intractable(
            f"the table of site {site.name!r} over its {len(parents)} discrete parents "
            f"{listed(parents)} has {entries:,} entries, at most {MAX_TABLE:,} are written down; "
            "observe some of them inside the program, or use engine=pgnn.ExecutionSampling()"
        )
