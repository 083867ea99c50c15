"""Answers about sequences generated step by step with unobserved steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import Inputs, StepwiseModel
from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.randomness import generator
from pgnn.factors.variable import MISSING
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.convergence import TRUSTED_DRAWS, Convergence
from pgnn.inference.explanation import Explanation
from pgnn.inference.particles.particle_weights import ParticleWeights
from pgnn.inference.particles.weighted_posterior import WeightedPosterior
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.beam_search import BeamSearch
from pgnn.inference.time.completed_sequences import (
    CompletedSequences,
    drawn_completions,
    every_completion,
)
from pgnn.inference.time.gapped_question import GappedQuestion
from pgnn.inference.time.next_step import next_step
from pgnn.inference.time.sequence_reader import SequenceReader
from pgnn.inference.time.sequence_samples import sequence_samples
from pgnn.limits import check_settings, check_size


@dataclass(frozen=True)
class SequenceCompletion(SequenceReader):
    r"""Sums out or completes unobserved steps in sequences generated step by step.

    .. math:: p(y_M \mid y_O) = \frac{p(y_M, y_O)}{\sum_{y'_M} p(y'_M, y_O)}

    If there are few completions, all are enumerated, and answers are exact (and log probabilities
    differentiable). Otherwise, and for missing reals, particles draw the missing steps from the
    model and are weighted by later observations: answers are estimates, and the estimate of the
    evidence (not of its log) is unbiased. Evidence and answers are about complete sequences with
    the length of the evidence or ``"T"``. Continuations of observed prefixes are drawn and searched
    by :class:`BeamSearch`.

    Args:
        max_completions: Largest number of completions of each row to enumerate.
        particles: Number of particles for each row otherwise.
        seed: Random seed of the particles.
        search: Searches the best continuations of observed prefixes.

    Raises:
        ModelError: If a setting is out of range.

    Cost: A step of the model for each step of each completion, or of each particle.

    References:
        Doucet and Johansen (2011), A tutorial on particle filtering and smoothing, section 3.

    Example:
        >>> import torch
        >>> from pgnn.models import LanguageModel
        >>> model = LanguageModel("ab", hidden=8)
        >>> answer = model.query(evidence={"token": ["a", None, "b"]}, engine=SequenceCompletion())
        >>> answer["token"].probs.shape, answer.kind
        (torch.Size([3, 2]), 'exact')
    """

    answers_about = StepwiseModel
    subject = "models of sequences generated step by step, such as AutoregressiveModel"

    max_completions: int = 4096
    particles: int = 1000
    seed: int | None = None
    search: BeamSearch = field(default_factory=BeamSearch)

    def __post_init__(self) -> None:
        check_settings(self, max_completions=0, particles=2)

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> GappedQuestion:
        """Read evidence, see the base class."""
        names = None if isinstance(names, list) and not names else names
        return GappedQuestion(model, evidence, inputs, names, errors)

    def most_probable(self, model: Any, evidence: Any, *args: Any, **options: Any) -> Any:
        """See :class:`Engine`; continuations of prefixes are searched."""
        if _has_gaps(model, evidence, options.get("inputs")):
            return super().most_probable(model, evidence, *args, **options)
        return self.search.most_probable(model, evidence, *args, **options)

    def sample(self, model: Any, n: int, evidence: Any, **options: Any) -> Samples:
        """See :class:`Engine`; draws of continuations of prefixes are exact."""
        if _has_gaps(model, evidence, options.get("inputs")):
            return super().sample(model, n, evidence, **options)
        return self.search.sample(model, n, evidence, **options)

    def predict(self, model: Any, evidence: Any, *, inputs: Inputs | None = None) -> Posterior:
        """Return probabilities of the step after the observations, see :meth:`Model.predict`."""
        question: Any = self.search.read(model, evidence, inputs)
        with question.gradient_mode(), evaluated(model):
            return next_step(question, type(self).__name__)

    def answer_query(self, question: GappedQuestion) -> Posterior:
        """Return marginals of each step of complete sequences; NaN beyond their ends."""
        question.check_steps()
        completed = self._completed(question, self.seed)
        self.check_possible(question, completed.log_evidence)
        gone = ~question.inside | completed.log_evidence.isneginf()[:, None]
        parts = [torch.zeros(question.num_rows, 0, dtype=torch.float64)]
        weights, targets = completed.log_weights.exp(), question.targets
        discrete = [v for v in targets if v.is_discrete]
        reals = [v for v in targets if not v.is_discrete]
        for v in discrete:
            hot = one_hot(completed.values[v.name], v.num_states).double()
            probs = torch.einsum("bn,bntk->btk", weights, hot)
            parts.append(probs.masked_fill(gone[..., None], torch.nan).flatten(start_dim=1))
        rest: dict[str, Any] = {
            "batched": question.observed.batched,
            "kind": "exact" if self._is_exact(question) else "estimate",
            "engine": type(self).__name__,
            "index": question.index,
            "diagnostics": completed.diagnostics,
        }
        marginals = torch.cat(parts, dim=1)
        if not reals:
            return Posterior(discrete, marginals, completed.log_evidence, **rest)
        draws = {}
        for v in reals:
            beyond = gone[:, None].reshape(len(gone), 1, -1, *[1] * (len(v.shape) - 1))
            draws[v.name] = completed.values[v.name].masked_fill(beyond, torch.nan).transpose(0, 1)
        logs = completed.log_weights.T
        return WeightedPosterior(
            discrete, marginals, completed.log_evidence, reals, draws, logs, **rest
        )

    def answer_log_prob(self, question: GappedQuestion) -> Tensor:
        """Return ``(B,)`` log probabilities of sequences, with unobserved values summed out."""
        if question.whole:
            return self.search.answer_log_prob(question)
        return self._completed(question, self.seed).log_evidence

    def answer_sample(self, question: GappedQuestion, n: int, seed: int | None) -> Samples:
        """Return completions drawn by their weights."""
        completed = self._completed(question, seed)
        self.check_possible(question, completed.log_evidence)
        rows = torch.arange(question.num_rows)
        probs = completed.log_weights.exp()
        probs = probs.masked_fill(completed.log_evidence.isneginf()[:, None], 1.0)
        drawn = torch.zeros(question.num_rows, n, dtype=torch.int64)
        if drawn.numel():
            drawn = torch.multinomial(probs, n, replacement=True, generator=generator(seed))
        values = {name: x[rows, drawn.T] for name, x in completed.values.items()}
        return sequence_samples(question, values, question.goals.expand(n, -1))

    def answer_most_probable(self, question: GappedQuestion, k: int) -> Assignment | KBest:
        """Return the best completions by enumeration."""
        if not self._is_exact(question):
            raise Unsupported(
                f"there are more than {self.max_completions:,} completions of the missing steps, "
                "or they are real",
                "raise max_completions, or use sample(n, evidence)",
            )
        completed = self._completed(question, self.seed)
        self.check_possible(question, completed.log_evidence)
        check_size(f"the {k:,} best of {question.num_rows:,} rows", question.num_rows * k,
                   self.max_answer_bytes, "Ask for fewer")  # fmt: skip
        logs = (
            completed.log_weights
            + completed.log_evidence.masked_fill(completed.log_evidence.isneginf(), 0.0)[:, None]
        )
        logs = torch.nn.functional.pad(logs, (0, max(0, k - logs.shape[1])), value=-torch.inf)
        best, place = logs.topk(k, dim=1)
        rows = torch.arange(question.num_rows)[:, None]
        targets, states = question.targets, []
        none = best.isneginf()[..., None] | ~question.inside[:, None]
        for v in targets:
            chosen = completed.values[v.name][
                rows, place.clamp_max(completed.log_weights.shape[1] - 1)
            ]
            states.append(chosen.masked_fill(none, MISSING))
        codes = torch.cat(states, dim=2)
        same: dict[str, Any] = {"batched": question.observed.batched, "index": question.index}
        if k > 1:
            return KBest(targets, codes, best, **same)
        top, engine = best[:, 0], type(self).__name__
        return Assignment(targets, codes[:, 0], top, upper_bound=top, engine=engine, **same)

    def impossible(self, question: Any, rows: list[int]) -> ImpossibleEvidence:
        """See :class:`Engine`; too few particles may agree with the observations."""
        if self._is_exact(question):
            return ImpossibleEvidence(f"no sequence agrees with rows {rows[:5]}", tuple(rows))
        return ImpossibleEvidence(
            f"none of {self.particles:,} particles agreed with the evidence in rows {rows[:5]}: "
            "it is impossible, or too improbable for this number",
            tuple(rows),
            advice="use more particles",
        )

    def describe(self, question: GappedQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        exact = self._is_exact(question)
        ways = self.max_completions if exact else self.particles
        return Explanation(
            engine=type(self).__name__,
            kind="exact" if exact else "estimate",
            reason="all completions of the missing steps are enumerated"
            if exact
            else f"{self.particles:,} particles draw the missing steps",
            num_variables=question.num_cells,
            num_sliced=int(question.known.sum()),
            memory_bytes=8 * question.num_cells * ways,
        )

    def _is_exact(self, question: GappedQuestion) -> bool:
        """Return whether all completions are enumerated."""
        most = math.log(self.max_completions) + 1e-9 if self.max_completions else -math.inf
        return bool((question.log_completions <= most).all())

    def _completed(self, question: GappedQuestion, seed: int | None) -> CompletedSequences:
        """Return all completions, or weighted draws of them."""
        exact, number = self._is_exact(question), self.particles
        if exact:
            number = (
                round(math.exp(float(question.log_completions.max()))) if question.num_rows else 1
            )
        check_size(f"{number:,} ways to complete {question.num_rows:,} sequences",
                   question.num_cells * number, self.max_answer_bytes,
                   "Give fewer rows at a time")  # fmt: skip
        with evaluated(question.model):
            if exact:
                return every_completion(question)
            weights = ParticleWeights(question.num_rows, self.particles, seed=seed)
            with torch.no_grad():
                completed = drawn_completions(question, weights, seed)
        judged = Convergence(type(self).__name__)
        judged.few_draws(weights.least, self.particles, "take more particles", TRUSTED_DRAWS).warn()
        return completed


def _has_gaps(model: Any, evidence: Any, inputs: Inputs | None) -> bool:
    """Return whether a question is not about continuations of prefixes."""
    return isinstance(model, StepwiseModel) and GappedQuestion(model, evidence, inputs).has_gaps
