"""Gibbs sweeps over all free elements at changing temperatures."""

from __future__ import annotations

import numpy as np

from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.local_fields import change, fill

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@inner
def _uniform(state):
    """Next state of SplitMix64 (Steele, Lea & Flood 2014), and a number in [0, 1)."""
    state += _GOLDEN
    x = (state ^ (state >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    x = x ^ (x >> np.uint64(31))
    return state, np.float64(x >> np.uint64(11)) / 9007199254740992.0


@inner
def _draw(o, num, offset, other, field, local, weights, u):
    """A state drawn in proportion to ``exp(own field + other local)``."""
    if num == 2:
        x = offset * (field[o + 1] - field[o]) + other * (local[o + 1] - local[o])
        if abs(x) > 40.0:  # below the precision of doubles
            return 1 if x > 0.0 else 0
        return 1 if u * (1.0 + np.exp(-x)) < 1.0 else 0
    top = -np.inf
    for k in range(num):
        weights[k] = offset * field[o + k] + other * local[o + k]
        top = max(top, weights[k])
    total = 0.0
    for k in range(num):
        x = weights[k] - top
        weights[k] = np.exp(x) if x > -40.0 else 0.0
        total += weights[k]
    left = u * total
    last = 0
    for k in range(num):
        if weights[k] > 0.0:
            last = k
            left -= weights[k]
            if left < 0.0:
                break
    return last


@inner
def _sweep(wiring, table, field, free, offset, other, backward, states, local, weights, state):
    """Visit every free element once; return the stream, gains of both parts, and changes."""
    field_gain, local_gain, changes = 0.0, 0.0, 0
    num = states.shape[0]
    for i in range(num):
        v = num - 1 - i if backward else i
        if not free[v]:
            continue
        state, u = _uniform(state)
        o = wiring.offset[v]
        new = _draw(o, wiring.card[v], offset, other, field, local, weights, u)
        old = states[v]
        if new != old:
            field_gain += field[o + new] - field[o + old]
            local_gain += local[o + new] - local[o + old]
            changes += 1
            change(wiring, table, states, local, v, new)
    return state, field_gain, local_gain, changes


@inner
def _field_of(wiring, field, states):
    total = 0.0
    for v in range(states.shape[0]):
        total += field[wiring.offset[v] + states[v]]
    return total


@entry
def anneal(
    wiring,
    log_tables,
    fields,
    free,
    chains,
    temperatures,
    states,
    streams,
    best,
    top,
    changes,
    stop,
):
    """Run sweeps of some chains at decreasing temperatures, and record each chain's best states.

    Args:
        wiring: See :class:`pgnn.inference.wiring.LocalWiring`.
        log_tables: ``(1, T)`` or ``(B, T)`` finite log values.
        fields: ``(B, S)`` unary log potentials; states of ``-inf`` are never visited.
        free: ``(B, E)`` elements to sample.
        chains: ``(N, 2)`` a row of ``fields`` and a row of ``states`` for each chain.
        temperatures: ``(n,)`` temperature of each sweep.
        states: ``(C, E)`` current states, updated in place.
        streams: ``(C,)`` random streams, updated in place.
        best: ``(C, E)`` best states so far, updated in place.
        top: ``(C,)`` their scores, updated in place.
        changes: ``(C,)`` number of changes so far, updated in place.
        stop: Flag that is checked before each sweep.
    """
    local = np.empty(fields.shape[1])
    weights = np.empty(wiring.card.max() if len(wiring.card) else 1)
    for j in range(chains.shape[0]):
        row, c = chains[j, 0], chains[j, 1]
        table = log_tables[row if log_tables.shape[0] > 1 else 0]
        x = states[c]
        local[:] = 0.0
        score = fill(wiring, table, x, local) + _field_of(wiring, fields[row], x)
        state = streams[c]
        for t in range(temperatures.shape[0]):
            if stop[0]:
                return
            cold = 1.0 / temperatures[t]
            state, one, two, moved = _sweep(
                wiring, table, fields[row], free[row], cold, cold, False, x, local, weights, state
            )
            score += one + two
            changes[c] += moved
            if score > top[c]:
                top[c] = score
                best[c] = x
        streams[c] = state


@entry
def follow_path(
    wiring, log_tables, fields, free, chains, betas, backward, sweeps, states, streams, log_weights,
    stop,
):  # fmt: skip
    r"""Move chains from inverse temperature ``betas[0]`` to ``betas[-1]``, with weights.

    The distributions are :math:`p_\beta \propto \exp(h(x) + \beta U(x))`, with unary potentials h
    and other factors U. Forward, a weight is updated before its chain moves; backward, after it,
    with moves in reverse order.

    Args:
        betas: ``(n,)`` inverse temperatures.
        backward: Whether they decrease.
        sweeps: Number of sweeps at each inverse temperature.
        log_weights: ``(C,)`` log weights, updated in place.
        stop: Flag that is checked before each sweep.
    """
    local = np.empty(fields.shape[1])
    weights = np.empty(wiring.card.max() if len(wiring.card) else 1)
    for j in range(chains.shape[0]):
        row, c = chains[j, 0], chains[j, 1]
        table = log_tables[row if log_tables.shape[0] > 1 else 0]
        x = states[c]
        local[:] = 0.0
        energy = fill(wiring, table, x, local)
        state = streams[c]
        for t in range(1, betas.shape[0]):
            beta = betas[t - 1] if backward else betas[t]
            if not backward:
                log_weights[c] += (betas[t] - betas[t - 1]) * energy
            for _ in range(sweeps):
                if stop[0]:
                    return
                state, _one, two, _moved = _sweep(
                    wiring, table, fields[row], free[row], 1.0, beta, backward, x, local, weights,
                    state,
                )  # fmt: skip
                energy += two
            if backward:
                log_weights[c] += (betas[t] - betas[t - 1]) * energy
        streams[c] = state


@entry
def smooth(wiring, log_tables, fields, chains, shares, states, marginals, stop):
    """Add each chain's full conditionals, times its share, to the marginals.

    Args:
        log_tables: ``(1, T)`` or ``(B, T)`` log values; ``-inf`` is legal.
        shares: ``(C,)`` normalised weights; chains of share zero are skipped.
        marginals: ``(B, S)`` sums, updated in place.
        stop: Flag that is checked before each chain.
    """
    local = np.empty(fields.shape[1])
    for j in range(chains.shape[0]):
        row, c = chains[j, 0], chains[j, 1]
        if stop[0]:
            return
        if shares[c] == 0.0:
            continue
        local[:] = fields[row]
        fill(wiring, log_tables[row if log_tables.shape[0] > 1 else 0], states[c], local)
        for v in range(states.shape[1]):
            o = wiring.offset[v]
            top, total = -np.inf, 0.0
            for k in range(wiring.card[v]):
                top = max(top, local[o + k])
            for k in range(wiring.card[v]):
                total += np.exp(local[o + k] - top)
            for k in range(wiring.card[v]):
                marginals[row, o + k] += shares[c] * np.exp(local[o + k] - top) / total
