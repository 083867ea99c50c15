"""Dynamic networks of discrete states and reals that are linear Gaussian given these."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, SlicedModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.factor import Factor
from pgnn.factors.gaussians.least_squares import common_shape
from pgnn.factors.time_steps import has_lag, without_lag
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.gaussian_marginals import ExactMarginal, real_marginal
from pgnn.inference.posterior import Posterior
from pgnn.inference.time.interface_algorithm import InterfaceChain
from pgnn.inference.time.reals_over_time import RealsOverTime
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_chain import (
    double,
    places_of,
    slice_regression,
    slice_values,
    width_of,
)
from pgnn.inference.time.slice_tables import LeafSliceTables
from pgnn.inference.time.steps_ahead import StepsAhead
from pgnn.inference.time.switching_chain import Regimes, SwitchingChain, SwitchingFiltered
from pgnn.limits import check_settings

MAX_STATES = 64
"""Largest number of joint states of the discrete variables of a slice."""
FEW = 8
"""Approximate default number of normal distributions of each step."""


@dataclass(frozen=True)
class SwitchingKalmanFilter(SequenceEngine):
    r"""Kalman filters that are switched by discrete states, with a normal distribution per state.

    Answers are estimates by moment matching, see :class:`SwitchingChain`; they are exact if no real
    variable depends on reals of the previous step. ``posterior["x"]`` of a real variable is a
    mixture at every step. The log evidence is differentiable.

    Args:
        memory: Number of steps whose state histories have separate normal distributions; longer
            histories are projected. Larger is closer to exact.

    Cost:
        Quadratic in the number of joint states of ``memory`` slices and cubic in the real
        dimensions of a slice, for each step of each row.

    References:
        Kim (1994), Dynamic linear models with Markov-switching; Murphy (1998), Switching Kalman
        filters.

    Example:
        >>> import pgnn
        >>> kind, x = pgnn.Variable("kind", ["calm", "wild"]), pgnn.Variable("x")
        >>> before, y = pgnn.Variable(("x", -1)), pgnn.Variable("y")
        >>> walk = pgnn.LinearGaussian(x, [before, kind], [[1.0], [1.0]], [0.0, 0.0], [0.1, 9.0])
        >>> model = pgnn.DynamicBayesianNetwork(
        ...     [(("kind", -1), "kind"), (("x", -1), "x"), ("kind", "x"), ("x", "y")],
        ...     {"kind": [[0.9, 0.1], [0.2, 0.8]],
        ...      "x": walk,
        ...      "y": pgnn.LinearGaussian(y, [x], [1.0], 0.0, 0.5)},
        ...     initial={"kind": [0.5, 0.5], "x": pgnn.Gaussian(x, [kind], [0.0, 0.0], [1.0, 1.0])},
        ...     states={"kind": kind.states},
        ... )
        >>> found = model.smooth({"y": [0.1, 0.2, 7.0, 6.9]}, engine=SwitchingKalmanFilter())
        >>> found["kind"].probs[:, 1].round(decimals=2)
        tensor([0.6700, 0.6900, 1.0000, 0.5700], dtype=torch.float64)
    """

    memory: int = 2

    answers_about = SlicedModel
    subject = "models of time slices, such as dynamic Bayesian networks"
    takes_reals = True

    def __post_init__(self) -> None:
        check_settings(self, memory=1)

    @classmethod
    def serves(cls, model: SlicedModel) -> bool:
        """Whether reals are linear Gaussian, discrete variables depend on none, states are few."""
        pieces = [*model.conditionals.values(), *(model.first(n) for n in model.conditionals)]
        reals = [c for c in pieces if not c.child.is_discrete]
        linear = all(c.is_linear_gaussian and not c.inputs for c in reals)
        apart = all(v.is_discrete for c in pieces if c.child.is_discrete for v in c.parents)
        states = math.prod(c.child.num_states for c in model.conditionals.values()
                           if c.child.name in _choosing(model))  # fmt: skip
        return bool(reals) and linear and apart and states <= MAX_STATES

    @classmethod
    def suited(cls, model: SlicedModel) -> SwitchingKalmanFilter:
        """Return the engine that remembers as much as costs little."""
        states = math.prod(model.conditionals[n].child.num_states for n in _choosing(model))
        return cls(max(1, int(math.log(FEW, max(states, 2)) + 1e-9)))

    @classmethod
    def histories(cls, model: SlicedModel, observed: SequenceEvidence) -> float:
        """Return the number of sequences of discrete states, summed over rows."""
        names = _choosing(model)
        states = math.prod(model.conditionals[n].child.num_states for n in names)
        return observed.num_rows * float(states) ** observed.steps

    @staticmethod
    def kind_of(model: SlicedModel) -> str:
        """Return the kind of answers: exact if no real variable depends on previous real ones."""
        moves = any(
            has_lag(v.name) and not v.is_discrete
            for c in model.conditionals.values()
            if not c.child.is_discrete
            for v in c.parents
        )
        return "estimate" if moves else "exact"

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> SequenceQuestion:
        """Read evidence; targets may be real.

        Raises:
            Unsupported: If reals are not linear Gaussian, or discrete states too many.
        """
        if not self.serves(model):
            raise Unsupported(
                f"{type(self).__name__}() needs real variables that are linear Gaussian given "
                f"discrete ones with at most {MAX_STATES} joint states in a slice, and discrete "
                "variables without real parents"
            )
        question = super().ask(model, evidence, inputs, names, errors)
        states, width = self._states(question), width_of(places_of(model))
        cells = question.num_rows * question.observed.steps
        self.check_cost(question, cells * states * (states + 2 * width**2))
        return question

    def predict_steps(self, ahead: StepsAhead) -> Posterior:
        """Return moments of the next steps; see the base class."""
        question, after = self.read_ahead(ahead)
        with question.gradient_mode():
            run = _Run.of(question, self.memory)
            return run.posterior(after, run.filtered.now, ahead.places)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all observations; see the base class."""
        run = self._run(question)
        return run.posterior(question, run.chain.smoothed(run.filtered))

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the observations so far; see the base class."""
        run = self._run(question)
        diagnostics = {"log_increments": question.alone(run.filtered.increments)}
        return run.posterior(question, run.filtered.now, diagnostics=diagnostics)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return logs of the probabilities of the observations; see the base class."""
        return self._run(question).log_evidence

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        observed, model = question.observed, question.model
        cells, states = observed.num_rows * observed.steps, self._states(question)
        width = width_of(places_of(model))
        return Explanation(
            engine=type(self).__name__,
            kind=SwitchingKalmanFilter.kind_of(model),
            reason=f"real variables are linear Gaussian given {states:,} joint states of a slice, "
            "each with one normal distribution",
            num_variables=cells * len(model.conditionals),
            num_eliminated=cells * len(model.conditionals),
            memory_bytes=8.0 * cells * states * width**2,
            num_factors=cells * len(model.conditionals),
            multiply_adds=2 * cells * states**2 * width**3,
        )

    def _run(self, question: SequenceQuestion) -> _Run:
        run = _Run.of(question, self.memory)
        self.check_possible(question, run.log_evidence)
        return run

    def _states(self, question: SequenceQuestion) -> int:
        """Return the number of distinguished joint states."""
        conditionals = question.model.conditionals
        states = math.prod(conditionals[n].child.num_states for n in _kept(question))
        return int(states**self.memory)


@dataclass(frozen=True, eq=False)
class _Run:
    """A filtered chain, from which answers are assembled."""

    question: SequenceQuestion
    states: InterfaceChain
    chain: SwitchingChain
    filtered: SwitchingFiltered

    @classmethod
    def of(cls, question: SequenceQuestion, memory: int) -> _Run:
        """Filter the observations."""
        observed, model = question.observed, question.model
        names = _kept(question)
        tables = DiscreteSliceTables(model, observed, question.covariates, wanted=frozenset(names))
        states = InterfaceChain.of(tables, joined=names)
        start, move = _regressions(model, states)
        values = slice_values(places_of(model), observed)
        chain = SwitchingChain(states.chain.tensors, start, move, values, _last(observed))
        chain = chain.remembering(memory)
        return cls(question, states, chain, chain.filtered())

    @property
    def log_evidence(self) -> Tensor:
        """``(B,)``."""
        return self.filtered.increments.sum(dim=1)

    def posterior(
        self,
        answered: SequenceQuestion,
        regimes: list[Regimes],
        steps: Tensor | None = None,
        diagnostics: dict[str, Any] | None = None,
    ) -> Posterior:
        """Return the marginals of the targets, at all steps or at ``(B, h)`` of them."""
        logs, mean, covariance = self.chain.side_by_side(regimes)
        if steps is not None:
            rows = torch.arange(len(steps))[:, None]
            logs, mean, covariance = (x[rows, steps] for x in (logs, mean, covariance))
        weights = logs.exp()
        count = math.prod(v.num_states for v in self.states.variables)
        now = weights.reshape(*weights.shape[:-1], weights.shape[-1] // count, count).sum(
            -2
        )  # whatever was before
        model, one = self.question.model, slice(None) if answered.observed.batched else 0
        gone = ~answered.observed.inside | self.log_evidence.detach().isneginf()[:, None]
        whole = answered.posterior(
            [self.states.marginal(v.name, now) for v in answered.queried],
            self.log_evidence,
            kind=SwitchingKalmanFilter.kind_of(model),
            diagnostics=diagnostics,
        )
        reals: dict[Hashable, ExactMarginal] = {}
        places = places_of(model)
        mean = mean.masked_fill(gone[..., None, None], torch.nan)
        for v in answered.reals:
            columns = places[v.name]
            parts = mean[..., columns], covariance[..., columns, columns], weights
            own_mean, own_covariance, own_weights = (x[one] for x in parts)
            reals[v.name] = real_marginal(
                own_mean, own_covariance, model.conditionals[v.name].child.shape, own_weights
            )
        return RealsOverTime(whole, reals)


class DiscreteSliceTables(LeafSliceTables):
    """Tables of the discrete variables alone; real ones are another's business."""

    def _real(self, conditional: Conditional, span: slice) -> Factor | None:
        return None


def _choosing(model: SlicedModel) -> list[Hashable]:
    """Return discrete variables with children in the next slice, or with real children."""
    pieces = [*model.conditionals.values(), *(model.first(n) for n in model.conditionals)]
    parents = {
        without_lag(v.name)
        for c in pieces
        for v in c.parents
        if v.is_discrete and (has_lag(v.name) or not c.child.is_discrete)
    }
    return [n for n in model.conditionals if n in parents]


def _kept(question: SequenceQuestion) -> list[Hashable]:
    """Return discrete variables of the joint table: the switches and the targets."""
    chosen, queried = _choosing(question.model), question.queried_names
    return [*chosen, *(n for n in queried if n not in chosen)]


def _last(observed: SequenceEvidence) -> Tensor:
    """``(B,)`` the last step of each row at which something was observed; -1 if none."""
    observed_steps = torch.zeros(observed.num_rows, observed.steps, dtype=torch.bool)
    for codes in observed.codes.values():
        observed_steps |= codes >= 0
    for x in observed.reals.values():
        present = ~x.isnan()
        observed_steps |= present.flatten(start_dim=2).any(-1) if present.dim() > 2 else present
    for likely in observed.soft.values():
        observed_steps |= (likely != likely[..., :1]).any(-1)
    steps = torch.where(observed_steps & observed.inside, torch.arange(observed.steps), -1)
    return torch.nn.functional.pad(steps, (1, 0), value=-1).amax(dim=1)


def _regressions(model: SlicedModel, states: InterfaceChain) -> tuple[Regression, Regression]:
    """Return regressions of the first slice per joint state, and of later ones per pair."""
    count = math.prod(v.num_states for v in states.variables)
    codes = states.split(torch.arange(count))
    places = places_of(model)
    first = {n: model.first(n) for n in places}
    start, move = (
        slice_regression(
            model, conditionals, {n: _chosen(conditionals[n], codes, pairs) for n in places}
        )
        for conditionals, pairs in ((first, False), (model.conditionals, True))
    )
    return Regression(start.weight[..., :0], start.bias, start.scale), move


def _chosen(conditional: Conditional, codes: dict[Hashable, Tensor], pairs: bool) -> Regression:
    """Return a regression with an axis of joint states, or axes of previous and current ones."""
    index: list[Tensor] = []
    parts = double(conditional.regression())
    for axis, v in enumerate(v for v in conditional.parents if v.is_discrete):
        chosen = codes[without_lag(v.name)]
        if parts.bias.shape[axis] == 1:
            chosen = torch.zeros_like(chosen)
        index.append(chosen[:, None] if has_lag(v.name) else chosen[None] if pairs else chosen)
    if not index:
        lead = [1, 1] if pairs else [1]
        return Regression(*(x.reshape(*lead, *x.shape) for x in parts))
    at = [x[tuple(index)] for x in parts]
    lead = list(common_shape(*(x.shape for x in index)))
    short = 2 - len(lead) if pairs else 0
    return Regression(*(x.reshape(*[1] * short, *lead, *x.shape[len(lead) :]) for x in at))
