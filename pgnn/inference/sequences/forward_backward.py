"""Exact answers about chains of states: filtering, smoothing, decoding, drawing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

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
from pgnn.inference.sequences.chain import Chain
from pgnn.inference.sequences.chain_model import ChainModel, chain_of
from pgnn.inference.sequences.emission_draws import draw_emissions
from pgnn.inference.sequences.emission_fields import emission_tables
from pgnn.inference.sequences.segment_chain import SegmentChain
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


@dataclass(frozen=True)
class ForwardBackward(SequenceEngine):
    """Exact inference in chains, :math:`O(T K^2)` for each row.

    States that were not seen are summed out, maximised or drawn by :class:`Chain`; emissions that
    were not seen follow from the state alone.

    References:
        Rabiner (1989), A tutorial on hidden Markov models, section III.
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
        seen, asked = self._read(model, targets, evidence)
        chain = chain_of(model, seen, inputs)
        states, log_z = chain.smoothed()
        refuse_impossible(log_z, errors)
        found = [self._marginal(model, v, states, seen, inputs) for v in asked]
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
        r"""Return :math:`p(z_t | x_1, ..., x_t)`; diagnostics have :math:`log p(x_t | x_{<t})`."""
        check_errors(errors)
        seen, asked = self._read(model, targets, evidence)
        if any(v.name != model.state.name for v in asked) and targets is not None:
            raise Unsupported(
                f"filter() answers about {model.state.name!r}; name an engine for other variables"
            )
        chain = chain_of(model, seen, inputs)
        log_z = chain.log_partition()
        refuse_impossible(log_z, errors)
        states, increments = chain.filtered()
        told = {"log_increments": increments if seen.batched else increments[0]}
        name = type(self).__name__
        return answer(seen, [model.state], [states], log_z, engine=name, diagnostics=told)

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
        seen, asked = self._read(model, targets, evidence)
        self._check_maximized(model, asked, seen)
        self._check_seen(model, asked, seen, k)
        chain = chain_of(model, seen, inputs, best=len(asked) > 1)
        states, scores = chain.best(k)
        if k == 1:
            states, scores = states[:, None], scores[:, None]
        refuse_impossible(scores[:, 0], errors)
        flat = []
        for r in range(k):
            own = [self._states(model, v, states[:, r], seen, inputs) for v in asked]
            flat.append(torch.cat([x.flatten(start_dim=1) for x in own], dim=1))
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
        seen = Sequences.of(model, evidence)
        check_draws(n, seen)
        chain = chain_of(model, seen, inputs)
        refuse_impossible(chain.log_partition(), "raise")
        states = chain.sample(n, seed)
        drawn = draw_emissions(model, states, seen, inputs, seed)
        return drawn_answer([*model.variables.values()], seen, drawn, n)

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`: one number for each sequence."""
        seen = Sequences.of(model, data)
        found = chain_of(model, seen, inputs).log_partition()
        return found if seen.batched else found[0]

    def explain(self, model: Any, targets: Names | None, evidence: Any) -> Explanation:
        """See :meth:`Model.explain`."""
        seen, _ = self._read(model, targets, evidence)
        cells, k = seen.num_rows * seen.steps, model.state.num_states
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason="states form a chain: forward and backward over the steps",
            num_variables=cells * len(model.variables),
            num_eliminated=cells,
            num_sliced=sum(int((c >= 0).sum()) for c in seen.codes.values()),
            memory_bytes=8 * cells * k,
            num_factors=cells * (1 + len(model.emissions)),
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

    def chain(
        self, model: ChainModel, seen: Sequences, inputs: Inputs | None, *, best: bool = False
    ) -> Chain | SegmentChain:
        """See :func:`~pgnn.inference.sequences.chain_model.chain_of`."""
        return chain_of(model, seen, inputs, best=best)

    # --- helpers ------------------------------------------------------------------------------

    def _read(
        self, model: ChainModel, targets: Names | None, evidence: Any
    ) -> tuple[Sequences, list[Variable]]:
        return Sequences.of(model, evidence), asked_for(model.variables, targets)

    def _marginal(
        self,
        model: ChainModel,
        variable: Variable,
        states: Tensor,
        seen: Sequences,
        inputs: Inputs | None,
    ) -> Tensor:
        """``(B, T, S)`` of one variable."""
        if variable.name == model.state.name:
            return states
        codes = seen.codes.get(variable.name)
        if codes is not None and bool(((codes >= 0) | ~seen.inside).all()):
            return one_hot(codes.clamp_min(0), variable.num_states).to(states)
        tables = emission_tables(model, variable.name, seen, inputs)
        if variable.name in seen.soft:
            tables = tables + seen.soft[variable.name].to(tables).log()[:, :, None]
            total = logsumexp(tables, [-1], keepdim=True)
            tables = tables - total.masked_fill(total.isneginf(), 0.0)
        found = (states.unsqueeze(-1) * tables.exp()).sum(dim=2)
        if codes is not None:
            known = one_hot(codes.clamp_min(0), variable.num_states).to(found)
            found = torch.where((codes >= 0).unsqueeze(-1), known, found)
        return found

    def _states(
        self,
        model: ChainModel,
        variable: Variable,
        states: Tensor,
        seen: Sequences,
        inputs: Inputs | None,
    ) -> Tensor:
        """``(B, T)`` best states of one variable given the chain's."""
        if variable.name == model.state.name:
            return states
        codes = seen.codes.get(variable.name)
        if codes is not None and bool(((codes >= 0) | ~seen.inside).all()):
            return codes.masked_fill(states < 0, MISSING)
        tables = emission_tables(model, variable.name, seen, inputs)
        if variable.name in seen.soft:
            tables = tables + seen.soft[variable.name].to(tables).log()[:, :, None]
        best = tables.argmax(-1).expand(*states.shape, -1)
        found = best.gather(2, states.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        if codes is not None:
            found = torch.where(codes >= 0, codes, found)
        return found.masked_fill(states < 0, MISSING)

    def _check_maximized(
        self, model: ChainModel, asked: Sequence[Variable], seen: Sequences
    ) -> None:
        """Refuse to maximise some and sum others out along the chain."""
        names = {v.name for v in asked}
        everything = {v.name for v in model.variables.values() if v.is_discrete}
        if names != everything and names != {model.state.name}:
            raise Unsupported(
                f"targets must be {model.state.name!r}, what was not seen of the rest summed out, "
                "or all discrete variables; name an engine for other marginal MAP questions"
            )

    def _check_seen(
        self, model: ChainModel, asked: Sequence[Variable], seen: Sequences, k: int
    ) -> None:
        """The k best paths of the states are those of all variables where emissions are known."""
        for v in asked if k > 1 else ():
            if v.name == model.state.name:
                continue
            if v.name not in seen.codes or bool((seen.inside & (seen.codes[v.name] < 0)).any()):
                raise Unsupported(
                    f"{v.name!r} was not seen everywhere: decode(k={k}) ranks the states' paths "
                    "alone; or name an engine, such as JunctionTree()"
                )
