"""Exact draws and beam search for sequences generated step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs, StepwiseModel
from pgnn.errors import Advice, EvidenceError, Unsupported
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.randomness import generator
from pgnn.factors.time_steps import AXIS
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.beams import Beams, rows_of
from pgnn.inference.time.beginning_question import BeginningQuestion
from pgnn.inference.time.sequence_reader import SequenceReader
from pgnn.inference.time.sequence_samples import of_length, sequence_samples
from pgnn.limits import check_settings, check_size


@dataclass(frozen=True)
class BeamSearch(SequenceReader):
    """Draws sequences exactly and searches for the best among few kept prefixes.

    Args:
        width: Largest number of prefixes of one length that are extended. If all dropped prefixes
            are less probable than the best sequence found, this is optimal and the assignment's
            ``upper_bound`` equals its ``log_prob``; otherwise the bound limits the possible loss. 1
            is greedy search.
        max_length: Largest number of steps of a sequence that the model ends itself.

    Raises:
        ModelError: If a setting is less than one.

    Cost: ``width`` steps of the model for each step of a sequence.

    References:
        Lowerre (1976), The HARPY speech recognition system; Graves (2012), Sequence transduction
        with recurrent neural networks, section 2.5.
    """

    answers_about = StepwiseModel
    subject = "models of sequences generated step by step, such as AutoregressiveModel"

    width: int = 8
    max_length: int = 1000

    def __post_init__(self) -> None:
        check_settings(self, width=1, max_length=1)

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> BeginningQuestion:
        """Read evidence, see the base class."""
        names = None if isinstance(names, list) and not names else names
        return BeginningQuestion(model, evidence, inputs, names, errors)

    def answer_log_prob(self, question: BeginningQuestion) -> Tensor:
        """Return ``(B,)`` log probabilities of whole sequences."""
        with evaluated(question.model):
            log_probs: Tensor = question.model.log_likelihood(question.observed)()
        return log_probs

    def answer_query(self, question: BeginningQuestion) -> Posterior:
        """Raise an error, since unobserved values would have to be summed out."""
        raise Unsupported(
            "BeamSearch() has no marginals", "leave out engine=, or pass SequenceCompletion()"
        )

    def answer_sample(self, question: BeginningQuestion, n: int, seed: int | None) -> Samples:
        """Return draws that continue the observations."""
        model, rng, rows = question.model, generator(seed), question.num_rows
        limit = self._limit(question)
        kept = torch.arange(rows).repeat(n)
        known, goals = question.known[kept], None
        if question.goals is not None:
            goals = question.goals[kept]
        with evaluated(model), torch.no_grad():
            state = rows_of(model.start(question.observed), kept)
            over = torch.zeros(len(kept), dtype=torch.bool)
            drawn: list[dict[Any, Tensor]] = []
            lengths = torch.zeros_like(kept)
            for t in range(limit + 1):
                if goals is None:
                    over |= self._ended(model, state, t, known, rng)
                else:
                    over |= t >= goals
                if t == limit or bool(over.all()):
                    break
                values = self._values(question, state, t, kept, known, rng)
                drawn.append(values)
                lengths += ~over
                state = model.advance(state, values)
        steps = int(lengths.max()) if len(lengths) else 0
        values = {
            name: torch.stack([x[name].cpu() for x in drawn[:steps]], dim=1).reshape(
                n, rows, steps, *v.shape[1:]
            )
            if steps
            else torch.zeros(n, rows, 0, *v.shape[1:], dtype=torch.int64)
            for name, v in model.variables.items()
        }
        return sequence_samples(question, values, lengths.reshape(n, rows))

    def _ended(self, model: Any, state: Any, t: int, known: Tensor, rng: torch.Generator) -> Tensor:
        """Draw which rows end, among those whose observed steps were all used."""
        ended: Tensor = model.end_log_probs(state)[1].exp().cpu()
        return (torch.rand(len(ended), generator=rng) < ended) & (t >= known)

    def _values(
        self, question: BeginningQuestion, state: Any, t: int, kept: Tensor, known: Tensor,
        rng: torch.Generator,
    ) -> dict[Any, Tensor]:  # fmt: skip
        """Return the observed or drawn values of a step."""
        drawn: dict[Any, Tensor] = question.model.draw(state, rng)
        present = t < known
        if not bool(present.any()):
            return drawn
        for name, x in drawn.items():
            held = question.observed.codes.get(name, question.observed.reals.get(name))
            prefix = held[kept, t].to(x)
            drawn[name] = torch.where(
                present.to(x.device).reshape(-1, *[1] * (x.dim() - 1)), prefix, x
            )
        return drawn

    def answer_most_probable(self, question: BeginningQuestion, k: int) -> Assignment | KBest:
        """Return the best sequences that continue the observations."""
        model, limit = question.model, self._limit(question)
        check_size(f"the {k:,} best of {question.num_rows:,} rows", question.num_rows * k,
                   self.max_answer_bytes, "Ask for fewer")  # fmt: skip
        with evaluated(model), torch.no_grad():
            beams = Beams(question, max(self.width, k), k)
            while beams.step < limit and beams.extend():
                pass
            beams.stop()
        states, log_prob, bound = beams.found()
        self.check_possible(question, log_prob[:, 0])
        variable = of_length(next(iter(model.variables.values())), states.shape[2])
        batched = question.observed.batched
        if k > 1:
            return KBest([variable], states, log_prob, batched=batched, index=question.index)
        return Assignment(
            [variable], states[:, 0], log_prob[:, 0], batched=batched, index=question.index,
            upper_bound=bound, engine=type(self).__name__,
        )  # fmt: skip

    def _limit(self, question: BeginningQuestion) -> int:
        """Return the largest number of steps."""
        if question.goals is None:
            return max(self.max_length, int(question.observed.steps))
        most = int(question.goals.max()) if question.num_rows else 0
        if not most and not question.observed.inputs:
            raise EvidenceError(
                "how many steps?",
                Advice(
                    f"give the length in the evidence, as in sample(n, {{{AXIS!r}: 100}})", "steps"
                ),
            )
        return most

    def describe(self, question: BeginningQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        return Explanation(
            engine=type(self).__name__,
            kind="exact" if question.whole else "lower bound",
            reason="each step depends on all steps before it",
            num_variables=question.num_cells,
            num_sliced=int(question.known.sum()),
            memory_bytes=8 * question.num_cells * self.width,
        )
