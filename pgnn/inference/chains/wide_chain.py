"""Chains whose transitions are listed, as chains with tables of all pairs of states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.chain_edges import ChainEdges
from pgnn.limits import check_size

_NUMBERS = 2**24
"""Scores of states that are written down at once."""
MAX_TABLE = 2**28
"""Most bytes of a table of all pairs of states."""


class WideChain:
    r"""A :class:`Chain` of the states, whose answers are told of the labels.

    It is the slow twin of :class:`EdgeChain`, and what answers on other devices, and where more is
    differentiated than log Z.

    Args:
        edges: The transitions.
        begins: ``(K,)`` scores of the first label.
        scores: ``(E,)`` scores of the transitions.
        field: ``(B, T, K)`` scores of the labels at each step.
        lengths: ``(B,)``.

    Raises:
        Intractable: If the table of all pairs of states would be too large.

    Cost: :math:`O(B T S^2)` time, written down for some rows at a time.
    """

    def __init__(
        self, edges: ChainEdges, begins: Tensor, scores: Tensor, field: Tensor, lengths: Tensor
    ) -> None:
        states = edges.num_states
        check_size(f"all pairs of {states:,} states", states**2, MAX_TABLE,
                   "Give a smaller order, or ask on the CPU what needs no such table")  # fmt: skip
        self.edges, self.field, self.lengths = edges, field, lengths
        self.labels = self._here(edges.labels)
        known = np.flatnonzero(edges.first >= 0)
        none = begins.new_full((states,), -torch.inf)
        self.initial = none.index_put((self._here(edges.first[known]),), begins[self._here(known)])
        table = scores.new_full((states, states), -torch.inf)
        pairs = self._here(edges.sources), self._here(edges.targets)
        self.transition = table.index_put(pairs, scores)

    def log_partition(self) -> Tensor:
        """See :class:`Chain`; computed twice where that saves memory for a gradient."""
        parts = list(self._split())
        if torch.is_grad_enabled() and len(parts) > 1:
            of_part = partial(checkpoint, self._log_partition, use_reentrant=False)
            return torch.cat([of_part(*part) for part in parts])
        return torch.cat([self._log_partition(*part) for part in parts])

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        return self._of_labels(Chain.smoothed)

    def filtered(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`; that a sequence may not end in a state is known at its end."""
        return self._of_labels(Chain.filtered)

    def best(self, k: int = 1) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        answers = [chain.best(k) for chain in self._blocks()]
        states = torch.cat([states for states, _ in answers])
        return self._labels_of(states), torch.cat([scores for _, scores in answers])

    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """See :class:`Chain`."""
        rng = np.random.default_rng(seed)
        draws = [chain.sample(n, int(rng.integers(2**63))) for chain in self._blocks()]
        return self._labels_of(torch.cat(draws, dim=1))

    def entropy(self) -> Tensor:
        """See :class:`Chain`: labels tell the states."""
        return torch.cat([chain.entropy() for chain in self._blocks()])

    def _of_labels(self, ask: Callable[[Chain], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Sums of probabilities of the states of each label, and what is told with them."""
        sums, told = [], []
        for chain in self._blocks():
            probs, besides = ask(chain)
            unknown = probs[..., :1].isnan()
            none = probs.new_zeros((*probs.shape[:2], self.edges.num_labels))
            sums.append(none.index_add(2, self.labels, probs).masked_fill(unknown, torch.nan))
            told.append(besides)
        return torch.cat(sums), torch.cat(told)

    def _blocks(self) -> Iterator[Chain]:
        """Chains of some rows each."""
        return (self._chain(*part) for part in self._split())

    def _split(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores and lengths of some rows each."""
        size = max(1, _NUMBERS // max(1, self.field.shape[1] * self.edges.num_states))
        return zip(torch.split(self.field, size), torch.split(self.lengths, size), strict=True)

    def _log_partition(self, field: Tensor, lengths: Tensor) -> Tensor:
        return self._chain(field, lengths).log_partition()

    def _chain(self, field: Tensor, lengths: Tensor) -> Chain:
        return Chain(self.initial, self.transition, self._of_states(field, lengths), lengths)

    def _of_states(self, field: Tensor, lengths: Tensor) -> Tensor:
        """``(b, T, S)`` scores of the states; a last one must be one that a sequence may end in."""
        wide = field.index_select(2, self.labels)
        if self.edges.may_end.all():
            return wide
        steps = torch.arange(field.shape[1])
        last = (steps == lengths.cpu()[:, None] - 1)[..., None].to(field.device)
        return wide.masked_fill(last & self._here(~self.edges.may_end), -math.inf)

    def _labels_of(self, states: Tensor) -> Tensor:
        """The last labels of states, -1 of those that are not there."""
        labels = self.labels[states.clamp_min(0).to(self.labels.device)]
        return labels.masked_fill(states.to(labels.device) < 0, -1).to(states.device)

    def _here(self, array: Any) -> Tensor:
        """An array on the device of the scores."""
        return torch.as_tensor(array).to(self.field.device)
