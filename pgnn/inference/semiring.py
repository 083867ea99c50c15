r"""Eliminating a variable from a log table: by sum, by maximum or by sampling.

A reduction consists of the value of each slice and its derivative. Variable elimination adds the
log tables that contain a variable, reduces over it, and repeats. The gradient of the final value
depends on the reduction: posterior marginals (:class:`Sum`), the most probable assignment
(:class:`Max`) or an exact posterior sample (:class:`Draw`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class Reduction(ABC):
    """A value for each slice of a log table, and the derivative of that value."""

    rowwise = False
    """Whether rows that share a table must be reduced separately."""

    @abstractmethod
    def reduce(self, log_values: Tensor, dim: int) -> Tensor:
        """Return the value of each slice along ``dim``, which is removed."""

    @abstractmethod
    def weights(self, log_values: Tensor, reduced: Tensor, dim: int) -> Tensor:
        """Return the derivative of each slice's value with respect to its entries.

        Args:
            log_values: The reduced values.
            reduced: The result of :meth:`reduce`, with ``dim`` kept at size one.
            dim: The axis.
        """


@dataclass(frozen=True)
class Sum(Reduction):
    r""":math:`\log \sum \exp`; its derivative is the softmax, zero where a slice is all ``-inf``.

    Example:
        >>> contract([torch.tensor([0.5, 0.5]).log()], Sum(), 0)
        tensor(0.)
    """

    def reduce(self, log_values: Tensor, dim: int) -> Tensor:
        r"""Return :math:`\log \sum \exp` of each slice."""
        top = _finite(log_values.amax(dim, keepdim=True))
        return (log_values - top).exp_().sum(dim).log() + top.squeeze(dim)

    def weights(self, log_values: Tensor, reduced: Tensor, dim: int) -> Tensor:
        """Return the softmax of each slice, itself differentiable in both tensors."""
        return (log_values - _finite(reduced)).exp()


@dataclass(frozen=True)
class Max(Reduction):
    """The largest entry; its derivative is one at the first of the largest entries.

    Tied entries do not share the gradient, so that it always selects one assignment.
    """

    def reduce(self, log_values: Tensor, dim: int) -> Tensor:
        """Return the largest entry of each slice."""
        return log_values.amax(dim)

    def weights(self, log_values: Tensor, reduced: Tensor, dim: int) -> Tensor:
        """Return a one at the first largest entry of each slice."""
        return _one_hot(log_values, log_values.argmax(dim), dim)


@dataclass(frozen=True)
class Draw(Reduction):
    r"""Forward :math:`\log \sum \exp`; backward a state sampled from each slice's softmax.

    The gradient with respect to unary log tables is then an exact sample from the joint posterior,
    one-hot. Each backward pass draws a new sample.

    Args:
        generator: Random number generator, on the tables' device or the CPU.
    """

    generator: torch.Generator
    rowwise = True

    def reduce(self, log_values: Tensor, dim: int) -> Tensor:
        r"""Return :math:`\log \sum \exp` of each slice."""
        return Sum().reduce(log_values, dim)

    def weights(self, log_values: Tensor, reduced: Tensor, dim: int) -> Tensor:
        """Return a one at a state sampled from each slice."""
        shape = reduced.squeeze(dim).shape
        device = self.generator.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=self.generator)
        return _one_hot(log_values, draw(log_values.detach(), uniform, dim), dim)


SUM = Sum()
MAX = Max()


def log_sum_exp(log_values: Tensor, dim: int) -> Tensor:
    r"""Return :math:`\log \sum \exp` over one axis, differentiable any number of times.

    Unlike torch's, the gradient is zero instead of ``NaN`` where a whole slice is ``-inf``.
    """
    return contract([log_values], SUM, dim)


def maximum(log_values: Tensor, dim: int) -> Tensor:
    """Return the maximum over one axis; the first of tied entries has the gradient."""
    return contract([log_values], MAX, dim)


def contract(tables: Sequence[Tensor], reduction: Reduction, dim: int) -> Tensor:
    """Multiply tables (add their logs) and reduce one axis of the product.

    Only the tables are saved for the gradient, and the product is recomputed, so that a chain of
    contractions never holds more than one product at a time.

    Args:
        tables: Logs of shapes that broadcast against each other; at least one.
        reduction: The reduction over ``dim``.
        dim: An axis of the product.
    """
    out: Tensor = _Contract.apply(reduction, dim, *tables)  # type: ignore[no-untyped-call]
    return out


def draw(log_weights: Tensor, uniform: Tensor, dim: int) -> Tensor:
    """Return a state of each slice, sampled in proportion to its weight by inversion.

    Args:
        log_weights: Logs, not normalised; a slice that is all ``-inf`` gives state 0.
        uniform: Numbers in ``[0, 1)``, shaped like the weights without ``dim``.
        dim: The axis of the states.

    Returns:
        int64 states, shaped like ``uniform``; of positive weight, unless all weights are zero.
    """
    weights = log_weights.double()
    weights = (weights - _finite(weights.amax(dim, keepdim=True))).exp()
    mass = weights.cumsum(dim)
    goal = uniform.to(mass.device).unsqueeze(dim) * mass.narrow(dim, -1, 1)
    # A parallel cumsum may be off by an ulp: possible states score one, reached possible states #
    # two, and the first state with the largest score is taken.
    possible = (weights > 0).to(torch.uint8)
    return (possible * (1 + (mass > goal).to(torch.uint8))).argmax(dim)


class _Contract(Function):
    """Product and reduction in one step; the gradient recomputes the product."""

    @staticmethod
    def forward(ctx: Any, reduction: Reduction, dim: int, *tables: Tensor) -> Tensor:
        product = _product(tables)
        ctx.dim = dim % product.dim()
        ctx.reduction = reduction
        reduced = reduction.reduce(product, ctx.dim)
        ctx.save_for_backward(reduced, *tables)
        return reduced

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        reduced, *tables = ctx.saved_tensors
        weights = ctx.reduction.weights(_product(tables), reduced.unsqueeze(ctx.dim), ctx.dim)
        shares = grads[0].unsqueeze(ctx.dim) * weights
        needed = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(
                shares.sum_to_size(t.shape) if w else None
                for t, w in zip(tables, needed, strict=True)
            ),
        )


def _product(tables: Sequence[Tensor]) -> Tensor:
    """Sum of logs, small tables first so that the partial sums stay small."""
    ordered = sorted(tables, key=Tensor.numel)
    total = ordered[0]
    for table in ordered[1:]:
        total = total + table
    return total


def _finite(tops: Tensor) -> Tensor:
    return tops.masked_fill(tops == -math.inf, 0.0)


def _one_hot(reference: Tensor, index: Tensor, dim: int) -> Tensor:
    return torch.zeros_like(reference).scatter(dim, index.unsqueeze(dim), 1.0)
