"""Exact answers about chains of states: filtering, smoothing, decoding, drawing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import EmittingModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequences import Sequences
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.segment_chain import SegmentChain
from pgnn.inference.engine import Names
from pgnn.inference.exact.compiled_query import CompiledQuery
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.emission_chain import emission_tables
from pgnn.inference.time.emission_draws import draw_emissions
from pgnn.inference.time.sequence_answers import (
    best_answer,
    drawn_answer,
)
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion


@dataclass(frozen=True)
class ForwardBackward(SequenceEngine):
    """Exact inference in chains, :math:`O(T K^2)` for each row.

    States that were not seen are summed out, maximised or drawn by :class:`Chain`; emissions that
    were not seen follow from the state alone.

    References:
        Rabiner (1989), A tutorial on hidden Markov models, section III.
    """

    def _smooth(self, asked: SequenceQuestion) -> Posterior:
        states, log_z = _chain(asked).smoothed()
        asked.refuse_impossible(log_z)
        return asked.answer([_marginal(asked, v, states) for v in asked.asked], log_z)

    def _filter(self, asked: SequenceQuestion) -> Posterior:
        state = asked.model.state
        if not asked.everything and any(n != state.name for n in asked.names):
            raise Unsupported(
                f"filter() answers about {state.name!r}; name an engine for other variables"
            )
        chain = _chain(asked)
        log_z = chain.log_partition()
        asked.refuse_impossible(log_z)
        states, increments = chain.filtered()
        return replace(asked, asked=[state]).filtered([states], log_z, increments)

    def _maximize(self, asked: SequenceQuestion, k: int) -> Assignment | KBest:
        _check_maximized(asked, k)
        chain = _chain(asked, best=len(asked.asked) > 1)
        states, scores = chain.best(k)
        if k == 1:
            states, scores = states[:, None], scores[:, None]
        asked.refuse_impossible(scores[:, 0])
        flat = []
        for r in range(k):
            own = [_best_states(asked, v, states[:, r]) for v in asked.asked]
            flat.append(torch.cat([x.flatten(start_dim=1) for x in own], dim=1))
        return best_answer(asked.seen, asked.asked, flat, scores, engine=asked.engine)

    def _draw(self, asked: SequenceQuestion, n: int, seed: int | None) -> Samples:
        chain = _chain(asked)
        asked.refuse_impossible(chain.log_partition())
        states = chain.sample(n, seed)
        drawn = {asked.model.state.name: states}
        if isinstance(asked.model, EmittingModel):
            drawn = draw_emissions(asked.model, states, asked.seen, asked.inputs, seed)
        return drawn_answer([*asked.model.variables.values()], asked.seen, drawn, n)

    def _log_partition(self, asked: SequenceQuestion) -> Tensor:
        return _chain(asked).log_partition()

    def explain(self, model: Any, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen = SequenceQuestion.read(self, model, evidence, targets).seen
        cells, k = seen.num_rows * seen.steps, model.state.num_states
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason="states form a chain: forward and backward over the steps",
            num_variables=cells * len(model.variables),
            num_eliminated=cells,
            num_sliced=sum(int((c >= 0).sum()) for c in seen.codes.values()),
            memory_bytes=8 * cells * k,
            num_factors=cells * len(model.variables),
            treewidth=1,
            multiply_adds=2 * cells * k * k,
        )

    def compile(
        self, model: Any, targets: Names | None, observed: Iterable[Hashable] | None
    ) -> CompiledQuery:
        """Chains need no preparation."""
        raise Unsupported(
            "ForwardBackward has no compiled queries; use query(), model.chain(...) for tensors, "
            "or compile model.unroll(steps)"
        )


def _chain(asked: SequenceQuestion, *, best: bool = False) -> Chain | SegmentChain:
    made: Chain | SegmentChain = asked.model.chain(asked.seen, asked.inputs, best=best)
    return made


def _marginal(asked: SequenceQuestion, variable: Variable, states: Tensor) -> Tensor:
    """``(B, T, S)`` of one variable, given those of the chain's states."""
    if variable.name == asked.model.state.name:
        return states
    codes = asked.seen.codes.get(variable.name)
    known = None if codes is None else one_hot(codes.clamp_min(0), variable.num_states).to(states)
    if known is not None and _seen_everywhere(asked.seen, variable.name):
        return known
    tables = _tables(asked, variable.name)
    if variable.name in asked.seen.soft:
        total = logsumexp(tables, [-1], keepdim=True)
        tables = tables - total.masked_fill(total.isneginf(), 0.0)
    found = (states.unsqueeze(-1) * tables.exp()).sum(dim=2)
    if codes is not None and known is not None:
        found = torch.where((codes >= 0).unsqueeze(-1), known.to(found), found)
    return found


def _best_states(asked: SequenceQuestion, variable: Variable, states: Tensor) -> Tensor:
    """``(B, T)`` best states of one variable, given those of the chain."""
    if variable.name == asked.model.state.name:
        return states
    codes = asked.seen.codes.get(variable.name)
    if codes is not None and _seen_everywhere(asked.seen, variable.name):
        return codes.masked_fill(states < 0, MISSING)
    best = _tables(asked, variable.name).argmax(-1).expand(*states.shape, -1)
    found = best.gather(2, states.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    if codes is not None:
        found = torch.where(codes >= 0, codes, found)
    return found.masked_fill(states < 0, MISSING)


def _tables(asked: SequenceQuestion, name: Hashable) -> Tensor:
    """Log tables of an emission given the states, with what is believed of it."""
    tables = emission_tables(asked.model, name, asked.seen, asked.inputs)
    if name in asked.seen.soft:
        tables = tables + asked.seen.soft[name].to(tables).log()[:, :, None]
    return tables


def _seen_everywhere(seen: Sequences, name: Hashable) -> bool:
    """Whether a variable's state was seen at every step."""
    return name in seen.codes and bool(((seen.codes[name] >= 0) | ~seen.inside).all())


def _check_maximized(asked: SequenceQuestion, k: int) -> None:
    """Refuse to maximise some and sum others out along the chain.

    The k best paths of the states are those of all variables where emissions are known.
    """
    state, names = asked.model.state.name, set(asked.names)
    everything = {v.name for v in asked.model.variables.values() if v.is_discrete}
    if names not in (everything, {state}):
        raise Unsupported(
            f"targets must be {state!r}, what was not seen of the rest summed out, or all discrete "
            "variables; name an engine for other marginal MAP questions"
        )
    for name in asked.names if k > 1 else ():
        if name != state and not _seen_everywhere(asked.seen, name):
            raise Unsupported(
                f"{name!r} was not seen everywhere: decode(k={k}) ranks the states' paths alone; "
                "or name an engine, such as JunctionTree()"
            )
