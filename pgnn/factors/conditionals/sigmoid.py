"""Logistic conditionals of a binary child with binary parents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.conditionals.additive import Additive, require_binary
from pgnn.factors.conditionals.checks import require_table
from pgnn.factors.conditionals.log_odds import LogOdds
from pgnn.factors.conditionals.table_reader import numbers_or_zeros
from pgnn.factors.variable import Variable


class Sigmoid(LogOdds, Additive):
    r"""A logistic unit :math:`p(y = 1 \mid x) = \sigma(b + \sum_i w_i x_i)` over binary variables.

    Args:
        child: Variable with two states; the unit gives the probability of the second.
        parents: Variables with two states; their indices 0 and 1 are the values :math:`x_i`.
        weight: ``(n,)`` log odds that each parent adds; learnable zeros by default.
        bias: Log odds with all parents 0; a learnable zero by default. Given values are float64
            constants.

    Raises:
        ModelError: If a variable is not binary, or a shape or number is wrong.

    Example:
        >>> a, b, y = (Variable(name, 2) for name in "aby")
        >>> unit = Sigmoid(y, [a, b], weight=[2.0, -1.0], bias=0.5)
        >>> unit.distribution({"a": torch.tensor(1), "b": torch.tensor(0)}).probs
        tensor([0.0759, 0.9241], dtype=torch.float64)

    References:
        Neal (1992), Connectionist learning of belief networks, section 3.
    """

    def __init__(
        self, child: Variable, parents: Sequence[Variable], weight: Any = None, bias: Any = None
    ) -> None:
        super().__init__(child, parents)
        require_table(child, self.parents, "Sigmoid")
        require_binary(self.scope, child, "Sigmoid", "Softmax or Tabular")
        self.weight = numbers_or_zeros(f"weight of {child.name!r}", weight, (len(self.parents),))
        self.bias = numbers_or_zeros(f"bias of {child.name!r}", bias, ())

    def _log_weights(self, score: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(score), score], dim=-1)
