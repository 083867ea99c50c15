"""Slices of reals that are linear in the one before, in a way that discrete states choose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.logspace import logsumexp
from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.time.gaussian_chain import covariance_of

LOG_2PI = math.log(2.0 * math.pi)


class Regimes(NamedTuple):
    """The belief about a slice: a normal distribution for each discrete state.

    Attributes:
        logs: ``(B, *, J)`` logs of the probabilities of the states.
        mean: ``(B, *, J, D)``.
        covariance: ``(B, *, J, D, D)``.
    """

    logs: Tensor
    mean: Tensor
    covariance: Tensor


class SwitchingFiltered(NamedTuple):
    """What was known of each slice at its step.

    Attributes:
        now: The regimes given the observations of the step.
        pairs: ``(B, T - 1, J, J)`` logs of the probabilities of the states of a step and the next
            one, given the observations up to the next one.
        increments: ``(B, T)`` logs of the observations given the observations before.
    """

    now: list[Regimes]
    pairs: list[Tensor]
    increments: Tensor


@dataclass(frozen=True, eq=False)
class SwitchingChain:
    r"""A chain of discrete states, and of real slices that are linear given these.

    .. math:: x_t \sim N(A_{z_{t-1} z_t} x_{t-1} + b_{z_{t-1} z_t}, Q_{z_{t-1} z_t})

    The exact filter is a mixture whose number of components grows with every step. It is projected
    to one normal distribution for each current state, with the mean and covariance of all
    components that end in it (generalised pseudo-Bayes of order two; higher with
    :meth:`remembering`). The backward pass uses Kim's approximation, in which the previous state
    depends on the next state and on the observations so far.

    Args:
        states: The chain of discrete states given the observed discrete variables.
        start: Distribution of the first slice, with an axis for its state.
        move: Distribution of a slice given the previous one, with axes for the states of both.
        observed: ``(B, T, D)`` observed values of the slices, ``NaN`` elsewhere.
        last: ``(B,)`` last step with an observation; later steps carry no information.

    Cost:
        :math:`O(B T J^2 D^3)`.

    References:
        Kim (1994), Dynamic linear models with Markov-switching, sections 2 and 3; Murphy (1998),
        Switching Kalman filters; Barber (2012), Bayesian reasoning and machine learning,
        chapter 25.
    """

    states: ChainTensors
    start: Regression
    move: Regression
    observed: Tensor
    last: Tensor

    def remembering(self, memory: int) -> SwitchingChain:
        """Return the chain whose states are the joint states of several steps.

        It has one normal distribution for each history of these steps.

        Args:
            memory: Number of steps.
        """
        chain, k = self.states, self.states.num_states
        code = torch.arange(k**memory)
        now, before = code % k, code // k
        follows = code[:, None] % k ** (memory - 1) == before[None, :]
        initial = chain.initial[:, now].masked_fill(before > 0, -math.inf)
        pairs = now[:, None], now[None, :]
        transition = chain.transition[..., pairs[0], pairs[1]].masked_fill(~follows, -math.inf)
        states = ChainTensors(initial, transition, chain.field[..., now], chain.lengths)
        start = Regression(*(x.expand(k, *x.shape[1:])[now] for x in self.start))
        move = Regression(*(x.expand(k, k, *x.shape[2:])[pairs] for x in self.move))
        return SwitchingChain(states, start, move, self.observed, self.last)

    def filtered(self) -> SwitchingFiltered:
        """Return the filtered slices, and the log evidence."""
        chain, (rows, steps, _) = self.states, self.observed.shape
        if not steps:
            return SwitchingFiltered([], [], self.observed.new_zeros(rows, 0))
        k = chain.num_states
        noise = covariance_of(self.move)
        logs = chain.initial.expand(rows, k) + chain.field[:, 0]
        mean = self.start.bias.expand(rows, k, -1)
        covariance = covariance_of(self.start).expand(rows, k, -1, -1)
        regimes, gained = self._updated(0, Regimes(logs, mean, covariance))
        now, pairs, increments = [regimes], [], [gained]
        for t in range(1, steps):
            ahead, _ = self._moved(regimes, noise)
            change = chain.transition[:, min(t - 1, chain.transition.shape[1] - 1)]
            logs = regimes.logs.unsqueeze(-1) + change + chain.field[:, t].unsqueeze(1)
            both, gained = self._updated(t, Regimes(logs, ahead.mean, ahead.covariance))
            pairs.append(both.logs)
            regimes = _chosen(chain.within[:, t], projected(both, axis=1), now[-1])
            now.append(regimes)
            increments.append(gained.masked_fill(~chain.within[:, t], 0.0))
        return SwitchingFiltered(now, pairs, torch.stack(increments, dim=1))

    def smoothed(self, filtered: SwitchingFiltered) -> list[Regimes]:
        """Return the smoothed slices."""
        noise, smoothed = covariance_of(self.move), filtered.now[-1:]
        for t in reversed(range(self.observed.shape[1] - 1)):
            now, later = filtered.now[t], smoothed[-1]
            ahead, across = self._moved(now, noise)
            factor = _cholesky(ahead.covariance)
            gain = torch.cholesky_solve(across, factor).mT
            mean = now.mean.unsqueeze(2) + _times(gain, later.mean.unsqueeze(1) - ahead.mean)
            eye = torch.eye(mean.shape[-1], dtype=mean.dtype)
            rest = eye - gain @ self.move.weight
            covariance = (
                rest @ now.covariance.unsqueeze(2) @ rest.mT
                + gain @ (noise + later.covariance.unsqueeze(1)) @ gain.mT
            )
            pairs = filtered.pairs[t]
            before = pairs - finite(logsumexp(pairs, [1], keepdim=True))
            both = Regimes(later.logs.unsqueeze(1) + before, mean, covariance)
            smoothed.append(_chosen(t < self.last, projected(both, axis=2), now))
        return smoothed[::-1]

    def side_by_side(self, regimes: list[Regimes]) -> Regimes:
        """Return the regimes of all steps with an axis for these behind that of the rows."""
        if regimes:
            return Regimes(*(torch.stack(x, dim=1) for x in zip(*regimes, strict=True)))
        (rows, _, size), k = self.observed.shape, self.states.num_states
        shapes = [(rows, 0, k), (rows, 0, k, size), (rows, 0, k, size, size)]
        return Regimes(*(self.observed.new_zeros(shape) for shape in shapes))

    def _moved(self, now: Regimes, noise: Tensor) -> tuple[Regimes, Tensor]:
        """Slices ahead for each pair of states, and their covariances with the present ones."""
        weight = self.move.weight
        mean = _times(weight, now.mean.unsqueeze(2)) + self.move.bias
        across = weight @ now.covariance.unsqueeze(2)
        return Regimes(now.logs, mean, across @ weight.mT + noise), across

    def _updated(self, t: int, ahead: Regimes) -> tuple[Regimes, Tensor]:
        """Normalised regimes given the observations of a step, and the log of its probability."""
        values = self.observed[:, t]
        present = ~values.isnan()
        logs, mean, covariance = ahead
        if bool(present.any()):
            lead = [len(values), *[1] * (mean.dim() - 2), values.shape[1]]
            mask, known = present.reshape(lead), values.nan_to_num(nan=0.0).reshape(lead)
            both = mask.unsqueeze(-1) & mask.unsqueeze(-2)
            unit = torch.diag_embed((~mask).to(mean))
            factor = _cholesky(torch.where(both, covariance, 0.0) + unit)
            error = torch.where(mask, known - mean, 0.0)
            white = torch.linalg.solve_triangular(factor, error.unsqueeze(-1), upper=False)
            size = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            count = present.to(mean).sum(dim=1).reshape(lead[:-1])
            logs = logs - 0.5 * white.square().sum((-2, -1)) - size - 0.5 * LOG_2PI * count
            across = torch.where(mask.unsqueeze(-1), covariance, 0.0)
            gain = torch.cholesky_solve(across, factor).mT
            rest = torch.eye(mean.shape[-1], dtype=mean.dtype) - gain
            mean = torch.where(mask, known, mean + _times(gain, error))
            hidden = ~mask.unsqueeze(-1) & ~mask.unsqueeze(-2)
            # the gain has no columns for unobserved components
            covariance = torch.where(hidden, rest @ covariance @ rest.mT, 0.0)
        total = logsumexp(logs, [*range(1, logs.dim())])
        shape = [-1, *[1] * (logs.dim() - 1)]
        return Regimes(logs - finite(total).reshape(shape), mean, covariance), total


def projected(both: Regimes, axis: int) -> Regimes:
    """Return one normal distribution for all that differ along an axis, with their moments."""
    total = logsumexp(both.logs, [axis])
    share = (both.logs - finite(total).unsqueeze(axis)).exp()
    mean = (share.unsqueeze(-1) * both.mean).sum(axis)
    error = both.mean - mean.unsqueeze(axis)
    spread = both.covariance + error.unsqueeze(-1) * error.unsqueeze(-2)
    return Regimes(total, mean, (share[..., None, None] * spread).sum(axis))


def _chosen(rows: Tensor, first: Regimes, second: Regimes) -> Regimes:
    """Return the first regimes in some rows ``(B,)``, the second ones in the others."""
    pairs = zip(first, second, strict=True)
    return Regimes(*(torch.where(rows.reshape(-1, *[1] * (x.dim() - 1)), x, y) for x, y in pairs))


def finite(logs: Tensor) -> Tensor:
    """Return logs, to be subtracted, with zeros in place of minus infinity."""
    return logs.masked_fill(logs.isneginf(), 0.0)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)


def _cholesky(matrices: Tensor) -> Tensor:
    """Return Cholesky factors; ``NaN`` if a covariance is not positive definite.

    Raises:
        ModelError: If a matrix is not positive definite, and nobody differentiates.
    """
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex((matrices + matrices.mT) / 2)
    lost = info > 0
    if not bool(lost.any()):
        return factor
    if factor.requires_grad:
        return factor.masked_fill(lost[..., None, None], torch.nan)
    raise ModelError(
        "a covariance of the slices is not positive definite: a variable has no noise, or numbers "
        "are at the end of their precision"
    )
