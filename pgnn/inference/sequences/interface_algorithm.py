"""Exact answers about dynamic Bayesian networks, by the chain of their interfaces."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Inputs, Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.questions import check_errors
from pgnn.inference.samples import Samples
from pgnn.inference.sequences.family_tables import FamilyTables
from pgnn.inference.sequences.interface_chain import InterfaceChain
from pgnn.inference.sequences.interface_draws import draw_slices, traced
from pgnn.inference.sequences.sequence_answers import (
    answer,
    asked_for,
    best_answer,
    check_draws,
    drawn_answer,
    refuse_impossible,
)
from pgnn.inference.sequences.sequence_engine import SequenceEngine
from pgnn.inference.sequences.sequences import Sequences
from pgnn.inference.sequences.slice_elimination import best_state
from pgnn.inference.sequences.slice_tables import SliceModel, SliceTables


@dataclass(frozen=True)
class InterfaceAlgorithm(SequenceEngine):
    r"""Exact inference in networks over time, :math:`O(T K^2)` for each row.

    :math:`K` is the product of the states of the interface, the variables on which the next slice
    depends; the rest of a slice is eliminated in it. Marginals are slopes of the log evidence.

    References:
        Murphy (2002), Dynamic Bayesian networks: representation, inference and learning,
        section 3.2.4.
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
        check_errors(errors)
        seen, asked = _read(model, targets, evidence)
        probes = _probes(seen, asked)
        tables = FamilyTables(model, seen, model.covariates(inputs, seen), probes)
        with torch.enable_grad():
            log_z = InterfaceChain.of(tables).chain.log_partition()
        found = _slopes(log_z, probes, _learns(model))
        log_z = log_z if _learns(model) else log_z.detach()
        refuse_impossible(log_z, errors)
        return answer(seen, asked, found, log_z, engine=type(self).__name__)

    def filter(
        self,
        model: Any,
        targets: Names | None,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        r"""Return :math:`p(x_t | e_1, ..., e_t)`; diagnostics have :math:`log p(e_t | e_{<t})`."""
        check_errors(errors)
        seen, asked = _read(model, targets, evidence)
        inner = [v for v in asked if v.name not in model.interface]
        probes = _probes(seen, inner)
        tables = FamilyTables(model, seen, model.covariates(inputs, seen), probes)
        with torch.enable_grad():
            made = InterfaceChain.of(tables)
        with torch.no_grad():
            log_z = made.chain.log_partition()
            refuse_impossible(log_z, errors)
            states, increments = made.chain.filtered()
        if inner and seen.steps:
            with torch.enable_grad():
                gained = _increments(made, states)
            slopes = dict(zip(probes, _slopes(gained, probes, False), strict=True))
        else:
            slopes = probes
        found = [
            slopes[v.name] if v.name in slopes else made.marginal(v.name, states) for v in asked
        ]
        told = {"log_increments": increments if seen.batched else increments[0]}
        name = type(self).__name__
        return answer(seen, asked, found, log_z, engine=name, diagnostics=told)

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
        check_errors(errors)
        if k < 1:
            raise EvidenceError(f"k must be at least 1, got {k}")
        seen, asked = _read(model, targets, evidence)
        names = [v.name for v in asked]
        for name in model.interface:
            if name not in names and not _known(name, seen):
                raise Unsupported(
                    f"{name!r} would have to be summed out along the chain: name an engine for "
                    "such marginal MAP questions, or maximise over it too"
                )
        given = model.covariates(inputs, seen)
        tables = SliceTables(model, seen, given, wanted=frozenset(names))
        joined = [n for n in names if not _known(n, seen)] if k > 1 else []
        made = InterfaceChain.of(tables, best=names, joined=joined)
        paths, scores = made.chain.best(k)
        if k == 1:
            paths, scores = paths[:, None], scores[:, None]
        refuse_impossible(scores[:, 0], errors)
        flat = []
        for r in range(k):
            states = made.split(paths[:, r])
            states |= traced(made, states, best_state)
            own = [states.get(n, paths[:, r]).masked_fill(paths[:, r] < 0, MISSING) for n in names]
            flat.append(torch.cat(own, dim=1))
        return best_answer(seen, asked, flat, scores, engine=type(self).__name__)

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
        seen, _ = _read(model, None, evidence)
        check_draws(n, seen)
        with torch.no_grad():
            tables = SliceTables(model, seen, model.covariates(inputs, seen))
            made = InterfaceChain.of(tables)
            refuse_impossible(made.chain.log_partition(), "raise")
            drawn = draw_slices(tables, made, n, seed)
        return drawn_answer([*model.variables.values()], seen, drawn, n)

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`: one number for each sequence."""
        seen, _ = _read(model, None, data)
        made = InterfaceChain.of(FamilyTables(model, seen, model.covariates(inputs, seen)))
        found = made.chain.log_partition()
        return found if seen.batched else found[0]

    def explain(self, model: Any, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen, _ = _read(model, targets, evidence)
        cells = seen.num_rows * seen.steps
        states = [model.conditionals[n].child.num_states for n in model.interface]
        k = math.prod(states)
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason=f"{len(states)} variables tie the slices, {k:,} joint states in a chain",
            num_variables=cells * len(model.variables),
            num_eliminated=cells * len(model.variables),
            memory_bytes=8.0 * (cells * k + k * k),
            num_factors=cells * len(model.variables),
            treewidth=2 * len(states) - 1 if states else 0,
            largest_table=k * k,
            multiply_adds=2 * cells * k * k,
        )

    def compile(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Refused: the length is not known."""
        raise Unsupported("the length is not known: compile model.unroll(steps) instead")


def _read(
    model: SliceModel, targets: Names | None, evidence: Any
) -> tuple[Sequences, list[Variable]]:
    return Sequences.of(model, evidence), asked_for(model.variables, targets)


def _known(name: Hashable, seen: Sequences) -> bool:
    """Whether a variable was seen at every step."""
    return name in seen.codes and bool(((seen.codes[name] >= 0) | ~seen.inside).all())


def _probes(seen: Sequences, asked: Sequence[Variable]) -> dict[Hashable, Tensor]:
    shape = (seen.num_rows, seen.steps)
    return {
        v.name: torch.zeros(*shape, v.num_states, dtype=torch.float64, requires_grad=True)
        for v in asked
    }


def _learns(model: Any) -> bool:
    return torch.is_grad_enabled() and any(p.requires_grad for p in model.parameters())


def _slopes(total: Tensor, probes: Mapping[Hashable, Tensor], again: bool) -> list[Tensor]:
    """Slopes of a sum by each probe: the marginals."""
    if not probes:
        return []
    with torch.enable_grad():
        possible = total.masked_fill(total.isneginf(), 0.0).sum()
    found = torch.autograd.grad(possible, [*probes.values()], create_graph=again, allow_unused=True)
    pairs = zip(found, probes.values(), strict=True)
    return [torch.zeros_like(p) if x is None else x for x, p in pairs]


def _increments(made: InterfaceChain, states: Tensor) -> Tensor:
    """Logs of p(e_t | e_1..t-1) whose slopes by the probes of step t are what is known then."""
    tensors = made.chain.tensors
    field, k = tensors.field, states.shape[2]
    zero = states.nan_to_num() <= 0
    before = states.nan_to_num().masked_fill(zero, 1.0).log().masked_fill(zero, -torch.inf)
    ahead = before[:, :-1, :, None] + tensors.transition + field[:, 1:, None, :]
    first = tensors.initial.expand(len(field), k) + field[:, 0]
    totals = [logsumexp(first, [1])[:, None], logsumexp(ahead, [2, 3])]
    return torch.cat(totals, dim=1).masked_fill(~tensors.within, 0.0)
