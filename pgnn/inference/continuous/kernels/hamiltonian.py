"""Hamiltonian dynamics with diagonal masses, and the adaptation of step size and masses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pgnn.inference.kernels.compiled import inner
from pgnn.inference.kernels.random_numbers import next_uniform

# vectors of a chain: momentum at the current point, the sample and its gradient, both
# ends of the tree (position, momentum, gradient), sums of momenta of tree and subtree, the
# subtree's candidate and its gradient, variances (inverse masses), their sums over a window
P, Q, GQ, LQ, LP, LG, RQ, RP, RG, RHO, RHO_SUB, CQ, CG, VAR, MEAN, SQUARE = range(16)
NUM_VECTORS = 16
# numbers of a chain
EPS, UQ, E0, LOG_W, LOG_W_SUB, UC, ACCEPT, LOG_EPS_BAR, H_BAR, MU = range(10)
NUM_NUMBERS = 10
# integers of a chain
PHASE, TIME, DEPTH, SIGN, LEAF, LEAPS, BAD, COUNT, WAY, TRIES, SEEN, WINDOW = range(12)
NUM_INTEGERS = 12
# of each transition: potential, acceptance, step size, depth, gradients, divergence, energy
NUM_STATISTICS = 7
GAMMA, T0, KAPPA = 0.05, 10.0, 0.75


class Chains(NamedTuple):
    """State of ``C`` chains in ``D`` dimensions, and their recorded draws.

    Attributes:
        point: ``(C, D)`` points at which gradients are requested.
        vectors: ``(C, 16, D)`` vectors.
        numbers: ``(C, 10)`` scalars.
        integers: ``(C, 12)`` integers.
        checkpoints: ``(C, 2, max_depth + 1, D)`` momenta and their sums.
        random: ``(C, 1)`` states of SplitMix64.
        draws: ``(C, samples, D)`` draws.
        statistics: ``(C, warmup + samples, 7)`` statistics of the transitions.
        windows: First transition of the adaptation windows, then the end of each.
    """

    point: np.ndarray
    vectors: np.ndarray
    numbers: np.ndarray
    integers: np.ndarray
    checkpoints: np.ndarray
    random: np.ndarray
    draws: np.ndarray
    statistics: np.ndarray
    windows: np.ndarray


@inner
def momentum(v, random):
    """Draw a momentum (Box and Muller 1958); return its kinetic energy."""
    dim = v.shape[1]
    energy = 0.0
    for i in range(0, dim, 2):
        r = np.sqrt(-2.0 * np.log(1.0 - next_uniform(random)))
        angle = 2.0 * np.pi * next_uniform(random)
        v[P, i] = r * np.cos(angle)
        energy += 0.5 * v[P, i] ** 2
        v[P, i] /= np.sqrt(v[VAR, i])
        if i + 1 < dim:
            v[P, i + 1] = r * np.sin(angle)
            energy += 0.5 * v[P, i + 1] ** 2
            v[P, i + 1] /= np.sqrt(v[VAR, i + 1])
    return energy


@inner
def kinetic(v):
    """Kinetic energy of the momentum."""
    total = 0.0
    for i in range(v.shape[1]):
        total += 0.5 * v[P, i] ** 2 * v[VAR, i]
    return total


@inner
def leap(point, v, step, q, p, g, integers):
    """Take a half step of the momentum and a full step of the position, from ``q, p, g``."""
    good = True
    for i in range(v.shape[1]):
        half = v[p, i] - 0.5 * step * v[g, i]
        v[P, i] = half
        point[i] = v[q, i] + step * v[VAR, i] * half
        good = good and np.isfinite(point[i])
    integers[BAD] = 0 if good else 1
    if not good:
        point[:] = v[Q]


@inner
def land(v, step, gradient, potential, bad):
    """Take the second half step of the momentum; return the energy, infinite if undefined."""
    if bad or not np.isfinite(potential):
        return np.inf
    for i in range(v.shape[1]):
        v[P, i] -= 0.5 * step * gradient[i]
    energy = potential + kinetic(v)
    return energy if np.isfinite(energy) else np.inf


@inner
def adapt(v, x, k, windows, warmup, target):
    """Adapt the step size by dual averaging; return whether a window has closed."""
    k[COUNT] += 1
    weight = 1.0 / (k[COUNT] + T0)
    x[H_BAR] += weight * (target - x[ACCEPT] / k[LEAPS] - x[H_BAR])
    log_eps = x[MU] - np.sqrt(k[COUNT]) / GAMMA * x[H_BAR]
    fresh = k[COUNT] ** -KAPPA
    x[LOG_EPS_BAR] += fresh * (log_eps - x[LOG_EPS_BAR])
    x[EPS] = np.exp(log_eps)
    if k[TIME] + 1 == warmup:
        x[EPS] = np.exp(x[LOG_EPS_BAR])
    if k[WINDOW] == len(windows) or k[TIME] < windows[0]:
        return False
    k[SEEN] += 1
    for i in range(v.shape[1]):
        off = v[Q, i] - v[MEAN, i]
        v[MEAN, i] += off / k[SEEN]
        v[SQUARE, i] += off * (v[Q, i] - v[MEAN, i])
    if k[TIME] + 1 < windows[k[WINDOW]]:
        return False
    n = k[SEEN]
    if n > 1:
        for i in range(v.shape[1]):
            v[VAR, i] = (n * v[SQUARE, i] / (n - 1.0) + 5e-3) / (n + 5.0)
    v[MEAN] = 0.0
    v[SQUARE] = 0.0
    k[SEEN] = 0
    k[WINDOW] += 1
    return True
