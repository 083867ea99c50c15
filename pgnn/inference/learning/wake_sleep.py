"""Wake-sleep learning of a model and a recognition network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.factors.randomness import generator
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.factors.units.unit_layers import State
from pgnn.inference.learner import Learner
from pgnn.inference.learning.checkpoints import Checkpoints, check_checkpoints, keeper_of
from pgnn.inference.learning.control_variates import ControlVariates, layer_signals
from pgnn.inference.learning.fit_context import fitting_parameters
from pgnn.inference.learning.kept_passes import run_passes
from pgnn.inference.learning.layered_rows import read_layered_rows
from pgnn.inference.learning.minibatches import (
    MakeOptimizer,
    MakeScheduler,
    made_optimizer,
    made_scheduler,
    next_rates,
)
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.loop import Info
from pgnn.limits import check_callable, check_settings

_LARGEST = 1e4
"""Log odds that indicate divergence."""


@dataclass(frozen=True)
class WakeSleep(Learner):
    r"""Learns layers of binary units together with their recognition network.

    In the wake phase, hidden layers are drawn by the recognition from data, and the model maximises
    :math:`\log p(x)`. In the sleep phase, all layers are drawn from the model, and the recognition
    maximises :math:`\log q(x_{1:L} \mid x_0)`. With several samples both are weighted by
    :math:`p / q` (reweighted wake-sleep). With ``score_function`` the recognition follows the
    gradient of the lower bound itself, with a running baseline and scale for each layer (neural
    variational inference and learning); :class:`~pgnn.LowerBound` has more settings for it, of
    models with a normalised top. The top of a deep belief network learns by persistent chains (the
    up-down algorithm).

    ``model.history["trace"]["bound"]`` contains the mean lower bound of each pass, without the log
    partition function of an unnormalised top.

    Args:
        samples: Number of draws of the hidden layers for each row; several draws are reweighted.
        score_function: Whether the recognition follows the gradient of the bound instead of
            learning in the sleep phase.
        optimizer: Function that creates a torch optimiser; ``Adam(lr=0.003)`` by default.
        batch_size: Number of rows per step.
        epochs: Number of passes over the data.
        scheduler: Function that creates a learning rate scheduler for the optimiser, stepped after
            each pass.
        checkpoints: Where to save progress, from which an interrupted fit resumes.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Hinton, Dayan, Frey and Neal (1995), The wake-sleep algorithm for unsupervised neural
        networks. Bornschein and Bengio (2015), Reweighted wake-sleep. Mnih and Gregor (2014),
        Neural variational inference and learning in belief networks.

    Example:
        >>> import pgnn
        >>> rows = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]] * 50)
        >>> learner = WakeSleep(epochs=100, batch_size=20,
        ...                     optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
        >>> model = pgnn.SigmoidBeliefNetwork([4, 2]).fit(rows, learner=learner, seed=0)
        >>> float(model.log_prob({"visible": [1, 1, 0, 0]}).exp()) > 0.3
        True
    """

    samples: int = 1
    score_function: bool = False
    optimizer: MakeOptimizer | None = None
    batch_size: int = 100
    epochs: int = 20
    scheduler: MakeScheduler | None = None
    checkpoints: Checkpoints | None = None

    def __post_init__(self) -> None:
        check_settings(self, samples=1, batch_size=1, epochs=1)
        check_checkpoints(self.checkpoints)
        check_callable(
            "scheduler", self.scheduler, "lambda o: torch.optim.lr_scheduler.StepLR(o, 9)"
        )
        check_callable("optimizer", self.optimizer, "lambda p: torch.optim.Adam(p, lr=0.003)")
        if self.score_function and self.samples > 1:
            raise ModelError(
                "score_function needs samples=1; several samples are reweighted instead"
            )

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
        """Fit both networks; see :meth:`Model.fit`.

        Args:
            model: Layers with a recognition, such as a ``SigmoidBeliefNetwork``.
            data: Complete rows of the visible units.
            weights: Must be None, since rows have equal weight.
            inputs: None.
            seed: Random seed of the order of the rows and of all draws.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If the data is invalid. After an error the model is unchanged.
            ModelError: If the model has no recognition.
            PgnnError: If the parameters diverge.
        """
        if not isinstance(model, RecognisedLayers):
            raise ModelError(
                "WakeSleep() needs a model with a recognition network, such as a "
                f"SigmoidBeliefNetwork, got a {type(model).__name__}"
            )
        if weights is not None:
            raise DataError("WakeSleep() has no weights of rows", "repeat rows instead")
        if inputs is not None:
            raise DataError("layers of units have no covariates", "leave inputs out")
        rows = read_layered_rows(model, data)
        keeper = keeper_of(self, model, rows, seed, ["epochs"])  # type: ignore[arg-type]
        with fitting_parameters(model, self) as (learnable, history):
            work = _Nights(self, model, learnable, rows, seed)
            run_passes(work, keeper, self.epochs, progress)
            history.update(
                rows=len(rows), iterations=work.passes, converged=False, trace=work.trace
            )


class _Nights:
    """One step is one pass over the rows."""

    def __init__(self, settings: WakeSleep, model: Any, learnable: LearnableParameters,
                 rows: Tensor, seed: int | None) -> None:  # fmt: skip
        self.settings, self.model, self.rows = settings, model, rows
        self.parameters = learnable.parameters
        self.order = generator(seed)
        self.rng = torch.Generator(rows.device)
        self.rng.manual_seed(self.order.initial_seed() + 1)
        model.begin_learning(rows.mean(0), self.rng)
        make = settings.optimizer or (lambda p: torch.optim.Adam(p, lr=0.003))
        self.optimizer = made_optimizer(make, learnable.parameters)
        self.scheduler = made_scheduler(settings.scheduler, self.optimizer)
        self.chains: State = {}
        self.variates = ControlVariates(normalise=True)
        self.passes, self.trace = 0, dict[str, list[float]]()

    def init(self) -> int:
        """Return the number of passes made."""
        return self.passes

    def snapshot(self) -> dict[str, Any]:
        """Return the state for :meth:`restore`, on which all further passes depend."""
        return {
            "parameters": [p.detach().clone() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "random": [self.order.get_state(), self.rng.get_state()],
            "chains": list(self.chains.values()),
            "variates": self.variates.snapshot(),
            "passes": self.passes,
            "trace": self.trace,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a snapshot of the same fit."""
        with torch.no_grad():
            for p, x in zip(self.parameters, state["parameters"], strict=True):
                p.copy_(x)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        for rng, held in zip((self.order, self.rng), state["random"], strict=True):
            rng.set_state(held)
        top = [*self.model.variables][-2:]
        self.chains = dict(zip(top, state["chains"], strict=False))
        self.variates.resume(state["variates"])
        self.passes, self.trace = state["passes"], dict(state["trace"])

    def step(self, state: int) -> tuple[int, Info]:
        """Make a pass.

        Raises:
            PgnnError: If the bound becomes infinite or NaN, or parameters diverge.
        """
        total = 0.0
        for batch in self._batches():
            self.optimizer.zero_grad()
            with torch.enable_grad():
                loss, bound = self._awake(batch)
                loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += bound * len(batch)
        mean = total / len(self.rows)
        largest = max(float(p.detach().abs().max()) for p in self.parameters)
        if not (math.isfinite(mean) and largest < _LARGEST):
            raise PgnnError(f"learning diverged in pass {state + 1}", "use a smaller learning rate")
        next_rates(self.scheduler, -mean)
        self.passes = state + 1
        self.trace.setdefault("bound", []).append(mean)
        return self.passes, Info(False, {"bound": mean})

    def _batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.rows), generator=self.order)
        for k in range(0, len(order), self.settings.batch_size):
            yield self.rows[order[k : k + self.settings.batch_size].to(self.rows.device)]

    def _awake(self, batch: Tensor) -> tuple[Tensor, float]:
        """Return the loss and the mean bound."""
        count = self.settings.samples
        repeated = batch.repeat(count, 1)
        states = self.model.recognise(repeated, self.rng)
        log_p, log_q = self.model.joint_terms(states), self.model.recognition_terms(states)
        joint, recognised = torch.stack(log_p).sum(0), torch.stack(log_q).sum(0)
        ratio = (joint - recognised).detach().reshape(count, -1)
        share = ratio.softmax(0).reshape(-1) / len(batch)
        loss = -(share * joint).sum() + self.model.log_normaliser(states, self.rng, self.chains)
        if self.settings.score_function:
            loss = loss - self._scores(log_p, log_q, states).mean()
        elif count > 1:
            loss = loss - 0.5 * (share * recognised).sum() + 0.5 * self._asleep(len(batch))
        else:
            loss = loss + self._asleep(len(batch))
        return loss, float((ratio.logsumexp(0) - math.log(count)).mean())

    def _scores(
        self, log_p: Sequence[Tensor], log_q: Sequence[Tensor], states: Sequence[Tensor]
    ) -> Tensor:
        """``(1, N)`` values whose gradient by the recognition is that of the bound."""
        signals = layer_signals(*([x[None] for x in xs] for xs in (log_p, log_q, states[:-1])))
        learned = self.variates.centred([s.log_weights for s in signals], [None] * len(signals))
        return torch.stack([x * s.log_q for x, s in zip(learned, signals, strict=True)]).sum(0)

    def _asleep(self, rows: int) -> Tensor:
        dreamt: Tensor = self.model.log_recognition(self.model.dream(rows, self.rng, self.chains))
        return -dreamt.mean()
