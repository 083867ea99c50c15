"""Classes of torch distributions, possibly with fixed arguments, and what they need."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from functools import partial
from typing import Any

from torch import Tensor
from torch.distributions import Distribution, GeneralizedPareto, constraints

from pgnn.errors import ModelError
from pgnn.factors.variable import Variable

_EXAMPLES = {
    "temperature": "torch.tensor(0.5)",
    "total_count": "10",
    "dim": "3",
    "d": "3",
    "loc": "0.0",
    "scale": "1.0",
    "low": "0.0",
    "high": "1.0",
}
"""Arguments in messages."""


def distribution_class(make: Any) -> type[Distribution] | None:
    """Return the class of a class of distributions, or of a partial of one; otherwise None.

    Example:
        >>> from torch.distributions import Binomial
        >>> distribution_class(partial(Binomial, 10)) is Binomial
        True
    """
    kind = make.func if isinstance(make, partial) else make
    return kind if isinstance(kind, type) and issubclass(kind, Distribution) else None


def name_of(make: Any) -> str:
    """Return what makes a distribution, with its fixed arguments.

    Example:
        >>> from torch.distributions import Binomial
        >>> name_of(partial(Binomial, total_count=10))
        'Binomial(total_count=10)'
    """
    if not isinstance(make, partial):
        return getattr(make, "__name__", type(make).__name__)
    fixed = [*map(repr, make.args), *(f"{n}={x!r}" for n, x in make.keywords.items())]
    return f"{name_of(make.func)}({', '.join(fixed)})"


def arguments_of(make: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class of distributions by name, without those that are fixed."""
    arguments = dict(inspect.signature(distribution_class(make) or make).parameters)
    if isinstance(make, partial):
        fixed = inspect.signature(make.func).bind_partial(*make.args, **make.keywords)
        arguments = {n: a for n, a in arguments.items() if n not in fixed.arguments}
    return arguments


def event_axes(kind: type[Distribution]) -> int | None:
    """Return the number of axes of a value; None where the class does not say."""
    support: Any = kind.support
    try:
        axes: int = support.event_dim
    except (NotImplementedError, AttributeError):
        return None
    return axes


def check_axes(kind: type[Distribution], child: Variable) -> None:
    """Check that a variable has the axes of a distribution's values.

    Raises:
        ModelError: If it has fewer.
    """
    axes = event_axes(kind) or 0
    if len(child.shape) < axes:
        what = "vectors" if axes == 1 else "matrices"
        raise ModelError(
            f"{kind.__name__} is a distribution of {what}, but {child.name!r} has the shape "
            f"{child.shape}",
            f"declare pgnn.Variable({child.name!r}, shape={(3,) * axes})",
        )


def check_complete(make: Any, child: Variable, given: Collection[str]) -> None:
    """Check that nothing is lacking that a distribution is made of.

    Args:
        make: A class, or a partial of one.
        child: The variable.
        given: Arguments that have values.

    Raises:
        ModelError: If an argument has no value; the message shows how it is given.
    """
    kind = distribution_class(make)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    lacking = [
        n
        for n, argument in arguments_of(make).items()
        if n not in given and argument.kind in named and argument.default is argument.empty
    ]
    if kind is None or not lacking:
        return
    stated: Any = kind.arg_constraints
    needs = f"{kind.__name__} of {child.name!r} needs {', '.join(map(repr, lacking))}"
    if isinstance(stated, dict) and all(n in stated for n in lacking):
        values = ", ".join(f"{n}=..." for n in lacking)
        raise ModelError(
            f"{needs}, whose starting values do not follow from the shape {child.shape}",
            "give those, as in lambda child, parents: pgnn.Distributional(child, parents, "
            f"{_module(kind)}.distributions.{kind.__name__}, {values})",
        )
    raise ModelError(
        f"{needs}, which cannot be learned",
        "fix what is known, as in "
        f"{fixed_example(kind, lacking)}, or give a callable that makes the distribution of "
        "numbers to be learned, as in lambda child, parents: pgnn.Distributional(child, parents, "
        "lambda rate: Gamma(2.0, rate), rate=1.0)",
    )


def fixed_example(kind: type[Distribution], names: Collection[str]) -> str:
    """Return how arguments are fixed, in code."""
    values = ", ".join(f"{n}={_EXAMPLES.get(n, '...')}" for n in names)
    return f"functools.partial({_module(kind)}.distributions.{kind.__name__}, {values})"


def _module(kind: type[Distribution]) -> str:
    return "torch" if kind.__module__.startswith("torch.") else "pyro"


def learned_bounds(distribution: Distribution) -> list[Tensor]:
    """Return ends of the support that depend on learnable numbers.

    The likelihood is largest where such an end meets the data, and has no derivative there.

    Example:
        >>> import torch
        >>> from torch.distributions import Pareto
        >>> len(learned_bounds(Pareto(torch.ones(1, requires_grad=True), torch.ones(1))))
        1
    """
    try:
        support: Any = distribution.support
    except NotImplementedError:
        return []
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    ends = [*vars(support).values()] if isinstance(support, constraints.Constraint) else []
    if isinstance(distribution, GeneralizedPareto):  # whose upper end lies beyond the data
        ends = ends[:1]
    return [
        x
        for x in ends
        if isinstance(x, Tensor) and x.requires_grad and bool(x.detach().isfinite().any())
    ]
