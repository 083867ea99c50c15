"""Wake and sleep: two networks learn from each other's draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, PgnnError
from pgnn.factors.randomness import generator
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.factors.units.unit_layers import State
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.layered_rows import read_layered_rows
from pgnn.inference.learning.minibatches import MakeOptimizer, made_optimizer
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import restored_on_failure
from pgnn.inference.loop import Info, iterate
from pgnn.limits import check_callable, check_settings

_FADING = 0.9
_LARGEST = 1e4
"""Log odds that are a sign of divergence."""


@dataclass(frozen=True)
class WakeSleep(Learner):
    r"""Learns layers of binary units together with the network that recognises them.

    Awake, hidden layers are drawn from the data upwards, and the model learns to make them:
    :math:`\max \log p(x)`. Asleep, the model dreams, and the recognition learns to see what it
    dreamt: :math:`\max \log q(x_{1:L} \mid x_0)`. With several samples both are weighted by
    :math:`p / q` (reweighted wake-sleep). With ``score_function`` the recognition follows the
    gradient of the lower bound itself, with a running baseline and scale (neural variational
    inference and learning). Of a deep belief network the top learns by persistent chains (the
    up-down algorithm).

    ``model.history["trace"]["bound"]`` has the mean lower bound of each pass, less the log
    partition function of a top that is not normalised.

    Args:
        samples: Draws of the hidden layers for each row; more than one are reweighted.
        score_function: Whether the recognition follows the bound, instead of learning from dreams.
        optimizer: Makes one of torch's optimisers; ``Adam(lr=0.003)`` if not given.
        batch_size: Rows for a step.
        epochs: Passes over the data.

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

    def __post_init__(self) -> None:
        check_settings(self, samples=1, batch_size=1, epochs=1)
        check_callable("optimizer", self.optimizer, "lambda p: torch.optim.Adam(p, lr=0.003)")
        if self.score_function and self.samples > 1:
            raise ModelError("score_function takes one sample; more are reweighted instead")

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
            weights: None: rows count the same here.
            inputs: None.
            seed: Random seed of the order of the rows and of all draws.
            progress: Show a progress bar.

        Raises:
            DataError: If the data is wrong. Whatever is raised, the model stays as it was.
            ModelError: If the model has no recognition.
            PgnnError: If the parameters diverge.
        """
        if not isinstance(model, RecognisedLayers):
            raise ModelError(
                "WakeSleep() learns layers with a recognition, such as a SigmoidBeliefNetwork; a "
                f"{type(model).__name__} has none"
            )
        if weights is not None:
            raise DataError("WakeSleep() has no weights of rows; repeat rows instead")
        if inputs is not None:
            raise DataError("layers of units have no covariates: leave inputs out")
        rows = read_layered_rows(model, data)
        learnable = LearnableParameters(model)  # type: ignore[arg-type]
        with restored_on_failure(model):
            try:
                work = _Nights(self, model, learnable, rows, seed)
                run = iterate(work, self.epochs, progress=progress, label="passes")
            finally:
                learnable.clear()
            model.history = History(  # type: ignore[attr-defined]
                {
                    "learner": repr(self),
                    "rows": len(rows),
                    "iterations": run.iterations,
                    "converged": False,
                    "seconds": run.seconds,
                    "trace": run.history,
                }
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
        self.chains: State = {}
        self.baseline, self.scale = 0.0, 1.0

    def init(self) -> int:
        """Return the number of passes made."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Make a pass.

        Raises:
            PgnnError: If the bound stops being finite, or parameters grow without end.
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
            raise PgnnError(f"learning diverged in pass {state + 1}: take a smaller learning rate")
        return state + 1, Info(False, {"bound": mean})

    def _batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.rows), generator=self.order)
        for k in range(0, len(order), self.settings.batch_size):
            yield self.rows[order[k : k + self.settings.batch_size].to(self.rows.device)]

    def _awake(self, batch: Tensor) -> tuple[Tensor, float]:
        """What is to be minimised, and the mean bound."""
        count = self.settings.samples
        repeated = batch.repeat(count, 1)
        states = self.model.recognise(repeated, self.rng)
        joint, log_q = self.model.log_joint(states, self.rng), self.model.log_recognition(states)
        ratio = (joint - log_q).detach().reshape(count, -1)
        share = ratio.softmax(0).reshape(-1) / len(batch)
        loss = -(share * joint).sum() + self.model.log_normaliser(states, self.rng, self.chains)
        if self.settings.score_function:
            loss = loss - (self._centred(ratio[0]) * log_q).mean()
        elif count > 1:
            loss = loss - 0.5 * (share * log_q).sum() + 0.5 * self._asleep(len(batch))
        else:
            loss = loss + self._asleep(len(batch))
        return loss, float((ratio.logsumexp(0) - math.log(count)).mean())

    def _asleep(self, rows: int) -> Tensor:
        dreamt: Tensor = self.model.log_recognition(self.model.dream(rows, self.rng, self.chains))
        return -dreamt.mean()

    def _centred(self, signal: Tensor) -> Tensor:
        mean, spread = float(signal.mean()), float(signal.std(unbiased=False))
        first = self.baseline == 0.0 and self.scale == 1.0
        keep = 0.0 if first else _FADING
        self.baseline = keep * self.baseline + (1 - keep) * mean
        self.scale = keep * self.scale + (1 - keep) * spread
        return (signal - self.baseline) / max(self.scale, 1.0)
