"""The base class of learners that maximise an objective over the parameters."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import nn

from pgnn.abilities import Inputs
from pgnn.errors import ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.network_precision import mixed_precision
from pgnn.inference.convergence import Convergence
from pgnn.inference.learner import Learner
from pgnn.inference.learning.batched_rows import BatchedRows, weight_of
from pgnn.inference.learning.checkpoints import Checkpoints, check_checkpoints, keeper_of
from pgnn.inference.learning.distributed_e_step import (
    check_group,
    from_first,
    rank_seed,
    together,
)
from pgnn.inference.learning.fit_context import (
    WatchedObjective,
    fitting_parameters,
    last_complaint,
    own_randomness,
    parts_in_mode,
)
from pgnn.inference.learning.lbfgs import run_lbfgs
from pgnn.inference.learning.minibatches import (
    MakeOptimizer,
    MakeScheduler,
    MiniBatches,
    Steps,
    made_optimizer,
    made_scheduler,
)
from pgnn.inference.learning.optimisation_problem import (
    FitRecord,
    LearnableParameters,
    Mean,
    MeanObjective,
    OptimisationProblem,
    Penalty,
)
from pgnn.inference.learning.training_data import read_rows, unobserved_warning
from pgnn.inference.loop import iterate
from pgnn.limits import NOT_NEGATIVE, POSITIVE, Interval, check_callable, check_real, check_settings

Watch = Mapping[str, Callable[[Any], float]]


@dataclass(frozen=True, kw_only=True)
class Ascent(Learner):
    r"""Maximises a penalised mean over rows with respect to the learnable parameters.

    .. math:: \frac{1}{W} \sum_n w_n f(x_n; \theta)
        - l_1 \sum_k |\theta_k| - \tfrac12 l_2 \sum_k \theta_k^2

    Penalties are relative to the mean over rows: ``l2`` corresponds to a Gaussian prior with
    variance :math:`1 / (W l_2)`, ``l1`` to a Laplace prior with scale :math:`1 / (W l_1)`.

    Args:
        optimizer: ``None`` for L-BFGS over all rows; or a function that creates a torch optimiser
            of the parameters, such as ``lambda p: torch.optim.Adam(p, lr=0.05)``.
        scheduler: Function that creates a learning rate scheduler of the optimiser, stepped after
            each pass.
        batch_size: Rows per step of the optimiser; all if not given.
        l1: Strength of the L1 penalty; one number, or a mapping by name of the parameter. Some
            parameters are then exactly zero.
        l2: Strength of the L2 penalty, likewise.
        max_norm: Gradients with a larger norm are rescaled to this norm (with an optimiser).
        max_value: Partial derivatives are first clipped to this absolute value (with an optimiser).
        max_iterations: Largest number of L-BFGS iterations, or number of passes of an optimiser.
        tolerance: Largest absolute partial derivative at which the fit has converged. If not given,
            1e-6 (or the rounding error, if larger); with an optimiser 0: all passes are run,
            without a warning.
        validation: Fraction of randomly held-out rows, in ``[0, 1)``. The parameters that are best
            on them are kept.
        patience: Stop after this many iterations without improvement on the held-out rows; 0 for
            never.
        checkpoints: Where to save progress (with an optimiser); an interrupted fit resumes from
            there.
        distributed: Whether rows are split over the processes of ``torch.distributed`` (with an
            optimiser): each process reads its own rows, and a step uses ``batch_size`` rows of each
            process. Initial parameters are those of the first process.
        watch: Functions of the model by name, evaluated after each iteration or pass:
            ``{"norm": lambda model: float(model.weight.norm())}``.
        mixed_precision: Whether networks multiply matrices in bfloat16 (with an optimiser):
            faster and half the memory on a GPU. Parameters and log densities keep their type.

    Raises:
        ModelError: If a setting is out of range.
    """

    optimizer: MakeOptimizer | None = None
    scheduler: MakeScheduler | None = None
    batch_size: int | None = None
    l1: Penalty = 0.0
    l2: Penalty = 0.0
    max_norm: float | None = None
    max_value: float | None = None
    max_iterations: int = 500
    tolerance: float | None = None
    validation: float = 0.0
    patience: int = 0
    checkpoints: Checkpoints | None = None
    distributed: bool = False
    watch: Watch = field(default_factory=dict)
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        share = Interval(0.0, 1.0, open_high=True)
        check_settings(
            self,
            max_iterations=1,
            batch_size=1,
            validation=share,
            tolerance=NOT_NEGATIVE,
            max_norm=POSITIVE,
            max_value=POSITIVE,
            num_samples=1,
        )
        for what, penalty in (("l1", self.l1), ("l2", self.l2)):
            by_name = penalty if isinstance(penalty, Mapping) else {"": penalty}
            for name, strength in by_name.items():
                check_real(f"{what} of {name!r}" if name else what, strength, NOT_NEGATIVE)
        check_callable("optimizer", self.optimizer, "lambda p: torch.optim.Adam(p, lr=0.05)")
        check_callable(
            "scheduler", self.scheduler, "lambda o: torch.optim.lr_scheduler.StepLR(o, 9)"
        )
        for name, figure in self.watch.items():
            check_callable(f"watch[{name!r}]", figure, "lambda model: float(model.weight.norm())")
        if self.patience and not self.validation:
            raise ModelError("patience needs held-out rows", "set validation as well")
        check_checkpoints(self.checkpoints)
        if self.distributed and (self.validation or self.checkpoints is not None):
            raise ModelError(
                "validation and checkpoints need a single process",
                "leave them out with distributed=True",
            )
        if self.optimizer is not None:
            return
        of_optimizer = ("scheduler", "batch_size", "max_norm", "max_value", "checkpoints")
        for name in (*of_optimizer, "distributed", "mixed_precision"):
            if getattr(self, name) not in (None, False):
                raise ModelError(f"{name} needs an optimizer (L-BFGS uses all rows)")

    @abstractmethod
    def objective(self, model: Any, rows: RowEvidence, seed: int | None) -> MeanObjective:
        """Return the objective.

        Args:
            model: The model.
            rows: All rows, including held-out ones.
            seed: Random seed.
        """

    def read_rows(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Read the training data: rows of evidence, or sequences."""
        return read_rows(model, data, weights, inputs)

    def check_rows(self, rows: RowEvidence, model: Any) -> None:
        """Raise an error for rows that cannot be learned from."""

    def break_symmetry(
        self, model: Any, rows: Any, learnable: LearnableParameters, seed: int | None
    ) -> None:
        """Perturb the parameters if the states of a hidden variable are interchangeable."""

    def has_saddles(self, rows: Any) -> bool:
        """Whether the objective may have stationary points that are not maxima."""
        return False

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
        """Fit the learnable parameters; the record is in ``model.history``.

        The history contains the ``log_likelihood`` (or ``pseudo_log_likelihood``), summed over the
        training rows, and the ``seconds``. Its ``trace`` has a list for each figure (means over
        rows, penalised for ``objective``): initially and after each iteration of L-BFGS, or each
        pass.

        Args:
            model: Any model with factors over discrete variables.
            data: Data frame, mapping of columns, matrix of state indices with a column for each
                element, or array ``(N, *shape)`` of a single array variable.
            weights: ``(N,)`` weight of each row, or the name of a column.
            inputs: Covariates by name, ``(N, ...)``.
            seed: Random seed of the order of the rows, the held-out rows, and samples.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If the data is invalid, or impossible under the initial parameters. After an
                error the model is unchanged.
            ModelError: If nothing is learnable, or rows are held out but a sampling engine cannot
                score them.
            PgnnError: If the values become infinite or NaN.

        Warns:
            NotConverged: If the limit was reached first, or the engine did not converge in the end.
        """
        if self.distributed:
            check_group()
            seed = rank_seed(seed)
        with (
            fitting_parameters(model, self) as (learnable, history),
            last_complaint() as last,
            own_randomness(seed),
            parts_in_mode(model, train=self.optimizer is not None),
        ):
            rows = self._read(model, data, weights, inputs)
            self._align(model)
            problem = self._problem(model, rows, learnable, last, seed)
            with mixed_precision(self.mixed_precision):
                converged = self._maximize(problem, seed, progress)
            self._align(model)
            history.update(self._report(problem, model, converged))
        Convergence(type(self).__name__).include(unobserved_warning(model, rows)).warn()
        self._warn(problem.record, converged, last)

    def _read(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Return the checked training data; an error in one process is raised in all."""

        def read() -> Any:
            rows = self.read_rows(model, data, weights, inputs)
            self.check_rows(rows, model)
            return rows

        return together(read) if self.distributed else read()

    def _align(self, model: nn.Module) -> None:
        """Broadcast the parameters of the first process."""
        if self.distributed:
            model.load_state_dict(from_first(model.state_dict()))

    def _watched(self, model: Any) -> dict[str, float]:
        """Return the values of the watched functions."""
        if not self.watch:
            return {}
        with parts_in_mode(model, train=False, forget=False), torch.no_grad():
            return {name: float(figure(model)) for name, figure in self.watch.items()}

    def _problem(
        self, model: Any, rows: Any, learnable: LearnableParameters, last: list[Warning],
        seed: int | None,
    ) -> OptimisationProblem:  # fmt: skip
        """Return the optimisation problem, with penalties, at the initial parameters."""
        objective = WatchedObjective(self.objective(model, rows, seed), last)
        judge = None
        if self.validation:
            rows, held = rows.split(self.validation, seed)
            judge = self._judge(objective, held, model)
        record = FitRecord(learnable, judge, self.patience, lambda: self._watched(model))
        self.break_symmetry(model, rows, learnable, seed)
        return OptimisationProblem(
            learnable=learnable,
            rows=rows,
            objective=objective,
            l1=learnable.rates("l1", self.l1),
            l2=learnable.rates("l2", self.l2),
            tolerance=self.tolerance,
            record=record,
            has_saddles=self.has_saddles(rows),
        )

    def _maximize(self, problem: OptimisationProblem, seed: int | None, progress: bool) -> bool:
        """Optimise the parameters; return whether that converged."""
        if self.optimizer is None:
            converged = run_lbfgs(problem, self.max_iterations, progress)
        else:
            converged = self._pass_over(problem, self.optimizer, seed, progress)
        problem.record.finish()
        return converged

    def _report(
        self, problem: OptimisationProblem, model: nn.Module, converged: bool
    ) -> dict[str, Any]:
        """Write the history."""
        record = problem.record
        return {
            **problem.rows.extent,
            **self._total(problem, model),
            "iterations": record.iterations,
            "converged": converged,
            "stopped_early": record.stopped,
            "seconds": record.seconds,
            "trace": record.trace,
        }

    def _pass_over(
        self, problem: OptimisationProblem, make: MakeOptimizer, seed: int | None, progress: bool
    ) -> bool:
        optimizer = made_optimizer(make, problem.learnable.parameters)
        scheduler = made_scheduler(self.scheduler, optimizer)
        steps = Steps(
            optimizer, scheduler, self.batch_size, self.max_norm, self.max_value, self.distributed
        )
        rows: Any = problem.rows
        data = None
        if self.checkpoints is not None and not isinstance(rows, BatchedRows):
            data = {f.name: getattr(rows, f.name) for f in fields(rows)}
        method = MiniBatches(problem, steps, seed)
        keeper = keeper_of(self, problem.learnable.model, data, seed, ["max_iterations"])
        before = keeper.state()
        if before is not None:
            method.resume(before)
        left = max(0, self.max_iterations - problem.record.iterations)
        with keeper.saving_on_interrupt():
            run = iterate(
                method, left, progress=progress, label="passes",
                after=lambda _: keeper.after(method.snapshot),
            )  # fmt: skip
        keeper.close()
        return run.converged and not problem.record.stopped

    @staticmethod
    def _judge(
        objective: MeanObjective, held: RowEvidence, model: nn.Module
    ) -> Callable[[], float]:
        """Return a function that scores the held-out rows."""
        if objective.figure is None:
            raise ModelError("a sampling engine has no log-likelihood", "leave out validation")
        return _value(objective(held), model)

    @staticmethod
    def _total(problem: OptimisationProblem, model: nn.Module) -> dict[str, float]:
        """Return the sum over rows at the final parameters, by name."""
        figure, rows = problem.objective.figure, problem.rows
        if figure is None:
            return {}
        if not isinstance(rows, BatchedRows):
            return {figure: weight_of(rows) * _value(problem.whole, model)()}
        if not rows.begins_anew:
            return {}
        return {figure: sum(weight_of(b) * _value(problem.objective(b), model)() for b in rows)}

    def _warn(self, record: FitRecord, converged: bool, last: list[Warning]) -> None:
        for warning in last:
            warnings.warn(warning, stacklevel=4)
        if converged or record.stopped or (self.optimizer is not None and not self.tolerance):
            return
        verdict, gradient = Convergence(type(self).__name__), record.trace["gradient_norm"][-1]
        if record.iterations >= self.max_iterations:
            verdict.stopped(
                record.iterations,
                "raise max_iterations, or add an l2 penalty if the optimal parameters are infinite",
                f"with a largest partial derivative of {gradient:.2g}, too large for a maximum",
            )
        else:
            verdict.no_progress(
                gradient,
                "check the data, rescale it, or use other initial parameters: the value or its "
                "gradient may have reached the limit of their precision, or be wrong",
            )
        verdict.warn()


def _value(mean: Mean, model: nn.Module) -> Callable[[], float]:
    """A function that evaluates a mean over rows in evaluation mode; -inf if it is undefined."""

    def value() -> float:
        with parts_in_mode(model, train=False, forget=False), torch.no_grad():
            number = float(mean())
        return number if math.isfinite(number) else -math.inf

    return value
