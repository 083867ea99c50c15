"""Learning by a game against networks that tell what is made from data."""

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
from pgnn.inference.learning.fit_context import learnt, own_randomness, parts_in_mode
from pgnn.inference.learning.minibatches import MakeOptimizer, MakeScheduler
from pgnn.inference.learning.tensor_batches import TensorBatches
from pgnn.inference.loop import iterate
from pgnn.limits import POSITIVE, Interval, check_callable, check_settings

Watch = Mapping[str, Callable[[Tensor], float]]


@dataclass(frozen=True)
class Adversarial(Learner):
    r"""Trains generators and discriminators against each other, in turn.

    ``model.history["trace"]`` has for each pass the means of ``discriminator_loss`` and
    ``generator_loss``, of the lengths of their gradients (``..._gradient``), and the ``score_gap``,
    the mean score of data less that of what is generated: of a Wasserstein critic its estimate of
    the earth mover's distance. Losses do not tell how good samples are; ``watch`` does. With
    ``keep``, ``model.history["samples"]`` has samples of the same noise after some passes,
    ``(passes, keep, ...)``.

    Args:
        objective: What both sides make small.
        discriminator_steps: Batches that the discriminators learn from for each step of the
            generators.
        optimizer: Makes one of torch's optimisers of the generators' parameters;
            ``Adam(lr=2e-4, betas=(0.5, 0.999))`` if not given.
        discriminator_optimizer: Likewise of the discriminators'; made as that of the generators if
            not given.
        scheduler: What makes a learning rate scheduler of the generators' optimiser, stepped after
            each pass.
        discriminator_scheduler: Likewise of the discriminators'; as that of the generators if not
            given.
        batch_size: Rows for a step, where data comes at once.
        epochs: Passes over the data.
        smoothing: Share of data that discriminators are taught to take for generated: one-sided
            label smoothing.
        label_noise: Share of rows, drawn anew each step, whose labels are exchanged for the
            discriminators.
        max_norm: Gradients longer than this are shortened.
        max_value: Derivatives larger than this are cut off, before that.
        watch: Figures by name of what is made, looked at after each pass:
            ``{"modes": lambda x: pgnn.metrics.mode_coverage(x, ring, 0.3).covered}``.
        watched: Rows that are made to be looked at.
        keep: How many of them are kept in the history.
        keep_every: Passes from one that is kept to the next.
        checkpoints: Where to write down how far it is; a fit that was ended goes on from there,
            batches of an iterable in the order that its own random numbers give.
        distributed: Whether rows are split over the processes of ``torch.distributed``: each reads
            rows of its own, and each step is made of the batches of all, ``batch_size`` rows of
            each process. All begin with the first one's numbers.
        mixed_precision: Whether networks multiply matrices in bfloat16 meanwhile: faster and half
            the memory on a GPU. Parameters and losses keep their type.

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
            raise ModelError("checkpoints are of one process: leave them out with distributed=True")
        if not isinstance(self.objective, AdversarialObjective):
            raise ModelError(
                f"objective must be one such as pgnn.NonSaturating(), got {self.objective!r}"
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
        """Play the game; see :meth:`Model.fit`.

        Args:
            model: An adversarial model, such as a :class:`~pgnn.GAN`.
            data: Rows ``(N, *shape)``, or a mapping, a data frame, a tuple of arrays (inputs last);
                or an iterable of such batches, gone through once a pass.
            weights: None: rows count the same here.
            inputs: Covariates by name, ``(N, ...)``.
            seed: Random seed.
            progress: Show a progress bar.

        Raises:
            DataError: If the data is wrong. Whatever is raised, the model stays as it was.
            ModelError: If nothing is learnable, or the model plays no game.
            PgnnError: If a loss or a gradient stops being finite; it is told whose, and when.
        """
        if not isinstance(model, AdversarialModel) or not isinstance(model, nn.Module):
            raise ModelError(
                f"Adversarial() is for models such as a GAN; a {type(model).__name__} plays no game"
            )
        if weights is not None:
            raise DataError("Adversarial() has no weights of rows; repeat rows instead")
        if self.distributed:
            check_group()
            seed = rank_seed(seed)
        with (
            learnt(model, self) as (_, history),
            own_randomness(seed),
            parts_in_mode(model, train=True),
            mixed_precision(self.mixed_precision),
        ):
            batches = self._batches(model, data, inputs)
            play = AdversarialPasses(self, model, batches)
            play.align()
            keeper = keeper_of(self, model, batches.rows, seed, ["epochs"])
            before = keeper.state()
            if before is not None:
                play.restore(before)
            run = iterate(
                play, self.epochs - play.passes, progress=progress, label="passes",
                after=lambda _: keeper.write(play.snapshot()) if keeper.due else None,
            )  # fmt: skip
            play.align()
            keeper.close()
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
        """Where rows come from, in all processes or in none."""

        def read() -> TensorBatches:
            return TensorBatches(
                model.read_rows, data, inputs, self.batch_size, self.epochs, model.paired
            )

        batches: TensorBatches = together(read) if self.distributed else read()
        return batches
