"""Sparse priors, under which most values are nearly zero, as penalties."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, StudentT

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable
from pgnn.limits import POSITIVE, check_settings


@dataclass(frozen=True)
class SparsePenalty(Restorable, ABC):
    r"""A penalty :math:`\rho(z)`: a negative log density, up to a constant.

    Args:
        strength: :math:`\lambda`.

    Raises:
        ModelError: If a setting is not positive.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        check_settings(self, **dict.fromkeys(vars(self), POSITIVE))

    @abstractmethod
    def value(self, z: Tensor) -> Tensor:
        r"""Return :math:`\rho(z)` of each value."""

    @abstractmethod
    def curvature(self, z: Tensor) -> Tensor:
        r"""Return :math:`\rho'(z) / z`, the curvature of the parabola above :math:`\rho`."""

    @abstractmethod
    def distribution(self, size: int) -> Distribution:
        """Return the distribution of ``(size,)`` values.

        Raises:
            Unsupported: If the penalty has no distribution.
        """


@dataclass(frozen=True)
class AbsolutePenalty(SparsePenalty):
    r"""The absolute value, :math:`\lambda |z|`: a Laplace prior; many values are exactly zero."""

    def value(self, z: Tensor) -> Tensor:
        """See the base class."""
        return self.strength * z.abs()

    def curvature(self, z: Tensor) -> Tensor:
        """See the base class."""
        return self.strength / z.abs().clamp_min(1e-12)

    def distribution(self, size: int) -> Distribution:
        """Independent Laplace distributions."""
        zero = torch.zeros(size, dtype=torch.float64)
        return Independent(Laplace(zero, 1.0 / self.strength), 1)


@dataclass(frozen=True)
class LogPenalty(SparsePenalty):
    r"""The logarithm, :math:`\lambda \log(1 + z^2 / w^2)`: a Student prior for a large strength.

    Args:
        strength: :math:`\lambda`.
        width: :math:`w`.
    """

    width: float = 1.0

    def value(self, z: Tensor) -> Tensor:
        """See the base class."""
        return self.strength * (z / self.width).square().log1p()

    def curvature(self, z: Tensor) -> Tensor:
        """See the base class."""
        return 2.0 * self.strength / (self.width**2 + z.square())

    def distribution(self, size: int) -> Distribution:
        """Independent Student distributions."""
        degrees = 2.0 * self.strength - 1.0
        if degrees <= 0:
            raise Unsupported(
                "exp(-penalty) has no finite integral", "increase the strength of LogPenalty"
            )
        degrees_of_each = torch.full((size,), degrees, dtype=torch.float64)
        return Independent(StudentT(degrees_of_each, 0.0, self.width / degrees**0.5), 1)


@dataclass(frozen=True)
class ExpPenalty(SparsePenalty):
    r"""The exponential, :math:`-\lambda e^{-z^2 / w^2}`, flat for large values.

    Args:
        strength: :math:`\lambda`.
        width: :math:`w`.
    """

    width: float = 1.0

    def value(self, z: Tensor) -> Tensor:
        """See the base class; zero at zero."""
        return -self.strength * torch.expm1(-(z / self.width).square())  # raised by its least

    def curvature(self, z: Tensor) -> Tensor:
        """See the base class."""
        return 2.0 * self.strength / self.width**2 * (-(z / self.width).square()).exp()

    def distribution(self, size: int) -> Distribution:
        """Raise an error, since the density has no finite integral."""
        raise Unsupported("exp(-ExpPenalty) has no finite integral and cannot be sampled")


class SparsePrior(Conditional):
    """Independent values, most of them close to zero.

    Args:
        child: Real variable of shape ``(K,)``.
        parents: None.
        penalty: Penalty of each value; ``AbsolutePenalty()`` by default.

    Raises:
        ModelError: If the child is no vector, or there are parents.

    References:
        Olshausen and Field (1996), Emergence of simple-cell receptive field properties by learning
        a sparse code for natural images.

    Example:
        >>> z = Variable("z", shape=(2,))
        >>> prior = SparsePrior(z, penalty=AbsolutePenalty(2.0))
        >>> prior.distribution({}).log_prob(torch.zeros(2, dtype=torch.float64))
        tensor(0., dtype=torch.float64)
    """

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        penalty: SparsePenalty | None = None,
    ) -> None:
        super().__init__(child, parents)
        if child.is_discrete or len(child.shape) != 1 or self.parents:
            raise ModelError(f"SparsePrior is of a real vector without parents, not of {child!r}")
        self.penalty = AbsolutePenalty() if penalty is None else penalty
        if not isinstance(self.penalty, SparsePenalty):
            raise ModelError(f"penalty must be one such as AbsolutePenalty(1.0), got {penalty!r}")

    def settings(self) -> Settings:
        """Return the variable and the penalty."""
        return super().settings() | {"penalty": self.penalty}

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the prior distribution; see :meth:`SparsePenalty.distribution`."""
        return self.penalty.distribution(self.child.num_elements)
