"""Particle filters, of models over time and of programs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ExecutableModel, Inputs, SlicedModel
from pgnn.errors import ImpossibleEvidence, ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.randomness import private_randomness
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.particles.resampled_executions import ResampledExecutions
from pgnn.inference.particles.resampling import Resampling
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.inference.time.backward_simulation import BackwardSimulation
from pgnn.inference.time.particle_answers import (
    best_path,
    chosen_paths,
    cloud_weights,
    particle_posterior,
    path_weights,
    warn_of_few,
    within,
)
from pgnn.inference.time.particle_filter import ParticleFilter, ParticleHistory, check_proposals
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.steps_ahead import StepsAhead
from pgnn.limits import Interval, check_settings, check_size, check_work


@dataclass(frozen=True)
class SequentialMonteCarlo(SequenceEngine):
    r"""A particle filter: weighted draws that move along, and are resampled when few count.

    .. math:: x_t^i \sim q(x_t \mid x_{t-1}^i, e_t), \qquad
        w_t^i = w_{t-1}^i \frac{p(e_t \mid x_t^i)\, p(x_t^i \mid x_{t-1}^i)}
                               {q(x_t^i \mid x_{t-1}^i, e_t)}, \qquad
        \hat p(e_{1:t}) = \prod_{s \le t} \sum_i W_{s-1}^i \frac{w_s^i}{w_{s-1}^i}

    It supports models over time with any transitions and observations, and with real or discrete
    states, such as a :class:`DynamicBayesianNetwork` with :class:`Distributional` and
    :class:`Neural` conditionals. Rows may have any lengths, and gaps. Particles are drawn from the
    transitions of the model (the bootstrap filter) unless a proposal is given. ``filter`` returns
    the weighted particles of each step, ``smooth`` and ``query`` the paths that survive to the end,
    traced back through their ancestors; ``sample`` draws paths by their weights.

    Executions of a :class:`Program` are vectorised and resampled after each observation, site by
    site. The program may contain Python loops, for example over time, but its control flow must not
    depend on latent values.

    :math:`\hat p(e)` is unbiased. ``diagnostics`` contain ``"log_evidence_standard_error"``, from
    the families of particles (see :class:`ParticleWeights`), the smallest
    ``"effective_sample_size"`` of each row, and ``"distinct"``, the numbers of particles of each
    step with descendants at the end. A warning is issued if the weights, or the paths of a smoothed
    answer, are based on fewer than a hundred particles. Answers are not differentiable.

    Args:
        particles: Number ``N`` of particles for each row.
        threshold: Share of ``N`` below which the effective sample size triggers resampling.
        resampling: The resampling scheme.
        proposal: Conditionals :math:`q(x_t \mid \cdot)` from which latent variables of a model over
            time are drawn. Parents may be variables of the previous slice, named ``(name, -1)``,
            variables drawn earlier, and observed variables of the slice; at steps where one of
            these is unknown, the transition of the model is used.
        backward: Number of paths that are drawn by backward simulation for smoothed answers and
            samples, which avoids path degeneracy (Godsill, Doucet and West 2004); 0 traces the
            ancestors of the particles.
        seed: The same seed gives the same answer.
        progress: Whether to show a progress bar after one second.
        why: Reported in the answer's diagnostics as the reason, if any.

    Raises:
        ModelError: If ``particles`` is less than 2, or ``threshold`` not between 0 and 1.
        Unsupported: If the model is neither a repeated slice nor a program, or the executions of
            the program cannot be vectorised.

    Cost:
        ``N`` draws, densities and exponentials at each step of each row; ``N`` transition
        densities for each path that is drawn backward.

    References:
        Gordon, Salmond and Smith (1993), Novel approach to nonlinear/non-Gaussian Bayesian state
        estimation. Doucet and Johansen (2011), A tutorial on particle filtering and smoothing.
        Chopin and Papaspiliopoulos (2020), An introduction to sequential Monte Carlo, chapter 10.

    Example:
        >>> import pgnn, torch
        >>> from torch.distributions import Normal
        >>> x, before, y = pgnn.Variable("x"), pgnn.Variable(("x", -1)), pgnn.Variable("y")
        >>> model = pgnn.DynamicBayesianNetwork(
        ...     [(("x", -1), "x"), ("x", "y")],
        ...     {"x": pgnn.Distributional(x, [before], lambda past: Normal(torch.sin(past), 0.3)),
        ...      "y": pgnn.Distributional(y, [x], lambda now: Normal(now, 0.5))},
        ...     initial={"x": pgnn.Gaussian(x, mean=0.0, covariance=1.0)},
        ... )
        >>> found = model.filter({"y": [0.5, None, 0.8]}, engine=SequentialMonteCarlo(seed=0))
        >>> found["x"].mean.shape, found.kind
        (torch.Size([3]), 'estimate')
    """

    particles: int = 1000
    threshold: float = 0.5
    resampling: Resampling = Resampling.SYSTEMATIC
    proposal: Mapping[Hashable, Conditional] = field(default_factory=dict)
    backward: int = 0
    seed: int | None = None
    progress: bool = True
    why: str | None = None
    takes_reals: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, particles=2, threshold=Interval(0.0, 1.0))
        if not isinstance(self.resampling, Resampling):
            raise ModelError(
                f"resampling must be one such as Resampling.SYSTEMATIC, got {self.resampling!r}"
            )

    # --- models over time ---------------------------------------------------------------------

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> Any:
        """Read evidence as sequences, of a program as rows."""
        if isinstance(model, ExecutableModel):
            return Question.read(model, evidence, inputs, names=names, errors=errors)  # type: ignore[arg-type]
        if not isinstance(model, SlicedModel):
            raise Unsupported(
                "SequentialMonteCarlo() moves along models over time and programs, a "
                f"{type(model).__name__} is neither",
                "use ImportanceSampling(), or pgnn.Program(model.program())",
            )
        check_proposals(model, self.proposal)
        return super().read(model, evidence, inputs, names=names, errors=errors)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence, of paths traced back; see the base class."""
        if self.backward:
            return self._smooth_backward(question)
        run = self._run(question, kept=question.every_name)
        distinct = run.num_distinct()
        warn_of_few(run, distinct, question.engine)
        values = {n: run.paths(n) for n in question.every_name}
        diagnostics = {**self._reasons, "distinct": question.alone(torch.from_numpy(distinct))}
        logs = path_weights(run, question.observed.steps)
        return particle_posterior(question, run, values, logs, diagnostics, traced=True)

    def _smooth_backward(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of paths drawn backward."""
        names = question.every_name
        back, chosen = self._backward(question, names, self.backward)
        values = {n: back.along(n, chosen) for n in names}
        shape = (self.backward, question.num_rows, question.observed.steps)
        logs = torch.full(shape, -math.log(self.backward), dtype=torch.float64)
        diagnostics = {**self._reasons, "num_paths": self.backward}
        return particle_posterior(question, back.run, values, logs, diagnostics, traced=False)

    def _backward(
        self, question: SequenceQuestion, names: Sequence[Hashable], number: int
    ) -> tuple[BackwardSimulation, NDArray[np.int64]]:
        """Return particles of all steps, and ``(T, B, M)`` indices of those on paths."""
        model, observed = question.model, question.observed
        pairs = number * self.particles * observed.num_rows * observed.steps
        check_work(f"{number:,} paths backward", pairs, "Draw fewer, or of fewer particles")
        kept = [*dict.fromkeys([*names, *BackwardSimulation.needed(model)])]
        run = self._run(question, kept=kept, filtered=True)
        warn_of_few(run, None, question.engine)
        back = BackwardSimulation(model, run, question.covariates)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed).spawn(1)[0])
        return back, back.paths(number, rng, self.progress)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the evidence so far; see the base class."""
        run = self._run(question, kept=question.every_name, filtered=True)
        warn_of_few(run, None, question.engine)
        values = {n: run.clouds(n) for n in question.every_name}
        increments = question.alone(torch.from_numpy(run.increments))
        diagnostics = {**self._reasons, "log_increments": increments}
        return particle_posterior(
            question, run, values, cloud_weights(run), diagnostics, traced=False
        )

    def predict_steps(self, ahead: StepsAhead) -> Posterior:
        """Return marginals at the next steps; see the base class. Targets may be real."""
        model, observed, steps = ahead.model, ahead.observed, ahead.steps
        whole: SequenceQuestion = self.read(
            model, ahead.extended, ahead.inputs, names=ahead.targets
        )
        run = self._run(whole, kept=whole.every_name)
        warn_of_few(run, None, whole.engine)
        rows = torch.arange(observed.num_rows)[:, None]
        values = {n: run.paths(n)[:, rows, ahead.places] for n in whole.every_name}
        future = SequenceQuestion(
            model,
            ahead.after,
            names=whole.every_name,
            engine=whole.engine,
            takes_reals=True,
        )
        logs = path_weights(run, steps)
        return particle_posterior(future, run, values, logs, self._reasons, traced=True)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return estimates of log probabilities of the evidence, unbiased before the log."""
        run = self._run(question, kept=[])
        warn_of_few(run, None, question.engine)
        return torch.from_numpy(run.weights.log_evidence)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables: paths chosen by their weights; see the base class."""
        observed = question.observed
        weighed = bool(observed.codes or observed.reals or observed.soft)
        engine = replace(self, seed=self.seed if seed is None else seed)
        if self.backward and weighed:
            names = [*question.model.variables]
            back, lines = engine._backward(question, names, n)
            drawn = {k: back.along(k, lines) for k in names}
            return question.samples(within(question, drawn), n)
        engine = replace(engine, particles=max(2, n, self.particles if weighed else 2))
        run = engine._run(question, kept=[*question.model.variables])
        chosen = np.tile(np.arange(n)[:, None], (1, observed.num_rows))
        if weighed:
            warn_of_few(run, run.num_distinct(), question.engine)
            rng = np.random.default_rng(engine.seed)
            for row, weights in enumerate(run.weights.current()):
                chosen[:, row] = rng.choice(len(weights), n, p=weights)
        return question.samples(chosen_paths(question, run, chosen), n)

    def impossible(self, question: Any, rows: list[int]) -> ImpossibleEvidence:
        """See :class:`Engine`; too few particles may agree with the evidence."""
        return ImpossibleEvidence(
            f"none of {self.particles} particles agreed with the evidence in rows {rows[:5]}: it "
            "is impossible, or too improbable for this number",
            tuple(rows),
            advice="use more particles",
        )

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the path of the largest density among the particles; see the base class."""
        if k > 1:
            raise Unsupported(
                f"{type(self).__name__}() finds one best path, not several", "use k=1"
            )
        run = self._run(question, kept=question.every_name, scored=True)
        warn_of_few(run, None, question.engine)
        return best_path(question, run, self._reasons)

    # --- programs -----------------------------------------------------------------------------

    def answer_query(self, question: Any) -> Posterior:
        """See :class:`Engine`; targets may be real."""
        if isinstance(question, Question):
            return self._of_programs().answer_query(question)
        return super().answer_query(question)

    def answer_most_probable(self, question: Any, k: int) -> Assignment | KBest:
        """See :class:`Engine`: the best particle."""
        if isinstance(question, Question):
            return self._of_programs().answer_most_probable(question, k)
        return super().answer_most_probable(question, k)

    def answer_sample(self, question: Any, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`; particles chosen by their weights."""
        if isinstance(question, Question):
            return self._of_programs().answer_sample(question, n, seed)
        return super().answer_sample(question, n, seed)

    def answer_log_prob(self, question: Any) -> Tensor:
        """See :class:`Engine`: an estimate, of which the exponential is unbiased."""
        if isinstance(question, Question):
            return self._of_programs().answer_log_prob(question)
        return super().answer_log_prob(question)

    def _of_programs(self) -> ResampledExecutions:
        if self.proposal:
            raise Unsupported("proposal= is for models over time; a program draws from its own")
        engine = type(self).__name__
        return ResampledExecutions(
            self.particles, self.threshold, self.resampling, self.seed, engine, self.why
        )

    def describe(self, question: Any) -> Explanation:
        """See :class:`Engine`."""
        if isinstance(question, Question):
            return self._of_programs().describe(question)
        cells = question.observed.num_rows * question.observed.steps * len(question.model.variables)
        return Explanation(
            engine=type(self).__name__,
            kind="estimate",
            reason=f"{self.particles:,} particles move along, weighted by the evidence"
            + ("" if self.why is None else f", because {self.why}"),
            num_variables=cells,
            memory_bytes=8.0 * self.particles * cells,
        )

    # --- helpers ------------------------------------------------------------------------------

    @property
    def _reasons(self) -> dict[str, Any]:
        return {} if self.why is None else {"reason": self.why}

    def _run(
        self,
        question: SequenceQuestion,
        *,
        kept: Sequence[Hashable],
        filtered: bool = False,
        scored: bool = False,
    ) -> ParticleHistory:
        observed, model = question.observed, question.model
        numbers = sum(max(1, _size(model.variables[n])) for n in kept) + filtered + 2
        rows, steps = observed.num_rows, observed.steps
        what = f"{self.particles:,} particles of {rows:,} rows over {steps:,} steps"
        cells = rows * (steps if kept or filtered else 1)
        check_size(what, self.particles * cells * numbers, self.max_answer_bytes,
                   "Take fewer particles, or fewer rows at a time")  # fmt: skip
        first, second = np.random.SeedSequence(self.seed).generate_state(2)
        weights = ParticleWeights(
            observed.num_rows, self.particles, self.threshold, self.resampling, int(first)
        )
        moving = ParticleFilter(
            model, observed, question.covariates, self.proposal, kept, filtered, scored
        )
        with private_randomness(int(second)):
            run = moving.run(weights, self.progress)
        self.check_possible(question, torch.from_numpy(weights.log_evidence))
        return run


def _size(variable: Variable) -> int:
    """Return the number of values of one step."""
    return int(np.prod([k for k in variable.shape[1:] if not isinstance(k, str)], dtype=np.int64))
