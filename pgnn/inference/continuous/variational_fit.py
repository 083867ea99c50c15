"""Stochastic gradient ascent for a guide, or for a guide and a model jointly."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.abilities import ExecutableModel, Inputs
from pgnn.errors import PgnnError
from pgnn.inference.continuous.curvature_step import CurvatureStep
from pgnn.inference.continuous.guides import Amortised
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.objective import Objective
from pgnn.inference.continuous.unit_density import UnitDensity, begin_learning, training_density
from pgnn.inference.convergence import Convergence, Trend
from pgnn.inference.history import History
from pgnn.inference.learning.fit_context import own_randomness, parts_in_mode
from pgnn.inference.learning.layered_rows import plain_rows
from pgnn.inference.learning.minibatches import (
    Steps,
    made_optimizer,
    made_scheduler,
    next_rates,
)
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import restored_on_failure
from pgnn.inference.learning.training_data import read_rows
from pgnn.inference.loop import Info, iterate

if TYPE_CHECKING:
    from pgnn.inference.continuous.variational import Variational


WINDOW = 100
"""Smallest window of steps over which values are averaged, and period of convergence tests."""
_NOISE = 0.1
"""Largest standard error of the compared means, in nats per row."""
_FAR = 1.0
"""Smallest gain over a window for which a curvature step is worth its cost, in nats per row."""
_DRAWS = 16
_FIXED, _FEWEST = 512, 64
"""Draws of the last maximisation where memory allows, and fewer than which it is left out."""
_NUMBERS = 2**20
"""Numbers that are drawn for it."""


@dataclass(frozen=True, eq=False)
class AscentState:
    """State of the ascent.

    Attributes:
        left: Rows that remain in this epoch.
    """

    left: Tensor | None = None


class StochasticAscent:
    """An iterative method; each step draws, differentiates and updates the parameters.

    Args:
        problem: Density and guide.
        objective: The objective to maximise.
        parameters: The optimised parameters.
        steps: Optimiser, scheduler and batch size.
        generator: Random generator of draws and of the order of the rows.
        tolerance: Relative change of the mean at which to stop; 0 disables the test.
    """

    def __init__(
        self,
        problem: ModelAndGuide,
        objective: Objective,
        parameters: Iterable[Tensor],
        steps: Steps,
        generator: torch.Generator,
        tolerance: float,
    ) -> None:
        self.problem, self.objective, self.steps = problem, objective, steps
        self.parameters = list(parameters)
        self.generator, self.tolerance = generator, tolerance
        self._values: list[float] = []
        self._was_flat = False
        self._active = problem.active
        is_deterministic = (
            problem.batches is None
            and steps.batch_size is None
            and problem.is_density
            and not isinstance(problem.density, UnitDensity)
        )
        size = steps.batch_size
        is_whole = size is None or size >= len(self._active) or "shared" in problem.parts
        self._variates = objective.variates(int(generator.initial_seed() % 2**31), is_whole)
        self._curvature_step = CurvatureStep(self.parameters if is_deterministic else [])
        self._is_smooth = is_deterministic and not objective.score_function

    def init(self) -> AscentState:
        """See :class:`Iterative`."""
        return AscentState()

    def step(self, state: AscentState) -> tuple[AscentState, Info]:
        """Take one step.

        Raises:
            PgnnError: If the value or a derivative is not finite; the message names the variable.
        """
        rows, left = self._rows(state.left)
        optimizer = self.steps.optimizer
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            problem = self.problem.redrawn(self.generator)
            draws = problem.weighted(self.objective, self.generator, rows)
            total = problem.total(draws, self.objective, self._variates)
            values = self.objective.combine(draws.log_weights.detach())
            value = float((values * draws.counts).sum())
            if not math.isfinite(value):
                raise self._diverged(value, problem.blame(draws, rows))
            if total.requires_grad:
                total.neg().backward()  # type: ignore[no-untyped-call]
        self._check_gradients(value)
        optimizer.step()
        next_rates(self.steps.scheduler, -value)
        self._values.append(value)
        self._curvature_step.record_step()
        if len(self._values) % WINDOW == 0:
            self._take_curvature_step()
        settled = self._has_settled()
        if settled:
            self._maximize_over_fixed_draws()
        return AscentState(left), Info(settled, {"objective": value})

    def _take_curvature_step(self) -> None:
        """Take an L-BFGS step if parameters drift and the objective increases substantially."""
        trend, is_drifting = self.trend(), self._curvature_step.is_drifting
        is_far = trend is not None and trend.change > _FAR * self._rows_count
        if is_drifting and is_far and self._maximized(_DRAWS):
            self._reset_momentum()
        self._curvature_step.reset()

    def _maximize_over_fixed_draws(self) -> None:
        """Maximise over many draws that are held fixed, once noisy steps do not rise any more.

        Directions in which the objective changes by less than its noise are found by it: of a
        posterior's spread, say, which ten per cent too large costs a hundredth of a nat.

        References:
            Giordano, Ingram and Broderick (2024), Black box variational inference with a
            deterministic objective: faster, more accurate, and even more black box.
        """
        density = self.problem.density
        numbers = sum(density.model.variables[n].num_elements for n in density.latents)
        draws = min(_FIXED, _NUMBERS // max(1, numbers * self.problem.num_rows))
        free = sum(p.numel() for p in self.parameters) / self._rows_count
        if self._is_smooth and draws >= _FEWEST and free <= draws / 4:
            self._maximized(draws)

    def _maximized(self, number: int) -> bool:
        """Maximise over so many fixed draws by L-BFGS; return whether others find it better."""
        seed = int(torch.randint(2**62, (), generator=self.generator))

        def fixed_draws(offset: int = 0) -> Tensor:
            generator = torch.Generator().manual_seed(seed + offset)
            draws = self.problem.weighted(self.objective, generator, draws=number)
            return self.problem.total(draws, self.objective)

        def held_out_value() -> float:
            with torch.no_grad():
                return float(fixed_draws(1))

        return self._curvature_step.take(fixed_draws, held_out_value)

    def _reset_momentum(self) -> None:
        """Reset running means of gradients, but not of their squares."""
        for state in self.steps.optimizer.state.values():
            for name in ("exp_avg", "momentum_buffer"):
                if isinstance(state.get(name), Tensor):
                    state[name].zero_()

    def _rows(self, left: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the rows of a step (None for all), and the remaining rows of the epoch."""
        size, active = self.steps.batch_size, self._active
        if size is None or size >= len(active):
            return (None if len(active) == self.problem.num_rows else active), None
        if left is None or len(left) < size:
            left = active[torch.randperm(len(active), generator=self.generator)]
        return left[:size], left[size:]

    def _check_gradients(self, value: float) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if all(bool(torch.isfinite(g).all()) for g in gradients):
            norm = self.steps.max_norm
            if norm is not None and gradients:
                torch.nn.utils.clip_grad_norm_(self.parameters, norm)
            return
        raise self._diverged(value, "a derivative is not finite")

    def _diverged(self, value: float, why: str) -> PgnnError:
        return PgnnError(
            f"variational inference diverged in step {len(self._values) + 1}: the objective is "
            f"{value}, {why}",
            "use a smaller learning rate, or a guide with a smaller scale",
        )

    def trend(self) -> Trend | None:
        """Return the change between the last two quarters of the steps; None if too few."""
        number = len(self._values)
        if number < 2 * WINDOW:
            return None
        return Trend.of(self._values, max(WINDOW, number // 4))

    def negligible_change(self, trend: Trend) -> float:
        """Return the largest change of the mean that is considered negligible.

        It is relative to the gain so far, or in nats per row, so that constant terms of the
        density, such as those from the units of the data, have no effect.
        """
        return self.tolerance * max(self._rows_count, abs(trend.gain))

    @property
    def _rows_count(self) -> float:
        return max(1.0, float(self.problem.weights.sum()))

    def _has_settled(self) -> bool:
        """Whether the mean over a quarter of the steps failed to increase twice in succession."""
        trend = self.trend()
        if not self.tolerance or trend is None or len(self._values) % WINDOW:
            return False
        noise = _NOISE * math.sqrt(self._rows_count)
        flat = trend.at_rest(self.negligible_change(trend), noise)
        settled = self._was_flat and flat
        self._was_flat = flat
        return settled

    def is_still_increasing(self) -> bool:
        """Whether the objective was still increasing at the end of the run."""
        trend = self.trend()
        return trend is None or trend.rises(self.negligible_change(trend))


def adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return Adam with a learning rate of 0.01."""
    return torch.optim.Adam(parameters, lr=0.01)


class VariationalFit:
    """A fit of a guide, or of a guide and a model.

    Args:
        settings: Settings of the fit.
        seed: Random seed of the draws, the order of the rows and the initial values.
        progress: Whether to show a progress bar.
    """

    def __init__(self, settings: Variational, seed: int | None, progress: bool) -> None:
        self.settings, self.seed, self.progress = settings, seed, progress

    def maximize(
        self, problem: ModelAndGuide, parameters: Iterable[Tensor] | None = None
    ) -> History:
        """Maximise the objective over the guide's parameters, or over ``parameters``, in place.

        Raises:
            PgnnError: If the objective becomes non-finite.
            ModelError: If the optimiser is not a torch optimiser.

        Warns:
            NotConverged: If a tolerance was given and not reached.
        """
        settings = self.settings
        fitted = [*(problem.parts.parameters() if parameters is None else parameters)]
        if not fitted or settings.max_iterations == 0 or not len(problem.active):
            return History(iterations=0, converged=True, trace={"objective": []}, seconds=0.0)
        optimizer = made_optimizer(settings.optimizer, fitted)
        scheduler = made_scheduler(settings.scheduler, optimizer)
        steps = Steps(optimizer, scheduler, settings.batch_size, settings.max_norm)
        method = StochasticAscent(
            problem,
            settings.objective,
            fitted,
            steps,
            make_generator(self.seed),
            settings.tolerance,
        )
        run = iterate(method, settings.max_iterations, progress=self.progress, label="variational")
        optimizer.zero_grad(set_to_none=True)
        if settings.tolerance and not run.converged and method.is_still_increasing():
            Convergence("Variational").stopped(
                run.iterations,
                "raise max_iterations or the steps of the optimizer, or draw more particles",
                "its objective still changing",
            ).warn()
        return History(
            iterations=run.iterations,
            converged=run.converged,
            seconds=run.seconds,
            trace=run.history,
        )

    def learn(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> None:
        """Fit the guide and the model; see :meth:`Variational.fit`."""
        data = plain_rows(model, data)
        observed = read_rows(model, data, weights, inputs, soft=True)
        guide = self.settings.guide
        modules = _learning_modules(model, guide.encoder if isinstance(guide, Amortised) else None)
        learnable = [LearnableParameters(module) for module in modules]
        with (
            own_randomness(self.seed),
            parts_in_mode(model, train=True),
            contextlib.ExitStack() as stack,
        ):
            for module in modules:
                stack.enter_context(restored_on_failure(module))
            try:
                begin_learning(model, observed, make_generator(self.seed))
                if guide is None and isinstance(model, ExecutableModel):
                    model.start_guide(int(make_generator(self.seed).initial_seed()))
                problem = ModelAndGuide.of(
                    training_density(model, observed, inputs),
                    guide,
                    self.settings.shared,
                    torch.from_numpy(observed.row_weights),
                    keep=True,
                )
                parameters = [p for learned in learnable for p in learned.parameters]
                fitted = {id(p): p for p in [*parameters, *problem.parts.parameters()]}
                history = self.maximize(problem, fitted.values())
                value = self._value(problem)
            finally:
                for learned in learnable:
                    learned.clear()
        model.history = History(
            {
                "learner": repr(self.settings),
                "rows": observed.num_rows,
                "weight": float(observed.row_weights.sum()),
                "objective": value,
                **history,
            }
        )

    def _value(self, problem: ModelAndGuide, draws: int = 20) -> float:
        """Return the final objective, averaged over more draws."""
        objective, generator = self.settings.objective, make_generator(self.seed)
        total, active = 0.0, problem.active
        with torch.no_grad():
            for _ in range(draws):
                weighted = problem.weighted(objective, generator, active)
                total += float((objective.combine(weighted.log_weights) * weighted.counts).sum())
        return total / draws


def _learning_modules(model: nn.Module, encoder: nn.Module | None) -> list[nn.Module]:
    """Return the modules that a fit changes: the model, an encoder, or both."""
    modules = [model] if encoder is None else [model, encoder]
    return [m for m in modules if any(p.requires_grad for p in m.parameters())] or [model]
