"""The base class of engines: public methods read a query, hooks answer it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, Unsupported
from pgnn.inference.ancestral_draws import with_reals
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import BaseQuestion, Names
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.convergence import Convergence
from pgnn.inference.explanation import Explanation
from pgnn.inference.log_score import log_score
from pgnn.inference.ordinary_verbs import OrdinaryVerbs
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Question
from pgnn.inference.samples import Samples
from pgnn.inference.settings_html import ShowsSettings
from pgnn.limits import MAX_BYTES, check_seed, check_size, whole_number

if TYPE_CHECKING:
    from pgnn.inference.exact.compiled_query import CompiledQuery

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Engine(OrdinaryVerbs, ShowsSettings):
    """Immutable settings of an inference method; a call keeps its own state.

    The methods are those of :class:`pgnn.models.model.Model`, with the model as first argument.
    They read the query, check parameters and call hooks, some of which a subclass overrides:

    - :meth:`infer`, for ``query`` and ``log_prob``; :meth:`maximize`, for ``most_probable``;
      :meth:`draw`, for ``sample``: arrays over all elements;
    - or :meth:`answer_query`, :meth:`answer_most_probable`, :meth:`answer_sample` and
      :meth:`answer_log_prob`, which return complete answers;
    - :meth:`judge`, for concerns about an answer, which become a warning;
    - :meth:`reason` or :meth:`describe`, for ``explain``; :meth:`prepare`, for ``compile``.

    A hook that is not overridden raises an error that names engines with that ability.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> class Uniform(Engine):
        ...     "Returns uniform marginals."
        ...     def infer(self, question):
        ...         card = torch.from_numpy(question.graph.elements.card)
        ...         flat = torch.repeat_interleave(1.0 / card, card)
        ...         rows = question.num_rows
        ...         return Beliefs(flat.expand(rows, -1), torch.full((rows,), torch.nan))
        >>> model = BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
        >>> model.query("a", engine=Uniform())["a"].probs
        tensor([0.5000, 0.5000])
    """

    # --- the methods of a model ---------------------------------------------------------------

    def query(
        self,
        model: FactorModel,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """Answer :meth:`Model.query`."""
        question = self.read(model, evidence, inputs, names=targets, errors=errors)
        with question.gradient_mode():
            answer: Posterior = question.answered(self.answer_query(question))
            return answer

    def most_probable(
        self,
        model: FactorModel,
        evidence: Any,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        """Answer :meth:`Model.most_probable`."""
        k = whole_number("k", k, least=1)
        question = self.read(model, evidence, inputs, names=targets, errors=errors)
        question.check_whole()
        with question.gradient_mode():
            answer = self.answer_most_probable(question, k)
        answer.is_score = question.of_scores
        return answer

    def sample(
        self,
        model: FactorModel,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """Answer :meth:`Model.sample`."""
        n, seed = whole_number("the number of samples", n), check_seed(seed)
        question: Any = self.read(model, evidence, inputs)
        check_size(f"{n:,} draws of {question.num_rows:,} rows", n * question.num_cells,
                   self.max_answer_bytes, "Draw fewer at a time")  # fmt: skip
        with question.gradient_mode():
            return with_reals(question, self.answer_sample(question, n, seed), seed)

    def log_prob(self, model: FactorModel, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """Answer :meth:`Model.log_prob`."""
        question = self.read(model, data, inputs, names=[], errors="nan")
        with question.gradient_mode():
            total = self.answer_log_prob(question)
        return total if question.observed.batched else total[0]

    def explain(
        self, model: FactorModel, targets: Names | None, evidence: Any, inputs: Inputs | None = None
    ) -> Explanation:
        """Answer :meth:`Model.explain`."""
        question = self.read(model, evidence, inputs, names=targets)
        with torch.no_grad():
            return self.describe(question)

    def compile(
        self,
        model: FactorModel,
        targets: Names | None,
        observed: Iterable[Hashable] | None,
    ) -> CompiledQuery:
        """Answer :meth:`Model.compile`."""
        return self.prepare(model, targets, observed)

    # --- hooks: numbers about all elements ----------------------------------------------------

    def infer(self, question: Question) -> Beliefs:
        """Return all marginals and the log evidence of every row."""
        raise self._cannot("has no marginals", "JunctionTree(), BeliefPropagation() or Gibbs()")

    def maximize(self, question: Question, maximized: Mask) -> Best:
        """Return the best states of the ``maximized`` ``(E,)`` elements, all others summed out."""
        raise self._cannot(
            "does not maximise", "JunctionTree(), DualDecomposition() or Annealing()"
        )

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, Tensor | None]:
        """Return ``(n, B, E)`` states, and ``(n, B)`` log weights if the draws are weighted."""
        raise self._cannot("does not draw", "Gibbs() or JunctionTree()")

    def reason(self) -> str:
        """Return a short description of the engine, for :meth:`describe`."""
        return f"{type(self).__name__} was named"

    @property
    def kind_of_evidence(self) -> str:
        """Kind of the log evidence, see :attr:`Beliefs.kind`, for :meth:`describe`."""
        return "estimate"

    # --- hooks: whole answers -----------------------------------------------------------------

    def read(
        self,
        model: FactorModel,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> BaseQuestion:
        """Read evidence and names of targets into a query."""
        return Question.read(model, evidence, inputs, names=names, errors=errors)

    def answer_query(self, question: Any) -> Posterior:
        """Answer ``query`` by the marginals of :meth:`infer`."""
        targets, observed = question.targets, question.observed
        beliefs = self._inferred(question)
        self.check_rows(question, beliefs.log_evidence, beliefs.diagnostics, beliefs.advice)
        columns = torch.from_numpy(targets.columns)
        return Posterior(
            targets.variables,
            beliefs.marginals[:, columns.to(beliefs.marginals.device)],
            beliefs.log_evidence + _tensor(observed.soft_scale, beliefs.log_evidence),
            batched=observed.batched,
            kind=beliefs.kind,
            engine=type(self).__name__,
            diagnostics=beliefs.diagnostics,
            index=observed.index,
        )

    def answer_with_draws(self, question: Any) -> tuple[Any, Samples] | None:
        """Answer a query, with the draws of all variables behind it; None of an answer without."""
        return None

    def answer_most_probable(self, question: Any, k: int) -> Assignment | KBest:
        """Answer ``most_probable`` by the states of :meth:`maximize`."""
        if k > 1:
            raise self._cannot("finds one best assignment, not several", "JunctionTree()")
        targets, observed = question.targets, question.observed
        best = self.maximize(question, targets.mask)
        self._check_returned("maximize", best, Best)
        rows, elements = question.num_rows, question.model.elements
        self._check_shape("maximize", "states", best.states, (rows, len(elements)))
        self._check_shape("maximize", "log_prob", best.log_prob, (rows,))
        unknown = best.log_prob.detach().isnan()
        self.check_found(question, unknown.numpy(force=True))
        self.check_rows(question, best.log_prob, best.diagnostics, best.advice)
        scale = _tensor(observed.soft_scale, best.log_prob)
        none = best.log_prob.isneginf() | unknown
        states = best.states.masked_fill(none[:, None], -1)
        return Assignment(
            targets.variables,
            states[:, torch.from_numpy(targets.numbers)],
            best.log_prob + scale,
            batched=observed.batched,
            index=observed.index,
            upper_bound=None if best.upper_bound is None else best.upper_bound + scale,
            engine=type(self).__name__,
            diagnostics=best.diagnostics,
        )

    def answer_sample(self, question: Any, n: int, seed: int | None) -> Samples:
        """Answer ``sample`` by the draws of :meth:`draw`."""
        elements, batched = question.model.elements, question.observed.batched
        drawn = self.draw(question, n, seed)
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise ModelError(
                f"{type(self).__name__}.draw must return a tuple of states and log weights (or "
                f"None), got {drawn!r}"
            )
        states, log_weights = drawn
        rows = question.num_rows
        self._check_shape("draw", "states", states, (n, rows, len(elements)))
        if log_weights is not None:
            self._check_shape("draw", "log weights", log_weights, (n, rows))
        if log_weights is not None and not batched:
            log_weights = log_weights[:, 0]
        return Samples(
            elements.variables,
            states if batched else states[:, 0],
            batched=batched,
            index=question.observed.index,
            log_weights=log_weights,
        )

    def answer_log_prob(self, question: Any) -> Tensor:
        """Answer ``log_prob``, ``(B,)``; complete rows are evaluated exactly, without inference."""
        if question.complete:
            return log_score(question)
        beliefs = self._inferred(question)
        self.check_rows(question, beliefs.log_evidence, beliefs.diagnostics, beliefs.advice)
        self.check_found(question, beliefs.log_evidence.detach().isnan().numpy(force=True))
        return beliefs.log_evidence + _tensor(question.observed.soft_scale, beliefs.log_evidence)

    def check_rows(
        self, question: Question, log_values: Tensor, diagnostics: Mapping[str, Any], advice: str
    ) -> None:
        """Raise an error for impossible rows, warn about rows that did not converge.

        Args:
            question: The query; its ``errors`` decides whether impossible rows raise an error.
            log_values: ``(B,)`` log evidence, or log probability of the best states.
            diagnostics: Diagnostics.
            advice: Recommendation for rows that did not converge.
        """
        self.check_possible(question, log_values)
        self.judge(diagnostics, advice).warn()

    def judge(self, diagnostics: Mapping[str, Any], advice: str) -> Convergence:
        """Return the concerns about an answer, such as rows that did not converge.

        Args:
            diagnostics: Diagnostics.
            advice: Recommendation for such rows.
        """
        return Convergence(type(self).__name__).rows_not_converged(
            diagnostics.get("converged", True), advice
        )

    def check_possible(self, question: BaseQuestion, log_values: Tensor) -> None:
        """Raise an error for rows whose log value is minus infinity, see :meth:`refuse`.

        Args:
            question: The query; its ``errors`` decides whether impossible rows raise an error.
            log_values: ``(B,)`` log evidence, or log probability of the best states.

        Raises:
            ImpossibleEvidence: If there are any.
        """
        self.refuse(question, log_values.detach().isneginf().numpy(force=True))

    def refuse(self, question: BaseQuestion, impossible: Mask) -> None:
        """Raise an error for rows of probability zero, ``(B,)``, unless NaN is wanted for them.

        Raises:
            ImpossibleEvidence: If there are any.
        """
        if question.errors == "raise" and impossible.any():
            raise self.impossible(question, np.flatnonzero(impossible).tolist())

    def impossible(self, question: Any, rows: list[int]) -> ImpossibleEvidence:
        """Return the error for some rows of probability zero."""
        return ImpossibleEvidence(
            f"{len(rows)} of {question.num_rows} rows have probability zero (first: row {rows[0]})",
            tuple(rows),
            advice="JunctionTree() names the conflicting evidence; errors='nan' skips such rows",
        )

    def check_found(self, question: BaseQuestion, unknown: Mask) -> None:
        """Raise an error for rows ``(B,)`` for which no possible state was found.

        Raises:
            EvidenceError: If there are any, unless NaN is wanted for them.
        """
        if question.errors == "raise" and unknown.any():
            raise EvidenceError(
                f"{type(self).__name__} found no state of positive probability in {unknown.sum()} "
                f"rows (first: row {unknown.argmax()}); the evidence may be impossible, or the "
                "factors exclude nearly all states",
                "JunctionTree() decides, if affordable; errors='nan' skips such rows in queries",
            )

    def describe(self, question: Any) -> Explanation:
        """Answer ``explain``."""
        graph, _ = question.graph, question.targets
        hidden = (question.observed.codes < 0).any(axis=0)
        numbers = int(graph.elements.offset[-1])
        if graph.written_down:
            numbers += graph.wiring.num_entries + int(graph.wiring.message[-1])
        return Explanation(
            engine=type(self).__name__,
            kind=self.kind_of_evidence,
            reason=self.reason(),
            num_variables=len(graph.elements),
            num_eliminated=int(hidden.sum()),
            num_sliced=int((~hidden).sum()),
            memory_bytes=8 * numbers,
            num_factors=graph.num_interactions,
        )

    def prepare(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Answer ``compile``."""
        raise self._cannot("has no compiled queries", "JunctionTree()")

    # --- helpers ------------------------------------------------------------------------------

    @property
    def max_answer_bytes(self) -> int:
        """Largest memory of an answer, in bytes."""
        return MAX_BYTES

    def _inferred(self, question: Question) -> Beliefs:
        """Return the checked result of :meth:`infer`."""
        beliefs, rows = self.infer(question), question.num_rows
        self._check_returned("infer", beliefs, Beliefs)
        states = int(question.model.elements.offset[-1])
        self._check_shape("infer", "marginals", beliefs.marginals, (rows, states))
        self._check_shape("infer", "log_evidence", beliefs.log_evidence, (rows,))
        return beliefs

    def _check_returned(self, hook: str, what: object, expected: type) -> None:
        if not isinstance(what, expected):
            raise ModelError(
                f"{type(self).__name__}.{hook} must return a {expected.__name__}, got {what!r}"
            )

    def _check_shape(self, hook: str, what: str, value: object, shape: tuple[int, ...]) -> None:
        if not isinstance(value, Tensor) or value.shape != shape:
            came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ModelError(
                f"{type(self).__name__}.{hook} must return {what} as a tensor of shape {shape}, "
                f"got {came}"
            )

    def _cannot(self, what: str, instead: str) -> Unsupported:
        return Unsupported(f"{type(self).__name__}() {what}", f"use {instead}")


def _tensor(array: Floats, tensor: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(tensor)
