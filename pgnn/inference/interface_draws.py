"""The rest of each slice, given the states of its interface."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from pgnn.factors.variable import MISSING
from pgnn.inference.interface_chain import InterfaceChain
from pgnn.inference.slice_elimination import random_state
from pgnn.inference.slice_tables import SliceTables


def traced(
    made: InterfaceChain, states: Mapping[Hashable, Tensor], pick: Callable[[Tensor], Tensor]
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T)`` or ``(B, T)`` states of what was eliminated, given the interface.

    Args:
        made: The chain, whose eliminations are walked backwards.
        states: ``(n, B, T)`` or ``(B, T)`` states of the interface; -1 beyond a row's end.
        pick: Chooses states of log weights.
    """
    if not states:  # nothing ties the slices
        shape = made.chain.tensors.field.shape[:2]
        states = {None: torch.zeros(shape, dtype=torch.int64)}
    lead = next(iter(states.values())).shape
    steps = lead[-1]
    copies = lead[0] if len(lead) == 3 else 1
    found: dict[Hashable, list[Tensor]] = {}
    first = {n: x[..., :1].flatten() for n, x in states.items()}
    for name, x in made.begin.trace(first, pick, copies).items():
        found.setdefault(name, []).append(x.reshape(*lead[:-1], 1))
    if steps > 1:
        now = {n: x[..., 1:].flatten() for n, x in states.items()}
        now |= {(n, -1): x[..., :-1].flatten() for n, x in states.items()}
        for part in made.later:
            for name, x in part.trace(now, pick, copies).items():
                found.setdefault(name, []).append(x.reshape(*lead[:-1], steps - 1))
    return {n: torch.cat(parts, dim=-1) for n, parts in found.items()}


def draw_slices(
    tables: SliceTables, made: InterfaceChain, n: int, seed: int | None
) -> dict[Hashable, Tensor]:
    """Return ``(n, B, T, ...)`` draws of all variables; what was seen is as it was.

    Args:
        tables: The slices.
        made: Their chain.
        n: Number of draws.
        seed: Global random state is untouched.
    """
    joint = made.chain.sample(n, seed)
    outside = joint < 0
    states = made.split(joint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.seed() if seed is None else seed)
        if n and joint.shape[1]:
            states |= traced(made, states or {None: joint.clamp_min(0)}, random_state)
        drawn = {}
        for name, c in tables.model.conditionals.items():
            if c.child.is_discrete:
                own = states.get(name, torch.zeros_like(joint))
                drawn[name] = own.masked_fill(outside, MISSING)
        _draw_reals(tables, drawn, outside)
    return drawn


def _draw_reals(tables: SliceTables, drawn: dict[Hashable, Tensor], outside: Tensor) -> None:
    """Real variables from their conditionals, step by step, parents first."""
    model, seen = tables.model, tables.seen
    order = [m for m in model.order if not model.conditionals[m].child.is_discrete]
    for name in order:
        shape = model.conditionals[name].child.shape
        drawn[name] = torch.full((*outside.shape, *shape), torch.nan, dtype=torch.float64)
    for t in range(seen.steps):
        for name in order:
            column = drawn[name][:, :, t]
            at = ~outside[..., t]
            known = seen.reals[name][:, t].to(column) if name in seen.reals else None
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
    given = {}
    for n in own.inputs:
        if n in tables.inputs:
            x = tables.inputs[n][:, t]
            given[n] = x.expand(len(at), *x.shape)[at]
    dist = own.distribution(parents, given or None)
    return dist.sample() if dist.batch_shape else dist.sample((int(at.sum()),))
