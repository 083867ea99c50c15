"""Exact answers about dynamic networks all of whose variables are real and linear Gaussian."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, SlicedModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.randomness import private_randomness
from pgnn.factors.time_steps import lagged_name
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.compiled_chain import CompiledChain
from pgnn.inference.time.gaussian_chain import Filtered, StepMoments
from pgnn.inference.time.kalman_filter import gaussian_posterior
from pgnn.inference.time.sequence_engine import SequenceEngine, extended
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.sequential_monte_carlo import SequentialMonteCarlo
from pgnn.limits import check_size, whole_number


@dataclass(frozen=True)
class JointKalmanFilter(SequenceEngine):
    """The Kalman filter whose state is a whole slice, observed in part and without noise.

    Answers are exact; any variables may be seen anywhere. The log evidence is differentiable.

    Cost:
        Cubic in the numbers of a slice, for each step and each pattern of what was seen.

    References:
        Murphy (2002), Dynamic Bayesian networks, section 3.6.
    """

    answers_about = SlicedModel

    @classmethod
    def serves(cls, model: SlicedModel) -> bool:
        """Whether all variables of a model are real and linear Gaussian."""
        own = [*model.conditionals.values(), *(model.first(n) for n in model.conditionals)]
        return all(
            c.is_linear_gaussian and not c.inputs and all(not v.is_discrete for v in c.scope)
            for c in own
        )

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
            Unsupported: If a variable is not linear Gaussian.
        """
        plain = super().read(model, evidence, inputs, names=[], errors=errors)
        if not self.serves(model):
            raise Unsupported("JointKalmanFilter() answers where all is real and linear Gaussian")
        told: dict[str, Any] = {"errors": errors, "engine": type(self).__name__}
        asked = [*model.variables] if names is None else names
        question = SequenceQuestion(
            model, plain.seen, inputs, names=asked, takes_reals=True, **told
        )
        numbers = question.num_rows * plain.seen.steps * sum(_sizes(model).values()) ** 2
        self._check_cost(question, 4 * numbers)
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
        size = sum(_sizes(model).values()) ** 2
        check_size(f"{steps:,} steps", 4 * seen.num_rows * (seen.steps + steps) * size,
                   self.max_answer_bytes, "Predict fewer at a time")  # fmt: skip
        question = self.read(model, extended(seen, steps), inputs, names=targets)
        with torch.set_grad_enabled(question.wants_gradients):
            return self._smoothed(question, seen.lengths[:, None] + torch.arange(steps))

    def answer_most_probable(self, question: Any, k: int) -> Assignment | KBest:
        """See the base class; of no steps there is one path."""
        if not question.seen.steps:
            return _NO_STEPS.answer_most_probable(question, k)
        return super().answer_most_probable(question, k)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Moments given all that was seen; see the base class."""
        if not question.seen.steps:
            return _NO_STEPS.smooth_steps(question)
        return self._smoothed(question)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Moments of each step given what was seen so far; see the base class."""
        if not question.seen.steps:
            return _NO_STEPS.filter_steps(question)
        chain = joint_chain(question.model, question.seen)
        found = chain.filtered()
        told = {"log_increments": question.alone(found.increments)}
        moments = _parts(question, found.now)
        log_z = found.increments.sum(dim=1)
        return gaussian_posterior(question, chain.kind, moments, log_z, None, told, self._name)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Draws of all variables; see the base class."""
        model, chain = question.model, joint_chain(question.model, question.seen)
        with private_randomness(seed), torch.no_grad():
            states = chain.draw_states(chain.filtered(), n)
        seen = ~chain.observed.isnan()
        states = torch.where(seen, chain.observed, states)
        gone = (~question.seen.inside)[None, :, :, None]
        states = states.masked_fill(gone, torch.nan)
        drawn: dict[Hashable, Tensor] = {}
        first = 0
        for name, size in _sizes(model).items():
            own = states[..., first : first + size]
            shape = model.conditionals[name].child.shape
            drawn[name] = own.reshape(*own.shape[:3], *shape)
            first += size
        return question.samples(drawn, n)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Log densities of what was seen; see the base class."""
        if not question.seen.steps:
            return _NO_STEPS.log_evidence(question)
        return joint_chain(question.model, question.seen).filtered().increments.sum(dim=1)

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        seen, size = question.seen, sum(_sizes(question.model).values())
        cells = seen.num_rows * seen.steps
        return Explanation(
            engine=self._name,
            kind="exact",
            reason="all is linear Gaussian: forward and backward over whole slices",
            num_variables=cells * len(question.model.conditionals),
            num_eliminated=cells,
            num_sliced=sum(int((~x.isnan()).sum()) for x in seen.reals.values()),
            memory_bytes=32 * cells * size**2,
            num_factors=cells * len(question.model.conditionals),
            multiply_adds=cells * size**3,
        )

    def _smoothed(self, question: SequenceQuestion, ahead: Tensor | None = None) -> Posterior:
        chain = joint_chain(question.model, question.seen)
        found = chain.filtered()
        moments = _parts(question, chain.smoothed(found).states)
        log_z = found.increments.sum(dim=1)
        return gaussian_posterior(question, chain.kind, moments, log_z, ahead, None, self._name)

    @property
    def _name(self) -> str:
        return type(self).__name__


_NO_STEPS = SequentialMonteCarlo(2, seed=0, progress=False)
"""What answers about sequences without steps, of which there is nothing to filter."""


class JointChain(CompiledChain):
    """A chain of whole slices, some numbers of which are observed as they are."""

    def draw_states(self, filtered: Filtered, n: int) -> Tensor:
        """Return ``(n, B, T, D)`` states given what was seen."""
        return self.backward_draws(filtered, n)


def joint_chain(model: SlicedModel, seen: SequenceEvidence) -> JointChain:
    """Return a model's chain of slices, for what was seen of it.

    Raises:
        EvidenceError: If there are no steps.
    """
    if not seen.steps:
        raise EvidenceError("the sequences have no steps; {'T': 100} says how many there are")
    sizes = _sizes(model)
    columns = []
    for name, size in sizes.items():
        values = seen.reals.get(name)
        if values is None:
            values = torch.full((seen.num_rows, seen.steps, size), torch.nan, dtype=torch.float64)
        values = values.double().expand(seen.num_rows, *values.shape[1:])
        columns.append(values.reshape(seen.num_rows, seen.steps, size))
    size = sum(sizes.values())
    eye = torch.eye(size, dtype=torch.float64)
    emit = Regression(eye, eye.new_zeros(size), eye.new_zeros(size, size))
    first = _joint(model, {n: model.first(n) for n in sizes}, sizes)
    move = _joint(model, model.conditionals, sizes)
    start = Regression(first.weight[:, :0], first.bias, first.scale)
    return JointChain(start, move, emit, torch.cat(columns, dim=2))


def _joint(model: SlicedModel, own: Any, sizes: dict[Hashable, int]) -> Regression:
    r"""The regression of a whole slice on the one before, parents put in for one another."""
    places, first = {}, 0
    for name, size in sizes.items():
        places[name] = slice(first, first + size)
        first += size
    weight: dict[Hashable, Tensor] = {}
    bias: dict[Hashable, Tensor] = {}
    root: dict[Hashable, Tensor] = {}
    for name in model.order:
        conditional: Conditional = own[name]
        w, b, scale = (x.double() for x in conditional.regression())
        before, offset = w.new_zeros(sizes[name], first), b
        noise = torch.zeros(sizes[name], first, dtype=w.dtype)
        noise = noise.index_copy(1, torch.arange(first)[places[name]], scale)
        column = 0
        for v in conditional.parents:
            part = w[:, column : column + v.num_elements]
            column += v.num_elements
            lagged = next((n for n in sizes if lagged_name(n) == v.name), None)
            if lagged is not None:
                index = torch.arange(first)[places[lagged]]
                before = before.index_add(1, index, part)
            else:
                before, offset = before + part @ weight[v.name], offset + part @ bias[v.name]
                noise = noise + part @ root[v.name]
        weight[name], bias[name], root[name] = before, offset, noise
    return Regression(*(torch.cat([x[n] for n in sizes]) for x in (weight, bias, root)))


def _sizes(model: SlicedModel) -> dict[Hashable, int]:
    return {n: c.child.num_elements for n, c in model.conditionals.items()}


def _parts(question: SequenceQuestion, states: StepMoments) -> dict[Hashable, StepMoments]:
    """Moments of each variable that is asked for."""
    found, first = {}, 0
    for name, size in _sizes(question.model).items():
        own = slice(first, first + size)
        found[name] = StepMoments(states.mean[..., own], states.covariance[..., own, own])
        first += size
    return {n: found[n] for n in question.every_name}
