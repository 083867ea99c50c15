"""Variational inference of the real latent variables of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import AmortisedModel, Inputs
from pgnn.errors import ImpossibleEvidence, ModelError, Unsupported
from pgnn.factors.randomness import private_randomness
from pgnn.inference.ancestral_draws import filled
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.enumerated_states import EnumeratedStates, mixed_draws, shares
from pgnn.inference.continuous.guides import Delta, Guide
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.objective import Elbo, Objective
from pgnn.inference.continuous.real_maximum import most_probable_reals
from pgnn.inference.continuous.real_posterior import VariationalPosterior
from pgnn.inference.continuous.variational_fit import VariationalFit, adam
from pgnn.inference.continuous.variational_summary import (
    Guided,
    drawn_samples,
    samples_given,
    summarize,
)
from pgnn.inference.continuous.variational_targets import VariationalTargets
from pgnn.inference.convergence import Convergence
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.minibatches import MakeOptimizer, MakeScheduler
from pgnn.inference.mean_field.mean_field import MeanField
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question, listed
from pgnn.inference.samples import Samples
from pgnn.limits import NOT_NEGATIVE, POSITIVE, check_callable, check_settings, check_size

_SUMMARY, _GUIDE, _CHECK, _PARAMETERS, _MIXED, _COMPLETED, _DRAWS, _FILLED = range(1, 9)
"""Numbers of the independent random generators."""


@dataclass(frozen=True)
class Variational(Engine, Learner):
    r"""Variational inference, which fits a guide :math:`q` to the posterior of the real latents.

    .. math:: \log p(e) \ge E_q[\log p(r, e) - \log q(r)]

    Discrete latent variables are summed out of :math:`p(r, e)` exactly by the junction tree, so
    that all draws are reparameterised; their marginals are averages of exact marginals given the
    draws. Constrained supports are mapped by bijections. If no real variable is latent,
    :class:`MeanField` answers.

    As an engine, it answers queries; each row of evidence has a separate approximation, unless rows
    share latents. As a learner, it also maximises the bound over the parameters of the model. The
    parameters of a program's guide belong to the program: a fit trains them; a query starts from
    them and restores them afterwards, or uses the guide unchanged with ``max_iterations=0``.

    Args:
        guide: Family of the approximation; by default, the guide of the program if it has one,
            otherwise ``MeanFieldNormal()``.
        objective: Objective to maximise: ``Elbo``, ``ImportanceWeighted``, ``Renyi``,
            ``ScoreFunction``.
        optimizer: Function from parameters to a torch optimiser; by default, Adam with a learning
            rate of 0.01.
        scheduler: Function from the optimiser to a learning rate scheduler, which is stepped at
            each step.
        max_iterations: Largest number of steps; 0 uses the guide in its initial state, such as an
            encoder trained by a previous fit.
        tolerance: Stop if the mean of the objective over the last quarter of the steps (at least
            100) differs from that over the quarter before by no more than this share of the gain
            since the start (or this number of nats per row) and by no more than its standard
            error, which must itself be small (a tenth of a nat per row). Tested every 100 steps;
            must hold twice in succession. 0 disables the test.
        batch_size: Number of rows in a step, drawn without replacement; their part of the objective
            is scaled up. All rows by default. Plates of a program are subsampled if they declare
            ``subsample_size``.
        shared: Real latent variables that are common to all rows, such as the weights of a Bayesian
            regression; rows are independent given them.
        max_norm: Largest norm of the gradient, to which it is clipped.
        num_samples: Number of draws from the fitted guide for the answer.
        seed: The same seed gives the same answer.
        progress: Whether to show a progress bar.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        A step evaluates the model ``num_particles`` times for each row of a batch, each time with
        an exact sum over its discrete latents.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes. Kucukelbir et al. (2017),
        Automatic differentiation variational inference. Hoffman et al. (2013), Stochastic
        variational inference.

    Example:
        >>> import pgnn
        >>> mean, value = pgnn.Variable("mean"), pgnn.Variable("value")
        >>> model = pgnn.BayesianNetwork([("mean", "value")], {
        ...     "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
        ...     "value": pgnn.LinearGaussian(value, [mean], [1.0], 0.0, covariance=1.0),
        ... })
        >>> engine = Variational(
        ...     objective=Elbo(num_particles=10, path_only=True), progress=False, seed=0
        ... )
        >>> posterior = model.query("mean", {"value": 2.0}, engine=engine)
        >>> posterior.kind, round(float(posterior.log_evidence), 1)  # exactly: -2.2655
        ('lower bound', -2.3)
    """

    guide: Guide | None = None
    objective: Objective = field(default_factory=Elbo)
    optimizer: MakeOptimizer = adam
    scheduler: MakeScheduler | None = None
    max_iterations: int = 2000
    tolerance: float = 1e-4
    batch_size: int | None = None
    shared: tuple[Hashable, ...] = ()
    max_norm: float | None = None
    num_samples: int = 1000
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared", tuple(listed(self.shared)))
        check_settings(self, batch_size=1, num_samples=2, tolerance=NOT_NEGATIVE, max_norm=POSITIVE)
        check_callable("optimizer", self.optimizer, "lambda p: torch.optim.Adam(p, lr=0.05)")
        check_callable(
            "scheduler", self.scheduler, "lambda o: torch.optim.lr_scheduler.StepLR(o, 9)"
        )
        if self.guide is not None and not isinstance(self.guide, Guide):
            raise ModelError(
                f"guide must be a guide such as pgnn.FullRankNormal(), got {self.guide!r}",
                "pass a Pyro guide with its program: pgnn.Program(model, guide)",
            )
        if not isinstance(self.objective, Objective):
            raise ModelError(
                f"objective must be an objective such as pgnn.Elbo(), got {self.objective!r}"
            )

    def answer_query(self, question: Question) -> Posterior:
        """See :class:`Engine`; targets may be real variables.

        Raises:
            PgnnError: If the objective becomes non-finite; the message names a variable.
        """
        enumerated = self._enumerated(question)
        if enumerated is not None:
            return self._of_enumerated(question, enumerated)
        density = _density(question)
        if self._has_no_reals(question, density):
            return MeanField(seed=self.seed, progress=self.progress).answer_query(question)
        with self._guided(question, density) as guided:
            return self._posterior(question, guided)

    def answer_with_draws(self, question: Question) -> tuple[Posterior, Samples] | None:
        """See :class:`Engine`; None if there are no latent reals."""
        if self._enumerated(question) is not None:
            return None
        density = _density(question)
        if self._has_no_reals(question, density):
            return None
        with self._guided(question, density) as guided:
            drawn = samples_given(guided.problem, guided.summary.draws, self._generator(_DRAWS))
            samples = filled(question, drawn, self._generator(_FILLED).initial_seed() % 2**63)
            return self._posterior(question, guided), samples

    def _enumerated(self, question: Question) -> EnumeratedStates | None:
        """Return the rows for each state of recognised discrete variables, if there are any."""
        if self.guide is not None or not isinstance(question.model, AmortisedModel):
            return None
        rows = replace(question.observed, inputs=question.inputs or {})
        with torch.no_grad():
            enumerated = EnumeratedStates.of(question.model, rows)
        return None if enumerated.source is None else enumerated

    def _has_no_reals(self, question: Question, density: SummedDensity) -> bool:
        return self.guide is None and not density.latents and not question.complete

    @contextlib.contextmanager
    def _guided(self, question: Question, density: SummedDensity) -> Iterator[Guided]:
        """Fit the guide and summarise it; the parameters of the model are restored."""
        targets = VariationalTargets.of(question, density)
        self._model_and_guide(density).check_draws(self.num_samples, density.observed.num_rows)
        with self._fitted(density, question.errors) as (problem, history):
            generator = self._generator(_SUMMARY)
            summary = summarize(
                problem, self.objective, self.num_samples, generator, targets.discrete
            )
            yield Guided(problem, history, summary, targets)

    def _posterior(self, question: Question, guided: Guided) -> VariationalPosterior:
        problem, history, summary, targets = guided
        others = targets.given_draws(summary.draws)
        draws = {**summary.draws, **self._completed(question, problem, others)}
        # a recognition network is trained by a fit, and shared by all rows
        model = question.model
        recognised = isinstance(model, AmortisedModel) and not [*problem.parts.parameters()]
        verdict = self._assess({} if recognised else summary.diagnostics)
        verdict.warn()
        latent = {v.name: v for v in model.variables.values() if v.name in draws}
        named = [*latent] if targets.named is None else targets.named
        return VariationalPosterior(
            targets.discrete.variables,
            summary.marginals,
            summary.log_evidence,
            [latent[n] for n in named if n in latent],
            draws,
            latent=[*latent.values()],
            shared=self.shared,
            history=history,
            batched=question.observed.batched,
            kind=summary.kind,
            engine=type(self).__name__,
            diagnostics={
                "iterations": history["iterations"],
                "converged": history["converged"] and verdict.converged,
                **summary.diagnostics,
            },
            index=question.observed.index,
        )

    def _of_enumerated(self, question: Question, enumerated: EnumeratedStates) -> Posterior:
        """Answer for each state of recognised discrete variables, and mix the answers."""
        known = enumerated.rows
        each = self.answer_query(
            Question(question.model, None, known, known.inputs, names=question.names)
        )
        assert isinstance(each, VariationalPosterior)
        assert enumerated.source is not None
        share, log_evidence = shares(enumerated, each.log_evidence.reshape(-1))
        marginals = torch.as_tensor(each.numbers[0])
        mixed = marginals.new_zeros(enumerated.num_rows, marginals.shape[1])
        draws = mixed_draws(enumerated, share, each.draws, self._generator(_MIXED))
        return VariationalPosterior(
            each.variables,
            mixed.index_add(0, enumerated.source, share.unsqueeze(1) * marginals),
            log_evidence,
            [*each.reals.values()],
            draws,
            latent=[*each.latent.values()],
            history=each.history,
            batched=question.observed.batched,
            kind=each.kind,
            engine=type(self).__name__,
            diagnostics={n: x for n, x in each.diagnostics.items() if not isinstance(x, Tensor)},
            index=question.observed.index,
        )

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Return the most probable real values, by ascent from ``Delta()`` as the guide."""
        if k > 1 or not (self.guide is None or isinstance(self.guide, Delta)):
            return super().answer_most_probable(question, k)
        return most_probable_reals(self, question)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """See :class:`Engine`; real latents are drawn from the guide, others exactly given them."""
        generator = self._generator(_SUMMARY) if seed is None else make_generator(seed)
        with self._fitted(_density(question), "raise") as (problem, _):
            drawn = drawn_samples(problem, self.objective, n, generator)
        return filled(question, drawn, int(generator.initial_seed() % 2**63))

    def answer_log_prob(self, question: Question) -> Tensor:
        """Return lower bounds on :meth:`Model.log_prob`, ``(B,)``."""
        return self.answer_query(question).log_evidence.reshape(-1)

    def describe(self, question: Question) -> Explanation:
        """See :class:`Engine`."""
        model, density = question.model, _density(question)
        problem = self._model_and_guide(density)
        hidden = int((density.observed.codes < 0).any(axis=0).sum())
        parameters = sum(p.numel() for p in problem.parts.parameters())
        names = ", ".join(repr(n) for n in problem.names)
        return Explanation(
            engine=type(self).__name__,
            kind="lower bound" if problem.is_density else "estimate",
            reason=f"the posterior of {names} is approximated by a guide of {parameters} "
            f"parameters; {hidden} discrete variables are summed out exactly",
            num_variables=len(model.elements),
            memory_bytes=8.0 * parameters,
            num_eliminated=hidden,
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
        """Maximise the objective over the parameters of the guide and of the model.

        ``model.history`` contains the final ``objective``, summed over rows.

        Raises:
            PgnnError: If the objective becomes non-finite; the message names a variable. After an
                error, the model and the encoder are unchanged.
        """
        seed = self.seed if seed is None else seed
        VariationalFit(self, seed, progress and self.progress).learn(model, data, weights, inputs)

    # --- helpers ------------------------------------------------------------------------------

    def _model_and_guide(self, density: SummedDensity) -> ModelAndGuide:
        with private_randomness(self._generator(_GUIDE).initial_seed()):
            return ModelAndGuide.of(density, self.guide, self.shared)

    @contextlib.contextmanager
    def _fitted(
        self, density: SummedDensity, errors: str
    ) -> Iterator[tuple[ModelAndGuide, History]]:
        """Return the fitted guide; the parameters of the model are restored."""
        problem = self._model_and_guide(density)
        generator, anew = self._generator(_PARAMETERS), self.max_iterations > 0
        with problem.fitted_parameters(generator, anew) as parameters:
            self._check_possible(problem, errors)
            yield (
                problem,
                VariationalFit(self, self.seed, self.progress).maximize(problem, parameters),
            )

    def _assess(self, diagnostics: Mapping[str, Any]) -> Convergence:
        """Assess the effective sample size of the guide."""
        verdict = Convergence(type(self).__name__)
        sizes = diagnostics.get("effective_sample_size")
        if sizes is None:
            return verdict
        return verdict.few_draws(
            sizes,
            self.num_samples,
            "the guide is far from the posterior: raise max_iterations or the steps of the "
            "optimizer, take units in which the latent values are near one, or another guide",
        )

    def _check_possible(self, problem: ModelAndGuide, errors: str) -> None:
        with torch.no_grad():
            draws = problem.weighted(self.objective, self._generator(_CHECK), draws=8)
        impossible = draws.log_weights.isneginf().all(0)
        if errors == "raise" and bool(impossible.any()):
            rows = tuple(impossible.nonzero()[:, 0].tolist())
            raise ImpossibleEvidence(
                f"{len(rows)} of {len(impossible)} rows have density zero at all draws of the "
                f"guide (first: row {rows[0]}): {problem.blame(draws, None)}",
                rows,
            )
        if bool(impossible.any()):
            problem.weights[impossible] = 0.0

    def _completed(
        self, question: Question, problem: ModelAndGuide, names: Sequence[Hashable]
    ) -> dict[Hashable, Tensor]:
        """Return draws ``(n, B, *shape)`` of variables given those of the guide."""
        if not names:
            return {}
        queried, rows, n = (
            [question.model.variables[x] for x in names],
            problem.num_rows,
            self.num_samples,
        )
        numbers = sum(v.num_elements for v in queried)
        check_size(f"{n:,} draws of {numbers:,} numbers for {rows:,} rows", n * rows * numbers,
                   advice="Use fewer samples or rows")  # fmt: skip
        generator = self._generator(_COMPLETED)
        drawn = drawn_samples(problem, self.objective, n, generator)
        whole = filled(question, drawn, int(generator.initial_seed() % 2**63))
        return {v.name: whole[v.name].reshape(n, rows, *v.shape) for v in queried}

    def _generator(self, number: int) -> torch.Generator:
        """Return one of several independent random generators derived from the seed."""
        if self.seed is None:
            return make_generator(None)
        return make_generator(int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]))

    def _cannot(self, what: str, instead: str) -> Unsupported:
        error = super()._cannot(what, instead)
        return Unsupported(
            error.reason,
            f"{error.advice}; Variational(guide=Delta()) finds the most probable reals",
        )


def _density(question: Question) -> SummedDensity:
    return SummedDensity(question.model, question.observed, question.inputs)
