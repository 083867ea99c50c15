"""Torch distributions as conditionals, with parameters for each state of the parents."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Never, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, constraints

from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.factors.conditionals.checks import check_rows
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.data_start import (
    StartsFromData,
    by_configuration,
    data_start,
    units_of,
)
from pgnn.factors.conditionals.distribution_class import (
    arguments_of,
    distribution_class,
    fixed_example,
    learned_bounds,
    name_of,
)
from pgnn.factors.conditionals.generalized_pareto import in_double_precision
from pgnn.factors.conditionals.grid import configurations
from pgnn.factors.conditionals.nearer_start import begin_at, begin_nearer
from pgnn.factors.conditionals.parameter_constraints import (
    WRONG,
    stated_constraints,
    transform_of,
)
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.conditionals.starting_values import starting_values
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.support import inside_support, is_fixed, log_density, support_of
from pgnn.factors.variable import Variable

_FEW = 6
"""Most numbers of a parameter that are shown."""
_TRIANGULAR = (constraints.lower_cholesky, constraints.positive_definite)
"""Constraints of matrices that are stored as triangular ones."""


class Distributional(Conditional, StartsFromData):
    r"""A torch distribution with separate parameters for each state of the discrete parents.

    .. math:: p(x \mid j, u) = \mathrm{make}(x; u, \theta_j)

    Values :math:`u` of real parents are passed to ``make``, which may be any function of them, such
    as the transition of a state-space model.

    Parameters are stored unconstrained, transformed by the constraints of the distribution, and
    learned by gradient.

    Args:
        child: Real variable of known shape.
        parents: Single discrete variables, and real ones.
        make: A distribution class, ``functools.partial`` of one with fixed arguments, or a
            callable that returns a distribution given the values ``(*batch, *shape)`` of the real
            parents, in their order, and of parameters ``(*batch, ...)`` by name. Dimensions of the
            child beyond its event shape are independent.
        **parameters: Starting values by the argument's name, the parents' axes
            ``(K1, ..., Kn, ...)`` first. Unlike given tables they are learnable. Those of a class
            that are not given start at zero, one, one half or the unit matrix, or in learning at
            means and deviations of the data, and so do those from which the data are far.

    Attributes:
        unconstrained: The parameters, by name.

    Raises:
        ModelError: If a shape is wrong, a value violates its constraint, or a constraint depends on
            other parameters.

    Example:
        >>> from torch.distributions import Gamma
        >>> busy, wait = Variable("busy", 2), Variable("wait")
        >>> p_wait = Distributional(wait, [busy], Gamma, concentration=[1.0, 2.0], rate=[1.0, 0.5])
        >>> p_wait.factor({"wait": torch.tensor([2.0])}).values
        tensor([[0.1353, 0.1839]], dtype=torch.float64, grad_fn=<ExpBackward0>)
    """

    integrates_missing = True

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable],
        make: Callable[..., Distribution],
        **parameters: Any,
    ) -> None:
        super().__init__(child, parents)
        for v in self.parents:
            if v.is_discrete and v.shape:
                raise ModelError(
                    f"Distributional needs single discrete parents, {v.name!r} is an array"
                )
        if child.is_discrete or any(isinstance(n, str) for n in child.shape):
            raise ModelError(
                f"Distributional needs a real child of known shape, {child.name!r} is not"
            )
        self._not_given: dict[str, Tensor] = {}
        self.kind = distribution_class(make)
        if self.kind is not None:
            self._not_given = starting_values(make, child, self.parents, [*parameters])
            parameters |= self._not_given
        self.make = make
        self._made = in_double_precision(make)
        self.constraints: dict[str, Any] = {}
        self.unconstrained = nn.ParameterDict()
        reals = [torch.zeros(v.shape).double() for v in self.parents if not v.is_discrete]
        stated = stated_constraints(make, reals, parameters)
        for name, value in parameters.items():
            self._add(name, value, stated)
        self._check_event()

    def settings(self) -> Settings:
        """Return the variables and the distribution."""
        return {"child": self.child, "parents": self.parents, "make": self.make}

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create it from a distribution class and parameter values."""
        stated: Any = getattr(distribution_class(settings["make"]), "arg_constraints", {})
        raw = {key.removeprefix("unconstrained."): x for key, x in numbers.items()}
        return cls(**settings, **{n: transform_of(stated[n])(x) for n, x in raw.items()})

    @property
    def values(self) -> dict[str, Tensor]:
        """Parameters of the distribution by name, ``(K1, ..., Kn, ...)``; differentiable."""
        return {
            name: transform_of(self.constraints[name])(raw)
            for name, raw in self.unconstrained.items()
        }

    @property
    def num_free_parameters(self) -> int:
        """Number of entries that distributions depend on, see :meth:`num_free`."""
        return sum(self.num_free(p) for p in self.parameters())

    def num_free(self, parameter: Tensor) -> int:
        """Number of entries, without those above the diagonal of triangular matrices."""
        for name, raw in self.unconstrained.items():
            if raw is parameter and self.constraints[name] in _TRIANGULAR:
                size = raw.shape[-1]
                return raw.numel() // size * (size + 1) // 2
        return parameter.numel()

    def parameter_table(self) -> ParameterTable | None:
        """Return the parameters of the distribution, None without any; see the base class."""
        if not len(self.unconstrained):
            return None
        return ParameterTable([v for v in self.parents if v.is_discrete], self.values)

    @property
    def kind_name(self) -> str:
        """What makes the distribution, in words."""
        return name_of(self.make)

    def __repr__(self) -> str:
        """The variables, what makes the distribution, and its parameters if they are few."""
        shown = [self.extra_repr(), self.kind_name]
        with torch.no_grad():
            for name, x in self.values.items():
                few = x.numel() <= _FEW
                shown.append(f"{name}={x.tolist()}" if few else f"{name} of shape {tuple(x.shape)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the distributions at the parents' states."""
        values = self._values(parents)
        index = tuple(values[v.name] for v in self.parents if v.is_discrete)
        reals = [values[v.name] for v in self.parents if not v.is_discrete]
        dist = self._made(*reals, **{n: x[index] if index else x for n, x in self.values.items()})
        if not len(self.unconstrained) and values:
            rows = len(next(iter(values.values())))
            own = dist.batch_shape + dist.event_shape
            if len(own) == len(self.child.shape):  # the same for all rows
                dist = dist.expand(torch.Size((rows, *dist.batch_shape)))
        extra = len(self.child.shape) - len(dist.event_shape)
        return Independent(dist, extra) if extra > 0 else dist

    def draw(
        self,
        parents: Mapping[Hashable, Tensor],
        inputs: Mapping[Hashable, Tensor] | None = None,
        rows: int = 1,
    ) -> Tensor:
        """Return one sample of the child per row; see the base class.

        Raises:
            Unsupported: If the distribution cannot be sampled.
        """
        try:
            return super().draw(parents, inputs, rows)
        except NotImplementedError as error:
            raise Unsupported(
                f"{self.kind_name} of {self.child.name!r} has no sample()",
                f"observe {self.child.name!r}, or give another distribution",
            ) from error

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the log density over the unobserved parents; see the base class.

        A row with a ``NaN`` child is unobserved and has density 1. Outside the support the density
        is 0.

        Raises:
            Unsupported: If a vector was partially observed.
        """
        if any(not v.is_discrete for v in self.parents):
            return super().factor(observed, inputs)
        known = self._observed_part(observed)
        free = self._unobserved(known)
        check_rows(self.child, known)
        x = known[self.child.name]
        shape = [len(x), *(v.num_states for v in self.parents)]
        if not len(x):
            return Factor(free, x.new_zeros(0, *(v.num_states for v in free)))
        missing = x.isnan().reshape(len(x), self.child.num_elements)
        unobserved = missing.all(dim=1)
        if bool((missing.any(dim=1) & ~unobserved).any()):
            raise Unsupported(
                f"{self.child.name!r} was partially observed in some rows, but Distributional "
                "cannot integrate the rest out",
                "use Gaussian, Poisson or Bernoulli",
            )
        table = self._log_density(x).masked_fill(unobserved.unsqueeze(1), 0.0)
        values = {v.name: known[v.name] for v in self.parents if v.name in known}
        return Factor(self.parents, table.expand(len(x), -1).reshape(shape)).condition(values)

    def _log_density(self, x: Tensor) -> Tensor:
        """Log densities ``(N, K)``; ``-inf`` outside of the support and for ``NaN``."""
        log_probs = log_density(
            self.distribution(configurations(self.parents, 1, self._device)), x.unsqueeze(1)
        )
        return log_probs.expand(len(x), math.prod(v.num_states for v in self.parents))

    @property
    def is_unset(self) -> bool:
        """Whether no parameter was given, and all are at their initial values."""
        return len(self._not_given) == len(self.unconstrained) and super().is_unset

    def start_from(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Begin at means and deviations of the data."""
        x = values.get(self.child.name)
        discrete = [v for v in self.parents if v.is_discrete]
        if x is None:
            return
        self._check_learnable(values, weights)
        if self.kind is None or any(bool(self.unconstrained[n].any()) for n in self._not_given):
            return
        with torch.no_grad():
            shares = by_configuration(discrete, values, weights)
            found = data_start(self.kind, x.reshape(len(x), self.child.num_elements), shares)
            begin_at(self, {n: found[n] for n in found.keys() & self._not_given.keys()})

    @torch.no_grad()
    def start_nearer(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Begin at the data where the numbers are far from these; see the base class."""
        x, lead = values.get(self.child.name), [v.num_states for v in self.parents if v.is_discrete]
        known = all(v.name in values for v in self.parents) or [*weights.shape[1:]] == lead
        if x is not None and self.kind is not None and len(lead) == len(self.parents) and known:
            begin_nearer(self, self.kind, x, by_configuration(self.parents, values, weights))

    @torch.no_grad()
    def restart(self) -> None:
        """Set parameters that were not given to their initial values; see the base class."""
        for name in self._not_given:
            self.unconstrained[name].zero_()

    @torch.no_grad()
    def units(self) -> dict[Tensor, Tensor]:
        """Return the scale of the distribution for its location; see the base class."""
        if self.kind is None:
            return {}
        dist = self.distribution(configurations(self.parents, 1, self._device))
        return units_of(dist, dict(self.unconstrained.items()))

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Never:
        """Not supported: there is no closed form.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"the Distributional conditional of {self.child.name!r} has no closed-form estimate",
            "learn it by gradient ascent (pgnn.Gradient)",
        )

    def _add(self, name: str, value: Any, stated: Mapping[str, Any] | None) -> None:
        """Store one parameter in unconstrained form."""
        what = f"parameter {name!r} of {self.child.name!r}"
        numbers = torch.from_numpy(read_numbers(what, value))
        lead = tuple(v.num_states for v in self.parents if v.is_discrete)
        if tuple(numbers.shape[: len(lead)]) != lead:
            raise ModelError(
                f"{what} must begin with the axes {lead} of its parents, got {tuple(numbers.shape)}"
            )
        constraint: Any = None if stated is None else stated.get(name, constraints.real)
        try:
            good = bool(torch.as_tensor(constraint.check(numbers)).all())
            raw = transform_of(constraint).inv(numbers)
        except (NotImplementedError, AttributeError):
            raise ModelError(
                f"{what} has a constraint that depends on others ({constraint})",
                "pass a callable that makes the distribution of parameters without it",
            ) from None
        if not good or not bool(raw.isfinite().all()):
            raise ModelError(f"{what} must satisfy {constraint}, strictly; got {numbers.tolist()}")
        self.constraints[name] = constraint
        self.unconstrained[name] = nn.Parameter(raw)

    def _check_event(self) -> None:
        first = {
            v.name: torch.zeros(1, dtype=torch.long)
            if v.is_discrete
            else torch.zeros(1, *v.shape, dtype=torch.float64)
            for v in self.parents
        }
        try:
            dist = self.distribution(first)
        except WRONG as error:
            raise ModelError(
                f"the distribution of {self.child.name!r} cannot be created: "
                f"{str(error) or type(error).__name__}",
                "give starting values of other shapes by name, "
                "pgnn.Distributional(child, parents, make, name=...)",
            ) from error
        batch = (1,) if self.parents else ()
        if dist.event_shape != self.child.shape or dist.batch_shape != batch:
            raise ModelError(
                f"the distribution of {self.child.name!r} must have the event shape "
                f"{self.child.shape} for each configuration of its parents, got batch shape "
                f"{tuple(dist.batch_shape)} and event shape {tuple(dist.event_shape)} for one"
            )

    def _check_learnable(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> None:
        """Check that data can be learned from by gradients; values of real parents are unchecked.

        Raises:
            Unsupported: If ends of the support are learned.
            DataError: If a value is outside of the support.
        """
        if any(not v.is_discrete for v in self.parents) or not len(self.unconstrained):
            return
        dist = self.distribution(configurations(self.parents, 1, self._device))
        made = dist.base_dist if isinstance(dist, Independent) else dist
        name, kind = self.child.name, self.kind or type(made)
        if bounds := learned_bounds(dist):
            raise Unsupported(
                f"the support of {kind.__name__} of {name!r} depends on what is learned, so that "
                "the most likely values lie at the edge of the data, where gradients are not zero",
                f"fix them, as in {fixed_example(kind, self._numbers_of(bounds))}",
            )
        x = values[name].reshape(-1, *self.child.shape).to(self._dtype)
        counts = (weights > 0).reshape(len(weights), -1).any(dim=1).to(x.device)
        x = x[counts & ~x.reshape(len(x), -1).isnan().any(dim=1)]
        with torch.no_grad():
            inside = inside_support(dist, x.unsqueeze(1)).reshape(len(x), -1).any(dim=1)
        if bool(inside.all()):
            return
        support, advice = support_of(made), "correct the data, or give another distribution"
        if self.kind is not None and "total_count" in arguments_of(self.kind):
            advice = f"fix the number of trials: {fixed_example(kind, ['total_count'])}"
        known_as = f", {support}" if is_fixed(support) else ""
        raise DataError(
            f"{name!r} has the value {x[~inside][0].tolist()}, which is outside of the support of "
            f"{kind.__name__}{known_as}",
            advice,
        )

    def _numbers_of(self, bounds: Sequence[Tensor]) -> list[str]:
        """Names of the parameters that ends of the support depend on."""
        total = torch.stack([x.sum() for x in bounds]).sum()
        slopes = torch.autograd.grad(total, [*self.unconstrained.values()], allow_unused=True)
        return [n for n, x in zip(self.unconstrained, slopes, strict=True) if x is not None]
