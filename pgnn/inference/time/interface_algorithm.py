"""Exact answers about slices that repeat: the joint states of an interface form a chain."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.abilities import SlicedModel
from pgnn.errors import Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.factor import Factor
from pgnn.factors.logspace import logsumexp
from pgnn.factors.randomness import private_randomness
from pgnn.factors.time_steps import has_lag, lagged, lagged_name, without_lag
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.chains.chain import Chain
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.sequence_engine import SequenceEngine
from pgnn.inference.time.sequence_question import SequenceQuestion
from pgnn.inference.time.slice_elimination import (
    SliceElimination,
    best_state,
    random_state,
    table_over,
)
from pgnn.inference.time.slice_tables import LeafSliceTables, SliceTables

FIRST, REST, ALL = slice(0, 1), slice(1, None), slice(0, None)


@dataclass(frozen=True, eq=False)
class InterfaceChain:
    r"""A dynamic network as a chain of joint states of its interface.

    .. math:: A_t(z', z) = \sum_h p(z, h, e_t \mid z')

    The interface :math:`z` contains the variables on which the next slice depends; the other
    variables :math:`h` of a slice are eliminated within it. Tables without variables of the
    previous slice form the field of the states, so that transitions rarely depend on evidence;
    tables of the interface alone are computed for all steps at once.

    Attributes:
        variables: Variables of the interface, the last one running fastest in the joint state.
        chain: Over the joint states.
        begin: The elimination of the first slice to its interface.
        later: The elimination of all other slices in one batch, to fields and transitions.

    References:
        Murphy (2002), Dynamic Bayesian networks: representation, inference and learning,
        section 3.2.4.
    """

    variables: tuple[Variable, ...]
    chain: Chain
    begin: SliceElimination
    later: tuple[SliceElimination, SliceElimination]

    @classmethod
    def of(
        cls,
        tables: SliceTables,
        best: Iterable[Hashable] = (),
        joined: Iterable[Hashable] = (),
    ) -> InterfaceChain:
        """Return the chain.

        Args:
            tables: The slices.
            best: Variables that are maximised over rather than summed out.
            joined: Variables that count as part of the interface.
        """
        observed, model = tables.observed, tables.model
        names = [*model.interface, *(n for n in joined if n not in model.interface)]
        kept = [tables.variable(n) for n in names]
        k = math.prod(v.num_states for v in kept)
        rows, later = observed.num_rows, max(observed.steps - 1, 0)

        steady = tables.steady(names)
        moved = [n for n in model.conditionals if n not in steady]
        others = [n for n in moved if tables.variable(n).is_discrete and n not in names]
        start = tables.conditionals(FIRST, moved) if observed.steps else []
        start += _findings(tables, others, FIRST) if observed.steps else []
        begin = SliceElimination.of(start, names, best)
        initial, by_row = table_over(begin.left, kept)
        initial = initial if by_row else initial[0]

        late = [lagged(v) for v in kept]
        before = {v.name for v in late}
        steps = [*tables.conditionals(REST, moved), *_findings(tables, others, REST)]
        moving, still = _split_by_slice(steps, {*names, *before}, before)
        move = SliceElimination.of(moving, [*names, *before], best)
        rest = SliceElimination.of(still, names, best)
        transition, per_step = table_over(move.left, [*late, *kept])
        shape = (rows, later, k, k) if per_step else (k, k)
        transition = transition.reshape(shape)

        field = table_over(rest.left, kept)[0].expand(rows * later, k).reshape(rows, later, k)
        field = torch.cat([field.new_zeros(rows, min(observed.steps, 1), k), field], dim=1)
        always = [*tables.conditionals(ALL, steady), *_findings(tables, names, ALL)]
        always_field = table_over(always, kept)[0]
        field = field + always_field.expand(rows * observed.steps, k).reshape(
            rows, observed.steps, k
        )
        chain = Chain(initial, transition, field, observed.lengths, per_step=per_step)
        return cls(tuple(kept), chain, begin, (rest, move))

    def split(self, joint: Tensor) -> dict[Hashable, Tensor]:
        """Return the states of each variable, of joint states; -1 stays."""
        states_of: dict[Hashable, Tensor] = {}
        rest = joint.clamp_min(0)
        for v in reversed(self.variables):
            states_of[v.name] = (rest % v.num_states).masked_fill(joint < 0, -1)
            rest = rest // v.num_states
        return states_of

    def marginal(self, name: Hashable, joint: Tensor) -> Tensor:
        """Return ``(..., S)`` of one variable of the interface, of ``(..., K)``."""
        shape = [v.num_states for v in self.variables]
        table = joint.reshape(*joint.shape[:-1], *shape)
        lead = joint.dim() - 1
        axes = [lead + k for k, v in enumerate(self.variables) if v.name != name]
        return table.sum(dim=axes) if axes else table


def _findings(tables: SliceTables, names: Sequence[Hashable], span: slice) -> list[Factor]:
    factors = [tables.unary(n, span) for n in names]
    return [f for f in factors if f is not None]


def _split_by_slice(
    factors: Sequence[Factor], kept: set[Hashable], before: set[Hashable]
) -> tuple[list[Factor], list[Factor]]:
    """Return tables that depend on the previous slice, and all other tables."""
    reached, waiting = set(before), list(factors)
    moving: list[Factor] = []
    while True:
        new = [f for f in waiting if reached & set(f.names)]
        if not new:
            return moving, waiting
        moving += new
        waiting = [f for f in waiting if not reached & set(f.names)]
        reached |= {n for f in new for n in f.names} - kept


def traced(
    interface: InterfaceChain, states: Mapping[Hashable, Tensor], pick: Callable[[Tensor], Tensor]
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T)`` or ``(B, T)`` states of the eliminated variables, given the interface.

    Args:
        interface: The chain, whose eliminations are walked backwards.
        states: ``(n, B, T)`` or ``(B, T)`` states of the interface; -1 beyond a row's end.
        pick: Chooses states of log weights.
    """
    if not states:  # nothing ties the slices
        shape = interface.chain.tensors.field.shape[:2]
        states = {None: torch.zeros(shape, dtype=torch.int64)}
    lead = next(iter(states.values())).shape
    steps = lead[-1]
    copies = lead[0] if len(lead) == 3 else 1
    parts_of: dict[Hashable, list[Tensor]] = {}
    first = {n: x[..., :1].flatten() for n, x in states.items()}
    for name, x in interface.begin.trace(first, pick, copies).items():
        parts_of.setdefault(name, []).append(x.reshape(*lead[:-1], 1))
    if steps > 1:
        now = {n: x[..., 1:].flatten() for n, x in states.items()}
        now |= {lagged_name(n): x[..., :-1].flatten() for n, x in states.items()}
        for part in interface.later:
            for name, x in part.trace(now, pick, copies).items():
                parts_of.setdefault(name, []).append(x.reshape(*lead[:-1], steps - 1))
    return {n: torch.cat(parts, dim=-1) for n, parts in parts_of.items()}


def draw_slices(
    tables: SliceTables, interface: InterfaceChain, n: int, seed: int | None
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, ...)`` draws of all variables; observed ones keep their values.

    Args:
        tables: The slices.
        interface: Their chain.
        n: Number of draws.
        seed: Global random state is untouched.
    """
    joint = interface.chain.sample(n, seed)
    outside = joint < 0
    states = interface.split(joint)
    with private_randomness(seed):
        if n and joint.shape[1]:
            states |= traced(interface, states or {None: joint.clamp_min(0)}, random_state)
        drawn = {n: x.masked_fill(outside, MISSING) for n, x in states.items() if n is not None}
        _draw_rest(tables, drawn, outside)
    return drawn


def _draw_rest(tables: SliceTables, drawn: dict[Hashable, Tensor], outside: Tensor) -> None:
    """Draw variables without tables from their conditionals, step by step, parents first."""
    conditionals = tables.model.conditionals
    order = [m for m in tables.model.order if m not in drawn]
    for name in order:
        child = conditionals[name].child
        shape, kind = (*outside.shape, *child.shape), torch.int64
        missing: float = MISSING
        if not child.is_discrete:
            kind, missing = torch.float64, torch.nan
        drawn[name] = torch.full(shape, missing, dtype=kind)
    for t in range(tables.observed.steps):
        for name in order:
            column, at = drawn[name][:, :, t], ~outside[..., t]
            known = None
            if name in tables.observed.reals:
                known = tables.observed.reals[name][:, t].to(column)
            if known is not None and not bool(known[at.any(0)].isnan().any()):
                column[:] = known
            elif bool(at.any()):
                column[at] = _drawn_at(tables, name, t, drawn, at).to(column)
                if known is not None:
                    column[:] = torch.where(known.isnan(), column, known)


def _drawn_at(
    tables: SliceTables, name: Hashable, t: int, drawn: Mapping[Hashable, Tensor], at: Tensor
) -> Tensor:
    """Return draws of a real variable at one step, for the rows that include the step."""
    model = tables.model
    conditional = model.conditionals[name] if t else model.first(name)
    parents = {}
    for v in conditional.parents:
        parents[v.name] = drawn[without_lag(v.name)][:, :, t - has_lag(v.name)][at]
    covariates: dict[Hashable, Tensor] = {}
    for n in conditional.inputs:
        if n in tables.inputs:
            x = tables.inputs[n][:, t]
            covariates[n] = x.expand(len(at), *x.shape)[at]
    return conditional.draw(parents, covariates or None, int(at.sum()))


@dataclass(frozen=True)
class InterfaceAlgorithm(SequenceEngine):
    r"""Exact inference in networks over time, :math:`O(T K^2)` for each row.

    :math:`K` is the product of the states of the interface, the variables on which the next slice
    depends; the rest of a slice is eliminated in it. Marginals are gradients of the log evidence.

    References:
        Murphy (2002), Dynamic Bayesian networks: representation, inference and learning,
        section 3.2.4.
    """

    answers_about = SlicedModel
    subject = "models of time slices, such as dynamic Bayesian networks"

    def smooth_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals given all evidence; see the base class."""
        probes = _probes(question.observed, question.queried)
        with torch.enable_grad():
            log_z = _chain(question, probes).chain.log_partition()
        marginals = _gradients(log_z, probes, question.wants_gradients)
        log_z = log_z if question.wants_gradients else log_z.detach()
        self.check_possible(question, log_z)
        return question.posterior(marginals, log_z)

    def filter_steps(self, question: SequenceQuestion) -> Posterior:
        """Return marginals of each step given the evidence so far; see the base class."""
        inner = [v for v in question.queried if v.name not in question.model.interface]
        probes = _probes(question.observed, inner)
        with torch.enable_grad():
            interface = _chain(question, probes)
        with torch.no_grad():
            log_z = interface.chain.log_partition()
            self.check_possible(question, log_z)
            states, increments = interface.chain.filtered()
        inside = probes
        if inner and question.observed.steps:
            with torch.enable_grad():
                gained = _increments(interface, states)
            inside = dict(zip(probes, _gradients(gained, probes, False), strict=True))
        marginals = [
            inside[n] if n in inside else interface.marginal(n, states)
            for n in question.queried_names
        ]
        return question.filtered(marginals, log_z, increments)

    def best_paths(self, question: SequenceQuestion, k: int) -> Assignment | KBest:
        """Return the most probable states; see the base class."""
        observed, names = question.observed, question.queried_names
        for name in question.model.interface:
            if name not in names and not observed.is_known(name):
                raise Unsupported(
                    f"{name!r} would have to be summed out along the chain",
                    "name an engine for such marginal MAP questions, or maximise over it too",
                )
        tables = SliceTables(question.model, observed, question.covariates, wanted=frozenset(names))
        joined = [n for n in names if not observed.is_known(n)] if k > 1 else []
        interface = InterfaceChain.of(tables, best=names, joined=joined)
        paths, scores = interface.chain.best(k)
        if k == 1:
            paths, scores = paths[:, None], scores[:, None]
        self.check_possible(question, scores[:, 0])
        flat = []
        for r in range(k):
            states = interface.split(paths[:, r])
            states |= traced(interface, states, best_state)
            columns = [
                states.get(n, paths[:, r]).masked_fill(paths[:, r] < 0, MISSING) for n in names
            ]
            flat.append(torch.cat(columns, dim=1))
        return question.assignment(flat, scores)

    def draw_paths(self, question: SequenceQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of all variables; see the base class."""
        with torch.no_grad():
            tables = SliceTables(question.model, question.observed, question.covariates)
            interface = InterfaceChain.of(tables)
            self.check_possible(question, interface.chain.log_partition())
            drawn = draw_slices(tables, interface, n, seed)
        return question.samples(drawn, n)

    def log_evidence(self, question: SequenceQuestion) -> Tensor:
        """Return log probabilities of the evidence; see the base class."""
        return _chain(question, {}).chain.log_partition()

    def describe(self, question: SequenceQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        observed, model = question.observed, question.model
        cells = observed.num_rows * observed.steps
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


def _chain(question: SequenceQuestion, probes: Mapping[Hashable, Tensor]) -> InterfaceChain:
    """Return the chain with the evidence on leaves applied; ``probes`` give marginals."""
    model, observed = question.model, question.observed
    return InterfaceChain.of(LeafSliceTables(model, observed, question.covariates, probes))


def _probes(observed: SequenceEvidence, queried: Sequence[Variable]) -> dict[Hashable, Tensor]:
    shape = (observed.num_rows, observed.steps)
    return {
        v.name: torch.zeros(*shape, v.num_states, dtype=torch.float64, requires_grad=True)
        for v in queried
    }


def _gradients(total: Tensor, probes: Mapping[Hashable, Tensor], again: bool) -> list[Tensor]:
    """Return the gradients of a sum with respect to each probe, which are the marginals."""
    if not probes:
        return []
    with torch.enable_grad():
        possible = total.masked_fill(total.isneginf(), 0.0).sum()
    leaves = [*probes.values()]
    gradients = torch.autograd.grad(possible, leaves, create_graph=again, allow_unused=True)
    pairs = zip(gradients, probes.values(), strict=True)
    return [torch.zeros_like(p) if x is None else x for x, p in pairs]


def _increments(interface: InterfaceChain, states: Tensor) -> Tensor:
    """Return log p(e_t | e_1..t-1), whose gradients by the probes are filtered marginals."""
    tensors = interface.chain.tensors
    field, k = tensors.field, states.shape[2]
    zero = states.nan_to_num() <= 0
    before = states.nan_to_num().masked_fill(zero, 1.0).log().masked_fill(zero, -torch.inf)
    ahead = before[:, :-1, :, None] + tensors.transition + field[:, 1:, None, :]
    first = tensors.initial.expand(len(field), k) + field[:, 0]
    totals = [logsumexp(first, [1])[:, None], logsumexp(ahead, [2, 3])]
    return torch.cat(totals, dim=1).masked_fill(~tensors.within, 0.0)
