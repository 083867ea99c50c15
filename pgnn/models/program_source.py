"""What stands behind a program as a model: its sites, and the runs that make its tables."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.factor_group import FactorGroup
from pgnn.factors.variable import Variable
from pgnn.models.caching import CachingModule
from pgnn.models.guide_sites import check_guide, set_up
from pgnn.models.program_evaluation import Evaluation, Tables
from pgnn.models.program_execution import Execution, run_once
from pgnn.models.program_lowering import Lowering, masked
from pgnn.models.program_parameters import ProgramParameters
from pgnn.models.program_plates import PlateRows
from pgnn.models.program_reading import ProgramReading
from pgnn.models.program_rows import shaped, tables_in_rows
from pgnn.models.program_structure import Kind, powers
from pgnn.models.program_tables import tables_of

_ROW_COUNTS = 4
"""For so many numbers of rows it is remembered how tables are made."""


class ProgramSource:
    """A program with its arguments, read.

    Args:
        programs: The program and its guide.
        args: Arguments of both.
        kwargs: By name.
        parameters: What ``pyro.param`` gives.
        rows: Of plates, for a batch; all if not given.

    Attributes:
        program: The program with its arguments bound.
        model: The same, its rows chosen.
        guide: The guide likewise.
        rows: The rows that plates see.
        incomplete: Why only a batch of rows can be seen, or None.
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
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.parameters, self.rows = parameters, PlateRows(rows)
        parameters.start_from(pyro.get_param_store())
        model, guide = programs
        self.program: Callable[[], Any] = lambda: model(*args, **kwargs)
        self.tensors = [x for x in [*args, *kwargs.values()] if isinstance(x, Tensor)]
        self.incomplete: str | None = None
        self._read(batch=rows is not None)
        self.guide = None if guide is None else self.rows.bound(lambda: guide(*args, **kwargs))
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
            check_guide(self.guide, self.sites, parameters)
        parameters.forget_start()

    def _read(self, batch: bool) -> None:
        """Find the sites: with all rows of the plates, or of a batch if the data is one."""
        self.model = self.rows.bound(self.program)
        try:
            found = ProgramReading.of(self.model, self.parameters, batch)
        except ModelError as error:
            if batch or not self.rows.sizes:
                raise
            found = self._in_part(error)
        self.sites, self.graph, self.obstacle = found.sites, found.graph, found.obstacle
        if found.layout is None:
            return
        self.layout = found.layout
        if self.layout.power != 1.0 and not batch and self.incomplete is None:
            name = next(n for n in self.sites if n in self.layout.dims)
            self.incomplete = str(powers(name, self.layout.power))

    def _in_part(self, error: ModelError) -> ProgramReading:
        """Find the sites of a program that fails with all rows; raise if it fails with some too."""
        sizes = self.rows.sizes
        self.rows = PlateRows({n: torch.arange(b) for n, (_, b) in sizes.items()})
        self.model = self.rows.bound(self.program)
        try:
            found = ProgramReading.of(self.model, self.parameters)
        except ModelError:
            raise error from None
        plates = " and ".join(f"{b} of {n} rows of plate {p!r}" for p, (n, b) in sizes.items())
        self.incomplete = (
            f"the program has data for {plates}, answers need all of them: give it all data, and "
            f"choose by the rows of the plate. With all rows, {error}"
        )
        return found

    @property
    def is_thinned(self) -> bool:
        """Whether plates see some of their rows, whatever is asked for."""
        return any(s.thinning != 1.0 for s in self.sites.values())

    def check_complete(self) -> None:
        """Raise if there are answers for batches of rows only."""
        if self.incomplete is not None:
            raise Unsupported(f"{self.incomplete}; or fit with pgnn.Variational()")

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
        self.check_complete()
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
        changing = [*owner.parameters(), *self.rows.rows.values()]
        return changing, [*self.tensors, *owner.buffers()]

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
