"""Contrastive divergence: what is learnt from data less what chains of the model show."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.factors.units.unit_layers import State, UnitLayers, UnitModel, two_sides
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.minibatches import MakeOptimizer, MakeScheduler
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import restored_on_failure
from pgnn.inference.learning.unit_chains import Phase, UnitChains, gradients
from pgnn.inference.learning.unit_figures import UnitFigures
from pgnn.inference.learning.unit_rows import UnitRows
from pgnn.inference.learning.unit_source import UnitSource
from pgnn.inference.loop import Info, iterate
from pgnn.limits import NOT_NEGATIVE, Interval, check_callable, check_settings

_SLIDE = 0.01
_LARGEST = 1e4
_FILLS = 5


@dataclass(frozen=True)
class ContrastiveDivergence(Learner):
    r"""Follows the gradient of the log-likelihood, estimated by short Gibbs chains.

    .. math:: \Delta W_{ab} \propto \langle x_a x_b^\top \rangle_{\text{data}}
        - \langle x_a x_b^\top \rangle_{\text{chains}}

    for any model of layers of units. With the visible units clamped, hidden ones have expectations
    in closed form, or by mean field where they are coupled to each other. The chains begin at the
    data (CD-k) or go on from step to step (persistent), layer by layer. Missing visible units are
    drawn given the others.

    ``model.history["trace"]`` has for each pass ``reconstruction_error`` (mean square after one
    step there and back), ``pseudo_likelihood`` (mean log probability of one unit given the others,
    in nats, so that models of different sizes compare), and, with ``validation``, the
    ``free_energy_gap``, by how much held-out rows have a larger free energy than learnt ones: it
    grows when the model overfits.

    Args:
        k: Sweeps of the chains for each step.
        persistent: Whether chains go on from step to step.
        chains: How many there are; as many as rows in a batch if not given.
        tempering: Inverse temperatures of parallel chains that exchange their states: how many,
            evenly from 1 to 0; 1 for none. Persistent chains only.
        centred: Whether gradients are centred by the means of data and hidden units, which makes
            learning the same for flipped data.
        optimizer: Makes one of torch's optimisers of the parameters, with momentum or weight
            decay; ``SGD(lr=0.05)`` with a rate that falls to zero over the passes if not given.
        scheduler: What makes a learning rate scheduler, stepped after each pass.
        batch_size: Rows for a step, where data comes at once.
        epochs: Passes over the data.
        sparsity: Expected activity of each hidden unit; none if not given.
        sparsity_cost: How strongly hidden biases are pulled there.
        probabilities: Whether data of binary units may lie between 0 and 1, as probabilities.
        validation: Share of the rows that is set apart, at random.
        patience: Stop after so many passes in which ``pseudo_likelihood`` of the rows set apart was
            no better, and keep the best parameters; 0 for never.
        mean_field_steps: Most rounds of mean field for coupled hidden units.
        resume: Whether chains and optimiser go on where the last fit of the model stopped.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence. Tieleman
        (2008), Training restricted Boltzmann machines using approximations to the likelihood
        gradient. Desjardins et al. (2010), Parallel tempering for training of restricted Boltzmann
        machines. Melchior, Fischer and Wiskott (2016), How to center deep Boltzmann machines.

    Example:
        >>> import pgnn
        >>> rows = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]] * 50)
        >>> model = pgnn.RestrictedBoltzmannMachine(4, 2)
        >>> model = model.fit(rows, learner=ContrastiveDivergence(epochs=200), seed=0)
        >>> [round(p, 1) for p in model.sample(1000, seed=0)["visible"].double().mean(0).tolist()]
        [0.5, 0.5, 0.5, 0.5]
    """

    k: int = 1
    persistent: bool = True
    chains: int | None = None
    tempering: int = 1
    centred: bool = True
    optimizer: MakeOptimizer | None = None
    scheduler: MakeScheduler | None = None
    batch_size: int = 100
    epochs: int = 10
    sparsity: float | None = None
    sparsity_cost: float = 0.01
    probabilities: bool = False
    validation: float = 0.0
    patience: int = 0
    mean_field_steps: int = 25
    resume: bool = False

    def __post_init__(self) -> None:
        share = Interval(0.0, 1.0, open_high=True)
        inner = Interval(0.0, 1.0, open_low=True, open_high=True)
        check_settings(self, k=1, chains=1, tempering=1, batch_size=1, epochs=1, validation=share,
                       sparsity=inner, sparsity_cost=NOT_NEGATIVE, mean_field_steps=1)  # fmt: skip
        check_callable("optimizer", self.optimizer, "lambda p: torch.optim.SGD(p, lr=0.05)")
        check_callable(
            "scheduler", self.scheduler, "lambda o: torch.optim.lr_scheduler.StepLR(o, 9)"
        )
        if self.tempering > 1 and not self.persistent:
            raise ModelError("tempering needs chains that go on: persistent=True")
        if self.patience and not self.validation:
            raise ModelError("patience needs rows set apart: give validation as well")

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Fit the learnable parameters; see :meth:`Model.fit`.

        Args:
            model: A model of layers of units.
            data: Rows of the visible units; or an iterable of batches, gone through once a pass.
            weights: ``(N,)`` what each row counts.
            inputs: None: these models have no covariates.
            seed: Of the order of the rows and of the chains.
            progress: Show a progress bar.

        Raises:
            DataError: If the data is wrong. Whatever is raised, the model stays as it was.
            ModelError: If nothing is learnable, or the model is none of units.
            PgnnError: If the parameters diverge; the message tells the step.
        """
        if not isinstance(model, UnitModel):
            raise ModelError(
                f"ContrastiveDivergence() learns layers of units such as a Boltzmann machine; a "
                f"{type(model).__name__} is none"
            )
        learnable = LearnableParameters(model)  # type: ignore[arg-type]
        source = UnitSource(
            model,
            data,
            weights,
            seed,
            batch_size=self.batch_size,
            validation=self.validation,
            probabilities=self.probabilities,
            passes=self.epochs,
        )
        with restored_on_failure(model), torch.no_grad():
            try:
                work = _Passes(self, model, learnable, source, seed)
                run = iterate(work, self.epochs, progress=progress, label="passes")
                work.finish()
            finally:
                learnable.clear()
            history = History(
                {
                    "learner": repr(self),
                    "rows": source.num_rows,
                    "iterations": run.iterations,
                    "converged": False,
                    "stopped_early": run.converged,
                    "seconds": run.seconds,
                    "trace": run.history,
                }
            )
            history.progress = work.progress
            model.history = history  # type: ignore[attr-defined]


@dataclass(eq=False)
class Progress:
    """Where learning stopped, for it to go on.

    Attributes:
        chains: Of the model.
        optimizer: Of the parameters.
        offsets: Means by which gradients are centred.
    """

    chains: UnitChains | None
    optimizer: torch.optim.Optimizer
    offsets: State = field(default_factory=dict)


class _Passes:
    """One step is one pass over the rows."""

    def __init__(self, settings: ContrastiveDivergence, model: Any, learnable: LearnableParameters,
                 source: UnitSource, seed: int | None) -> None:  # fmt: skip
        self.settings, self.model, self.source = settings, model, source
        self.parameters = learnable.parameters
        layers: UnitLayers = model.layers()
        device = layers.like.device
        self.rng = torch.Generator(device)
        self.rng.manual_seed(source.rng.initial_seed() + 1)
        self.hidden = [n for n in layers.names if n not in model.visible]
        self.sides = two_sides(layers, list(model.visible))
        before = model.history.progress if settings.resume else None
        if settings.resume and not isinstance(before, Progress):
            raise ModelError("resume=True goes on after a fit by ContrastiveDivergence; none was")
        self.begun = before is not None
        self.steps = 0
        self.best: tuple[float, list[Tensor] | None, int] = (-math.inf, None, 0)
        self.activity: State = {}
        self._room: list[Tensor] | None = None
        if before is not None:
            self.progress = before
            self.scheduler = self._schedule(before.optimizer)
            return
        optimizer = (
            torch.optim.SGD(self.parameters, lr=0.05)
            if settings.optimizer is None
            else settings.optimizer(self.parameters)
        )
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ModelError(
                "optimizer must make one of torch's optimisers of the parameters, such as "
                f"lambda p: torch.optim.SGD(p, lr=0.05); it made {optimizer!r}"
            )
        self.progress = Progress(None, optimizer)
        self.scheduler = self._schedule(optimizer)

    def init(self) -> int:
        """Return the number of passes made."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Make a pass.

        Raises:
            PgnnError: If the parameters diverge.
        """
        shown: UnitRows | None = None
        for batch in self.source.batches():
            if not self.begun:
                self._begin(batch)
            self._learn(batch)
            shown = batch
        if self.scheduler is not None:
            self.scheduler.step()
        if shown is None:
            raise DataError("data has no rows")
        figures = UnitFigures(self.model, self.rng)
        if self.source.rows is not None:
            shown = self.source.rows.take(torch.arange(min(500, len(self.source.rows))))
        told = figures.of(shown, self.source.held)
        self._check(told["reconstruction_error"], state + 1)
        return state + 1, Info(self._stop(told, state), told)

    def finish(self) -> None:
        """Put the best parameters back, if rows were set apart."""
        if self.settings.patience and self.best[1] is not None:
            for p, x in zip(self.parameters, self.best[1], strict=True):
                p.copy_(x)

    # --- helpers ------------------------------------------------------------------------------

    def _schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        if self.settings.scheduler is not None:
            return self.settings.scheduler(optimizer)
        if self.settings.optimizer is not None:
            return None
        epochs = self.settings.epochs
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: max(1 - t / epochs, 0.0))

    def _begin(self, batch: UnitRows) -> None:
        """Small random couplings, biases that fit the data's means, chains at the data."""
        self.begun = True
        layers: UnitLayers = self.model.layers()
        rows = self.source.first if len(self.source.first) else batch
        means = {n: rows.mean(n) for n in self.model.visible}
        self.model.begin_learning(means, self.rng)
        layers = self.model.layers()
        offsets = {n: layers.kinds[n].features(m) for n, m in means.items()}
        for n in self.hidden:
            offsets[n] = layers.kinds[n].features(layers.kinds[n].mean(
                torch.zeros_like(layers.biases[n])))  # fmt: skip
        self.progress.offsets = offsets
        if not self.settings.persistent:
            return
        count = self.settings.chains or min(self.settings.batch_size, max(len(batch), 1))
        betas = torch.linspace(1, 0, self.settings.tempering).tolist()
        base = {n: b.clone() for n, b in layers.biases.items()}
        state = layers.start(count * len(betas), self.rng)
        self.progress.chains = UnitChains(state, tuple(betas), self.rng, base, [])

    def _learn(self, batch: UnitRows) -> None:
        layers: UnitLayers = self.model.layers()
        data, drawn = self._clamped(layers, batch)
        if self.settings.persistent:
            chains = self.progress.chains
            assert chains is not None
        else:
            chains = UnitChains(drawn, (1.0,), self.rng, {}, [], goes_on=False)
        shown = chains.advance(layers, self.sides, self.settings.k)
        weights = None if self.settings.persistent else batch.weights
        phases = Phase(data, batch.weights), Phase(shown, weights)
        offsets = self.progress.offsets if self.settings.centred else None
        biases, couplings = gradients(layers, *phases, offsets, self._room)
        self._room = couplings
        self.steps += 1
        for n in self.hidden:
            self._follow(layers, n, data[n], biases)
        total = sum(float(g.sum()) for g in biases.values())
        if not math.isfinite(total):
            raise self._diverged("a gradient is not finite")
        self.model.set_gradients(biases, couplings)
        self.progress.optimizer.step()

    def _follow(self, layers: UnitLayers, name: Hashable, means: Tensor, biases: State) -> None:
        """Move the offset of a hidden layer, and pull its bias to the wanted activity."""
        mean = layers.kinds[name].features(means).mean(0)
        offset = self.progress.offsets[name]
        self.progress.offsets[name] = offset + _SLIDE * (mean - offset)
        if self.settings.sparsity is not None:
            own = self.activity.get(name, mean)
            self.activity[name] = own + 0.1 * (mean - own)
            gap = self.activity[name] - self.settings.sparsity
            biases[name] = biases[name] + self.settings.sparsity_cost * gap

    def _clamped(self, layers: UnitLayers, batch: UnitRows) -> tuple[State, State]:
        """Expected units given the visible ones, and drawn ones."""
        state: State = dict(batch.values)
        if batch.missing:
            self._fill(layers, state, batch)
        if layers.are_independent(self.hidden):
            fields = {n: layers.field(n, state) for n in self.hidden}
            means = {n: layers.kinds[n].mean(f) for n, f in fields.items()}
            drawn = {n: layers.kinds[n].draw(f, self.rng) for n, f in fields.items()
                     if not self.settings.persistent}  # fmt: skip
            return {**state, **means}, {**state, **drawn}
        found, _ = layers.mean_field(
            state, self.hidden, steps=self.settings.mean_field_steps, tolerance=1e-4
        )
        drawn = dict(found)
        for n in self.hidden:
            drawn[n] = layers.draw(n, drawn, self.rng)
        return found, drawn

    def _fill(self, layers: UnitLayers, state: State, batch: UnitRows) -> None:
        """Draw what is missing given the rest, in turn with the hidden units."""
        means = self.progress.offsets
        for n in batch.missing:
            start = layers.biases[n].expand(len(batch), -1).contiguous()
            filled = layers.kinds[n].draw(start, self.rng)
            state[n] = torch.where(batch.missing[n], filled, state[n])
        for n in self.hidden:
            state[n] = means[n].expand(len(batch), -1)
        for _ in range(_FILLS):
            layers.sweep(state, self.rng, self.hidden)
            for n, hole in batch.missing.items():
                state[n] = torch.where(hole, layers.draw(n, state, self.rng), state[n])
        for n in self.hidden:
            del state[n]

    def _check(self, error: float, passes: int) -> None:
        largest = max(float(p.abs().max()) for p in self.parameters)
        if not (math.isfinite(error) and largest < _LARGEST):
            raise self._diverged(f"the largest parameter is {largest:.3g} after pass {passes}")

    def _diverged(self, why: str) -> PgnnError:
        return PgnnError(
            f"learning diverged at step {self.steps}: {why}; take a smaller learning rate, such as "
            "optimizer=lambda p: torch.optim.SGD(p, lr=0.001)"
        )

    def _stop(self, told: dict[str, float], passes: int) -> bool:
        if not self.settings.patience:
            return False
        value = told["held_out_pseudo_likelihood"]
        if value > self.best[0]:
            self.best = (value, [p.clone() for p in self.parameters], passes)
        return passes - self.best[2] >= self.settings.patience
