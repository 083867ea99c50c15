"""The sites of a program and their dependencies, found by a few executions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import torch

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.randomness import seeded_with
from pgnn.programs.enumeration import Layout, SiteTable, check_tables, tables_of
from pgnn.programs.execution import run_once
from pgnn.programs.handlers import Visitor, execute
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import Kind, Site, has_density, is_computed, site_of
from pgnn.programs.tracking import LatentRead, plain, track

Program = Callable[[], Any]

_EXECUTIONS = 10
"""Number of executions that find the sites of a program without tables."""


@dataclass(frozen=True, eq=False)
class Dependencies:
    """Result of the analysis of a program.

    Attributes:
        sites: Sites by name, in the order of the program.
        graph: Dependencies between sites.
        layout: Dimensions of the states of discrete sites; None if the program has no tables.
        obstacle: Reason why the program has no tables; None if it has.
    """

    sites: dict[str, Site]
    graph: nx.DiGraph
    layout: Layout | None = None
    obstacle: str | None = None

    @classmethod
    def of(
        cls, program: Program, parameters: ProgramParameters, batch: bool = False
    ) -> Dependencies:
        """Analyse a program by executing it.

        Args:
            program: The program, its arguments bound.
            parameters: Parameters of the program.
            batch: Whether plates are subsampled, which requires tables.

        Raises:
            PgnnError: If the program fails, or can be neither enumerated nor executed.
        """
        try:
            return _with_tables(program, parameters)
        except LatentRead as read:
            names = " and ".join(repr(n) for n in sorted(read.sources))
            obstacle = (
                f"the control flow of the program depends on the value of {names}, which is read "
                f"by {read.reader}"
            )
        except Unsupported as error:
            if batch:
                raise
            obstacle = error.reason
            try:
                return cls._without_tables(program, parameters, obstacle)
            except Unsupported:  # nor can it be executed
                raise error from None
        return cls._without_tables(program, parameters, obstacle)

    @classmethod
    def _without_tables(
        cls, program: Program, parameters: ProgramParameters, obstacle: str
    ) -> Dependencies:
        sites: dict[str, Site] = {}
        for seed in range(_EXECUTIONS):
            sites = _merged(sites, run_once(program, parameters, {}, seed).sites)
        return cls(sites, dependencies(sites), None, obstacle)


def _with_tables(program: Program, parameters: ProgramParameters) -> Dependencies:
    """Find sites and layout, and check them against two executions."""
    first, second = (discover(program, parameters, seed) for seed in (0, 1))
    for one, other in ((first, second), (second, first)):
        extra = [n for n in one if n not in other]
        if extra:
            raise Unsupported(
                f"site {extra[0]!r} is not in every execution of the program: its control flow "
                "depends on a latent value"
            )
    sites = {n: replace(s, sources=s.sources | second[n].sources) for n, s in first.items()}
    graph = dependencies(sites)
    layout = Layout.of(sites, {n: list(graph.predecessors(n)) for n in sites})
    scopes: dict[str, set[str]] = {}
    for seed, execution in enumerate((first, second), start=2):  # hidden sites are resampled
        for name, table in _checked_tables(program, parameters, layout, execution, seed).items():
            scopes.setdefault(name, set()).update(table.scope)
    for child in sites:  # computed from the parent, but does not depend on it
        parents = [p for p in graph.predecessors(child) if sites[p].kind is Kind.DISCRETE]
        graph.remove_edges_from((p, child) for p in parents if p not in scopes[child])
    return Dependencies(sites, graph, layout)


def _checked_tables(
    program: Program,
    parameters: ProgramParameters,
    layout: Layout,
    execution: Mapping[str, Site],
    seed: int,
) -> Mapping[str, SiteTable]:
    """Compute the tables at the real values of one execution, and check them against it."""

    def run() -> None:
        seeded_with(seed)
        program()

    drawn = {n: s.value for n, s in execution.items() if s.kind is Kind.REAL}
    try:
        tables = tables_of(run, layout, parameters, drawn)
    except ModelError as error:
        raise Unsupported(
            f"{error.reason} (while its discrete sites are enumerated)", error.advice
        ) from error
    check_tables(tables, execution, layout.power)
    return tables


def _merged(known: Mapping[str, Site], latest: Mapping[str, Site]) -> dict[str, Site]:
    """Merge the sites of two executions in a common order, keeping the larger support."""
    merged: dict[str, Site] = {}
    remaining = iter(known.items())
    for name, site in latest.items():
        if name in known:
            for known_name, known_site in remaining:
                merged[known_name] = known_site
                if known_name == name:
                    break
        earlier = known.get(name)
        merged[name] = site if earlier is None or earlier.num_states < site.num_states else earlier
    return {**merged, **dict(remaining)}


class _Discovery(Visitor):
    """Draws all latent values, and records the sites from which each one was computed."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}

    def visit(self, name: str, fn: Any, observed: Any, message: dict[str, Any]) -> Any:
        """See :class:`Visitor`."""
        if name in self.sites:
            raise ModelError(
                f"site {name!r} occurs twice in the program",
                "give each sample statement a name of its own, such as f'x_{t}' in a loop",
            )
        if observed is None and is_computed(fn):
            if not has_density(fn):
                return fn.v
            observed = fn()
        with torch.no_grad():
            value = plain(fn()) if observed is None else observed
        self.sites[name] = site_of(name, fn, value, observed, message)
        return value if observed is not None else track(value, name)


def discover(
    program: Callable[[], Any], parameters: ProgramParameters, seed: int = 0
) -> dict[str, Site]:
    """Run a program once and return its sites, in order.

    Raises:
        ModelError: If a name occurs twice or a shape does not fit a plate.
        LatentRead: If the program reads a random number.
    """
    visitor = _Discovery()

    def run() -> None:
        seeded_with(seed)
        program()

    execute(run, visitor, parameters)
    return visitor.sites


def dependencies(sites: Mapping[str, Site]) -> nx.DiGraph:
    """Return the graph of the sites, parents in order; observed ones are marked."""
    graph = nx.DiGraph()
    for site in sites.values():
        graph.add_node(site.name, observed=site.kind is Kind.OBSERVED)
    for site in sites.values():
        graph.add_edges_from((p, site.name) for p in sites if p in site.sources and p != site.name)
    return graph
