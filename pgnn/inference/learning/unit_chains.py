"""Block Gibbs chains for learning models of units, with optional tempering."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.factors.units.unit_layers import State, UnitCoupling, UnitLayers


class Phase(NamedTuple):
    """Features of each layer in one phase of a gradient, whose products are averaged.

    Attributes:
        values: ``(N, n d)`` sampled or expected features by name of the layer.
        weights: ``(N,)`` weights of the rows; None if equal.
    """

    values: State
    weights: Tensor | None = None

    @property
    def shares(self) -> Tensor | None:
        """``(N,)`` normalised weights; None if equal."""
        return None if self.weights is None else self.weights / self.weights.sum()


@dataclass(eq=False)
class UnitChains:
    """Persistent chains, which continue while the parameters change.

    Attributes:
        state: Values ``(R C, n d)`` of every layer, the chains of one temperature being adjacent.
        betas: Inverse temperatures from 1 down; one without tempering.
        rng: Random generator.
        base: Biases at inverse temperature zero.
        goes_on: Whether the side that was sampled last is needed again.
        swaps: Acceptance rates of the last exchanges between neighbouring temperatures.
    """

    state: State
    betas: tuple[float, ...]
    rng: torch.Generator
    base: State
    goes_on: bool = True
    swaps: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of chains per temperature."""
        return next(len(x) for x in self.state.values()) // len(self.betas)

    def advance(self, layers: UnitLayers, sides: tuple[list[Hashable], ...], sweeps: int) -> State:
        """Run sweeps, and return features of every layer at temperature one.

        Features of the side that was sampled last are expectations given the other.
        """
        if len(self.betas) == 1:
            return self._sweep(layers, sides, self.state, sweeps)
        parts = {n: list(x.chunk(len(self.betas))) for n, x in self.state.items()}
        shown: State = {}
        for r, beta in enumerate(self.betas):
            warm = layers if beta == 1.0 else layers.scaled(beta, self.base)
            replica = {n: x[r] for n, x in parts.items()}
            swept = self._sweep(warm, sides, replica, sweeps)
            shown = swept if r == 0 else shown
            for n, x in replica.items():
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
        """Propose exchanges of states between neighbouring temperatures, pair by pair."""
        cold = layers.scaled(0.0, self.base)
        gaps = []
        for r in range(len(self.betas)):
            replica = {n: x[r] for n, x in parts.items()}
            gaps.append(layers.log_score(replica) - cold.log_score(replica))
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
    couplings: Sequence[Tensor] | None = None,
    step: float | None = None,
) -> tuple[State, list[Tensor]]:
    r"""Return gradients of the negative log-likelihood with respect to biases and couplings.

    .. math:: \nabla W_{ab} = \langle (x_a - \mu_a)(x_b - \mu_b)^\top \rangle_{\text{model}} -
        \langle \cdot \rangle_{\text{data}}, \qquad
        \nabla b_a = \langle x_a \rangle_{\text{model}} - \langle x_a \rangle_{\text{data}}
        - \sum_b \nabla W_{ab} \mu_b

    Args:
        layers: The layers.
        data: Features with the visible units clamped.
        model: Features with all units free.
        offsets: Offsets :math:`\mu` of each layer; zeros if not given.
        couplings: Output tensors for gradients of couplings, if any.
        step: If given, ``couplings`` are parameters between different layers that are updated in
            place by a gradient step of this size, without storing gradients.

    References:
        Melchior, Fischer and Wiskott (2016), How to center deep Boltzmann machines.
    """
    gap = _Difference(layers, data, model, offsets)
    biases = gap.of_biases(layers.couplings)
    if couplings is None:
        couplings = [torch.empty_like(c.matrix) for c in layers.couplings]
    for c, g in zip(layers.couplings, couplings, strict=True):
        half = 0.5 if c.is_within else 1.0
        gap.add_product(g, c, half if step is None else -step, keep=step is not None)
    return biases, list(couplings)


class _Difference:
    """Differences between model and data averages of products of centred features.

    Rows of both are concatenated, so that each product of layers is one matrix product.

    Args:
        layers: The coupled layers.
        data: Units with the visible ones clamped.
        model: Units with all of them free.
        offsets: By name; zeros without.
    """

    def __init__(
        self, layers: UnitLayers, data: Phase, model: Phase, offsets: State | None
    ) -> None:
        self._offsets = offsets
        self._features = {
            n: _stacked(
                layers.kinds[n].features(model.values[n]),
                layers.kinds[n].features(data.values[n]),
                None if offsets is None else offsets[n],
            )
            for n in layers.names
        }
        like = next(iter(self._features.values()))
        rows = [next(len(x) for x in phase.values.values()) for phase in (model, data)]
        parts = [
            like.new_full((n,), sign / n) if phase.shares is None else sign * phase.shares
            for n, phase, sign in zip(rows, (model, data), (1.0, -1.0), strict=True)
        ]
        self._shares = torch.cat(parts)
        self._weighted: State = {}

    def add_product(self, out: Tensor, c: UnitCoupling, scale: float, keep: bool) -> None:
        r"""Write the difference of :math:`s \langle x_a x_b^\top \rangle`, or add it to ``out``."""
        if c.first not in self._weighted:
            self._weighted[c.first] = self._features[c.first] * self._shares[:, None]
        left, right = self._weighted[c.first], self._features[c.second]
        torch.addmm(out, left.T, right, beta=float(keep), alpha=scale, out=out)

    def of_biases(self, couplings: Sequence[UnitCoupling]) -> State:
        r"""Return differences of :math:`\langle x_a (1 - \sum_b x_b^\top \mu_b) \rangle`.

        This is the change of a bias, in which :math:`\mu_a` cancels.
        """
        left = dict.fromkeys(self._features, self._shares)
        if self._offsets is not None:
            along = {n: (x @ self._offsets[n]).mul_(self._shares)
                     for n, x in self._features.items()}  # fmt: skip
            for c in couplings:
                if c.is_within:
                    left[c.first] = left[c.first] - 0.5 * along[c.first]
                else:
                    left[c.first] = left[c.first] - along[c.second]
                    left[c.second] = left[c.second] - along[c.first]
        return {n: left[n] @ x for n, x in self._features.items()}


def _stacked(first: Tensor, second: Tensor, offset: Tensor | None) -> Tensor:
    """Return rows of both, less an offset."""
    if offset is None:
        return torch.cat([first, second])
    both = first.new_empty(len(first) + len(second), first.shape[1])
    torch.sub(first, offset, out=both[: len(first)])
    torch.sub(second, offset, out=both[len(first) :])
    return both


def average(x: Tensor, shares: Tensor | None) -> Tensor:
    """Return the mean of rows ``(N, n)``, with optional weights ``(N,)``."""
    return x.mean(0) if shares is None else shares @ x
