"""The log-likelihood of known labels of an undirected chain, as one differentiable operation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.chains.cpu_chain import CpuChain
from pgnn.inference.chains.ragged_steps import RaggedSteps
from pgnn.inference.numba_support import has_numba


class LabelLikelihood:
    r"""The log-likelihood :math:`\log p(z \mid f, A)` of fixed labels as a function of scores.

    .. math:: \sum_t f_t(z_t) + \sum_t A(z_{t-1}, z_t) - \log Z(f, A)

    Its gradient is the observed minus the expected counts; both are computed together, without
    padding to the longest sequence and in few passes over the steps.

    Args:
        lengths: ``(B,)`` number of steps of each sequence.
        labels: ``(N,)`` labels of all steps, sequence after sequence.

    Example:
        >>> likelihood = LabelLikelihood(torch.tensor([2, 1]), torch.tensor([0, 1, 1]))
        >>> likelihood(torch.zeros(3, 2), torch.zeros(2), torch.zeros(2, 2)).exp()
        tensor([0.2500, 0.5000])
    """

    def __init__(self, lengths: Tensor, labels: Tensor) -> None:
        self.ragged, self.labels, self.num_rows = RaggedSteps(lengths), labels, len(lengths)
        self.row = torch.arange(len(lengths)).repeat_interleave(lengths)
        first = torch.ones(len(labels), dtype=torch.bool)
        first[1:] = self.row[1:] != self.row[:-1]
        self.first, self.later = first.nonzero()[:, 0], (~first).nonzero()[:, 0]

    def __call__(self, steps: Tensor, begins: Tensor, moves: Tensor) -> Tensor:
        """Return ``(B,)`` log probabilities.

        Args:
            steps: ``(N, K)`` scores :math:`f`.
            begins: ``(K,)`` scores of the first label.
            moves: ``(K, K)`` scores :math:`A` of transitions, ``-inf`` for forbidden ones.
        """
        if steps.device.type != "cpu" or not has_numba():
            return self.by_torch(steps, begins, moves)
        log_probs: Tensor = _LogLikelihood.apply(self, steps, begins, moves)  # type: ignore[no-untyped-call]
        return log_probs

    def by_torch(self, steps: Tensor, begins: Tensor, moves: Tensor) -> Tensor:
        """Compute the same by torch operations, differentiable any number of times."""
        parts = [
            Chain(begins, moves, field, lengths).log_partition()
            for field, lengths in zip(self.ragged.padded(steps), self.ragged.lengths, strict=True)
        ]
        return _less(self._scores(steps, begins, moves), self.ragged.joined(parts))

    def _scores(self, steps: Tensor, begins: Tensor, moves: Tensor) -> Tensor:
        """Return ``(B,)`` scores of the labels."""
        z, row = self.labels.to(steps.device), self.row.to(steps.device)
        scores = steps.gather(1, z[:, None])[:, 0]
        scores = scores.index_add(0, self.first, begins[z[self.first]].to(scores))
        scores = scores.index_add(0, self.later, moves[z[self.later - 1], z[self.later]].to(scores))
        return scores.new_zeros(self.num_rows).index_add(0, row, scores)


class _Group(NamedTuple):
    """Sequences of about the same length, and the sums that the kernel computed for them."""

    rows: Tensor
    kernel: CpuChain
    sums: Any


class _LogLikelihood(Function):
    """The log-likelihood; marginals are computed with it if a gradient is required."""

    @staticmethod
    def forward(
        ctx: Any, labels: LabelLikelihood, steps: Tensor, begins: Tensor, moves: Tensor
    ) -> Tensor:
        ctx.labels = labels
        ctx.save_for_backward(steps, begins, moves)
        wanted = any(ctx.needs_input_grad)
        ctx.groups, log_z = [], steps.new_zeros(labels.num_rows)
        ragged = labels.ragged
        for rows, lengths, field in zip(
            ragged.groups, ragged.lengths, ragged.padded(steps), strict=True
        ):
            tensors = ChainTensors.read(begins, moves, field, lengths, per_step=False)
            kernel = CpuChain(tensors)
            sums = kernel.smooth(pairs=(1, 1)) if wanted else None
            log_partition = kernel.log_partition() if sums is None else sums.log_z
            log_z[rows] = torch.from_numpy(log_partition).to(log_z)
            if wanted:
                ctx.groups.append(_Group(rows, kernel, sums))
        return _less(labels._scores(steps, begins, moves), log_z)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        labels, (steps, begins, moves) = ctx.labels, ctx.saved_tensors
        if torch.is_grad_enabled():
            # views stop the gradient if one tensor was computed from another
            views = [
                x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
                for x in (steps, begins, moves)
            ]
            again = labels.by_torch(*views)
            return None, *torch.autograd.grad(again, views, upstream[0], create_graph=True)
        return None, *_gradients(labels, ctx.groups, upstream[0], begins, moves)


def _less(scores: Tensor, log_z: Tensor) -> Tensor:
    """Subtract log Z from scores; ``-inf`` in rows for which no labels are possible."""
    return scores - log_z.masked_fill(log_z.isneginf(), 0.0)


def _gradients(
    labels: LabelLikelihood, groups: list[_Group], weights: Tensor, begins: Tensor, moves: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients with respect to the scores of steps, first labels and transitions."""
    z, weight = labels.labels, weights[labels.row]
    possible = torch.ones(labels.num_rows, dtype=torch.bool)
    expected_moves = torch.zeros_like(moves)
    marginals = []
    for group in groups:
        row_weights, is_possible = weights[group.rows], torch.from_numpy(group.sums.log_z > -np.inf)
        possible[group.rows] = is_possible
        marginals.append(torch.from_numpy(group.sums.states))
        expected_moves += _expected_moves(group, row_weights, is_possible).to(expected_moves)
    steps = labels.ragged.unpadded(marginals)
    if not bool(possible.all()):
        lost = ~possible[labels.row]
        steps[lost], weight = 0.0, weight.masked_fill(lost, 0.0)
    steps *= -weight[:, None]
    steps[torch.arange(len(z)), z] += weight
    first = torch.zeros_like(begins)
    first += steps[labels.first].sum(0).to(first)
    later = labels.later
    counted = torch.zeros_like(moves)
    counted.index_put_((z[later - 1], z[later]), weight[later].to(counted), accumulate=True)
    return steps, first, counted - expected_moves


def _expected_moves(group: _Group, weights: Tensor, possible: Tensor) -> Tensor:
    """Return ``(K, K)`` expected numbers of transitions, weighted by sequence."""
    counted = weights[possible]
    if not len(counted):
        return torch.zeros(group.sums.pairs.shape[2:])
    if bool((counted == counted[0]).all()):
        return torch.from_numpy(group.sums.pairs[0, 0]) * counted[0]
    array = weights.masked_fill(~possible, 0.0).double().numpy()
    return torch.from_numpy(group.kernel.smooth(array, (1, 1)).pairs[0, 0])
