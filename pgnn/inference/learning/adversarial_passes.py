"""Passes of adversarial learning over data, which can be resumed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.abilities import AdversarialModel, Duel
from pgnn.errors import ModelError, PgnnError
from pgnn.factors.randomness import private_randomness, random_states, set_random_states
from pgnn.inference.learning.distributed_e_step import averaged, exchanged, from_first
from pgnn.inference.learning.fit_context import parts_in_mode
from pgnn.inference.learning.minibatches import (
    MakeOptimizer,
    MakeScheduler,
    adam,
    clip,
    made_optimizer,
    made_scheduler,
    next_rates,
)
from pgnn.inference.learning.tensor_batches import Rows, TensorBatches
from pgnn.inference.loop import Info

if TYPE_CHECKING:
    from pgnn.inference.learning.adversarial import Adversarial


class _Side:
    """The networks of one side, with optimiser and scheduler."""

    def __init__(
        self, name: str, networks: Any, settings: Adversarial, make: MakeOptimizer | None,
        schedule: MakeScheduler | None,
    ) -> None:  # fmt: skip
        self.name, self._settings = name, settings
        learnable = [p for network in networks for p in network.parameters() if p.requires_grad]
        self.parameters = list(dict.fromkeys(learnable))
        self.scheduler: Any = None
        if self.parameters:
            make = make or (lambda p: adam(p, 2e-4, (0.5, 0.999)))
            self.optimizer = made_optimizer(make, self.parameters)
            self.scheduler = made_scheduler(schedule, self.optimizer)

    def step(self, loss: Tensor | None, rows: int, place: str) -> dict[str, float]:
        """Take a step that decreases the loss; return the loss and the norm of its gradient.

        Args:
            loss: The mean over this process's rows; None if only other processes have rows.
            rows: Number of rows.
            place: Description of the step, for messages.
        """
        self.optimizer.zero_grad()
        value = 0.0
        if loss is not None:
            value = float(loss.detach())
            loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
        if self._settings.distributed:
            value, _ = averaged(self.parameters, value, rows)
        if not math.isfinite(value):
            raise _diverged(f"the {self.name}'s loss is {value}", place)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        length = float(nn.utils.get_total_norm(gradients))
        if not math.isfinite(length):
            raise _diverged(f"the gradient of the {self.name} has norm {length}", place)
        clip(self.parameters, self._settings.max_norm, self._settings.max_value)
        self.optimizer.step()
        return {f"{self.name}_loss": value, f"{self.name}_gradient": length}

    def snapshot(self) -> list[Any]:
        """Return the state of the optimiser and the scheduler."""
        parts = [self.optimizer] if self.parameters else []
        return [part.state_dict() for part in (*parts, self.scheduler) if part is not None]

    def restore(self, state: list[Any]) -> None:
        """Restore the result of :meth:`snapshot`."""
        parts = [self.optimizer] if self.parameters else []
        every = [part for part in (*parts, self.scheduler) if part is not None]
        for part, held in zip(every, state, strict=True):
            part.load_state_dict(held)


class AdversarialPasses:
    """One step is one pass over the data.

    Args:
        settings: Settings of the learner.
        model: The adversarial model.
        batches: Batches of the data.

    Attributes:
        passes: Number of completed passes.
        steps: Number of steps.
        trace: Metrics of each pass.
        kept: Samples kept for the history.
    """

    def __init__(
        self, settings: Adversarial, model: AdversarialModel, batches: TensorBatches
    ) -> None:
        self.settings, self.batches = settings, batches
        self.model: Any = model
        self.generator = _Side(
            "generator", model.generators, settings, settings.optimizer, settings.scheduler
        )
        self.discriminator = _Side(
            "discriminator",
            model.discriminators,
            settings,
            settings.discriminator_optimizer or settings.optimizer,
            settings.discriminator_scheduler or settings.scheduler,
        )
        self.seed = int(torch.randint(2**31, ()))
        self.passes = self.steps = 0
        self.trace: dict[str, list[float]] = {}
        self.kept: list[Tensor] = []

    def init(self) -> int:
        """Return the number of passes made."""
        return self.passes

    def align(self) -> None:
        """Broadcast the parameters of the first process."""
        if self.settings.distributed:
            self.model.load_state_dict(from_first(self.model.state_dict()))

    def snapshot(self) -> dict[str, Any]:
        """Return the state that further passes depend on, for :meth:`restore`."""
        return {
            "numbers": {n: x.detach().clone() for n, x in self.model.state_dict().items()},
            "sides": [self.generator.snapshot(), self.discriminator.snapshot()],
            "noise": random_states(),
            "seed": self.seed,
            "passes": self.passes,
            "steps": self.steps,
            "trace": self.trace,
            "kept": self.kept,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from the state of the same fit."""
        self.model.load_state_dict(state["numbers"])
        for side, held in zip((self.generator, self.discriminator), state["sides"], strict=True):
            side.restore(held)
        set_random_states(state["noise"])
        self.seed, self.passes, self.steps = state["seed"], state["passes"], state["steps"]
        self.trace, self.kept = dict(state["trace"]), [*state["kept"]]

    def step(self, state: int) -> tuple[int, Info]:
        """Run a pass.

        Raises:
            PgnnError: If a value becomes infinite or NaN.
        """
        figures: dict[str, list[float]] = {}
        sample: dict[Hashable, list[Tensor]] = {}
        count = 0
        for rows in self._of_all_processes():
            self.steps += 1
            place = f"step {self.steps} (pass {state + 1})"
            report = self._discriminate(rows, place)
            if self.steps % self.settings.discriminator_steps == 0:
                report |= self._generate(rows, place)
            for name, value in report.items():
                figures.setdefault(name, []).append(value)
            if rows is not None and count < self.settings.watched:
                count += min(map(len, rows.values()))
                for n, x in rows.items():
                    sample.setdefault(n, []).append(x)
        means = {name: math.fsum(x) / len(x) for name, x in figures.items()}
        for side in (self.generator, self.discriminator):
            next_rates(side.scheduler, means.get(f"{side.name}_loss", 0.0))
        self.passes = state + 1
        shown = means | self._look(sample, state)
        for name, value in shown.items():
            self.trace.setdefault(name, []).append(float(value))
        return self.passes, Info(False, shown)

    def _of_all_processes(self) -> Iterator[Rows | None]:
        """Yield the batches of a pass; None while other processes have more."""
        batches = iter(self.batches)
        if not self.settings.distributed:
            yield from batches
            return
        rows = next(batches, None)
        while any(exchanged(rows is not None)):
            yield rows
            rows = next(batches, None)

    def _discriminate(self, rows: Rows | None, place: str) -> dict[str, float]:
        """Take a step of the discriminators."""
        if not self.discriminator.parameters:
            return {}
        loss, gap = None, {}
        if rows is not None:
            with torch.no_grad():
                game = self.model.game(rows)
            with torch.enable_grad():
                parts = [self._discriminator_loss(duel) for duel in game.duels]
                loss = sum([part for part, _ in parts[1:]], parts[0][0])
            gap = {"score_gap": sum(part for _, part in parts)}
        report = self.discriminator.step(loss, _number(rows), place)
        self.settings.objective.constrain(self.discriminator.parameters)
        return report | gap

    def _discriminator_loss(self, duel: Duel) -> tuple[Tensor, float]:
        """Return the loss of a discriminator and its mean score gap between data and samples."""
        objective, settings = self.settings.objective, self.settings
        real, generated = _scores(duel, duel.real), _scores(duel, duel.generated)
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

    def _generate(self, rows: Rows | None, place: str) -> dict[str, float]:
        """Take a step of the generators."""
        if not self.generator.parameters:
            return {}
        loss = None if rows is None else self._generator_loss(rows)
        return self.generator.step(loss, _number(rows), place)

    def _generator_loss(self, rows: Rows) -> Tensor:
        """Return the loss of the generators."""
        objective = self.settings.objective
        with torch.enable_grad():
            game = self.model.game(rows)
            losses = []
            for duel in game.duels:
                scores = _scores(duel, duel.generated)
                losses.append(objective.generator_loss(scores).mean())
                if duel.both_generated:
                    mirrored = objective.mirrored(_scores(duel, duel.real))
                    losses.append(objective.generator_loss(mirrored).mean())
            if game.penalty is not None:
                losses.append(game.penalty())
            loss: Tensor = sum(losses[1:], losses[0])
        return loss

    def _look(self, sample: dict[Hashable, list[Tensor]], state: int) -> dict[str, float]:
        """Return metrics of current samples and store some of the samples."""
        settings = self.settings
        keeps = settings.keep and (state + 1) % settings.keep_every == 0
        if not settings.watch and not keeps:
            return {}
        rows = {n: torch.cat(x)[: settings.watched] for n, x in sample.items()}
        quiet = parts_in_mode(self.model, False, False)
        with torch.no_grad(), private_randomness(self.seed), quiet:
            samples = self.model.preview(rows)
        if keeps:
            self.kept.append(samples[: settings.keep].cpu().clone())
        return {name: float(figure(samples)) for name, figure in settings.watch.items()}


def _scores(duel: Duel, arguments: tuple[Tensor, ...]) -> Tensor:
    """Return the scores of a discriminator: one per row, or a map per row.

    Raises:
        ModelError: If the shape is wrong, such as the two outputs of a classifier.
    """
    scores, rows = duel.discriminator(*arguments), len(arguments[0])
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else None
    if shape is None or shape[:1] != (rows,) or (len(shape) == 2 and shape[1] != 1):
        raise ModelError(
            f"a discriminator must return one score for each of {rows} rows, ({rows},) or "
            f"({rows}, 1), or a map of scores, ({rows}, 1, height, width); it returned "
            f"{repr(scores) if shape is None else shape}. Log odds of being real are one number, "
            "where a classifier of two classes has two"
        )
    return scores


def _number(rows: Rows | None) -> int:
    return 0 if rows is None else min(map(len, rows.values()))


def _diverged(why: str, place: str) -> PgnnError:
    return PgnnError(
        f"learning diverged at {place}: {why}",
        "use smaller learning rates, such as optimizer=lambda p: torch.optim.Adam(p, lr=1e-4), or "
        "clip gradients with max_norm",
    )
