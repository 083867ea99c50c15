"""Which values a real variable can have."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints


@dataclass(frozen=True, eq=False)
class Support:
    """Which values a real variable can have.

    Attributes:
        constraint: One of torch's.
        dtype: Of the values.
        shape: That the constraint is about where it is not the variable's, as in a program whose
            plates leave dimensions of size one between them.
    """

    constraint: Any = constraints.real
    dtype: torch.dtype = torch.float64
    shape: tuple[int, ...] | None = None

    def given(self, reals: Mapping[Hashable, Tensor]) -> Any:
        """Return the constraint where it depends on variables before; here it does not."""
        return self.constraint


def support_of(distribution: Any) -> Any:
    """Return the support of a distribution; all real numbers where it does not tell."""
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
