r"""``log Z`` as a differentiable operation on top of any exact kernel.

The forward pass computes the value by a kernel, the backward pass computes beliefs: the derivative
of :math:`\log Z` with respect to a log table is the posterior of the table's variables. Kernels
therefore need no autograd. For second derivatives (``create_graph=True``) the gradient is that of
the same value computed by torch.

References:
    Darwiche (2003), A differential approach to inference in Bayesian networks, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from pgnn.factors.factor import Factor
from pgnn.inference.factor_graph import FactorGraph
from pgnn.tape.recorder import opaque_step

Floats = NDArray[np.float64]
Together = Callable[[FactorGraph], tuple[Floats, Sequence[Floats]]]
Evaluate = Callable[[FactorGraph], Floats]
Accumulate = Callable[[FactorGraph, Floats], Sequence[Floats]]
Reference = Callable[[FactorGraph], Tensor]


@dataclass(frozen=True, eq=False)
class Kernel:
    r"""The functions that compute ``log Z`` and its gradient for a given batch of evidence.

    Args:
        evaluate: Maps the graph to ``(B,)`` values of :math:`\log Z`, ``-inf`` where impossible.
        accumulate: Maps the graph and ``(B,)`` weights :math:`w` to
            :math:`\sum_b w_b\, p(x_f \mid e_b)`, summed over factors that share a table: an array
            for each source of the graph, in its shape; single terms for row-wise sources. Weights
            of impossible rows are zero.
        reference: Differentiable version of ``evaluate``, such as
            :func:`pgnn.inference.exact.torch_executor.log_partition`.
        together: Maps the graph to the results of ``evaluate`` and of ``accumulate`` with weights
            of one. Used where these suffice for the gradient: for one row, or row-wise tables.
        rows: Number of rows of evidence.
    """

    evaluate: Evaluate
    accumulate: Accumulate
    reference: Reference
    together: Together | None = None
    rows: int = 0


class LogPartition(Function):
    """The autograd function of :func:`log_partition`."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, graph: FactorGraph, *tables: Tensor) -> Tensor:
        """Evaluate the kernel; ``tables`` are the graph's sources that require gradients."""
        ctx.kernel, ctx.graph = kernel, graph
        single = graph.rowwise[graph.first[list(graph.learned)]].all() or kernel.rows == 1
        ctx.at_once = kernel.together is not None and bool(tables) and bool(single)
        step = _evidence_and_counts if ctx.at_once else _evidence
        log_z, *counts = opaque_step(partial(step, kernel, graph), *tables)
        ctx.save_for_backward(log_z, *tables, *counts)
        return log_z

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Compute beliefs by the kernel, or by torch if the gradient must be differentiable."""
        wanted = ctx.needs_input_grad[2:]
        log_z, *saved = ctx.saved_tensors
        tables, counts = saved[: len(wanted)], saved[len(wanted) :]
        weights = upstream[0].masked_fill(log_z.isneginf(), 0.0)
        gradients: Sequence[Tensor]
        if torch.is_grad_enabled():
            gradients = _through_torch(ctx, upstream[0], tables)
        elif ctx.at_once:
            gradients = [_weighted(c, weights) for c in counts]
        else:
            gradients = opaque_step(partial(_counts, ctx.kernel, ctx.graph), weights, *tables)
        return (None, None, *(g if w else None for g, w in zip(gradients, wanted, strict=True)))


def log_partition(graph: FactorGraph, kernel: Kernel) -> Tensor:
    r"""Return ``(B,)`` :math:`\log Z`, differentiable in every table that requires a gradient.

    Args:
        graph: Variables and factors.
        kernel: Functions that compute the value and its gradient for the evidence.

    Returns:
        Logs in the widest dtype of the tables, on their device; ``-inf`` in impossible rows, whose
        gradient is zero.

    Cost: one ``evaluate``; backward one ``accumulate``, or one ``reference`` with its gradient.
    """
    tables = [graph.sources[k] for k in graph.learned]
    out: Tensor = LogPartition.apply(kernel, graph, *tables)  # type: ignore[no-untyped-call]
    return out


def with_tables(graph: FactorGraph, unary: Mapping[int, Tensor]) -> FactorGraph:
    """Return the graph with additional tables of single variables.

    Used for soft evidence that requires gradients: ``(K,)`` or ``(B, K)`` log-likelihoods.
    """
    more = [Factor([graph.variables[v]], table) for v, table in unary.items()]
    return graph.with_factors(*more)


def _evidence(kernel: Kernel, graph: FactorGraph, *tables: Tensor) -> list[Tensor]:
    now = _with(graph, tables)
    return [_tensor(kernel.evaluate(now)).to(now.device, now.dtype)]


def _evidence_and_counts(kernel: Kernel, graph: FactorGraph, *tables: Tensor) -> list[Tensor]:
    assert kernel.together is not None
    now = _with(graph, tables)
    log_z, counts = kernel.together(now)
    each = [_tensor(counts[k]).to(x) for k, x in zip(graph.learned, tables, strict=True)]
    return [_tensor(log_z).to(now.device, now.dtype), *each]


def _counts(kernel: Kernel, graph: FactorGraph, weights: Tensor, *tables: Tensor) -> list[Tensor]:
    array = np.ascontiguousarray(weights.detach().to("cpu", torch.float64).numpy())
    sums = kernel.accumulate(_with(graph, tables), array)
    return [_tensor(sums[k]).to(x) for k, x in zip(graph.learned, tables, strict=True)]


def _with(graph: FactorGraph, tables: Sequence[Tensor]) -> FactorGraph:
    """Return the graph with other values of the sources that require gradients."""
    if all(
        graph.sources[k].data_ptr() == x.data_ptr()
        for k, x in zip(graph.learned, tables, strict=True)
    ):
        return graph
    return graph.with_sources(dict(zip(graph.learned, tables, strict=True)))


def _tensor(array: Floats) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _weighted(counts: Tensor, weights: Tensor) -> Tensor:
    """Return counts of each row, or of the single row, times weights ``(B,)``."""
    shape = [-1, *[1] * (counts.dim() - 1)] if counts.dim() else []
    return counts * weights.to(counts).reshape(shape)


def _through_torch(ctx: Any, upstream: Tensor, tables: Sequence[Tensor]) -> Sequence[Tensor]:
    # Views, because one table may be computed from another: the gradient with respect to a view #
    # stops there, and is not propagated into the other table a second time.
    views = [table.view_as(table) for table in tables]
    sources = dict(zip(ctx.graph.learned, views, strict=True))
    again = ctx.kernel.reference(ctx.graph.with_sources(sources))
    return torch.autograd.grad(
        again, views, upstream.to(again), create_graph=True, materialize_grads=True
    )
