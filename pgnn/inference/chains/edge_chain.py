"""Sparse chains on the CPU, computed by compiled kernels."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.chains.chain_edges import ChainEdges
from pgnn.inference.threads import Stop, in_threads, interruptible
from pgnn.limits import check_size

if TYPE_CHECKING:
    from pgnn.inference.chains.kernels import EdgePotentials, EdgeSums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SAFE = 1e-250
_LOGS = 30.0  # cost of a pass in log space, relative to one with scaled numbers
MAX_ROOM = 2**31
"""Most bytes of the messages of a tile."""


class EdgeRows(NamedTuple):
    """Positions of the rows in the concatenated steps."""

    starts: Ints
    """``(B,)`` first step of each row."""
    lengths: Ints
    """``(B,)`` length of each row."""

    @property
    def inside(self) -> Ints:
        """Indices of the steps of all rows, row after row."""
        before = self.lengths.cumsum() - self.lengths
        number = np.arange(int(self.lengths.sum()))
        return number + np.repeat(self.starts - before, self.lengths)


class EdgeChain:
    r"""Sums over paths, best paths and draws of a sparse chain, in float64.

    Rows that may be affected by underflow are computed again in log space, as in
    :class:`CpuChain`. Results refer to labels, not to states.

    Args:
        edges: The transitions.
        rows: Positions of the rows.
        begins: ``(K,)`` scores of first labels.
        scores: ``(E,)`` scores of the transitions.
        field: ``(N, K)`` scores of labels at each step.

    Raises:
        Intractable: If the messages of some rows would take too much memory.

    Cost: :math:`O(N E)` time; memory for the messages of one tile of rows.
    """

    def __init__(
        self, edges: ChainEdges, rows: EdgeRows, begins: Floats, scores: Floats, field: Floats
    ) -> None:
        self.edges, self.rows, self.field = edges, rows, np.ascontiguousarray(field)
        self.begins, self.scores = begins, scores
        self.present: Ints = np.flatnonzero(rows.lengths)
        self.steps = int(rows.lengths.max(initial=0))

    @cached_property
    def logs(self) -> EdgePotentials:
        """Log potentials."""
        from pgnn.inference.chains.kernels import EdgePotentials

        edges, incoming, outgoing = self.edges, self.edges.incoming, self.edges.outgoing
        return EdgePotentials(
            np.where(edges.first >= 0, self.begins, -np.inf),
            edges.first,
            edges.spans,
            np.where(edges.may_end, 0.0, -np.inf),
            incoming.begins,
            incoming.others,
            self.scores[incoming.order],
            outgoing.begins,
            outgoing.others,
            self.scores[outgoing.order],
            self.field[None],
            self.rows.starts,
            self.rows.lengths,
        )

    @cached_property
    def numbers(self) -> EdgePotentials:
        """Exponentiated potentials, divided by the largest; the field remains in logs."""
        logs = self.logs
        return logs._replace(
            initial=np.exp(logs.initial - self.scales[0]),
            may_end=self.edges.may_end.astype(np.float64),
            into=np.exp(logs.into - self.scales[1]),
            out_of=np.exp(logs.out_of - self.scales[1]),
        )

    @cached_property
    def scales(self) -> tuple[float, float]:
        """Logs of the largest initial and transition potential, which the others are divided by."""
        tops = (float(x.max(initial=-np.inf)) for x in (self.logs.initial, self.scores))
        initial, moves = (top if top > -math.inf else 0.0 for top in tops)
        return initial, moves

    def log_partition(self) -> Floats:
        """Return ``(B,)`` log Z."""
        from pgnn.inference.chains.kernels import FORWARD, SMOOTH

        sums = self._empty(FORWARD)
        self._sum(sums, FORWARD, self.present)
        doubtful = self._doubtful(sums)
        if len(doubtful):
            sums.log_z[doubtful] = self._checked_sums(SMOOTH, rows=doubtful).log_z[doubtful]
        return sums.log_z

    def filtered(self) -> tuple[Floats, Floats]:
        """Return ``(N, K)`` p(z_t | x_1..t) and ``(N,)`` log p(x_t | x_<t)."""
        from pgnn.inference.chains.kernels import FILTER

        sums = self._checked_sums(FILTER)
        return sums.labels[0], sums.increments

    def smooth(self, weights: Floats | None = None, counted: bool = False) -> EdgeSums:
        """Return log Z, marginals and, if requested, expected transitions.

        Args:
            weights: ``(B,)`` weights of the rows in the expected transitions.
            counted: Whether to compute expected transitions.
        """
        from pgnn.inference.chains.kernels import SMOOTH

        return self._checked_sums(SMOOTH, weights, counted)

    def best(self) -> tuple[Ints, Floats]:
        """Return ``(N,)`` most probable labels, -1 in impossible rows, and ``(B,)`` scores."""
        from pgnn.inference.chains.kernels import EDGE_LANES, WIDTH, best_edge_tiles

        labels, scores = np.full(len(self.field), -1), np.zeros(len(self.rows.starts))
        size, states = self.edges.num_labels * WIDTH, self.edges.num_states * WIDTH
        self._check_room(self.steps * states)

        def work(tiles: Ints, stop: Stop) -> None:
            room = np.empty(self.steps * states), np.empty(size), np.empty(WIDTH)
            best, places = np.empty((2, WIDTH), np.int64)
            best_edge_tiles(self.logs, self.edges.labels, tiles, labels, scores, *room, best,
                            places, np.empty(EDGE_LANES), np.empty(3 * WIDTH), stop)  # fmt: skip

        tiles = self._tiles(self.present)
        in_threads(work, tiles, self._cost(tiles.size))
        return labels, scores

    def best_k(self, k: int) -> tuple[Ints, Floats]:
        """Return ``(k, N)`` most probable labels and ``(B, k)`` scores; -1 for absent paths."""
        from pgnn.inference.chains.kernels import best_k_edge_rows

        labels = np.full((k, len(self.field)), -1)
        scores = np.full((len(self.rows.starts), k), -math.inf)
        scores[self.rows.lengths == 0, 0] = 0.0
        states = self.edges.num_states * k
        self._check_room(self.steps * states)

        def work(rows: Ints, stop: Stop) -> None:
            room = np.empty(2 * states), np.empty(self.steps * states, dtype=np.int64)
            best_k_edge_rows(self.logs, k, self.edges.labels, rows, labels, scores.reshape(-1),
                             *room, stop)  # fmt: skip

        in_threads(work, self.present, self._cost(len(self.present)) * k)
        return labels, scores

    def sample(self, n: int, seed: int) -> tuple[Ints, Ints]:
        """Return ``(n, N)`` exact draws, -1 in impossible rows, and the rows that were not drawn.

        Possible rows whose numbers underflow are returned in place of draws.
        """
        from pgnn.inference.chains.kernels import EDGE_LANES, SMOOTH, WIDTH, draw_edge_tiles

        labels = np.full((n, len(self.field)), -1)
        sums = self._empty(SMOOTH)
        self._sum(sums, SMOOTH, self.present)
        doubtful = self._doubtful(sums)
        drawn = np.setdiff1d(self.present, doubtful)
        size, states = self.edges.num_labels * WIDTH, self.edges.num_states * WIDTH

        def work(tiles: Ints, stop: Stop) -> None:
            messages = np.empty(self.steps * states), np.empty(self.steps * size)
            room = *messages, np.empty(self.edges.num_states), np.empty(2 * size)
            lanes = np.empty(EDGE_LANES), np.empty(3 * WIDTH), np.empty(WIDTH, np.int64)
            draw_edge_tiles(self.numbers, sums, self._spread, np.uint64(seed), self.edges.labels,
                            tiles, labels, *room, *lanes, stop)  # fmt: skip

        tiles = self._tiles(drawn)
        in_threads(work, tiles, self._cost(tiles.size) + float(n * len(self.field)) * 100)
        if len(doubtful):
            self._add_from_logs(sums, SMOOTH, doubtful, None)
        return labels, doubtful[sums.log_z[doubtful] > -math.inf]

    # --- computation ---------------------------------------------------------------------------

    def _empty(self, mode: int, counted: bool = False) -> EdgeSums:
        from pgnn.inference.chains.kernels import FILTER, FORWARD, EdgeSums

        rows, (steps, labels) = len(self.rows.starts), self.field.shape
        return EdgeSums(
            log_z=np.zeros(rows),
            trust=np.ones(rows),
            labels=np.zeros((1, 0 if mode == FORWARD else steps, labels)),
            increments=np.zeros(steps if mode == FILTER else 0),
            counts=np.zeros(len(self.edges) if counted else 0),
        )

    def _sum(self, sums: EdgeSums, mode: int, rows: Ints, weights: Floats | None = None) -> None:
        """Run the kernel without checking for underflow."""
        from pgnn.inference.chains.kernels import (
            COUNTED,
            EDGE_LANES,
            SMOOTH,
            WIDTH,
            sum_edge_tiles,
        )

        size, states = self.edges.num_labels * WIDTH, self.edges.num_states * WIDTH
        smooth = mode == SMOOTH
        steps = self.steps if smooth else 2
        self._check_room((steps + COUNTED) * states)
        weight = np.ones(len(self.rows.starts)) if weights is None else weights
        counts = list[Floats]()

        def work(tiles: Ints, stop: Stop) -> None:
            room = np.empty(steps * states), np.empty(steps * size)
            back = np.empty(states * smooth), np.empty(COUNTED * states * smooth)
            lanes = np.empty(EDGE_LANES), np.empty(3 * WIDTH), np.empty(WIDTH, np.int64)
            thread_sums = sums._replace(counts=np.zeros_like(sums.counts))
            counts.append(thread_sums.counts)
            scratch = *room, *back, np.empty(2 * size), *lanes
            sum_edge_tiles(
                self.numbers, thread_sums, mode, self._spread, tiles, weight, *scratch, stop
            )

        tiles = self._tiles(rows)
        in_threads(work, tiles, self._cost(tiles.size) * (3 if smooth else 1))
        for part in counts:
            sums.counts[...] += part
        initial, moves = self.scales
        sums.log_z[rows] += initial + moves * (self.rows.lengths[rows] - 1)
        if len(sums.increments):
            sums.increments[self.rows.inside] += moves
            sums.increments[self.rows.starts[self.present]] += initial - moves

    def _checked_sums(
        self,
        mode: int,
        weights: Floats | None = None,
        counted: bool = False,
        rows: Ints | None = None,
    ) -> EdgeSums:
        """Run the scaled kernel, then the log-space kernel for rows affected by underflow."""
        present = self.present if rows is None else rows
        sums = self._empty(mode, counted)
        self._sum(sums, mode, present, weights)
        doubtful = self._doubtful(sums, present)
        if len(doubtful) and counted:
            sums = self._empty(mode, counted)  # the sum includes the doubtful rows
            self._sum(sums, mode, np.setdiff1d(present, doubtful), weights)
        sums.counts[...] *= self.numbers.out_of[: len(sums.counts)]
        if len(doubtful):
            self._add_from_logs(sums, mode, doubtful, weights)
        if counted:
            in_order = np.empty_like(sums.counts)
            in_order[self.edges.outgoing.order] = sums.counts
            sums = sums._replace(counts=in_order)
        return sums

    def _add_from_logs(self, sums: EdgeSums, mode: int, rows: Ints, weights: Floats | None) -> None:
        from pgnn.inference.chains.kernels import sum_edge_rows_of_logs

        weight = np.ones(len(self.rows.starts)) if weights is None else weights
        states = self.edges.num_states
        for row in rows if sums.labels.size else []:
            first = self.rows.starts[row]
            sums.labels[0, first : first + self.rows.lengths[row]] = 0.0
        room = np.empty(self.steps * states), *np.empty((3, states))

        def work(stop: Stop) -> None:
            sum_edge_rows_of_logs(
                self.logs, sums, mode, self.edges.labels, rows, weight, *room, stop
            )

        interruptible([work], cost=_LOGS * self._cost(len(rows)))

    def _tiles(self, rows: Ints) -> Ints:
        """Group rows of similar length into tiles, padded with -1."""
        from pgnn.inference.chains.kernels import WIDTH

        ordered = rows[np.argsort(-self.rows.lengths[rows], kind="stable")]
        tiles = np.full(-(-len(rows) // WIDTH) * WIDTH, -1)
        tiles[: len(rows)] = ordered
        return tiles.reshape(-1, WIDTH)

    def _cost(self, rows: int) -> float:
        """Estimate the nanoseconds of a pass over a number of rows."""
        return rows * self.steps * (len(self.edges) / 8 + 4.0 * self.edges.num_labels)

    @cached_property
    def _spread(self) -> float:
        sources = self.edges.sources[self.edges.outgoing.order]
        return float(np.bincount(sources, self.numbers.out_of, 1).max())

    def _doubtful(self, sums: EdgeSums, rows: Ints | None = None) -> Ints:
        """Return the rows whose sums may be affected by underflow."""
        selected = self.present if rows is None else rows
        return selected[~(sums.trust[selected] >= _SAFE)]

    def _check_room(self, numbers: int) -> None:
        check_size(f"messages of {self.edges.num_states:,} states over {self.steps:,} steps",
                   numbers, MAX_ROOM, "Give a smaller order, or shorter rows")  # fmt: skip
