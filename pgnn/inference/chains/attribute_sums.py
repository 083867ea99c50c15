"""Scores that are linear in attributes, by compiled kernels where they are on the CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import embedding_bag

from pgnn.inference.numba_support import has_numba
from pgnn.inference.threads import Stop, in_threads, interruptible

_ADDITION = 1.0
"""About how many nanoseconds one addition takes, in rows that are not in the cache."""


class WeightTable(NamedTuple):
    """Weights of some pairs of an attribute and a label.

    Attributes:
        weights: ``(P,)``.
        rows: ``(P,)`` attribute of each.
        columns: ``(P,)`` label of each.
        shape: Numbers of attributes and labels.
    """

    weights: Tensor
    rows: Tensor
    columns: Tensor
    shape: tuple[int, int]

    def dense(self) -> Tensor:
        """Return ``(A, K)`` weights, zero for pairs that have none."""
        table = self.weights.new_zeros(self.shape)
        return table.index_put_((self.rows, self.columns), self.weights)


def attribute_sums(table: WeightTable, numbers: Tensor, values: Tensor | None) -> Tensor:
    """Return ``(N, K)`` sums of the weights of each step's attributes, for each label.

    Args:
        table: The weights.
        numbers: ``(N, A)`` of attributes, -1 where there is none.
        values: ``(N, A)``, ones if ``None``.

    Cost: An addition for each attribute of each step, and label.
    """
    wanted = values is not None and values.requires_grad
    if wanted or table.weights.device.type != "cpu" or not has_numba():
        return torch_sums(table, numbers, values)
    out: Tensor = _Sums.apply(table, numbers, values, table.weights)  # type: ignore[no-untyped-call]
    return out


def torch_sums(table: WeightTable, numbers: Tensor, values: Tensor | None) -> Tensor:
    """The same by torch, differentiable any number of times."""
    dense = table.dense()
    padded = torch.cat([dense, dense.new_zeros(1, table.shape[1])])
    places = torch.where(numbers < 0, len(dense), numbers).long()
    if not places.numel():
        return dense.new_zeros((len(numbers), table.shape[1]))
    each = None if values is None else values.to(dense)
    sums: Tensor = embedding_bag(places, padded, mode="sum", per_sample_weights=each)
    return sums


class _Sums(Function):
    """The sums; their gradient by the weights adds up what is asked of each pair."""

    @staticmethod
    def forward(
        ctx: Any, table: WeightTable, numbers: Tensor, values: Tensor | None, weights: Tensor
    ) -> Tensor:
        from pgnn.inference.chains.kernels.attribute_sums import add_rows

        ctx.table, ctx.numbers, ctx.values = table, numbers, values
        flat, each = _arrays(numbers, values, weights.dtype)
        dense = table.dense().numpy()
        out = np.zeros((len(flat), table.shape[1]), dtype=dense.dtype)

        def work(rows: Any, stop: Stop) -> None:
            part = slice(rows[0], rows[-1] + 1)
            add_rows(flat[part], each[part], dense, out[part], stop)

        in_threads(work, np.arange(len(flat)), _ADDITION * flat.size * table.shape[1])
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        table, numbers, values = ctx.table, ctx.numbers, ctx.values
        if torch.is_grad_enabled():
            return None, None, None, _differentiable(table, numbers, values, upstream[0])
        from pgnn.inference.chains.kernels.attribute_sums import spread_rows

        gradient = np.ascontiguousarray(upstream[0].numpy())
        flat, each = _arrays(numbers, values, upstream[0].dtype)
        out = np.zeros(table.shape, dtype=gradient.dtype)

        def work(stop: Stop) -> None:
            spread_rows(flat, each, gradient, out, stop)

        interruptible([work], cost=_ADDITION * flat.size * table.shape[1])
        pairs = (table.rows.numpy(), table.columns.numpy())
        return None, None, None, torch.from_numpy(out[pairs])


def _differentiable(
    table: WeightTable, numbers: Tensor, values: Tensor | None, upstream: Tensor
) -> Tensor:
    """The gradient as a differentiable operation: it is linear in what comes from above."""
    here = numbers >= 0
    each = here.to(upstream) if values is None else values.to(upstream) * here
    rows = upstream.unsqueeze(1) * each.unsqueeze(-1)
    dense = upstream.new_zeros(table.shape)
    dense = dense.index_add(0, numbers.clamp_min(0).flatten().long(), rows.flatten(0, 1))
    return dense[table.rows, table.columns]


def _arrays(numbers: Tensor, values: Tensor | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """``(N, A)`` numbers and values of the steps; no values for ones."""
    flat = np.ascontiguousarray(numbers.to(torch.int32).numpy())
    if values is None:
        return flat, torch.zeros((0, 0), dtype=dtype).numpy()
    return flat, np.ascontiguousarray(values.detach().to(dtype).numpy())
