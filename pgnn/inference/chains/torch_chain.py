r"""Chains by torch operations in log space, on any device, with derivatives of any order.

Messages are computed by a loop over steps, or by a parallel scan over products of transition
matrices. A row of ``T`` steps takes :math:`O(\log T)` sequential operations and
:math:`O(T K^3)` work with the scan, ``T`` and :math:`O(T K^2)` with the loop.

References:
    Särkkä & García-Fernández (2021), Temporal parallelization of Bayesian smoothers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.semiring import MAX, SUM, Reduction, contract, draw, log_sum_exp

_ROOM = 2**24  # most numbers of an intermediate result


class TorchChain:
    r"""Forward and backward messages of a chain, and the probabilities computed from them.

    .. math:: \alpha_t(k) = \log \sum_{z_{<t}} \tilde p(z_{\le t}, z_t = k), \qquad
        \beta_t(k) = \log \sum_{z_{>t}} \tilde p(z_{>t} \mid z_t = k)

    Beyond the end of a row :math:`\alpha` keeps its last value and :math:`\beta` is zero. All
    results are differentiable any number of times.

    Args:
        tensors: The chain.
        scan: Whether to use the scan; by default, if it is likely to be faster than the loop.
        reduction: Sum, or maximum for best paths.

    Cost: :math:`O(B T K^2)` time with the loop, :math:`O(B T K^3)` with the scan.
    """

    def __init__(
        self, tensors: ChainTensors, scan: bool | None = None, reduction: Reduction = SUM
    ) -> None:
        self.tensors = tensors
        self.reduction = reduction
        self.scan = _scans(tensors) if scan is None else scan
        if tensors.num_steps:
            self.first = tensors.initial + tensors.field[:, 0]
        else:  # zeros that depend on the tensors, for autograd
            none = tensors.initial[:, :0].sum() + tensors.transition.flatten()[:0].sum()
            self.first = tensors.field.sum(1) + none

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` log Z: zero in empty rows, ``-inf`` in impossible ones."""
        return self._total(self._last())

    def alpha(self) -> Tensor:
        """Return ``(B, T, K)`` forward messages."""
        if not self.tensors.num_steps:
            return self.tensors.field
        return self._alpha_by_scan() if self.scan else torch.stack(self._alphas(), 1)

    def beta(self) -> Tensor:
        """Return ``(B, T, K)`` backward messages."""
        if not self.tensors.num_steps:
            return self.tensors.field
        return self._beta_by_scan() if self.scan else torch.stack(self._betas(), 1)

    def marginals(self) -> Tensor:
        """Return ``(B, T, K)`` p(z_t), zero beyond the end, NaN in impossible rows."""
        alpha = self.alpha()
        log_z = self.total(alpha)
        marginals = (alpha + self.beta() - _finite(log_z)[:, None, None]).exp()
        return self._mask_impossible(marginals, log_z)

    def filtered(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, T, K)`` p(z_t | x_1..t) and ``(B, T)`` log p(x_t | x_<t)."""
        alpha = self.alpha()
        total = log_sum_exp(alpha, 2)
        filtered = (alpha - _finite(total)[:, :, None]).exp()
        filtered = filtered.masked_fill(total.isneginf()[:, :, None], math.nan)
        before = torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], 1)
        increments = torch.where(before.isneginf(), math.nan, total - _finite(before))
        outside = ~self.tensors.within
        return filtered.masked_fill(outside[:, :, None], 0.0), increments.masked_fill(outside, 0.0)

    def pairs(self) -> Tensor:
        """Return ``(B, T-1, K, K)`` p(z_t, z_t+1), zero beyond the end."""
        alpha, beta = self.alpha(), self.beta()
        return self._pairs(alpha, beta, self.total(alpha), slice(None))

    def transitions(self) -> Tensor:
        """Return ``(B, K, K)`` expected numbers of transitions."""
        alpha, beta = self.alpha(), self.beta()
        log_z, (B, T, K) = self.total(alpha), self.tensors.field.shape
        block = max(1, _ROOM // max(1, B * K * K))
        total = alpha.new_zeros(B, K, K)
        for t in range(0, T - 1, block):
            total = total + self._pairs(alpha, beta, log_z, slice(t, t + block)).sum(1)
        return total.masked_fill(log_z.isneginf()[:, None, None], math.nan)

    def step(self, t: int) -> Tensor:
        """Return ``(1 or B, K, K)`` logs of the transition from step ``t`` to the next."""
        tables = self.tensors.transition
        return tables[:, t if tables.shape[1] > 1 else 0]

    def total(self, alpha: Tensor) -> Tensor:
        """Return ``(B,)`` log Z, given the forward messages."""
        return self._total(alpha[:, -1]) if alpha.shape[1] else self.log_partition()

    def _total(self, last: Tensor) -> Tensor:
        total = contract([last], self.reduction, 1)
        return torch.where(self.tensors.ends > 0, total, torch.zeros_like(total))

    def _last(self) -> Tensor:
        if not self.tensors.num_steps:
            return self.first
        if not self.scan:
            return self._alphas()[-1]
        steps = self._matrices()
        while steps.shape[1] > 1:
            odd = steps[:, -1:] if steps.shape[1] % 2 else steps[:, :0]
            pairs = self._times(steps[:, 0 : steps.shape[1] - 1 : 2], steps[:, 1::2])
            steps = torch.cat([pairs, odd], 1)
        if not steps.shape[1]:
            return self.first
        return contract([self.first[:, :, None], steps[:, 0]], self.reduction, 1)

    def _alphas(self) -> list[Tensor]:
        alphas, ends = [self.first], self.tensors.ends[:, None]
        for t in range(1, self.tensors.num_steps):
            arrived = contract([alphas[-1][:, :, None], self.step(t - 1)], self.reduction, 1)
            alphas.append(torch.where(t < ends, arrived + self.tensors.field[:, t], alphas[-1]))
        return alphas

    def _betas(self) -> list[Tensor]:
        ends, zero = self.tensors.ends[:, None], torch.zeros_like(self.first)
        betas = [zero]
        for t in range(self.tensors.num_steps - 2, -1, -1):
            ahead = (betas[-1] + self.tensors.field[:, t + 1])[:, None, :]
            ahead = torch.where((t + 1 < ends)[:, None], ahead, zero[:, None])
            sent = contract([ahead, self.step(t)], self.reduction, 2)
            betas.append(torch.where(t + 1 < ends, sent, zero))
        return betas[::-1]

    def _alpha_by_scan(self) -> Tensor:
        steps = prefixes(self._matrices(), self._times)
        moved = contract([self.first[:, None, :, None], steps], self.reduction, 2)
        return torch.cat([self.first[:, None], moved], 1)

    def _beta_by_scan(self) -> Tensor:
        turned = self._matrices().flip(1)
        steps = prefixes(turned, lambda x, y: self._times(y, x)).flip(1)
        sent = contract([steps], self.reduction, 3)
        return torch.cat([sent, torch.zeros_like(self.first)[:, None]], 1)

    def _matrices(self) -> Tensor:
        """Return ``(B, T-1, K, K)`` transition plus field, in logs; identity beyond the end."""
        tensors = self.tensors
        steps = tensors.transition + tensors.field[:, 1:, None, :]
        K = tensors.num_states
        one = torch.full((K, K), -math.inf).fill_diagonal_(0.0).to(steps)
        return torch.where(tensors.within[:, 1:, None, None], steps, one)

    def _times(self, left: Tensor, right: Tensor) -> Tensor:
        return contract([left[..., :, :, None], right[..., None, :, :]], self.reduction, -2)

    def _pairs(self, alpha: Tensor, beta: Tensor, log_z: Tensor, steps: slice) -> Tensor:
        tensors = self.tensors
        tables = tensors.transition
        tables = tables[:, steps] if tables.shape[1] > 1 else tables
        ahead = (tensors.field + beta)[:, 1:][:, steps]
        pairs = alpha[:, :-1][:, steps][..., None] + tables + ahead[:, :, None, :]
        pairs = (pairs - _finite(log_z)[:, None, None, None]).exp()
        pairs = pairs.masked_fill(log_z.isneginf()[:, None, None, None], math.nan)
        return pairs.masked_fill(~tensors.within[:, 1:][:, steps, None, None], 0.0)

    def _mask_impossible(self, marginals: Tensor, log_z: Tensor) -> Tensor:
        marginals = marginals.masked_fill(log_z.isneginf()[:, None, None], math.nan)
        return marginals.masked_fill(~self.tensors.within[:, :, None], 0.0)


def prefixes(elements: Tensor, times: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the prefix products along axis 1, in a logarithmic number of sequential steps.

    Args:
        elements: ``(B, T, ...)``.
        times: An associative product, applied elementwise to two such tensors.
    """
    T = elements.shape[1]
    if T < 2:
        return elements
    odd = prefixes(times(elements[:, 0 : T - 1 : 2], elements[:, 1::2]), times)
    even = times(odd[:, : (T - 1) // 2], elements[:, 2::2])
    even = torch.cat([elements[:, :1], even], 1)
    both = torch.stack([even[:, : odd.shape[1]], odd], 2).flatten(1, 2)
    return torch.cat([both, even[:, odd.shape[1] :]], 1)


def _scans(tensors: ChainTensors) -> bool:
    """Whether the scan is likely to be faster: for few long rows on an accelerator."""
    B, T, K = tensors.field.shape
    return tensors.field.device.type != "cpu" and T > 8 * K and B * T * K**3 <= 4 * _ROOM


def _finite(tops: Tensor) -> Tensor:
    return tops.masked_fill(tops.isneginf(), 0.0)


class TorchChainPaths:
    """Best and drawn paths of a chain; see :class:`~pgnn.inference.chains.chain.Chain`.

    Args:
        tensors: The chain.
        scan: See :class:`~pgnn.inference.chains.torch_chain.TorchChain`.
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
                step = self._transitions_to(hard, t, at)
                weights = torch.where((t < last)[:, None], weights + step, weights)
            at = weights.argmax(1)
            states[:, t] = at
        return self._mask_invalid(states, score), score

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
        return self._mask_invalid(states, scores), scores

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
                step = self._transitions_to(soft, t, at)
                weights = torch.where((t < last)[:, None], weights + step, weights)
            uniform = torch.rand(n, B, dtype=torch.float64, generator=generator)
            at = draw(weights, uniform.to(alpha.device), -1)
            states[:, :, t] = at
        return self._mask_invalid(states, soft.total(alpha).expand(n, -1))

    def log_score(self, states: Tensor) -> Tensor:
        """Return ``(..., B)`` log weights of the paths with states ``(..., B, T)``."""
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

    def _transitions_to(self, chain: TorchChain, t: int, at: Tensor) -> Tensor:
        """Return ``(..., B, K)`` logs of the transitions at step ``t`` to the given states."""
        table = chain.step(t).mT
        rows = torch.arange(at.shape[-1], device=at.device) % len(table)
        return table[rows, at]

    def _mask_invalid(self, states: Tensor, score: Tensor) -> Tensor:
        within = self.tensors.within
        within = within[:, None] if states.dim() == 3 and len(states) == len(within) else within
        return states.masked_fill(~within | score.isneginf()[..., None], -1)


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` largest of the last axis, ties in order; padded with ``-inf``."""
    short = k - values.shape[-1]
    if short > 0:
        values = torch.nn.functional.pad(values, (0, short), value=-math.inf)
    top, index = values.sort(dim=-1, descending=True, stable=True)
    return top[..., :k], index[..., :k].clamp(max=values.shape[-1] - max(short, 0) - 1)
