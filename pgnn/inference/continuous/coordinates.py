"""Constrained real variables as concatenated unconstrained coordinates."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints

from pgnn.errors import Unsupported
from pgnn.factors.support import Support
from pgnn.factors.variable import Variable

_COVARIANCES = (type(constraints.positive_definite), type(constraints.positive_semidefinite))


def bijection_onto(constraint: Any) -> Any:
    """Return a bijection from real vectors onto the set of a constraint.

    Extends ``torch.distributions.biject_to`` by triangular and positive definite matrices.

    Raises:
        NotImplementedError: If no bijection is known.

    Example:
        >>> bijection_onto(constraints.positive)(torch.tensor(0.0))
        tensor(1.)
        >>> bijection_onto(constraints.positive_definite)(torch.zeros(3))
        tensor([[1., 0.],
                [0., 1.]])
    """
    base = getattr(constraint, "base_constraint", None)
    if base is not None:  # independent copies, mixtures; log determinants are summed anyway
        return bijection_onto(base)
    if isinstance(constraint, type(constraints.lower_cholesky)):
        return TriangularMatrix()
    if isinstance(constraint, _COVARIANCES):
        return PositiveDefiniteMatrix()
    return biject_to(constraint)


class TriangularMatrix(Transform):
    r"""Vectors of :math:`n (n + 1) / 2` numbers as lower triangular matrices.

    The first :math:`n` numbers are logs of the diagonal, the others the rows below it. (The
    transform of torch has :math:`n \times n` inputs, half of which are ignored, and is not a
    bijection.)
    """

    domain = constraints.real_vector
    codomain: Any = constraints.lower_cholesky
    bijective = True

    def forward_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the matrices."""
        n = math.isqrt(2 * shape[-1])
        return torch.Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the vectors."""
        n = shape[-1]
        return torch.Size((*shape[:-2], n * (n + 1) // 2))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log of the product of the diagonal."""
        return x[..., : y.shape[-1]].sum(-1)

    def _call(self, x: Tensor) -> Tensor:
        n = math.isqrt(2 * x.shape[-1])
        index = torch.full((n, n), x.shape[-1])
        index[*_below(n)] = torch.arange(n, x.shape[-1])
        index.fill_diagonal_(0).add_(torch.diag(torch.arange(n)))
        zero = x.new_zeros(*x.shape[:-1], 1)
        entries = torch.cat([x[..., :n].exp(), x[..., n:], zero], dim=-1)
        return entries.index_select(-1, index.reshape(-1)).reshape(*x.shape[:-1], n, n)

    def _inverse(self, y: Tensor) -> Tensor:
        diagonal = y.diagonal(dim1=-2, dim2=-1).log()
        i, j = _below(y.shape[-1])
        return torch.cat([diagonal, y[..., i, j]], dim=-1)


class PositiveDefiniteMatrix(TriangularMatrix):
    r"""Vectors of :math:`n (n + 1) / 2` numbers as positive definite matrices :math:`L L^\top`.

    .. math:: \left| \frac{\partial L L^\top}{\partial L} \right|
        = 2^n \prod_{i=1}^n L_{ii}^{n - i + 1}

    References:
        Gupta and Nagar (2000), Matrix Variate Distributions, section 1.3.
    """

    codomain = constraints.positive_definite

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log determinant over the entries on and below the diagonal."""
        n = y.shape[-1]
        powers = torch.arange(n + 1, 1, -1, dtype=x.dtype)
        return (powers * x[..., :n]).sum(-1) + n * math.log(2.0)

    def _call(self, x: Tensor) -> Tensor:
        lower = super()._call(x)
        return lower @ lower.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return super()._inverse(torch.linalg.cholesky(y))


def _below(n: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the entries below the diagonal."""
    i, j = torch.tril_indices(n, n, -1)
    return i, j


Reals = Mapping[Hashable, Tensor]


def num_points(reals: Reals) -> int:
    """Return the number of points ``N`` of values ``(N, *shape)``.

    Raises:
        Unsupported: If there are no values.
    """
    if not reals:
        raise Unsupported(
            "nothing is left to draw: the guide has no site that is not observed",
            "leave out engine=, or draw by model.sample(n, evidence)",
        )
    return len(next(iter(reals.values())))


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One variable and its unconstrained coordinates.

    Attributes:
        variable: A real variable.
        support: Its support.
        shape: Shape of its unconstrained coordinates; a simplex has one fewer than values.
        first: Index of the first coordinate.
    """

    variable: Variable
    support: Support
    shape: tuple[int, ...]
    first: int

    @property
    def last(self) -> int:
        """Index after the last coordinate."""
        return self.first + torch.Size(self.shape).numel()


class Coordinates:
    r"""Bijections from :math:`\mathbb{R}^D` to the values of all variables.

    .. math:: p(q) = p(x(q)) \left| \frac{\partial x}{\partial q} \right|

    Positive values use the exponential, intervals the sigmoid, simplexes stick-breaking, and
    covariance matrices products of triangular ones (``torch.distributions.biject_to``). A support
    may depend on earlier variables, such as that of ``Uniform(0, scale)``.

    Args:
        variables: Parents before children.
        supports: Support of each variable.
        keep_dtype: Whether values have the dtypes of their supports; otherwise the dtype of the
            points.

    Attributes:
        size: Number of unconstrained coordinates ``D``.
        each: The variables with their coordinates.

    Raises:
        Unsupported: If a variable is a count, or its support has no known bijection.

    Example:
        >>> rate = Variable("rate")
        >>> coordinates = Coordinates([rate], {"rate": Support(constraints.positive)})
        >>> values, log_jacobian = coordinates.constrain(torch.tensor([[0.0], [1.0]]))
        >>> values["rate"], log_jacobian
        (tensor([1.0000, 2.7183]), tensor([0., 1.]))
        >>> coordinates.unconstrain(values).round(decimals=4)
        tensor([[0.],
                [1.]])
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        supports: Mapping[Hashable, Support],
        keep_dtype: bool = False,
    ) -> None:
        self.keep_dtype = keep_dtype
        self.each: list[Coordinate] = []
        self.size = 0
        point: dict[Hashable, Tensor] = {}
        for v in variables:
            support = supports[v.name]
            bijection = _bijection(v, support.given(point))
            event = v.shape if support.shape is None else support.shape
            shape = tuple(bijection.inverse_shape(torch.Size((1, *event)))[1:])
            coordinate = Coordinate(v, support, shape, self.size)
            self.each.append(coordinate)
            self.size = coordinate.last
            point[v.name] = self._value(coordinate, bijection, torch.zeros(1, *shape).double())[0]

    @property
    def names(self) -> tuple[Hashable, ...]:
        """Names of the variables."""
        return tuple(c.variable.name for c in self.each)

    def constrain(self, q: Tensor) -> tuple[dict[Hashable, Tensor], Tensor]:
        """Return values by name and log determinants of points; differentiable.

        Args:
            q: ``(*lead, D)`` points.

        Returns:
            ``(*lead, *shape)`` values of each variable, and ``(*lead)`` log determinants.
        """
        if q.dim() != 2:
            flat, log_jacobian = self.constrain(q.reshape(-1, self.size))
            lead = q.shape[:-1]
            values = {n: x.reshape(*lead, *x.shape[1:]) for n, x in flat.items()}
            return values, log_jacobian.reshape(lead)
        values, log_jacobian = {}, q.new_zeros(len(q))
        for c in self.each:
            bijection = _bijection(c.variable, c.support.given(values))
            block = q[:, c.first : c.last].reshape(len(q), *c.shape)
            values[c.variable.name], log_det = self._value(c, bijection, block)
            if log_det is not None:
                log_jacobian = log_jacobian + log_det
        return values, log_jacobian

    def unconstrain(self, values: Reals) -> Tensor:
        """Return the points ``(*lead, D)`` of values ``(*lead, *shape)``."""
        lead = torch.Size()
        flat: dict[Hashable, Tensor] = {}
        parts = [torch.zeros(0)] * len(self.each)
        for k, c in enumerate(self.each):
            x, shape = values[c.variable.name], c.variable.shape
            lead = x.shape[: x.dim() - len(shape)]
            x = flat[c.variable.name] = x.reshape(lead.numel(), *shape)
            bijection = _bijection(c.variable, c.support.given(flat))
            event = shape if c.support.shape is None else c.support.shape
            parts[k] = bijection.inv(x.reshape(len(x), *event)).reshape(len(x), -1)
        return torch.cat(parts, dim=1).reshape(*lead, self.size)

    def name_of(self, column: int) -> Hashable:
        """Return the variable to which a coordinate belongs."""
        return next(c.variable.name for c in self.each if column < c.last)

    def _value(
        self, c: Coordinate, bijection: Any, unconstrained: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return values ``(B, *shape)`` of coordinates ``(B, ...)`` and log determinants."""
        x = bijection(unconstrained)
        log_det = None
        if x is not unconstrained:
            log_det = (
                bijection.log_abs_det_jacobian(unconstrained, x)
                .reshape(len(unconstrained), -1)
                .sum(dim=1)
            )
        x = x.reshape(len(unconstrained), *c.variable.shape)
        return (x.to(c.support.dtype) if self.keep_dtype else x), log_det


def _bijection(variable: Variable, constraint: Any) -> Any:
    """Return the bijection from unconstrained coordinates onto the support."""
    if constraint is None:
        raise Unsupported(f"the distribution of {variable.name!r} does not declare its support")
    if constraint.is_discrete:
        raise Unsupported(
            f"{variable.name!r} is a count ({constraint}), which has no gradient",
            "declare it as "
            "a discrete variable with states, which is summed out, or use "
            "pgnn.ExecutionSampling(), for a graph with pgnn.Program(model.program())",
        )
    try:
        return bijection_onto(constraint)
    except NotImplementedError:
        raise Unsupported(
            f"no bijection from real numbers onto the support of {variable.name!r} "
            f"({constraint}) is known",
            "give it as evidence, or declare it as a transform of another variable",
        ) from None
