"""Which engine answers about a model over time."""

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
    SlicedModel,
    UnrollableModel,
)
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.forward_backward import ForwardBackward
from pgnn.inference.time.interface_algorithm import InterfaceAlgorithm
from pgnn.inference.time.joint_kalman_filter import JointKalmanFilter
from pgnn.inference.time.kalman_filter import KalmanFilter
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.sequential_monte_carlo import SequentialMonteCarlo
from pgnn.inference.time.unrolling import Unrolling

MAX_STATES = 1024
"""Most joint states of an interface that are made one chain."""


@dataclass(frozen=True)
class ParticlesWhereNeeded(SequenceEngine):
    """Exact answers where all real variables with children were observed, or else particles.

    Args:
        exact: The engine of exact answers.
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
        """Read evidence for the engine that answers."""
        seen = SequenceEvidence.of(model, evidence)
        missing = [n for n in real_states(model) if not seen.knows(n)]
        engine = self._particles(missing[0]) if missing else self.exact
        return engine.read(model, seen, inputs, names=names, errors=errors)

    def predict(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        steps: int,
        *,
        inputs: Inputs | None = None,
    ) -> Posterior:
        """By particles: what lies ahead was not observed."""
        engine = self._particles(real_states(model)[0])
        return engine.predict(model, targets, evidence, steps, inputs=inputs)

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """See the base class."""
        return self._of(question).smooth_steps(question)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """See the base class."""
        return self._of(question).filter_steps(question)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """See the base class."""
        return self._of(question).best_paths(question, k)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """See the base class."""
        return self._of(question).draw_paths(question, n, seed)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """See the base class."""
        return self._of(question).log_evidence(question)

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        return self._of(question).describe(question)

    def _of(self, question: SequenceQuestion) -> SequenceEngine:
        if not question.takes_reals:
            return self.exact
        return self._particles(real_states(question.model)[0])

    def _particles(self, name: Hashable) -> SequentialMonteCarlo:
        return SequentialMonteCarlo(
            why=f"{name!r} is real, others depend on it, and it was not observed everywhere"
        )


def engine_over_time(model: UnrollableModel, engine: Engine | None) -> SequenceEngine:
    """Return an engine for models over time.

    Args:
        model: A model over time.
        engine: The one that was named; one for static models gets the unrolled network.
            None is exact: by the chain of states, or of joint states of the interface, or, where
            these are too many, by a junction tree of the unrolled network. Particles answer where
            real variables were not observed on which others depend.
    """
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
    if isinstance(model, SlicedModel) and real_states(model):
        return ParticlesWhereNeeded(exact)
    return exact


def real_states(model: SlicedModel) -> list[Hashable]:
    """Return the real variables on which others depend, in the same slice or the next one."""
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


def has_small_interface(model: SlicedModel) -> bool:
    """Whether the joint states of the interface are few enough to be made one chain."""
    states = math.prod(model.conditionals[n].child.num_states for n in model.interface)
    return states <= MAX_STATES
