"""Chains whose states remember earlier labels, asked about their labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.label_likelihood import LabelLikelihood
from pgnn.inference.chains.label_states import LabelStates

_NUMBERS = 2**24
"""Scores of states that are written down at once."""


class LabelledChain:
    r"""Rows of labels, each depending on several before it or on an automaton's state.

    It is a :class:`Chain` of :class:`LabelStates`; answers are about the labels, in the forms
    that those of a chain have.

    Args:
        states: Of the chain.
        begins: ``(K,)`` scores of the first label.
        moves: ``(S, S)`` scores of transitions, see :meth:`LabelStates.moves`.
        log_field: ``(B, T, K)`` scores of the labels at each step.
        lengths: ``(B,)``.

    Cost: :math:`O(B T S^2)` time, written down for some rows at a time.

    Example:
        >>> import numpy as np
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
        self.states, self.begins, self.moves, self.field = states, begins, moves, log_field
        rows, steps = log_field.shape[:2]
        self.lengths = torch.full((rows,), steps) if lengths is None else lengths
        self.labels = self._here(states.labels)

    def log_partition(self) -> Tensor:
        """See :class:`Chain`."""
        return torch.cat([c.log_partition() for c in self._blocks()])

    def marginals(self) -> Tensor:
        """See :class:`Chain`."""
        return self.smoothed()[0]

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        return self._of_labels(Chain.smoothed)

    def filtered(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`; that a sequence may not end in a state is known at its end."""
        return self._of_labels(Chain.filtered)

    def _of_labels(self, ask: Callable[[Chain], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Sums of probabilities of the states of each label, and what is told with them."""
        sums, told = [], []
        for chain in self._blocks():
            probs, besides = ask(chain)
            unknown = probs[..., :1].isnan()
            none = probs.new_zeros((*probs.shape[:2], self.states.num_labels))
            sums.append(none.index_add(2, self.labels, probs).masked_fill(unknown, torch.nan))
            told.append(besides)
        return torch.cat(sums), torch.cat(told)

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        answers = [c.best(k) for c in self._blocks()]
        states = torch.cat([states for states, _ in answers])
        return self._labels_of(states), torch.cat([scores for _, scores in answers])

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """See :class:`Chain`."""
        rng = np.random.default_rng(seed)
        draws = [c.sample(n, int(rng.integers(2**63))) for c in self._blocks()]
        return self._labels_of(torch.cat(draws, dim=1))

    def entropy(self) -> Tensor:
        """See :class:`Chain`: labels tell the states."""
        return torch.cat([c.entropy() for c in self._blocks()])

    def log_score(self, labels: Tensor) -> Tensor:
        """Return ``(B,)`` logs of what given labels weigh, see :class:`Chain`.

        Args:
            labels: ``(B, T)``; anything beyond the end.
        """
        paths = self.states.paths(labels.cpu())
        inside = torch.arange(paths.shape[1]) < self.lengths.cpu()[:, None]
        lost = (inside & (paths < 0)).any(1).to(self.field.device)
        split = zip(self._blocks(), torch.split(paths.clamp_min(0), self._size), strict=True)
        scores = torch.cat([chain.log_score(part) for chain, part in split])
        return scores.masked_fill(lost, -math.inf)

    def log_conditionals(self, labels: Tensor) -> Tensor:
        r"""Return ``(B, T)`` logs of :math:`p(z_t \mid z_{-t})`, see :class:`Chain`.

        Backward over the steps a state is told what the labels to come score from there on.

        Args:
            labels: ``(B, T)``; anything beyond the end.
        """
        z, lengths = labels.clamp_min(0).to(self.field.device), self._here(self.lengths)
        paths, after = self._here(self.states.paths(labels.cpu())), self._here(self.states.after)
        ahead = self.field.new_zeros((len(z), len(self.states)))
        ended = ahead.masked_fill(~self._here(self.states.may_end), -math.inf)
        logs = []
        for t in reversed(range(z.shape[1])):
            inside = lengths > t
            here = torch.where((lengths == t + 1)[:, None], ended, ahead)
            if t:
                before = paths[:, t - 1].clamp_min(0)
                choices = self._from(after[before], before, here) + self.field[:, t]
                target = after[:, z[:, t]].T  # (B, S)
                ahead = self._to(target, here) + self.field[:, t].gather(1, z[:, t, None])
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

    def _from(self, target: Tensor, before: Tensor, here: Tensor) -> Tensor:
        """``(B, K)`` scores of going from one state of each row to each of its successors."""
        place = target.clamp_min(0)
        scores = self.moves[before[:, None], place] + here.gather(1, place)
        return scores.masked_fill(target < 0, -math.inf)

    def _to(self, target: Tensor, here: Tensor) -> Tensor:
        """``(B, S)`` scores of going from each state to the one that a row's label leads to."""
        place = target.clamp_min(0)
        states = torch.arange(target.shape[1], device=target.device)
        scores = self.moves[states, place] + here.gather(1, place)
        return scores.masked_fill(target < 0, -math.inf)

    def _here(self, array: Any) -> Tensor:
        """An array on the device of the scores."""
        return torch.as_tensor(array).to(self.field.device)

    @property
    def _size(self) -> int:
        """Rows of a block."""
        return max(1, _NUMBERS // max(1, self.field.shape[1] * len(self.states)))

    def _blocks(self) -> Iterator[Chain]:
        """Chains of some rows each."""
        begins = self.states.begins(self.begins)
        for field, lengths in zip(
            torch.split(self.field, self._size), torch.split(self.lengths, self._size), strict=True
        ):
            yield Chain(begins, self.moves, self._of_states(field, lengths), lengths)

    def _of_states(self, field: Tensor, lengths: Tensor) -> Tensor:
        """``(b, T, S)`` scores of the states; a last one must be one that a sequence may end in."""
        wide = field.index_select(2, self.labels)
        if self.states.may_end.all():
            return wide
        steps = torch.arange(field.shape[1])
        last = (steps == lengths.cpu()[:, None] - 1)[..., None].to(field.device)
        barred = self._here(~self.states.may_end)
        return wide.masked_fill(last & barred, -math.inf)

    def _labels_of(self, states: Tensor) -> Tensor:
        """The last labels of states, -1 of those that are not there."""
        labels = torch.from_numpy(self.states.labels)[states.clamp_min(0).cpu()]
        return labels.masked_fill(states.cpu() < 0, -1).to(states.device)


class LabelledLikelihood:
    r"""The function :math:`\log p(z \mid f, A)` of scores, for labels that stay the same.

    See :class:`LabelLikelihood`; that of the states is found for some sequences at a time, and
    again where its gradient is wanted, which saves memory for the scores of all states.

    Args:
        states: Of the chain.
        lengths: ``(B,)``.
        codes: ``(B, T)`` labels, all of them possible.
    """

    def __init__(self, states: LabelStates, lengths: Tensor, codes: Tensor) -> None:
        self.states, self.labels = states, torch.from_numpy(states.labels)
        size = max(1, _NUMBERS // max(1, codes.shape[1] * len(states)))
        paths = states.paths(codes)
        inside = torch.arange(codes.shape[1]) < lengths[:, None]
        self.parts = [
            LabelLikelihood(n, path[present])
            for n, path, present in zip(
                torch.split(lengths, size),
                torch.split(paths, size),
                torch.split(inside, size),
                strict=True,
            )
        ]
        self.steps = [len(part.labels) for part in self.parts]
        self.ends = [_last_steps(n) for n in torch.split(lengths, size)]

    def __call__(self, steps: Tensor, begins: Tensor, tables: Sequence[Tensor]) -> Tensor:
        """Return ``(B,)`` log probabilities.

        Args:
            steps: ``(N, K)`` scores of labels, sequence after sequence.
            begins: ``(K,)`` scores of the first label.
            tables: See :meth:`LabelStates.moves`.
        """
        first, moves = self.states.begins(begins), self.states.moves(tables)
        logs = []
        for number, field in enumerate(torch.split(steps, self.steps)):
            if torch.is_grad_enabled() and len(self.parts) > 1:
                log = checkpoint(self._of_part, number, field, first, moves, use_reentrant=False)
            else:
                log = self._of_part(number, field, first, moves)
            logs.append(log)
        return torch.cat(logs) if logs else steps.new_zeros(0)

    def _of_part(self, number: int, field: Tensor, first: Tensor, moves: Tensor) -> Tensor:
        wide = field.index_select(1, self.labels.to(field.device))
        if not self.states.may_end.all():
            barred = torch.from_numpy(~self.states.may_end).to(field.device)
            last = self.ends[number].to(field.device)
            wide = wide.masked_fill(last[:, None] & barred, -math.inf)
        return self.parts[number](wide, first, moves)


def _last_steps(lengths: Tensor) -> Tensor:
    """``(N,)`` whether a step is the last of its sequence."""
    last = torch.zeros(int(lengths.sum()), dtype=torch.bool)
    last[(lengths.cumsum(0) - 1)[lengths > 0]] = True
    return last
