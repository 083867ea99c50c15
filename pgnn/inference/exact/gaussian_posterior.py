"""Exact posteriors of real variables that are normal given the discrete ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import DirectedModel
from pgnn.errors import Intractable, Unsupported
from pgnn.factors.finite import has_nan, is_all_nan
from pgnn.factors.gaussians.component import GaussianComponent
from pgnn.factors.gaussians.hidden_reals import HiddenReals, RememberedReals
from pgnn.factors.gaussians.least_squares import common_shape
from pgnn.factors.gaussians.linear_system import LinearSystem
from pgnn.factors.variable import Variable
from pgnn.inference.exact.real_modes import RealModes
from pgnn.inference.gaussian_marginals import ExactMarginal, element_marginal, real_marginal
from pgnn.inference.model_reader import no_posterior
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, names_of
from pgnn.inference.with_reals import WithReals


@dataclass(frozen=True)
class RealTargets:
    """The targets of a query about real variables.

    Attributes:
        discrete: Names of the discrete targets; None for all.
        reals: The real targets.
        hidden: How the real variables that some row does not observe are integrated out.
        named: Whether the targets were given by name.
    """

    discrete: list[Hashable] | None
    reals: tuple[Variable, ...]
    hidden: HiddenReals
    named: bool

    @classmethod
    def of(cls, question: Question) -> RealTargets | None:
        """Read a query; None if all its targets are discrete.

        Without names, the targets are all real variables that some row does not observe and that
        have posteriors in closed form.

        Raises:
            EvidenceError: If a real target is observed in every row.
            Unsupported: If a real target has no posterior in closed form.
        """
        model, names = question.model, question.names
        reals: dict[Hashable, Variable] = model.cached(
            "real variables",
            lambda: {n: v for n, v in model.variables.items() if not v.is_discrete},
        )
        if not reals or not isinstance(model, DirectedModel):
            return None
        observed_reals = question.observed.reals
        observed = {n for n in observed_reals if n in reals and not is_all_nan(observed_reals[n])}
        partly = {n for n in observed if has_nan(observed_reals[n])}
        if names is None:
            discrete, wanted = None, _answerable(model, reals.keys() - observed | partly)
        else:
            queried = names_of(names, model.variables, model.elements)
            discrete, wanted = (
                [n for n in queried if n not in reals],
                [n for n in queried if n in reals],
            )
        if not wanted:
            return None
        for name in wanted:
            if name in observed and name not in partly:
                raise no_posterior(model, name)
        known: RememberedReals = model.cached("hidden reals", RememberedReals)
        hidden = known.of(model.conditionals, observed, partly, wanted)
        return cls(discrete, tuple(reals[n] for n in wanted), hidden, names is not None)

    def answer(self, question: Question, whole: Posterior) -> Posterior:
        """Return the posterior that includes the real variables.

        Real variables that were not named are omitted if they depend on too many configurations of
        discrete variables; the diagnostics then say so.

        Args:
            question: The query.
            whole: The posterior of the discrete variables.

        Raises:
            Intractable: If there are too many configurations.
        """
        wanted = {v.name for v in self.reals}
        systems: list[LinearSystem] = []
        for component in self._components():
            try:
                systems.append(_system(component, question))
            except Intractable as error:
                if self.named or not whole.variables:
                    raise
                whole.diagnostics = {"reason": error.reason, **whole.diagnostics}
                wanted -= component.names
        answered = [v for v in self.reals if v.name in wanted]
        return GaussianPosterior(whole, answered, systems, self._dtype) if answered else whole

    def modes(self, question: Question) -> list[RealModes]:
        """Return the most likely values of the real variables, given states.

        Args:
            question: The query.

        Raises:
            Unsupported: If they depend on states that are to be summed out.
            Intractable: If there are too many configurations.
        """
        modes = []
        for component in self._components():
            system = _system(component, question)
            targets = [v for v in self.reals if v.name in component.names]
            for v in system.free:
                if self.discrete is not None and v.name not in self.discrete:
                    raise Unsupported(
                        f"{targets[0].name!r} depends on {v.name!r}, which is not among the "
                        "targets: the mode of a mixture has no closed form",
                        f"add {v.name!r} to the targets, or observe it",
                    )
            modes.append(RealModes(system, targets, self._dtype))
        return modes

    def _components(self) -> list[GaussianComponent]:
        """Return the components that contain a target."""
        wanted = {v.name for v in self.reals}
        return [c for c in self.hidden.components if wanted & c.names]

    @property
    def _dtype(self) -> torch.dtype:
        """Dtype of the answers: the widest of the parameters."""
        dtype = torch.float32
        for component in self._components():
            for p in component.tensors:
                dtype = torch.promote_types(dtype, p.dtype)
        return dtype


def _system(component: GaussianComponent, question: Question) -> LinearSystem:
    """Return the density of a component given the observations.

    Raises:
        Intractable: If there are too many configurations.
    """
    known, rows = _known(question, component.discrete), question.num_rows
    component.check(known, rows)
    return component.system(question.observed.reals, known, rows)


def _answerable(model: DirectedModel, hidden: set[Hashable]) -> list[Hashable]:
    """Unobserved real variables that have posteriors in closed form, judged by their parents."""
    answerable: set[Hashable] = set()
    for name in model.order:
        conditional = model.conditionals[name]
        lost = {v.name for v in conditional.parents} & hidden
        if name in hidden and conditional.is_linear_gaussian and lost <= answerable:
            answerable.add(name)
    return [n for n in model.variables if n in answerable]


def _known(question: Question, discrete: Sequence[Variable]) -> dict[Hashable, Tensor]:
    """``(B,)`` states of variables that every row observes."""
    elements = question.model.elements
    known = {}
    for v in discrete:
        codes = question.observed.codes[:, int(elements.numbers(v.name))]
        if len(codes) and (codes >= 0).all():
            known[v.name] = torch.from_numpy(codes).long()
    return known


class GaussianPosterior(WithReals):
    r"""A posterior of real variables that are normal given the discrete ones.

    .. math:: p(x \mid e) = \sum_j p(j \mid e) \, N(x; \mu_j, \Sigma_j)

    ``posterior["x"]`` of a real variable is a torch distribution that also has ``mean``, ``std``
    and ``quantile``: a ``Normal``, for a vector a ``MultivariateNormal``, or, if it depends on
    unobserved discrete variables, a ``MixtureSameFamily`` of these with one component per
    configuration. The mixture and its moments are exact. All other methods are those of
    :class:`Posterior`.

    Args:
        whole: The posterior of the discrete variables.
        reals: The real targets.
        systems: The joint densities of the components that contain them.
        dtype: Dtype of the answers.
    """

    def __init__(
        self,
        whole: Posterior,
        reals: Sequence[Variable],
        systems: Sequence[LinearSystem],
        dtype: torch.dtype,
    ) -> None:
        self.take(whole)
        self.reals = {v.name: v for v in reals}
        self._systems, self._dtype = tuple(systems), dtype
        self._marginals_of_reals = _Lazy(self._makers())

    def marginal(self, name: Hashable) -> ExactMarginal:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        return self._marginals_of_reals[name]

    def _take_element(self, name: Any, array: Variable) -> None:
        make = partial(self._marginal_of_element, array, name[1:])
        self._marginals_of_reals = self._marginals_of_reals.also(name, make)

    def _marginal_of_element(self, array: Variable, index: tuple[int, ...]) -> ExactMarginal:
        return element_marginal(self.marginal(array.name), array, index)

    def joint(self, *names: Hashable) -> Any:
        """Return the joint distribution of some variables, all of them discrete or all real.

        Args:
            names: See :meth:`Posterior.joint`; or names of real targets.

        Returns:
            For discrete variables a factor; for real ones a distribution of their concatenated
            components, ``(*batch, D)``: a ``MultivariateNormal``, or a mixture of these.
        """
        real = [n for n in names if isinstance(n, Hashable) and n in self.reals]
        if not real:
            return super().joint(*names)
        if len(real) < len(names) or len({*real}) < len(real):
            raise Unsupported(
                "a joint distribution needs names of discrete variables only or of real ones "
                f"only, without repetition, got {[*names]}",
                "to condition real variables on states, add these to the evidence",
            )
        systems = [s for s in self._systems if any(v.name in real for v in s.hidden)]
        whole = {v.name for s in systems for v in s.hidden}
        if not whole.issuperset(real):
            raise Unsupported(
                "elements of real arrays have no joint distribution here, got "
                f"{[n for n in real if n not in whole]!r}",
                advice="query the whole array and take its joint distribution",
            )
        return self._distribution(_joined(systems), real)

    def _makers(self) -> Iterator[tuple[Hashable, Callable[[], ExactMarginal]]]:
        """Yield functions that compute the marginal of each target on demand."""
        for system in self._systems:
            solved = _Solved(system)
            for v in system.hidden:
                if v.name in self.reals:
                    yield v.name, partial(self._marginal_of, solved, v)

    def _marginal_of(self, solved: _Solved, v: Variable) -> ExactMarginal:
        moments = [
            _of_rows(p, p.moments(*elimination, [v.name])) for p, elimination in solved.pieces
        ]
        return self._made(moments, v.shape, self._weights(solved.system.free))

    def _distribution(self, system: LinearSystem, names: Sequence[Hashable]) -> ExactMarginal:
        """Return the joint distribution of some variables."""
        parts = []
        for piece in system.pieces():
            elimination = piece.elimination(names)
            moments = piece.moments(elimination, elimination.moments(), names)
            parts.append(_of_rows(piece, moments))
        size = int(parts[0][0].shape[-1])
        return self._made(parts, (size,), self._weights(system.free))

    def _made(
        self,
        moments: Sequence[tuple[Tensor, Tensor]],
        shape: tuple[int, ...],
        weights: Tensor | None,
    ) -> ExactMarginal:
        """Return the distribution with moments ``(B or 1, K1 or 1, ..., D)``, in chunks of rows."""
        means, covariances = zip(*moments, strict=True)
        mean, covariance = torch.cat(means), torch.cat(covariances)
        lead = common_shape(mean.shape[:-1], covariance.shape[:-2])
        size = mean.shape[-1]
        if weights is not None:  # axes that no moment depends on are summed out
            same = [k for k in range(1, len(lead)) if lead[k] == 1 and weights.shape[k] > 1]
            weights = weights.sum(same, keepdim=True) if same else weights
            weights = weights.flatten(start_dim=1)
        flat = (self.num_rows, math.prod(lead[1:])) if lead[1:] else (self.num_rows,)
        mean = mean.expand(*lead, size).reshape(*flat, size)
        covariance = covariance.expand(*lead, size, size).reshape(*flat, size, size)
        if weights is not None and weights.shape[1] == 1:
            mean, covariance, weights = mean[:, 0], covariance[:, 0], None
        lost = self._log_evidence.detach().isneginf().reshape(-1, *[1] * (mean.dim() - 1))
        mean = mean.masked_fill(lost.to(mean.device), torch.nan)
        one = slice(None) if self.batched else 0
        return real_marginal(
            mean[one].to(self._dtype),
            covariance[one].to(self._dtype),
            shape,
            None if weights is None else weights[one].to(self._dtype),
        )

    def _weights(self, free: Sequence[Variable]) -> Tensor | None:
        """``(B, K1, ..., Kn)`` posterior of the discrete variables; None if there are none."""
        if not free:
            return None
        table = Posterior.joint(self, *(v.name for v in free)).values
        lost = self._log_evidence.detach().isneginf().reshape(-1, *[1] * len(free))
        return table.reshape(self.num_rows, *(v.num_states for v in free)).masked_fill(
            lost.to(table.device), torch.nan
        )


class _Solved:
    """A system whose moments are computed once."""

    def __init__(self, system: LinearSystem) -> None:
        self.system = system

    @cached_property
    def pieces(self) -> list[tuple[LinearSystem, tuple[Any, Any]]]:
        """Chunks of rows, each with its elimination and moments."""
        solutions = []
        for piece in self.system.pieces():
            elimination = piece.elimination()
            solutions.append((piece, (elimination, elimination.moments())))
        return solutions


class _Lazy(Mapping[Hashable, ExactMarginal]):
    """Marginals that are computed when they are accessed."""

    def __init__(self, makers: Iterable[tuple[Hashable, Callable[[], ExactMarginal]]]) -> None:
        self._makers, self._made = dict(makers), dict[Hashable, ExactMarginal]()

    def also(self, name: Hashable, make: Callable[[], ExactMarginal]) -> _Lazy:
        """Return the mapping with one more marginal; those that were computed are shared."""
        more = _Lazy([*self._makers.items(), (name, make)])
        more._made = dict(self._made)
        return more

    def __getitem__(self, name: Hashable) -> ExactMarginal:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _of_rows(system: LinearSystem, moments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return moments expanded to all rows."""
    mean, covariance = (x.expand(system.num_rows, *x.shape[1:]) for x in moments)
    return mean, covariance


def _joined(systems: Sequence[LinearSystem]) -> LinearSystem:
    """Join several systems into one."""
    if len(systems) == 1:
        return systems[0]
    axes = {v.name: v for s in systems for v in s.free}
    return LinearSystem.joined(systems, tuple(axes.values()))
