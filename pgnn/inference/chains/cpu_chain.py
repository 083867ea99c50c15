"""Chains on the CPU, computed by compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.threads import Stop, in_threads, interruptible, repeated

if TYPE_CHECKING:
    from pgnn.inference.chains.kernels import PathSums, Potentials

Floats = NDArray[Any]
Ints = NDArray[np.int64]

_LOCK = Lock()
_STATES_OF_A_BYTE = 256
"""Largest number of states for which the tiled kernel stores paths, one byte a state."""
_ROOM = 2**28  # most bytes of the messages of a tile
_LOGS = 10.0  # cost of a pass in log space, relative to one with scaled numbers
_WORTH = 12  # fewest rows for which a tile is faster than one row after another
_SAFE = {np.dtype(np.float64): 1e-250, np.dtype(np.float32): 1e-26}
_DENSE = {np.dtype(np.float64): 1e-100, np.dtype(np.float32): 1e-16}


class CpuChain:
    r"""Sums over paths, best paths and draws of a chain in float32 or float64.

    Potentials are exponentiated and messages are normalised at every step, so that small numbers
    may underflow. The kernels detect when that affects the result: if :math:`\alpha` and
    :math:`\beta` sum to one, an error :math:`\epsilon` of either changes
    :math:`\sum_k \alpha_t(k) \beta_t(k)` by at most :math:`\epsilon`. Rows in which that sum is
    tiny at any step are computed again in log space. A forward pass alone carries a bound on the
    error, unless every transition is possible, in which case underflow is harmless.

    Args:
        tensors: The chain.
    """

    def __init__(self, tensors: ChainTensors) -> None:
        self.tensors = tensors.detach()
        self.lengths: Ints = tensors.lengths.numpy()
        self.rows: Ints = np.flatnonzero(self.lengths)

    @cached_property
    def logs(self) -> Potentials:
        """Log potentials in the precision of the tensors."""
        from pgnn.inference.chains.kernels import Potentials

        tensors, transition = self.tensors, self.tensors.transition.numpy()
        return Potentials(
            _array(tensors.initial),
            _padded(transition),
            _padded(transition.swapaxes(2, 3)),
            _array(tensors.field),
            self.lengths,
            np.zeros(len(tensors.initial)),
            np.zeros(transition.shape[:2]),
        )

    @cached_property
    def numbers(self) -> Potentials:
        """Exponentiated initial and transition potentials; the field remains in logs."""
        logs = self.logs
        initial, initial_scale = _scaled(logs.initial, (1,))
        transition, transition_scale = _scaled(logs.transition, (2, 3))
        turned, _ = _scaled(logs.turned, (2, 3))
        return logs._replace(
            initial=initial,
            transition=transition,
            turned=turned,
            initial_scale=initial_scale,
            transition_scale=transition_scale,
        )

    def log_partition(self) -> Floats:
        """Return ``(B,)`` log Z."""
        from pgnn.inference.chains.kernels import FORWARD, SMOOTH

        sums = self._empty(FORWARD)
        self._sum(sums, FORWARD, self.rows)
        doubtful = self._doubtful(sums)
        if len(doubtful):
            part = CpuChain(self._part(doubtful))
            sums.log_z[doubtful] = part._checked_sums(SMOOTH).log_z
        return sums.log_z

    def filtered(self) -> tuple[Floats, Floats]:
        """Return ``(B, T, K)`` p(z_t | x_1..t) and ``(B, T)`` log p(x_t | x_<t)."""
        from pgnn.inference.chains.kernels import FILTER

        sums = self._checked_sums(FILTER)
        return sums.states, sums.increments

    def smooth(
        self, weights: Floats | None = None, pairs: tuple[int, int] | None = None
    ) -> PathSums:
        """Return log Z, marginals and, if requested, expected transitions.

        Args:
            weights: ``(B,)`` weights of the rows in the expected transitions.
            pairs: Sizes of the first two axes of the expected transitions: one sums over rows, or
                over steps, and requires that all share one transition table.
        """
        from pgnn.inference.chains.kernels import SMOOTH

        return self._checked_sums(SMOOTH, weights, pairs)

    def best(self) -> tuple[Ints, Floats]:
        """Return ``(B, T)`` most probable states and ``(B,)`` their scores."""
        from pgnn.inference.chains.kernels import (
            FEW,
            LANES,
            MAX_STATES_WITH_ORIGINS,
            best_rows,
            best_tiles,
        )

        B, T, K = self.tensors.field.shape
        states, scores, logs = np.full((B, T), -1), np.zeros(B), self.logs
        P, kind = logs.transition.shape[3], logs.log_field.dtype

        def run_rows(rows: Ints, stop: Stop) -> None:
            few = P == FEW and logs.transition.shape[1] == 1
            room = np.empty(T * P, kind), np.empty(T * P * few, np.uint8)
            best_rows(logs, rows, states, scores, *room, stop)

        def run_tiles(tiles: Ints, stop: Stop) -> None:
            size, width, noted = K * tiles.shape[1], tiles.shape[1], K <= MAX_STATES_WITH_ORIGINS
            reach = np.empty((2 if noted else T) * size, kind)
            origins, path = np.empty(T * size * noted, np.uint8), np.empty(T * width, np.uint8)
            room = np.empty(size, kind), np.empty(LANES, kind), *np.empty((2, width), np.int64)
            best_tiles(logs, tiles, states, scores, reach, origins, path, *room, stop)

        tiles, rest = self._tiles(self.rows, K <= _STATES_OF_A_BYTE)
        in_threads(run_tiles, tiles, self._cost(tiles.size))
        in_threads(run_rows, rest, self._cost(len(rest)))
        return states, scores

    def best_k(self, k: int) -> tuple[Ints, Floats]:
        """Return ``(B, k, T)`` most probable paths and ``(B, k)`` their scores."""
        from pgnn.inference.chains.kernels import best_k_rows

        B, T, K = self.tensors.field.shape
        states, scores = np.full((B, k, T), -1), np.full((B, k), -math.inf)
        scores[self.lengths == 0, 0] = 0.0
        logs = _in_doubles(self.logs)

        def work(rows: Ints, stop: Stop) -> None:
            room = np.empty(2 * K * k), np.empty(T * K * k, dtype=np.int64)
            best_k_rows(logs, k, rows, states, scores.reshape(-1), *room, stop)

        in_threads(work, self.rows, self._cost(len(self.rows)) * k)
        return states, scores

    def sample(self, n: int, seed: int) -> Ints:
        """Return ``(n, B, T)`` exact draws."""
        from pgnn.inference.chains.kernels import FILTER, draw_rows

        B, T, K = self.tensors.field.shape
        states = repeated(np.full((B, T), -1), n)
        sums = self._empty(FILTER)
        self._sum(sums, FILTER, self.rows)
        with np.errstate(divide="ignore"):
            log_alpha = np.log(sums.states.astype(np.float64))
        doubtful = self._doubtful(sums)
        if len(doubtful):
            replaced = self._from_logs(FILTER, doubtful)
            log_alpha[doubtful], sums.log_z[doubtful] = replaced.states, replaced.log_z
        logs = _in_doubles(self.logs)
        possible = self.rows[sums.log_z[self.rows] > -math.inf]

        def work(rows: Ints, stop: Stop) -> None:
            draw_rows(logs, log_alpha, rows, np.uint64(seed), states, np.empty(K), stop)

        in_threads(work, possible, self._cost(len(possible)) * n)
        return states

    def _cost(self, rows: int) -> float:
        """Estimate the nanoseconds of a pass over a number of rows."""
        _, T, K = self.tensors.field.shape
        return rows * T * K * (K + 4.0)

    def _part(self, rows: Ints) -> ChainTensors:
        return self.tensors.at(torch.from_numpy(rows))

    def _empty(self, mode: int, pairs: tuple[int, int] | None = None) -> PathSums:
        from pgnn.inference.chains.kernels import FILTER, FORWARD, PathSums

        (B, T, K), kind = self.tensors.field.shape, self.logs.log_field.dtype
        return PathSums(
            log_z=np.zeros(B),
            trust=np.ones(B),
            states=np.zeros((0, 0, 0) if mode == FORWARD else (B, T, K), kind),
            increments=np.zeros((B, T) if mode == FILTER else (0, 0)),
            pairs=np.zeros((0, 0, 0, 0) if pairs is None else (*pairs, K, K + -K % 4), kind),
        )

    def _sum(self, sums: PathSums, mode: int, rows: Ints, weights: Floats | None = None) -> None:
        """Run the kernels without checking for underflow."""
        from pgnn.inference.chains.kernels import LANES, PAIRS, SMOOTH, STEPS, sum_rows, sum_tiles

        numbers, dense = self.numbers, self._dense
        (B, T, K), kind = self.tensors.field.shape, numbers.log_field.dtype
        P, weight = numbers.transition.shape[3], np.ones(B) if weights is None else weights
        tiles, rest = self._tiles(rows, len(sums.pairs) < 2)

        def run_rows(rows: Ints, stop: Stop) -> None:
            alpha = sums.states.reshape(-1)
            if mode != SMOOTH or P != K:
                alpha = np.empty((T if mode == SMOOTH else 2) * P, kind)
            room = np.empty(STEPS * P, kind), np.empty(STEPS), alpha
            ahead = np.empty((1 + 2 * PAIRS) * P, kind)
            with _thread_pairs(sums) as thread_sums:
                sum_rows(numbers, thread_sums, mode, dense, rows, weight, *room, ahead, stop)

        def run_tiles(tiles: Ints, stop: Stop) -> None:
            size = K * tiles.shape[1]
            room = np.empty(T * size, kind), np.empty(T * size, kind), np.empty(2 * size, kind)
            lanes = np.empty(LANES, kind), np.empty(LANES), np.empty(tiles.shape[1], np.int64)
            with _thread_pairs(sums) as thread_sums:
                sum_tiles(numbers, thread_sums, mode, dense, tiles, weight, *room, *lanes, stop)

        in_threads(run_tiles, tiles, self._cost(tiles.size))
        in_threads(run_rows, rest, self._cost(len(rest)))

    def _tiles(self, rows: Ints, together: bool) -> tuple[Ints, Ints]:
        """Split rows into tiles of similar length, padded with -1, and rows outside all tiles."""
        from pgnn.inference.chains.kernels import WIDTH

        _, T, K = self.tensors.field.shape
        room = 2 * T * K * WIDTH * self.logs.log_field.itemsize
        if len(self.logs.transition) > 1 or not together or room > _ROOM:
            return np.zeros((0, WIDTH), np.int64), rows
        ordered = rows[np.argsort(-self.lengths[rows], kind="stable")]
        num = len(rows) // WIDTH + (len(rows) % WIDTH >= _WORTH)
        tiles = np.full(num * WIDTH, -1)
        inside = ordered[: num * WIDTH]
        tiles[: len(inside)] = inside
        return tiles.reshape(num, WIDTH), ordered[num * WIDTH :]

    def _checked_sums(
        self, mode: int, weights: Floats | None = None, pairs: tuple[int, int] | None = None
    ) -> PathSums:
        """Run the scaled kernel, then the log-space kernel for rows affected by underflow."""
        sums = self._empty(mode, pairs)
        self._sum(sums, mode, self.rows, weights)
        doubtful = self._doubtful(sums)
        if len(doubtful) and sums.pairs.size and len(sums.pairs) == 1:
            sums = self._empty(mode, pairs)  # the sum includes the doubtful rows
            self._sum(sums, mode, np.setdiff1d(self.rows, doubtful), weights)
        if sums.pairs.size:
            with np.errstate(invalid="ignore"):  # doubtful rows are replaced below
                sums.pairs[...] *= self.numbers.transition
        if len(doubtful):
            self._replace(sums, self._from_logs(mode, doubtful, weights, pairs), doubtful)
        return sums._replace(pairs=sums.pairs[..., : self.tensors.num_states])

    def _from_logs(
        self,
        mode: int,
        rows: Ints,
        weights: Floats | None = None,
        pairs: tuple[int, int] | None = None,
    ) -> PathSums:
        """Compute the sums of the given rows in log space and float64; ``states`` are logs."""
        from pgnn.inference.chains.kernels import sum_rows_of_logs

        part = CpuChain(self._part(rows))
        B, T, K = part.tensors.field.shape
        shape = pairs if pairs is None or pairs[0] == 1 else (B, pairs[1])
        sums = part._empty(mode, shape)
        weight = np.ones(B) if weights is None else weights[rows]
        P = K + -K % 4
        room = np.empty(T * P), np.empty(2 * P), np.empty(P)
        everything = np.arange(B)

        def work(stop: Stop) -> None:
            sum_rows_of_logs(part.logs, sums, mode, everything, weight, *room, stop)

        interruptible([work], cost=_LOGS * part._cost(B))
        return sums

    def _replace(self, sums: PathSums, replacement: PathSums, rows: Ints) -> None:
        sums.log_z[rows] = replacement.log_z
        if sums.states.size:
            inside = np.arange(sums.states.shape[1]) < self.lengths[rows, None]
            sums.states[rows] = np.where(inside[:, :, None], np.exp(replacement.states), 0.0)
        if sums.increments.size:
            sums.increments[rows] = replacement.increments
        if sums.pairs.shape[0] > 1:
            sums.pairs[rows] = replacement.pairs
        elif sums.pairs.size:
            sums.pairs[...] += replacement.pairs

    @cached_property
    def _dense(self) -> bool:
        """Whether all transitions are probable enough for underflow to be harmless."""
        transition = self.numbers.transition
        least = transition[..., : self.tensors.num_states].min(initial=1.0)
        return bool(least > _DENSE[transition.dtype])

    def _doubtful(self, sums: PathSums) -> Ints:
        """Return the rows whose sums may be affected by underflow."""
        trusted = sums.trust[self.rows] >= _SAFE[self.logs.log_field.dtype]
        return self.rows[~trusted]


@contextmanager
def _thread_pairs(sums: PathSums) -> Iterator[PathSums]:
    """Give a thread separate sums, and add them to the shared ones at the end."""
    if len(sums.pairs) != 1:
        yield sums
        return
    thread_pairs = np.zeros_like(sums.pairs)
    yield sums._replace(pairs=thread_pairs)
    with _LOCK:
        sums.pairs[...] += thread_pairs


def _padded(matrices: Floats) -> Floats:
    """Append columns of ``-inf`` up to a multiple of four."""
    K = matrices.shape[3]
    padded = np.full((*matrices.shape[:3], K + -K % 4), -np.inf, matrices.dtype)
    padded[..., :K] = matrices
    return padded


def _array(tensor: Tensor) -> Floats:
    """Return a tensor as a contiguous array."""
    return np.ascontiguousarray(tensor.numpy())


def _scaled(logs: Floats, axes: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Exponentiate tables divided by their largest entries; also return the logs of these."""
    top = np.max(logs, axis=axes, initial=-np.inf, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top).astype(logs.dtype)
    scale = top.reshape(logs.shape[: logs.ndim - len(axes)]).astype(np.float64)
    return np.exp(logs - top), scale


def _in_doubles(logs: Potentials) -> Potentials:
    """Return the same potentials in float64."""
    if logs.log_field.dtype == np.float64:
        return logs
    return logs._replace(
        initial=logs.initial.astype(np.float64),
        transition=logs.transition.astype(np.float64),
        turned=logs.turned.astype(np.float64),
        log_field=logs.log_field.astype(np.float64),
    )
