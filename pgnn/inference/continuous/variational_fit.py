"""How a guide, or a guide and a model together, are fitted."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import DataError, EvidenceError, ModelError, NotConverged
from pgnn.evidence.evidence import Evidence, over_inputs
from pgnn.inference.continuous.latent_density import LatentDensity
from pgnn.inference.continuous.stochastic_ascent import StochasticAscent
from pgnn.inference.continuous.variational_problem import VariationalProblem, make_generator
from pgnn.inference.engine import Inputs
from pgnn.inference.history import History
from pgnn.inference.learning.fit_context import own_randomness, parts_in_mode
from pgnn.inference.learning.learnable import Learnable
from pgnn.inference.learning.minibatches import Steps
from pgnn.inference.learning.statistics import batches, check_weights, is_single
from pgnn.inference.loop import iterate
from pgnn.inference.question import as_evidence, reader_of

if TYPE_CHECKING:
    from pgnn.inference.continuous.variational import Variational


def adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return Adam with steps of 0.01."""
    return torch.optim.Adam(parameters, lr=0.01)


class VariationalFit:
    """One fit.

    Args:
        settings: Of it.
        seed: Of the draws, the order of the rows and the start.
        progress: Show a bar.
    """

    def __init__(self, settings: Variational, seed: int | None, progress: bool) -> None:
        self.settings, self.seed, self.progress = settings, seed, progress

    def climb(
        self, problem: VariationalProblem, parameters: Iterable[Tensor] | None = None
    ) -> History:
        """Raise the objective by the guide's parameters, or by those given; in place.

        Raises:
            PgnnError: If the objective stops being finite.
            ModelError: If the optimiser is none of torch's.

        Warns:
            NotConverged: If a tolerance was given and not met.
        """
        own = self.settings
        moved = [*(problem.parts.parameters() if parameters is None else parameters)]
        if not moved or own.max_iterations == 0 or not len(problem.active):
            return History(iterations=0, converged=True, trace={"objective": []}, seconds=0.0)
        optimizer = own.optimizer(moved)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ModelError(
                "optimizer must make one of torch's optimisers of the parameters, such as "
                f"lambda p: torch.optim.Adam(p, lr=0.01); it made {optimizer!r}"
            )
        scheduler = None if own.scheduler is None else own.scheduler(optimizer)
        steps = Steps(optimizer, scheduler, own.batch_size, own.max_norm)
        method = StochasticAscent(
            problem, own.objective, moved, steps, make_generator(self.seed), own.tolerance
        )
        run = iterate(method, own.max_iterations, progress=self.progress, label="variational")
        optimizer.zero_grad(set_to_none=True)
        if own.tolerance and not run.converged:
            warnings.warn(
                f"Variational stopped after {run.iterations} steps, its objective still changing; "
                "raise max_iterations or tolerance, or draw more particles",
                NotConverged,
                stacklevel=4,
            )
        return History(
            iterations=run.iterations,
            converged=run.converged,
            seconds=run.seconds,
            trace=run.history,
        )

    def learn(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> None:
        """Fit the guide and the model; see :meth:`Variational.fit`."""
        seen, counts = _read(model, data, weights, inputs)
        guide = self.settings.guide
        kept = _learnables(model, getattr(guide, "encoder", None))
        with own_randomness(self.seed), parts_in_mode(model, train=True):
            try:
                problem = VariationalProblem.of(
                    LatentDensity(model, seen, inputs),
                    guide,
                    self.settings.shared,
                    counts,
                    keep=True,
                )
                own = [p for part in kept for p in part.parameters]
                moved = {id(p): p for p in [*own, *problem.parts.parameters()]}
                history = self.climb(problem, moved.values())
                value = self._value(problem)
            except BaseException:
                for part in kept:
                    part.restore()
                raise
            finally:
                for part in kept:
                    part.clear()
        model.history = History(
            {
                "learner": repr(self.settings),
                "rows": seen.num_rows,
                "weight": float(counts.sum()),
                "objective": value,
                **history,
            }
        )

    def _value(self, problem: VariationalProblem, draws: int = 20) -> float:
        """The objective at the end, averaged over more draws."""
        objective, generator = self.settings.objective, make_generator(self.seed)
        total, active = 0.0, problem.active
        with torch.no_grad():
            for _ in range(draws):
                found = problem.weighted(objective, generator, active)
                total += float((objective.combine(found.log_weights) * found.counts).sum())
        return total / draws


def _learnables(model: nn.Module, encoder: nn.Module | None) -> list[Learnable]:
    """What a fit changes: the model, an encoder, or both; at least one of them can learn."""
    parts = [model] if encoder is None else [model, encoder]
    found = [m for m in parts if any(p.requires_grad for p in m.parameters())]
    return [Learnable(m) for m in found or [model]]


def _read(model: Any, data: Any, weights: Any, inputs: Inputs | None) -> tuple[Evidence, Tensor]:
    """What was seen, and ``(N,)`` what each row counts."""
    if not is_single(data):
        raise DataError(
            "expected a DataFrame, a mapping of columns or an array of state indices, all rows at "
            f"once, got {type(data).__name__}"
        )
    if not (isinstance(data, Mapping) and not data):
        ((_, data, weights),) = batches(data, weights, progress=False)
    try:
        seen = over_inputs(reader_of(model).read(as_evidence(model, data)), inputs)
    except EvidenceError as error:
        raise DataError(str(error)) from None
    rows = seen.num_rows
    if not rows:
        raise DataError("data has no rows")
    counts = np.ones(rows) if weights is None else check_weights(weights, rows)
    if not counts.sum() > 0:
        raise DataError("the weights are all zero")
    return seen, torch.from_numpy(np.asarray(counts, dtype=np.float64))
