"""The engine of models of units, where none is named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pgnn.abilities import FactorModel
from pgnn.errors import Intractable, Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.exact.block_elimination import BlockElimination
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.real_units import DRAWS, RealUnitTargets, WeightedStates, is_enumerated
from pgnn.inference.samples import Samples
from pgnn.inference.sampling.annealing import Annealing
from pgnn.inference.sampling.gibbs import Gibbs
from pgnn.limits import POSITIVE, check_settings


@dataclass(frozen=True)
class AutomaticUnits(Engine):
    """Exact inference where few units must be enumerated, otherwise block Gibbs sampling.

    The posterior of real units is a mixture of normal distributions, one for each state of the
    discrete units or, where there are too many states, for each sample of them.

    Most probable states that cannot be enumerated come from simulated annealing. ``log_prob`` is
    exact or raises ``Intractable``.

    Args:
        max_states: Largest number of joint states to enumerate.
        max_work: Largest number of multiply-adds of an exact answer.
        seed: Random seed of Markov chains, where they are used.

    Example:
        >>> import pgnn
        >>> pgnn.RestrictedBoltzmannMachine(3, 2).query("hidden", {"visible": [1, 0, 1]}).engine
        'BlockElimination'
    """

    max_states: int = 2**25
    max_work: float = 1e12
    seed: int | None = None

    def __post_init__(self) -> None:
        check_settings(self, max_states=1, max_work=POSITIVE)

    @property
    def _exact(self) -> BlockElimination:
        return BlockElimination(self.max_states, self.max_work)

    def answer_query(self, question: Question) -> Posterior:
        """Answer ``query``: exactly, or by Gibbs sampling."""
        reals = RealUnitTargets.of(question)
        if reals is None:
            return self._discrete(question)
        whole = self._discrete(question.about(reals.discrete))
        if is_enumerated(question):
            states = WeightedStates.all_of(question)
        else:
            codes = self.answer_sample(question.about(None), DRAWS, self.seed).codes
            states = WeightedStates.drawn(codes.reshape(DRAWS, question.num_rows, -1))
        return reals.answer(question, whole, states)

    def _discrete(self, question: Question) -> Posterior:
        """Return the answer about discrete units."""
        try:
            return self._exact.answer_query(question)
        except Intractable as error:
            answer = Gibbs(seed=self.seed).answer_query(question)
            answer.diagnostics = {"reason": error.reason, **answer.diagnostics}
            return answer

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Answer ``most_probable``: exactly, or by annealing."""
        if k > 1:
            return JunctionTree().answer_most_probable(question, k)
        try:
            return self._exact.answer_most_probable(question, k)
        except Unsupported:
            return JunctionTree().answer_most_probable(question, k)
        except Intractable as error:
            best: Any = Annealing(seed=self.seed).answer_most_probable(question, k)
            best.diagnostics = {"reason": error.reason, **best.diagnostics}
            answer: Assignment = best
            return answer

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Answer ``sample``: exactly, or by Gibbs sampling."""
        try:
            return self._exact.answer_sample(question, n, seed)
        except Intractable:
            return Gibbs(seed=self.seed).answer_sample(question, n, seed)

    def answer_log_prob(self, question: Question) -> Tensor:
        """Answer ``log_prob``, always exactly."""
        return self._exact.answer_log_prob(question)

    def describe(self, question: Question) -> Explanation:
        """Answer ``explain``."""
        try:
            return self._exact.describe(question)
        except Intractable as error:
            outline = self._exact.outline(question)
            chains = Gibbs(seed=self.seed)
            return replace(outline, engine="Gibbs", kind=chains.kind_of_evidence,
                           reason=f"{chains.reason()}, because {error.reason}")  # fmt: skip

    def prepare(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Any] | None
    ) -> CompiledQuery:
        """Answer ``compile`` exactly."""
        return JunctionTree().prepare(model, targets, observed)
