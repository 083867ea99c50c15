"""Engines for models over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgnn.abilities import ChainModel, Inputs
from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.sequence_reader import SequenceReader
from pgnn.inference.time.step_targets import StepTargets
from pgnn.inference.time.steps_ahead import StepsAhead
from pgnn.limits import check_size, whole_number


class SequenceEngine(SequenceReader):
    """An engine for models over time, which also filters and predicts.

    It reads evidence as sequences; engines implement answers by the hooks :meth:`smooth_steps`,
    :meth:`filter_steps`, :meth:`best_paths`, :meth:`draw_paths` and :meth:`log_evidence`. Hooks
    that an engine does not implement raise an error.
    """

    verbs = (*SequenceReader.verbs, "filter", "predict")
    takes_reals: ClassVar[bool] = False
    """Whether real variables may be queried."""

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> Any:
        """Read evidence and names, also of variables at single steps such as ``("rain", 3)``.

        Raises:
            EvidenceError: If such a step is not one of the evidence.
        """
        at = StepTargets.of(model, names)
        if at is None:
            return super().read(model, evidence, inputs, names=names, errors=errors)
        question = super().read(model, evidence, inputs, names=at.names, errors=errors)
        at.check(question.observed.steps)
        question.at = at
        return question

    # --- verbs of models over time ------------------------------------------------------------

    def filter(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        r"""Return :math:`p(x_t \mid e_1, \dots, e_t)` for every step.

        Diagnostics may have ``log_increments``, :math:`\log p(e_t \mid e_{<t})`.
        """
        question = self.read(model, evidence, inputs, names=targets, errors=errors)
        self.check_cost(question, question.num_beliefs)
        with question.gradient_mode():
            answer: Posterior = question.answered(self.filter_steps(question))
            return answer

    def predict(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        steps: int,
        *,
        inputs: Inputs | None = None,
    ) -> Posterior:
        r"""Return :math:`p(x_{T+h} \mid x_{1:T})` at the steps h = 1, ..., ``steps``.

        Rows continue from their own ends.
        """
        steps = whole_number("steps", steps, least=1)
        StepTargets.check_ahead(model, targets)
        observed = SequenceEvidence.of(model, evidence, inputs)
        try:
            return self.predict_steps(StepsAhead(model, targets, observed, steps, inputs))
        except ImpossibleEvidence as error:
            advice = "leave these rows out" if observed.batched else ""
            raise ImpossibleEvidence(
                error.reason, error.rows, error.conflict, steps=error.steps, advice=advice
            ) from None

    # --- hooks --------------------------------------------------------------------------------

    @abstractmethod
    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence."""

    @abstractmethod
    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the evidence so far."""

    def predict_steps(self, ahead: StepsAhead) -> Posterior:
        """Return marginals of the next steps; by default those of smoothing with more steps."""
        model, observed, steps = ahead.model, ahead.observed, ahead.steps
        states = sum(v.num_states for v in model.variables.values() if v.is_discrete)
        cells = observed.num_rows * (observed.steps + steps) * states
        check_size(f"{steps:,} steps", cells, self.max_answer_bytes, "Predict fewer at a time")
        whole = self.query(model, ahead.targets, ahead.extended, inputs=ahead.inputs)
        queried = [model.variables[v.name] for v in whole.variables]
        alone = not observed.batched
        rows = [whole.probs(v.name)[None] if alone else whole.probs(v.name) for v in queried]
        log_z = whole.log_evidence[None] if alone else whole.log_evidence
        question = SequenceQuestion(model, ahead.after, names=[v.name for v in queried])
        parts = [_at_steps(p, ahead.places) for p in rows]
        return question.posterior(parts, log_z, engine=whole.engine, kind=whole.kind)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the k most probable states."""
        raise Unsupported(
            f"{type(self).__name__}() has marginals only", "leave out engine= to decode exactly"
        )

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables."""
        raise Unsupported(
            f"{type(self).__name__}() has marginals only", "leave out engine= to draw exactly"
        )

    @abstractmethod
    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return ``(B,)`` log probabilities of the evidence."""

    # --- the hooks of every engine ------------------------------------------------------------

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> SequenceQuestion:
        """Read evidence as sequences, see the base class."""
        observed = SequenceEvidence.of(model, evidence, inputs)
        engine = type(self).__name__
        rest: dict[str, Any] = {"errors": errors, "takes_reals": self.takes_reals}
        return SequenceQuestion(model, observed, inputs, names=names, engine=engine, **rest)

    def read_ahead(self, ahead: StepsAhead) -> tuple[SequenceQuestion, SequenceQuestion]:
        """Return the question about all steps, and that about the steps after the evidence.

        Args:
            ahead: The steps; all variables are targets by default.
        """
        names = [*ahead.model.variables] if ahead.targets is None else ahead.targets
        question = self.read(ahead.model, ahead.extended, ahead.inputs, names=names)
        after = SequenceQuestion(
            ahead.model, ahead.after, names=names, engine=question.engine,
            takes_reals=self.takes_reals,
        )  # fmt: skip
        return question, after

    def answer_query(self, question: SequenceQuestion) -> Posterior:
        """Return smoothed marginals."""
        self.check_cost(question, question.num_beliefs)
        return self.smooth_steps(question)

    def answer_most_probable(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the most probable states."""
        cells = (
            k * question.observed.num_rows * question.observed.steps * max(len(question.queried), 1)
        )
        what = f"{k:,} best paths of {question.observed.num_rows:,} rows"
        check_size(what, cells, self.max_answer_bytes, "Ask for fewer")
        best: Assignment | KBest = question.with_lengths(self.best_paths(question, k))
        return best

    def answer_sample(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws; the length is ``evidence["T"]`` if there are no observations."""
        question.check_length()
        return self.draw_paths(question, n, seed)

    def answer_log_prob(self, question: SequenceQuestion) -> Tensor:
        """Return one log probability per sequence; normalised for undirected chains."""
        log_z, model = self.log_evidence(question), question.model
        if not isinstance(model, ChainModel) or model.is_normalized:
            return log_z
        observed = question.observed
        unobserved = SequenceEvidence(observed.lengths, observed.steps, batched=observed.batched)
        return divided(
            log_z, self.log_evidence(SequenceQuestion(model, unobserved, question.inputs))
        )

    def impossible(self, question: SequenceQuestion, rows: list[int]) -> ImpossibleEvidence:
        """Return the error for rows of probability zero, with the step of the first failure."""
        steps = self._lost_at(question, rows)
        what, advice = f"the sequence has probability zero from step {steps[0]} on", ""
        if question.observed.batched:
            what = (
                f"{len(rows)} of {question.num_rows} rows have probability zero (first: row "
                f"{rows[0]}, from step {steps[0]} on)"
            )
            advice = "errors='nan' answers the other rows"
        return ImpossibleEvidence(what, tuple(rows), steps=tuple(steps), advice=advice)

    def _lost_at(self, question: SequenceQuestion, rows: list[int]) -> list[int]:
        """Return the first step of each row at which it is impossible, by bisection."""
        inputs = {n: x[rows] for n, x in question.covariates.items()}

        def log_prob(begun: SequenceEvidence, known: Inputs) -> Tensor:
            part = SequenceQuestion(question.model, begun, known, names=[], errors="nan")
            return self.log_evidence(part)

        lost = first_impossible_steps(question.observed.take(rows), inputs, log_prob)
        return [int(t) for t in lost]

    def prepare(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Raise an error, since the length is unknown."""
        raise Unsupported(
            "the length is not known",
            "compile model.unroll(steps) instead, or use model.chain(...) of a hidden Markov "
            "model, tensors in and tensors out",
        )


def first_impossible_steps(
    observed: SequenceEvidence,
    inputs: Inputs,
    log_prob: Callable[[SequenceEvidence, Inputs], Tensor],
) -> Tensor:
    """``(B,)`` first step of each impossible row at which it is so, by bisection.

    Args:
        observed: The rows.
        inputs: ``(B, T, ...)`` covariates of these rows.
        log_prob: Returns ``(B,)`` log probabilities of the beginnings of all rows.
    """
    low, high = torch.zeros_like(observed.lengths), (observed.lengths - 1).clamp_min(0)
    while bool((low < high).any()):
        middle = (low + high) // 2
        begun = replace(observed.shortened(middle + 1), batched=True)
        with torch.no_grad():
            lost = log_prob(begun, {n: x[:, : begun.steps] for n, x in inputs.items()})
        lost = lost.isneginf().cpu()
        low, high = torch.where(lost, low, middle + 1), torch.where(lost, middle, high)
        low = low.minimum(high)
    return high


def divided(log_scores: Tensor, log_z: Tensor) -> Tensor:
    """Return log scores minus the log partition; minus infinity for impossible rows."""
    return log_scores - log_z.masked_fill(log_z.isneginf(), 0.0)


def _at_steps(values: Tensor, steps: Tensor) -> Tensor:
    """Return ``(B, h, S)`` values selected from ``(B, T, S)`` at ``(B, h)`` steps."""
    index = steps.to(values.device).unsqueeze(-1)
    return values.gather(1, index.expand(*steps.shape, values.shape[2]))
