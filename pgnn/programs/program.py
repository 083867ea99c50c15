"""Pyro programs as models whose discrete part lowers to tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.errors import Unsupported
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.inference_mode import ordinary, outside_inference_mode
from pgnn.factors.variable import Variable
from pgnn.models.model import Model
from pgnn.programs.call import check_call
from pgnn.programs.parameters import ProgramParameters, module_params, modules_of
from pgnn.programs.program_verbs import ProgramVerbs

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner
    from pgnn.programs.guide_start import GuideStart
    from pgnn.programs.sites import ProgramSite
    from pgnn.programs.source import ProgramSource


class Program(ProgramVerbs):
    r"""Any Pyro callable as a model (Bingham et al. 2019).

    The program is executed to find its sample sites, their plates and dependencies. One more
    execution then computes, for each site, the table of log probabilities over the site and its
    discrete parents: the states of a site are enumerated along an extra dimension, and sites
    share a dimension unless a table contains both. Programs with hundreds of discrete sites
    therefore need no ``pyro.markov``, and the exact engine applies to them.

    Latent sites are the variables of the model, discrete if their support is finite and real
    otherwise; a site in plates is an array of their sizes. Sites with ``obs=`` are data, on
    which every query is conditioned. Real latent sites may be given as evidence; they are
    marginalised if nothing depends on them. Values named by ``pyro.deterministic`` are not
    variables, but ``query`` can return them. Masks apply to observations; a masked latent site
    keeps its distribution. Plates with ``subsample_size`` use all of their rows in queries, and
    batches of that size in the steps of
    :class:`~pgnn.inference.continuous.variational.Variational`.

    A program whose control flow depends on a latent value has no tables, and :attr:`obstacle`
    states the reason. Queries are then answered by enumerating its executions if they are few,
    and by weighted random executions otherwise (:class:`ExecutionEnumeration`,
    :class:`ExecutionSampling`).

    Args:
        model: The program, a function or a module.
        guide: Program that draws the unobserved real sites; the model also stores its
            parameters.
        args: Positional arguments of the program, such as data.
        kwargs: Keyword arguments of the program.

    Attributes:
        graph: All sites; those with ``obs=`` have the attribute ``observed``.
        obstacle: Reason why the program has no tables; ``None`` if it has.

    Raises:
        ModelError: If a site occurs twice, a shape does not fit a plate, the guide has a site that
            the program does not have, or the program observes ``NaN`` or fails; the message names
            the site.
        Intractable: If a table is too large.

    References:
        Bingham et al. (2019), Pyro: deep universal probabilistic programming. Obermeyer et al.
        (2019), Tensor variable elimination for plated factor graphs.

    Example:
        >>> import pyro, torch
        >>> from pyro.distributions import Bernoulli
        >>> def weather():
        ...     rain = pyro.sample("rain", Bernoulli(torch.tensor(0.2)))
        ...     wet = torch.tensor([0.1, 0.9])[rain.long()]
        ...     pyro.sample("wet", Bernoulli(wet))
        >>> Program(weather).query("rain", {"wet": 1})["rain"].probs
        tensor([0.3077, 0.6923])
    """

    is_normalized = True

    graph: nx.DiGraph
    _rows: Mapping[str, Tensor] | None = None

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any] | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.param_statements = ProgramParameters()
        self._programs = (model, guide)
        self.args = tuple(ordinary(x) for x in args)
        self.kwargs = {n: ordinary(x) for n, x in (kwargs or {}).items()}
        check_call(model, guide, self.args, self.kwargs)
        self._collect()
        self._read()

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The latent sites as variables by name, in the order of the program."""
        return MappingProxyType(self._variables)

    @property
    def sites(self) -> Mapping[str, ProgramSite]:
        """The sample sites by name, including those with ``obs=``, in the order of the program."""
        return MappingProxyType(self._sites)

    @property
    def params(self) -> Mapping[str, Tensor]:
        """The constrained values of ``pyro.param`` statements and ``PyroParam`` by name."""
        modules = module_params(self._modules_in_order)
        return MappingProxyType({**self.param_statements.by_name(), **modules})

    @property
    def largest_plate(self) -> int:
        """Largest number of cells of a site, over all of its plates."""
        return max((math.prod(s.plates.values()) for s in self._sites.values()), default=1)

    @property
    def power(self) -> float:
        """Common scale of the discrete sites, a factor of the log evidence; not in the tables."""
        return 1.0 if self.obstacle is not None else self._source.layout.power

    @property
    def guide(self) -> Callable[..., Any] | None:
        """The guide, its arguments bound; None if none was given."""
        return self._source.guide

    def with_arguments(self, *args: Any, **kwargs: Any) -> Program:
        """Return the program with other arguments; parameters are shared."""
        return self._like(self._programs, args, kwargs, self._source.guide_start)

    def _like(
        self, programs: Any, args: Any, kwargs: Any, start: GuideStart | None = None
    ) -> Program:
        """Return programs with arguments that share the parameters."""
        program = Program.__new__(Program)
        Model.__init__(program)
        program.param_statements, program._programs = self.param_statements, programs
        program.args = tuple(ordinary(x) for x in args)
        program.kwargs = {n: ordinary(x) for n, x in kwargs.items()}
        program._collect()
        program._read(start)
        return program

    def batch(self) -> ProgramBatch | None:
        """Return the program with subsampled plates; None if no plate is subsampled."""
        observed = self._source.rows
        return ProgramBatch(self) if any(n not in observed.rows for n in observed.sizes) else None

    def program(self, inputs: Inputs | None = None) -> Callable[..., Any]:
        """Return the Pyro program, its arguments bound."""
        _refuse(inputs)
        return self._source.program

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Return a log table over unobserved variables for each cell of each site.

        See :class:`Model`.

        Raises:
            Unsupported: If another site depends on an unobserved real site, or the program has no
                tables; the message names the site.
        """
        from pgnn.programs.lowering import conditioned

        factors = self._source.factors(self._known(inputs), observed or {}, self.elements)
        codes = {n: x for n, x in (observed or {}).items() if self.variable(n).is_discrete}
        return tuple(conditioned(f, codes, self._variables) for f in factors) if codes else factors

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return the same tables, one group for each site in plates (see :class:`Model`)."""
        if any(self.variable(n).is_discrete for n in observed or {}):
            return super().factor_groups(observed, inputs)
        return self._source.groups(self._known(inputs), observed or {}, self.elements)

    def log_density(
        self,
        reals: Mapping[Hashable, Tensor],
        evidence: Any = None,
        *,
        inputs: Inputs | None = None,
    ) -> Tensor:
        r"""Return :math:`\log p(r, e) = \log \sum_z p(z, r, e)`, summed over discrete sites.

        Differentiable with respect to the reals and the parameters.

        Args:
            reals: ``(B, *shape)`` values of real latent sites by name.
            evidence: See :meth:`query`; one row, or ``B`` rows.
            inputs: Must be None; programs have arguments instead.

        Returns:
            ``(B,)`` log densities.
        """
        from pgnn.inference.continuous.densities import log_density

        return log_density(self, reals, evidence, inputs)

    def fit(
        self,
        data: Any = None,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> Self:
        """Fit the parameters to data; see :meth:`Model.fit`.

        Args:
            data: Rows of evidence about latent sites; None if the data is in ``obs=``.
            learner: Gradient ascent on the log-likelihood by default.
            weights: See :meth:`Model.fit`.
            inputs: Must be None; programs have arguments instead.
            seed: See :meth:`Model.fit`.
            progress: See :meth:`Model.fit`.
        """
        _refuse(inputs)
        rows = self._no_findings() if data is None else data
        return super().fit(rows, learner=learner, weights=weights, seed=seed, progress=progress)

    def argument_tensors(self) -> Sequence[Tensor]:
        """See :class:`CachingModule`; the rows of subsampled plates are part of the state."""
        return [*self._source.tensors, *self._source.rows.rows.values()]

    def extra_repr(self) -> str:
        """Numbers of sites, for printing."""
        observed = sum(1 for _, o in self.graph.nodes(data="observed") if o)
        return f"{len(self._variables)} latent sites, {observed} observed"

    def __repr__(self) -> str:
        return f"Program({self.extra_repr()})"

    def __getstate__(self) -> dict[str, Any]:
        read = ("_source", "_sites")
        return {k: x for k, x in super().__getstate__().items() if k not in read}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._collect()
        self._read()

    def _collect(self) -> None:
        """Register the modules and parameters referenced by the programs and their arguments."""
        modules, loose = modules_of([*self._programs, self.args, self.kwargs])
        self._modules_in_order = nn.ModuleList(modules)
        self._loose = nn.ParameterList(loose)
        self.refresh_parameters()

    def _read(self, start: GuideStart | None = None) -> None:
        """Analyse the program."""
        from pgnn.programs.sites import ProgramSite
        from pgnn.programs.source import ProgramSource

        read = outside_inference_mode(ProgramSource)
        statements = self.param_statements
        source = read(self._programs, self.args, self.kwargs, statements, self._rows, start)
        self._source: ProgramSource = source
        self._variables = dict(source.variables)
        self._sites = ProgramSite.read(source)
        self.graph = nx.freeze(source.graph)
        self.obstacle: str | None = source.obstacle

    def _known(self, inputs: Inputs | None) -> Program:
        _refuse(inputs)
        self._source.check_complete()
        if self.obstacle is not None:
            raise Unsupported(f"{self.obstacle}", "use engine=pgnn.ExecutionSampling()")
        return self

    def _no_findings(self) -> dict[Hashable, Tensor]:
        """Return one row without observations."""
        discrete = [v for v in self._variables.values() if v.is_discrete]
        return {v.name: torch.full((1, *v.shape), -1) for v in discrete}

    def default_engine(self) -> Engine:
        """Return the default engine: one based on executions if there are no tables."""
        self._source.check_complete()
        if self.obstacle is None:
            return super().default_engine()
        from pgnn.inference.particles.automatic_executions import AutomaticExecutions

        return AutomaticExecutions(why=self.obstacle)


def _refuse(inputs: Inputs | None) -> None:
    if inputs:
        raise Unsupported(
            f"a program has no inputs, got {list(inputs)}",
            "pass them as its arguments: Program(model, args=...) or program.with_arguments(...)",
        )


class ProgramBatch(Program):
    r"""A program whose plates contain a batch of their rows, which represents all rows.

    Each of ``B`` rows from a plate of ``N`` rows has weight ``N / B``, so that the log density is
    an unbiased estimate. Discrete sites in the plate are summed out first:

    .. math:: \log p(r) + \frac{N}{B} \sum_{b} \log \sum_{z_b} p(z_b, x_b, r_b \mid r)

    Args:
        program: The complete program, whose parameters and arguments are shared.

    Raises:
        Unsupported: If the rows are not independent given the real sites outside the plate.

    References:
        Hoffman et al. (2013), Stochastic variational inference.
    """

    def __init__(self, program: Program) -> None:
        Model.__init__(self)
        self.param_statements, self._programs = program.param_statements, program._programs
        self.args, self.kwargs = program.args, program.kwargs
        chosen = program._source.rows
        self._drawn = {n: s for n, s in chosen.sizes.items() if n not in chosen.rows}
        self._rows = dict(chosen.rows)
        self._rows |= {n: torch.arange(number) for n, (_, number) in self._drawn.items()}
        self._collect()
        self._read(program._source.guide_start)
        if self.obstacle is not None:
            names = ", ".join(repr(n) for n in self._drawn) or "its plates"
            raise Unsupported(f"{self.obstacle}: {names} cannot be subsampled")
        self._source.layout.check_independent()

    @property
    def changes(self) -> bool:
        """Whether a plate is subsampled, so that batches differ."""
        return bool(self._drawn)

    def redraw(self, generator: torch.Generator) -> None:
        """Draw new rows, without replacement."""
        for name, (size, number) in self._drawn.items():
            self._source.rows.rows[name].copy_(torch.randperm(size, generator=generator)[:number])

    def of_rows(self, name: Hashable, values: Tensor, lead: int = 0) -> Tensor:
        """Return the values of the rows in the batch.

        Args:
            name: A variable.
            values: ``(*lead, *shape)`` in the shape of the complete program.
            lead: Number of leading axes.
        """
        site = self._source.sites[self._source.site_names[name]]
        for k, axis in enumerate(site.axes):
            if axis.name is not None and axis.name in self._drawn:
                values = values.index_select(lead + k, self._source.rows.rows[axis.name])
        return values
