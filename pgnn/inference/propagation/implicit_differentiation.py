"""Derivatives at a fixed point of propagation, with the memory of one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pgnn.errors import Unsupported
from pgnn.inference.convergence import Convergence
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from pgnn.inference.question import Question

_RELATIVE = 1e-10
_MAX_ITERATIONS = 500


def differentiable_log_partition(propagation: TorchPropagation, messages: Tensor) -> Tensor:
    r"""Return ``(B,)`` :meth:`TorchPropagation.bethe` with gradients in field and tables.

    At a fixed point the (reweighted) Bethe free energy is stationary in the messages, which
    therefore need not be differentiated:

    .. math::
        \frac{\partial \log Z}{\partial \theta_f(x_f)} = b_f(x_f), \qquad
        \frac{\partial \log Z}{\partial \theta_i(x_i)} = b_i(x_i).

    Args:
        propagation: The propagation, whose ``log_field`` and groups require gradients.
        messages: ``(B, M)`` converged log messages; the gradient is as accurate as these.

    Raises:
        Unsupported: At temperature zero. A second derivative raises a ``RuntimeError``.

    Returns:
        Logs; ``-inf``, with a gradient of zero, in impossible rows.

    Cost: backward, two steps.

    References:
        Wainwright and Jordan (2008), Graphical models, exponential families, and variational
        inference, sections 4.1 and 7.1.
    """
    _check(propagation)
    fixed = messages.detach()
    value: Tensor = _LogPartition.apply(  # type: ignore[no-untyped-call]
        propagation, fixed, propagation.log_field, *propagation.numbers
    )
    constant = propagation.graph.log_constant.to(propagation.log_field)
    return value + constant / propagation.temperature


def differentiable_beliefs(propagation: TorchPropagation, messages: Tensor) -> Tensor:
    r"""Return ``(B, S)`` marginals with gradients in field and tables.

    With messages :math:`m^* = s(m^*, \theta)` at a fixed point and a loss :math:`L`, the implicit
    function theorem replaces backpropagation through all iterations by one linear system:

    .. math::
        \lambda = \Big(\frac{\partial s}{\partial m}\Big)^{\!\top} \lambda
            + \frac{\partial L}{\partial m}, \qquad
        \frac{d L}{d \theta} = \frac{\partial L}{\partial \theta}
            + \Big(\frac{\partial s}{\partial \theta}\Big)^{\!\top} \lambda.

    It is solved by :func:`solve`, for each row separately.

    Args:
        propagation: The propagation, whose ``log_field`` and groups require gradients.
        messages: ``(B, M)`` converged log messages.

    Raises:
        Unsupported: At temperature zero. A second derivative raises a ``RuntimeError``.

    Warns:
        NotConverged: In the backward pass, if the system is not solved.

    Cost: backward, one vector-Jacobian product of a step for each iteration of the solver.

    References:
        Christianson (1994), Reverse accumulation and attractive fixed points.
        Eaton and Ghahramani (2009), Choosing a variable to clamp, section 5.
    """
    _check(propagation)
    beliefs: Tensor = _Beliefs.apply(  # type: ignore[no-untyped-call]
        propagation, messages.detach(), propagation.log_field, *propagation.numbers
    )
    return beliefs


def observed_field(question: Question) -> Tensor:
    """Return :meth:`Question.log_field` as a differentiable tensor.

    Gradients flow to the model's unary log potentials at possible states, and to soft evidence
    given as tensors that require gradients.

    Args:
        question: The query.

    Returns:
        ``(B, S)`` log field with the dtype and device of the graph.
    """
    graph, observed = question.graph, question.observed
    offset = graph.elements.offset
    total = graph.log_field.expand(observed.num_rows, -1)
    if observed.soft is not None:
        with np.errstate(divide="ignore"):
            soft = torch.from_numpy(np.log(observed.soft)).to(total)
        total = total + _with_tensors(question, soft, observed.soft_tensors)
    hidden = np.repeat(observed.codes >= 0, np.diff(offset), axis=1)
    rows, columns = np.nonzero(observed.codes >= 0)
    hidden[rows, offset[columns] + observed.codes[rows, columns]] = False
    return total.masked_fill(torch.from_numpy(hidden).to(total.device), -math.inf)


class _LogPartition(Function):
    """The Bethe value without the constant factors."""

    @staticmethod
    def forward(
        ctx: Any, propagation: TorchPropagation, messages: Tensor, field: Tensor, *numbers: Tensor
    ) -> Tensor:
        """Return the value."""
        ctx.propagation = propagation.at(field.detach(), [n.detach() for n in numbers])
        value: Tensor = ctx.propagation.bethe_without_constant(messages)
        ctx.save_for_backward(messages, value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Return expected counts."""
        propagation = ctx.propagation
        messages, value = ctx.saved_tensors
        weights = upstream[0].masked_fill(value.isneginf(), 0.0) / propagation.temperature
        states, tables = propagation.expected(messages, weights)
        gradients = [t.to(n) for t, n in zip(tables, propagation.numbers, strict=True)]
        return (None, None, states, *gradients)


class _Beliefs(Function):
    """Marginals at a fixed point."""

    @staticmethod
    def forward(
        ctx: Any, propagation: TorchPropagation, messages: Tensor, field: Tensor, *numbers: Tensor
    ) -> Tensor:
        """Return the marginals."""
        ctx.propagation = propagation.at(field.detach(), [n.detach() for n in numbers])
        ctx.save_for_backward(messages)
        log_beliefs: Tensor = ctx.propagation.beliefs(messages)
        return log_beliefs.exp()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Solve the adjoint system, then differentiate one step."""
        needed = ctx.needs_input_grad[2:]
        (fixed_point,) = ctx.saved_tensors
        arguments = [ctx.propagation.log_field, *ctx.propagation.numbers]
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(n) for t, n in zip(arguments, needed, strict=True)]
            messages = fixed_point.detach().requires_grad_()
            propagation = ctx.propagation.at(leaves[0], leaves[1:])
            marginals = propagation.beliefs(messages).exp()
            updated = propagation.step(messages)
        roots = [t for t, n in zip(leaves, needed, strict=True) if n]
        gradient, *direct = _vjp(marginals, upstream[0], [messages, *roots], keep=True)
        adjoint = _adjoint(lambda v: _vjp(updated, v, [messages], keep=True)[0], gradient)
        indirect = _vjp(updated, adjoint, roots, keep=False)
        totals = iter([a + b for a, b in zip(direct, indirect, strict=True)])
        return (None, None, *(next(totals) if n else None for n in needed))


def _vjp(out: Tensor, vector: Tensor, inputs: list[Tensor], keep: bool) -> list[Tensor]:
    """Return vector-Jacobian products."""
    if not out.requires_grad or not out.numel():
        return [torch.zeros_like(t) for t in inputs]
    return list(torch.autograd.grad(out, inputs, vector, retain_graph=keep, materialize_grads=True))


def _adjoint(vjp: Callable[[Tensor], Tensor], gradient: Tensor) -> Tensor:
    """Return the solution of ``x = J' x + gradient``."""
    tolerance = max(_RELATIVE, 10 * torch.finfo(gradient.dtype).eps)
    solution, residual = solve(lambda v: v - vjp(v), gradient, tolerance, _MAX_ITERATIONS)
    inexact = int((residual > tolerance).sum())
    if inexact:
        Convergence("BeliefPropagation").add(
            f"the derivatives of {inexact} of {len(gradient)} rows are inexact: the adjoint system "
            f"of propagation was solved to a relative residual of {float(residual.max()):.2g} "
            "only; beliefs near a phase transition are sensitive to every parameter",
            "weaken the couplings or use tree-reweighted propagation",
        ).warn()
    return solution


def _check(propagation: TorchPropagation) -> None:
    if propagation.temperature == 0:
        raise Unsupported("max-product has no derivatives", "use a positive temperature")


def _with_tensors(question: Question, soft: Tensor, tensors: Mapping[Hashable, Tensor]) -> Tensor:
    """Return log-likelihoods; those given as tensors are differentiable."""
    elements = question.graph.elements
    for name, likelihood in tensors.items():
        numbers = elements.numbers(name).ravel()
        first, last = int(elements.offset[numbers[0]]), int(elements.offset[numbers[-1] + 1])
        unscaled = likelihood.to(soft)
        zero = unscaled == 0
        log = unscaled.masked_fill(zero, 1.0).log().masked_fill(zero, -math.inf)
        # the scale is accounted for by ``soft_scale``
        log = log - log.detach().amax(-1, keepdim=True)
        log = log.reshape(len(soft), last - first)
        soft = torch.cat([soft[:, :first], log, soft[:, last:]], dim=1)
    return soft


_RESTART = 12


def solve(
    matrix: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, max_products: int
) -> tuple[Tensor, Tensor]:
    r"""Solve :math:`A_b x_b = r_b` for every row by restarted GMRES.

    Args:
        matrix: Maps ``(B, M)`` vectors to the products of each row's matrix with its vector.
        right: ``(B, M)`` right-hand sides.
        tolerance: Largest residual of a row, relative to its right-hand side.
        max_products: Largest number of products with ``matrix``.

    Returns:
        ``(B, M)`` solutions and ``(B,)`` relative residuals; zero for a zero right-hand side.

    Cost: memory of 13 vectors, whatever ``max_products`` is.

    References:
        Saad and Schultz (1986), GMRES: a generalized minimal residual algorithm for solving
        nonsymmetric linear systems.
    """
    norm = torch.linalg.vector_norm(right, dim=1)
    x = torch.zeros_like(right)
    residual, products = right, 0
    error = _relative(residual, norm)
    while products < max_products and bool((error > tolerance).any()):
        x = x + _cycle(matrix, residual, tolerance * norm)
        residual = right - matrix(x)
        products += _RESTART + 1
        before, error = error, _relative(residual, norm)
        if bool((error >= before).all()):
            break
    return x, error


def _relative(residual: Tensor, norm: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(residual, dim=1)
    return length / norm.masked_fill(norm == 0, 1.0)


def _cycle(matrix: Callable[[Tensor], Tensor], residual: Tensor, tolerance: Tensor) -> Tensor:
    """Return the correction with the smallest residual in a Krylov space of a few dimensions."""
    norm = torch.linalg.vector_norm(residual, dim=1)
    basis = [_unit(residual, norm)]
    rows = len(residual)
    hessenberg = residual.new_zeros(rows, _RESTART + 1, _RESTART)
    first = residual.new_zeros(rows, _RESTART + 1)
    first[:, 0] = norm
    weights = residual.new_zeros(rows, _RESTART)
    for k in range(_RESTART):
        new = matrix(basis[k])
        # two passes of Gram-Schmidt give orthogonality up to rounding
        for _ in range(2):
            for j, direction in enumerate(basis):
                along = (new * direction).sum(1)
                hessenberg[:, j, k] += along
                new = new - along[:, None] * direction
        length = torch.linalg.vector_norm(new, dim=1)
        hessenberg[:, k + 1, k] = length
        basis.append(_unit(new, length))
        used = hessenberg[:, : k + 2, : k + 1]
        weights = torch.linalg.pinv(used) @ first[:, : k + 2, None]
        error = (used @ weights - first[:, : k + 2, None]).norm(dim=(1, 2))
        if bool((error <= tolerance).all()):
            break
    correction = torch.zeros_like(residual)
    for direction, weight in zip(basis, weights.unbind(1), strict=False):
        correction = correction + weight * direction
    return correction


def _unit(vector: Tensor, length: Tensor) -> Tensor:
    """Return the normalised vector; zero if its norm is zero up to rounding."""
    tiny = length <= torch.finfo(vector.dtype).tiny
    return (vector / length.masked_fill(tiny, 1.0)[:, None]).masked_fill(tiny[:, None], 0.0)
