"""A kind of factors that the library does not know: how even is a set of binary elements?"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from pgnn import Potential
from pgnn.factors.groups.factor_group import FactorGroup


class ParityGroup(FactorGroup):
    r"""Factors :math:`\log(1 + e^{t_f})` where an even number of elements is 1, else 0."""

    @property
    def number_axes(self) -> int:
        """One number a factor."""
        return 0

    @property
    def log_values(self) -> Tensor:
        """The tables written down."""
        states = torch.tensor(list(itertools.product([0, 1], repeat=self.arity)))
        even = (states.sum(1) % 2 == 0).reshape([2] * self.arity)
        reward = torch.nn.functional.softplus(self.numbers)
        reward = reward.reshape(*self.numbers.shape, *[1] * self.arity)
        return torch.where(even, reward, torch.zeros_like(reward))


class Parity(Potential):
    """A potential made of them, with a number for each scope."""

    def __init__(self, variables, scopes, level=None) -> None:
        super().__init__(variables, scopes)
        given = level is not None
        value = torch.as_tensor(level if given else [0.0] * self.num_factors).double()
        self.level = nn.Parameter(value, requires_grad=not given)

    def groups(self, elements, inputs=None):
        """See :class:`Potential`."""
        return (ParityGroup(self.placed(elements), self.level),)
