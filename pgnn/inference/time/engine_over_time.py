"""Choice of the engine for a model over time."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pgnn.abilities import (
    ChainModel,
    GaussianChainModel,
    Inputs,
    MixtureOverTime,
    SlicedModel,
    UnrollableModel,
)
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.time_steps import lagged_name
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import names_of
from pgnn.inference.samples import Samples
from pgnn.inference.time.forward_backward import ForwardBackward
from pgnn.inference.time.interface_algorithm import InterfaceAlgorithm
from pgnn.inference.time.joint_kalman_filter import JointKalmanFilter
from pgnn.inference.time.kalman_filter import KalmanFilter
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.sequences_by_component import SequencesByComponent
from pgnn.inference.time.sequential_monte_carlo import SequentialMonteCarlo
from pgnn.inference.time.step_targets import StepTargets
from pgnn.inference.time.steps_ahead import StepsAhead
from pgnn.inference.time.switching_kalman_filter import SwitchingKalmanFilter
from pgnn.inference.time.unrolling import Unrolling

MAX_STATES = 1024
"""Largest number of joint states of an interface that is converted to a chain."""
MAX_HISTORIES = 2**9
"""Largest number of enumerated histories of discrete states, over all rows."""


@dataclass(frozen=True)
class EngineByEvidence(SequenceEngine):
    """Chooses the engine by the observations of real variables.

    If real variables with children were observed everywhere, discrete states are summed out
    exactly. Otherwise models that are linear Gaussian given discrete states are solved exactly for
    few histories of these, or else by a :class:`SwitchingKalmanFilter`. Particles answer in all
    other cases.

    Args:
        exact: The engine of exact answers about discrete variables.
    """

    exact: SequenceEngine

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> Any:
        """Read evidence for the chosen engine."""
        observed = SequenceEvidence.of(model, evidence)
        engine = self._suitable(model, observed, StepTargets.names_of(model, names))
        return engine.read(model, observed, inputs, names=names, errors=errors)

    def predict_steps(self, ahead: StepsAhead) -> Posterior:
        """Return marginals of the next, unobserved steps."""
        engine = self._suitable(ahead.model, ahead.extended, ahead.targets)
        if isinstance(engine, Unrolling):
            engine = SwitchingKalmanFilter.suited(ahead.model)
        return engine.predict_steps(ahead)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """See the base class."""
        return self._of(question).smooth_steps(question)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """See the base class."""
        return self._of(question).filter_steps(question)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """See the base class."""
        engine = self._along_paths(question)
        return engine.best_paths(_read_again(engine, question), k)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """See the base class."""
        engine = self._along_paths(question)
        return engine.draw_paths(_read_again(engine, question), n, seed)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """See the base class."""
        return self._of(question).log_evidence(question)

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        return self._of(question).describe(question)

    def _of(self, question: SequenceQuestion) -> SequenceEngine:
        return self._suitable(question.model, question.observed, question.names)

    def _along_paths(self, question: SequenceQuestion) -> SequenceEngine:
        """Return an engine with whole paths, which moments of single steps do not define."""
        engine, hidden = self._of(question), hidden_reals(question.model, question.observed)
        if not isinstance(engine, SwitchingKalmanFilter):
            return engine
        return _particles(hidden[0]) if hidden else self.exact

    def _suitable(
        self, model: SlicedModel, observed: SequenceEvidence, names: Names | None
    ) -> SequenceEngine:
        hidden = hidden_reals(model, observed)
        if not hidden and not _asks_reals(model, observed, names):
            return self.exact
        if SwitchingKalmanFilter.serves(model):
            few = SwitchingKalmanFilter.histories(model, observed) <= MAX_HISTORIES
            exactly = few and SwitchingKalmanFilter.kind_of(model) != "exact"
            return Unrolling(JunctionTree()) if exactly else SwitchingKalmanFilter.suited(model)
        if not hidden and names is None:
            return self.exact
        return _particles(hidden[0] if hidden else real_states(model)[0])


def _read_again(engine: SequenceEngine, question: SequenceQuestion) -> SequenceQuestion:
    """Return the question as read by another engine."""
    again: SequenceQuestion = engine.read(
        question.model,
        question.observed,
        question.inputs,
        names=question.names,
        errors=question.errors,
    )
    return again


def _particles(name: Hashable) -> SequentialMonteCarlo:
    return SequentialMonteCarlo(
        why=f"{name!r} is real, others depend on it, and it was not observed everywhere"
    )


def _asks_reals(model: SlicedModel, observed: SequenceEvidence, names: Names | None) -> bool:
    """Return whether queried real variables were not observed everywhere."""
    queried = names_of(names, model.variables) if names is not None else [*model.variables]
    return any(
        not model.variables[n].is_discrete and not observed.fully_observes(n) for n in queried
    )


def engine_over_time(model: UnrollableModel, engine: Engine | None) -> SequenceEngine:
    """Return an engine for models over time.

    Args:
        model: A model over time.
        engine: The engine named by the caller; engines of static models use the unrolled network.
            None selects exact inference by the chain of states or of joint states of the interface
            or, if these are too many, by a junction tree of the unrolled network; see
            :class:`EngineByEvidence` for real variables. An engine for a mixture is that of its
            components.
    """
    if isinstance(model, MixtureOverTime):
        if isinstance(engine, SequencesByComponent):
            return engine
        return SequencesByComponent(engine)
    if engine is not None:
        return engine if isinstance(engine, SequenceEngine) else Unrolling(engine)
    if isinstance(model, ChainModel):
        return ForwardBackward()
    if isinstance(model, GaussianChainModel):
        return KalmanFilter()
    if isinstance(model, SlicedModel) and JointKalmanFilter.serves(model):
        return JointKalmanFilter()
    small = isinstance(model, SlicedModel) and has_small_interface(model)
    exact: SequenceEngine = InterfaceAlgorithm() if small else Unrolling(JunctionTree())
    if isinstance(model, SlicedModel) and any(not v.is_discrete for v in model.variables.values()):
        return EngineByEvidence(exact)
    return exact


def real_states(model: SlicedModel) -> list[Hashable]:
    """Return the real variables with children in the same or the next slice."""
    names = {}
    for name in model.order:
        if not model.conditionals[name].child.is_discrete:
            names[name] = name
            names[name, -1] = name
    parents = {
        names[v.name]
        for child, conditional in model.conditionals.items()
        for v in conditional.parents
        if v.name in names and names[v.name] != child
    }
    return [n for n in model.order if n in parents]


def hidden_reals(model: SlicedModel, observed: SequenceEvidence) -> list[Hashable]:
    """Return the unknown real variables with observed descendants.

    Variables with children count if not observed everywhere, others if unobserved at a step before
    an observed one.
    """
    hidden = [n for n in real_states(model) if not observed.fully_observes(n)]
    for name, x in observed.reals.items():
        conditional = model.conditionals[name]
        if name not in hidden and any(v.name == lagged_name(name) for v in conditional.parents):
            present = ~x.isnan()
            present = present.flatten(start_dim=2).all(-1) if present.dim() > 2 else present
            if bool((present[:, 1:] & ~present[:, :-1] & observed.inside[:, 1:]).any()):
                hidden.append(name)
    return hidden


def has_small_interface(model: SlicedModel) -> bool:
    """Return whether the joint states of the interface are few enough for one chain."""
    states = math.prod(model.conditionals[n].child.num_states for n in model.interface)
    return states <= MAX_STATES
