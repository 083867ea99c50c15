"""Messages of groups of factors, as batched torch operations in log space.

A *cavity* is what the other factors say about the element at one place of a scope: ``(B, F, K)``
logs. All of these functions are differentiable, ``-inf`` is legal everywhere, and ``NaN`` never
comes out. Numbers are divided by temperature and weight before they come here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from pgnn.factors.factor_group import FactorGroup, PottsGroup
from pgnn.factors.logspace import logsumexp


def reduced(log_values: Tensor, axis: int, hard: bool, keepdim: bool = False) -> Tensor:
    """Return the log of the sum over an axis, or if ``hard`` the largest entry."""
    if hard:
        return log_values.amax(dim=axis, keepdim=keepdim)
    return logsumexp(log_values, [axis], keepdim)


def normalized(log_values: Tensor, hard: bool) -> Tensor:
    """Return logs whose sum (or maximum) over the last axis is one; all ``-inf`` stays."""
    total = reduced(log_values, -1, hard, keepdim=True)
    return log_values - total.masked_fill(total.isneginf(), 0.0)


class GroupMessages(ABC):
    """What a group of factors makes of the cavities around it.

    Args:
        scale: What the log values are multiplied by: a number, or ``(F,)`` numbers.
        hard: Maximise instead of summing.
    """

    def __init__(self, scale: Tensor | float, hard: bool) -> None:
        self.scale = scale
        self.hard = hard

    @abstractmethod
    def messages(self, cavities: Sequence[Tensor]) -> list[Tensor]:
        """Return the message to each place of the scopes, ``(B, F, K)``, not normalised."""

    @abstractmethod
    def log_total(self, cavities: Sequence[Tensor]) -> Tensor:
        """Return ``(B, F)`` logs of the sums over all states of each factor."""

    @abstractmethod
    def beliefs(self, cavities: Sequence[Tensor]) -> Tensor:
        """Return ``(B, F, K1, ..., Kn)`` logs of each factor times its cavities."""

    @abstractmethod
    def gradient(self, cavities: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Return the weighted probabilities of what each number of the group stands for.

        Args:
            cavities: One for each place.
            weights: ``(B,)`` what each row counts.

        Returns:
            As the group's ``numbers``, summed over what shares a number.
        """


class TableMessages(GroupMessages):
    """Messages of tables with one entry a joint state.

    Args:
        numbers: ``(F or 1, K1, ..., Kn)`` or ``(B, F or 1, K1, ..., Kn)`` log values.
        arity: Places ``n``.
        scale: As of :class:`GroupMessages`.
        hard: As of :class:`GroupMessages`.

    Cost: about two passes over ``B F K1 ... Kn`` entries for all messages together.
    """

    def __init__(self, numbers: Tensor, arity: int, scale: Tensor | float, hard: bool) -> None:
        super().__init__(scale, hard)
        if isinstance(scale, Tensor):
            scale = scale.view(-1, *[1] * arity)
        self.arity = arity
        self.given = numbers
        self.table = (numbers if numbers.dim() > arity + 1 else numbers[None]) * scale

    def messages(self, cavities: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`GroupMessages.messages`.

        The last axes are summed out once for all places before them.
        """
        rest, found = self.table, []
        for place in reversed(range(self.arity)):
            message = rest
            for axis in range(place):
                message = self._summed(message, cavities[axis], axis)
            found.append(self._filled(message.flatten(2), cavities[place]))
            if place:
                rest = self._summed(rest, cavities[place], place)
        return found[::-1]

    def log_total(self, cavities: Sequence[Tensor]) -> Tensor:
        """See :meth:`GroupMessages.log_total`."""
        total = self.table
        for axis in reversed(range(self.arity)):
            total = self._summed(total, cavities[axis], axis)
        return total.flatten(1)

    def beliefs(self, cavities: Sequence[Tensor]) -> Tensor:
        """See :meth:`GroupMessages.beliefs`."""
        total = self.table
        for axis, cavity in enumerate(cavities):
            total = total + self._along(cavity, axis)
        return total

    def gradient(self, cavities: Sequence[Tensor], weights: Tensor) -> Tensor:
        """See :meth:`GroupMessages.gradient`."""
        joint = self.beliefs(cavities)
        rows, factors = joint.shape[:2]
        probs = normalized(joint.reshape(rows, factors, math.prod(joint.shape[2:])), False).exp()
        probs = probs * weights[:, None, None]
        axes = len(self.given.shape) - self.arity - 1
        if self.given.shape[axes] == 1:
            probs = probs.sum(1, keepdim=True)
        if axes == 0 or self.given.shape[0] == 1:
            probs = probs.sum(0, keepdim=True)
        return probs.reshape(self.given.shape)

    def _summed(self, table: Tensor, cavity: Tensor, axis: int) -> Tensor:
        return reduced(table + self._along(cavity, axis), axis + 2, self.hard, keepdim=True)

    def _along(self, cavity: Tensor, axis: int) -> Tensor:
        """A cavity with an axis for each place."""
        shape = [*cavity.shape[:2], *[1] * self.arity]
        shape[axis + 2] = cavity.shape[2]
        return cavity.reshape(shape)

    def _filled(self, message: Tensor, cavity: Tensor) -> Tensor:
        """A message of all factors and rows, also where nothing has made it differ."""
        return message.expand(*cavity.shape[:2], message.shape[2])


class PottsMessages(GroupMessages):
    """Messages of factors that only ask whether two elements agree.

    Args:
        coupling: ``(F or 1,)`` or ``(B, F or 1)`` log weights of agreement.
        scale: As of :class:`GroupMessages`.
        hard: As of :class:`GroupMessages`.

    Cost: a few passes over ``B F K`` entries.
    """

    def __init__(self, coupling: Tensor, scale: Tensor | float, hard: bool) -> None:
        super().__init__(scale, hard)
        self.given = coupling
        self.coupling = (coupling if coupling.dim() > 1 else coupling[None]) * scale

    def messages(self, cavities: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`GroupMessages.messages`."""
        return [self._message(cavities[1]), self._message(cavities[0])]

    def log_total(self, cavities: Sequence[Tensor]) -> Tensor:
        """See :meth:`GroupMessages.log_total`."""
        return reduced(cavities[0] + self._message(cavities[1]), -1, self.hard)

    def beliefs(self, cavities: Sequence[Tensor]) -> Tensor:
        """See :meth:`GroupMessages.beliefs`; this writes the whole tables down."""
        same = torch.eye(cavities[0].shape[2], dtype=torch.bool, device=self.coupling.device)
        table = self.coupling[..., None, None]
        table = torch.where(same, table, torch.zeros_like(table))
        return table + cavities[0][..., :, None] + cavities[1][..., None, :]

    def gradient(self, cavities: Sequence[Tensor], weights: Tensor) -> Tensor:
        """See :meth:`GroupMessages.gradient`: the probability of agreement."""
        same = self.coupling + logsumexp(cavities[0] + cavities[1], [-1])
        total = self.log_total(cavities)
        probs = (same - total.masked_fill(total.isneginf(), 0.0)).exp() * weights[:, None]
        if self.given.shape[-1] == 1:
            probs = probs.sum(1, keepdim=True)
        if self.given.dim() == 1 or self.given.shape[0] == 1:
            probs = probs.sum(0, keepdim=True)
        return probs.reshape(self.given.shape)

    def _message(self, cavity: Tensor) -> Tensor:
        agree = cavity + self.coupling[..., None]
        return reduced(torch.stack([agree, self._others(cavity)]), 0, self.hard)

    def _others(self, cavity: Tensor) -> Tensor:
        """The sum (or maximum) over all states but each one in turn.

        Taking a state away from the whole loses no digits unless it is the largest one; that one
        is masked and the rest summed anew.
        """
        top, best = cavity.detach().max(dim=-1, keepdim=True)
        largest = torch.zeros_like(cavity, dtype=torch.bool).scatter(-1, best, True)
        rest = reduced(cavity.masked_fill(largest, -math.inf), -1, self.hard, keepdim=True)
        if self.hard:
            return torch.where(largest, rest, top)
        top = top.masked_fill(top.isinf(), 0.0)
        scaled = (cavity - top).exp()
        left = scaled.sum(-1, keepdim=True) - scaled
        none = largest | (left <= 0)
        left = left.masked_fill(none, 1.0).log().masked_fill(none, -math.inf) + top
        return torch.where(largest, rest, left)


def messages_of(
    group: FactorGroup, numbers: Tensor, scale: Tensor | float, hard: bool
) -> GroupMessages:
    """Return the messages of a group whose numbers are these."""
    if isinstance(group, PottsGroup):
        return PottsMessages(numbers, scale, hard)
    return TableMessages(numbers, group.arity, scale, hard)
