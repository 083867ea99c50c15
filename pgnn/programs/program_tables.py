"""All tables of a program's discrete part, from one run of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.programs.program_density import log_prob_of, log_table_of
from pgnn.programs.program_layout import Layout, listed
from pgnn.programs.program_parameters import ProgramParameters
from pgnn.programs.program_run import Finished, Visitor, execute, scaled
from pgnn.programs.program_structure import Kind, Site, is_computed

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""How far a table entry may be from what one run of the program gave."""


class SiteTable(NamedTuple):
    """The table of one site, or of all cells of its plates.

    Attributes:
        scope: Discrete sites, the site itself last if it is discrete.
        log_values: ``(*sizes of the axes, K1, ..., Kn)``; the axes have length one where all of
            their cells share a table.
        shared: Whether they do.
    """

    scope: tuple[str, ...]
    log_values: Tensor
    shared: bool


class _Enumeration(Visitor):
    """Gives each discrete site all of its states, and keeps the tables."""

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
                f"site {name!r} is not in every execution of the program: which sites there are "
                "depends on a latent value; use engine=pgnn.ExecutionSampling()"
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
                log_prob = log_prob_of(fn, value)
            log_prob = scaled(log_prob, message, max(site.num_states, 1), layout.power)
            return _read_off(log_prob, site, layout)
        except (ValueError, RuntimeError) as error:
            scope = [n for n in layout.scopes[site.name] if n != site.name]
            raise ModelError(
                f"site {site.name!r} cannot be evaluated for all states of {listed(scope)} at "
                f"once: {error}. Write it with operations that broadcast, such as table[x], or "
                "use engine=pgnn.ExecutionSampling()"
            ) from error


def tables_of(
    program: Callable[[], Any],
    layout: Layout,
    parameters: ProgramParameters,
    reals: Mapping[str, Tensor] | None = None,
    skipped: set[str] | None = None,
) -> dict[str, SiteTable]:
    """Run a program once and return the table of each site.

    Args:
        program: The program, its arguments bound.
        layout: Where states are laid out.
        parameters: Of the program.
        reals: Values ``(*sizes, *event)`` of real sites; what was drawn once where not given.
        skipped: Sites whose tables are not wanted.

    Raises:
        Unsupported: If the program does not do what it did when its sites were found.
    """
    visitor = _Enumeration(layout, reals or {}, skipped or set())
    if visitor.left:
        execute(program, visitor, parameters)
    if visitor.left:
        missing = [n for n in layout.sites if n not in visitor.tables and n not in visitor.skipped]
        raise Unsupported(
            f"sites {listed(missing)} are not in every execution of the program; use "
            "engine=pgnn.ExecutionSampling()"
        )
    return visitor.tables


def check_tables(
    tables: Mapping[str, SiteTable], sites: Mapping[str, Site], power: float = 1.0
) -> None:
    """Check that the tables say about one execution what the program itself said of it.

    Args:
        tables: Of all sites.
        sites: Of that execution.
        power: What the tables are without, see :class:`Layout`.

    Raises:
        Unsupported: If they do not, which names the site: its cells are coupled, or the program
            computes something else of many values than of one.
    """
    for name, table in tables.items():
        site = sites[name]
        index = [_codes(sites[n], site) for n in table.scope]
        sizes = site.sizes
        shape = (*sizes, *table.log_values.shape[len(sizes) :])
        cells = torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij") if sizes else ()
        found = table.log_values.detach().expand(shape)[(*cells, *index)]
        told = _squeezed(site.log_prob, site, ())
        if site.kind is not Kind.DISCRETE:
            told = told / power
        told = told.expand(sizes)
        tolerance = _TOLERANCE.get(found.dtype, 1e-2)
        if not torch.allclose(found, told.to(found), rtol=tolerance, atol=tolerance):
            others = [n for n in site.sources if n != name]
            raise Unsupported(
                f"site {name!r} is not what a table over {listed(table.scope)} can say: for one "
                f"execution the program gave the log probability {told.sum().item():.6g}, the "
                f"table {found.sum().item():.6g}. It depends on {listed(others)} by operations "
                "that couple elements of a plate or do not broadcast; use "
                "engine=pgnn.ExecutionSampling()"
            )


def _read_off(log_prob: Tensor, site: Site, layout: Layout) -> SiteTable:
    """The table of a log probability that has dimensions for plates and for states."""
    scope = list(layout.scopes[site.name])
    lead = {layout.dims[n]: n for n in scope}
    kept = []
    for dim in range(-log_prob.dim(), -layout.plates):
        if log_prob.shape[dim] > 1:
            if dim not in lead:
                raise Unsupported(
                    f"site {site.name!r} depends on a discrete site in a way that could not be "
                    "followed; use engine=pgnn.ExecutionSampling()"
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
    """Dimensions of the axes, then of the states, all others (of length one) left out."""
    wanted = [*(a.dim for a in site.axes), *states]
    rank = max([log_prob.dim(), *(-d for d in wanted)])
    if log_prob.dim() < rank:
        log_prob = log_prob.reshape([*[1] * (rank - log_prob.dim()), *log_prob.shape])
    places = [d + rank for d in wanted]
    rest = [k for k in range(rank) if k not in places]
    moved = log_prob.permute([*places, *rest])
    for _ in rest:
        moved = moved.squeeze(-1)
    return moved


def _codes(site: Site, of: Site) -> Tensor:
    """States that a site had in one execution, in the shape of the axes of another one."""
    return _squeezed(site.codes(site.value), of, ()).expand(of.sizes)
