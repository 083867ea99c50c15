"""Runs the kernels of chains whose transitions are listed."""

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
_LOGS = 30.0  # how much longer a pass with logs takes
MAX_ROOM = 2**31
"""Most bytes that the messages of rows side by side may take."""


class EdgeRows(NamedTuple):
    """Where rows stand among all steps."""

    starts: Ints
    """``(B,)`` first step of each."""
    lengths: Ints
    """``(B,)``."""

    @property
    def inside(self) -> Ints:
        """The steps of all rows, row after row."""
        before = self.lengths.cumsum() - self.lengths
        number = np.arange(int(self.lengths.sum()))
        return number + np.repeat(self.starts - before, self.lengths)


class EdgeChain:
    r"""Sums over paths and best paths along the transitions that there are, in float64.

    As :class:`CpuChain` does it, rows in which numbers that were lost might matter are computed
    again from logs. Answers are about labels.

    Args:
        edges: The transitions.
        rows: Where the rows stand.
        begins: ``(K,)`` scores of first labels.
        scores: ``(E,)`` scores of the transitions.
        field: ``(N, K)`` scores of labels at each step.

    Raises:
        Intractable: If the messages of some rows would take too much memory.

    Cost: :math:`O(N E)`; memory for the messages of the longest row, side by side with others.
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
        """The numbers as they are."""
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
        """Potentials as numbers, divided by their largest; the field as logs."""
        logs = self.logs
        return logs._replace(
            initial=np.exp(logs.initial - self.scales[0]),
            may_end=self.edges.may_end.astype(np.float64),
            into=np.exp(logs.into - self.scales[1]),
            out_of=np.exp(logs.out_of - self.scales[1]),
        )

    @cached_property
    def scales(self) -> tuple[float, float]:
        """The logs of what initial and transition potentials were divided by."""
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
            sums.log_z[doubtful] = self._trusted(SMOOTH, rows=doubtful).log_z[doubtful]
        return sums.log_z

    def filtered(self) -> tuple[Floats, Floats]:
        """Return ``(N, K)`` p(z_t | x_1..t) and ``(N,)`` log p(x_t | x_<t)."""
        from pgnn.inference.chains.kernels import FILTER

        sums = self._trusted(FILTER)
        return sums.labels[0], sums.increments

    def smooth(self, weights: Floats | None = None, counted: bool = False) -> EdgeSums:
        """Return log Z, marginals and, where asked for, expected transitions.

        Args:
            weights: ``(B,)`` what rows count in the transitions.
            counted: Whether they are.
        """
        from pgnn.inference.chains.kernels import SMOOTH

        return self._trusted(SMOOTH, weights, counted)

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
        """Return ``(k, N)`` most probable labels, -1 where there are not so many; ``(B, k)``."""
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
        """Return ``(n, N)`` exact draws, -1 in impossible rows.

        Also possible rows whose numbers are too small for that, of which nothing is drawn.
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

    # --- the work -----------------------------------------------------------------------------

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
            own = sums._replace(counts=np.zeros_like(sums.counts))
            counts.append(own.counts)
            sum_edge_tiles(self.numbers, own, mode, self._spread, tiles, weight, *room, *back,
                           np.empty(2 * size), *lanes, stop)  # fmt: skip

        tiles = self._tiles(rows)
        in_threads(work, tiles, self._cost(tiles.size) * (3 if smooth else 1))
        for part in counts:
            sums.counts[...] += part
        initial, moves = self.scales
        sums.log_z[rows] += initial + moves * (self.rows.lengths[rows] - 1)
        if len(sums.increments):
            sums.increments[self.rows.inside] += moves
            sums.increments[self.rows.starts[self.present]] += initial - moves

    def _trusted(
        self,
        mode: int,
        weights: Floats | None = None,
        counted: bool = False,
        rows: Ints | None = None,
    ) -> EdgeSums:
        """Run the kernel, and the one that computes with logs for the rows that need it."""
        present = self.present if rows is None else rows
        sums = self._empty(mode, counted)
        self._sum(sums, mode, present, weights)
        doubtful = self._doubtful(sums, present)
        if len(doubtful) and counted:
            sums = self._empty(mode, counted)  # what the doubtful rows counted is in the sum
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
        """Rows of similar length side by side, -1 for none."""
        from pgnn.inference.chains.kernels import WIDTH

        ordered = rows[np.argsort(-self.rows.lengths[rows], kind="stable")]
        tiles = np.full(-(-len(rows) // WIDTH) * WIDTH, -1)
        tiles[: len(rows)] = ordered
        return tiles.reshape(-1, WIDTH)

    def _cost(self, rows: int) -> float:
        """About how many nanoseconds a pass over so many rows takes."""
        return rows * self.steps * (len(self.edges) / 8 + 4.0 * self.edges.num_labels)

    @cached_property
    def _spread(self) -> float:
        sources = self.edges.sources[self.edges.outgoing.order]
        return float(np.bincount(sources, self.numbers.out_of, 1).max())

    def _doubtful(self, sums: EdgeSums, rows: Ints | None = None) -> Ints:
        """Rows in which numbers that were lost might have mattered."""
        asked = self.present if rows is None else rows
        return asked[~(sums.trust[asked] >= _SAFE)]

    def _check_room(self, numbers: int) -> None:
        check_size(f"messages of {self.edges.num_states:,} states over {self.steps:,} steps",
                   numbers, MAX_ROOM, "Give a smaller order, or shorter rows")  # fmt: skip
