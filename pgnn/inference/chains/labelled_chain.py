"""Higher-order chains of labels, whose states contain previous labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.inference.chains.chain_tensors import (
    below_infinity,
    check_field,
    check_table,
    extent,
    whole_lengths,
    wrong_step,
)
from pgnn.inference.chains.edge_chain import EdgeChain, EdgeRows
from pgnn.inference.chains.edge_log_partition import (
    edge_chain,
    edge_log_partition,
    wide_log_partition,
)
from pgnn.inference.chains.edge_probabilities import Ask, edge_probabilities
from pgnn.inference.chains.label_states import LabelStates
from pgnn.inference.chains.wide_chain import WideChain
from pgnn.inference.numba_support import has_numba


class LabelledChain:
    r"""Rows of labels that depend on several previous labels, or on the state of an automaton.

    It is a chain of :class:`LabelStates`; results refer to labels and have the format of
    :class:`Chain`. On the CPU, compiled kernels iterate over the allowed transitions. Other
    devices, and derivatives of probabilities, use a :class:`WideChain`.

    Args:
        states: The states of the chain.
        begins: ``(K,)`` scores of the first label.
        moves: ``(E,)`` scores of transitions, see :meth:`LabelStates.moves`.
        log_field: ``(B, T, K)`` scores of the labels at each step.
        lengths: ``(B,)`` lengths of the rows, or a ``(B, T)`` mask, see :class:`Chain`.

    Raises:
        ModelError: If shapes disagree, a length is not between 0 and T, or a score is NaN or
            ``+inf``; the message names row and step.

    Cost: :math:`O(B T E)` time; :math:`E = K^{n+1}` for order :math:`n` without a mask.

    Example:
        >>> states = LabelStates(np.ones((2, 2), dtype=bool), order=2)
        >>> moves = states.moves([torch.zeros(2, 2), torch.tensor([[[0.0, 9], [0, 0]]] * 2)])
        >>> chain = LabelledChain(states, torch.tensor([9.0, 0]), moves, torch.zeros(1, 3, 2))
        >>> chain.best()[0]
        tensor([[0, 0, 1]])
    """

    def __init__(
        self,
        states: LabelStates,
        begins: Tensor,
        moves: Tensor,
        log_field: Tensor,
        lengths: Tensor | None = None,
    ) -> None:
        if log_field.dim() != 3:
            raise ModelError(f"log_field must be (B, T, K), got {tuple(log_field.shape)}")
        _check_scores(states, begins, moves, log_field)
        self.states, self.begins, self.moves = states, begins, moves
        self.lengths, self.field = extent(lengths, log_field)
        inside = torch.arange(log_field.shape[1]) < self.lengths[:, None]
        check_field(self.field, inside.to(log_field.device))

    def log_partition(self) -> Tensor:
        """See :class:`Chain`."""
        if not self._compiled:
            return self._wide.log_partition()
        flat = self.field.flatten(0, 1)
        return edge_log_partition(self.states.edges, self._rows, self.begins, self.moves, flat)

    def marginals(self) -> Tensor:
        """See :class:`Chain`."""
        return self.smoothed()[0]

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        return self._probabilities("smoothed") if self._compiled else self._wide.smoothed()

    def filtered(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`; states in which a row may not end are excluded at its last step."""
        return self._probabilities("filtered") if self._compiled else self._wide.filtered()

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        if k < 1:
            raise ModelError(f"k must be at least 1, got {k}")
        if not self._compiled:
            return self._wide.best(k)
        labels, scores = self._edges.best() if k == 1 else self._edges.best_k(k)
        shape = self.field.shape[:2]
        paths = torch.from_numpy(labels.reshape(*labels.shape[:-1], *shape))
        return paths if k == 1 else paths.transpose(0, 1), self._tensor(scores)

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """See :class:`Chain`."""
        if not self._compiled:
            return self._wide.sample(n, seed)
        number = int(np.random.default_rng(seed).integers(2**63))
        labels, doubtful = self._edges.sample(n, number)
        draws = torch.from_numpy(labels.reshape(n, *self.field.shape[:2]))
        if len(doubtful):
            rows = torch.from_numpy(doubtful)
            draws[:, rows] = self._wide_chain(rows).sample(n, number)
        return draws

    def entropy(self) -> Tensor:
        """See :class:`Chain`; labels determine the states."""
        return self._wide.entropy()

    def log_score(self, labels: Tensor) -> Tensor:
        """Return ``(B,)`` log weights of given labels, see :class:`Chain`.

        Args:
            labels: ``(B, T)`` labels; entries beyond the end are ignored.
        """
        if not labels.shape[1]:
            return self.field.sum((1, 2))
        inside = torch.arange(labels.shape[1]) < self.lengths[:, None]
        codes = labels.cpu().masked_fill(~inside, -1)
        paths = self.states.paths(codes)
        ends = paths.gather(1, (self.lengths[:, None] - 1).clamp_min(0))[:, 0]
        lost = (inside & (paths < 0)).any(1)
        lost |= (self.lengths > 0) & ~torch.from_numpy(self.states.may_end)[ends.clamp_min(0)]
        possible = inside & ~lost[:, None]
        known = _Paths(self.states, codes.masked_fill(~possible, -1))
        scores = known.scores(self.begins, self.moves)
        z = self._here(codes.clamp_min(0))
        field = self.field.gather(2, z[..., None])[..., 0].masked_fill(~self._here(possible), 0.0)
        return (scores + field.sum(1)).masked_fill(self._here(lost), -math.inf)

    def log_conditionals(self, labels: Tensor) -> Tensor:
        r"""Return ``(B, T)`` logs of :math:`p(z_t \mid z_{-t})`, see :class:`Chain`.

        The backward pass computes, for each state, the score of the following labels.

        Args:
            labels: ``(B, T)`` labels; entries beyond the end are ignored.
        """
        z, lengths = labels.clamp_min(0).to(self.field.device), self._here(self.lengths)
        paths, after = self._here(self.states.paths(labels.cpu())), self._here(self.states.after)
        number = self._here(self.states.number)
        moves = self.moves[number.clamp_min(0)].masked_fill(number < 0, -math.inf)
        ahead = self.field.new_zeros((len(z), len(self.states)))
        ended = ahead.masked_fill(~self._here(self.states.may_end), -math.inf)
        logs = []
        for t in reversed(range(z.shape[1])):
            inside = lengths > t
            here = torch.where((lengths == t + 1)[:, None], ended, ahead)
            if t:
                before = paths[:, t - 1].clamp_min(0)
                choices = moves[before] + here.gather(1, after[before].clamp_min(0))
                choices = choices + self.field[:, t]
                target = after[:, z[:, t]].T.clamp_min(0)  # (B, S)
                ahead = moves[:, z[:, t]].T + here.gather(1, target)
                ahead = ahead + self.field[:, t].gather(1, z[:, t, None])
            else:
                first = self._here(self.states.first).expand(len(z), -1)
                choices = here.gather(1, first.clamp_min(0)).masked_fill(first < 0, -math.inf)
                choices = choices + self.begins + self.field[:, 0]
            score = choices.gather(1, z[:, t, None])[:, 0]
            lost = score.isneginf() | ~inside
            total = choices.masked_fill(lost[:, None], 0.0).logsumexp(1)
            log = score.masked_fill(lost, 0.0) - total.masked_fill(lost, 0.0)
            logs.append(log.masked_fill(score.isneginf() & inside, -math.inf))
        return torch.stack(logs[::-1], dim=1) if logs else self.field[..., 0]

    # --- implementations ----------------------------------------------------------------------

    @property
    def _compiled(self) -> bool:
        return self.field.device.type == "cpu" and has_numba()

    @cached_property
    def _rows(self) -> EdgeRows:
        rows, steps = self.field.shape[:2]
        return EdgeRows(np.arange(rows) * steps, self.lengths.numpy())

    @cached_property
    def _edges(self) -> EdgeChain:
        flat = self.field.flatten(0, 1)
        return edge_chain(self.states.edges, self._rows, self.begins, self.moves, flat)

    @property
    def _wide(self) -> WideChain:
        return self._wide_chain(slice(None))

    def _wide_chain(self, rows: Any) -> WideChain:
        """Return the dense chain of some rows."""
        lengths = self.lengths[rows]
        return WideChain(self.states.edges, self.begins, self.moves, self.field[rows], lengths)

    def _probabilities(self, ask: Ask) -> tuple[Tensor, Tensor]:
        parts = (self.begins, self.moves, self.field)
        return edge_probabilities(ask, self._edges, self.lengths, *parts)

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.field.dtype)

    def _here(self, array: Any) -> Tensor:
        """Return an array as a tensor on the device of the scores."""
        return torch.as_tensor(array).to(self.field.device)


class LabelledLikelihood:
    r"""The function :math:`\log p(z \mid f, A)` of the scores, for fixed labels.

    See :class:`LabelLikelihood`.

    Args:
        states: Of the chain.
        lengths: ``(B,)`` lengths of the rows.
        codes: ``(B, T)`` labels, all of them allowed.

    Raises:
        ModelError: If a length is not between 0 and T.
    """

    def __init__(self, states: LabelStates, lengths: Tensor, codes: Tensor) -> None:
        self.states = states
        lengths = whole_lengths(lengths, *codes.shape)
        ends = lengths.numpy()
        self.rows = EdgeRows(ends.cumsum() - ends, ends)
        inside = torch.arange(codes.shape[1]) < lengths[:, None]
        self.paths = _Paths(states, codes.masked_fill(~inside, -1))
        self.labels, self.row = codes[inside], inside.nonzero()[:, 0]

    def __call__(self, steps: Tensor, begins: Tensor, tables: Sequence[Tensor]) -> Tensor:
        """Return ``(B,)`` log probabilities.

        Args:
            steps: ``(N, K)`` scores of labels at all steps of all sequences, without padding.
            begins: ``(K,)`` scores of the first label.
            tables: See :meth:`LabelStates.moves`.

        Raises:
            ModelError: If shapes disagree, or a score is NaN or ``+inf``; the message names both.
        """
        moves = self.states.moves(tables)
        self._check(steps, begins, moves)
        scores = self.paths.scores(begins, moves)
        observed = steps.gather(1, self.labels.to(steps.device)[:, None])[:, 0]
        scores = scores.to(steps).index_add(0, self.row.to(steps.device), observed)
        compiled = steps.device.type == "cpu" and has_numba()
        log_partition = edge_log_partition if compiled else wide_log_partition
        log_z = log_partition(self.states.edges, self.rows, begins, moves, steps)
        return scores - log_z.masked_fill(log_z.isneginf(), 0.0)

    def _check(self, steps: Tensor, begins: Tensor, moves: Tensor) -> None:
        if steps.dim() != 2 or len(steps) != len(self.row):
            expected = len(self.row), self.states.num_labels
            raise ModelError(f"scores of steps must be {expected}, got {tuple(steps.shape)}")
        _check_scores(self.states, begins, moves, steps)
        if not below_infinity(steps):
            at = int((~(steps.detach().amax(1) < math.inf)).nonzero()[0])
            row = int(self.row[at])
            raise wrong_step(row, at - int(self.rows.starts[row]))


def _check_scores(states: LabelStates, begins: Tensor, moves: Tensor, field: Tensor) -> None:
    """Check types and shapes, and the scores shared by all steps."""
    if not field.is_floating_point():
        raise ModelError(f"log_field must hold floating-point logs, got {field.dtype}")
    sizes = (begins, (states.num_labels,)), (moves, (len(states.edges),))
    for (table, shape), name in zip(sizes, ("begins", "moves"), strict=True):
        if table.shape != shape:
            raise ModelError(f"{name} must be {shape}, got {tuple(table.shape)}")
        check_table(name, table)
    if field.shape[-1] != states.num_labels:
        raise ModelError(
            f"log_field must have scores of {states.num_labels} labels, got {field.shape[-1]}"
        )


class _Paths:
    """The first label and the transitions of given label sequences.

    Args:
        states: Of the chain.
        codes: ``(B, T)`` allowed labels, -1 beyond the end.
    """

    def __init__(self, states: LabelStates, codes: Tensor) -> None:
        self.num_rows = len(codes)
        self.starting = (codes[:, :1] >= 0).nonzero()[:, 0]
        self.first = codes[self.starting, :1].flatten()
        paths, later = states.paths(codes), (codes[:, 1:] >= 0).nonzero()
        before, label = paths[:, :-1][*later.T], codes[:, 1:][*later.T]
        self.moving = later[:, 0]
        self.moves = torch.from_numpy(states.number)[before, label]

    def scores(self, begins: Tensor, moves: Tensor) -> Tensor:
        """Return ``(B,)`` scores.

        Args:
            begins: ``(K,)`` scores of the first label.
            moves: ``(E,)`` scores of transitions.
        """
        device = begins.device
        rows = begins.new_zeros(self.num_rows)
        rows = rows.index_add(0, self.starting.to(device), begins[self.first.to(device)])
        return rows.index_add(0, self.moving.to(device), moves[self.moves.to(device)])
