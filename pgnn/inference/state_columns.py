"""Concatenated states of all elements, as tensors on a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.groups.group_messages import reduced


class StateColumns:
    """Reductions over the states of each element, all states being concatenated.

    Args:
        elements: The elements.
        device: Device of the indices.

    Attributes:
        first: ``(E,)`` first column of each element.
        owner: ``(S,)`` the element of each column.

    Example:
        >>> from pgnn.factors import Variable
        >>> elements = Elements([Variable("a", 2), Variable("b", 3), Variable("c", 2)])
        >>> columns = StateColumns(elements, torch.device("cpu"))
        >>> columns.log_sums(torch.log(torch.tensor([[1.0, 1, 1, 2, 3, 4, 4]]))).exp()
        tensor([[2., 6., 8.]])
    """

    def __init__(self, elements: Elements, device: torch.device) -> None:
        card = elements.card
        self.first = torch.from_numpy(elements.offset[:-1].copy()).to(device)
        self.owner = torch.from_numpy(np.repeat(np.arange(len(elements)), card)).to(device)
        self._of_card: list[tuple[int, Tensor]] = []
        order = [np.zeros(0, np.int64)]
        for states in np.unique(card).tolist():
            members = np.flatnonzero(card == states)
            columns = elements.offset[members][:, None] + np.arange(states)
            self._of_card.append((states, torch.from_numpy(columns.ravel()).to(device)))
            order.append(members)
        self._order = torch.from_numpy(np.argsort(np.concatenate(order))).to(device)

    def log_sums(self, values: Tensor, hard: bool = False) -> Tensor:
        """Return ``(B, E)`` logs of the sums of exponentials of ``(B, S)`` values.

        Args:
            values: Logs; ``-inf`` is legal.
            hard: Whether to return the largest values instead.
        """
        parts = [values[:, :0]]
        for states, columns in self._of_card:
            at = values.index_select(1, columns)
            at = at.reshape(len(values), len(columns) // states, states)
            parts.append(reduced(at, -1, hard))
        return torch.cat(parts, dim=1).index_select(1, self._order)
