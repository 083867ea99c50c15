"""Starting values of the parameters of a torch distribution, by its constraints."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pgnn.errors import ModelError
from pgnn.factors.variable import Variable

_SAME = (("probs", "logits"), ("scale_tril", "covariance_matrix", "precision_matrix"))
"""Parameters of which a distribution takes one; the first is taken."""


def starting_values(
    kind: type[Distribution],
    child: Variable,
    parents: Sequence[Variable],
    given: Sequence[str] = (),
) -> dict[str, Tensor]:
    r"""Return values inside of the constraints: zero, one, one half, or the unit matrix.

    Args:
        kind: The class of the distribution.
        child: The variable that it is of.
        parents: Parents, of which the discrete ones are the first axes.
        given: Names of the parameters that have values.

    Raises:
        ModelError: If a parameter has no learnable values, as the ends of an interval.
    """
    stated: Any = kind.arg_constraints
    if not isinstance(stated, dict) or not stated:
        if given or (stated == {} and not inspect.signature(kind).parameters):
            return {}
        raise _not_learnable(kind, child, "parameters whose ranges depend on each other")
    arguments = inspect.signature(kind).parameters
    lead = [v.num_states for v in parents if v.is_discrete]
    values = {}
    for name, constraint in stated.items():
        if name in given or name not in arguments or _is_alternative(name, stated, given):
            continue
        if constraint.is_discrete:
            if arguments[name].default is inspect.Parameter.empty:
                raise _not_learnable(kind, child, f"{name!r}, a whole number")
            continue
        start = _inside(constraint, child.shape)
        if start is None:
            raise _not_learnable(kind, child, f"{name!r}, a {constraint}")
        values[name] = start.expand((*lead, *start.shape)).clone()
    return values


def _is_alternative(name: str, stated: Any, given: Sequence[str]) -> bool:
    """Whether another parameter stands for this one."""
    for group in _SAME:
        if name in group:
            known = [n for n in group if n in stated]
            return any(n in given for n in known) or name != known[0]
    return False


def _inside(constraint: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Return a value within a constraint; None if it is not a known one."""
    inner = constraint
    while isinstance(inner, constraints.independent):
        inner = inner.base_constraint
    zeros: Tensor = torch.zeros(shape, dtype=torch.float64)
    if inner in (constraints.lower_cholesky, constraints.positive_definite):
        return torch.eye(*shape, dtype=torch.float64) if len(shape) == 1 else None
    if inner is constraints.real:
        return zeros
    if inner is constraints.simplex:
        return zeros + 1.0 / shape[-1] if shape else None
    low, high = (getattr(inner, f"{end}_bound", None) for end in ("lower", "upper"))
    if low is None:
        return None
    return zeros + float(low + 1.0 if high is None else (low + high) / 2)


def _not_learnable(kind: type, child: Variable, what: str) -> ModelError:
    return ModelError(
        f"{kind.__name__} of {child.name!r} has {what}, which gradient ascent cannot learn: use "
        "another, such as torch.distributions.Beta or pgnn.Histogram for values in an interval",
        "or fix it in a callable, as in lambda child, parents: pgnn.Distributional(child, "
        "parents, lambda probs: Binomial(10, probs=probs), probs=[0.3, 0.6])",
    )
