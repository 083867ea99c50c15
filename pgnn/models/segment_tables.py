"""Segments with durations as tables of a chain over states and remaining steps."""

from __future__ import annotations

import torch
from torch import Tensor


def countdown(moves: Tensor, lasts: Tensor) -> tuple[Tensor, Tensor]:
    """Return tables ``(K, D, K)`` of the next state and ``(K, D, D)`` of its remaining steps.

    Remaining steps count down; at zero the next segment begins.

    Args:
        moves: ``(K, K)`` probabilities of the next segment's state.
        lasts: ``(K, D)`` probabilities of durations 1, ..., D.
    """
    k, longest = lasts.shape
    stay = torch.eye(k, dtype=moves.dtype, device=moves.device)
    go = torch.cat([moves[:, None], stay[:, None].expand(k, longest - 1, k)], dim=1)
    down = torch.eye(longest, dtype=lasts.dtype, device=lasts.device)[: longest - 1]
    count = torch.cat([lasts[:, None], down.expand(k, longest - 1, longest)], dim=1)
    return go, count
