"""Poisson counts given discrete variables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import Poisson as TorchPoisson

from pgnn.errors import ModelError
from pgnn.factors.conditionals.emission import read_parameter
from pgnn.factors.conditionals.factorized_emission import FactorizedEmission
from pgnn.factors.conditionals.normal_wishart import check_prior
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable
from pgnn.limits import NOT_NEGATIVE, check_real


@dataclass(frozen=True)
class Gamma(Restorable):
    r"""A gamma prior: :math:`\hat\lambda = (s + a) / (n + b)` for a sum ``s`` over ``n`` rows.

    This is the mean of the posterior under the density :math:`\mathrm{Gamma}(a, b)`, and the mode
    under :math:`\mathrm{Gamma}(a + 1, b)`.

    Args:
        events: :math:`a`, the number of prior events.
        exposure: :math:`b`, the number of prior rows.

    Raises:
        ModelError: If a value is negative or not finite.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, third edition, section 2.6.

    Example:
        >>> p = Poisson(Variable("count"))
        >>> p.maximize(p.statistics({"count": torch.zeros(9)}, torch.ones(9)), Gamma(1.0, 1.0))
        >>> round(p.rate.item(), 6)
        0.1
    """

    events: float = 1.0
    exposure: float = 1.0

    def __post_init__(self) -> None:
        check_real("events of Gamma", self.events, NOT_NEGATIVE)
        check_real("exposure of Gamma", self.exposure, NOT_NEGATIVE)


class Poisson(FactorizedEmission):
    r"""Counts :math:`p(x \mid j) = \prod_d e^{-\lambda_{jd}} \lambda_{jd}^{x_d} / x_d!`.

    Args:
        child: Real variable of any known shape with integer values.
        parents: Discrete variables.
        rate: ``(K1, ..., Kn, *event)`` constant expectations, possibly zero; learnable by default.
        min_rate: Smallest estimated rate.

    Raises:
        ModelError: If a shape is wrong or a rate is negative.

    Example:
        >>> day, calls = Variable("day", ["work", "holiday"]), Variable("calls")
        >>> p_calls = Poisson(calls, [day], rate=[5.0, 1.0])
        >>> p_calls.factor({"calls": torch.tensor([0.0])}).values
        tensor([[0.0067, 0.3679]], dtype=torch.float64)
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        rate: Any = None,
        min_rate: float = 1e-6,
    ) -> None:
        super().__init__(child, parents)
        if not (math.isfinite(min_rate) and min_rate > 0):
            raise ModelError(f"min_rate must be positive, got {min_rate}")
        self.min_rate = min_rate
        if rate is not None:
            numbers = read_parameter("rate", child, rate, self.natural.shape)
            if bool((numbers < 0).any()):
                raise ModelError(
                    f"rate of {child.name!r} must not be negative, got {numbers.min()}"
                )
            self.natural = torch.nn.Parameter(numbers.log(), requires_grad=False)

    log_numbers = ("natural",)

    def settings(self) -> Settings:
        """Return the variables and the smallest estimated rate."""
        return super().settings() | {"min_rate": self.min_rate}

    @property
    def rate(self) -> Tensor:
        """Expectations ``(K1, ..., Kn, *event)``, differentiable."""
        return self.natural.exp()

    def parameter_table(self) -> ParameterTable:
        """Return the expectations; see the base class."""
        return ParameterTable(self.parents, {"rate": self.rate})

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the Poisson distributions at the parents' states."""
        index = self._index(parents)
        dist = TorchPoisson(self.rate[index] if index else self.rate)
        return Independent(dist, len(self.child.shape)) if self.child.shape else dist

    def _log_partition(self, natural: Tensor) -> Tensor:
        return natural.exp()

    def _log_base(self, x: Tensor) -> Tensor | None:
        return -torch.lgamma(x + 1.0)

    def _is_value(self, x: Tensor) -> Tensor:
        return (x >= 0) & (x == x.floor()) & x.isfinite()

    def _from_mean(self, mean: Tensor) -> Tensor:
        return mean.clamp(min=self.min_rate).log()

    def _pseudo_counts(self, prior: Any) -> tuple[float, float]:
        check_prior(prior, Gamma, "Poisson")
        return (0.0, 0.0) if prior is None else (prior.events, prior.exposure)

    def _clustered(self, rows: Tensor) -> Tensor:
        return rows.sqrt()  # whose variance does not depend on the rate

    def _filled(self, flat: Tensor, mean: Tensor) -> Tensor:
        return torch.where(flat.isnan(), mean.round(), flat)
