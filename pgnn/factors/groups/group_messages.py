"""Messages of a group of factors, as batched torch operations in log space.

A *cavity* is the product of the other factors' messages to the element on one axis of a scope, as
``(B, F, K)`` logs. All of these functions are differentiable, ``-inf`` is legal everywhere, and
results are never ``NaN``. Parameters are already divided by temperature and weight.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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
    """Messages and beliefs of a group of factors, as functions of the cavities.

    Args:
        scale: Factor of the log values: a number, or ``(F,)`` numbers.
        hard: Maximise instead of summing.
    """

    def __init__(self, scale: Tensor | float, hard: bool) -> None:
        self.scale = scale
        self.hard = hard

    @abstractmethod
    def messages(self, cavities: Sequence[Tensor]) -> list[Tensor]:
        """Return the message to each axis of the scopes, ``(B, F, K)``, not normalised."""

    @abstractmethod
    def log_total(self, cavities: Sequence[Tensor]) -> Tensor:
        """Return ``(B, F)`` logs of the sums over all states of each factor."""

    @abstractmethod
    def beliefs(self, cavities: Sequence[Tensor]) -> Tensor:
        """Return ``(B, F, K1, ..., Kn)`` logs of each factor times its cavities."""

    @abstractmethod
    def gradient(self, cavities: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Return the gradient of the weighted log totals by the parameters of the group.

        Args:
            cavities: One for each axis.
            weights: ``(B,)`` weight of each row.

        Returns:
            Weighted probabilities, in the shape of the group's ``numbers``.
        """


class TableMessages(GroupMessages):
    """Messages of tables with one entry a joint state.

    Args:
        numbers: ``(F or 1, K1, ..., Kn)`` or ``(B, F or 1, K1, ..., Kn)`` log values.
        arity: Number of axes ``n``.
        scale: See :class:`GroupMessages`.
        hard: See :class:`GroupMessages`.

    Cost: about two passes over ``B F K1 ... Kn`` entries for all messages together.
    """

    def __init__(self, numbers: Tensor, arity: int, scale: Tensor | float, hard: bool) -> None:
        super().__init__(scale, hard)
        if isinstance(scale, Tensor):
            scale = scale.view(-1, *[1] * arity)
        self.arity = arity
        self.log_values = numbers
        self.table = (numbers if numbers.dim() > arity + 1 else numbers[None]) * scale

    def messages(self, cavities: Sequence[Tensor]) -> list[Tensor]:
        """See :meth:`GroupMessages.messages`.

        The last axes are summed out once for all axes before them.
        """
        contracted, messages = self.table, []
        for place in reversed(range(self.arity)):
            message = contracted
            for axis in range(place):
                message = self._summed(message, cavities[axis], axis)
            messages.append(self._filled(message.flatten(2), cavities[place]))
            if place:
                contracted = self._summed(contracted, cavities[place], place)
        return messages[::-1]

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
        axes = len(self.log_values.shape) - self.arity - 1
        if self.log_values.shape[axes] == 1:
            probs = probs.sum(1, keepdim=True)
        if axes == 0 or self.log_values.shape[0] == 1:
            probs = probs.sum(0, keepdim=True)
        return probs.reshape(self.log_values.shape)

    def _summed(self, table: Tensor, cavity: Tensor, axis: int) -> Tensor:
        return reduced(table + self._along(cavity, axis), axis + 2, self.hard, keepdim=True)

    def _along(self, cavity: Tensor, axis: int) -> Tensor:
        """A cavity reshaped to one axis of the tables."""
        shape = [*cavity.shape[:2], *[1] * self.arity]
        shape[axis + 2] = cavity.shape[2]
        return cavity.reshape(shape)

    def _filled(self, message: Tensor, cavity: Tensor) -> Tensor:
        """A message expanded to all factors and rows."""
        return message.expand(*cavity.shape[:2], message.shape[2])


class WrittenDownMessages(TableMessages):
    """Messages of a kind of factors without its own implementation: those of its tables.

    Args:
        numbers: Parameters of the group.
        tables: Function from parameters to log tables.
        arity: Number of axes ``n``.
        scale: See :class:`GroupMessages`.
        hard: See :class:`GroupMessages`.
    """

    def __init__(
        self,
        numbers: Tensor,
        tables: Callable[[Tensor], Tensor],
        arity: int,
        scale: Tensor | float,
        hard: bool,
    ) -> None:
        self.numbers, self.tables = numbers, tables
        super().__init__(tables(numbers), arity, scale, hard)

    def gradient(self, cavities: Sequence[Tensor], weights: Tensor) -> Tensor:
        """See :meth:`GroupMessages.gradient`: by the entries of the tables, then the parameters."""
        with torch.enable_grad():
            leaf = self.numbers.detach().requires_grad_()
            tables = self.tables(leaf)
        by_entry = super().gradient(cavities, weights)
        (by_number,) = torch.autograd.grad(tables, leaf, by_entry.detach())
        return by_number
