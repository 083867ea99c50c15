"""Tables of the discrete sites of a program from one execution that enumerates their states."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import networkx as nx
import torch
from torch import Tensor

from pgnn.errors import Intractable, ModelError, Unsupported
from pgnn.factors.conditionals.checks import MAX_TABLE
from pgnn.graphs.colouring import greedy_colouring
from pgnn.graphs.interaction import interaction_graph
from pgnn.programs.handlers import Finished, Visitor, execute, observed_values, scaled
from pgnn.programs.log_probabilities import log_prob_of, log_table_of
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import Kind, Site, is_computed

_MAX_DIMS = 64
"""Largest number of dimensions of a torch tensor."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Dimensions that enumerate discrete sites, and scopes of all tables.

    The states of a site are enumerated along a dimension to the left of the plates. Two sites need
    different dimensions only if a table contains both, so dimensions are assigned by graph
    colouring; a chain of any length needs two.

    Attributes:
        sites: All sites, in the order of the program.
        scopes: The discrete sites of the table of each site: its parents, then itself.
        dims: The negative dimension of each discrete site.
        values: The states of each discrete site, along its dimension.
        plates: Number of dimensions of plates.
        power: Factor of the log of the sum over the discrete sites, from scales or subsampled
            plates; tables do not include it.
    """

    sites: Mapping[str, Site]
    scopes: Mapping[str, tuple[str, ...]]
    dims: Mapping[str, int]
    values: Mapping[str, Tensor]
    plates: int
    power: float = 1.0

    @classmethod
    def of(cls, sites: Mapping[str, Site], parents: Mapping[str, Sequence[str]]) -> Layout:
        """Assign dimensions to the discrete sites.

        Args:
            sites: All sites.
            parents: The latent sites on which each site may depend, in order.

        Raises:
            Intractable: If a table is too large or has too many dimensions.
            Unsupported: If a site depends on a site in a plate that does not contain it.
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
            largest = max(scopes, key=lambda n: len(scopes[n]))
            raise Intractable(
                f"the table of site {largest!r} over its parents {listed(scopes[largest][:-1])} "
                f"and others like it need {needed} dimensions, torch allows {_MAX_DIMS}",
                "use engine=pgnn.ExecutionSampling()",
            )
        dims = {n: -(deepest + 1 + c) for n, c in colours.items()}
        values = {n: _laid_out(sites[n], dims[n]) for n in dims}
        power = next((sites[n].scale for n in discrete), 1.0)
        layout = cls(sites, scopes, dims, values, deepest, power)
        if power != 1.0 or any(sites[n].scale != 1.0 for n in discrete):
            layout.check_independent()
        return layout

    def check_independent(self) -> None:
        """Check that discrete sites, and sites that depend on them, have the same scale.

        Only then is the scaled log of the sum over discrete sites an unbiased estimate.

        Raises:
            Unsupported: If scales differ, so that the sum over discrete sites is undefined.
        """
        for name, site in self.sites.items():
            if self.scopes[name] and not self._has_common_scale(site):
                other = next(iter(self.dims))
                raise Unsupported(
                    f"site {name!r} (in {site.where()}) has {_scale(site.scale)} and site "
                    f"{other!r} (in {self.sites[other].where()}) has {_scale(self.power)}, from "
                    "poutine.scale or subsampled plates; discrete sites can be summed out only if "
                    "they and all sites that depend on them have the same scale",
                    "Give them one scale, or use all rows of the plates",
                )

    def _has_common_scale(self, site: Site) -> bool:
        """Whether a site has the common scale of the discrete sites."""
        first = self.sites[next(iter(self.dims))]
        if not math.isclose(site.thinning, first.thinning):
            return False
        powers = site.kind is not Kind.DISCRETE and math.isclose(first.scale, first.thinning)
        return powers or math.isclose(site.scale, self.power)


def _scale(scale: float) -> str:
    return "scales that differ between cells" if math.isnan(scale) else f"scale {scale:g}"


def listed(names: Sequence[str]) -> str:
    """Format the first few names."""
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
                f"site {site.name!r} (in {site.where()}) depends on all elements of {parent!r} (in "
                f"{sites[parent].where()}) jointly, which has no table",
                "use engine=pgnn.ExecutionSampling()",
            )
    entries = math.prod(sites[n].num_states for n in scope)
    if entries > MAX_TABLE:
        parents = [n for n in scope if n != site.name]
        raise Intractable(
            f"the table of site {site.name!r} over its {len(parents)} discrete parents "
            f"{listed(parents)} has {entries:,} entries; at most {MAX_TABLE:,} are supported",
            "Observe some of them inside the program, or use engine=pgnn.ExecutionSampling()",
        )


_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference between a table entry and the value in one execution."""


class SiteTable(NamedTuple):
    """The table of one site, or of all cells of its plates.

    Attributes:
        scope: Discrete sites; the site itself is last if it is discrete.
        log_values: ``(*sizes of the axes, K1, ..., Kn)``; the axes have length one if all
            cells share a table.
        shared: Whether all cells share a table.
    """

    scope: tuple[str, ...]
    log_values: Tensor
    shared: bool


class _Enumeration(Visitor):
    """Enumerates the states of each discrete site, and records the tables."""

    def __init__(self, layout: Layout, reals: Mapping[str, Tensor], skipped: set[str]) -> None:
        self.layout, self.reals, self.skipped = layout, reals, skipped
        self.tables: dict[str, SiteTable] = {}
        self.left = len(layout.sites)

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        site = self.layout.sites.get(name)
        if observed is None and is_computed(fn):
            if site is None:
                return fn.v
            observed = fn()
        if site is None:
            raise Unsupported(
                f"site {name!r} is not in every execution of the program: the set of sites depends "
                "on a latent value",
                "use engine=pgnn.ExecutionSampling()",
            )
        value = observed
        if observed is None:
            known = site.kind is Kind.DISCRETE
            value = self.layout.values[name] if known else self.reals.get(name, site.value)
        if name not in self.skipped:
            self.tables[name] = self._table(site, fn, value, message)
        self.left -= 1
        if not self.left:
            raise Finished
        return value

    def _table(self, site: Site, fn: Any, value: Any, message: dict[str, Any]) -> SiteTable:
        layout = self.layout
        try:
            if site.kind is Kind.DISCRETE:
                assert site.support is not None
                log_prob = log_table_of(fn, site.support, layout.dims[site.name])
            else:
                if site.kind is Kind.OBSERVED:
                    value = observed_values(fn, value, message)
                log_prob = log_prob_of(fn, value, site.in_support)
            latent = site.kind is not Kind.OBSERVED
            log_prob = scaled(log_prob, message, latent, layout.power)
            return _site_table(log_prob, site, layout)
        except (ValueError, RuntimeError) as error:
            scope = [n for n in layout.scopes[site.name] if n != site.name]
            raise ModelError(
                f"site {site.name!r} cannot be evaluated for all states of {listed(scope)} in one "
                f"batch: {error}",
                "Use operations that broadcast, such as table[x], or use "
                "engine=pgnn.ExecutionSampling()",
            ) from error


def tables_of(
    program: Callable[[], Any],
    layout: Layout,
    parameters: ProgramParameters,
    reals: Mapping[str, Tensor] | None = None,
    skipped: set[str] | None = None,
) -> dict[str, SiteTable]:
    """Execute a program once and return the table of each site.

    Args:
        program: The program, its arguments bound.
        layout: Dimensions that enumerate the states.
        parameters: Parameters of the program.
        reals: Values ``(*sizes, *event)`` of real sites; earlier draws by default.
        skipped: Sites whose tables are left out.

    Raises:
        Unsupported: If the sites differ from those found before.
    """
    visitor = _Enumeration(layout, reals or {}, skipped or set())
    if visitor.left:
        execute(program, visitor, parameters)
    if visitor.left:
        missing = [n for n in layout.sites if n not in visitor.tables and n not in visitor.skipped]
        raise Unsupported(
            f"sites {listed(missing)} are not in every execution of the program",
            "use engine=pgnn.ExecutionSampling()",
        )
    return visitor.tables


def check_tables(
    tables: Mapping[str, SiteTable], sites: Mapping[str, Site], power: float = 1.0
) -> None:
    """Check that the tables agree with the log probabilities of one execution.

    Args:
        tables: Tables of all sites.
        sites: Sites of the execution.
        power: Factor that tables do not include, see :class:`Layout`.

    Raises:
        Unsupported: If they differ because cells of a site are coupled, or the program does not
            broadcast; the message names the site.
    """
    for name, table in tables.items():
        site = sites[name]
        index = [_codes(sites[n], site) for n in table.scope]
        sizes = site.sizes
        shape = (*sizes, *table.log_values.shape[len(sizes) :])
        cells = torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij") if sizes else ()
        from_table = table.log_values.detach().expand(shape)[(*cells, *index)]
        direct = _squeezed(site.log_prob, site, ())
        if site.kind is not Kind.DISCRETE:
            direct = direct / power
        direct = direct.expand(sizes)
        tolerance = _TOLERANCE.get(from_table.dtype, 1e-2)
        if not torch.allclose(from_table, direct.to(from_table), rtol=tolerance, atol=tolerance):
            others = [n for n in site.sources if n != name]
            raise Unsupported(
                f"site {name!r} does not agree with its table over {listed(table.scope)}: in one "
                f"execution its log probability is {direct.sum().item():.6g}, but the table has "
                f"{from_table.sum().item():.6g}. Its dependence on {listed(others)} couples "
                "elements of a plate or does not broadcast",
                "use engine=pgnn.ExecutionSampling()",
            )


def _site_table(log_prob: Tensor, site: Site, layout: Layout) -> SiteTable:
    """Return the table of a log probability with dimensions for plates and for states."""
    scope = list(layout.scopes[site.name])
    lead = {layout.dims[n]: n for n in scope}
    kept = []
    for dim in range(-log_prob.dim(), -layout.plates):
        if log_prob.shape[dim] > 1:
            if dim not in lead:
                raise Unsupported(
                    f"site {site.name!r} depends on a discrete site that was not detected",
                    "use engine=pgnn.ExecutionSampling()",
                )
            kept.append(lead[dim])
    if site.kind is Kind.DISCRETE and site.name not in kept:
        kept.append(site.name)
    final = tuple(n for n in scope if n in kept)
    return SiteTable(final, *_squeezed_states(log_prob, site, final, layout))


def _squeezed_states(
    log_prob: Tensor, site: Site, scope: tuple[str, ...], layout: Layout
) -> tuple[Tensor, bool]:
    states = [layout.dims[n] for n in scope]
    table = _squeezed(log_prob, site, states)
    count = len(site.axes)
    shared = count > 0 and all(table.shape[k] == 1 or table.stride(k) == 0 for k in range(count))
    if shared:
        table = table[tuple(slice(0, 1) for _ in range(count))]
    return table, shared


def _squeezed(log_prob: Tensor, site: Site, states: Sequence[int]) -> Tensor:
    """Return the dimensions of the axes, then of the states; all others have length one."""
    dims = [*(a.dim for a in site.axes), *states]
    rank = max([log_prob.dim(), *(-d for d in dims)])
    if log_prob.dim() < rank:
        log_prob = log_prob.reshape([*[1] * (rank - log_prob.dim()), *log_prob.shape])
    places = [d + rank for d in dims]
    superfluous = [k for k in range(rank) if k not in places]
    moved = log_prob.permute([*places, *superfluous])
    for _ in superfluous:
        moved = moved.squeeze(-1)
    return moved


def _codes(site: Site, of: Site) -> Tensor:
    """Return the states of a site in one execution, broadcast to the axes of another site."""
    return _squeezed(site.joint_codes(site.value), of, ()).expand(of.sizes)
