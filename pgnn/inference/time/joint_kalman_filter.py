"""Exact answers about models over time all of whose variables are real and linear Gaussian."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, SlicedModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.randomness import private_randomness
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.assignment_with_reals import AssignmentWithReals
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.gaussian_chain import GaussianChain, StepMoments
from pgnn.inference.time.reals_over_time import RealsOverTime, cut_to, normal_at_each_step
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_chain import places_of, slice_chain, width_of
from pgnn.inference.time.steps_ahead import StepsAhead
from pgnn.limits import check_size


@dataclass(frozen=True)
class JointKalmanFilter(SequenceEngine):
    """The Kalman filter whose state is a whole slice, partially observed and without noise.

    Answers are exact; any variables may be observed anywhere. The log evidence is differentiable.

    Cost:
        Cubic in the dimension of a slice, for each step and each pattern of the observations.

    References:
        Murphy (2002), Dynamic Bayesian networks, section 3.6.
    """

    answers_about = SlicedModel
    subject = "models of time slices, such as dynamic Bayesian networks"
    takes_reals = True

    @classmethod
    def serves(cls, model: SlicedModel) -> bool:
        """Whether all variables of a model are real and linear Gaussian."""
        return all(
            c.is_linear_gaussian and not c.inputs and all(not v.is_discrete for v in c.scope)
            for c in (*model.conditionals.values(), *(model.first(n) for n in model.conditionals))
        )

    # --- parts of a chain -----------------------------------------------------------------------

    def chain(self, model: Any, observed: SequenceEvidence) -> GaussianChain:
        """Return the chain of the observations."""
        return slice_chain(model, observed)

    def part(
        self, model: Any, name: Hashable, chain: GaussianChain, states: StepMoments
    ) -> StepMoments:
        """Return the moments of a variable, from those of the chain's states."""
        columns = places_of(model)[name]
        return StepMoments(states.mean[..., columns], states.covariance[..., columns, columns])

    def draws(self, model: Any, chain: GaussianChain, n: int) -> Mapping[Hashable, Tensor]:
        """Return ``(n, B, T, D)`` draws of each variable given the observations."""
        states = chain.backward_draws(chain.filtered(), n)
        states = torch.where(chain.observed.isnan(), states, chain.observed)
        return {n: states[..., columns] for n, columns in places_of(model).items()}

    # --- the hooks of engines over time -----------------------------------------------------------

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> SequenceQuestion:
        """Read evidence; targets may be real.

        Raises:
            Unsupported: If a variable is not linear Gaussian.
        """
        if not self.serves(model):
            engine = type(self).__name__
            raise Unsupported(f"{engine}() needs a model of linear Gaussian variables only")
        question = super().ask(model, evidence, inputs, names, errors)
        self.check_cost(question, _numbers(model, question.observed, question.observed.steps))
        return question

    def predict_steps(self, ahead: StepsAhead) -> Posterior:
        """Return moments of the next steps; see the base class."""
        numbers = _numbers(ahead.model, ahead.observed, ahead.observed.steps + ahead.steps)
        check_size(f"{ahead.steps:,} steps", numbers, self.max_answer_bytes,
                   "Predict fewer at a time")  # fmt: skip
        question, after = self.read_ahead(ahead)
        with question.gradient_mode():
            return self._smoothed(question, after, ahead.places)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return moments given all observations; see the base class."""
        return self._smoothed(question, question)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return moments of each step given the observations so far; see the base class."""
        chain = self.chain(question.model, question.observed)
        filtered = chain.filtered()
        parts = self._queried_parts(question, chain, filtered.now)
        increments = filtered.increments.to(_dtype(question.model))
        diagnostics = {"log_increments": question.alone(increments)}
        whole = question.posterior([], increments.sum(dim=1), diagnostics=diagnostics)
        return RealsOverTime(whole, normal_at_each_step(question, parts, _dtype(question.model)))

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the means of all targets: the mode of a joint normal density."""
        if k > 1:
            raise Unsupported("real variables have only one best path", "use k=1")
        model, observed = question.model, question.observed
        chain = self.chain(model, observed)
        states = chain.smoothed(chain.filtered()).states
        outside = ~observed.inside.unsqueeze(-1)
        means = {
            n: p.mean.masked_fill(outside, torch.nan).reshape(
                *p.mean.shape[:2], *model.conditionals[n].child.shape
            )
            for n, p in self._queried_parts(question, chain, states).items()
        }
        completed = replace(observed, reals={**observed.reals, **means})
        log_density = slice_chain(model, completed).filtered().increments.sum(dim=1)
        dtype = _dtype(model)
        return AssignmentWithReals(
            {n: x.to(dtype) for n, x in means.items()},
            [],
            torch.zeros(observed.num_rows, 0, dtype=torch.int64),
            log_density.to(dtype),
            batched=observed.batched,
            index=question.index,
            upper_bound=log_density.to(dtype),
            engine=question.engine,
        )

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables; see the base class."""
        model, gone = question.model, (~question.observed.inside)[None, :, :, None]
        with private_randomness(seed), torch.no_grad():
            drawn = self.draws(model, self.chain(model, question.observed), n)
        whole = {}
        for name, x in drawn.items():
            values = x.masked_fill(gone, torch.nan).to(_dtype(model))
            whole[name] = values.reshape(*x.shape[:3], *model.conditionals[name].child.shape)
        return question.samples(whole, n)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return log densities of the observations; see the base class."""
        model = question.model
        log_z: Tensor = self.chain(model, question.observed).filtered().increments.sum(dim=1)
        return log_z.to(_dtype(model))

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        observed, size = question.observed, width_of(places_of(question.model))
        cells = observed.num_rows * observed.steps
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason=self.reason(),
            num_variables=cells * len(question.model.conditionals),
            num_eliminated=cells,
            num_sliced=sum(int((~x.isnan()).sum()) for x in observed.reals.values()),
            memory_bytes=32 * cells * size**2,
            num_factors=cells * len(question.model.conditionals),
            multiply_adds=cells * size**3,
        )

    def reason(self) -> str:
        """See :class:`~pgnn.inference.engine.Engine`."""
        return "all is linear Gaussian: forward and backward over whole slices"

    def _smoothed(
        self, question: SequenceQuestion, answered: SequenceQuestion, steps: Tensor | None = None
    ) -> Posterior:
        """Return moments given all observations, at all steps or some."""
        chain, dtype = self.chain(question.model, question.observed), _dtype(question.model)
        filtered = chain.filtered()
        parts: Mapping[Hashable, StepMoments] = {}
        if question.every_name:
            states = chain.smoothed(filtered).states
            parts = self._queried_parts(question, chain, states, steps)
        whole = answered.posterior([], filtered.increments.sum(dim=1).to(dtype))
        return RealsOverTime(whole, normal_at_each_step(answered, parts, dtype))

    def _queried_parts(
        self,
        question: SequenceQuestion,
        chain: GaussianChain,
        states: StepMoments,
        steps: Tensor | None = None,
    ) -> dict[Hashable, StepMoments]:
        """Return moments of each target, with a covariance for each row."""
        return {
            n: cut_to(self.part(question.model, n, chain, states), chain.kind, steps)
            for n in question.every_name
        }


def _numbers(model: SlicedModel, observed: SequenceEvidence, steps: int) -> int:
    """Return the approximate number of computed values."""
    return 4 * observed.num_rows * steps * width_of(places_of(model)) ** 2


def _dtype(model: SlicedModel) -> torch.dtype:
    """Return the type of the parameters, and of answers."""
    return next(iter(model.conditionals.values())).regression().bias.dtype
