"""Exact answers about linear Gaussian state-space models."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import GaussianChainModel, Inputs
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.randomness import private_randomness
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.gaussian_marginals import ExactMarginal, real_marginal
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.compiled_chain import CompiledChain
from pgnn.inference.time.gaussian_chain import GaussianChain, StepMoments
from pgnn.inference.time.sequence_engine import SequenceEngine, extended
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.with_reals import WithReals
from pgnn.limits import check_size, whole_number


@dataclass(frozen=True)
class KalmanFilter(SequenceEngine):
    """Exact inference in linear Gaussian chains: Kalman filter, smoother and backward draws.

    Observations may miss anywhere, whole or in part; rows may have any lengths. Posteriors are
    normal distributions of every step, exact to rounding; the log evidence is differentiable.

    Cost:
        Cubic in the numbers of a state and of an observation, for each step and each pattern of
        what was observed; quadratic for each row.

    References:
        Kalman (1960); Rauch, Tung and Striebel (1965); Särkkä (2013), Bayesian filtering and
        smoothing, chapters 4 and 8.

    Example:
        >>> from pgnn import LinearDynamicalSystem
        >>> walk = LinearDynamicalSystem(
        ...     1, 1, [[1.0]], [[1.0]], [[1.0]], [[1.0]], [0.0], [[1.0]], observation_offset=[0.0]
        ... )
        >>> seen = {"observation": torch.tensor([[1.0], [2.0]])}
        >>> found = walk.filter(seen, engine=KalmanFilter())
        >>> found["state"].mean[:, 0]
        tensor([0.5000, 1.4000], dtype=torch.float64)
    """

    answers_about = GaussianChainModel

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> SequenceQuestion:
        """Read evidence; real variables may be asked for.

        Raises:
            Unsupported: If states were seen, or the model is another one.
        """
        plain = super().read(model, evidence, inputs, names=[], errors=errors)
        state, seen = model.hidden[0], plain.seen
        if state in seen.reals and not bool(seen.reals[state].isnan().all()):
            raise Unsupported(
                f"{state!r} was seen, which KalmanFilter() does not take; ask "
                "engine=pgnn.JunctionTree(), which answers about the unrolled network"
            )
        told: dict[str, Any] = {"errors": errors, "engine": type(self).__name__}
        question = SequenceQuestion(model, seen, inputs, names=names, takes_reals=True, **told)
        size = sum(v.num_elements for v in slice_of(model)) ** 2
        self._check_cost(question, 4 * question.num_rows * seen.steps * size)
        return question

    def predict(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        steps: int,
        *,
        inputs: Inputs | None = None,
    ) -> Posterior:
        """Return moments of the next steps; see the base class."""
        steps = whole_number("steps", steps, least=1)
        seen = SequenceEvidence.of(model, evidence)
        size = sum(v.num_elements for v in slice_of(model)) ** 2
        check_size(f"{steps:,} steps", 4 * seen.num_rows * (seen.steps + steps) * size,
                   self.max_answer_bytes, "Predict fewer at a time")  # fmt: skip
        asked = [*model.variables] if targets is None else targets
        question = self.read(model, extended(seen, steps), inputs, names=asked)
        with torch.set_grad_enabled(question.wants_gradients):
            ahead = seen.lengths[:, None] + torch.arange(steps)
            return self._smoothed(question, ahead)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Moments given all observations; see the base class."""
        return self._smoothed(question)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Moments of each step given the observations so far; see the base class."""
        chain = _chain(question)
        found = chain.filtered()
        state = question.model.hidden[0]
        if question.every_name != [state]:
            raise Unsupported(f"filter() answers about {state!r}")
        told = {"log_increments": question.alone(found.increments.to(_dtype(question.model)))}
        log_z = found.increments.sum(dim=1)
        return gaussian_posterior(question, chain.kind, {state: found.now}, log_z, None, told)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Refused: the most probable path of real states is that of their means."""
        raise Unsupported(
            "the most probable states of a linear Gaussian chain are their means: use smooth()"
        )

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Draws of all variables; see the base class."""
        model, chain = question.model, _chain(question)
        with private_randomness(seed), torch.no_grad():
            states, values = chain.draw(chain.filtered(), n)
        gone = (~question.seen.inside)[None, :, :, None]
        drawn = {}
        for v, x in zip(slice_of(model), (states, values), strict=True):
            x = x.masked_fill(gone, torch.nan).to(_dtype(model))
            drawn[v.name] = x.reshape(*x.shape[:3], *v.shape)
        return question.samples(drawn, n)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Log densities of what was observed; see the base class."""
        return _chain(question).filtered().increments.sum(dim=1).to(_dtype(question.model))

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        seen = question.seen
        cells = seen.num_rows * seen.steps
        size = sum(v.num_elements for v in slice_of(question.model))
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason="states form a linear Gaussian chain: forward and backward over the steps",
            num_variables=2 * cells,
            num_eliminated=cells,
            num_sliced=sum(int((~x.isnan()).sum()) for x in seen.reals.values()),
            memory_bytes=32 * cells * size**2,
            num_factors=2 * cells,
            multiply_adds=cells * size**3,
        )

    def _smoothed(self, question: SequenceQuestion, ahead: Tensor | None = None) -> Posterior:
        chain = _chain(question)
        found = chain.filtered()
        state, observation = (v.name for v in slice_of(question.model))
        names = question.every_name
        moments: dict[Hashable, StepMoments] = {}
        if names:
            states = chain.smoothed(found).states
            moments = {state: states} if state in names else {}
            if observation in names:
                moments[observation] = chain.observations(states)[0]
        ordered = {n: moments[n] for n in names}
        return gaussian_posterior(question, chain.kind, ordered, found.increments.sum(dim=1), ahead)


class GaussianSequencePosterior(WithReals):
    """A posterior of real variables that are normal at every step.

    ``posterior["state"]`` is a ``MultivariateNormal`` of batch shape ``(T,)`` or ``(B, T)``, of
    scalars a ``Normal``, with ``std`` and ``quantile`` besides; ``NaN`` beyond a row's end.

    Args:
        marginals: Of each variable.
        log_evidence: ``(B,)``.
        engine: Whose answer it is.
        **rest: See :class:`Posterior`.
    """

    def __init__(
        self,
        marginals: Mapping[Hashable, ExactMarginal],
        log_evidence: Tensor,
        engine: str = "KalmanFilter",
        **rest: Any,
    ) -> None:
        none = log_evidence.new_zeros((len(log_evidence), 0))
        super().__init__([], none, log_evidence, kind="exact", engine=engine, **rest)
        lead = 1 if self.batched else 0
        self._marginals_of_reals = dict(marginals)
        self.reals = {
            n: Variable(n, shape=tuple(m.mean.shape[lead:])) for n, m in marginals.items()
        }

    def marginal(self, name: Hashable) -> ExactMarginal:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        return self._marginals_of_reals[name]


def slice_of(model: GaussianChainModel) -> tuple[Variable, Variable]:
    """The state and the observation of one step."""
    state = model.hidden[0]
    observation = next(n for n in model.conditionals if n != state)
    return model.conditionals[state].child, model.conditionals[observation].child


def _dtype(model: GaussianChainModel) -> torch.dtype:
    """Type of the parameters, and of answers."""
    return next(model.conditionals[model.hidden[0]].parameters()).dtype


def chain_of(model: GaussianChainModel, seen: SequenceEvidence) -> GaussianChain:
    """Return a model's chain for what was observed of it.

    Raises:
        EvidenceError: If there are no steps.
    """
    state, observation = slice_of(model)
    if not seen.steps:
        raise EvidenceError("the sequences have no steps; {'T': 100} says how many there are")
    shape = (seen.num_rows, seen.steps, observation.num_elements)
    values = seen.reals.get(observation.name)
    if values is None:
        values = torch.full(shape, torch.nan, dtype=torch.float64)
    own = model.conditionals
    parts = model.first(state.name), own[state.name], own[observation.name]
    start, move, emit = (Regression(*(x.double() for x in c.regression())) for c in parts)
    values = values.double().expand(shape[0], *values.shape[1:])
    return CompiledChain(start, move, emit, values.reshape(shape))


def _chain(question: SequenceQuestion) -> GaussianChain:
    return chain_of(question.model, question.seen)


def gaussian_posterior(
    question: SequenceQuestion,
    kind: Tensor,
    moments: Mapping[Hashable, StepMoments],
    log_evidence: Tensor,
    ahead: Tensor | None = None,
    told: Mapping[str, Any] | None = None,
    engine: str = "KalmanFilter",
) -> GaussianSequencePosterior:
    """Put moments together, of all steps or of some.

    Args:
        question: What was asked.
        kind: ``(B,)`` the pattern of each row, to which a covariance belongs.
        moments: By name.
        log_evidence: ``(B,)``.
        ahead: ``(B, h)`` the steps that are answered about, if not all.
        told: Diagnostics.
        engine: Whose answer it is.
    """
    seen, own = question.seen, question.model.conditionals
    dtype = next(iter(own.values())).regression().bias.dtype
    rows = torch.arange(seen.num_rows)[:, None]
    one = slice(None) if seen.batched else 0
    marginals = {}
    for name, (mean, covariances) in moments.items():
        covariance = covariances[kind]
        if ahead is None:
            mean = mean.masked_fill(~seen.inside.unsqueeze(-1), torch.nan)
        else:
            mean, covariance = mean[rows, ahead], covariance[rows, ahead]
        shape = own[name].child.shape
        marginals[name] = real_marginal(mean[one].to(dtype), covariance[one].to(dtype), shape)
    return GaussianSequencePosterior(
        marginals,
        log_evidence.to(dtype),
        engine,
        batched=seen.batched,
        index=question.index,
        diagnostics=told,
    )
