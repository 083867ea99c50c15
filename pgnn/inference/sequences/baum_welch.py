"""Expectation maximisation for hidden Markov models."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pgnn.errors import DataError, ModelError, NotConverged, Unsupported
from pgnn.inference.engine import Inputs, Learner
from pgnn.inference.history import History
from pgnn.inference.learning.statistics import check_weights
from pgnn.inference.loop import Info, iterate
from pgnn.inference.sequences.chain_statistics import (
    ChainStatistics,
    expect,
    improve,
    learnable,
    log_prior,
)
from pgnn.inference.sequences.sequence_task import SequenceTask
from pgnn.inference.sequences.sequences import Sequences

_FALL = 1e-8
"""Relative fall of the value that rounding explains."""
_SHORT = 20
"""Iterations after which only the best of several starts goes on."""
_DEAD = 0.5
"""Expected steps in a state below which it is reported."""


@dataclass(frozen=True)
class BaumWelch(Learner):
    r"""Raises the likelihood by expected counts, with closed forms where there are any.

    .. math:: \theta \leftarrow \arg\max_\theta E_{p(z \mid x, \theta')}[\log p(x, z \mid \theta)]
        + \log p(\theta)

    Observed states count as they are, so that with all states given this is supervised counting.
    What was not seen is summed out. Emissions and transitions that have no closed form (networks,
    inputs) take steps of L-BFGS instead, which never lower the likelihood.

    Where nothing tells the states apart yet, learning begins with clusters of the observations
    (k-means). Of several starts each is run for a short while, and the best one to the end.

    ``model.history`` has ``log_likelihood``, ``iterations``, ``converged``, ``occupancy`` (expected
    steps in each state) and ``trace``, lists for each iteration.

    Args:
        prior: Of tables, such as :class:`Laplace`; or by place, ``"initial"``, the state's name
            for the transitions, the names of the emissions. Structural zeros stay zeros.
        restarts: Starts; from the second on random ones.
        initialize: Whether to begin with clusters; if not given, where no state differs.
        batch_size: Sequences for each step of streaming EM; all at once if not given.
        decay: Streaming EM forgets by steps of :math:`(k + 2)^{-\text{decay}}`, in (0.5, 1].
        max_iterations: Most passes over the sequences.
        tolerance: Gain of the value for each sequence, relative to it, at which to stop.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Baum, Petrie, Soules and Weiss (1970). Cappé and Moulines (2009), On-line EM for latent
        data models. Biernacki, Celeux and Govaert (2003), for the starts.
    """

    prior: Any = None
    restarts: int = 1
    initialize: bool | None = None
    batch_size: int | None = None
    decay: float = 0.7
    max_iterations: int = 500
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        for name in ("restarts", "max_iterations", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ModelError(f"{name} must be at least 1, got {value}")
        if not 0.5 < self.decay <= 1.0:
            raise ModelError(f"decay must be in (0.5, 1], got {self.decay}")
        if not 0.0 <= self.tolerance < math.inf:
            raise ModelError(f"tolerance must be finite and not negative, got {self.tolerance}")

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
        """Fit a hidden Markov model; ``model.history`` tells how it went.

        Args:
            model: A :class:`HiddenMarkovModel`.
            data: Sequences, see :class:`~pgnn.inference.sequences.sequences.Sequences`.
            weights: ``(B,)`` what each sequence counts.
            inputs: Covariates ``(B, T, ...)``.
            seed: Of the starts and of the order of batches.
            progress: Show a progress bar.

        Raises:
            DataError: If there is nothing to learn from, or a sequence is impossible. Whatever is
                raised, the model stays as it was.
            ModelError: If nothing is learnable.
            Unsupported: If the model is no chain.

        Warns:
            NotConverged: If the limit was reached, the value fell, or a state died.
        """
        begin = time.perf_counter()
        task = self._task(model, data, weights, inputs)
        before = {n: x.clone() for n, x in model.state_dict().items()}
        try:
            run, trace = self._best_run(task, seed, progress)
        except BaseException:
            model.load_state_dict(before)
            raise
        last = expect(model, task.seen, task.inputs, task.weights)
        model.history = History(
            {
                "learner": repr(self),
                "rows": task.seen.num_rows,
                "weight": float(task.weights.sum()),
                "log_likelihood": last.log_likelihood,
                "iterations": len(trace["log_likelihood"]),
                "converged": run.converged,
                "occupancy": last.occupancy.tolist(),
                "seconds": time.perf_counter() - begin,
                "trace": trace,
            }
        )
        self._warn(model, run, last)

    # --- helpers ------------------------------------------------------------------------------

    def _task(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> SequenceTask:
        if not hasattr(model, "chain"):
            raise Unsupported(
                f"BaumWelch learns hidden Markov models; {type(model).__name__} has no chain of "
                "states"
            )
        if not learnable(model):
            raise ModelError(
                "the model has nothing to learn: what was given is constant; "
                "model.requires_grad_() makes it where learning begins"
            )
        seen = Sequences.read([*model.variables.values()], data)
        if not seen.steps or not seen.num_rows:
            raise DataError("there are no steps to learn from")
        counted = torch.ones(seen.num_rows, dtype=torch.float64)
        if weights is not None:
            counted = torch.from_numpy(check_weights(weights, seen.num_rows))
        return SequenceTask(model, seen, inputs, counted, self._priors(model))

    def _priors(self, model: Any) -> dict[Hashable, Any]:
        from pgnn.inference.learning.priors import Prior

        places = learnable(model)
        if self.prior is None:
            return {}
        if isinstance(self.prior, Mapping):
            unknown = [n for n in self.prior if n not in places]
            if unknown:
                raise ModelError(
                    f"a prior is given for {unknown[0]!r}; places are "
                    + ", ".join(map(repr, places))
                )
            return dict(self.prior)
        if not isinstance(self.prior, Prior):
            raise ModelError(
                f"prior must be one such as Laplace(), or by place, got {self.prior!r}"
            )
        from pgnn.factors.tabular import Tabular

        return {n: self.prior for n, c in places.items() if isinstance(c, Tabular)}

    def _best_run(
        self, task: SequenceTask, seed: int | None, progress: bool
    ) -> tuple[Any, dict[str, list[float]]]:
        """Run every start for a while, and the best one to the end."""
        seeds = np.random.default_rng(seed).integers(2**31, size=self.restarts).tolist()
        clustered = task.symmetric() if self.initialize is None else self.initialize
        candidates = []
        for k, own in enumerate(seeds):
            if clustered or k:
                task.start(own, disturb=k > 0)
            method = _Passes(self, task, own)
            if self.restarts == 1:
                run = iterate(method, self.max_iterations, progress=progress, label="EM")
                return run, method.trace
            short = min(_SHORT, self.max_iterations)
            run = iterate(method, short, progress=progress, label=f"EM, start {k + 1}")
            candidates.append((task.value(), task.saved(), method, run))
        _, state, method, run = max(candidates, key=lambda c: c[0])
        task.model.load_state_dict(state)
        if not run.converged and self.max_iterations > _SHORT:
            left = self.max_iterations - _SHORT
            run = iterate(method, left, state=run.state, progress=progress, label="EM")
        return run, method.trace

    def _warn(self, model: Any, run: Any, last: ChainStatistics) -> None:
        dead = [model.state.states[k] for k in (last.occupancy < _DEAD).nonzero()[:, 0].tolist()]
        if dead:
            warnings.warn(
                f"BaumWelch: states {dead} are hardly used any more (less than {_DEAD} expected "
                "steps); take fewer states, more restarts=, or a prior",
                NotConverged,
                stacklevel=5,
            )
        if not run.converged:
            warnings.warn(
                f"BaumWelch stopped after {run.iterations} iterations before the likelihood came "
                "to rest; raise max_iterations",
                NotConverged,
                stacklevel=5,
            )


class _Passes:
    """EM as an iteration; the state is the value before the last M-step."""

    def __init__(self, learner: BaumWelch, task: SequenceTask, seed: int) -> None:
        self.learner, self.task = learner, task
        self.trace: dict[str, list[float]] = {"log_likelihood": [], "objective": []}
        self._rng = np.random.default_rng(seed)
        self._sums: ChainStatistics | None = None
        self._steps = 0

    def init(self) -> float:
        """No value yet."""
        return -math.inf

    def step(self, state: float) -> tuple[float, Info]:
        """One pass: an E-step, whether that was a gain, and an M-step."""
        task = self.task
        if self.learner.batch_size is not None:
            return self._stream(state)
        found = expect(task.model, task.seen, task.inputs, task.weights)
        value = found.log_likelihood + log_prior(task.model, task.priors)
        if not math.isfinite(value):
            raise DataError(f"the log-likelihood became {value}; use a prior or other starts")
        self._note(found.log_likelihood, value)
        scale = max(abs(value), 1.0)
        if value < state - _FALL * scale:
            warnings.warn(
                f"EM fell from {state:.6f} to {value:.6f}: a step without a closed form went too "
                "far, or numbers are at the end of their precision; stopped",
                NotConverged,
                stacklevel=2,
            )
            return value, Info(True, {"log_likelihood": found.log_likelihood})
        done = value - state <= self.learner.tolerance * scale
        if not done:
            improve(task.model, found, task.priors)
        return value, Info(done, {"log_likelihood": found.log_likelihood})

    def _stream(self, state: float) -> tuple[float, Info]:
        """One pass of streaming EM over batches in random order."""
        task, size = self.task, self.learner.batch_size or 1
        order = torch.from_numpy(self._rng.permutation(task.seen.num_rows))
        everything = float(task.weights.sum())
        for rows in order.split(size):  # type: ignore[no-untyped-call]
            found = expect(task.model, *task.part(rows))
            if not found.weight:
                continue
            scale = everything / found.weight
            share = (self._steps + 2.0) ** -self.learner.decay if self._sums else 1.0
            self._sums = (self._sums or found).mixed(found, share, scale)
            self._steps += 1
            improve(task.model, self._sums, task.priors)
        value = task.value()
        plain = value - log_prior(task.model, task.priors)
        self._note(plain, value)
        near = abs(value - state) <= self.learner.tolerance * max(abs(value), 1.0)
        return value, Info(near, {"log_likelihood": plain})

    def _note(self, log_likelihood: float, value: float) -> None:
        self.trace["log_likelihood"].append(log_likelihood)
        self.trace["objective"].append(value)
