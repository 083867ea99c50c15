"""What stands behind a program as a model: its sites, and the runs that make its tables."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import networkx as nx
import pyro
import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.factor_group import FactorGroup
from pgnn.factors.variable import Variable
from pgnn.models.caching import CachingModule
from pgnn.models.guide_sites import guide_sites, set_up
from pgnn.models.program_evaluation import Evaluation, Tables
from pgnn.models.program_execution import Execution, run_once
from pgnn.models.program_layout import Layout
from pgnn.models.program_lowering import Lowering, masked
from pgnn.models.program_parameters import ProgramParameters
from pgnn.models.program_rows import shaped, tables_in_rows
from pgnn.models.program_structure import Kind, Site, dependencies, discover
from pgnn.models.program_tables import check_tables, tables_of
from pgnn.models.program_tracking import LatentRead

_EXECUTIONS = 10
"""How often a program is run to see which sites it can come by."""
_ROW_COUNTS = 4
"""For so many numbers of rows it is remembered how tables are made."""


class ProgramSource:
    """A program with its arguments, read.

    Args:
        programs: The program and its guide.
        args: Arguments of both.
        kwargs: By name.
        parameters: What ``pyro.param`` gives.

    Attributes:
        model: The program with its arguments bound.
        sites: Its sites.
        variables: The latent ones as variables.
        graph: Who depends on whom.
        obstacle: Why there are no tables, or None.
        tensors: Tensors among the arguments.
    """

    def __init__(
        self,
        programs: tuple[Callable[..., Any], Callable[..., Any] | None],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parameters: ProgramParameters,
    ) -> None:
        self.parameters = parameters
        parameters.start_from(pyro.get_param_store())
        model, guide = programs
        self.model: Callable[[], Any] = lambda: model(*args, **kwargs)
        self.guide = None if guide is None else (lambda: guide(*args, **kwargs))
        self.tensors = [x for x in [*args, *kwargs.values()] if isinstance(x, Tensor)]
        self.obstacle: str | None = None
        self.graph, self.sites = nx.DiGraph(), dict[str, Site]()
        self._read_sites()
        declared = getattr(model, "site_variables", {})
        self.variables: dict[Hashable, Variable] = {}
        self.names: dict[str, Hashable] = {}
        for site in self.sites.values():
            if site.kind is not Kind.OBSERVED:
                v = site.variable(declared)
                self.variables[v.name], self.names[site.name] = v, v.name
        first = [v.name for v in declared.values() if v.name in self.variables]
        self.variables = {n: self.variables[n] for n in dict.fromkeys([*first, *self.variables])}
        self.site_names = {v: k for k, v in self.names.items()}
        if self.guide is not None:
            if isinstance(guide, torch.nn.Module):
                set_up(self.guide)
            self._check_guide()
        parameters.forget_start()

    def factors(
        self, owner: CachingModule, observed: Mapping[Hashable, Tensor], elements: Elements
    ) -> tuple[Factor, ...]:
        """Return a factor for each cell of each site."""
        return tuple(self._lowering(elements).factors(self._tables(owner, observed)))

    def groups(
        self, owner: CachingModule, observed: Mapping[Hashable, Tensor], elements: Elements
    ) -> tuple[FactorGroup, ...]:
        """Return them gathered into arrays."""
        return self._lowering(elements).groups(self._tables(owner, observed))

    def execute(self, held: Mapping[Hashable, Tensor], seed: int) -> Execution:
        """Run the program once with some values held; values are named by variable."""
        own = {self.site_names[n]: x for n, x in held.items()}
        done = run_once(self.model, self.parameters, own, seed)
        named = {self.names[str(n)]: x for n, x in done.values.items() if n in self.names}
        return Execution(done.sites, named, done.log_weight, done.terms)

    def _lowering(self, elements: Elements) -> Lowering:
        if getattr(self, "_made", None) is None:
            self._made = Lowering(self.sites, self.names, elements)
        return self._made

    def _tables(self, owner: CachingModule, observed: Mapping[Hashable, Tensor]) -> Tables:
        """The tables given what was observed of real sites."""
        reals = {
            self.site_names[n]: x
            for n, x in observed.items()
            if self.sites[self.site_names[n]].kind is Kind.REAL
        }
        skipped = self._barren(set(reals))
        self._check_free(set(reals), skipped)
        ready = self._ready(owner, skipped)
        if not reals:
            tables: Tables = owner.cached_numbers(
                "tables of sites", lambda: ready.tables({}, *self._inputs(owner))
            )
            return tables
        unseen = self._unseen(reals)
        filled = {
            n: torch.where(x.isnan(), self.sites[n].drawn, x) if n in unseen else x
            for n, x in reals.items()
        }
        return masked(self._in_rows(owner, ready, shaped(self.layout, filled), skipped), unseen)

    def _in_rows(
        self, owner: CachingModule, one: Evaluation, reals: Mapping[str, Tensor], skipped: set[str]
    ) -> Tables:
        """Tables for rows of reals: the runs for one row, mapped, are written down once more."""
        inputs, number = self._inputs(owner), next(len(x) for x in reals.values())
        made: OrderedDict[Any, Evaluation] = owner.cached("evaluations in rows", OrderedDict)
        key = (number, *reals, "skipped", *sorted(skipped))
        many = made.pop(key, None)
        if many is None:
            many = Evaluation(
                lambda rows: tables_in_rows(
                    lambda row: one.again(row, self._inputs(owner)[0]), self.layout, rows
                )
            )
        made[key] = many
        while len(made) > _ROW_COUNTS:
            made.popitem(last=False)
        if number and not many.trusted:
            one.tables({n: x[0] for n, x in reals.items()}, *inputs)
        return many.tables(reals, *inputs)

    def _ready(self, owner: CachingModule, skipped: set[str]) -> Evaluation:
        """What makes the tables, for one choice of real sites that are given."""

        def run(reals: Mapping[str, Tensor]) -> Tables:
            return tables_of(self.model, self.layout, self.parameters, reals, skipped)

        made: Evaluation = owner.cached(("evaluation", *sorted(skipped)), lambda: Evaluation(run))
        return made

    def _inputs(self, owner: CachingModule) -> tuple[list[Tensor], list[Tensor]]:
        """What changes while learning, and what makes a tape void when it changes."""
        return [*owner.parameters()], [*self.tensors, *owner.buffers()]

    def _unseen(self, reals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``(B,)`` rows in which real sites were not seen."""
        found = {}
        for name, x in reals.items():
            if not bool(x.detach().isnan().any()):
                continue
            missing = x.detach().isnan().reshape(len(x), -1)
            rows = missing.any(dim=1)
            if not torch.equal(rows, missing.all(dim=1)):
                raise Unsupported(f"real site {name!r} was seen in part in some rows")
            children = list(self.graph.successors(name))
            if children:
                raise self._free(name, children[0])
            found[name] = rows
        return found

    def _barren(self, seen: set[str]) -> set[str]:
        """Real sites that were not seen, and on which nothing that matters depends."""
        found: set[str] = set()
        for site in reversed(self.sites.values()):
            unseen = site.kind is Kind.REAL and site.name not in seen
            if unseen and found.issuperset(self.graph.successors(site.name)):
                found.add(site.name)
        return found

    def _check_free(self, seen: set[str], skipped: set[str]) -> None:
        for site in self.sites.values():
            if site.kind is Kind.REAL and site.name not in seen and site.name not in skipped:
                child = next(c for c in self.graph.successors(site.name) if c not in skipped)
                raise self._free(site.name, child)

    def _free(self, name: str, child: str) -> Unsupported:
        return Unsupported(
            f"site {name!r} is real and not observed, and {child!r} depends on it: the sum over it "
            "has no table; give it as evidence, or use engine=pgnn.ExecutionSampling(), "
            "Variational() or MCMC()"
        )

    def _read_sites(self) -> None:
        try:
            self.sites, self.layout = self._structure()
        except LatentRead as read:
            names = " and ".join(repr(n) for n in sorted(read.sources))
            self.obstacle = (
                f"the control flow of the program depends on the value of {names}, which it reads "
                f"by {read.reader}"
            )
        except Unsupported as error:
            self.obstacle = str(error).removesuffix("; use engine=pgnn.ExecutionSampling()")
        if self.obstacle is None:
            return
        self.sites = {}
        for seed in range(_EXECUTIONS):
            found = run_once(self.model, self.parameters, {}, seed).sites
            self.sites = _merged(self.sites, found)
        self.graph = dependencies(self.sites)

    def _structure(self) -> tuple[dict[str, Site], Layout]:
        """Sites and layout, checked against two executions."""
        first = discover(self.model, self.parameters, 0)
        second = discover(self.model, self.parameters, 1)
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
        for found in (first, second):
            drawn = {n: s.value for n, s in found.items() if s.kind is Kind.REAL}
            try:
                tables = tables_of(self.model, layout, self.parameters, drawn)
            except ModelError as error:
                raise Unsupported(f"{error} (given all states of its discrete sites)") from error
            check_tables(tables, found)
            for n, t in tables.items():
                scopes.setdefault(n, set()).update(t.scope)
        for child in sites:  # computed from, but not a function of
            idle = [
                p
                for p in graph.predecessors(child)
                if sites[p].kind is Kind.DISCRETE and p not in scopes[child]
            ]
            graph.remove_edges_from((p, child) for p in idle)
        self.graph = graph
        return sites, layout

    def _check_guide(self) -> None:
        """Check that the guide has the latent sites that cannot be summed out."""
        assert self.guide is not None
        found = guide_sites(self.guide, self.parameters)
        for name, site in self.sites.items():
            if site.kind is Kind.REAL and name not in found:
                raise ModelError(f"the guide misses site {name!r} of the model" + _has(found))
            if name in found and site.kind is not Kind.OBSERVED:
                _check_alike(site, found[name])
        for name, site in found.items():
            if name not in self.sites and not site.auxiliary:
                raise ModelError(f"the guide has site {name!r}, the model has not")


def _merged(known: Mapping[str, Site], found: Mapping[str, Site]) -> dict[str, Site]:
    """Sites of two executions, each in its order; of two of a name the one with more states."""
    merged: dict[str, Site] = {}
    rest = iter(known.items())
    for name, site in found.items():
        if name in known:
            for other, old in rest:
                merged[other] = old
                if other == name:
                    break
        old_site = known.get(name)
        merged[name] = (
            site if old_site is None or old_site.num_states < site.num_states else old_site
        )
    return {**merged, **dict(rest)}


def _has(sites: Iterable[str]) -> str:
    return f"; it has {', '.join(repr(n) for n in sites) or 'none'}"


def _check_alike(site: Site, other: Site) -> None:
    shapes = [(*s.sizes, *s.event) for s in (site, other)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"site {site.name!r} has shape {shapes[0]} in the model ({site.where()}) but "
            f"{shapes[1]} in the guide ({other.where()})"
        )
