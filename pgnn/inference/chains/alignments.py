"""Sums over the alignments of label sequences with steps."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from pgnn.errors import ModelError
from pgnn.inference.chains.chain import Chain
from pgnn.inference.numba_support import has_numba
from pgnn.inference.threads import Ints, Stop, in_threads
from pgnn.limits import check_size

_SAFE = 1e-250
"""Smallest sum of forward times backward messages at which underflow cannot affect the result."""


class Alignments:
    r"""Paths over symbols that collapse to given labels once repetitions and blanks are removed.

    .. math:: \log \sum_{\pi \in \mathcal{B}^{-1}(z)} \exp \sum_{t=1}^T f_t(\pi_t)

    The paths of a row with ``u`` labels form a chain of ``2 u + 1`` states: the labels, with a
    blank before, between and after them. A compiled kernel computes sums and their gradients in
    :math:`O(T u)`; :class:`Chain` computes everything else in :math:`O(T u^2)`.

    Args:
        log_probs: ``(B, T, K)`` log probabilities :math:`f` of the symbols, the blank first.
        steps: ``(B,)`` number of steps of each row.
        labels: ``(B, U)`` symbols, at least 1; entries beyond the end are ignored.
        sizes: ``(B,)`` number of labels of each row.

    Raises:
        ModelError: If a log probability is NaN or ``+inf``; the message names row and step.

    References:
        Graves, Fernandez, Gomez and Schmidhuber (2006), Connectionist temporal classification,
        section 4.1.

    Example:
        >>> half = torch.full((1, 2, 2), 0.5).log()
        >>> one, two = torch.tensor([1]), torch.tensor([2])
        >>> Alignments(half, two, torch.tensor([[1]]), one).log_partition().exp()
        tensor([0.7500])
    """

    def __init__(self, log_probs: Tensor, steps: Tensor, labels: Tensor, sizes: Tensor) -> None:
        self.log_probs, self.steps, self.sizes = log_probs, steps, sizes
        within = torch.arange(labels.shape[1]) < sizes[:, None]
        self.labels = labels.masked_fill(~within, 0)
        self._check()

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` logs of the sums; ``-inf`` with gradient zero in rows without a path.

        Differentiable any number of times; second and higher derivatives are computed by torch.
        """
        if not self._compiled:
            return self._possible(self.chain.log_partition())
        total: Tensor = _Total.apply(self, self.log_probs)  # type: ignore[no-untyped-call]
        return total

    def posterior(self) -> Tensor:
        """Return ``(B, T, K)`` probabilities of symbols; zero beyond the end, NaN if impossible."""
        if not self._compiled or (self.log_probs.requires_grad and torch.is_grad_enabled()):
            shares = self._by_symbol(self.chain.marginals())
            lost = self._possible(self.chain.log_partition()).isneginf()
        else:
            log_z, occupancy = self.sums(True)
            shares = torch.from_numpy(occupancy).to(self.log_probs.dtype)
            lost = torch.from_numpy(np.isneginf(log_z))
        return shares.masked_fill(lost[:, None, None], torch.nan)

    def best(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, T)`` symbols of the best paths, -1 beyond the end, and ``(B,)`` scores."""
        states, scores = self.chain.best()
        return self._symbols_of(states), self._possible(scores)

    def sample(self, n: int, seed: int | None) -> Tensor:
        """Return ``(n, B, T)`` symbols of drawn paths; -1 beyond the end and without a path."""
        return self._symbols_of(self.chain.sample(n, seed))

    @cached_property
    def symbols(self) -> Tensor:
        """``(B, S)`` symbols of the states: blanks with the labels between them."""
        rows, most = self.labels.shape
        symbols = torch.zeros(rows, 2 * most + 1, dtype=torch.int64)
        symbols[:, 1::2] = self.labels
        return symbols

    @cached_property
    def chain(self) -> Chain:
        """The chain of states, with a transition table for each row.

        Raises:
            Intractable: If there are too many labels.
        """
        symbols, like = self.symbols, self.log_probs
        (rows, states), steps = symbols.shape, like.shape[1]
        what = f"transitions between {states:,} states of {rows:,} rows"
        check_size(what, rows * states**2, advice="Give fewer rows at a time")
        place = torch.arange(states)
        ahead = place - place[:, None]
        skips = torch.zeros_like(symbols, dtype=torch.bool)
        skips[:, 2:] = (symbols[:, 2:] != 0) & (symbols[:, 2:] != symbols[:, :-2])
        present = ((ahead == 0) | (ahead == 1)) | ((ahead == 2) & skips[:, None])
        last = torch.arange(steps) == self.steps[:, None] - 1
        ends = (place == 2 * self.sizes[:, None]) | (place == 2 * self.sizes[:, None] - 1)
        lost = (last[..., None] & ~ends[:, None]).to(like.device)
        field = like.gather(2, symbols.to(like.device)[:, None].expand(rows, steps, states))
        moves = like.new_zeros(present.shape).masked_fill(~present.to(like.device), -torch.inf)
        begins = torch.where(place < 2, 0.0, -torch.inf).to(like)
        return Chain(begins, moves, field.masked_fill(lost, -torch.inf), self.steps)

    def sums(self, occupancy: bool) -> tuple[Any, Any]:
        """Return ``(B,)`` log sums and ``(B, T, K)`` probabilities of symbols.

        The probabilities are an empty array if ``occupancy`` is false.
        """
        from pgnn.inference.chains.kernels.alignment_messages import align_rows

        logs = self.log_probs.detach().double().contiguous().numpy()
        labels, steps, sizes = self.labels.numpy(), self.steps.numpy(), self.sizes.numpy()
        (rows, most, _), widest = logs.shape, labels.shape[1]
        log_z, trust = np.where(sizes > 0, -np.inf, 0.0), np.ones(rows)  # of rows without steps
        shares = np.zeros(logs.shape if occupancy else (0, 0, 0))

        def work(some: Ints, stop: Stop) -> None:
            size = 2 * widest + 1
            room = [np.empty(n) for n in (most * size, most * (widest + 1), widest, 2 * size)]
            align_rows(logs, labels, steps, sizes, some, log_z, trust, shares, *room, stop)

        some = np.flatnonzero(steps)
        in_threads(work, some, 8.0 * len(some) * most * (2 * widest + 1))
        doubtful = np.flatnonzero(trust < _SAFE)
        if len(doubtful):
            part = self.at(torch.from_numpy(doubtful))
            log_z[doubtful] = part.chain.log_partition().numpy()
            if occupancy:
                shares[doubtful] = part._by_symbol(part.chain.marginals()).nan_to_num(0.0).numpy()
        return log_z, shares

    def at(self, rows: Tensor) -> Alignments:
        """Return the given rows in double precision, without gradients."""
        logs = self.log_probs.detach()[rows].double()
        return Alignments(logs, self.steps[rows], self.labels[rows], self.sizes[rows])

    @property
    def _compiled(self) -> bool:
        return self.log_probs.device.type == "cpu" and has_numba()

    def _possible(self, scores: Tensor) -> Tensor:
        """Set scores of rows with labels but no steps to ``-inf``; chains count them as empty."""
        lost = (self.steps == 0) & (self.sizes > 0)
        return scores.masked_fill(lost.to(scores.device), -torch.inf)

    def _by_symbol(self, states: Tensor) -> Tensor:
        """Sum over the states of each symbol; returns ``(B, T, K)``."""
        symbols = self.symbols.to(states.device)[:, None].expand_as(states)
        return states.new_zeros(self.log_probs.shape).scatter_add(2, symbols, states)

    def _symbols_of(self, states: Tensor) -> Tensor:
        symbols = self.symbols.to(states.device).expand(*states.shape[:-1], -1)
        return symbols.gather(-1, states.clamp_min(0)).masked_fill(states < 0, -1)

    def _check(self) -> None:
        logs = self.log_probs.detach()
        if not logs.numel() or bool(logs.amax() < torch.inf):  # NaN compares as false
            return
        inside = torch.arange(logs.shape[1]) < self.steps[:, None]
        bad = ~(logs.amax(2) < torch.inf).cpu() & inside
        if bool(bad.any()):
            row, step = bad.nonzero()[0].tolist()
            value = logs[row, step].max().item()
            raise ModelError(
                f"log_probs must be below +inf and not NaN, got {value!r} in row {row}, step "
                f"{step}",
                "check the network that computes them",
            )


class _Total(Function):
    """The log of a sum over alignments; its gradient is the posterior of the symbols."""

    @staticmethod
    def forward(ctx: Any, alignments: Alignments, log_probs: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[1]
        log_z, shares = alignments.sums(wanted)
        ctx.alignments, ctx.shares = alignments, shares
        ctx.save_for_backward(log_probs)
        return torch.from_numpy(log_z).to(log_probs.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        (log_probs,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            alignments = ctx.alignments
            view = log_probs.view_as(log_probs)
            again = Alignments(
                view, alignments.steps, alignments.labels, alignments.sizes
            ).chain.log_partition()
            return None, *torch.autograd.grad(again, view, upstream[0], create_graph=True)
        return None, torch.from_numpy(ctx.shares).to(log_probs.dtype) * upstream[0][:, None, None]
