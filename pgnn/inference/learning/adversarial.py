"""Learning by a game against networks that tell what is made from data."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.abilities import AdversarialModel, Duel, Inputs
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.factors.randomness import private_randomness
from pgnn.inference.learner import Learner
from pgnn.inference.learning.adversarial_objectives import AdversarialObjective, NonSaturating
from pgnn.inference.learning.fit_context import own_randomness, parts_in_mode
from pgnn.inference.learning.minibatches import MakeOptimizer, adam, clip
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.tensor_batches import Rows, TensorBatches
from pgnn.inference.loop import Info, iterate
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

    def __post_init__(self) -> None:
        share = Interval(0.0, 0.5, open_high=True)
        check_settings(
            self, discriminator_steps=1, batch_size=1, epochs=1, smoothing=share, watched=1,
            label_noise=share, max_norm=POSITIVE, max_value=POSITIVE, keep=0, keep_every=1,
        )  # fmt: skip
        example = "lambda p: torch.optim.Adam(p, lr=2e-4)"
        check_callable("optimizer", self.optimizer, example)
        check_callable("discriminator_optimizer", self.discriminator_optimizer, example)
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
            seed: Of everything that is random.
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
        learnable = LearnableParameters(model)
        batches = TensorBatches(
            model.read_rows, data, inputs, self.batch_size, self.epochs, model.paired
        )
        with (
            fitting(model, self) as history,
            own_randomness(seed),
            parts_in_mode(model, train=True),
        ):
            try:
                play = _Play(self, model, batches)
                run = iterate(play, self.epochs, progress=progress, label="passes")
            finally:
                learnable.clear()
            history.update(
                rows=batches.num_rows,
                iterations=run.iterations,
                steps=play.steps,
                converged=False,
                trace=run.history,
            )
            if play.kept:
                history["samples"] = torch.stack(play.kept)


class _Side:
    """The networks of one side, and what moves them."""

    def __init__(
        self, name: str, networks: Any, make: MakeOptimizer | None, settings: Adversarial
    ) -> None:
        self.name, self._settings = name, settings
        learnable = [p for network in networks for p in network.parameters() if p.requires_grad]
        self.parameters = list(dict.fromkeys(learnable))
        if not self.parameters:
            return
        make = make or (lambda p: adam(p, 2e-4, (0.5, 0.999)))
        self.optimizer = make(self.parameters)
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise ModelError(
                "optimizer must make one of torch's optimisers of the parameters, such as "
                f"lambda p: torch.optim.Adam(p, lr=2e-4); it made {self.optimizer!r}"
            )

    def step(self, loss: Tensor, place: str) -> dict[str, float]:
        """Make the loss smaller; return it with the length of its gradient."""
        self.optimizer.zero_grad()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _diverged(f"the {self.name}'s loss is {value}", place)
        loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        length = float(norm)
        if not math.isfinite(length):
            raise _diverged(f"the gradient of the {self.name} has length {length}", place)
        clip(self.parameters, self._settings.max_norm, self._settings.max_value)
        self.optimizer.step()
        return {f"{self.name}_loss": value, f"{self.name}_gradient": length}


class _Play:
    """One step is one pass over the data."""

    def __init__(
        self, settings: Adversarial, model: AdversarialModel, batches: TensorBatches
    ) -> None:
        self.settings, self.model, self.batches = settings, model, batches
        second = settings.discriminator_optimizer or settings.optimizer
        self.generator = _Side("generator", model.generators, settings.optimizer, settings)
        self.discriminator = _Side("discriminator", model.discriminators, second, settings)
        self.seed = int(torch.randint(2**31, ()))
        self.steps = 0
        self.kept: list[Tensor] = []

    def init(self) -> int:
        """Return the number of passes made."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Make a pass.

        Raises:
            PgnnError: If something stops being finite.
        """
        figures: dict[str, list[float]] = {}
        sample: dict[Hashable, list[Tensor]] = {}
        count = 0
        for rows in self.batches:
            self.steps += 1
            place = f"step {self.steps} (pass {state + 1})"
            report = self._discriminate(rows, place)
            if self.steps % self.settings.discriminator_steps == 0:
                report |= self._generate(rows, place)
            for name, value in report.items():
                figures.setdefault(name, []).append(value)
            if count < self.settings.watched:
                count += min(map(len, rows.values()))
                for n, x in rows.items():
                    sample.setdefault(n, []).append(x)
        means = {name: math.fsum(x) / len(x) for name, x in figures.items()}
        return state + 1, Info(False, means | self._look(sample, state))

    def _discriminate(self, rows: Rows, place: str) -> dict[str, float]:
        """A step of the discriminators."""
        if not self.discriminator.parameters:
            return {}
        with torch.no_grad():
            game = self.model.game(rows)
        with torch.enable_grad():
            parts = [self._discriminator_loss(duel) for duel in game.duels]
            loss = sum([part for part, _ in parts[1:]], parts[0][0])
        report = self.discriminator.step(loss, place)
        self.settings.objective.constrain(self.discriminator.parameters)
        return report | {"score_gap": sum(gap for _, gap in parts)}

    def _discriminator_loss(self, duel: Duel) -> tuple[Tensor, float]:
        """A discriminator's loss, and by how much it scores data higher."""
        objective, settings = self.settings.objective, self.settings
        real, generated = duel.discriminator(*duel.real), duel.discriminator(*duel.generated)
        real_loss, generated_loss = objective.real_loss(real), objective.generated_loss(generated)
        if settings.smoothing:
            real_loss = real_loss.lerp(objective.generated_loss(real), settings.smoothing)
        if settings.label_noise:
            wrong = torch.rand_like(real) < settings.label_noise
            real_loss = torch.where(wrong, objective.generated_loss(real), real_loss)
            wrong = torch.rand_like(generated) < settings.label_noise
            generated_loss = torch.where(wrong, objective.real_loss(generated), generated_loss)
        loss, penalty = real_loss.mean() + generated_loss.mean(), objective.penalty(duel)
        gap = float(real.detach().mean() - generated.detach().mean())
        return (loss if penalty is None else loss + penalty), gap

    def _generate(self, rows: Rows, place: str) -> dict[str, float]:
        """A step of the generators."""
        if not self.generator.parameters:
            return {}
        objective = self.settings.objective
        with torch.enable_grad():
            game = self.model.game(rows)
            losses = []
            for duel in game.duels:
                scores = duel.discriminator(*duel.generated)
                losses.append(objective.generator_loss(scores).mean())
                if duel.both_generated:
                    mirrored = objective.mirrored(duel.discriminator(*duel.real))
                    losses.append(objective.generator_loss(mirrored).mean())
            if game.penalty is not None:
                losses.append(game.penalty())
            loss = sum(losses[1:], losses[0])
        return self.generator.step(loss, place)

    def _look(self, sample: dict[Hashable, list[Tensor]], state: int) -> dict[str, float]:
        """Figures of what is made now, of which some is kept."""
        settings = self.settings
        keeps = settings.keep and (state + 1) % settings.keep_every == 0
        if not settings.watch and not keeps:
            return {}
        rows = {n: torch.cat(x)[: settings.watched] for n, x in sample.items()}
        network: Any = self.model
        with torch.no_grad(), private_randomness(self.seed), parts_in_mode(network, False, False):
            samples = self.model.preview(rows)
        if keeps:
            self.kept.append(samples[: settings.keep].cpu().clone())
        return {name: float(figure(samples)) for name, figure in settings.watch.items()}


def _diverged(why: str, place: str) -> PgnnError:
    return PgnnError(
        f"learning diverged at {place}: {why}; take smaller learning rates, such as "
        "optimizer=lambda p: torch.optim.Adam(p, lr=1e-4), or shorten gradients with max_norm"
    )
