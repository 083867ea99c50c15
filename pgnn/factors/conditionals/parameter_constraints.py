"""Constraints of the parameters of torch distributions, and transforms from free numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, biject_to, transform_to

from pgnn.factors.conditionals.distribution_class import distribution_class
from pgnn.factors.conditionals.table_reader import read_numbers

WRONG = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
          ValueError)  # fmt: skip
"""What constructors of distributions raise."""


def stated_constraints(
    make: Callable[..., Distribution], reals: Sequence[Tensor], parameters: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Constraints of parameters by name, from a class or from the distributions of a callable.

    For a callable, only parameters that it passes on unchanged under the same name are considered.
    """
    kind = distribution_class(make)
    if kind is not None:
        return kind.arg_constraints if isinstance(kind.arg_constraints, dict) else None
    numbers = {
        n: torch.from_numpy(read_numbers(f"parameter {n!r}", x)) for n, x in parameters.items()
    }
    try:
        dist: Any = make(*reals, **numbers)
    except WRONG:
        return {}  # the call with the parents' axes raises the error
    while isinstance(dist, Independent):
        dist = dist.base_dist
    known = dist.arg_constraints if isinstance(dist.arg_constraints, dict) else {}
    passed = {n: vars(dist).get(n) for n in known if n in numbers}
    return {
        n: known[n]
        for n, x in passed.items()
        if isinstance(x, Tensor) and x.shape == numbers[n].shape and bool((x == numbers[n]).all())
    }


def transform_of(constraint: Any) -> Any:
    """Transform from unconstrained values; torch lacks a bijection for some triangular matrices."""
    try:
        return biject_to(constraint)
    except NotImplementedError:
        return transform_to(constraint)
