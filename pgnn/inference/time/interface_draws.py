"""The rest of each slice, given the states of its interface."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

from pgnn.factors.randomness import private_randomness
from pgnn.factors.variable import MISSING
from pgnn.inference.time.interface_chain import InterfaceChain
from pgnn.inference.time.slice_elimination import random_state
from pgnn.inference.time.slice_tables import SliceTables


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
    with private_randomness(seed):
        if n and joint.shape[1]:
            states |= traced(made, states or {None: joint.clamp_min(0)}, random_state)
        drawn = {n: x.masked_fill(outside, MISSING) for n, x in states.items() if n is not None}
        _draw_rest(tables, drawn, outside)
    return drawn


def _draw_rest(tables: SliceTables, drawn: dict[Hashable, Tensor], outside: Tensor) -> None:
    """What no table was made for, from its conditional, step by step, parents first."""
    every = tables.model.conditionals
    order = [m for m in tables.model.order if m not in drawn]
    for name in order:
        child = every[name].child
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
    given = {}
    for n in own.inputs:
        if n in tables.inputs:
            x = tables.inputs[n][:, t]
            given[n] = x.expand(len(at), *x.shape)[at]
    dist = own.distribution(parents, given or None)
    return dist.sample() if dist.batch_shape else dist.sample((int(at.sum()),))
