"""Any engine on models over time: the unrolled network is asked, and its answers put in order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.compiled_query import CompiledQuery
from pgnn.inference.engine import Engine, FactorModel, Inputs, Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.forward_backward import answer, concrete, names_of
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.sequences import Sequences
from pgnn.inference.unknown_variable import unknown_variable


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
class Unrolling(Engine):
    """Answers about a model over time by another engine on the unrolled network.

    Args:
        engine: Which.

    Cost: That of the engine with ``T`` times the variables of a slice.
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
            cells_of(seen),
            inputs=_inputs(model, inputs, seen),
            errors=errors,
        )
        marginals = [
            torch.stack([found.probs((v.name, t)) for t in range(seen.steps)], dim=-2)
            for v in asked
        ]
        if not found.batched:
            marginals = [p[None] for p in marginals]
        log_z = found.log_evidence if found.batched else found.log_evidence[None]
        made = answer(seen, asked, marginals, log_z, engine=found.engine, kind=found.kind)
        made.diagnostics = found.diagnostics
        return made

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
        if k > 1:
            raise Unsupported("several best paths need the model's own engine; leave engine= out")
        seen, asked = self._read(model, targets, evidence)
        variables = concrete(asked, seen.steps)
        states = torch.full((seen.num_rows, sum(v.num_elements for v in variables)), -1)
        log_prob = torch.zeros(seen.num_rows, dtype=torch.float64)
        given = model.covariates(inputs, seen)
        told: Mapping[str, Any] = {}
        for length in sorted(set(seen.lengths.tolist())):
            rows = (seen.lengths == length).nonzero()[:, 0]
            part = seen.rows(rows, length)
            cells = [(v.name, t) for v in asked for t in range(length)]
            found = self.engine.most_probable(
                model.unroll(length),
                cells_of(part),
                None if targets is None else cells,
                inputs={(n, t): x[rows, t] for n, x in given.items() for t in range(length)}
                or None,
                errors=errors,
            )
            assert isinstance(found, Assignment)
            place = {v.name: k for k, v in enumerate(found.variables)}
            codes = found.codes.reshape(-1, len(place)).expand(len(rows), -1)
            for k, v in enumerate(asked):
                columns = torch.arange(length) + k * seen.steps
                own = codes[:, [place[v.name, t] for t in range(length)]]
                states[rows[:, None], columns] = own
            log_prob[rows] = found.log_prob.reshape(-1).to(log_prob)
            told = found.diagnostics
        return Assignment(
            variables,
            states,
            log_prob,
            batched=seen.batched,
            index=seen.index if seen.batched else None,
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
        found = self.engine.sample(
            network, n, cells_of(seen), inputs=_inputs(model, inputs, seen), seed=seed
        )
        variables = concrete([*model.variables.values()], seen.steps)
        codes, reals = [], {}
        for v in variables:
            axis = 2 if found.batched else 1
            cells = torch.stack([found[(v.name, t)] for t in range(seen.steps)], dim=axis)
            if v.is_discrete:
                codes.append(cells if seen.batched or not found.batched else cells[:, 0])
            else:
                reals[v.name] = cells if seen.batched or not found.batched else cells[:, 0]
        return Samples(
            variables,
            torch.cat(codes, dim=-1),
            reals,
            batched=seen.batched,
            index=seen.index if seen.batched else None,
            log_weights=found.log_weights,
        )

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`."""
        seen, _ = self._read(model, None, data)
        found = self.engine.log_prob(
            model.unroll(seen.steps), cells_of(seen), inputs=_inputs(model, inputs, seen)
        )
        return found if seen.batched else found.reshape(-1)[0]

    def explain(self, model: Any, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen, asked = self._read(model, targets, evidence)
        cells = [(v.name, t) for v in asked for t in range(seen.steps)]
        return self.engine.explain(model.unroll(seen.steps), cells, cells_of(seen))

    def compile(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Refused: the length is not known."""
        raise Unsupported("the length is not known: compile model.unroll(steps) instead")

    def _read(
        self, model: Unrollable, targets: Names | None, evidence: Any
    ) -> tuple[Sequences, list[Variable]]:
        variables = model.variables
        seen = Sequences.read([*variables.values()], evidence)
        if targets is None:
            return seen, [v for v in variables.values() if v.is_discrete]
        names = names_of(targets, variables)
        for name in names:
            if name not in variables:
                raise unknown_variable(name, [*variables.values()], "variable of the model")
        return seen, [variables[n] for n in names]


def cells_of(seen: Sequences) -> dict[Hashable, Any]:
    """Evidence on the variables ``(name, t)`` of the unrolled network, ``(B, ...)`` each."""
    found: dict[Hashable, Any] = {}
    for group in (seen.codes, seen.reals, seen.soft):
        for name, values in group.items():
            for t in range(seen.steps):
                found[name, t] = values[:, t]
    return found


def _inputs(model: Unrollable, inputs: Inputs | None, seen: Sequences) -> Inputs | None:
    given = model.covariates(inputs, seen)
    return {(n, t): x[:, t] for n, x in given.items() for t in range(seen.steps)} or None
