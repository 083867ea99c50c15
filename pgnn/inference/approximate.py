"""What the approximate engines share: reading the question, and making the answer."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, ImpossibleEvidence, NotConverged, Unsupported
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine, FactorModel, Inputs, Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.problem import Problem
from pgnn.inference.question import check_errors, targets_of
from pgnn.inference.samples import Samples

if TYPE_CHECKING:
    from pgnn.inference.exact.compiled_query import CompiledQuery

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What an engine found out about all elements.

    Attributes:
        marginals: ``(B, S)`` probabilities, all elements' states side by side; ``NaN`` in rows
            of probability zero.
        log_evidence: ``(B,)``, without the scale of soft evidence; ``-inf`` in impossible rows,
            ``NaN`` where the engine has no estimate.
        kind: What ``log_evidence`` is: ``"lower bound"``, ``"upper bound"`` or ``"estimate"``.
        diagnostics: What the engine has to say; ``"converged"``, ``(B,)``, if it iterates.
        advice: What to do about rows that did not converge.
    """

    marginals: Tensor
    log_evidence: Tensor
    kind: str = "estimate"
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Best:
    """The best states an engine found.

    Attributes:
        states: ``(B, E)`` int64 states of all elements.
        log_prob: ``(B,)`` their log score, without the scale of soft evidence (of marginal MAP:
            with the rest summed out).
        upper_bound: ``(B,)`` no assignment has a larger one, if the engine knows.
        diagnostics: As of :class:`Beliefs`.
        advice: As of :class:`Beliefs`.
    """

    states: Tensor
    log_prob: Tensor
    upper_bound: Tensor | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


class ApproximateEngine(Engine):
    """An engine that answers about discrete models without being exact.

    A subclass overrides what it can do of :meth:`infer`, :meth:`maximize` and :meth:`draw`.
    """

    def infer(self, problem: Problem) -> Beliefs:
        """Approximate all marginals and the log evidence of every row."""
        raise self._cannot("has no marginals", "BeliefPropagation(), MeanField() or Gibbs()")

    def maximize(self, problem: Problem, maximized: Mask) -> Best:
        """Look for the best states of the ``maximized`` elements, the rest summed out."""
        raise self._cannot("does not maximise", "DualDecomposition() or Annealing()")

    def draw(self, problem: Problem, n: int, seed: int | None) -> tuple[Tensor, Tensor | None]:
        """Draw ``(n, B, E)`` states, and ``(n, B)`` log weights if the draws are weighted."""
        raise self._cannot("does not draw", "Gibbs() or JunctionTree()")

    @abstractmethod
    def reason(self) -> str:
        """Say in a few words what the engine does, for :meth:`explain`."""

    # --- the verbs ----------------------------------------------------------------------------

    def query(
        self,
        model: FactorModel,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """See :meth:`Model.query`."""
        check_errors(errors)
        problem = Problem.read(model, evidence, inputs)
        asked = targets_of(model, targets)
        found = self.infer(problem)
        self._report(found.log_evidence, found.diagnostics, found.advice, errors)
        columns = torch.from_numpy(asked.columns(model.elements)).to(found.marginals.device)
        return Posterior(
            asked.variables,
            found.marginals[:, columns],
            found.log_evidence + _like(problem.seen.soft_scale, found.log_evidence),
            batched=problem.seen.batched,
            kind=found.kind,
            engine=type(self).__name__,
            diagnostics=found.diagnostics,
            index=problem.seen.index,
        )

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
        """See :meth:`Model.most_probable`."""
        check_errors(errors)
        if k < 1:
            raise EvidenceError(f"k must be at least 1, got {k}")
        if k > 1:
            raise self._cannot("finds one best assignment, not several", "JunctionTree()")
        problem = Problem.read(model, evidence, inputs)
        asked = targets_of(model, targets)
        maximized = np.zeros(len(model.elements), dtype=np.bool_)
        maximized[asked.numbers] = True
        found = self.maximize(problem, maximized)
        self._report(found.log_prob, found.diagnostics, found.advice, errors)
        scale = _like(problem.seen.soft_scale, found.log_prob)
        states = found.states.masked_fill(found.log_prob.isneginf()[:, None], -1)
        return Assignment(
            asked.variables,
            states[:, torch.from_numpy(asked.numbers)],
            found.log_prob + scale,
            batched=problem.seen.batched,
            index=problem.seen.index,
            upper_bound=None if found.upper_bound is None else found.upper_bound + scale,
            engine=type(self).__name__,
            diagnostics=found.diagnostics,
        )

    def sample(
        self,
        model: FactorModel,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """See :meth:`Model.sample`."""
        if n < 0:
            raise EvidenceError(f"the number of samples must not be negative, got {n}")
        problem = Problem.read(model, evidence, inputs)
        states, log_weights = self.draw(problem, n, seed)
        batched = problem.seen.batched
        if log_weights is not None and not batched:
            log_weights = log_weights[:, 0]
        return Samples(
            model.elements.variables,
            states if batched else states[:, 0],
            batched=batched,
            index=problem.seen.index,
            log_weights=log_weights,
        )

    def log_prob(self, model: FactorModel, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`; complete rows are looked up, which is exact."""
        problem = Problem.read(model, data, inputs)
        if problem.complete:
            total = problem.graph.log_score(problem.seen.codes)
        else:
            found = self.infer(problem)
            self._report(found.log_evidence, found.diagnostics, found.advice, "nan")
            total = found.log_evidence
            total = total + _like(problem.seen.soft_scale, total)
        return total if problem.seen.batched else total[0]

    def explain(self, model: FactorModel, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        problem = Problem.read(model, evidence, None)
        targets_of(model, targets)
        graph = problem.graph
        hidden = (problem.seen.codes < 0).any(axis=0)
        wiring = graph.wiring
        return Explanation(
            engine=type(self).__name__,
            kind="estimate",
            reason=self.reason(),
            num_variables=len(graph.elements),
            num_eliminated=int(hidden.sum()),
            num_sliced=int((~hidden).sum()),
            memory_bytes=8
            * (wiring.num_entries + int(wiring.message[-1]) + int(wiring.offset[-1])),
            num_factors=graph.num_factors,
        )

    def compile(
        self, model: FactorModel, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """See :meth:`Model.compile`."""
        raise self._cannot("has no compiled queries", "JunctionTree()")

    # --- helpers ------------------------------------------------------------------------------

    def _report(
        self, log_evidence: Tensor, diagnostics: Mapping[str, Any], advice: str, errors: str
    ) -> None:
        """Raise for impossible rows, warn about rows that did not converge."""
        lost = log_evidence.detach().isneginf()
        if errors == "raise" and bool(lost.any()):
            rows = tuple(lost.nonzero()[:, 0].tolist())
            raise ImpossibleEvidence(
                f"{len(rows)} of {len(lost)} rows have probability zero (first: row {rows[0]}); "
                "JunctionTree() names the findings that conflict, errors='nan' skips such rows",
                rows,
            )
        converged = diagnostics.get("converged")
        if converged is not None and not np.all(np.asarray(converged)):
            rest = int((~np.asarray(converged)).sum())
            raised_by = type(self).__name__
            warnings.warn(
                f"{raised_by}: {rest} of {len(lost)} rows did not converge"
                + (f"; {advice}" if advice else ""),
                NotConverged,
                stacklevel=4,
            )

    def _cannot(self, what: str, instead: str) -> Unsupported:
        return Unsupported(f"{type(self).__name__} {what}; use {instead}")


def _like(array: Floats, tensor: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(tensor)
