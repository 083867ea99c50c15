"""Sparse chains, computed with dense transition tables."""

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
"""Largest number of state scores that are stored at once."""
MAX_TABLE = 2**28
"""Most bytes of a dense transition table."""


class WideChain:
    r"""A :class:`Chain` over the states of a sparse chain, with results for the labels.

    It is the slow twin of :class:`EdgeChain`; it is used on other devices, and for gradients of
    anything but log Z.

    Args:
        edges: The list of transitions.
        begins: ``(K,)`` scores of the first label.
        scores: ``(E,)`` scores of the transitions.
        field: ``(B, T, K)`` scores of the labels at each step.
        lengths: ``(B,)`` lengths of the rows.

    Raises:
        Intractable: If the dense transition table would be too large.

    Cost: :math:`O(B T S^2)` time; rows are processed in blocks, which bounds the memory.
    """

    def __init__(
        self, edges: ChainEdges, begins: Tensor, scores: Tensor, field: Tensor, lengths: Tensor
    ) -> None:
        states = edges.num_states
        check_size(f"a transition table over {states:,} states", states**2, MAX_TABLE,
                   "Give a smaller order, or move the model to the CPU")  # fmt: skip
        self.edges, self.field, self.lengths = edges, field, lengths
        self.labels = self._on_device(edges.labels)
        known = np.flatnonzero(edges.first >= 0)
        none = begins.new_full((states,), -torch.inf)
        self.initial = none.index_put(
            (self._on_device(edges.first[known]),), begins[self._on_device(known)]
        )
        table = scores.new_full((states, states), -torch.inf)
        pairs = self._on_device(edges.sources), self._on_device(edges.targets)
        self.transition = table.index_put(pairs, scores)

    def log_partition(self) -> Tensor:
        """See :class:`Chain`; recomputed in the backward pass if that saves memory."""
        parts = list(self._split())
        if torch.is_grad_enabled() and len(parts) > 1:
            of_part = partial(checkpoint, self._log_partition, use_reentrant=False)
            return torch.cat([of_part(*part) for part in parts])
        return torch.cat([self._log_partition(*part) for part in parts])

    def smoothed(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`."""
        return self._of_labels(Chain.smoothed)

    def filtered(self) -> tuple[Tensor, Tensor]:
        """See :class:`Chain`; states in which a row may not end are excluded at its last step."""
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
        """See :class:`Chain`; paths of labels and of states correspond one to one."""
        return torch.cat([chain.entropy() for chain in self._blocks()])

    def _of_labels(self, method: Callable[[Chain], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the probabilities of labels, and the second result of the method."""
        sums, second = [], []
        for chain in self._blocks():
            probs, log_probs = method(chain)
            unknown = probs[..., :1].isnan()
            none = probs.new_zeros((*probs.shape[:2], self.edges.num_labels))
            sums.append(none.index_add(2, self.labels, probs).masked_fill(unknown, torch.nan))
            second.append(log_probs)
        return torch.cat(sums), torch.cat(second)

    def _blocks(self) -> Iterator[Chain]:
        """Yield the chains of blocks of rows."""
        return (self._chain(*part) for part in self._split())

    def _split(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the scores and lengths of blocks of rows."""
        size = max(1, _NUMBERS // max(1, self.field.shape[1] * self.edges.num_states))
        return zip(torch.split(self.field, size), torch.split(self.lengths, size), strict=True)

    def _log_partition(self, field: Tensor, lengths: Tensor) -> Tensor:
        return self._chain(field, lengths).log_partition()

    def _chain(self, field: Tensor, lengths: Tensor) -> Chain:
        return Chain(self.initial, self.transition, self._of_states(field, lengths), lengths)

    def _of_states(self, field: Tensor, lengths: Tensor) -> Tensor:
        """Return ``(b, T, S)`` scores of states; ``-inf`` at the end where a row may not end."""
        wide = field.index_select(2, self.labels)
        if self.edges.may_end.all():
            return wide
        steps = torch.arange(field.shape[1])
        last = (steps == lengths.cpu()[:, None] - 1)[..., None].to(field.device)
        return wide.masked_fill(last & self._on_device(~self.edges.may_end), -math.inf)

    def _labels_of(self, states: Tensor) -> Tensor:
        """Return the labels of states, -1 for absent states."""
        labels = self.labels[states.clamp_min(0).to(self.labels.device)]
        return labels.masked_fill(states.to(labels.device) < 0, -1).to(states.device)

    def _on_device(self, array: Any) -> Tensor:
        """Move an array to the device of the scores."""
        return torch.as_tensor(array).to(self.field.device)
