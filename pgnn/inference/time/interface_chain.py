"""The chain that the interface of a slice makes: all of its states as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.factor import Factor
from pgnn.factors.randomness import private_randomness
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.chains.chain import Chain
from pgnn.inference.time.slice_elimination import SliceElimination, random_state, table_over
from pgnn.inference.time.slice_tables import SliceTables

FIRST, REST, ALL = slice(0, 1), slice(1, None), slice(0, None)


@dataclass(frozen=True, eq=False)
class InterfaceChain:
    r"""A dynamic network as a chain of joint states of its interface.

    .. math:: A_t(z', z) = \sum_h p(z, h, e_t \mid z')

    The interface :math:`z` is what the next slice depends on; the rest :math:`h` of a slice is
    eliminated in it. Tables that the slice before does not reach are a field of the states, so
    that evidence seldom makes transitions differ; what was seen of the interface alone is made for
    all steps at once.

    Attributes:
        variables: Of the interface, the last one running fastest in the joint state.
        chain: Over the joint states.
        begin: How the first slice was reduced to its interface.
        later: How all others were, side by side: what evidence makes of the states, and moves.

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
        seen, model = tables.seen, tables.model
        names = [*model.interface, *(n for n in joined if n not in model.interface)]
        kept = [tables.variable(n) for n in names]
        k = math.prod(v.num_states for v in kept)
        rows, later = seen.num_rows, max(seen.steps - 1, 0)

        steady = tables.steady(names)
        moved = [n for n in model.conditionals if n not in steady]
        others = [n for n in moved if tables.variable(n).is_discrete and n not in names]
        start = tables.conditionals(FIRST, moved) if seen.steps else []
        start += _findings(tables, others, FIRST) if seen.steps else []
        begin = SliceElimination.of(start, names, best)
        initial, by_row = table_over(begin.left, kept)
        initial = initial if by_row else initial[0]

        late = [Variable((v.name, -1), v.states) for v in kept]
        before = {v.name for v in late}
        steps = [*tables.conditionals(REST, moved), *_findings(tables, others, REST)]
        moving, still = _apart(steps, {*names, *before}, before)
        move = SliceElimination.of(moving, [*names, *before], best)
        rest = SliceElimination.of(still, names, best)
        transition, per_step = table_over(move.left, [*late, *kept])
        shape = (rows, later, k, k) if per_step else (k, k)
        transition = transition.reshape(shape)

        field = table_over(rest.left, kept)[0].expand(rows * later, k).reshape(rows, later, k)
        field = torch.cat([field.new_zeros(rows, min(seen.steps, 1), k), field], dim=1)
        always = [*tables.conditionals(ALL, steady), *_findings(tables, names, ALL)]
        own = table_over(always, kept)[0]
        field = field + own.expand(rows * seen.steps, k).reshape(rows, seen.steps, k)
        chain = Chain(initial, transition, field, seen.lengths, per_step=per_step)
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


def _apart(
    factors: Sequence[Factor], kept: set[Hashable], before: set[Hashable]
) -> tuple[list[Factor], list[Factor]]:
    """Tables that hang together with the slice before, and the rest."""
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
    """Return ``(n, B, T)`` or ``(B, T)`` states of what was eliminated, given the interface.

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
        now |= {(n, -1): x[..., :-1].flatten() for n, x in states.items()}
        for part in interface.later:
            for name, x in part.trace(now, pick, copies).items():
                parts_of.setdefault(name, []).append(x.reshape(*lead[:-1], steps - 1))
    return {n: torch.cat(parts, dim=-1) for n, parts in parts_of.items()}


def draw_slices(
    tables: SliceTables, interface: InterfaceChain, n: int, seed: int | None
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, ...)`` draws of all variables; what was seen is as it was.

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
    """What no table was made for, from its conditional, step by step, parents first."""
    conditionals = tables.model.conditionals
    order = [m for m in tables.model.order if m not in drawn]
    for name in order:
        child = conditionals[name].child
        shape, kind = (*outside.shape, *child.shape), torch.int64
        missing: float = MISSING
        if not child.is_discrete:
            kind, missing = torch.float64, torch.nan
        drawn[name] = torch.full(shape, missing, dtype=kind)
    for t in range(tables.seen.steps):
        for name in order:
            column, at = drawn[name][:, :, t], ~outside[..., t]
            known = None
            if name in tables.seen.reals:
                known = tables.seen.reals[name][:, t].to(column)
            if known is not None and not bool(known[at.any(0)].isnan().any()):
                column[:] = known
            elif bool(at.any()):
                column[at] = _drawn_at(tables, name, t, drawn, at).to(column)
                if known is not None:
                    column[:] = torch.where(known.isnan(), column, known)


def _drawn_at(
    tables: SliceTables, name: Hashable, t: int, drawn: Mapping[Hashable, Tensor], at: Tensor
) -> Tensor:
    """Draws of one real variable at one step, for the rows that go so far."""
    model = tables.model
    own = model.conditionals[name] if t else model.first(name)
    parents = {}
    for v in own.parents:
        late = v.name not in model.conditionals
        source = v.name[0] if late and isinstance(v.name, tuple) else v.name
        parents[v.name] = drawn[source][:, :, t - late][at]
    covariates: dict[Hashable, Tensor] = {}
    for n in own.inputs:
        if n in tables.inputs:
            x = tables.inputs[n][:, t]
            covariates[n] = x.expand(len(at), *x.shape)[at]
    return own.draw(parents, covariates or None, int(at.sum()))
