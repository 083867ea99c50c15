"""Kinds of units: their values, and their distributions given a field."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pgnn.errors import ModelError
from pgnn.factors.units.axes import cut
from pgnn.factors.variable import Variable

_RARE = 0.001
"""Smallest initial probability of a state in learning."""


class UnitKind(ABC):
    r"""A kind of units, each with ``d`` features :math:`\varphi(x)` of its value.

    Given all others, the units of a layer are independent and see a field :math:`f` of ``n d``
    numbers, in log units: :math:`p(x) \propto \prod_i \exp(\varphi(x_i)^\top f_i)`.

    Attributes:
        size: Features of a unit ``d``.
    """

    size: int = 1

    @abstractmethod
    def mean(self, field: Tensor) -> Tensor:
        """Return the expected features ``(N, n d)`` in a field."""

    @abstractmethod
    def draw(self, field: Tensor, rng: torch.Generator | None) -> Tensor:
        """Return features ``(N, n d)`` of values drawn in a field."""

    def mean_and_draw(self, field: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return both of them."""
        return self.mean(field), self.draw(field, rng)

    @abstractmethod
    def log_normaliser(self, field: Tensor) -> Tensor:
        """Return ``(N,)`` logs of the sum over all values of all units."""

    @abstractmethod
    def field_of(self, mean: Tensor) -> Tensor:
        """Return a field in which units have about such means."""

    def table(self, like: Tensor) -> Tensor:
        """Return the features ``(K, d)`` of each state.

        Raises:
            ModelError: If the units are real.
        """
        raise ModelError(f"{type(self).__name__} have no states")

    def encode(self, codes: Tensor, like: Tensor) -> Tensor:
        """Return the features ``(N, n d)`` of ``(N, n)`` states."""
        return self.table(like)[codes].flatten(start_dim=1)

    def decode(self, features: Tensor) -> Tensor:
        """Return the states ``(N, n)`` that features ``(N, n d)`` belong to."""
        return (features > 0).long()

    def base(self, features: Tensor) -> Tensor:
        """Return ``(N,)`` log scores of values without any field."""
        return features.new_zeros(len(features))

    def features(self, values: Tensor) -> Tensor:
        """Return the features of stored values that couplings use: the values themselves."""
        return values


class BinaryUnits(UnitKind):
    """Units with the values 0 and 1."""

    def mean(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return field.sigmoid()

    def draw(self, field: Tensor, rng: torch.Generator | None) -> Tensor:
        """See :class:`UnitKind`."""
        return drawn_below(field.sigmoid(), rng)

    def mean_and_draw(self, field: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """See :class:`UnitKind`."""
        mean = field.sigmoid()
        return mean, drawn_below(mean, rng)

    def log_normaliser(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return softplus(field).sum(-1)

    def field_of(self, mean: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return mean.clamp(_RARE, 1 - _RARE).logit()

    def table(self, like: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return like.new_tensor([[0.0], [1.0]])


class SpinUnits(UnitKind):
    """Units with the values -1 and +1."""

    def mean(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return field.tanh()

    def draw(self, field: Tensor, rng: torch.Generator | None) -> Tensor:
        """See :class:`UnitKind`."""
        return drawn_below((2 * field).sigmoid(), rng).mul_(2).sub_(1)

    def log_normaliser(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return (softplus(2 * field) - field).sum(-1)

    def field_of(self, mean: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return mean.clamp(-1 + _RARE, 1 - _RARE).atanh()

    def table(self, like: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return like.new_tensor([[-1.0], [1.0]])


class CategoricalUnits(UnitKind):
    """Units with ``K`` states and one-hot features.

    Args:
        num_states: Number of states ``K``.
    """

    def __init__(self, num_states: int) -> None:
        self.size = num_states

    def mean(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return self._split(field).softmax(-1).flatten(start_dim=-2)

    def draw(self, field: Tensor, rng: torch.Generator | None) -> Tensor:
        """See :class:`UnitKind`."""
        each = self._split(field)
        noise = torch.empty_like(each).exponential_(generator=rng).log()
        best = (each - noise).argmax(-1, keepdim=True)
        return torch.zeros_like(each).scatter_(-1, best, 1.0).flatten(start_dim=-2)

    def log_normaliser(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return self._split(field).logsumexp(-1).sum(-1)

    def field_of(self, mean: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        logs = self._split(mean).clamp(min=_RARE).log()
        return (logs - logs.mean(-1, keepdim=True)).flatten(start_dim=-2)

    def table(self, like: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return torch.eye(self.size, dtype=like.dtype, device=like.device)

    def decode(self, features: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return self._split(features).argmax(-1)

    def _split(self, features: Tensor) -> Tensor:
        return cut(features, features.dim() - 1, self.size)


class GaussianUnits(UnitKind):
    r"""Real units with the feature :math:`\varphi(v) = v / s^2`.

    .. math:: p(v) \propto \exp(-v^2 / 2 s^2 T + \varphi(v) f)

    Args:
        variance: ``(n,)`` values of :math:`s^2`.
        temperature: ``T``.
    """

    def __init__(self, variance: Tensor, temperature: float = 1.0) -> None:
        self.variance, self.temperature = variance, temperature

    def mean(self, field: Tensor) -> Tensor:
        """Return the expected values; see :class:`UnitKind`."""
        return field * self.temperature

    def draw(self, field: Tensor, rng: torch.Generator | None) -> Tensor:
        """Return values; see :class:`UnitKind`."""
        noise = torch.empty_like(field).normal_(generator=rng)
        return self.mean(field) + noise * (self.variance * self.temperature).sqrt()

    def field_of(self, mean: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return mean / self.temperature

    def log_normaliser(self, field: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        spread = self.variance * self.temperature
        square = field.square() * self.temperature / self.variance
        return 0.5 * (square + (2 * math.pi * spread).log()).sum(-1)

    def base(self, features: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return -0.5 * (features.square() / (self.variance * self.temperature)).sum(-1)

    def features(self, values: Tensor) -> Tensor:
        """See :class:`UnitKind`."""
        return values / self.variance


def kind_of(variable: Variable) -> UnitKind:
    """Return the kind of units for the states of a discrete variable.

    Two states are 0 and 1, unless their labels are -1 and 1; more are categories.

    Raises:
        ModelError: If the variable is real.
    """
    if not variable.is_discrete:
        raise ModelError(f"{variable.name!r} is real: its units need a variance")
    if variable.num_states != 2:
        return CategoricalUnits(variable.num_states)
    return SpinUnits() if variable.states == (-1, 1) else BinaryUnits()


def drawn_below(probability: Tensor, rng: torch.Generator | None) -> Tensor:
    """Return 1 with a probability, else 0, in the same type."""
    noise = torch.empty_like(probability).uniform_(generator=rng)
    return noise.lt(probability).to(probability.dtype)
