"""Engines that answer about models over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.limits import check_size, whole_number
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import Names, Question
from pgnn.inference.samples import Samples
from pgnn.inference.time.sequence_question import SequenceQuestion


class SequenceEngine(Engine):
    """An engine that knows about time: besides the usual verbs it filters and predicts.

    It reads evidence as sequences; how to answer is what engines differ in, by the hooks
    :meth:`smooth_steps`, :meth:`filter_steps`, :meth:`best_paths`, :meth:`draw_paths` and
    :meth:`log_evidence`. What an engine leaves out refuses.
    """

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
        r"""Return :math:`p(x_t \mid e_1, \dots, e_t)` of every step.

        Diagnostics may have ``log_increments``, :math:`\log p(e_t \mid e_{<t})`.
        """
        question = self.read(model, evidence, inputs, names=targets, errors=errors)
        with torch.set_grad_enabled(question.wants_gradients):
            return self.filter_steps(question)

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

        Rows go on from their own ends: they are smoothed with so many unseen steps more.
        """
        steps = whole_number("steps", steps, least=1)
        seen = Sequences.of(model, evidence)
        states = sum(v.num_states for v in model.variables.values() if v.is_discrete)
        cells = seen.num_rows * (seen.steps + steps) * states
        check_size(f"{steps:,} steps", cells, self.max_answer_bytes, "Predict fewer at a time")
        whole = self.query(model, targets, extended(seen, steps), inputs=inputs)
        asked = [model.variables[v.name] for v in whole.variables]
        ahead = seen.lengths[:, None] + torch.arange(steps)
        alone = not seen.batched
        rows = [whole.probs(v.name)[None] if alone else whole.probs(v.name) for v in asked]
        log_z = whole.log_evidence[None] if alone else whole.log_evidence
        lengths = torch.full_like(seen.lengths, steps)
        after = Sequences(lengths, steps, batched=seen.batched, index=seen.index)
        question = SequenceQuestion(model, after, names=[v.name for v in asked])
        parts = [_at(p, ahead) for p in rows]
        return question.posterior(parts, log_z, engine=whole.engine, kind=whole.kind)

    # --- hooks --------------------------------------------------------------------------------

    @abstractmethod
    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence."""

    @abstractmethod
    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the evidence so far."""

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the k most probable states."""
        raise Unsupported(
            f"{type(self).__name__}() has marginals only; leave engine= out to decode exactly"
        )

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables."""
        raise Unsupported(
            f"{type(self).__name__}() has marginals only; leave engine= out to draw exactly"
        )

    @abstractmethod
    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return ``(B,)`` log probabilities of the evidence."""

    # --- the hooks of every engine ------------------------------------------------------------

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> SequenceQuestion:
        """Read evidence as sequences, in any form that it has over time."""
        seen = Sequences.of(model, evidence)
        own = type(self).__name__
        return SequenceQuestion(model, seen, inputs, names=names, errors=errors, engine=own)

    def answer_query(self, question: Question) -> Posterior:
        """Smooth."""
        return self.smooth_steps(over_time(question))

    def answer_most_probable(self, question: Question, k: int) -> Assignment | KBest:
        """Decode."""
        own = over_time(question)
        cells = k * own.seen.num_rows * own.seen.steps * max(len(own.asked), 1)
        what = f"{k:,} best paths of {own.seen.num_rows:,} rows"
        check_size(what, cells, self.max_answer_bytes, "Ask for fewer")
        return self.best_paths(own, k)

    def answer_sample(self, question: Question, n: int, seed: int | None) -> Samples:
        """Draw; the length is ``evidence["T"]`` where nothing was seen."""
        own = over_time(question)
        own.check_length()
        cells = n * own.seen.num_rows * own.seen.steps * len(own.model.variables)
        what = f"{n:,} draws of {own.seen.num_rows:,} rows"
        check_size(what, cells, self.max_answer_bytes, "Draw fewer at a time")
        return self.draw_paths(own, n, seed)

    def answer_log_prob(self, question: Question) -> Tensor:
        """Return one number for each sequence."""
        return self.log_evidence(over_time(question))

    def prepare(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Refused: the length is not known."""
        raise Unsupported(
            "the length is not known: compile model.unroll(steps) instead, or use model.chain(...) "
            "of a hidden Markov model, tensors in and tensors out"
        )


def over_time(question: Question) -> SequenceQuestion:
    """Return a question that an engine over time has read itself."""
    assert isinstance(question, SequenceQuestion)
    return question


def extended(seen: Sequences, steps: int) -> Sequences:
    """Return the same rows with so many steps more, at which nothing was seen."""

    def padded(values: Mapping[Hashable, Tensor], fill: float) -> dict[Hashable, Tensor]:
        longer = {}
        for name, x in values.items():
            shape = (x.shape[0], steps, *x.shape[2:])
            longer[name] = torch.cat([x, x.new_full(shape, fill)], dim=1)
        return longer

    return replace(
        seen,
        lengths=seen.lengths + steps,
        steps=seen.steps + steps,
        codes=padded(seen.codes, -1),
        reals=padded(seen.reals, torch.nan),
        soft=padded(seen.soft, 1.0),
    )


def _at(values: Tensor, steps: Tensor) -> Tensor:
    """``(B, h, S)`` of ``(B, T, S)`` at ``(B, h)`` steps."""
    index = steps.to(values.device).unsqueeze(-1)
    return values.gather(1, index.expand(*steps.shape, values.shape[2]))
