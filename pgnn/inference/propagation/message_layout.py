"""Where the numbers of a grouped graph stand, as tensors on a device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.state_columns import StateColumns

Ints = NDArray[np.int64]


class MessageLayout:
    """Takes flat messages ``(B, M)`` apart, and puts them together.

    Args:
        graph: Elements and groups of factors.
        device: Where its indices are to be.

    Attributes:
        card: ``(M,)`` states of the element that a message entry is about.
        column: ``(M,)`` its column among all states.
        factor_of_entry: ``(M,)`` the factor it comes from.
        scopes: ``(F, n)`` elements of each group.
        factors: Where each group's factors stand among all.
        states: Where each element's states stand.
    """

    def __init__(self, graph: FactorGraph, device: torch.device) -> None:
        wiring, elements = graph.wiring, graph.elements
        self.states = StateColumns(elements, device)
        of_slot = elements.card[wiring.scope_var]
        self.card = _tensor(np.repeat(of_slot, of_slot), device)
        shift = np.repeat(elements.offset[wiring.scope_var] - wiring.message[:-1], of_slot)
        self.column = _tensor(shift + np.arange(len(shift)), device)
        self.factor_of_entry = _tensor(np.repeat(wiring.slot_factor, of_slot), device)
        self.scopes = [_tensor(g.scopes, device) for g in graph.interactions]
        self._cards = [elements.card[g.scopes[0]].tolist() for g in graph.interactions]
        self._counts = [g.num_factors for g in graph.interactions]
        ends = np.cumsum([0, *self._counts]).tolist()
        self.factors = [slice(a, b) for a, b in pairwise(ends)]

    def split(self, flat: Tensor) -> list[list[Tensor]]:
        """Return views ``(B, F, K)`` for each place of each group's scopes."""
        found, first = [], 0
        for count, cards in zip(self._counts, self._cards, strict=True):
            last = first + count * sum(cards)
            view = flat[:, first:last].reshape(len(flat), count, sum(cards))
            found.append(list(torch.split(view, cards, dim=2)))
            first = last
        return found

    def join(self, parts: Sequence[Sequence[Tensor]], flat: Tensor) -> Tensor:
        """Return what :meth:`split` took apart; of the type of ``flat`` if there is nothing."""
        return torch.cat([flat[:, :0], *(torch.cat(list(p), 2).flatten(1) for p in parts)], dim=1)


def _tensor(array: Ints, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(device)
