"""Passes of contrastive divergence over rows of visible units, which can be resumed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.factors.units.unit_layers import State, UnitLayers, two_sides
from pgnn.inference.learning.minibatches import (
    made_optimizer,
    made_scheduler,
    next_rates,
)
from pgnn.inference.learning.unit_chains import Phase, UnitChains, average, gradients
from pgnn.inference.learning.unit_figures import UnitFigures
from pgnn.inference.learning.unit_rows import UnitRows
from pgnn.inference.learning.unit_source import UnitSource
from pgnn.inference.loop import Info

if TYPE_CHECKING:
    from pgnn.inference.learning.contrastive_divergence import ContrastiveDivergence

_SLIDE = 0.01
"""Step size of the running means that centre the gradients."""
_ACTIVITY = 0.1
"""Step size of the running means of expected activities."""
_LARGEST = 1e4
"""Ratio of final to initial parameters that indicates divergence."""
_FILLS = 5
"""Number of sweeps that impute missing units."""
_SHOWN = 500
"""Number of rows for the metrics of a pass."""


class ContrastivePasses:
    """Contrastive divergence as an iterative method: one step is one pass over the rows.

    Args:
        settings: Of the learner.
        model: A model of layers of units.
        parameters: The learnable parameters.
        source: Source of the rows.

    Attributes:
        passes: Number of completed passes.
        trace: Figures of each pass.

    Raises:
        ModelError: If the settings do not create an optimiser or a scheduler.
    """

    def __init__(
        self,
        settings: ContrastiveDivergence,
        model: Any,
        parameters: list[Tensor],
        source: UnitSource,
    ) -> None:
        self.settings, self.model, self.source = settings, model, source
        self.parameters = parameters
        layers: UnitLayers = model.layers()
        self._names = layers.names
        self._rng = torch.Generator(layers.like.device)
        self._rng.manual_seed(source.rng.initial_seed() + 1)
        self._hidden = [n for n in layers.names if n not in model.visible]
        self._sides = two_sides(layers, list(model.visible))
        self.optimizer = made_optimizer(settings.optimizer or _gradient_descent, parameters)
        self._scheduler = made_scheduler(settings.scheduler or self._falling, self.optimizer)
        self.passes, self.trace = 0, dict[str, list[float]]()
        self._steps, self._begun, self._scale = 0, False, 1.0
        self._best: tuple[float, list[Tensor], int] = (-math.inf, [], 0)
        self._chains: UnitChains | None = None
        self._offsets: State = {}
        self._activity: State = {}
        self._room: list[Tensor] | None = None
        self._live: UnitLayers | None = None

    def init(self) -> int:
        """Return the number of completed passes."""
        return self.passes

    def step(self, state: int) -> tuple[int, Info]:
        """Run a pass.

        Raises:
            PgnnError: If the parameters diverge.
        """
        batch: UnitRows | None = None
        for batch in self.source.batches():
            if not self._begun:
                self._begin(batch)
            self._learn(batch)
        if batch is None:
            raise DataError("data has no rows")
        shown = self.source.rows or batch
        shown = shown.take(torch.arange(min(_SHOWN, len(shown))))
        figures = UnitFigures(self.model, self._rng).of(shown, self.source.held)
        next_rates(self._scheduler, figures["reconstruction_error"])
        self.passes += 1
        self._check(figures["reconstruction_error"])
        for name, value in figures.items():
            self.trace.setdefault(name, []).append(value)
        return self.passes, Info(self._stops(figures), figures)

    def finish(self) -> None:
        """Restore the best parameters, if rows are held out."""
        for p, x in zip(self.parameters, self._best[1], strict=False):
            p.copy_(x)

    # --- resuming -------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state of learning, for :meth:`restore` and :meth:`resume`."""
        chains = self._chains
        return {
            "passes": self.passes,
            "trace": {n: list(x) for n, x in self.trace.items()},
            "steps": self._steps,
            "scale": self._scale,
            "parameters": [p.detach().clone() for p in self.parameters],
            "best": (self._best[0], list(self._best[1]), self._best[2]),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            "offsets": [self._offsets[n].clone() for n in self._names if n in self._offsets],
            "activity": [self._activity[n].clone() for n in self._hidden if n in self._activity],
            "chains": None if chains is None else [chains.state[n].clone() for n in self._names],
            "base": None if chains is None else [chains.base[n].clone() for n in self._names],
            "draws": self._rng.get_state(),
            "order": self.source.rng.get_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume as if learning had never stopped."""
        self._take_up(state)
        self.passes, self._steps, self._scale = state["passes"], state["steps"], state["scale"]
        self.trace = {n: list(x) for n, x in state["trace"].items()}
        self._best = state["best"]
        for p, x in zip(self.parameters, state["parameters"], strict=True):
            p.copy_(x)
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        self._activity = dict(zip(self._hidden, state["activity"], strict=False))
        self._rng.set_state(state["draws"])
        self.source.rng.set_state(state["order"])

    def resume(self, state: Mapping[str, Any] | None, *, draws: bool = False) -> None:
        """Resume chains, offsets and the state of the optimiser of an earlier fit.

        Args:
            state: The result of :meth:`snapshot`.
            draws: Whether to resume random numbers as well.

        Raises:
            ModelError: If there was no earlier fit.
        """
        if state is None:
            raise ModelError(
                "resume=True continues a fit by ContrastiveDivergence, but there was none"
            )
        self._take_up(state)
        rates = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**rates, "state": state["optimizer"]["state"]})
        if draws:
            self._rng.set_state(state["draws"])
            self.source.rng.set_state(state["order"])

    def take_on(self, trace: Mapping[str, list[float]], passes: int) -> None:
        """Prepend the passes and figures of earlier fits."""
        self.passes += passes
        self.trace = {n: [*trace.get(n, ()), *values] for n, values in self.trace.items()}

    def _take_up(self, state: Mapping[str, Any]) -> None:
        self._offsets = dict(zip(self._names, state["offsets"], strict=True))
        self._begun = True
        if state["chains"] is not None and self.settings.persistent:
            values, base = (
                dict(zip(self._names, (x.clone() for x in state[part]), strict=True))
                for part in ("chains", "base")
            )
            self._chains = UnitChains(values, self._betas, self._rng, base)

    # --- helpers --------------------------------------------------------------------------------

    @property
    def _betas(self) -> tuple[float, ...]:
        return tuple(torch.linspace(1, 0, self.settings.tempering).tolist())

    def _falling(self, optimizer: torch.optim.Optimizer) -> Any:
        """A learning rate that decreases to zero over the passes, for the default optimiser."""
        if self.settings.optimizer is not None:
            return None
        epochs = self.settings.epochs
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: max(1 - t / epochs, 0.0))

    def _begin(self, batch: UnitRows) -> None:
        """Initialise couplings by small random values, biases and offsets by means of the data."""
        self._begun = True
        rows = self.source.rows or batch
        layers: UnitLayers = self.model.layers()
        free = {n: layers.kinds[n].mean(torch.zeros_like(b)) for n, b in layers.biases.items()}
        means = {n: rows.mean(n, free[n]) for n in self.model.visible}
        self.model.begin_learning(means, self._rng)
        layers = self.model.layers()
        self._scale = max([1.0, *(float(p.abs().max()) for p in self.parameters)])
        self._offsets = {n: layers.kinds[n].features(m) for n, m in means.items()}
        for n in self._hidden:
            self._offsets[n] = layers.kinds[n].features(free[n])

    def _begin_chains(self, layers: UnitLayers, rows: int) -> UnitChains:
        """Return persistent chains, sampled from the biases."""
        count = self.settings.chains or max(min(self.settings.batch_size, rows), 1)
        base = {n: b.clone() for n, b in layers.biases.items()}
        state = layers.start(count * len(self._betas), self._rng)
        return UnitChains(state, self._betas, self._rng, base)

    def _layers(self) -> UnitLayers:
        """Return the layers with the current parameters; cached if these are plain parameters."""
        if self._live is not None:
            return self._live
        layers: UnitLayers = self.model.layers()
        registered = {id(p) for p in self.model.parameters()}
        numbers = (*layers.biases.values(), *(c.matrix for c in layers.couplings))
        if all(id(x) in registered for x in numbers):
            self._live = layers
        return layers

    def _learn(self, batch: UnitRows) -> None:
        layers = self._layers()
        data, drawn = self._clamped(layers, batch)
        if not self.settings.persistent:
            chains = UnitChains(drawn, (1.0,), self._rng, {}, goes_on=False)
        else:
            chains = self._chains = self._chains or self._begin_chains(layers, len(batch))
        shown = chains.advance(layers, self._sides, self.settings.k)
        weights = None if self.settings.persistent else batch.weights
        phases = Phase(data, batch.weights), Phase(shown, weights)
        offsets = self._offsets if self.settings.centred else None
        # a batch has the total weight of its rows, relative to an average of one
        share = 1.0 if batch.weights is None else float(batch.weights.mean())
        rate = self._plain_rate(layers)
        matrices = self._room if rate is None else [c.matrix for c in layers.couplings]
        step = None if rate is None else rate * share
        biases, couplings = gradients(layers, *phases, offsets, matrices, step)
        self._steps += 1
        if share != 1.0:
            biases = {n: share * b for n, b in biases.items()}
        for n in self._hidden:
            self._follow(layers, n, phases[0], biases)
        total = sum(float(b.sum()) for b in biases.values())
        if not math.isfinite(total):
            raise self._diverged("a gradient is not finite")
        self._step(layers, biases, couplings, rate, share)

    def _step(
        self, layers: UnitLayers, biases: State, couplings: list[Tensor], rate: float | None,
        share: float,
    ) -> None:  # fmt: skip
        """Move the parameters; couplings have been moved if there is a rate."""
        # schedulers require a first step of the optimiser, which has no later effect
        if rate is not None and self._steps > 1 and self.settings.optimizer is None:
            trained = {id(p) for p in self.parameters}
            if all(id(b) in trained for b in layers.biases.values()):
                for n, g in biases.items():
                    layers.biases[n].add_(g.reshape(layers.biases[n].shape), alpha=-rate)
                return
        if rate is not None:
            self.model.set_gradients(biases, [None] * len(couplings))
        else:
            self._room = couplings
            self.model.set_gradients(biases, [share * c for c in couplings] if share != 1.0 else
                                     couplings)  # fmt: skip
        self.optimizer.step()

    def _plain_rate(self, layers: UnitLayers) -> float | None:
        """Return the learning rate of plain gradient descent if couplings are the parameters.

        Their gradients are then not stored. None for other optimisers.
        """
        if type(self.optimizer) is not torch.optim.SGD or len(self.optimizer.param_groups) > 1:
            return None
        group = self.optimizer.param_groups[0]
        if any(group[n] for n in ("momentum", "weight_decay", "dampening", "maximize")):
            return None
        listed = {id(p) for p in self.parameters}
        return float(group["lr"]) if all(id(c.matrix) in listed for c in layers.couplings) else None

    def _follow(self, layers: UnitLayers, name: Hashable, data: Phase, biases: State) -> None:
        """Update the offset of a hidden layer, and apply the sparsity penalty to its bias."""
        mean = average(layers.kinds[name].features(data.values[name]), data.shares)
        offset = self._offsets[name]
        self._offsets[name] = offset + _SLIDE * (mean - offset)
        if self.settings.sparsity is not None:
            activity = self._activity.get(name, mean)
            self._activity[name] = activity + _ACTIVITY * (mean - activity)
            gap = self._activity[name] - self.settings.sparsity
            biases[name] = biases[name] + self.settings.sparsity_cost * gap

    def _clamped(self, layers: UnitLayers, batch: UnitRows) -> tuple[State, State]:
        """Return expected units given the visible ones, and samples if chains start from them."""
        state: State = dict(batch.values)
        if batch.missing:
            self._fill(layers, state, batch)
        if layers.are_independent(self._hidden):
            fields = {n: layers.field(n, state) for n in self._hidden}
            if self.settings.persistent:
                means = {n: layers.kinds[n].mean(f) for n, f in fields.items()}
                return {**state, **means}, {}
            both = {n: layers.kinds[n].mean_and_draw(f, self._rng) for n, f in fields.items()}
            means, draws = ({n: pair[k] for n, pair in both.items()} for k in (0, 1))
            return {**state, **means}, {**state, **draws}
        means, _ = layers.mean_field(
            state, self._hidden, steps=self.settings.mean_field_steps, tolerance=1e-4
        )
        draws = dict(means)
        for n in self._hidden:
            draws[n] = layers.draw(n, draws, self._rng)
        return means, draws

    def _fill(self, layers: UnitLayers, state: State, batch: UnitRows) -> None:
        """Sample missing visible units, alternating with the hidden units."""
        for n in batch.missing:
            start = layers.biases[n].expand(len(batch), -1).contiguous()
            filled = layers.kinds[n].draw(start, self._rng)
            state[n] = torch.where(batch.missing[n], filled, state[n])
        for n in self._hidden:
            state[n] = self._offsets[n].expand(len(batch), -1)
        for _ in range(_FILLS):
            layers.sweep(state, self._rng, self._hidden)
            for n, hole in batch.missing.items():
                state[n] = torch.where(hole, layers.draw(n, state, self._rng), state[n])
        for n in self._hidden:
            del state[n]

    def _check(self, error: float) -> None:
        largest = max(float(p.abs().max()) for p in self.parameters)
        if not (math.isfinite(error) and largest < _LARGEST * self._scale):
            raise self._diverged(f"the largest parameter is {largest:.3g} after pass {self.passes}")

    def _diverged(self, why: str) -> PgnnError:
        return PgnnError(
            f"learning diverged at step {self._steps}: {why}",
            "use a smaller learning rate, such as optimizer=lambda p: torch.optim.SGD(p, lr=0.001)",
        )

    def _stops(self, figures: Mapping[str, float]) -> bool:
        if not self.settings.patience:
            return False
        error = figures["held_out_reconstruction_error"]
        value = figures.get("held_out_pseudo_likelihood", -error)
        if value > self._best[0]:
            self._best = (value, [p.detach().clone() for p in self.parameters], self.passes)
        return self.passes - self._best[2] >= self.settings.patience


def _gradient_descent(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)
