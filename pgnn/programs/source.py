"""The analysis of a program as a model: its sites, and the executions that compute tables."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any

import pyro
import torch
from torch import Tensor

from pgnn.errors import ModelError, PgnnError, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.support import Support, same_constraint
from pgnn.factors.variable import Variable
from pgnn.models.caching import CachingModule
from pgnn.models.missing_reals import MissingReals
from pgnn.programs.dependencies import Dependencies
from pgnn.programs.enumeration import tables_of
from pgnn.programs.evaluation import Evaluation, Tables, shaped, tables_in_rows
from pgnn.programs.execution import Execution, run_once
from pgnn.programs.graph_program import ModelProgram
from pgnn.programs.guide import check_guide, drawn_sites, set_up
from pgnn.programs.guide_start import GuideStart
from pgnn.programs.handlers import PlateRows
from pgnn.programs.joint_execution import JointExecution, Weigh, run_together
from pgnn.programs.lowering import Lowering, masked
from pgnn.programs.parameters import ProgramParameters
from pgnn.programs.sites import Kind
from pgnn.programs.tracking import LatentRead

_COMPARED = 3
"""Number of vectorised executions that are compared with single ones."""

_TRIED = 20
"""Number of executions that are searched for computed values."""

_ROW_COUNTS = 4
"""Number of row counts whose evaluations are cached."""


class ProgramSource:
    """An analysed program with its arguments.

    Args:
        programs: The program and its guide.
        args: Positional arguments of both.
        kwargs: Keyword arguments of both.
        parameters: Values of ``pyro.param`` statements.
        rows: Rows of subsampled plates; all rows by default.
        start: Initial values of the guide, if it has been executed before.

    Attributes:
        program: The program with its arguments bound.
        model: The program with the rows of a batch.
        guide: The guide, with the same arguments and rows.
        guide_sites: Names of the sites of the guide.
        guide_start: Initial values of its parameters; None without a guide.
        rows: Rows of the subsampled plates.
        incomplete: Reason why the program runs only with a batch of rows, or None.
        sites: Sites of the program.
        variables: Variables of the latent sites.
        names: The variable of each latent site.
        site_names: The site of each variable.
        graph: Dependencies between sites.
        obstacle: Reason why there are no tables, or None.
        tensors: Tensors among the arguments.
    """

    def __init__(
        self,
        programs: tuple[Callable[..., Any], Callable[..., Any] | None],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parameters: ProgramParameters,
        rows: Mapping[str, Tensor] | None = None,
        start: GuideStart | None = None,
    ) -> None:
        self.parameters, self.rows = parameters, PlateRows(rows)
        self._together: dict[frozenset[Hashable], str | None] = {}
        parameters.start_from(pyro.get_param_store())
        model, guide = programs
        self.program: Callable[[], Any] = lambda: model(*args, **kwargs)
        self._arguments = (args, kwargs)
        self.tensors = [x for x in [*args, *kwargs.values()] if isinstance(x, Tensor)]
        self.incomplete: str | None = None
        self.guide_sites: frozenset[str] = frozenset()
        self._read(batch=rows is not None)
        self.guide = None if guide is None else self._bound(guide)
        self._name_variables(model.site_variables if isinstance(model, ModelProgram) else {})
        self.guide_start = start
        if guide is not None and self.guide is not None:
            self.guide_start = start or GuideStart(guide, parameters)
            if isinstance(guide, torch.nn.Module):
                set_up(self.guide)
            self.guide_sites = check_guide(self.guide, self.sites, parameters)
            if start is None:
                self.guide_start.record()
        parameters.forget_start()

    def start_guide(self, seed: int) -> None:
        """Draw the initial values of the guide's parameters, unless they have been changed."""
        if self.guide_start is not None:
            self.guide_start.redraw(self._bound, seed)

    def _bound(self, guide: Callable[..., Any]) -> Callable[[], Any]:
        """Return a guide with the arguments of the program, and the rows of its plates."""
        args, kwargs = self._arguments
        return self.rows.bound(lambda: guide(*args, **kwargs))

    def _name_variables(self, declared: Mapping[str, Variable]) -> None:
        """Create a variable for each latent site, declared ones first."""
        latent = [s for s in self.sites.values() if s.kind is not Kind.OBSERVED]
        by_site = {s.name: s.variable(declared) for s in latent}
        self.names = {site: v.name for site, v in by_site.items()}
        self.site_names = {v: site for site, v in self.names.items()}
        variables = {v.name: v for v in by_site.values()}
        first = [v.name for v in declared.values() if v.name in variables]
        self.variables = {n: variables[n] for n in dict.fromkeys([*first, *variables])}

    def _read(self, batch: bool) -> None:
        """Analyse the program with all rows of the plates, or with a batch if the data is one."""
        self.model = self.rows.bound(self.program)
        try:
            analysis = Dependencies.of(self.model, self.parameters, batch)
        except ModelError as error:
            if batch or not self.rows.sizes:
                raise
            analysis = self._read_with_batch(error)
        self.sites, self.graph, self.obstacle = analysis.sites, analysis.graph, analysis.obstacle
        reals = [n for n, s in self.sites.items() if s.kind is Kind.REAL]
        self.missing_reals = MissingReals(self.graph, reals)
        if analysis.layout is None:
            return
        self.layout = analysis.layout
        if self.layout.power != 1.0:  # the rows of the batch represent the others
            self.incomplete = None

    def _read_with_batch(self, error: ModelError) -> Dependencies:
        """Analyse a program that fails with all rows, with a batch of them."""
        sizes = self.rows.sizes
        self.rows = PlateRows({n: torch.arange(b) for n, (_, b) in sizes.items()})
        self.model = self.rows.bound(self.program)
        try:
            analysis = Dependencies.of(self.model, self.parameters)
        except ModelError:
            raise error from None
        plates = " and ".join(f"{b} of {n} rows of plate {p!r}" for p, (n, b) in sizes.items())
        self.incomplete = (
            f"the program has data for {plates}, but queries need all rows; pass all data, and "
            f"index it by the rows of the plate. With all rows, {error}"
        )
        return analysis

    def check_complete(self) -> None:
        """Raise if the program runs only with batches of rows."""
        if self.incomplete is not None:
            raise Unsupported(f"{self.incomplete}", "or fit with pgnn.Variational()")

    def factors(
        self, owner: CachingModule, observed: Mapping[Hashable, Tensor], elements: Elements
    ) -> tuple[Factor, ...]:
        """Return a factor for each cell of each site."""
        return tuple(self._lowering(elements).factors(self._tables(owner, observed)))

    def groups(
        self, owner: CachingModule, observed: Mapping[Hashable, Tensor], elements: Elements
    ) -> tuple[FactorGroup, ...]:
        """Return groups of factors."""
        return self._lowering(elements).groups(self._tables(owner, observed))

    @cached_property
    def constants(self) -> dict[Hashable, Tensor]:
        """Values of variables that have no other, ``(*sizes, *event)``."""
        return {self.names[n]: s.drawn for n, s in self.sites.items() if s.constant}

    @cached_property
    def computed_names(self) -> frozenset[Hashable]:
        """Names of the computed values in a few executions."""
        runs = [self.execute({}, seed) for seed in range(_TRIED)]
        return frozenset(n for run in runs for n in run.computed)

    def execute(self, held: Mapping[Hashable, Tensor], seed: int) -> Execution:
        """Execute the program once with some values fixed; values are keyed by variable."""
        self.check_complete()
        by_site = {self.site_names[n]: x for n, x in held.items()}
        execution = run_once(self.model, self.parameters, by_site, seed)
        named = {self.names[str(n)]: x for n, x in execution.values.items() if n in self.names}
        unnamed = tuple(str(n) for n in execution.values if n not in self.names)
        return Execution(
            execution.sites,
            named,
            execution.log_weight,
            execution.terms,
            execution.log_joint,
            unnamed,
            execution.computed,
        )

    def execute_together(
        self,
        held: Mapping[Hashable, Tensor],
        number: int,
        seed: int,
        weigh: Weigh,
        *,
        each: Mapping[Hashable, Tensor] | None = None,
        scored: bool = False,
    ) -> JointExecution:
        """Execute the program many times in one vectorised run; see :class:`ExecutableModel`.

        The first call compares vectorised with single executions.
        """
        names = frozenset(held)
        if names not in self._together:
            self._together[names] = self._batching_obstacle(held)
        why = self._together[names]
        if why is not None:
            raise Unsupported(f"executions cannot be vectorised: {why}")
        return self._run_together({**held, **(each or {})}, number, seed, weigh, scored)

    def _run_together(
        self,
        held: Mapping[Hashable, Tensor],
        number: int,
        seed: int,
        weigh: Weigh,
        scored: bool,
    ) -> JointExecution:
        self.check_complete()
        by_site = {self.site_names[n]: x for n, x in held.items()}
        try:
            joint = run_together(
                self.model, self.parameters, self.sites, by_site, number, seed, weigh, scored
            )
        except LatentRead as read:
            raise Unsupported(f"the program reads a latent value by {read.reader}") from read
        except NotImplementedError as error:
            raise Unsupported(str(error)) from error
        named = {self.names[str(n)]: x for n, x in joint.values.items() if n in self.names}
        return JointExecution(named, joint.log_joint, joint.computed)

    def _batching_obstacle(self, held: Mapping[Hashable, Tensor]) -> str | None:
        """Compare vectorised with single executions; return why they cannot be vectorised."""
        try:
            joint = self._run_together(held, _COMPARED, 0, lambda _: None, scored=True)
        except PgnnError as error:
            return str(error)
        assert joint.log_joint is not None
        for k, log_joint in enumerate(joint.log_joint.tolist()):
            single = self.execute({n: x[k] for n, x in joint.values.items()}, 0)
            if not math.isclose(single.log_joint, log_joint, rel_tol=1e-3, abs_tol=1e-3):
                return (
                    f"the log density is {log_joint:.6g} in a vectorised execution, "
                    f"{single.log_joint:.6g} in a single one"
                )
        return None

    def real_supports(
        self, names: Iterable[Hashable], held: Mapping[Hashable, Tensor]
    ) -> dict[Hashable, Support]:
        """Return the supports of real latent sites, compared between two executions.

        Raises:
            Unsupported: If a support differs between them.
        """
        if held:
            runs = [self.execute(held, seed).sites for seed in (0, 1)]
        else:
            runs = [drawn_sites(self.model, self.parameters, seed) for seed in (0, 1)]
        supports = {}
        for name in names:
            site, other = (sites[self.site_names[name]] for sites in runs)
            if not same_constraint(site.constraint, other.constraint):
                raise Unsupported(
                    f"the support of site {site.name!r} depends on latent sites",
                    "declare the model "
                    "as a graph, or the site as a transform of one with a constant support",
                )
            supports[name] = Support(site.constraint, site.value.dtype, tuple(site.value.shape))
        return supports

    def _lowering(self, elements: Elements) -> Lowering:
        if getattr(self, "_cached_lowering", None) is None:
            self._cached_lowering = Lowering(self.sites, self.names, elements)
        return self._cached_lowering

    def _tables(self, owner: CachingModule, observed: Mapping[Hashable, Tensor]) -> Tables:
        """Return the tables given the observed real sites."""
        values = {self.site_names[n]: x for n, x in observed.items()}
        # always in the order of the program: the inputs of a tape have no names
        reals = {n: values[n] for n, s in self.sites.items() if s.kind is Kind.REAL and n in values}
        left_out = self.missing_reals.left_out(reals)
        evaluation = self._evaluation(owner, left_out)
        if not reals:
            tables: Tables = owner.cached_numbers(
                "tables of sites", lambda: evaluation.tables({}, *self._inputs(owner))
            )
            return tables
        missing = {n: x.detach().isnan() for n, x in reals.items()}
        missing = {n: x for n, x in missing.items() if bool(x.any())}
        self.missing_reals.unobserved_rows(
            {n: reals[n] for n in missing}
        )  # no other site depends on them
        for name, cells in missing.items():  # any value serves, such as an earlier draw
            placeholder = self.sites[name].drawn.to(reals[name])
            reals[name] = torch.where(cells, placeholder, reals[name])
        tables = self._tables_in_rows(owner, evaluation, shaped(self.layout, reals), left_out)
        return masked(tables, {n: self._cells(n, x) for n, x in missing.items()})

    def _cells(self, name: str, missing: Tensor) -> Tensor:
        """Return a ``(B, *sizes)`` mask of the cells with a missing entry."""
        event = len(self.sites[name].event)
        return missing.flatten(start_dim=missing.dim() - event).any(-1) if event else missing

    def _tables_in_rows(
        self,
        owner: CachingModule,
        single: Evaluation,
        reals: Mapping[str, Tensor],
        left_out: set[str],
    ) -> Tables:
        """Return tables for rows of reals: the evaluation of one row, vectorised and recorded."""
        inputs, number = self._inputs(owner), next(len(x) for x in reals.values())

        def run(rows: Mapping[str, Tensor]) -> Tables:
            changing, _ = self._inputs(owner)
            return tables_in_rows(lambda row: single.again(row, changing), self.layout, rows)

        evaluations: OrderedDict[Any, Evaluation] = owner.cached("evaluations in rows", OrderedDict)
        key = (number, tuple(reals), frozenset(left_out))
        batched = evaluations.pop(key, None) or Evaluation(run)
        evaluations[key] = batched  # ordered by last use
        while len(evaluations) > _ROW_COUNTS:
            evaluations.popitem(last=False)
        if number and not batched.trusted:
            single.tables({n: x[0] for n, x in reals.items()}, *inputs)
        return batched.tables(reals, *inputs)

    def _evaluation(self, owner: CachingModule, left_out: set[str]) -> Evaluation:
        """Return the evaluation of the tables of one row, for one set of given real sites."""

        def run(reals: Mapping[str, Tensor]) -> Tables:
            return tables_of(self.model, self.layout, self.parameters, reals, left_out)

        evaluation: Evaluation = owner.cached(
            ("evaluation", *sorted(left_out)), lambda: Evaluation(run)
        )
        return evaluation

    def _inputs(self, owner: CachingModule) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters, and the tensors whose change invalidates a tape."""
        changing = [*owner.parameters(), *self.rows.rows.values()]
        return changing, [*self.tensors, *owner.buffers()]
