"""Constrained real variables as unconstrained coordinates, side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable

Reals = Mapping[Hashable, Tensor]

Support = Callable[[Reals], Any]
"""The constraint that a variable's values fulfil, given the variables before it."""


@dataclass(frozen=True)
class Coordinate:
    """One variable and its unconstrained numbers.

    Attributes:
        variable: A real one.
        support: Its constraint.
        shape: Of its unconstrained numbers; a simplex has one less of them.
        first: Where they begin.
    """

    variable: Variable
    support: Support
    shape: tuple[int, ...]
    first: int

    @property
    def last(self) -> int:
        """Where they end."""
        return self.first + torch.Size(self.shape).numel()


class Coordinates:
    r"""Bijections from :math:`\mathbb{R}^D` to the values of all variables.

    .. math:: p(q) = p(x(q)) \left| \frac{\partial x}{\partial q} \right|

    Positive numbers are exponentials, intervals sigmoids, simplexes broken sticks
    (``torch.distributions.biject_to``). A support may depend on variables before, as that of
    ``Uniform(0, scale)``.

    Args:
        variables: Parents before children.
        supports: The constraint of each.

    Raises:
        Unsupported: If a variable is a count, or has a support to which there is no bijection.

    Example:
        >>> from torch.distributions import constraints
        >>> coordinates = Coordinates([Variable("s")], {"s": lambda _: constraints.positive})
        >>> values, log_jacobian = coordinates.constrain(torch.tensor([[0.0], [1.0]]))
        >>> values["s"], log_jacobian
        (tensor([1.0000, 2.7183]), tensor([0., 1.]))
    """

    def __init__(self, variables: Sequence[Variable], supports: Mapping[Hashable, Support]) -> None:
        self.each: list[Coordinate] = []
        self.size = 0
        point: dict[Hashable, Tensor] = {}
        for v in variables:
            bijection = _bijection(v, supports[v.name](point))
            shape = tuple(bijection.inverse_shape(torch.Size((1, *v.shape)))[1:])
            made = Coordinate(v, supports[v.name], shape, self.size)
            self.each.append(made)
            self.size = made.last
            point[v.name] = bijection(torch.zeros(1, *shape, dtype=torch.float64))

    def constrain(self, q: Tensor) -> tuple[dict[Hashable, Tensor], Tensor]:
        """Return values ``(B, *shape)`` by name and ``(B,)`` log determinants of points ``(B, D)``.

        It is differentiable.
        """
        values: dict[Hashable, Tensor] = {}
        log_jacobian = q.new_zeros(len(q))
        for c in self.each:
            bijection = _bijection(c.variable, c.support(values))
            own = q[:, c.first : c.last].reshape(len(q), *c.shape)
            x = bijection(own)
            if x is not own:
                log_det = bijection.log_abs_det_jacobian(own, x)
                log_jacobian = log_jacobian + log_det.reshape(len(q), -1).sum(dim=1)
            values[c.variable.name] = x
        return values, log_jacobian

    def name_of(self, column: int) -> Hashable:
        """Return the variable to which a coordinate belongs."""
        return next(c.variable.name for c in self.each if column < c.last)


def _bijection(variable: Variable, support: Any) -> Any:
    """From unconstrained numbers to the support; the identity gives back what it is given."""
    if support is None:
        raise Unsupported(f"the distribution of {variable.name!r} does not tell its support")
    if support.is_discrete:
        raise Unsupported(
            f"{variable.name!r} is a count ({support}), along which there is no gradient; declare "
            "it as a discrete variable with states, to be summed out"
        )
    try:
        return biject_to(support)
    except NotImplementedError:
        raise Unsupported(
            f"there is no bijection to the support of {variable.name!r} ({support})"
        ) from None
