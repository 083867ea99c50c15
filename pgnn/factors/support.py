"""Supports of real variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pgnn.factors.randomness import kept_randomness

_MAKE: Any = constraints
_ELEMENTWISE = (
    type(_MAKE.boolean),
    type(_MAKE.interval(0.0, 1.0)),
    type(_MAKE.half_open_interval(0.0, 1.0)),
    type(_MAKE.greater_than(0.0)),
    type(_MAKE.greater_than_eq(0.0)),
    type(_MAKE.less_than(0.0)),
    type(_MAKE.integer_interval(0, 1)),
    type(_MAKE.nonnegative_integer),
    type(_MAKE.positive_integer),
)
_INDEPENDENT = type(_MAKE.independent(_MAKE.real, 1))
"""Constraints of single numbers, which are quickly checked."""
_SUM = {torch.float64: 1e-6}
"""How far the numbers of a simplex may sum to something else than one; of other types more."""


@dataclass(frozen=True, eq=False)
class Support:
    """The support of a real variable.

    Attributes:
        constraint: One of torch's.
        dtype: Dtype of the values.
        shape: Shape of the constraint where it is not the variable's, as in a program whose
            plates leave dimensions of size one between them.
    """

    constraint: Any = constraints.real
    dtype: torch.dtype = torch.float64
    shape: tuple[int, ...] | None = None

    def given(self, reals: Mapping[Hashable, Tensor]) -> Any:
        """Return the constraint given the variables before; here it does not depend on them."""
        return self.constraint


def support_of(distribution: Any) -> Any:
    """Return the support of a distribution; all real numbers where it is not declared."""
    try:
        return constraints.real if distribution.support is None else distribution.support
    except NotImplementedError:
        return constraints.real


def same_constraint(a: Any, b: Any) -> bool:
    """Whether two constraints are the same, bounds included.

    Example:
        >>> same_constraint(constraints.interval(0.0, 1.0), constraints.unit_interval)
        True
        >>> same_constraint(constraints.greater_than(0.0), constraints.greater_than(1.0))
        False
    """
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_constraint(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is not type(b):
        return False
    if isinstance(a, constraints.Constraint):
        return all(same_constraint(x, vars(b)[n]) for n, x in vars(a).items())
    return bool(a == b)


def inside_of(constraint: Any, value: Any) -> Tensor | None:
    """Return which values fulfil a constraint, ``(*batch)``; None if all numbers do.

    None, too, for matrices and other values that take a decomposition to check.

    Example:
        >>> inside_of(constraints.nonnegative_integer, torch.tensor([2.0, 1.5, -1.0]))
        tensor([ True, False, False])
        >>> inside_of(constraints.real_vector, torch.zeros(2)) is None
        True
    """
    if isinstance(constraint, _INDEPENDENT):
        inner = inside_of(constraint.base_constraint, value)
        axes = constraint.reinterpreted_batch_ndims
        if inner is None or not axes:
            return inner
        return inner.flatten(start_dim=inner.dim() - axes).all(-1)
    inside: Tensor
    if isinstance(constraint, type(constraints.simplex)):
        off = (value.sum(-1) - 1.0).abs()
        inside = (value >= 0).all(-1) & (off <= _SUM.get(value.dtype, 1e-3))
        return inside
    if isinstance(constraint, _ELEMENTWISE):
        check: Any = constraint.check
        inside = check(value)
        return inside
    return None


def is_fixed(constraint: Any) -> bool:
    """Whether no bound of a constraint is a tensor, which may depend on other variables."""
    return not any(
        isinstance(x, Tensor) or (isinstance(x, constraints.Constraint) and not is_fixed(x))
        for x in vars(constraint).values()
    )


def inside_support(distribution: Distribution, value: Tensor) -> Tensor:
    """Return which values ``(*batch, *event)`` are in the support of a distribution, ``(*batch)``.

    Example:
        >>> from torch.distributions import Exponential
        >>> inside_support(Exponential(torch.tensor(1.0)), torch.tensor([2.0, -3.0]))
        tensor([ True, False])
    """
    inside: Tensor = support_of(distribution).check(value)
    extra_dims = inside.dim() - (value.dim() - len(distribution.event_shape))
    if extra_dims > 0:  # all real numbers, of a vector without a declared support
        inside = inside.flatten(start_dim=inside.dim() - extra_dims).all(-1)
    return inside


def log_density(distribution: Distribution, value: Tensor) -> Tensor:
    """Return log probabilities, ``-inf`` outside of the support and for ``NaN``.

    torch raises for such values, or extends the formula to them, by a setting. Where a value is
    outside, gradients are computed at another one, so that they are finite.

    Args:
        distribution: One of torch's.
        value: ``(*batch, *event)``, broadcast with the distribution's batch.

    Example:
        >>> from torch.distributions import Exponential
        >>> log_density(Exponential(torch.tensor(1.0)), torch.tensor([2.0, -3.0]))
        tensor([-2., -inf])
    """
    axes = len(distribution.event_shape)
    inside = inside_support(distribution, value)
    log_probs: Tensor
    if bool(inside.all()):
        log_probs = distribution.log_prob(value)
        return log_probs
    with kept_randomness(), torch.no_grad():
        stand_in = distribution.sample()
    event = [1] * axes
    log_probs = distribution.log_prob(
        torch.where(inside.reshape(*inside.shape, *event), value, stand_in.to(value))
    )
    return log_probs.masked_fill(~inside, -torch.inf)
