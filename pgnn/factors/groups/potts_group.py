"""Potts factors, which depend only on whether two elements agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.groups.factor_group import FactorGroup, weighed
from pgnn.factors.groups.group_messages import GroupMessages, reduced
from pgnn.factors.groups.kernel_kinds import POTTS
from pgnn.factors.logspace import logsumexp


class PottsGroup(FactorGroup):
    r"""``F`` factors that depend only on whether two elements agree: :math:`e^{J_f [x_s = x_t]}`.

    A message takes ``O(K)`` instead of ``O(K^2)`` steps, and a factor has one parameter.

    Args:
        scopes: ``(F, 2)`` indices of elements.
        coupling: ``(*batch, F)`` or ``(*batch, 1)`` couplings J, in log units; ``-inf`` is legal.
        num_states: States of both elements.

    Raises:
        ModelError: If the shapes do not agree.
    """

    kernel_kind: ClassVar[int | None] = POTTS
    is_linear: ClassVar[bool] = True

    def __init__(self, scopes: ArrayLike, coupling: Tensor, num_states: int) -> None:
        self.num_states = num_states
        super().__init__(scopes, coupling)
        if self.arity != 2:
            raise ModelError(f"a Potts factor is over two elements, got scopes of {self.arity}")

    @property
    def coupling(self) -> Tensor:
        """``(*batch, F or 1)`` log weights of agreement."""
        return self.numbers

    @property
    def number_axes(self) -> int:
        """See :class:`FactorGroup`: one number a factor."""
        return 0

    @property
    def num_entries(self) -> int:
        """See :class:`FactorGroup`: the log values of different and of equal states."""
        return 2

    @property
    def message_cost(self) -> int:
        """See :class:`FactorGroup`."""
        return self.num_states

    @property
    def log_values(self) -> Tensor:
        """The log tables ``(*batch, F or 1, K, K)``."""
        same = torch.eye(self.num_states, dtype=torch.bool, device=self.numbers.device)
        table = self.numbers[..., None, None]
        return torch.where(same, table, torch.zeros_like(table))

    def entries(self) -> Tensor:
        """See :meth:`FactorGroup.entries`: ``(*batch, F or 1, 2)``."""
        return torch.stack([torch.zeros_like(self.numbers), self.numbers], dim=-1)

    def numbers_gradient(self, by_entry: Tensor) -> Tensor:
        """See :meth:`FactorGroup.numbers_gradient`."""
        return by_entry[..., 1]

    def look_up(self, states: Tensor, rows: Tensor | None = None) -> Tensor:
        """See :meth:`FactorGroup.look_up`."""
        coupling = self.numbers[self.lead(states, rows)]
        same = states[..., 0] == states[..., 1]
        return torch.where(same, coupling, torch.zeros_like(coupling))

    def score(self, columns: Tensor) -> Tensor:
        """See :meth:`FactorGroup.score`."""
        if self.batch_shape:
            return super().score(columns)
        first, second = torch.from_numpy(self.scopes.T.copy()).to(columns.device)
        same = columns.index_select(0, first) == columns.index_select(0, second)
        if self.shared and self.num_factors > 1:
            number = same.sum(0)
            return torch.where(number > 0, self.coupling * number, 0.0)  # no -inf times zero
        coupling = self.coupling[:, None]
        return torch.where(same, coupling, torch.zeros_like(coupling)).sum(0)

    def conditionals(self, states: Tensor, place: int, rows: Tensor | None = None) -> Tensor:
        """See :meth:`FactorGroup.conditionals`."""
        coupling = self.numbers[self.lead(states, rows)].expand(states.shape[:2])[..., None]
        candidates = torch.arange(self.num_states, device=states.device)
        same = states[..., 1 - place, None] == candidates
        return torch.where(same, coupling, torch.zeros_like(coupling))

    def add_conditionals(self, total: Tensor, first: Tensor, states: Tensor, place: int) -> Tensor:
        """See :meth:`FactorGroup.add_conditionals`: a single column is added to."""
        coupling = self.numbers[self.lead(states)].expand(states.shape[:2])
        return total.scatter_add(1, first + states[..., 1 - place], coupling.to(total.dtype))

    def expected(self, probabilities: Sequence[Tensor]) -> Tensor:
        """See :meth:`FactorGroup.expected`."""
        agree = (probabilities[0] * probabilities[1]).sum(dim=-1)
        return weighed(agree, self.numbers.double()).sum(dim=1)

    def messages(self, numbers: Tensor, scale: Tensor | float, hard: bool) -> GroupMessages:
        """See :meth:`FactorGroup.messages`."""
        return PottsMessages(numbers, scale, hard)


class PottsMessages(GroupMessages):
    """Messages of factors that depend only on whether two elements agree.

    Args:
        coupling: ``(F or 1,)`` or ``(B, F or 1)`` log weights of agreement.
        scale: See :class:`GroupMessages`.
        hard: See :class:`GroupMessages`.

    Cost: a few passes over ``B F K`` entries.
    """

    def __init__(self, coupling: Tensor, scale: Tensor | float, hard: bool) -> None:
        super().__init__(scale, hard)
        self.given_coupling = coupling
        self.coupling = (coupling if coupling.dim() > 1 else coupling[None]) * scale

    def messages(self, cavities: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`GroupMessages.messages`."""
        return [self._message(cavities[1]), self._message(cavities[0])]

    def log_total(self, cavities: Sequence[Tensor]) -> Tensor:
        """See :meth:`GroupMessages.log_total`."""
        return reduced(cavities[0] + self._message(cavities[1]), -1, self.hard)

    def beliefs(self, cavities: Sequence[Tensor]) -> Tensor:
        """See :meth:`GroupMessages.beliefs`; this computes the complete tables."""
        same = torch.eye(cavities[0].shape[2], dtype=torch.bool, device=self.coupling.device)
        table = self.coupling[..., None, None]
        table = torch.where(same, table, torch.zeros_like(table))
        return table + cavities[0][..., :, None] + cavities[1][..., None, :]

    def gradient(self, cavities: Sequence[Tensor], weights: Tensor) -> Tensor:
        """See :meth:`GroupMessages.gradient`: the probability of agreement."""
        same = self.coupling + logsumexp(cavities[0] + cavities[1], [-1])
        total = self.log_total(cavities)
        probs = (same - total.masked_fill(total.isneginf(), 0.0)).exp() * weights[:, None]
        if self.given_coupling.shape[-1] == 1:
            probs = probs.sum(1, keepdim=True)
        if self.given_coupling.dim() == 1 or self.given_coupling.shape[0] == 1:
            probs = probs.sum(0, keepdim=True)
        return probs.reshape(self.given_coupling.shape)

    def _message(self, cavity: Tensor) -> Tensor:
        agree = cavity + self.coupling[..., None]
        return reduced(torch.stack([agree, self._others(cavity)]), 0, self.hard)

    def _others(self, cavity: Tensor) -> Tensor:
        """The sum (or maximum) over all other states, for each state.

        Subtracting a state from the total loses no digits unless it is the largest one, for which
        the others are summed again.
        """
        top, best = cavity.detach().max(dim=-1, keepdim=True)
        largest = torch.zeros_like(cavity, dtype=torch.bool).scatter(-1, best, True)
        others = reduced(cavity.masked_fill(largest, -math.inf), -1, self.hard, keepdim=True)
        if self.hard:
            return torch.where(largest, others, top)
        top = top.masked_fill(top.isinf(), 0.0)
        scaled = (cavity - top).exp()
        left = scaled.sum(-1, keepdim=True) - scaled
        none = largest | (left <= 0)
        left = left.masked_fill(none, 1.0).log().masked_fill(none, -math.inf) + top
        return torch.where(largest, others, left)
