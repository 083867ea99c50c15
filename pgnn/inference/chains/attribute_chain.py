"""Chains of labels with scores linear in attributes, learned one sequence at a time."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from pgnn.inference.chains.attribute_sums import AttributeSums
from pgnn.inference.chains.label_likelihood import LabelLikelihood
from pgnn.inference.numba_support import has_numba
from pgnn.inference.threads import Stop, interruptible

Ints = NDArray[np.int64]
_COLUMNS = 8
_LOWEST = -1e300  # maximum of an empty set of transitions
_ADDITION = 1.0
"""Approximate nanoseconds of one addition to a row that is not in the cache."""


class AttributeChain:
    r"""The function :math:`\log p(z \mid w, \pi, \rho, A)` of the weights, for fixed labels.

    .. math:: \log p = \pi(z_1) + \sum_t \sum_{a \in x_t} v_a w_{a z_t} + \sum_t A(z_{t-1}, z_t)
        + \rho(z_T) - \log Z

    A compiled kernel scores, sums and differentiates one sequence at a time in the L1 cache.
    Attributes with a weight for a single label, which are the majority, are stored separately from
    the table of the others.

    Args:
        sums: Attributes of the steps, and the pairs of an attribute and a label with a weight.
        likelihood: Lengths and labels.

    Cost: Two additions for each label and each attribute of each step; :math:`3 K^2` per step.

    Example:
        >>> numbers, pairs = torch.tensor([[0], [1], [0]]), torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> likelihood = LabelLikelihood(torch.tensor([2, 1]), torch.tensor([0, 1, 1]))
        >>> chain = AttributeChain(AttributeSums(numbers, None, pairs, (2, 2)), likelihood)
        >>> none = torch.zeros(2).double()
        >>> chain(torch.zeros(3).double(), none, none, torch.zeros(2, 2).double()).exp()
        tensor([0.2500, 0.5000], dtype=torch.float64)
    """

    def __init__(self, sums: AttributeSums, likelihood: LabelLikelihood) -> None:
        self.sums, self.likelihood = sums, likelihood

    def __call__(self, weights: Tensor, first: Tensor, last: Tensor, moves: Tensor) -> Tensor:
        """Return ``(B,)`` log probabilities.

        Args:
            weights: ``(P,)`` weights of the pairs.
            first: ``(K,)`` scores of the first label.
            last: ``(K,)`` scores of the last label.
            moves: ``(K, K)`` scores of transitions, ``-inf`` if forbidden.
        """
        if self.sums.differentiates_values or weights.device.type != "cpu" or not has_numba():
            return self.by_parts(weights, first, last, moves)
        log_probs: Tensor = _LogLikelihood.apply(self, weights, first, last, moves)  # type: ignore[no-untyped-call]
        return log_probs

    def by_parts(self, weights: Tensor, first: Tensor, last: Tensor, moves: Tensor) -> Tensor:
        """Return the same by separate sums over attributes and likelihood of the chain."""
        steps = self.sums(weights)
        steps = steps.index_add(0, self._ends, last.to(steps).expand(len(self._ends), -1))
        return self.likelihood(steps, first, moves)

    @cached_property
    def _ends(self) -> Tensor:
        """The last step of each non-empty sequence."""
        row = self.likelihood.row
        last = torch.ones(len(row), dtype=torch.bool)
        last[:-1] = row[1:] != row[:-1]
        return last.nonzero()[:, 0]

    @cached_property
    def kernel(self) -> CompiledAttributeChain:
        """The compiled chain, created on first use."""
        return CompiledAttributeChain(self.sums, self.likelihood)


class _LogLikelihood(Function):
    """The log-likelihood; its gradient is computed together with the value if required."""

    @staticmethod
    def forward(ctx: Any, chain: AttributeChain, *parts: Tensor) -> Tensor:
        ctx.chain = chain
        ctx.save_for_backward(*parts)
        ones = torch.ones(chain.likelihood.num_rows) if any(ctx.needs_input_grad) else None
        log_probs, ctx.gradients = chain.kernel.log_probs(ones, *parts)
        if not bool(log_probs.isnan().any()):
            return log_probs.to(parts[0].dtype)
        ctx.gradients = None  # underflow may matter
        with torch.no_grad():
            return chain.by_parts(*parts)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        weights, parts = upstream[0], ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.gradients is None:
            with torch.enable_grad():
                # views stop the gradient if one tensor was computed from another
                views = [
                    p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for p in parts
                ]
                value = ctx.chain.by_parts(*views)
            gradients = torch.autograd.grad(
                value, views, weights, create_graph=torch.is_grad_enabled()
            )
            return None, *gradients
        if bool((weights == weights[:1]).all()):
            scaled = [g * float(weights[:1].sum()) for g in ctx.gradients]
        else:
            scaled = ctx.chain.kernel.log_probs(weights, *parts)[1]
        return None, *(g.to(p.dtype) for g, p in zip(scaled, parts, strict=True))


class CompiledAttributeChain:
    """Attributes and labels in the format of the kernels, with buffers of weights and gradients.

    Args:
        sums: Attributes of the steps.
        likelihood: Lengths and labels.
    """

    def __init__(self, sums: AttributeSums, likelihood: LabelLikelihood) -> None:
        from pgnn.inference.chains.kernels.attribute_messages import AttributeSteps, arrange

        names, labels = (x.numpy() for x in sums.pairs)
        self.num_labels = sums.shape[1]
        self.width = -(-self.num_labels // _COLUMNS) * _COLUMNS
        several = np.bincount(names, minlength=sums.shape[0]) > 1
        place = np.where(several, several.cumsum() - 1, -(~several).cumsum()).astype(np.int32)
        in_table = several[names]
        self._tabled, self._single = np.flatnonzero(in_table), np.flatnonzero(~in_table)
        self._cells = place[names[in_table]].astype(np.int64) * self.width + labels[in_table]
        self._lone = -1 - place[names[~in_table]].astype(np.int64)
        self._lone_labels = np.zeros(int((~several).sum()), dtype=np.int64)
        self._lone_labels[self._lone] = labels[~in_table]
        self.lengths = np.bincount(likelihood.row.numpy(), minlength=likelihood.num_rows)
        numbers, values = sums.arrays(torch.float64)
        starts = np.concatenate([[0], (numbers >= 0).sum(1).cumsum()])
        self.steps = AttributeSteps(
            np.concatenate([[0], self.lengths.cumsum()]),
            starts,
            np.empty(len(numbers), dtype=np.int64),
            np.empty(starts[-1], dtype=np.int32),
            np.empty(starts[-1] if values.size else 0),
            likelihood.labels.numpy(),
        )
        arrange(numbers, values, place, self.steps)
        self.cost = _ADDITION * float(starts[-1]) * self.width
        self.weights, self.gradient = (self._zeros(int(several.sum())) for _ in range(2))

    def _zeros(self, rows: int) -> Any:
        from pgnn.inference.chains.kernels.attribute_messages import AttributeWeights

        k, width = self.num_labels, self.width
        lone = np.zeros(len(self._lone_labels))
        ends = np.zeros(width), np.zeros(width)
        return AttributeWeights(
            _in_lines(rows, width), lone, self._lone_labels, *ends, np.zeros((k, width))
        )

    def set(self, weights: Tensor, first: Tensor, last: Tensor, moves: Tensor) -> None:
        """Copy scores to :attr:`weights`."""
        flat, k, target = weights.detach().double().numpy(), self.num_labels, self.weights
        target.table.reshape(-1)[self._cells] = flat[self._tabled]
        target.lone[self._lone] = flat[self._single]
        for array, scores in ((target.first, first), (target.last, last), (target.moves, moves)):
            array[..., :k] = scores.detach().double().numpy()

    def parts(self, arrays: Any) -> list[Tensor]:
        """Return arrays such as :attr:`gradient` in the order of the arguments of :meth:`set`."""
        flat, k = np.empty(len(self._tabled) + len(self._single)), self.num_labels
        flat[self._tabled] = arrays.table.reshape(-1)[self._cells]
        flat[self._single] = arrays.lone[self._lone]
        ends = (a[..., :k].copy() for a in (arrays.first, arrays.last, arrays.moves))
        return [torch.from_numpy(x) for x in (flat, *ends)]

    def log_probs(self, row_weights: Tensor | None, *parts: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return ``(B,)`` log probabilities and the gradient of their weighted sum.

        Log probabilities are NaN in rows that may be affected by underflow.

        Args:
            row_weights: ``(B,)`` weights of the rows; None for no gradient.
            parts: See :meth:`set`.
        """
        from pgnn.inference.chains.kernels.attribute_messages import sum_sequences

        self.set(*parts)
        for array in self.gradient:
            if array is not self._lone_labels:
                array[...] = 0.0
        top = max(float(parts[-1].detach().max()), _LOWEST)
        potentials = np.zeros_like(self.weights.moves)
        with np.errstate(under="ignore"):
            potentials[:, : self.num_labels] = np.exp(
                self.weights.moves[:, : self.num_labels] - top
            )
        turned = np.zeros_like(potentials)
        turned[:, : self.num_labels] = potentials[:, : self.num_labels].T
        rows, longest = len(self.lengths), int(self.lengths.max(initial=0))
        counts = np.zeros(0) if row_weights is None else row_weights.detach().double().numpy()
        log_probs, pairs = np.zeros(rows), np.zeros_like(potentials)
        room: list[Any] = [np.zeros((longest, self.width)) for _ in range(3)]
        room += [np.zeros(self.width), np.zeros(self.width), np.zeros(longest)]

        def work(stop: Stop) -> None:
            sum_sequences(
                self.steps, self.weights, potentials, turned, top, np.arange(rows), counts,
                log_probs, self.gradient, pairs, *room, stop,
            )  # fmt: skip

        interruptible([work], cost=self.cost)
        if row_weights is None:
            return torch.from_numpy(log_probs), []
        self.gradient.moves[...] += potentials * pairs
        return torch.from_numpy(log_probs), self.parts(self.gradient)

    def corrections(self, learned: Tensor, ends: bool, *parts: Tensor) -> Any:
        """Return weights that are corrected after each sequence, with the buffers this needs.

        Args:
            learned: ``(K, K)`` whether a transition is learnable.
            ends: Whether scores of first and last labels are learnable.
            parts: See :meth:`set`.
        """
        from pgnn.inference.chains.kernels.attribute_corrections import Corrections

        self.set(*parts)
        rows = len(self.weights.table)
        exists = np.zeros((rows, self.width), dtype=np.bool_)
        exists.reshape(-1)[self._cells] = True
        return Corrections(
            self.weights, self._zeros(rows), self._zeros(rows), exists, learned.numpy(), ends,
            np.zeros(1),
        )  # fmt: skip

    def correct(
        self, corrections: Any, rows: Ints, row_weights: Any, cost: float, most: float
    ) -> tuple[Any, Any]:
        """Pass over sequences; return the total margin of wrong labels and the number of mistakes.

        Args:
            corrections: Result of :meth:`corrections`, updated in place.
            rows: Indices of the sequences, in the order of the pass.
            row_weights: ``(B,)`` weights of the sequences.
            cost: Additional score of a wrong label.
            most: Largest size of a correction; negative for corrections of size one.
        """
        from pgnn.inference.chains.kernels.attribute_corrections import correct

        longest, width = int(self.lengths.max(initial=0)), self.width
        losses, wrong = np.zeros(len(self.lengths)), np.zeros(len(self.lengths), dtype=np.int64)
        scores, sums = np.zeros((longest, width)), np.zeros((2, width))
        origins, best = np.zeros((longest, width), np.int64), np.zeros(longest, np.int64)

        def work(stop: Stop) -> None:
            correct(self.steps, corrections, rows, row_weights, cost, most, losses, wrong, scores,
                    sums, origins, best, stop)  # fmt: skip

        interruptible([work], cost=self.cost)
        return losses, wrong


def _in_lines(rows: int, columns: int) -> NDArray[np.float64]:
    """Return zeros whose rows are aligned with cache lines."""
    room = np.zeros(rows * columns + _COLUMNS)
    first = -(room.ctypes.data // room.itemsize) % _COLUMNS
    return room[first : first + rows * columns].reshape(rows, columns)
