"""Adversarial learning: generators against discriminators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.abilities import AdversarialModel, Inputs
from pgnn.errors import DataError, ModelError
from pgnn.factors.network_precision import mixed_precision
from pgnn.inference.learner import Learner
from pgnn.inference.learning.adversarial_objectives import AdversarialObjective, NonSaturating
from pgnn.inference.learning.adversarial_passes import AdversarialPasses
from pgnn.inference.learning.checkpoints import Checkpoints, check_checkpoints, keeper_of
from pgnn.inference.learning.distributed_e_step import check_group, rank_seed, together
from pgnn.inference.learning.fit_context import fitting_parameters, own_randomness, parts_in_mode
from pgnn.inference.learning.kept_passes import run_passes
from pgnn.inference.learning.minibatches import MakeOptimizer, MakeScheduler
from pgnn.inference.learning.tensor_batches import TensorBatches
from pgnn.limits import POSITIVE, Interval, check_callable, check_settings

Watch = Mapping[str, Callable[[Tensor], float]]


@dataclass(frozen=True)
class Adversarial(Learner):
    r"""Trains generators and discriminators against each other, by alternating steps.

    ``model.history["trace"]`` has for each pass the means of ``discriminator_loss`` and
    ``generator_loss``, of the norms of their gradients (``..._gradient``), and the ``score_gap``,
    the mean score of data minus that of samples: for a Wasserstein critic its estimate of the earth
    mover's distance. Losses do not measure the quality of samples; use ``watch`` for that. With
    ``keep``, ``model.history["samples"]`` has samples from fixed noise after some passes,
    ``(passes, keep, ...)``.

    Args:
        objective: The losses of both sides.
        discriminator_steps: Number of discriminator steps per generator step.
        optimizer: Function that creates a torch optimiser of the generators' parameters;
            ``Adam(lr=2e-4, betas=(0.5, 0.999))`` if not given.
        discriminator_optimizer: Likewise for the discriminators; that of the generators if not
            given.
        scheduler: Function that creates a learning rate scheduler of the generators' optimiser,
            stepped after each pass.
        discriminator_scheduler: Likewise for the discriminators; that of the generators if not
            given.
        batch_size: Rows per step, for data that is not an iterable of batches.
        epochs: Number of passes over the data.
        smoothing: One-sided label smoothing: target probability of data being generated.
        label_noise: Fraction of rows, redrawn in each step, whose labels are flipped for the
            discriminators.
        max_norm: Gradients with a larger norm are rescaled to this norm.
        max_value: Partial derivatives are first clipped to this absolute value.
        watch: Functions of samples by name, evaluated after each pass:
            ``{"modes": lambda x: pgnn.metrics.mode_coverage(x, ring, 0.3).covered}``.
        watched: Number of samples for ``watch``.
        keep: Number of samples to keep in the history.
        keep_every: Number of passes between kept samples.
        checkpoints: Where to save progress; an interrupted fit resumes from there,
            batches of an iterable in the order that its own random numbers give.
        distributed: Whether rows are split over the processes of ``torch.distributed``: each
            process reads separate rows, and each step uses ``batch_size`` rows of every process.
            All start with the parameters of the first one.
        mixed_precision: Whether networks multiply matrices in bfloat16 during the fit, which is
            faster and needs half the memory on a GPU. Parameters and losses keep their dtype.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Goodfellow et al. (2014), Generative adversarial nets. Salimans et al. (2016), Improved
        techniques for training GANs. Radford, Metz and Chintala (2016), Unsupervised representation
        learning with deep convolutional generative adversarial networks.
    """

    objective: AdversarialObjective = field(default_factory=NonSaturating)
    discriminator_steps: int = 1
    optimizer: MakeOptimizer | None = None
    discriminator_optimizer: MakeOptimizer | None = None
    scheduler: MakeScheduler | None = None
    discriminator_scheduler: MakeScheduler | None = None
    batch_size: int = 64
    epochs: int = 20
    smoothing: float = 0.0
    label_noise: float = 0.0
    max_norm: float | None = None
    max_value: float | None = None
    watch: Watch = field(default_factory=dict)
    watched: int = 1000
    keep: int = 0
    keep_every: int = 1
    checkpoints: Checkpoints | None = None
    distributed: bool = False
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        share = Interval(0.0, 0.5, open_high=True)
        check_settings(
            self, discriminator_steps=1, batch_size=1, epochs=1, smoothing=share, watched=1,
            label_noise=share, max_norm=POSITIVE, max_value=POSITIVE, keep=0, keep_every=1,
        )  # fmt: skip
        for what, example in (
            ("optimizer", "lambda p: torch.optim.Adam(p, lr=2e-4)"),
            ("scheduler", "lambda o: torch.optim.lr_scheduler.StepLR(o, 9)"),
        ):
            for name in (what, f"discriminator_{what}"):
                check_callable(name, getattr(self, name), example)
        check_checkpoints(self.checkpoints)
        if self.distributed and self.checkpoints is not None:
            raise ModelError("checkpoints need a single process", "leave out distributed=True")
        if not isinstance(self.objective, AdversarialObjective):
            raise ModelError(
                "objective must be an AdversarialObjective such as pgnn.NonSaturating(), got "
                f"{self.objective!r}"
            )
        for name, figure in self.watch.items():
            check_callable(f"watch[{name!r}]", figure, "lambda x: float(x.mean())")

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
        """Fit a model; see :meth:`Model.fit`.

        Args:
            model: An adversarial model, such as a :class:`~pgnn.GAN`.
            data: Rows ``(N, *shape)``, or a mapping, a data frame, a tuple of arrays (inputs last);
                or an iterable of such batches, iterated once per pass.
            weights: None: weights of rows are not supported.
            inputs: Covariates by name, ``(N, ...)``.
            seed: Random seed.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If the data is wrong. After an error the model is unchanged.
            ModelError: If nothing is learnable, or the model is not adversarial.
            PgnnError: If a loss or a gradient becomes infinite or NaN; the message names it and the
                step.
        """
        if not isinstance(model, AdversarialModel) or not isinstance(model, nn.Module):
            raise ModelError(
                "Adversarial() needs an adversarial model such as a GAN, got a "
                f"{type(model).__name__}"
            )
        if weights is not None:
            raise DataError("Adversarial() does not support weights of rows", "repeat rows instead")
        if self.distributed:
            check_group()
            seed = rank_seed(seed)
        with (
            fitting_parameters(model, self) as (_, history),
            own_randomness(seed),
            parts_in_mode(model, train=True),
            mixed_precision(self.mixed_precision),
        ):
            batches = self._batches(model, data, inputs)
            play = AdversarialPasses(self, model, batches)
            play.align()
            keeper = keeper_of(self, model, batches.rows, seed, ["epochs"])
            run = run_passes(play, keeper, self.epochs, progress)
            play.align()
            history.update(
                rows=batches.num_rows,
                iterations=run.state,
                steps=play.steps,
                converged=False,
                trace=play.trace,
            )
            if play.kept:
                history["samples"] = torch.stack(play.kept)

    def _batches(self, model: AdversarialModel, data: Any, inputs: Inputs | None) -> TensorBatches:
        """Return the source of batches; an error in one process is raised in all."""

        def read() -> TensorBatches:
            return TensorBatches(
                model.read_rows, data, inputs, self.batch_size, self.epochs, model.paired
            )

        batches: TensorBatches = together(read) if self.distributed else read()
        return batches
