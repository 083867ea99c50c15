"""Exact answers about dynamic Bayesian networks, by the chain of their interfaces."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.engine import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.interface_chain import InterfaceChain, draw_slices, traced
from pgnn.inference.time.sequence_answers import (
    best_answer,
    drawn_answer,
)
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_elimination import best_state
from pgnn.inference.time.slice_tables import FamilyTables, SliceTables


@dataclass(frozen=True)
class InterfaceAlgorithm(SequenceEngine):
    r"""Exact inference in networks over time, :math:`O(T K^2)` for each row.

    :math:`K` is the product of the states of the interface, the variables on which the next slice
    depends; the rest of a slice is eliminated in it. Marginals are slopes of the log evidence.

    References:
        Murphy (2002), Dynamic Bayesian networks: representation, inference and learning,
        section 3.2.4.
    """

    def _smooth(self, asked: SequenceQuestion) -> Posterior:
        probes = _probes(asked.seen, asked.asked)
        with torch.enable_grad():
            log_z = _chain(asked, probes).chain.log_partition()
        found = _slopes(log_z, probes, asked.learns)
        log_z = log_z if asked.learns else log_z.detach()
        asked.refuse_impossible(log_z)
        return asked.answer(found, log_z)

    def _filter(self, asked: SequenceQuestion) -> Posterior:
        inner = [v for v in asked.asked if v.name not in asked.model.interface]
        probes = _probes(asked.seen, inner)
        with torch.enable_grad():
            made = _chain(asked, probes)
        with torch.no_grad():
            log_z = made.chain.log_partition()
            asked.refuse_impossible(log_z)
            states, increments = made.chain.filtered()
        slopes = probes
        if inner and asked.seen.steps:
            with torch.enable_grad():
                gained = _increments(made, states)
            slopes = dict(zip(probes, _slopes(gained, probes, False), strict=True))
        found = [slopes[n] if n in slopes else made.marginal(n, states) for n in asked.names]
        return asked.filtered(found, log_z, increments)

    def _maximize(self, asked: SequenceQuestion, k: int) -> Assignment | KBest:
        seen, names = asked.seen, asked.names
        for name in asked.model.interface:
            if name not in names and not _known(name, seen):
                raise Unsupported(
                    f"{name!r} would have to be summed out along the chain: name an engine for "
                    "such marginal MAP questions, or maximise over it too"
                )
        tables = SliceTables(asked.model, seen, asked.covariates, wanted=frozenset(names))
        joined = [n for n in names if not _known(n, seen)] if k > 1 else []
        made = InterfaceChain.of(tables, best=names, joined=joined)
        paths, scores = made.chain.best(k)
        if k == 1:
            paths, scores = paths[:, None], scores[:, None]
        asked.refuse_impossible(scores[:, 0])
        flat = []
        for r in range(k):
            states = made.split(paths[:, r])
            states |= traced(made, states, best_state)
            own = [states.get(n, paths[:, r]).masked_fill(paths[:, r] < 0, MISSING) for n in names]
            flat.append(torch.cat(own, dim=1))
        return best_answer(seen, asked.asked, flat, scores, engine=asked.engine)

    def _draw(self, asked: SequenceQuestion, n: int, seed: int | None) -> Samples:
        with torch.no_grad():
            tables = SliceTables(asked.model, asked.seen, asked.covariates)
            made = InterfaceChain.of(tables)
            asked.refuse_impossible(made.chain.log_partition())
            drawn = draw_slices(tables, made, n, seed)
        return drawn_answer([*asked.model.variables.values()], asked.seen, drawn, n)

    def _log_partition(self, asked: SequenceQuestion) -> Tensor:
        return _chain(asked, {}).chain.log_partition()

    def explain(self, model: Any, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen = SequenceQuestion.read(self, model, evidence, targets).seen
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


def _chain(asked: SequenceQuestion, probes: Mapping[Hashable, Tensor]) -> InterfaceChain:
    """The chain with what was seen of leaves put in at once; ``probes`` find marginals."""
    return InterfaceChain.of(FamilyTables(asked.model, asked.seen, asked.covariates, probes))


def _known(name: Hashable, seen: Sequences) -> bool:
    """Whether a variable was seen at every step."""
    return name in seen.codes and bool(((seen.codes[name] >= 0) | ~seen.inside).all())


def _probes(seen: Sequences, asked: Sequence[Variable]) -> dict[Hashable, Tensor]:
    shape = (seen.num_rows, seen.steps)
    return {
        v.name: torch.zeros(*shape, v.num_states, dtype=torch.float64, requires_grad=True)
        for v in asked
    }


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
