"""Paths through chains by torch operations: the best, the k best, exact draws, their scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.chains.torch_chain import TorchChain
from pgnn.inference.semiring import MAX, draw


class TorchChainPaths:
    """Paths through the rows of a chain; see :class:`~pgnn.inference.chains.chain.Chain`.

    Args:
        tensors: The chain.
        scan: As of :class:`~pgnn.inference.chains.torch_chain.TorchChain`.
    """

    def __init__(self, tensors: ChainTensors, scan: bool | None = None) -> None:
        self.tensors = tensors
        self.scan = scan

    def best(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, T)`` most probable states and ``(B,)`` their scores."""
        hard = TorchChain(self.tensors.detach(), self.scan, MAX)
        alpha = hard.alpha()
        score = hard.total(alpha)
        B, T, _ = alpha.shape
        states = torch.full((B, T), -1, device=alpha.device)
        last = self.tensors.ends - 1
        at = torch.zeros(B, dtype=torch.int64, device=alpha.device)
        for t in range(T - 1, -1, -1):
            weights = alpha[:, t]
            if t < T - 1:
                step = self._towards(hard, t, at)
                weights = torch.where((t < last)[:, None], weights + step, weights)
            at = weights.argmax(1)
            states[:, t] = at
        return self._barred(states, score), score

    def best_k(self, k: int) -> tuple[Tensor, Tensor]:
        """Return ``(B, k, T)`` most probable paths and ``(B, k)`` their scores."""
        tensors = self.tensors.detach()
        B, T, K = tensors.field.shape
        hard = TorchChain(tensors, False, MAX)
        reach = torch.full((B, K, k), -math.inf).to(tensors.field)
        reach[:, :, 0] = hard.first
        stay = torch.arange(K * k, device=reach.device).view(K, k).expand(B, K, k)
        came = []
        for t in range(1, T):
            ways = reach[:, None] + hard.step(t - 1).mT[..., None]  # to, from, rank
            top, origin = _largest(ways.flatten(2), k)
            inside = (t < tensors.ends)[:, None, None]
            reach = torch.where(inside, top + tensors.field[:, t, :, None], reach)
            came.append(torch.where(inside, origin, stay))
        scores, at = _largest(reach.flatten(1), k)
        states = torch.full((B, k, T), -1, device=reach.device)
        for t in range(T - 1, -1, -1):
            states[:, :, t] = at // k
            if t:
                at = came[t - 1].flatten(1).gather(1, at)
        empty = tensors.ends == 0
        scores[empty] = torch.where(torch.arange(k) > 0, -math.inf, 0.0).to(scores)
        return self._barred(states, scores), scores

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return ``(n, B, T)`` exact draws."""
        soft = TorchChain(self.tensors.detach(), self.scan)
        alpha = soft.alpha()
        B, T, _ = alpha.shape
        states = torch.full((n, B, T), -1, device=alpha.device)
        at = torch.zeros((n, B), dtype=torch.int64, device=alpha.device)
        last = self.tensors.ends - 1
        for t in range(T - 1, -1, -1):
            weights = alpha[:, t].expand(n, -1, -1)
            if t < T - 1:
                step = self._towards(soft, t, at)
                weights = torch.where((t < last)[:, None], weights + step, weights)
            uniform = torch.rand(n, B, dtype=torch.float64, generator=generator)
            at = draw(weights, uniform.to(alpha.device), -1)
            states[:, :, t] = at
        return self._barred(states, soft.total(alpha).expand(n, -1))

    def log_score(self, states: Tensor) -> Tensor:
        """Return the logs of what paths weigh, ``(..., B)`` of states ``(..., B, T)``."""
        tensors = self.tensors
        within = tensors.within
        if not within.shape[1]:
            return tensors.field.new_zeros(states.shape[:-1])
        at = torch.where(within, states.to(within.device), 0)
        absent = (at < 0).any(-1)
        at = at.clamp(min=0)
        field = tensors.field.expand(*at.shape, -1).gather(-1, at[..., None])[..., 0]
        initial = tensors.initial.expand(*at.shape[:-1], -1).gather(-1, at[..., :1])[..., 0]
        B, T = within.shape
        rows = torch.arange(B, device=at.device)[:, None] % tensors.transition.shape[0]
        steps = torch.arange(T - 1, device=at.device) % max(tensors.transition.shape[1], 1)
        moved = tensors.transition[rows, steps, at[..., :-1], at[..., 1:]]
        total = field.masked_fill(~within, 0.0).sum(-1)
        total = total + moved.masked_fill(~within[:, 1:], 0.0).sum(-1)
        total = total + initial.masked_fill(~within[:, 0], 0.0)
        return total.masked_fill(absent, -math.inf)

    def _towards(self, chain: TorchChain, t: int, at: Tensor) -> Tensor:
        """Logs of the transitions from every state at step ``t`` to given ones, ``(..., B, K)``."""
        table = chain.step(t).mT
        rows = torch.arange(at.shape[-1], device=at.device) % len(table)
        return table[rows, at]

    def _barred(self, states: Tensor, score: Tensor) -> Tensor:
        within = self.tensors.within
        within = within[:, None] if states.dim() == 3 and len(states) == len(within) else within
        return states.masked_fill(~within | score.isneginf()[..., None], -1)


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of the last axis, of equal ones the first; ``-inf`` for want of more."""
    short = k - values.shape[-1]
    if short > 0:
        values = torch.nn.functional.pad(values, (0, short), value=-math.inf)
    top, index = values.sort(dim=-1, descending=True, stable=True)
    return top[..., :k], index[..., :k].clamp(max=values.shape[-1] - max(short, 0) - 1)
