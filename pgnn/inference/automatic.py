"""The engine that is used when none is named."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import FactorModel
from pgnn.errors import Intractable, Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.continuous.mcmc import MCMC
from pgnn.inference.engine import Engine
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.explanation import Explanation, human_bytes, human_count
from pgnn.inference.posterior import Posterior
from pgnn.inference.propagation.belief_propagation import BeliefPropagation
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.inference.sampling.gibbs import Gibbs
from pgnn.inference.search.dual_decomposition import DualDecomposition

Mask = NDArray[np.bool_]
Answer = TypeVar("Answer", Posterior, "Assignment | KBest")

_SMALL = 3000
"""Elements of a model for which a careful plan is made at once."""

_FEW = 1e-4
"""Share of the work allowed that a row may cost for questions not to be looked at one by one."""


@dataclass(frozen=True)
class Automatic(Engine):
    """Exact where the plan fits, otherwise the approximation that suits the question.

    Marginals then come from belief propagation, most probable states from dual decomposition with
    local search, draws from Gibbs sampling. Where real variables are unknown on which something
    depends, chains of :class:`MCMC` draw these and the discrete ones are summed out. The answer
    names the engine and says why. A bare number cannot say what it is: ``log_prob`` is exact or
    raises ``Intractable``, unless an engine is named.

    Args:
        max_bytes: Memory that exact messages may take.
        max_work: Multiply-adds that an exact answer may take for all rows together (about a
            billion a second).
        seed: Of chains, where they are what answers.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> model.query("a", {"b": 1}).kind
        'exact'
    """

    max_bytes: int = 2**32
    max_work: float = 1e11
    seed: int | None = None

    @property
    def max_answer_bytes(self) -> int:
        """Memory that the numbers of an answer may take."""
        return self.max_bytes

    def answer_query(self, question: Question) -> Posterior:
        """Answer ``query``: exactly, by chains where reals are unknown, or by propagation."""
        why = self._obstacle(question)
        if why is None:
            try:
                return self._exact.answer_query(question)
            except Intractable as error:
                why = str(error)
            except Unsupported as error:
                if _discrete(question.model):
                    raise
                answer = MCMC(seed=self.seed).query(
                    question.model,
                    question.names,
                    question.seen,
                    inputs=question.inputs,
                    errors=question.errors,
                )
                return _because(str(error), answer)
        return _because(why, BeliefPropagation().answer_query(question))

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Answer ``most_probable``: exactly, by dual decomposition or by propagation."""
        why = self._obstacle(question)
        if why is None or k > 1:
            try:
                return self._exact.answer_most_probable(question, k)
            except Intractable as error:
                if k > 1:
                    raise
                why = str(error)
        engine = DualDecomposition() if question.names is None else BeliefPropagation()
        return _because(why, engine.answer_most_probable(question, k))

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Answer ``sample``: exactly, by chains over the reals, or by Gibbs sampling."""
        if self._obstacle(question) is None:
            try:
                return self._exact.answer_sample(question, n, seed)
            except Intractable:
                pass
            except Unsupported:
                if _discrete(question.model):
                    raise
                chains = MCMC(seed=seed)
                return chains.sample(question.model, n, question.seen, inputs=question.inputs)
        return Gibbs(seed=seed).answer_sample(question, n, seed)

    def answer_log_prob(self, question: Question) -> Tensor:
        """Answer ``log_prob``: exactly or not at all.

        Raises:
            Intractable: If the exact sum does not fit; name an engine for an estimate or a bound.
        """
        why = self._obstacle(question)
        if why is not None:
            raise Intractable(
                f"{why}; engine=BeliefPropagation() or AnnealedImportanceSampling() estimates it, "
                "MeanField() and BeliefPropagation(tree_reweighted=True) bound it"
            )
        return self._exact.answer_log_prob(question)

    def describe(self, question: Question) -> Explanation:
        """Answer ``explain``: what would be done, and why."""
        why = self._obstacle(question)
        if why is None:
            try:
                told = self._exact.describe(question)
            except Unsupported as error:
                if _discrete(question.model):
                    raise
                chains = MCMC(seed=self.seed)
                told = chains.explain(question.model, question.names, question.seen)
                return replace(told, reason=f"{told.reason}, because {error}")
            if told.fits:
                return told
            why = _too_much(told)
        told = BeliefPropagation().describe(question)
        return replace(told, reason=f"{told.reason}, because {why}")

    def prepare(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Answer ``compile`` exactly."""
        return self._exact.prepare(model, targets, observed)

    @cached_property
    def _exact(self) -> JunctionTree:
        return JunctionTree(max_bytes=self.max_bytes)

    def _obstacle(self, question: Question) -> str | None:
        """Say why the exact answer is out of reach; None if it is worth trying."""
        model = question.model
        if not question.inputs and self._is_easy(model):
            return None
        large = len(model.elements) > _SMALL
        same_tables = not question.inputs and _discrete(model)
        if not same_tables and not large:
            return None  # tables differ from row to row: the engine itself checks the budget
        if large:
            free: Mask = np.asarray((question.seen.codes < 0).any(axis=0))
            if not self._narrow(question, free):
                bound = human_bytes(self.max_bytes)
                return f"exact elimination of {int(free.sum()):,} variables needs more than {bound}"
        if not same_tables:
            return None
        told = self._exact.describe(question)
        if told.fits and (told.multiply_adds or 0) * question.num_rows <= self.max_work:
            return None
        return _too_much(told)

    def _is_easy(self, model: FactorModel) -> bool:
        """Whether the model without evidence is so small a matter that no question is hard."""

        def easy() -> bool:
            if len(model.elements) > _SMALL or not _discrete(model):
                return False
            try:
                told = self._exact.describe(Question.read(model))
            except (Intractable, Unsupported):
                return False
            return told.fits and (told.multiply_adds or 0) <= _FEW * self.max_work

        found: bool = model.cached(("easy", self.max_bytes, self.max_work), easy)
        return found

    def _narrow(self, question: Question, free: Mask) -> bool:
        from pgnn.inference.exact.kernels.width import narrow

        wiring = question.graph.wiring
        most = np.log2(self.max_bytes / 8)
        return bool(
            narrow(wiring.factor_ptr, wiring.slot_var, np.log2(wiring.card), free, float(most))
        )


AUTOMATIC = Automatic()
"""The engine of questions that name none."""


def _because(why: str, answer: Answer) -> Answer:
    """The same answer, with the reason in its diagnostics."""
    answer.diagnostics = {"reason": why, **answer.diagnostics}  # type: ignore[union-attr]
    return answer


def _discrete(model: FactorModel) -> bool:
    return all(v.is_discrete for v in model.variables.values())


def _too_much(told: Explanation) -> str:
    work, width = human_count(told.multiply_adds or 0), told.treewidth
    if not told.fits:
        limit = "" if told.budget_bytes is None else f" of {human_bytes(told.budget_bytes)} allowed"
        return f"an exact answer needs {human_bytes(told.memory_bytes)}{limit} (treewidth {width})"
    return f"an exact answer needs {work} multiply-adds for each row (treewidth {width})"
