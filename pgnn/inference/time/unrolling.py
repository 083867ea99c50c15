"""Any engine on models over time: the network is unrolled, and the answers are arranged by step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import ChainModel, Inputs, SlicedModel, UnrollableModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import codes, likelihood
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.assignment_with_reals import AssignmentWithReals, KBestWithReals
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.explanation import Explanation
from pgnn.inference.gaussian_marginals import ExactMarginal, side_by_side
from pgnn.inference.posterior import Posterior
from pgnn.inference.question import names_of
from pgnn.inference.samples import Samples
from pgnn.inference.time.reals_over_time import certain, joined_steps
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion


@dataclass(frozen=True)
class Unrolling(SequenceEngine):
    """Answers about a model over time by another engine on the unrolled network.

    Args:
        engine: Engine for the unrolled network.

    Cost: One query with ``T`` times the variables of a slice; ``T`` queries for :meth:`filter`.
    """

    engine: Engine

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> SequenceQuestion:
        """Read evidence; see the base class.

        Raises:
            Unsupported: If sequences of an undirected chain have different lengths, because steps
                beyond the end would affect the result.
        """
        takes_reals = self._takes_reals(model, names)
        queried = [] if takes_reals else names
        question = super().ask(model, evidence, inputs, queried, errors)
        if takes_reals:
            settings: dict[str, Any] = {"errors": errors, "engine": question.engine}
            question = SequenceQuestion(
                model, question.observed, inputs, names=names, takes_reals=True, **settings
            )
        lengths = question.observed.lengths
        normalized = not isinstance(model, ChainModel) or model.is_normalized
        if not normalized and len(lengths) and bool((lengths != lengths[0]).any()):
            raise Unsupported(
                f"{type(self.engine).__name__}() needs sequences of equal length for a "
                f"{type(model).__name__}",
                "leave out engine= for several lengths",
            )
        return question

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence; see the base class."""
        model, observed = question.model, question.observed
        cells = [(n, t) for n in question.queried_names for t in range(observed.steps)]
        answer = self.engine.query(
            model.unroll(observed.steps),
            [*cells, *_hidden_reals(question, observed)],
            _cells(model, observed),
            inputs=_inputs(question.covariates),
            errors=question.errors,
        )
        parts = [_over_time(answer.probs, v, observed, answer.batched) for v in question.queried]
        log_z = _by_row(answer.log_evidence, observed)
        posterior = question.posterior(parts, log_z, engine=answer.engine, kind=answer.kind)
        posterior.diagnostics = answer.diagnostics
        if not question.reals:
            return posterior
        steps = {
            v.name: [_real_marginal(answer, question, v.name, t) for t in range(observed.steps)]
            for v in question.reals
        }
        return joined_steps(question, posterior, steps)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return the last step of each beginning of the rows."""
        model, observed, covariates = question.model, question.observed, question.covariates
        whole = self.query(model, [], observed, inputs=question.inputs, errors=question.errors)
        all_rows, rows = torch.arange(observed.num_rows), [_nothing(v) for v in question.queried]
        parts = [[p.expand(observed.num_rows, -1, -1)] for p in rows]
        reals: dict[Hashable, list[ExactMarginal]] = {v.name: [] for v in question.reals}
        for t in range(observed.steps):
            begun = observed.take(all_rows, t + 1)
            cells = [(n, t) for n in question.queried_names]
            hidden = [cell for cell in _hidden_reals(question, begun) if cell[1] == t]
            answer = self.engine.query(
                model.unroll(t + 1),
                [*cells, *hidden],
                _cells(model, begun),
                inputs=_inputs({n: x[:, : t + 1] for n, x in covariates.items()}),
                errors="nan",
            )
            for v, last in zip(question.queried, parts, strict=True):
                probs = answer.probs((v.name, t))
                last.append(probs[:, None] if answer.batched else probs[None, None])
            for name, marginals in reals.items():
                marginals.append(_real_marginal(answer, question, name, t))
        log_z = whole.log_evidence if observed.batched else whole.log_evidence[None]
        posterior = question.posterior(
            [torch.cat(x, dim=1) for x in parts], log_z, engine=whole.engine, kind=whole.kind
        )
        return joined_steps(question, posterior, reals) if reals else posterior

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the best paths of rows grouped by length, so that no padding is maximised."""
        observed, variables = question.observed, question.model.variables
        best = _Best.nothing(question, k)
        for length in sorted(set(observed.lengths.tolist()) - {0}):
            rows = (observed.lengths == length).nonzero()[:, 0]
            part = observed.take(rows, length)
            cells = [(n, t) for n in question.queried_names for t in range(length)]
            everything = question.names is None and len(question.queried) == len(variables)
            answer = self.engine.most_probable(
                question.model.unroll(length),
                _cells(question.model, part),
                None if everything else [*cells, *_hidden_reals(question, part)],
                inputs=_inputs({n: x[rows, :length] for n, x in question.covariates.items()}),
                k=k,
                errors=question.errors,
            )
            best.put(rows, length, answer)
        return best.answer(type(self.engine).__name__)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables; see the base class."""
        model, observed = question.model, question.observed
        network, cells, covariates = (
            model.unroll(observed.steps),
            _cells(model, observed),
            _inputs(question.covariates),
        )
        samples = self.engine.sample(network, n, cells, inputs=covariates, seed=seed)
        return _drawn(question, samples)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return log probabilities of the evidence; see the base class."""
        observed, network = question.observed, question.model.unroll(question.observed.steps)
        cells, covariates = _cells(question.model, observed), _inputs(question.covariates)
        log_z = self.engine.log_prob(network, cells, inputs=covariates)
        return _by_row(log_z, observed) if observed.batched else log_z.reshape(-1)[:1]

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`: as the engine would answer about the unrolled network."""
        observed, model = question.observed, question.model
        queried = [(n, t) for n in question.queried_names for t in range(observed.steps)]
        network, cells = model.unroll(observed.steps), _cells(model, observed)
        return self.engine.explain(network, queried, cells, _inputs(question.covariates))

    def _takes_reals(self, model: Any, names: Names | None) -> bool:
        """Whether real variables are answered about: if named, or if all have exact answers."""
        if not isinstance(self.engine, JunctionTree) or not isinstance(model, SlicedModel):
            return False
        if names is not None:
            queried = names_of(names, model.variables, what="variable of the model")
            return any(not model.variables[n].is_discrete for n in queried)
        pieces = [*model.conditionals.values(), *(model.first(n) for n in model.conditionals)]
        return all(c.child.is_discrete or c.is_linear_gaussian for c in pieces)


def _hidden_reals(
    question: SequenceQuestion, observed: SequenceEvidence
) -> list[tuple[Hashable, int]]:
    """Return cells of real targets that some row has not observed."""
    return [
        (v.name, t)
        for v in question.reals
        for t in range(observed.steps)
        if _known_cell(question, v.name, t) is None
    ]


def _known_cell(question: SequenceQuestion, name: Hashable, t: int) -> Tensor | None:
    """``(B, *shape)`` values of a real variable at a step, if all rows have observed them."""
    values = question.observed.reals.get(name)
    known = values is not None and not bool(values[:, t].isnan().any())
    return values[:, t] if known and values is not None else None


def _real_marginal(
    answer: Posterior, question: SequenceQuestion, name: Hashable, t: int
) -> ExactMarginal:
    """Return the marginal of a cell, ``()`` or ``(B,)``."""
    known = _known_cell(question, name, t)
    if known is None:
        marginal: Any = answer[name, t]
        return (
            marginal
            if answer.batched or not question.observed.batched
            else side_by_side([marginal], 0)
        )
    values = known if question.observed.batched else known[0]
    return certain(values, question.model.conditionals[name].child.shape)


@dataclass(eq=False)
class _Best:
    """Best states of rows of several lengths; ``bound`` is None where a row has none."""

    question: SequenceQuestion
    states: Tensor
    scores: Tensor
    bound: Tensor | None
    diagnostics: Mapping[str, Any]
    reals: dict[Hashable, Tensor]

    @classmethod
    def nothing(cls, question: SequenceQuestion, k: int) -> _Best:
        """Return rows without steps, which have one best path."""
        rows = question.observed.num_rows
        width = sum(v.num_elements for v in question.over_time(question.queried))
        scores = torch.full((rows, k), -torch.inf, dtype=torch.float64)
        scores[:, 0] = 0.0
        states = torch.full((rows, k, width), MISSING)
        reals = {}
        for v in question.over_time(question.reals):
            reals[v.name] = torch.full((rows, k, *v.shape), torch.nan, dtype=torch.float64)
        return cls(question, states, scores, scores[:, 0].clone(), {}, reals)

    def put(self, rows: Tensor, length: int, answer: Assignment | KBest) -> None:
        """Store the answer for the rows of one length."""
        best = answer.log_prob.numel() // len(rows)
        codes = answer.codes.reshape(len(rows), best, len(answer.variables))
        self._put_reals(rows, length, [answer] if isinstance(answer, Assignment) else [*answer])
        place = {v.name: at for at, v in enumerate(answer.variables)}
        for at, name in enumerate(self.question.queried_names):
            columns = torch.arange(length) + at * self.question.observed.steps
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

    def _put_reals(self, rows: Tensor, length: int, ranked: Sequence[Assignment]) -> None:
        """Put values of real variables in their places, and those that were observed."""
        for name, values in self.reals.items():
            for t in range(length):
                if (known := _known_cell(self.question, name, t)) is not None:
                    values[rows, :, t] = known[rows].unsqueeze(1).to(values)
                    continue
                for rank, best in enumerate(ranked):
                    value = best[name, t].detach().to(values)
                    values[rows, rank, t] = value if best.batched else value[None]

    def answer(self, engine: str) -> Assignment | KBest:
        """Put all rows together."""
        variables, observed = self.question.over_time(self.question.queried), self.question.observed
        settings: dict[str, Any] = {"batched": observed.batched}
        settings["index"] = observed.index if observed.batched else None
        if self.states.shape[1] > 1:
            if self.reals:
                return KBestWithReals(self.reals, variables, self.states, self.scores, **settings)
            return KBest(variables, self.states, self.scores, **settings)
        settings |= {"upper_bound": self.bound, "engine": engine}
        settings["diagnostics"] = self.diagnostics if observed.num_rows == 1 else None
        states, scores = self.states[:, 0], self.scores[:, 0]
        if self.reals:
            reals = {n: x[:, 0] for n, x in self.reals.items()}
            return AssignmentWithReals(reals, variables, states, scores, **settings)
        return Assignment(variables, states, scores, **settings)


def _drawn(question: SequenceQuestion, samples: Samples) -> Samples:
    """Convert draws of the cells to draws over time."""
    observed = question.observed
    variables = question.over_time([*question.model.variables.values()])
    axis = 2 if samples.batched else 1
    outside = ~observed.inside if samples.batched else ~observed.inside[0]
    codes, reals = [], {}
    for v in variables:
        cells = torch.stack([samples[v.name, t] for t in range(observed.steps)], dim=axis)
        cells = cells if observed.batched or not samples.batched else cells[:, 0]
        if v.is_discrete:
            codes.append(cells.masked_fill(outside, MISSING))
        else:
            reals[v.name] = cells
    flat = torch.cat(codes, dim=-1) if codes else torch.zeros(samples.num_samples, 0)
    weights = samples.log_weights
    if weights is not None and samples.batched and not observed.batched:
        weights = weights[:, 0]
    index = observed.index if observed.batched else None
    return Samples(
        variables, flat, reals, batched=observed.batched, index=index, log_weights=weights
    )


def _cells(model: UnrollableModel, observed: SequenceEvidence) -> dict[Hashable, Any]:
    """Evidence on the variables ``(name, t)`` of the unrolled network, ``(B, ...)`` if in rows."""
    cells: dict[Hashable, Any] = {}
    for group, convert in (
        (observed.codes, codes),
        (observed.reals, _plain),
        (observed.soft, likelihood),
    ):
        for name, values in group.items():
            for t in range(observed.steps):
                value = values[:, t] if observed.batched else values[0, t]
                if observed.batched or group is observed.soft or bool(_known(value)):
                    cells[name, t] = convert(value)
    if observed.batched and not cells and observed.steps:
        name = next(n for n, v in model.variables.items() if v.is_discrete)
        cells[name, 0] = torch.full((observed.num_rows,), MISSING)  # has the number of rows
    return cells


def _plain(value: Tensor) -> Tensor:
    return value


def _by_row(log_z: Tensor, observed: SequenceEvidence) -> Tensor:
    """``(B,)``; a network without steps gives one number for all rows."""
    if log_z.numel() != 1:
        return log_z
    return (log_z if observed.steps else log_z.double()).reshape(-1).expand(observed.num_rows)


def _known(value: Tensor) -> Tensor:
    return ~value.isnan().all() if value.is_floating_point() else value >= 0


def _over_time(probs: Any, v: Variable, observed: SequenceEvidence, batched: bool) -> Tensor:
    """``(B, T, S)`` of a variable's cells."""
    if not observed.steps:
        return _nothing(v).expand(observed.num_rows, -1, -1)
    cells = torch.stack([probs((v.name, t)) for t in range(observed.steps)], dim=-2)
    return cells if batched else cells[None]


def _nothing(v: Variable) -> Tensor:
    """``(1, 0, S)``."""
    return torch.zeros(1, 0, v.num_states, dtype=torch.float64)


def _inputs(covariates: Mapping[Hashable, Tensor]) -> Inputs | None:
    """Convert covariates ``(B, T, ...)`` to those of the cells."""
    return {(n, t): x[:, t] for n, x in covariates.items() for t in range(x.shape[1])} or None
