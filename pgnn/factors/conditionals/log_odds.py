"""Scores of conditionals of a binary child that are the log odds of its second state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class LogOdds:
    r"""Scores :math:`b + w^\top f` of an :class:`Additive` conditional, as one column.

    Attributes:
        weight: ``(F,)`` log odds for each feature.
        bias: Log odds where all features are 0.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def _offset(self) -> Tensor:
        return self.bias.reshape(1)

    def _scores(self) -> Tensor:
        return self.weight[:, None]

    def _log_probs(self, score: Tensor) -> Tensor:
        return logsigmoid(torch.cat([-score, score], dim=-1))
