"""Contrastive divergence: stochastic maximum likelihood with short Markov chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError
from pgnn.factors.units.unit_layers import UnitModel
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.checkpoints import Checkpoints, check_checkpoints, keeper_of
from pgnn.inference.learning.contrastive_passes import ContrastivePasses
from pgnn.inference.learning.fit_context import fitting_parameters
from pgnn.inference.learning.kept_passes import run_passes
from pgnn.inference.learning.minibatches import MakeOptimizer, MakeScheduler
from pgnn.inference.learning.unit_source import UnitSource
from pgnn.inference.loop import Run, iterate
from pgnn.limits import NOT_NEGATIVE, Interval, check_callable, check_settings


@dataclass(frozen=True)
class ContrastiveDivergence(Learner):
    r"""Follows the gradient of the log-likelihood, estimated by short Gibbs chains.

    .. math:: \Delta W_{ab} \propto \langle x_a x_b^\top \rangle_{\text{data}}
        - \langle x_a x_b^\top \rangle_{\text{chains}}

    for any model of layers of units. With the visible units clamped, expectations of hidden ones
    are in closed form, or by mean field if they are coupled to each other. The chains start at the
    data (CD-k) or continue from step to step (persistent). Missing visible units are sampled given
    the others.

    ``model.history["trace"]`` has for each pass ``reconstruction_error`` (mean squared error after
    one step down and up), ``pseudo_likelihood`` (mean log probability of one unit given the others,
    in nats, which is comparable between models of different sizes), and, with ``validation``, both
    for held-out rows (``held_out_...``) and the ``free_energy_gap``, the mean free energy of
    held-out rows minus that of training rows, which grows when the model overfits. Only the first
    is available if rows have missing values or hidden units are coupled to each other.

    Args:
        k: Number of Gibbs sweeps per step.
        persistent: Whether chains continue from step to step.
        chains: Number of chains; the batch size if not given.
        tempering: Number of inverse temperatures, evenly spaced from 1 to 0, for parallel
            tempering; 1 for none. For persistent chains only.
        centred: Whether gradients are centred by the means of visible and hidden units, which makes
            learning invariant to flips of the data.
        optimizer: Function that creates a torch optimiser of the parameters; ``SGD(lr=0.05)`` with
            a rate that decreases to zero over the passes if not given.
        scheduler: Function that creates a learning rate scheduler, stepped after each pass.
        batch_size: Rows per step, for data that is not an iterable of batches.
        epochs: Number of passes over the data.
        sparsity: Target activity of each hidden unit; none if not given.
        sparsity_cost: Strength of the sparsity penalty on hidden biases.
        probabilities: Whether data of binary units may be probabilities in [0, 1].
        validation: Fraction of randomly held-out rows.
        patience: Stop after this many passes without improvement of the ``pseudo_likelihood`` of
            held-out rows (or, if unavailable, their ``reconstruction_error``), and keep the best
            parameters; 0 for never.
        mean_field_steps: Largest number of mean-field rounds for coupled hidden units.
        resume: Whether to resume chains, offsets and the state of the optimiser from the last fit
            of the model.
        checkpoints: Where to save progress; an interrupted fit resumes from there.

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
    checkpoints: Checkpoints | None = None

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
            raise ModelError("tempering needs persistent chains: persistent=True")
        if self.patience and not self.validation:
            raise ModelError("patience needs rows set apart", "give validation as well")
        check_checkpoints(self.checkpoints)

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
            data: Rows of the visible units; or an iterable of batches, iterated once per pass.
            weights: ``(N,)`` weight of each row.
            inputs: None: these models have no covariates.
            seed: Random seed of the order of the rows and of the chains.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If the data is invalid. After an error the model is unchanged.
            ModelError: If nothing is learnable, or the model has no layers of units.
            PgnnError: If the parameters diverge; the message names the step.
        """
        source = self._source(model, data, weights, inputs, seed, self.epochs)
        rows = source.rows
        data = None if rows is None else [rows.values, rows.missing, rows.weights]
        keeper = keeper_of(self, model, data, seed)
        with fitting_parameters(model, self) as (learnable, history), torch.no_grad():
            work = ContrastivePasses(self, model, learnable.parameters, source)
            earlier = model.history.progress if self.resume else None
            begin = (lambda: work.resume(earlier)) if self.resume else None
            run = run_passes(work, keeper, self.epochs, progress, begin)
            work.finish()
            self._report(history, work, source.num_rows, run)

    def partial_fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> None:
        """Run one pass over one more batch; see :meth:`Model.partial_fit`.

        Chains, offsets and the state of the optimiser continue from the last call, as do random
        numbers unless a seed is given. The learning rate does not decrease.

        Raises:
            DataError: If the data is invalid. After an error the model is unchanged.
            ModelError: If nothing is learnable, the model has no units, or checkpoints are set.
            PgnnError: If the parameters diverge.
        """
        if self.checkpoints is not None:
            raise ModelError("partial_fit() supports no checkpoints", "leave out checkpoints=")
        source = self._source(model, data, weights, inputs, seed, 1)
        earlier: Any = model.history if model.history.progress is not None else {}
        with fitting_parameters(model, self) as (learnable, history), torch.no_grad():
            work = ContrastivePasses(self, model, learnable.parameters, source)
            if earlier:
                work.resume(earlier.progress, draws=seed is None)
            run = iterate(work, 1, progress=False)
            work.take_on(earlier.get("trace", {}), earlier.get("iterations", 0))
            self._report(history, work, source.num_rows + earlier.get("rows", 0), run)

    def _source(
        self, model: Any, data: Any, weights: Any, inputs: Inputs | None, seed: int | None,
        passes: int,
    ) -> UnitSource:  # fmt: skip
        """Return the source of batches."""
        if not isinstance(model, UnitModel):
            raise ModelError(
                "ContrastiveDivergence() needs a model of layers of units such as a Boltzmann "
                f"machine, got a {type(model).__name__}"
            )
        if inputs is not None:
            raise DataError("models of units have no covariates", "leave inputs out")
        source = UnitSource(
            model,
            data,
            weights,
            seed,
            batch_size=self.batch_size,
            validation=self.validation,
            probabilities=self.probabilities,
            passes=passes,
        )
        if self.patience and source.held is None:
            raise DataError(
                f"validation={self.validation:g} of {source.num_rows} rows holds out none",
                "use more rows or a larger fraction, or leave patience out",
            )
        return source

    def _report(self, history: History, work: ContrastivePasses, rows: int, run: Run[int]) -> None:
        """Write the history, from which learning can resume."""
        history.update(
            rows=rows,
            iterations=work.passes,
            converged=False,
            stopped_early=run.converged,
            seconds=run.seconds,
            trace=work.trace,
        )
        history.progress = work.snapshot()
