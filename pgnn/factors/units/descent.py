"""Zero-temperature dynamics: units take their most probable values until none changes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.units.unit_layers import State, UnitLayers


@dataclass(frozen=True, eq=False)
class Descent:
    """The result of a descent to a local maximum of the score.

    Attributes:
        state: Values of every layer.
        log_scores: ``(N,)`` log scores at the start and after each sweep; they never decrease if
            units are updated one by one.
        sweeps: Number of sweeps.
        settled: ``(N,)`` rows in which the last sweep changed nothing.
    """

    state: State
    log_scores: list[Tensor]
    sweeps: int
    settled: Tensor


def descend(
    layers: UnitLayers,
    state: State,
    free: Sequence[Hashable],
    *,
    max_sweeps: int,
    synchronous: bool = False,
    held: State | None = None,
    rng: torch.Generator | None = None,
) -> Descent:
    """Update units until they are stable; a unit whose field is zero keeps its state.

    Args:
        layers: Units of two states.
        state: Initial states.
        free: Names of the layers that are updated.
        max_sweeps: Maximum number of sweeps.
        synchronous: Whether all units of all layers are updated at once, instead of one by one in
            random order.
        held: ``(N, n)`` mask of the units of a layer that are not updated.
        rng: Random generator of the order.
    """
    state = {n: x.clone() for n, x in state.items()}
    low = {n: float(layers.kinds[n].table(layers.like)[0, 0]) for n in free}
    scores = [layers.log_score(state)]
    active = torch.arange(len(scores[0]), device=scores[0].device)
    sweeps = 0
    while sweeps < max_sweeps and len(active):
        active_state = {n: x[active] for n, x in state.items()}
        fixed = None if held is None else {n: x[active] for n, x in held.items()}
        changed = torch.zeros(len(active), dtype=torch.bool, device=active.device)
        if synchronous:
            fields = {n: layers.field(n, active_state) for n in free}
            for n in free:
                changed |= _move(active_state, n, slice(None), fields[n], low[n], fixed)
        else:
            for n in free:
                changed |= _one_by_one(layers, active_state, n, low[n], fixed, rng)
        for n in free:
            state[n][active] = active_state[n]
        sweeps += 1
        score = scores[-1].clone()
        score[active] = layers.log_score(active_state)
        scores.append(score)
        active = active[changed]
    settled = torch.ones(len(scores[0]), dtype=torch.bool, device=active.device)
    settled[active] = False
    return Descent(state, scores, sweeps, settled)


def _one_by_one(
    layers: UnitLayers, state: State, name: Hashable, low: float, held: State | None,
    rng: torch.Generator | None,
) -> Tensor:  # fmt: skip
    within = [c.matrix for c in layers.couplings if c.is_within and c.first == name]
    field = layers.field(name, state)
    if not within:
        return _move(state, name, slice(None), field, low, held)
    outer = field - state[name] @ within[0]
    changed = torch.zeros(len(field), dtype=torch.bool, device=field.device)
    rows = within[0].contiguous()
    for k in torch.randperm(field.shape[1], generator=rng).tolist():
        unit_field = outer[:, k : k + 1] + (state[name] @ rows[k])[:, None]
        changed |= _move(state, name, slice(k, k + 1), unit_field, low, held)
    return changed


def _move(
    state: State, name: Hashable, units: slice, field: Tensor, low: float, held: State | None
) -> Tensor:
    now = state[name][:, units]
    new = torch.where(field > 0, 1.0, torch.where(field < 0, low, now))
    if held is not None and name in held:
        new = torch.where(held[name][:, units], now, new)
    changed = (new != now).any(1)
    state[name][:, units] = new
    return changed
