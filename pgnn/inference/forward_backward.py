"""Exact answers about chains of states: filtering, smoothing, decoding, drawing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.factors.conditional import Conditional
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.chain import Chain
from pgnn.inference.compiled_query import CompiledQuery
from pgnn.inference.engine import Engine, Inputs, Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.questions import check_errors
from pgnn.inference.samples import Samples
from pgnn.inference.sequences import AXIS, Sequences
from pgnn.inference.unknown_variable import unknown_variable


class ChainModel(Protocol):
    """What the engine sees of a model: a chain of states, and what each state emits."""

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """Variables by name, the axis of time first."""

    @property
    def state(self) -> Variable:
        """The variable that forms the chain."""

    @property
    def emissions(self) -> Mapping[Hashable, Conditional]:
        """What is seen at each step, given the state."""

    def chain(self, seen: Sequences, inputs: Inputs | None = None, *, best: bool = False) -> Chain:
        """The chain given what was seen; with ``best`` unseen emissions take their best states."""

    def covariates(self, inputs: Inputs | None, seen: Sequences) -> dict[Hashable, Tensor]:
        """Covariates, ``(B, T, ...)`` each."""

    def emission_tables(
        self, name: Hashable, seen: Sequences, inputs: Inputs | None = None
    ) -> Tensor:
        """``(B, T, K, S)`` (or broadcastable) log probabilities of a discrete emission."""


@dataclass(frozen=True)
class ForwardBackward(Engine):
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
        chain = model.chain(seen, inputs)
        log_z = chain.log_partition()
        _refuse(log_z, errors)
        states = chain.marginals() if asked else None
        found = [self._marginal(model, v, states, seen, inputs) for v in asked]
        return answer(seen, asked, found, log_z, engine=type(self).__name__)

    def filter(
        self,
        model: Any,
        evidence: Any,
        *,
        inputs: Inputs | None = None,
        errors: str = "raise",
    ) -> Posterior:
        """Return :math:`p(z_t | x_1, ..., x_t)` of every step."""
        check_errors(errors)
        seen = Sequences.read([*model.variables.values()], evidence)
        chain = model.chain(seen, inputs)
        log_z = chain.log_partition()
        _refuse(log_z, errors)
        states, increments = chain.filtered()
        posterior = answer(seen, [model.state], [states], log_z, engine=type(self).__name__)
        posterior.diagnostics = {"log_increments": increments}
        return posterior

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
        chain = model.chain(seen, inputs, best=len(asked) > 1)
        states, scores = chain.best(k)
        if k == 1:
            states, scores = states[:, None], scores[:, None]
        _refuse(scores[:, 0], errors)
        flat = []
        for r in range(k):
            own = [self._states(model, v, states[:, r], seen, inputs) for v in asked]
            flat.append(torch.cat([x.reshape(seen.num_rows, -1) for x in own], dim=1))
        variables = concrete(asked, seen.steps)
        rows: dict[str, Any] = {"batched": seen.batched}
        rows["index"] = seen.index if seen.batched else None
        if k > 1:
            return KBest(variables, torch.stack(flat, dim=1), scores, **rows)
        name, score = type(self).__name__, scores[:, 0]
        return Assignment(variables, flat[0], score, upper_bound=score, engine=name, **rows)

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
        if n < 0:
            raise EvidenceError(f"the number of samples must not be negative, got {n}")
        seen = Sequences.read([*model.variables.values()], evidence)
        if not seen.steps:
            raise EvidenceError(
                f"how many steps? say so in the evidence, as in sample(n, {{{AXIS!r}: 100}})"
            )
        chain = model.chain(seen, inputs)
        _refuse(chain.log_partition(), "raise")
        states = chain.sample(n, seed)
        drawn = self._emitted(model, states, seen, inputs, seed)
        variables = concrete([*model.variables.values()], seen.steps)
        discrete = [drawn[v.name].reshape(n, seen.num_rows, -1) for v in variables if v.is_discrete]
        codes, reals = torch.cat(discrete, dim=2), {}
        for v in variables:
            if not v.is_discrete:
                reals[v.name] = drawn[v.name] if seen.batched else drawn[v.name][:, 0]
        return Samples(
            variables,
            codes if seen.batched else codes[:, 0],
            reals,
            batched=seen.batched,
            index=seen.index if seen.batched else None,
        )

    def log_prob(self, model: Any, data: Any, *, inputs: Inputs | None = None) -> Tensor:
        """See :meth:`Model.log_prob`: one number for each sequence."""
        seen = Sequences.read([*model.variables.values()], data)
        found: Tensor = model.chain(seen, inputs).log_partition()
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
            "ForwardBackward has no compiled queries; use query(), or model.chain(...) for tensors"
        )

    # --- helpers ------------------------------------------------------------------------------

    def _read(
        self, model: ChainModel, targets: Names | None, evidence: Any
    ) -> tuple[Sequences, list[Variable]]:
        variables = model.variables
        seen = Sequences.read([*variables.values()], evidence)
        if targets is None:
            return seen, [v for v in variables.values() if v.is_discrete]
        asked = []
        for name in names_of(targets, variables):
            if name not in variables:
                raise unknown_variable(name, [*variables.values()], "variable of the model")
            if not variables[name].is_discrete:
                raise Unsupported(
                    f"{name!r} is real: it has no marginal table; predict or sample it instead"
                )
            asked.append(variables[name])
        return seen, asked

    def _marginal(
        self,
        model: ChainModel,
        variable: Variable,
        states: Tensor | None,
        seen: Sequences,
        inputs: Inputs | None,
    ) -> Tensor:
        """``(B, T, S)`` of one variable."""
        assert states is not None
        if variable.name == model.state.name:
            return states
        tables = model.emission_tables(variable.name, seen, inputs)
        if variable.name in seen.soft:
            soft = seen.soft[variable.name].to(tables).log()[:, :, None]
            tables = torch.log_softmax(tables + soft, dim=-1)
        found = (states.unsqueeze(-1) * tables.exp()).sum(dim=2)
        codes = seen.codes.get(variable.name)
        if codes is not None:
            known = torch.nn.functional.one_hot(codes.clamp_min(0), variable.num_states)
            found = torch.where((codes >= 0).unsqueeze(-1), known.to(found), found)
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
        tables = model.emission_tables(variable.name, seen, inputs)
        if variable.name in seen.soft:
            tables = tables + seen.soft[variable.name].to(tables).log()[:, :, None]
        best = tables.argmax(-1).expand(*states.shape, -1)
        found = best.gather(2, states.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        codes = seen.codes.get(variable.name)
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

    def _emitted(
        self,
        model: ChainModel,
        states: Tensor,
        seen: Sequences,
        inputs: Inputs | None,
        seed: int | None,
    ) -> dict[Hashable, Tensor]:
        """Draws of all variables, ``(n, B, T, ...)``, given drawn states."""
        from pgnn.inference.emission_draws import draw_emissions

        return draw_emissions(model, states, seen, inputs, seed)


def concrete(variables: Sequence[Variable], steps: int) -> list[Variable]:
    """Variables whose first axis is ``T`` long."""
    return [Variable(v.name, v.states, (steps, *v.shape[1:])) for v in variables]


def answer(
    seen: Sequences,
    asked: Sequence[Variable],
    found: Sequence[Tensor],
    log_evidence: Tensor,
    *,
    engine: str,
    kind: str = "exact",
) -> Posterior:
    """Put marginals ``(B, T, S)`` of some variables together."""
    outside = ~seen.inside
    flat = [
        p.masked_fill(outside.to(p.device).unsqueeze(-1), torch.nan).flatten(start_dim=1)
        for p in found
    ]
    empty = log_evidence.new_zeros((seen.num_rows, 0))
    return Posterior(
        concrete(asked, seen.steps),
        torch.cat(flat, dim=1) if flat else empty,
        log_evidence,
        batched=seen.batched,
        kind=kind,
        engine=engine,
        index=seen.index if seen.batched else None,
    )


def names_of(targets: Any, variables: Mapping[Hashable, Variable]) -> list[Hashable]:
    """Return targets as a list of names."""
    try:
        alone = isinstance(targets, str) or targets in variables
    except TypeError:  # not hashable: a list
        alone = False
    return [targets] if alone else list(targets)


def _refuse(log_z: Tensor, errors: str) -> None:
    """Raise for rows of probability zero."""
    lost = log_z.detach().isneginf()
    if errors == "raise" and bool(lost.any()):
        rows = tuple(lost.nonzero()[:, 0].tolist())
        raise ImpossibleEvidence(
            f"{len(rows)} of {len(lost)} rows have probability zero (first: row {rows[0]}); "
            "errors='nan' skips them",
            rows,
        )
