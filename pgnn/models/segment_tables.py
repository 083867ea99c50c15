"""Segments that last as tables of a chain: the state, and the steps that it has left."""

from __future__ import annotations

import torch
from torch import Tensor


def countdown(moves: Tensor, lasts: Tensor) -> tuple[Tensor, Tensor]:
    """Return tables ``(K, D, K)`` of the next state, ``(K, D, D)`` of the steps left then.

    Steps left count down; at zero the next segment begins.

    Args:
        moves: ``(K, K)`` probabilities of the next segment's state.
        lasts: ``(K, D)`` probabilities of lasting 1, ..., D steps.
    """
    k, longest = lasts.shape
    stay = torch.eye(k, dtype=moves.dtype, device=moves.device)
    go = torch.cat([moves[:, None], stay[:, None].expand(k, longest - 1, k)], dim=1)
    down = torch.eye(longest, dtype=lasts.dtype, device=lasts.device)[: longest - 1]
    count = torch.cat([lasts[:, None], down.expand(k, longest - 1, longest)], dim=1)
    return go, count
