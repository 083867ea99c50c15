"""Starting values of the parameters of a torch distribution, by its constraints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, LogisticNormal, constraints

from pgnn.errors import ModelError
from pgnn.factors.conditionals.distribution_class import (
    arguments_of,
    check_axes,
    check_complete,
    distribution_class,
    event_axes,
)
from pgnn.factors.variable import Variable

_SAME = (
    ("probs", "logits"),
    ("gate", "gate_logits"),
    ("scale_tril", "covariance_matrix", "precision_matrix"),
    ("weighted_correlation", "correlation"),
)
"""Parameters of which a distribution takes one; the first is taken."""


def starting_values(
    make: Callable[..., Distribution],
    child: Variable,
    parents: Sequence[Variable],
    given: Sequence[str] = (),
) -> dict[str, Tensor]:
    r"""Return values inside of the constraints: zero, one, one half, or the unit matrix.

    Args:
        make: A class of distributions, or a partial of one with fixed arguments.
        child: The variable that it is of.
        parents: Parents, of which the discrete ones are the first axes.
        given: Names of the parameters that have values.

    Raises:
        ModelError: If a parameter has no learnable values, as the ends of an interval, or the
            variable has too few axes.
    """
    kind = distribution_class(make)
    if kind is None:
        return {}
    if issubclass(kind, Categorical):
        raise ModelError(
            f"{kind.__name__} of {child.name!r} is a distribution of states",
            f"declare {child.name!r} with states, as in pgnn.Variable({child.name!r}, 3), "
            "and pgnn.Tabular",
        )
    if kind.log_prob is Distribution.log_prob:
        raise ModelError(
            f"{kind.__name__} of {child.name!r} has no density",
            "give a class with log_prob(), such as torch.distributions.Gamma",
        )
    reals = [v.name for v in parents if not v.is_discrete]
    if reals:
        raise ModelError(
            f"{kind.__name__} of {child.name!r} does not say how it depends on its real parents "
            f"{reals}",
            "use pgnn.LinearGaussian, or a callable of their values, as in lambda child, "
            "parents: pgnn.Distributional(child, parents, lambda x, slope: Normal(slope * x, 1.0), "
            "slope=0.0)",
        )
    check_axes(kind, child)
    stated: Any = kind.arg_constraints
    if not isinstance(stated, dict):
        stated = {}
    arguments = arguments_of(make)
    free = [n for n in stated if n in arguments and n not in given]
    fixed = [n for n in stated if n not in arguments]
    shape = child.shape
    if issubclass(kind, LogisticNormal):  # of a vector with one number less
        shape = (*shape[:-1], shape[-1] - 1)
    axes = 0 if issubclass(kind, LogisticNormal) else event_axes(kind) or 0
    lead = [v.num_states for v in parents if v.is_discrete]
    values = {}
    for name in free:
        if _is_alternative(name, stated, [*given, *fixed]):
            continue
        start = _inside(stated[name], shape, axes)
        if start is not None:
            values[name] = start.expand((*lead, *start.shape)).clone()
    check_complete(make, child, [*given, *values])
    return values


def _is_alternative(name: str, stated: Any, given: Sequence[str]) -> bool:
    """Whether another parameter stands for this one."""
    for group in _SAME:
        if name in group:
            known = [n for n in group if n in stated]
            return any(n in given for n in known) or name != known[0]
    return False


def _inside(constraint: Any, shape: tuple[int, ...], axes: int) -> Tensor | None:
    """Return a value within a constraint; None if there is no known one, or of discrete ones.

    Args:
        constraint: That of the parameter.
        shape: Shape of the variable.
        axes: How many of its last axes the distribution is of.
    """
    inner = constraint
    while isinstance(inner, constraints.independent):
        inner = inner.base_constraint
    try:
        own, discrete = constraint.event_dim, constraint.is_discrete
    except NotImplementedError:  # it depends on other parameters
        return None
    if discrete:
        return None
    batch, event = shape[: len(shape) - axes], shape[len(shape) - axes :]
    if inner in (constraints.lower_cholesky, constraints.positive_definite):
        unit = torch.eye(event[-1], dtype=torch.float64) if event else None
        return None if unit is None else unit.expand(*batch, *unit.shape)
    if own > len(event):
        return None
    zeros: Tensor = torch.zeros((*batch, *event[len(event) - own :]), dtype=torch.float64)
    if inner is constraints.real:
        return zeros
    if inner is constraints.simplex:
        return zeros + 1.0 / event[-1]
    low, high = (getattr(inner, f"{end}_bound", None) for end in ("lower", "upper"))
    if low is None or isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    return zeros + float(low + 1.0 if high is None else (low + high) / 2)
