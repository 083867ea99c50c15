"""Hamiltonian trajectories as a state machine that consumes gradients and requests the next.

Each chain has its own position in its own tree, so no chain waits for another: every chain requests
a gradient at every step, whatever the depth of its tree.
"""

from __future__ import annotations

import numpy as np

from pgnn.inference.continuous.kernels.hamiltonian import (
    ACCEPT,
    BAD,
    CG,
    COUNT,
    CQ,
    DEPTH,
    E0,
    EPS,
    GQ,
    H_BAR,
    LEAF,
    LEAPS,
    LG,
    LOG_EPS_BAR,
    LOG_W,
    LOG_W_SUB,
    LP,
    LQ,
    MU,
    PHASE,
    RG,
    RHO,
    RHO_SUB,
    RP,
    RQ,
    SIGN,
    TIME,
    TRIES,
    UC,
    UQ,
    VAR,
    WAY,
    P,
    Q,
    adapt,
    land,
    leap,
    momentum,
)
from pgnn.inference.kernels.compiled import entry, inner
from pgnn.inference.kernels.random_numbers import next_uniform

START, SEARCH, TREE, DONE = range(4)
DIVERGENT = 1000.0


@inner
def _turning(left, right, rho, var):
    """Whether the trajectory makes a U-turn (Betancourt 2017, A.4.2), with half weights at ends."""
    a = b = 0.0
    for i in range(len(left)):
        r = (rho[i] - 0.5 * (left[i] + right[i])) * var[i]
        a += left[i] * r
        b += right[i] * r
    return a <= 0.0 or b <= 0.0


@inner
def _begin_search(point, v, x, k, random):
    x[E0] = x[UQ] + momentum(v, random)
    k[PHASE] = SEARCH
    leap(point, v, x[EPS], Q, P, GQ, k)


@inner
def _search(point, v, x, k, random, potential, gradient, num_steps):
    """Double or halve the step size until the acceptance probability of one step crosses 0.8."""
    energy = land(v, x[EPS], gradient, potential, k[BAD])
    way = 1 if x[E0] - energy > np.log(0.8) else -1
    if k[TRIES] == 0:
        k[WAY] = way
    k[TRIES] += 1
    if way == k[WAY] and k[TRIES] < 60:
        x[EPS] *= 2.0**way
        _begin_search(point, v, x, k, random)
        return
    x[MU] = np.log(10.0 * x[EPS])
    x[H_BAR] = x[LOG_EPS_BAR] = 0.0
    k[COUNT] = k[TRIES] = 0
    _begin_path(point, v, x, k, random, num_steps)


@inner
def _begin_path(point, v, x, k, random, num_steps):
    x[E0] = x[UQ] + momentum(v, random)
    v[LQ] = v[Q]
    v[RQ] = v[Q]
    v[LP] = v[P]
    v[RP] = v[P]
    v[LG] = v[GQ]
    v[RG] = v[GQ]
    v[RHO] = v[P]
    x[LOG_W] = x[ACCEPT] = 0.0
    k[PHASE] = TREE
    k[DEPTH] = k[LEAPS] = 0
    if num_steps:
        leap(point, v, x[EPS], Q, P, GQ, k)
    else:
        _begin_subtree(point, v, x, k, random)


@inner
def _begin_subtree(point, v, x, k, random):
    k[SIGN] = 1 if next_uniform(random) < 0.5 else -1
    k[LEAF] = 0
    x[LOG_W_SUB] = -np.inf
    v[RHO_SUB] = 0.0
    if k[SIGN] > 0:
        leap(point, v, x[EPS], RQ, RP, RG, k)
    else:
        leap(point, v, -x[EPS], LQ, LP, LG, k)


@inner
def _log_add(a, b):
    top = max(a, b)
    if top == -np.inf:
        return top
    return top + np.log(np.exp(a - top) + np.exp(b - top))


@inner
def _subtree_turns(v, checkpoints, leaf):
    """Whether any balanced subtree that ends at this leaf makes a U-turn (Lao and Dillon 2019)."""
    top = 0
    rest = leaf >> 1
    while rest:
        top += rest & 1
        rest >>= 1
    if leaf % 2 == 0:
        checkpoints[0, top] = v[P]
        checkpoints[1, top] = v[RHO_SUB]
        return False
    at = top
    rest = leaf
    while rest & 1:
        first = checkpoints[0, at]
        if _turning(first, v[P], v[RHO_SUB] - checkpoints[1, at] + first, v[VAR]):
            return True
        at -= 1
        rest >>= 1
    return False


@inner
def _grow(point, v, x, k, checkpoints, random, potential, gradient, max_depth):
    """Add a leaf; return 0 if the tree continues, 1 if it is complete, 2 if it diverged."""
    step = k[SIGN] * x[EPS]
    energy = land(v, step, gradient, potential, k[BAD])
    k[LEAPS] += 1
    loss = energy - x[E0]
    x[ACCEPT] += min(1.0, np.exp(-loss))
    if loss > DIVERGENT:
        return 2
    x[LOG_W_SUB] = _log_add(x[LOG_W_SUB], -loss)
    if np.log(1.0 - next_uniform(random)) < -loss - x[LOG_W_SUB]:
        v[CQ] = point
        v[CG] = gradient
        x[UC] = potential
    v[RHO_SUB] += v[P]
    if _subtree_turns(v, checkpoints, k[LEAF]):
        return 1
    k[LEAF] += 1
    q, p, g = (RQ, RP, RG) if k[SIGN] > 0 else (LQ, LP, LG)
    v[q] = point
    v[p] = v[P]
    v[g] = gradient
    if k[LEAF] < 1 << k[DEPTH]:
        leap(point, v, step, q, p, g, k)
        return 0
    if np.log(1.0 - next_uniform(random)) < x[LOG_W_SUB] - x[LOG_W]:
        v[Q] = v[CQ]
        v[GQ] = v[CG]
        x[UQ] = x[UC]
    x[LOG_W] = _log_add(x[LOG_W], x[LOG_W_SUB])
    v[RHO] += v[RHO_SUB]
    k[DEPTH] += 1
    if k[DEPTH] == max_depth or _turning(v[LP], v[RP], v[RHO], v[VAR]):
        return 1
    _begin_subtree(point, v, x, k, random)
    return 0


@inner
def _walk(point, v, x, k, random, potential, gradient, num_steps):
    """Add a point to a path of fixed length; return as :func:`_grow`."""
    energy = land(v, x[EPS], gradient, potential, k[BAD])
    k[LEAPS] += 1
    loss = energy - x[E0]
    if loss > DIVERGENT:
        x[ACCEPT] = 0.0
        return 2
    if k[LEAPS] < num_steps:
        v[RQ] = point
        v[RP] = v[P]
        v[RG] = gradient
        leap(point, v, x[EPS], RQ, RP, RG, k)
        return 0
    accept = min(1.0, np.exp(-loss))
    x[ACCEPT] = accept * k[LEAPS]
    if next_uniform(random) < accept:
        v[Q] = point
        v[GQ] = gradient
        x[UQ] = potential
    return 1


@entry
def advance(chains, potentials, gradients, warmup, max_depth, num_steps, target) -> int:
    """Consume ``(C,)`` potentials and ``(C, D)`` gradients; return the fewest finished transitions.

    Trajectories have ``num_steps`` steps, or end at a U-turn if that is zero.
    """
    least = chains.statistics.shape[1]
    for c in range(len(chains.point)):
        point, v, x = chains.point[c], chains.vectors[c], chains.numbers[c]
        k, random, u, g = chains.integers[c], chains.random[c], potentials[c], gradients[c]
        if k[PHASE] == START:
            v[Q] = point
            v[GQ] = g
            x[UQ] = u
            _begin_search(point, v, x, k, random)
        elif k[PHASE] == SEARCH:
            _search(point, v, x, k, random, u, g, num_steps)
        elif k[PHASE] == TREE:
            if num_steps:
                end = _walk(point, v, x, k, random, u, g, num_steps)
            else:
                end = _grow(point, v, x, k, chains.checkpoints[c], random, u, g, max_depth)
            if end:
                _finish(chains, c, end, warmup, num_steps, target)
        least = min(least, k[TIME])
    return least


@inner
def _finish(chains, c, end, warmup, num_steps, target):
    """Record a transition and begin the next one."""
    point, v, x = chains.point[c], chains.vectors[c], chains.numbers[c]
    k, random = chains.integers[c], chains.random[c]
    row = chains.statistics[c, k[TIME]]
    row[0], row[1], row[2] = x[UQ], x[ACCEPT] / k[LEAPS], x[EPS]
    row[3], row[4], row[5], row[6] = k[DEPTH], k[LEAPS], end == 2, x[E0]
    closed = False
    if k[TIME] < warmup:
        closed = adapt(v, x, k, chains.windows, warmup, target)
    else:
        chains.draws[c, k[TIME] - warmup] = v[Q]
    k[TIME] += 1
    if k[TIME] == chains.statistics.shape[1]:
        k[PHASE] = DONE
        point[:] = v[Q]
    elif closed and k[TIME] < warmup:
        _begin_search(point, v, x, k, random)
    else:
        _begin_path(point, v, x, k, random, num_steps)
