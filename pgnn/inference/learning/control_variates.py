"""Control variates, which take the noise out of score-function gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pgnn.errors import Unsupported
from pgnn.factors.randomness import private_randomness

_FADING = 0.9
"""Decay rate of the running means."""
_RATE = 0.003
"""Learning rate of the networks."""


class Signal(NamedTuple):
    """Some draws, and the part of the log weights that depends on them.

    Attributes:
        log_weights: ``(S, G)`` learning signals.
        log_q: ``(S, G)`` log probabilities of the draws, differentiable.
        given: ``(S, G, F)`` values on which the draws are conditioned; None if unknown.
    """

    log_weights: Tensor
    log_q: Tensor
    given: Tensor | None = None


def layer_signals(
    log_p: Sequence[Tensor], log_q: Sequence[Tensor], given: Sequence[Tensor]
) -> tuple[Signal, ...]:
    r"""Return the signals of layers that are drawn in sequence.

    .. math:: l_k = \sum_{j \ge k} \log p_j - \log q_j

    The terms of earlier layers are known when layer ``k`` is drawn; they multiply a score of mean
    zero and are omitted.

    Args:
        log_p: ``(S, G)`` terms of the log density; term ``j`` depends on layers from ``j - 1`` on.
        log_q: ``(S, G)`` log probabilities of the layers.
        given: ``(S, G, F)`` values on which each layer is conditioned.

    References:
        Mnih and Gregor (2014), Neural variational inference and learning in belief networks.
    """
    ratios = [(p - q).detach() for p, q in zip(log_p, log_q, strict=True)]
    after = list(accumulate(reversed(ratios)))[::-1]
    return tuple(Signal(*parts) for parts in zip(after, log_q, given, strict=True))


@dataclass(eq=False)
class Running:
    """Running statistics of the signals of a layer over previous steps.

    Attributes:
        mean: Mean, a scalar or ``(G,)``; in the first step ``(S, G)`` means of the other draws.
        variance: Variance.
        size: Unit of the predictions of the network: the standard deviation of the first signals.
    """

    mean: Tensor
    variance: float
    size: float


class ControlVariates:
    r"""Baselines and scales of the signals :math:`l_k` that multiply scores.

    .. math:: \nabla E_q[f] = E_q\Big[\nabla f + \sum_k \frac{l_k - c_k - C_k(x_{k-1})}
        {\max(1, s_k)} \nabla \log q(x_k \mid x_{k-1})\Big]

    where :math:`c_k` and :math:`s_k` are a running mean and standard deviation and the network
    :math:`C_k` predicts the signal. All are computed from previous steps, so the gradient is
    unbiased, except for a scale that does not change its direction within a layer. The first step
    uses the mean of the other draws.

    Args:
        units: Hidden units of the networks; 0 for no networks.
        normalise: Whether to divide signals by their standard deviation if it is above 1.
        by_column: Whether each column ``G`` has a separate mean, for columns that are the same at
            each step.
        seed: Random seed of the initial weights of the networks.

    References:
        Mnih and Gregor (2014), Neural variational inference and learning in belief networks.
    """

    def __init__(
        self, units: int = 0, normalise: bool = False, by_column: bool = False, seed: int = 0
    ) -> None:
        self.units, self.normalise, self.by_column = units, normalise, by_column
        self.seed = seed
        self.running: list[Running] = []
        self.networks = nn.ModuleList()
        self._inputs: list[int] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def centred(self, signals: Sequence[Tensor], given: Sequence[Tensor | None]) -> list[Tensor]:
        """Return signals minus their baselines, and update the baselines.

        Args:
            signals: ``(S, G)`` signals of each layer; for several draws, minus the mean of the
                other draws, in which case no running mean is subtracted.
            given: See :class:`Signal`.

        Raises:
            Unsupported: If networks are used and the inputs of the draws are unknown.
        """
        signals = [x.detach() for x in signals]
        if not self.running:
            self._begin(signals, given)
        with torch.enable_grad():
            predicted = self._predictions(given)
            rests = [x - p for x, p in zip(signals, predicted, strict=True)]
            results = [
                self._scaled(r.detach(), x) for r, x in zip(rests, self.running, strict=True)
            ]
            self._learn(rests)
        for r, x in zip(rests, self.running, strict=True):
            self._update(r.detach(), x)
        return results

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :meth:`resume`."""
        return {
            "running": [[x.mean, x.variance, x.size] for x in self.running],
            "networks": self.networks.state_dict(),
            "inputs": self._inputs,
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.running = [Running(*x) for x in state["running"]]
        if state["inputs"]:
            like = next(iter(state["networks"].values()))
            self._make_networks([like.new_empty(0, n) for n in state["inputs"]])
            self.networks.load_state_dict(state["networks"])
            assert self._optimizer is not None
            self._optimizer.load_state_dict(state["optimizer"])

    def _begin(self, signals: Sequence[Tensor], given: Sequence[Tensor | None]) -> None:
        for x in signals:
            number, spread = x.numel(), float(x.std(unbiased=False))
            mean = (x.sum() - x) / (number - 1) if number > 1 else torch.zeros_like(x)
            self.running.append(Running(mean, spread**2, max(spread, 1.0)))
        if self.units:
            known = [x for x in given if x is not None]
            if len(known) < len(given):
                raise Unsupported(
                    "baseline_units= needs a recognition network whose inputs are known, such "
                    "as that of a SigmoidBeliefNetwork",
                    "leave it out",
                )
            self._make_networks(known)

    def _make_networks(self, given: Sequence[Tensor]) -> None:
        self._inputs = [x.shape[-1] for x in given]
        with private_randomness(self.seed):
            for x in given:
                last = nn.Linear(self.units, 1)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
                first = nn.Linear(x.shape[-1], self.units)
                self.networks.append(nn.Sequential(first, nn.Tanh(), last).to(x))
        self._optimizer = torch.optim.Adam(self.networks.parameters(), lr=_RATE)

    def _predictions(self, given: Sequence[Tensor | None]) -> list[Tensor]:
        """``(S, G)`` predicted signals of each layer."""
        if not self.networks:
            return [torch.zeros(())] * len(given)
        predictions = []
        for network, x, held in zip(self.networks, given, self.running, strict=True):
            assert x is not None
            predictions.append(held.size * network(x.detach())[..., 0].to(held.mean))
        return predictions

    def _scaled(self, rest: Tensor, held: Running) -> Tensor:
        """Subtract predictions and mean from the signals of a layer, and normalise them."""
        centred = rest - held.mean if len(rest) == 1 else rest
        return centred / max(1.0, held.variance**0.5) if self.normalise else centred

    def _learn(self, rests: Sequence[Tensor]) -> None:
        """Step the networks towards the signals."""
        if self._optimizer is None:
            return
        self._optimizer.zero_grad()
        losses = [
            ((r - (x.mean if len(r) == 1 else 0.0)) / x.size).square().mean()
            for r, x in zip(rests, self.running, strict=True)
        ]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _update(self, rest: Tensor, held: Running) -> None:
        """Move the mean and the variance towards those of a step."""
        mean = rest.mean(0) if self.by_column else rest.mean()
        variance = float(rest.var(unbiased=False))
        if held.mean.shape != mean.shape:  # the first step
            held.mean, held.variance = mean, variance
            return
        held.mean = _FADING * held.mean + (1 - _FADING) * mean
        held.variance = _FADING * held.variance + (1 - _FADING) * variance
