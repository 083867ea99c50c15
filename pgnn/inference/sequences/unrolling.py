"""Any engine on models over time: the unrolled network is asked, and its answers put in order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Engine, FactorModel, Inputs, Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.sequences.sequence_answers import answer, asked_for, concrete
from pgnn.inference.sequences.sequence_engine import SequenceEngine
from pgnn.inference.sequences.sequences import Sequences


class Unrollable(Protocol):
    """What the engine sees of a model over time."""

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """Variables by name, the axis of time first."""

    def covariates(self, inputs: Inputs | None, seen: Sequences) -> dict[Hashable, Tensor]:
        """Covariates, ``(B, T, ...)`` each."""

    def unroll(self, steps: int) -> FactorModel:
        """The network of so many steps, with variables ``(name, t)``."""


@dataclass(frozen=True)
class Unrolling(SequenceEngine):
    """Answers about a model over time by another engine on the unrolled network.

    Args:
        engine: Which.

    Cost: That of the engine with ``T`` times the variables of a slice; :meth:`filter` asks ``T``
    times.
    """

    engine: Engine

    def query(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """See :meth:`Model.query`."""
        seen, asked = self._read(model, targets, evidence)
        cells = [(v.name, t) for v in asked for t in range(seen.steps)]
        found = self.engine.query(
            model.unroll(seen.steps),
            cells,
            _cells(model, seen),
            inputs=_inputs(model, inputs, seen),
            errors=errors,
        )
        parts = [_over_time(found.probs, v, seen, found.batched) for v in asked]
        log_z = _by_row(found.log_evidence, seen)
        made = answer(seen, asked, parts, log_z, engine=found.engine, kind=found.kind)
        made.diagnostics = found.diagnostics
        return made

    def filter(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """Return :math:`p(x_t | e_1, ..., e_t)`: the last step of each beginning of the rows."""
        seen, asked = self._read(model, targets, evidence)
        given = model.covariates(inputs, seen)
        whole = self.query(model, [], seen, inputs=inputs, errors=errors)
        names, every = [v.name for v in asked], torch.arange(seen.num_rows)
        found = []
        for t in range(seen.steps):
            own = {n: x[:, : t + 1] for n, x in given.items()}
            begun = seen.rows(every, t + 1)
            found.append(self.query(model, names, begun, inputs=own, errors="nan"))
        rows = []
        for v in asked:
            last = [f.probs(v.name)[..., -1:, :] for f in found]
            parts = last if seen.batched else [p[None] for p in last]
            rows.append(torch.cat([_nothing(v).expand(seen.num_rows, -1, -1), *parts], dim=1))
        log_z = whole.log_evidence if seen.batched else whole.log_evidence[None]
        return answer(seen, asked, rows, log_z, engine=whole.engine, kind=whole.kind)

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
        """See :meth:`Model.most_probable`."""
        seen, asked = self._read(model, targets, evidence)
        given = model.covariates(inputs, seen)
        variables = concrete(asked, seen.steps)
        width = sum(v.num_elements for v in variables)
        states = torch.full((seen.num_rows, k, width), MISSING)
        scores = torch.full((seen.num_rows, k), -torch.inf, dtype=torch.float64)
        scores[:, 0] = 0.0
        bound: Tensor | None = scores[:, 0].clone()
        told: Mapping[str, Any] = {}
        for length in sorted(set(seen.lengths.tolist()) - {0}):
            rows = (seen.lengths == length).nonzero()[:, 0]
            part = seen.rows(rows, length)
            cells = [(v.name, t) for v in asked for t in range(length)]
            found = self.engine.most_probable(
                model.unroll(length),
                _cells(model, part),
                None if targets is None else cells,
                inputs=_inputs(model, {n: x[rows, :length] for n, x in given.items()}, part),
                k=k,
                errors=errors,
            )
            codes = found.codes.reshape(len(rows), -1, len(found.variables))
            best = codes.shape[1]
            place = {v.name: at for at, v in enumerate(found.variables)}
            for at, v in enumerate(asked):
                columns = torch.arange(length) + at * seen.steps
                own = codes[:, :, [place[v.name, t] for t in range(length)]]
                states[rows[:, None, None], torch.arange(best)[:, None], columns] = own
            scores[rows, :best] = found.log_prob.detach().reshape(len(rows), best).to(scores)
            if (
                isinstance(found, Assignment)
                and found.upper_bound is not None
                and bound is not None
            ):
                bound[rows] = found.upper_bound.detach().reshape(-1).to(bound)
            else:
                bound = None
            told = found.diagnostics if isinstance(found, Assignment) else {}
        index = seen.index if seen.batched else None
        if k > 1:
            return KBest(variables, states, scores, batched=seen.batched, index=index)
        return Assignment(
            variables,
            states[:, 0],
            scores[:, 0],
            batched=seen.batched,
            index=index,
            upper_bound=bound,
            engine=type(self.engine).__name__,
            diagnostics=told if seen.num_rows == 1 else None,
        )

    def sample(
        self,
        model: Any,
        n: int,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Samples:
        """See :meth:`Model.sample`."""
        seen, _ = self._read(model, None, evidence)
        network = model.unroll(seen.steps)
        own = _inputs(model, inputs, seen)
        real = any(not v.is_discrete for v in model.variables.values())
        verb = network.sample if real else None  # draws the real ones from their conditionals
        given = _cells(model, seen)
        if verb is not None:
            found = verb(n, given, inputs=own, engine=self.engine, seed=seed)
        else:
            found = self.engine.sample(network, n, given, inputs=own, seed=seed)
        variables = concrete([*model.variables.values()], seen.steps)
        axis = 2 if found.batched else 1
        outside = ~seen.inside if found.batched else ~seen.inside[0]
        codes, reals = [], {}
        for v in variables:
            cells = torch.stack([found[v.name, t] for t in range(seen.steps)], dim=axis)
            cells = cells if seen.batched or not found.batched else cells[:, 0]
            if v.is_discrete:
                codes.append(cells.masked_fill(outside, MISSING))
            else:
                reals[v.name] = cells
        flat = torch.cat(codes, dim=-1) if codes else torch.zeros(n, 0)
        index = seen.index if seen.batched else None
        weights = found.log_weights
        if weights is not None and found.batched and not seen.batched:
            weights = weights[:, 0]
        return Samples(
            variables, flat, reals, batched=seen.batched, index=index, log_weights=weights
        )

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`."""
        seen, _ = self._read(model, None, data)
        found = self.engine.log_prob(
            model.unroll(seen.steps), _cells(model, seen), inputs=_inputs(model, inputs, seen)
        )
        return _by_row(found, seen) if seen.batched else found.reshape(-1)[0]

    def explain(self, model: Any, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen, asked = self._read(model, targets, evidence)
        cells = [(v.name, t) for v in asked for t in range(seen.steps)]
        return self.engine.explain(model.unroll(seen.steps), cells, _cells(model, seen))

    def compile(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Refused: the length is not known."""
        raise Unsupported("the length is not known: compile model.unroll(steps) instead")

    def _read(
        self, model: Unrollable, targets: Names | None, evidence: Any
    ) -> tuple[Sequences, list[Variable]]:
        return Sequences.of(model, evidence), asked_for(model.variables, targets)


def _cells(model: Unrollable, seen: Sequences) -> dict[Hashable, Any]:
    """Evidence on the variables ``(name, t)`` of the unrolled network, ``(B, ...)`` if in rows."""
    found: dict[Hashable, Any] = {}
    for group in (seen.codes, seen.reals, seen.soft):
        for name, values in group.items():
            for t in range(seen.steps):
                value = values[:, t] if seen.batched else values[0, t]
                if seen.batched or group is seen.soft or bool(_known(value)):
                    found[name, t] = value
    if seen.batched and not found and seen.steps:
        name = next(n for n, v in model.variables.items() if v.is_discrete)
        found[name, 0] = torch.full((seen.num_rows,), MISSING)  # tells the number of rows
    return found


def _by_row(log_z: Tensor, seen: Sequences) -> Tensor:
    """``(B,)``; a network without any step tells one number for all rows."""
    if log_z.numel() != 1:
        return log_z
    return (log_z if seen.steps else log_z.double()).reshape(-1).expand(seen.num_rows)


def _known(value: Tensor) -> Tensor:
    return ~value.isnan().any() if value.is_floating_point() else value >= 0


def _over_time(probs: Any, v: Variable, seen: Sequences, batched: bool) -> Tensor:
    """``(B, T, S)`` of a variable's cells."""
    if not seen.steps:
        return _nothing(v).expand(seen.num_rows, -1, -1)
    cells = torch.stack([probs((v.name, t)) for t in range(seen.steps)], dim=-2)
    return cells if batched else cells[None]


def _nothing(v: Variable) -> Tensor:
    """``(1, 0, S)``."""
    return torch.zeros(1, 0, v.num_states, dtype=torch.float64)


def _inputs(model: Unrollable, inputs: Inputs | None, seen: Sequences) -> Inputs | None:
    given = model.covariates(inputs, seen)
    return {(n, t): x[:, t] for n, x in given.items() for t in range(seen.steps)} or None
