"""Scores that are linear in attributes, computed by compiled kernels on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import embedding_bag

from pgnn.inference.numba_support import has_numba
from pgnn.inference.threads import Stop, in_threads, interruptible

_ADDITION = 1.0
"""Approximate nanoseconds of one addition to a row that is not in the cache."""

_FEW = 4
"""Largest ratio of table rows to attributes of all steps for which a dense table is faster."""


class AttributeSums:
    r"""Sums :math:`\sum_a v_a w_{a k}` over the attributes of each step, for varying weights.

    Only some pairs of an attribute and a label have a weight. Weights are written to a dense table
    whose rows are added, which takes a third of the time of a sum over pairs.

    Args:
        numbers: ``(N, A)`` attribute indices, padded with -1.
        values: ``(N, A)`` attribute values; ones if ``None``.
        pairs: ``(2, P)`` attribute and label of each weight, or a pair of ``(P,)``.
        shape: Number of attributes and number of labels.
        present: ``(B, T)`` False for padding, if ``numbers`` and ``values`` are ``(B, T, A)``;
            steps are selected on demand, which saves memory.

    Cost: One addition for each label and each attribute of each step.

    Example:
        >>> numbers, pairs = torch.tensor([[0, 1], [1, -1]]), torch.tensor([[0, 1], [0, 1]])
        >>> AttributeSums(numbers, None, pairs, (2, 2))(torch.tensor([0.5, 2.0]))
        tensor([[0.5000, 2.0000],
                [0.0000, 2.0000]])
    """

    def __init__(
        self,
        numbers: Tensor,
        values: Tensor | None,
        pairs: Tensor | tuple[Tensor, Tensor],
        shape: tuple[int, int],
        present: Tensor | None = None,
    ) -> None:
        self._numbers, self._values, self.pairs, self.shape = numbers, values, pairs, shape
        self._present = present
        self._tables: dict[Any, Any] = {}
        self._arrays: dict[Any, tuple[Any, Any]] = {}

    @property
    def numbers(self) -> Tensor:
        """``(N, A)`` attribute indices."""
        return self._numbers if self._present is None else self._numbers[self._present]

    @property
    def values(self) -> Tensor | None:
        """``(N, A)`` attribute values; None for ones."""
        if self._values is None or self._present is None:
            return self._values
        return self._values[self._present]

    @property
    def is_dense(self) -> bool:
        """Whether there are so many steps that a table of all weights is faster."""
        steps = len(self._numbers) if self._present is None else int(self._present.sum())
        return _FEW * steps * self._numbers.shape[-1] >= self.shape[0]

    @property
    def differentiates_values(self) -> bool:
        """Whether the values require a gradient."""
        return self._values is not None and self._values.requires_grad

    def __call__(self, weights: Tensor) -> Tensor:
        """Return ``(N, K)`` sums for ``(P,)`` weights."""
        if self.differentiates_values or weights.device.type != "cpu" or not has_numba():
            return self.by_torch(weights)
        out: Tensor = _Sums.apply(self, weights)  # type: ignore[no-untyped-call]
        return out

    def by_torch(self, weights: Tensor) -> Tensor:
        """Return the same, computed by torch and differentiable any number of times."""
        table = weights.new_zeros((self.shape[0] + 1, self.shape[1]))
        table = table.index_put((self.pairs[0], self.pairs[1]), weights)
        numbers, values = self.numbers, self.values
        places = torch.where(numbers < 0, self.shape[0], numbers).long()
        if not places.numel():
            return table.new_zeros((len(places), self.shape[1]))
        each = None if values is None else values.to(table)
        sums: Tensor = embedding_bag(places, table, mode="sum", per_sample_weights=each)
        return sums

    def gradient_by_torch(self, upstream: Tensor) -> Tensor:
        """Return ``(P,)`` gradients of the weights from ``(N, K)`` upstream gradients."""
        numbers, values = self.numbers, self.values
        valid = numbers >= 0
        each = valid.to(upstream) if values is None else values.to(upstream) * valid
        rows = (upstream.unsqueeze(1) * each.unsqueeze(-1)).flatten(0, 1)
        places = numbers.clamp_min(0).flatten().long()
        table = upstream.new_zeros(self.shape).index_add(0, places, rows)
        return table[self.pairs[0], self.pairs[1]]

    def table(self, dtype: torch.dtype, what: str) -> Any:
        """Return a table ``(A, K)`` of ``"weights"`` or ``"gradient"``; zero for other pairs.

        It is cached, since allocating memory of that size takes as long as the sums.
        """
        if (dtype, what) not in self._tables:
            number = torch.zeros(0, dtype=dtype).numpy().dtype
            self._tables[dtype, what] = np.zeros(self.shape, dtype=number)
        return self._tables[dtype, what]

    def arrays(self, dtype: torch.dtype) -> tuple[Any, Any]:
        """Return indices and values in the format of the kernels; values are empty for ones."""
        numbers, values = np.ascontiguousarray(self.numbers.to(torch.int32).numpy()), self.values
        if values is None:
            return numbers, torch.zeros((0, 0), dtype=dtype).numpy()
        return numbers, np.ascontiguousarray(values.detach().to(dtype).numpy())

    def kept_arrays(self, dtype: torch.dtype) -> tuple[Any, Any]:
        """Return the same, cached."""
        if dtype not in self._arrays:
            self._arrays[dtype] = self.arrays(dtype)
        return self._arrays[dtype]


class _Sums(Function):
    """The sums; the gradient with respect to a weight is the sum over all uses of its pair."""

    @staticmethod
    def forward(ctx: Any, sums: AttributeSums, weights: Tensor) -> Tensor:
        from pgnn.inference.chains.kernels.attribute_sums import add_rows

        ctx.sums, ctx.dtype = sums, weights.dtype
        numbers, values = sums.kept_arrays(weights.dtype)
        table = sums.table(weights.dtype, "weights")
        table[sums.pairs[0].numpy(), sums.pairs[1].numpy()] = weights.detach().numpy()
        out = np.zeros((len(numbers), sums.shape[1]), dtype=table.dtype)

        def work(rows: Any, stop: Stop) -> None:
            part = slice(rows[0], rows[-1] + 1)
            add_rows(numbers[part], values[part], table, out[part], stop)

        in_threads(work, np.arange(len(numbers)), _ADDITION * numbers.size * table.shape[1])
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor]:
        sums: AttributeSums = ctx.sums
        if torch.is_grad_enabled():
            return None, sums.gradient_by_torch(upstream[0])
        from pgnn.inference.chains.kernels.attribute_sums import spread_rows

        numbers, values = sums.kept_arrays(ctx.dtype)
        gradient = np.ascontiguousarray(upstream[0].to(ctx.dtype).numpy())
        out = sums.table(ctx.dtype, "gradient")
        out[...] = 0.0

        def work(stop: Stop) -> None:
            spread_rows(numbers, values, gradient, out, stop)

        interruptible([work], cost=_ADDITION * numbers.size * out.shape[1])
        return None, torch.from_numpy(out[sums.pairs[0].numpy(), sums.pairs[1].numpy()])
