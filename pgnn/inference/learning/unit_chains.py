"""Chains of a model of units for learning: block Gibbs, with tempering if it is wanted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.factors.units.unit_layers import State, UnitLayers


class Phase(NamedTuple):
    """What gradients are made of: features of each layer, of which products are averaged.

    Attributes:
        values: ``(N, n d)`` by name of the layer, drawn or expected.
        weights: ``(N,)`` what rows count; None if the same.
    """

    values: State
    weights: Tensor | None = None

    @property
    def shares(self) -> Tensor | None:
        """``(N,)`` weights that sum to one; None if the same."""
        return None if self.weights is None else self.weights / self.weights.sum()


@dataclass(eq=False)
class UnitChains:
    """Chains that go on from step to step while the numbers of the model change.

    Attributes:
        state: Values ``(R C, n d)`` of every layer, the chains of one temperature side by side.
        betas: Inverse temperatures from 1 down; one without tempering.
        rng: Where the draws come from.
        base: Biases where no coupling is left.
        goes_on: Whether the side that was drawn last is needed again.
        swaps: Shares of the last exchanges between neighbouring temperatures that were accepted.
    """

    state: State
    betas: tuple[float, ...]
    rng: torch.Generator
    base: State
    goes_on: bool = True
    swaps: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Chains at each temperature."""
        return next(len(x) for x in self.state.values()) // len(self.betas)

    def advance(self, layers: UnitLayers, sides: tuple[list[Hashable], ...], sweeps: int) -> State:
        """Sweep, and return features of every layer at temperature one.

        Those of the side that was drawn last are expectations given the other.
        """
        if len(self.betas) == 1:
            return self._sweep(layers, sides, self.state, sweeps)
        parts = {n: list(x.chunk(len(self.betas))) for n, x in self.state.items()}
        shown: State = {}
        for r, beta in enumerate(self.betas):
            warm = layers if beta == 1.0 else layers.scaled(beta, self.base)
            own = {n: x[r] for n, x in parts.items()}
            found = self._sweep(warm, sides, own, sweeps)
            shown = found if r == 0 else shown
            for n, x in own.items():
                parts[n][r] = x
        self._exchange(layers, parts)
        for n, each in parts.items():
            self.state[n] = torch.cat(each)
        return {n: x[0] for n, x in parts.items()} if len(sides) == 1 else self._smoothed(
            layers, sides, {n: x[0] for n, x in parts.items()})  # fmt: skip

    def _smoothed(
        self, layers: UnitLayers, sides: tuple[list[Hashable], ...], state: State
    ) -> State:
        return {**state, **{n: layers.mean(n, state) for n in sides[1]}}

    def _sweep(
        self, layers: UnitLayers, sides: tuple[list[Hashable], ...], state: State, sweeps: int
    ) -> State:
        if len(sides) == 1:
            for _ in range(sweeps):
                layers.sweep(state, self.rng)
            return dict(state)
        shown: State = {}
        for k in range(sweeps):
            layers.sweep(state, self.rng, sides[0])
            fields = {n: layers.field(n, state) for n in sides[1]}
            if k == sweeps - 1:
                shown = {n: layers.kinds[n].mean(f) for n, f in fields.items()}
                if not self.goes_on:
                    break
            for n, f in fields.items():
                state[n] = layers.kinds[n].draw(f, self.rng)
        return {**state, **shown}

    def _exchange(self, layers: UnitLayers, parts: dict[Hashable, list[Tensor]]) -> None:
        """Propose to exchange the states of neighbouring temperatures, pair by pair."""
        cold = layers.scaled(0.0, self.base)
        gaps = []
        for r in range(len(self.betas)):
            own = {n: x[r] for n, x in parts.items()}
            gaps.append(layers.log_score(own) - cold.log_score(own))
        self.swaps = []
        for r in range(len(self.betas) - 1):
            ratio = (self.betas[r] - self.betas[r + 1]) * (gaps[r + 1] - gaps[r])
            noise = torch.empty_like(ratio).uniform_(generator=self.rng)
            accepted = noise.log() < ratio
            self.swaps.append(float(accepted.double().mean()))
            gaps[r], gaps[r + 1] = (
                torch.where(accepted, gaps[r + 1], gaps[r]),
                torch.where(accepted, gaps[r], gaps[r + 1]),
            )
            for x in parts.values():
                x[r], x[r + 1] = (
                    torch.where(accepted[:, None], x[r + 1], x[r]),
                    torch.where(accepted[:, None], x[r], x[r + 1]),
                )


def gradients(
    layers: UnitLayers,
    data: Phase,
    model: Phase,
    offsets: State | None,
    out: Sequence[Tensor] | None = None,
) -> tuple[State, list[Tensor]]:
    r"""Return derivatives of the negative log-likelihood by biases and couplings.

    .. math:: \nabla W_{ab} = \langle (x_a - \mu_a)(x_b - \mu_b)^\top \rangle_{\text{model}} -
        \langle \cdot \rangle_{\text{data}}, \qquad
        \nabla b_a = \langle x_a \rangle_{\text{model}} - \langle x_a \rangle_{\text{data}}
        - \sum_b \nabla W_{ab} \mu_b

    Args:
        layers: What is coupled.
        data: Units with the visible ones clamped.
        model: Units with all of them free.
        offsets: :math:`\mu` of each layer; zeros without.
        out: Where derivatives by couplings are to be written, if there are such tensors.

    References:
        Melchior, Fischer and Wiskott (2016), How to center deep Boltzmann machines.
    """
    shares = [phase.shares for phase in (data, model)]
    observed, free = (
        {n: layers.kinds[n].features(x) for n, x in phase.values.items()} for phase in (data, model)
    )
    biases = {n: average(free[n], shares[1]) - average(observed[n], shares[0])
              for n in layers.names}  # fmt: skip
    if offsets is not None:
        observed, free = ({n: x - offsets[n] for n, x in p.items()} for p in (observed, free))
    couplings = []
    for k, c in enumerate(layers.couplings):
        g = torch.empty_like(c.matrix) if out is None else out[k]
        terms = ((free, shares[1], 1.0, 0.0), (observed, shares[0], -1.0, 1.0))
        for features, share, sign, keep in terms:
            left, right = features[c.first], features[c.second]
            if share is None:
                sign /= len(left)
            else:
                left = left * share[:, None]
            g = torch.addmm(g, left.T, right, beta=keep, alpha=sign, out=g)
        g = g.mul_(0.5) if c.is_within else g
        couplings.append(g)
        if offsets is not None:
            biases[c.first] = biases[c.first] - g @ offsets[c.second]
            if not c.is_within:
                biases[c.second] = biases[c.second] - g.T @ offsets[c.first]
    return biases, couplings


def average(x: Tensor, shares: Tensor | None) -> Tensor:
    """Return the mean of rows ``(N, n)``, by shares ``(N,)`` if they do not count the same."""
    return x.mean(0) if shares is None else shares @ x
