"""Any engine on models over time: the unrolled network is asked, and its answers put in order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import ChainModel, Inputs, UnrollableModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import codes, likelihood
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion


@dataclass(frozen=True)
class Unrolling(SequenceEngine):
    """Answers about a model over time by another engine on the unrolled network.

    Args:
        engine: Which.

    Cost: That of the engine with ``T`` times the variables of a slice; :meth:`filter` asks ``T``
    times.
    """

    engine: Engine

    def read(
        self,
        model: Any,
        evidence: Any,
        inputs: Inputs | None = None,
        *,
        names: Names | None = None,
        errors: str = "raise",
    ) -> SequenceQuestion:
        """Read evidence; see the base class.

        Raises:
            Unsupported: If sequences of an undirected chain have several lengths: what lies beyond
                an end would count.
        """
        question = super().read(model, evidence, inputs, names=names, errors=errors)
        lengths = question.seen.lengths
        normalized = not isinstance(model, ChainModel) or model.is_normalized
        if not normalized and len(lengths) and bool((lengths != lengths[0]).any()):
            raise Unsupported(
                f"{type(self.engine).__name__}() takes sequences of one length at a time of a "
                f"{type(model).__name__}; leave engine= out for several lengths"
            )
        return question

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Marginals given all evidence; see the base class."""
        model, seen = question.model, question.seen
        cells = [(n, t) for n in question.asked_names for t in range(seen.steps)]
        answer = self.engine.query(
            model.unroll(seen.steps),
            cells,
            _cells(model, seen),
            inputs=_inputs(question.covariates),
            errors=question.errors,
        )
        parts = [_over_time(answer.probs, v, seen, answer.batched) for v in question.asked]
        log_z = _by_row(answer.log_evidence, seen)
        posterior = question.posterior(parts, log_z, engine=answer.engine, kind=answer.kind)
        posterior.diagnostics = answer.diagnostics
        return posterior

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """The last step of each beginning of the rows."""
        model, seen, covariates = question.model, question.seen, question.covariates
        whole = self.query(model, [], seen, inputs=question.inputs, errors=question.errors)
        all_rows, beginnings = torch.arange(seen.num_rows), []
        for t in range(seen.steps):
            covariates_so_far = {n: x[:, : t + 1] for n, x in covariates.items()}
            begun = seen.take(all_rows, t + 1)
            beginnings.append(
                self.query(
                    model, question.asked_names, begun, inputs=covariates_so_far, errors="nan"
                )
            )
        rows = []
        for v in question.asked:
            last = [f.probs(v.name)[..., -1:, :] for f in beginnings]
            parts = last if seen.batched else [p[None] for p in last]
            rows.append(torch.cat([_nothing(v).expand(seen.num_rows, -1, -1), *parts], dim=1))
        log_z = whole.log_evidence if seen.batched else whole.log_evidence[None]
        return question.posterior(rows, log_z, engine=whole.engine, kind=whole.kind)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Rows of one length at a time: what lies beyond an end would be maximised, too."""
        seen = question.seen
        best = _Best.nothing(question, k)
        for length in sorted(set(seen.lengths.tolist()) - {0}):
            rows = (seen.lengths == length).nonzero()[:, 0]
            part = seen.take(rows, length)
            cells = [(n, t) for n in question.asked_names for t in range(length)]
            answer = self.engine.most_probable(
                question.model.unroll(length),
                _cells(question.model, part),
                None if question.names is None else cells,
                inputs=_inputs({n: x[rows, :length] for n, x in question.covariates.items()}),
                k=k,
                errors=question.errors,
            )
            best.put(rows, length, answer)
        return best.answer(type(self.engine).__name__)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Draws of all variables; see the base class."""
        model, seen = question.model, question.seen
        network, cells, covariates = (
            model.unroll(seen.steps),
            _cells(model, seen),
            _inputs(question.covariates),
        )
        samples = self.engine.sample(network, n, cells, inputs=covariates, seed=seed)
        return _drawn(question, samples)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Log probabilities of the evidence; see the base class."""
        seen, network = question.seen, question.model.unroll(question.seen.steps)
        cells, covariates = _cells(question.model, seen), _inputs(question.covariates)
        log_z = self.engine.log_prob(network, cells, inputs=covariates)
        return _by_row(log_z, seen) if seen.batched else log_z.reshape(-1)[:1]

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`: as the engine would answer about the unrolled network."""
        seen, model = question.seen, question.model
        cells = [(n, t) for n in question.asked_names for t in range(seen.steps)]
        return self.engine.explain(model.unroll(seen.steps), cells, _cells(model, seen))


@dataclass(eq=False)
class _Best:
    """Best states of rows of several lengths; ``bound`` is None where a row has none."""

    question: SequenceQuestion
    states: Tensor
    scores: Tensor
    bound: Tensor | None
    diagnostics: Mapping[str, Any]

    @classmethod
    def nothing(cls, question: SequenceQuestion, k: int) -> _Best:
        """Rows without steps, which have one best path."""
        rows = question.seen.num_rows
        width = sum(v.num_elements for v in question.over_time(question.asked))
        scores = torch.full((rows, k), -torch.inf, dtype=torch.float64)
        scores[:, 0] = 0.0
        states = torch.full((rows, k, width), MISSING)
        return cls(question, states, scores, scores[:, 0].clone(), {})

    def put(self, rows: Tensor, length: int, answer: Assignment | KBest) -> None:
        """Put the answer about the rows of one length in its place."""
        best = answer.log_prob.numel() // len(rows)
        codes = answer.codes.reshape(len(rows), best, len(answer.variables))
        place = {v.name: at for at, v in enumerate(answer.variables)}
        for at, name in enumerate(self.question.asked_names):
            columns = torch.arange(length) + at * self.question.seen.steps
            states = codes[:, :, [place[name, t] for t in range(length)]]
            self.states[rows[:, None, None], torch.arange(best)[:, None], columns] = states
        scores = answer.log_prob.detach().reshape(len(rows), best)
        self.scores[rows, :best] = scores.to(self.scores)
        bound = answer.upper_bound if isinstance(answer, Assignment) else None
        if bound is None or self.bound is None:
            self.bound = None
        else:
            self.bound[rows] = bound.detach().reshape(-1).to(self.bound)
        self.diagnostics = answer.diagnostics if isinstance(answer, Assignment) else {}

    def answer(self, engine: str) -> Assignment | KBest:
        """Put all rows together."""
        variables, seen = self.question.over_time(self.question.asked), self.question.seen
        index = seen.index if seen.batched else None
        if self.states.shape[1] > 1:
            return KBest(variables, self.states, self.scores, batched=seen.batched, index=index)
        return Assignment(
            variables,
            self.states[:, 0],
            self.scores[:, 0],
            batched=seen.batched,
            index=index,
            upper_bound=self.bound,
            engine=engine,
            diagnostics=self.diagnostics if seen.num_rows == 1 else None,
        )


def _drawn(question: SequenceQuestion, samples: Samples) -> Samples:
    """Draws of the cells as draws over time."""
    seen = question.seen
    variables = question.over_time([*question.model.variables.values()])
    axis = 2 if samples.batched else 1
    outside = ~seen.inside if samples.batched else ~seen.inside[0]
    codes, reals = [], {}
    for v in variables:
        cells = torch.stack([samples[v.name, t] for t in range(seen.steps)], dim=axis)
        cells = cells if seen.batched or not samples.batched else cells[:, 0]
        if v.is_discrete:
            codes.append(cells.masked_fill(outside, MISSING))
        else:
            reals[v.name] = cells
    flat = torch.cat(codes, dim=-1) if codes else torch.zeros(samples.num_samples, 0)
    weights = samples.log_weights
    if weights is not None and samples.batched and not seen.batched:
        weights = weights[:, 0]
    index = seen.index if seen.batched else None
    return Samples(variables, flat, reals, batched=seen.batched, index=index, log_weights=weights)


def _cells(model: UnrollableModel, seen: SequenceEvidence) -> dict[Hashable, Any]:
    """Evidence on the variables ``(name, t)`` of the unrolled network, ``(B, ...)`` if in rows."""
    cells: dict[Hashable, Any] = {}
    for group, says in ((seen.codes, codes), (seen.reals, _plain), (seen.soft, likelihood)):
        for name, values in group.items():
            for t in range(seen.steps):
                value = values[:, t] if seen.batched else values[0, t]
                if seen.batched or group is seen.soft or bool(_known(value)):
                    cells[name, t] = says(value)
    if seen.batched and not cells and seen.steps:
        name = next(n for n, v in model.variables.items() if v.is_discrete)
        cells[name, 0] = torch.full((seen.num_rows,), MISSING)  # has the number of rows
    return cells


def _plain(value: Tensor) -> Tensor:
    return value


def _by_row(log_z: Tensor, seen: SequenceEvidence) -> Tensor:
    """``(B,)``; a network without steps gives one number for all rows."""
    if log_z.numel() != 1:
        return log_z
    return (log_z if seen.steps else log_z.double()).reshape(-1).expand(seen.num_rows)


def _known(value: Tensor) -> Tensor:
    return ~value.isnan().any() if value.is_floating_point() else value >= 0


def _over_time(probs: Any, v: Variable, seen: SequenceEvidence, batched: bool) -> Tensor:
    """``(B, T, S)`` of a variable's cells."""
    if not seen.steps:
        return _nothing(v).expand(seen.num_rows, -1, -1)
    cells = torch.stack([probs((v.name, t)) for t in range(seen.steps)], dim=-2)
    return cells if batched else cells[None]


def _nothing(v: Variable) -> Tensor:
    """``(1, 0, S)``."""
    return torch.zeros(1, 0, v.num_states, dtype=torch.float64)


def _inputs(covariates: Mapping[Hashable, Tensor]) -> Inputs | None:
    """Covariates ``(B, T, ...)`` as those of the cells."""
    return {(n, t): x[:, t] for n, x in covariates.items() for t in range(x.shape[1])} or None
