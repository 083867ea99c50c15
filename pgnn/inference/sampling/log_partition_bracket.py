"""Forward and reverse annealed importance sampling: stochastic bounds on log Z."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.randomness import generator
from pgnn.factors.units.unit_layers import State, UnitLayers, UnitModel, two_sides
from pgnn.limits import check_work, whole_number


@dataclass(frozen=True)
class LogPartitionBracket:
    r"""A stochastic lower and a stochastic upper bound on :math:`\log Z`.

    Attributes:
        lower: Estimate by annealing from no couplings to the model; with high probability too
            small.
        upper: Estimate by annealing from the model to no couplings; with high probability too large
            if the reverse chains started from samples of the model.
        lower_error: Standard error of ``lower``, from the variance between chains.
        upper_error: Standard error of ``upper``.
        chains: Number of chains in either direction.
        temperatures: Number of steps.
        start: Start of the reverse chains: ``"exact draws"``, ``"rows"`` or ``"chains"``.

    Example:
        >>> bracket = LogPartitionBracket(10.0, 12.0, 0.1, 0.2, 100, 1000, "chains")
        >>> bracket.gap
        2.0
        >>> print(bracket)
        log Z between 10.00 (+- 0.10) and 12.00 (+- 0.20), gap 2.00
    """

    lower: float
    upper: float
    lower_error: float
    upper_error: float
    chains: int
    temperatures: int
    start: str

    @property
    def gap(self) -> float:
        """The difference of the bounds."""
        return self.upper - self.lower

    def log_prob(self, log_score: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds on log probabilities, given unnormalised ones."""
        return log_score - self.upper, log_score - self.lower

    def __str__(self) -> str:
        return (
            f"log Z between {self.lower:.2f} (+- {self.lower_error:.2f}) and {self.upper:.2f} "
            f"(+- {self.upper_error:.2f}), gap {self.gap:.2f}"
        )


def log_partition_bracket(
    model: Any,
    rows: Mapping[Hashable, Tensor] | None = None,
    *,
    chains: int = 100,
    temperatures: int = 1000,
    burn_in: int = 1000,
    seed: int | None = None,
) -> LogPartitionBracket:
    r"""Return a stochastic lower and a stochastic upper bound on :math:`\log Z`.

    .. math:: \log p_\beta(v) = (1 - \beta)\, b_0^\top v + \beta\, b^\top v
        + \sum_j \log(1 + e^{c_j(\beta) + \beta W_{\cdot j}^\top v}), \qquad
        \log \hat Z = \log Z_0 + \log \frac1C \sum_c \prod_t \frac{p_{\beta_{t+1}}}{p_{\beta_t}}

    One side of the layers is summed out in closed form, the other is sampled by Gibbs sweeps. The
    mean weight is an unbiased estimate of :math:`Z` forward and of :math:`1 / Z` in reverse.

    Args:
        model: A model whose layers form a bipartite graph: a restricted or a deep Boltzmann
            machine.
        rows: ``(N, n d)`` complete values of visible layers, whose means determine the biases of
            the model without couplings, and from which, after ``burn_in`` sweeps, the reverse
            chains start; without rows, these start from the final states of the forward chains.
        chains: Number of chains ``C`` in either direction.
        temperatures: Number of evenly spaced steps of :math:`\beta` from 0 to 1.
        burn_in: Number of sweeps of the model before the reverse chains.
        seed: Random seed; the same seed gives the same bounds.

    Raises:
        ModelError: If the graph of the layers is not bipartite.

    Cost:
        ``2 chains temperatures`` sweeps.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks.
        Burda, Grosse and Salakhutdinov (2015), Accurate and conservative estimates of MRF
        log-likelihood using reverse annealing.
    """
    if not isinstance(model, UnitModel):
        raise ModelError(
            "a log-partition bracket needs a model of layers of units, got a "
            f"{type(model).__name__}"
        )
    chains = whole_number("chains", chains, 2, ModelError)
    temperatures = whole_number("temperatures", temperatures, 1, ModelError)
    burn_in = whole_number("burn_in", burn_in, 0, ModelError)
    with torch.no_grad():
        layers: UnitLayers = model.layers()
        units = sum(layers.size(n) for n in layers.names)
        what = f"{chains:,} chains of {temperatures:,} temperatures and {burn_in:,} more sweeps"
        check_work(what, chains * (2.0 * temperatures + burn_in) * units)
        rng = torch.Generator(layers.like.device)
        rng.manual_seed(generator(seed).initial_seed())
        path = _Path.between(layers, model, rows, temperatures)
        forward, state = path.forward(chains, rng)
        if rows is not None:
            number = next(len(x) for x in rows.values())
            which = torch.randperm(number, generator=generator(seed))[:chains]
            which = which.repeat(-(-chains // len(which)))[:chains]
            state = path.complete({n: x[which.to(x.device)] for n, x in rows.items()}, rng)
        for _ in range(burn_in):
            layers.sweep(state, rng, path.order)
        backward = path.backward(state, rng)
    lower, lower_error = _mean(forward)
    upper, upper_error = _mean(backward)
    return LogPartitionBracket(
        path.log_start + lower, path.log_start - upper, lower_error, upper_error, chains,
        temperatures, "chains" if rows is None else "rows",
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Path:
    """Distributions between independent units and the model."""

    layers: UnitLayers
    base: State
    kept: list[Any]
    summed: list[Any]
    steps: int
    log_start: float

    @classmethod
    def between(cls, layers: UnitLayers, model: Any, rows: Any, steps: int) -> _Path:
        sides = two_sides(layers, list(model.visible))
        if len(sides) == 1:
            raise ModelError(
                "the layers do not form a bipartite graph",
                "AnnealedImportanceSampling() supports any field",
            )
        base = dict(layers.biases)
        for n in model.visible:
            if rows is not None:
                base[n] = layers.kinds[n].field_of(rows[n].mean(0))
        kept, summed = sides
        if sum(layers.size(n) for n in kept) > sum(layers.size(n) for n in summed):
            # sum out the larger side, unless the data does not include the smaller one
            kept, summed = summed, kept
        cold = layers.scaled(0.0, base)
        start = sum(
            float(cold.kinds[n].log_normaliser(cold.biases[n][None])[0]) for n in cold.names
        )
        return cls(layers, base, kept, summed, steps, start + float(layers.log_constant))

    @property
    def order(self) -> list[Any]:
        """The order in which layers are sampled."""
        return [*self.summed, *self.kept]

    def at(self, beta: float) -> UnitLayers:
        """Return the layers at an inverse temperature."""
        return self.layers.scaled(beta, self.base)

    def complete(self, state: State, rng: torch.Generator) -> State:
        """Sample the missing hidden layers."""
        hidden = [n for n in self.layers.names if n not in state]
        completed, _ = self.layers.mean_field(state, hidden, steps=5, tolerance=0.0)
        for n in hidden:
            completed[n] = self.layers.draw(n, completed, rng)
        return completed

    def score(self, layers: UnitLayers, state: State) -> Tensor:
        """``(C,)`` log scores with one side summed out."""
        return layers.log_sum({n: state[n] for n in self.kept}, self.summed)

    def forward(self, chains: int, rng: torch.Generator) -> tuple[Tensor, State]:
        """Return log weights from independent units to the model, and the final states."""
        now = self.at(0.0)
        state = now.start(chains, rng)
        log_weights = now.like.new_zeros(chains, dtype=torch.float64)
        for t in range(1, self.steps + 1):
            following = self.at(t / self.steps)
            log_weights += self.score(following, state).double() - self.score(now, state).double()
            now = following
            now.sweep(state, rng, self.order)
        return log_weights, state

    def backward(self, state: State, rng: torch.Generator) -> Tensor:
        """Return log weights from the model to independent units."""
        now = self.at(1.0)
        log_weights = now.like.new_zeros(self._count(state), dtype=torch.float64)
        state = dict(state)
        for t in range(self.steps - 1, -1, -1):
            following = self.at(t / self.steps)
            now.sweep(state, rng, self.order)
            log_weights += self.score(following, state).double() - self.score(now, state).double()
            now = following
        return log_weights

    @staticmethod
    def _count(state: State) -> int:
        return next(len(x) for x in state.values())


def _mean(log_weights: Tensor) -> tuple[float, float]:
    """Return the log of the mean weight, and its standard error by the delta method."""
    count = len(log_weights)
    total = log_weights.logsumexp(0) - math.log(count)
    ratio = (log_weights - total).exp()
    return float(total), float(ratio.std() / math.sqrt(count))
