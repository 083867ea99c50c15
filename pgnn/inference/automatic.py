"""The engine that is used when none is named."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn import inference as engines  # each is loaded when it is used
from pgnn.abilities import AmortisedModel, DirectedModel, ExecutableModel, FactorModel
from pgnn.errors import ImpossibleEvidence, Intractable, NotConverged, Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.exact.gaussian_posterior import RealTargets
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.explanation import Explanation
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.known_values import unknown_reals
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.limits import POSITIVE, check_settings, human_bytes, human_count

Mask = NDArray[np.bool_]
Answer = TypeVar("Answer", bound="Posterior | Assignment | KBest")

_CASES = 100
"""Default number of sets of assignments that a search with bounds examines."""
_SLOW = 2e8
"""Multiply-adds of a row from which a search that may prove its answer optimal is tried first."""
_SMALL = 3000
"""Largest number of elements for which a good plan is searched at once."""


_RECOGNISED = 100
"""Draws of a recognition model for each row."""


@dataclass(frozen=True)
class Automatic(Engine):
    """Exact inference where it is affordable, otherwise the approximation that suits the query.

    Approximate marginals come from belief propagation, most probable states from dual decomposition
    with local search (or from branch and bound where other variables are summed out), and samples
    from Gibbs sampling. Where exact elimination is slow, a short dual decomposition is tried first,
    and its most probable states are returned if its bound proves them optimal. If unobserved real
    variables have children, :class:`MCMC` samples them and the discrete variables are summed out.
    The answer names the engine and the reason for choosing it. ``log_prob`` returns a tensor, which
    cannot say that it is approximate: it is exact or raises ``Intractable``, unless an engine is
    named.

    Args:
        max_bytes: Largest memory of exact messages, in bytes.
        max_work: Largest number of multiply-adds of an exact answer, all rows together (about a
            billion take a second).
        seed: Random seed of Markov chains, where they are used.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> model.query("a", {"b": 1}).kind
        'exact'
    """

    max_bytes: int = 2**32
    max_work: float = 1e11
    seed: int | None = None

    def __post_init__(self) -> None:
        check_settings(self, max_work=POSITIVE)

    @property
    def max_answer_bytes(self) -> int:
        """Largest memory of an answer, in bytes."""
        return self.max_bytes

    def answer_query(self, question: Question) -> Posterior:
        """Answer ``query``: exactly, by MCMC over unobserved real variables, or by propagation."""
        why = self._obstacle(question)
        if why is None:
            try:
                return self._exact.answer_query(question)
            except Intractable as error:
                why = error.reason
            except Unsupported as error:
                if _discrete(question.model):
                    raise
                return self._by_sampling(question, error.reason)
        return _with_reason(why, self._estimating(question).answer_query(question))

    def answer_with_draws(self, question: Question) -> tuple[Posterior, Samples] | None:
        """See :class:`Engine`: the chains of MCMC where a query is answered by them."""
        if self._obstacle(question) is not None or _discrete(question.model):
            return None
        try:
            self._exact.answer_query(question)
        except Intractable:
            return None
        except Unsupported as error:
            with suppress(Unsupported):
                posterior, drawn = engines.MCMC(seed=self.seed).answer_with_draws(question)
                return _with_reason(error.reason, posterior), drawn
        return None

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Answer ``most_probable``: exactly, by search with bounds, or by propagation."""
        if k > 1:
            return JunctionTree(max_bytes=self.max_bytes).answer_most_probable(question, k)
        why = self._obstacle(question)
        if why is None:
            try:
                proved = self._proved(question)
                if proved is not None:
                    return proved
                best = self._exact.answer_most_probable(question, k)
                if len(best) or not _recognises(question):
                    return best
            except Intractable as error:
                why = error.reason
            except Unsupported:
                if not _recognises(question):
                    raise
            if why is None:  # it is real numbers that are asked for, and have no closed form
                return engines.Variational(progress=False, seed=self.seed).answer_most_probable(
                    question, k
                )
        if RealTargets.of(question) is not None:
            raise Intractable(
                why, "if targets= names discrete variables only, the real ones are summed out"
            )
        if question.names is None and _is_written(question):
            return _with_reason(why, engines.DualDecomposition().answer_most_probable(question, k))
        if self._obstacle(question) is None:
            search = engines.BranchAndBound(_CASES, self.max_bytes, self.max_work, seed=self.seed)
            with suppress(Intractable):
                return _with_reason(why, search.answer_most_probable(question, k))
        return _with_reason(why, engines.BeliefPropagation().answer_most_probable(question, k))

    def _proved(self, question: Question) -> Assignment | None:
        """The answer of a short search if exact inference is slow; None if it is not optimal."""
        if question.names is not None or RealTargets.of(question) is not None:
            return None
        work = self._exact.work_of_best(question)
        if work < _SLOW or not _is_written(question):
            return None
        engine = engines.DualDecomposition.brief(self.seed)
        with suppress(ImpossibleEvidence), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            best = engine.answer_most_probable(question, 1)
            if isinstance(best, Assignment) and best.diagnostics["optimal"].all():
                why = f"exact elimination takes {human_count(work)} multiply-adds"
                return _with_reason(f"{why}, and a bound proves the answer optimal", best)
        return None

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Answer ``sample``: exactly, by MCMC over the real variables, or by Gibbs sampling."""
        forward = isinstance(question.model, DirectedModel) and not question.observed.names
        if forward or self._obstacle(question) is None:
            try:
                return self._exact.answer_sample(question, n, seed)
            except Intractable:
                pass
            except Unsupported:
                if _discrete(question.model):
                    raise
                try:
                    return engines.MCMC(seed=seed).answer_sample(question, n, seed)
                except Unsupported:
                    return _executions(question, seed).answer_sample(question, n, seed)
        return engines.Gibbs(seed=seed).answer_sample(question, n, seed)

    def answer_log_prob(self, question: Question) -> Tensor:
        """Answer ``log_prob``, always exactly; complete rows need no sum.

        Raises:
            Intractable: If the exact sum does not fit; name an engine for an estimate or a bound.
        """
        why = None if question.complete else self._obstacle(question)
        if why is None:
            try:
                return self._exact.answer_log_prob(question)
            except Intractable as error:
                why = error.reason
            except Unsupported:
                if not isinstance(question.model, AmortisedModel):
                    raise
                raise Unsupported(
                    "latent real variables cannot be integrated out exactly",
                    "engine=Variational(objective=ImportanceWeighted(100)) gives a lower bound "
                    "by the model's recognition network",
                ) from None
        raise Intractable(
            why,
            "engine=BeliefPropagation() or AnnealedImportanceSampling() estimates it, "
            "MeanField() and BeliefPropagation(tree_reweighted=True) bound it",
        )

    def describe(self, question: Question) -> Explanation:
        """Answer ``explain``: the engine that would be used, and why."""
        why = self._obstacle(question)
        if why is None:
            try:
                explanation = self._exact.describe(question)
            except Unsupported as error:
                if _discrete(question.model):
                    raise
                try:
                    explanation = engines.MCMC(seed=self.seed).describe(question)
                except Unsupported:
                    explanation = _executions(question, self.seed).describe(question)
                return replace(explanation, reason=f"{explanation.reason}, because {error.reason}")
            if explanation.fits:
                return explanation
            why = explanation.reason
        explanation = self._estimating(question).describe(question)
        return replace(explanation, reason=f"{explanation.reason}, because {why}")

    def prepare(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Answer ``compile`` exactly."""
        return JunctionTree(max_bytes=self.max_bytes).prepare(model, targets, observed)

    def _estimating(self, question: Question) -> Engine:
        """The approximate engine for a query whose exact answer is too expensive."""
        try:
            question.expanded()
        except Intractable:  # a table that can't be written down
            return engines.ImportanceSampling(seed=self.seed)
        return engines.BeliefPropagation()

    def _by_sampling(self, question: Question, why: str) -> Posterior:
        """The sampling engine: the model's recognition network, MCMC, or weighted executions."""
        if isinstance(question.model, AmortisedModel):
            return _with_reason(why, self._recognising.answer_query(question))
        try:
            return _with_reason(why, engines.MCMC(seed=self.seed).answer_query(question))
        except Unsupported as error:
            answer = _executions(question, self.seed).answer_query(question)
            return _with_reason(f"MCMC() cannot: {error.reason}", answer)

    @cached_property
    def _recognising(self) -> engines.Variational:
        bound = engines.ImportanceWeighted(num_particles=_RECOGNISED)
        return engines.Variational(
            objective=bound, max_iterations=0, num_samples=_RECOGNISED, seed=self.seed
        )

    @cached_property
    def _exact(self) -> JunctionTree:
        return JunctionTree(max_bytes=self.max_bytes, max_work=self.max_work)

    def _obstacle(self, question: Question) -> str | None:
        """The reason why no exact plan is worth searching for; None if one is."""
        if question.observed.codes.shape[1] <= _SMALL:
            return None
        free: Mask = np.asarray((question.observed.codes < 0).any(axis=0))
        if self._is_narrow(question.graph.expanded(), free):
            return None
        bound = human_bytes(self.max_bytes)
        return f"exact elimination of {int(free.sum()):,} variables needs more than {bound}"

    def _is_narrow(self, graph: FactorGraph, free: Mask) -> bool:
        from pgnn.inference.exact.kernels.bounded_width import has_bounded_width

        hidden: Mask = np.ones(len(graph.elements) - len(free), dtype=np.bool_)
        most, everything = np.log2(self.max_bytes / 8), np.concatenate([free, hidden])
        return bool(
            has_bounded_width(
                graph.scope_ptr, graph.scope_var, np.log2(graph.card), everything, float(most)
            )
        )


AUTOMATIC = Automatic()
"""The default engine."""


def _executions(question: Question, seed: int | None) -> engines.ExecutionSampling:
    """Weighted executions of a model that can be run; the original error for any other."""
    if not isinstance(question.model, ExecutableModel):
        raise
    return engines.ExecutionSampling(seed=seed)


def _with_reason(why: str, answer: Answer) -> Answer:
    """The answer with the reason for the engine added to its diagnostics."""
    answer.diagnostics = {"reason": why, **answer.diagnostics}  # type: ignore[union-attr]
    return answer


def _is_written(question: Question) -> bool:
    """Whether all factors have tables, so that no auxiliary variable has to be summed out."""
    return len(question.graph.expanded(WRITTEN).elements) == len(question.model.elements)


def _recognises(question: Question) -> bool:
    """Whether some reals are unknown in a model that recognises its latent variables."""
    return isinstance(question.model, AmortisedModel) and bool(unknown_reals(question))


def _discrete(model: FactorModel) -> bool:
    return all(v.is_discrete for v in model.variables.values())
