"""Engines that answer about models over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine, Inputs, Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.sequence_answers import answer, check_draws
from pgnn.inference.time.sequence_question import SequenceQuestion


class SequenceEngine(Engine):
    """An engine that knows about time: besides the usual verbs it filters and predicts.

    What is asked is read and checked here; how to answer is what engines differ in.
    """

    def query(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """See :meth:`Model.query`; beyond a row's end probabilities are NaN."""
        return self._smooth(SequenceQuestion.read(self, model, evidence, targets, inputs, errors))

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
        return self._filter(SequenceQuestion.read(self, model, evidence, targets, inputs, errors))

    def most_probable(
        self,
        model: Any,
        evidence: Any,
        targets: Names | None = None,
        *,
        inputs: Inputs | None = None,
        k: int = 1,
        errors: str = "raise",
    ) -> Assignment | KBest:
        """See :meth:`Model.most_probable`; -1 beyond a row's end."""
        if k < 1:
            raise EvidenceError(f"k must be at least 1, got {k}")
        asked = SequenceQuestion.read(self, model, evidence, targets, inputs, errors)
        return self._maximize(asked, k)

    def sample(
        self,
        model: Any,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """See :meth:`Model.sample`; the length is ``evidence["T"]`` where nothing was seen."""
        asked = SequenceQuestion.read(self, model, evidence, None, inputs)
        check_draws(n, asked.seen)
        return self._draw(asked, n, seed)

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`: one number for each sequence."""
        asked = SequenceQuestion.read(self, model, data, None, inputs)
        return asked.alone(self._log_partition(asked))

    def compile(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Refused: the length is not known."""
        raise Unsupported("the length is not known: compile model.unroll(steps) instead")

    @abstractmethod
    def _smooth(self, asked: SequenceQuestion) -> Posterior:
        """Marginals given all evidence."""

    @abstractmethod
    def _filter(self, asked: SequenceQuestion) -> Posterior:
        """Marginals of each step given the evidence so far."""

    @abstractmethod
    def _maximize(self, asked: SequenceQuestion, k: int) -> Assignment | KBest:
        """The k most probable states."""

    @abstractmethod
    def _draw(self, asked: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Draws of all variables."""

    @abstractmethod
    def _log_partition(self, asked: SequenceQuestion) -> Tensor:
        """``(B,)`` log probabilities of the evidence."""

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
        if steps < 1:
            raise EvidenceError(f"steps must be at least 1, got {steps}")
        seen = Sequences.of(model, evidence)
        found = self.query(model, targets, extended(seen, steps), inputs=inputs)
        ahead = seen.lengths[:, None] + torch.arange(steps)
        asked = [model.variables[v.name] for v in found.variables]
        rows = [found.probs(v.name) if seen.batched else found.probs(v.name)[None] for v in asked]
        log_z = found.log_evidence if seen.batched else found.log_evidence[None]
        lengths = torch.full_like(seen.lengths, steps)
        after = Sequences(lengths, steps, batched=seen.batched, index=seen.index)
        parts = [_at(p, ahead) for p in rows]
        return answer(after, asked, parts, log_z, engine=found.engine, kind=found.kind)


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
