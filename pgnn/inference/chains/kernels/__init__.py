"""Compiled kernels of chains: sums over paths, best paths and draws, for many rows at once.

The names imported here are the interface of this package. Every kernel takes the
:class:`Potentials` of a chain, writes its results into arrays allocated by the caller (a kernel
allocates and returns nothing), takes scratch arrays whose sizes its docstring states, and processes
a list of rows or tiles, so that threads can divide the list among themselves.

**Layout.** Potentials are exponentiated and divided by the largest one; messages are normalised at
every step, and the logs of the normalisers are summed. Vector registers are filled in two ways:

* *by rows*: one row after another; vectors run over the states of a step. Matrices are padded with
  ``-inf`` (or zeros) from ``K`` to ``P`` columns, the next multiple of four. Used for few rows, and
  for rows with different transition tables.
* *by tiles*: ``WIDTH`` rows of similar length together; vectors run over the rows of the tile. A
  message is ``(K, WIDTH)``, so fields are transposed when they are loaded and marginals when they
  are stored. Used for many rows that share their transitions.

Plain loops in numba are 2-8 times slower: the compiler stores and loads every partial sum and does
not vectorise the exponential. The innermost products are therefore numba intrinsics, written in
LLVM instructions; each is a function of arrays and positions in them.

**Files**, from the entry points down to the instructions:

=====================  =============================================================================
``row_messages``       Forward and backward messages by rows: ``sum_rows``.
``tile_messages``      The same by tiles: ``sum_tiles``.
``alignment_messages`` Sums over the alignments of labels with steps: ``align_rows``.
``log_messages``       The same in log space, for rows whose numbers underflow.
``edge_messages``      Forward and backward messages of sparse chains, by tiles:
                       ``sum_edge_tiles``; log space in ``edge_log_messages``, paths in
                       ``edge_paths``, innermost products in ``edge_products``.
``segment_messages``   Messages of segment chains, in log space: ``sum_segments``.
``row_paths``          By rows: best path (Viterbi), ``k`` best paths, exact draws.
``tile_paths``         Best paths by tiles.
``row_steps``          Operations on a row at a step: emit, normalise, meet (vectors of states).
``tile_steps``         The same operations on a tile (vectors of rows).
``back_pointers``      Maxima with back pointers, and the walk along these.
``argmax``             The largest of many numbers, and its index.
``attribute_messages`` Likelihood of labels given attributes, and its gradient: ``sum_sequences``;
                       best labels and perceptron updates are in ``attribute_corrections``.
``row_gathers``        Sums of indexed rows of a table.
``transposes``         Loads and stores of tiles, with transposition.
``vector_registers``   Small matrix products with sums in registers; loads and stores.
``arrays``             Arguments of kernels (``Potentials``, ``PathSums``); the exponential.
=====================  =============================================================================

``PathSums.trust`` marks the rows that may be affected by underflow; the caller computes those again
by ``sum_rows_of_logs``.
"""

from pgnn.inference.chains.kernels.arrays import PathSums, Potentials
from pgnn.inference.chains.kernels.back_pointers import FEW
from pgnn.inference.chains.kernels.edge_log_messages import sum_edge_rows_of_logs
from pgnn.inference.chains.kernels.edge_messages import (
    COUNTED,
    EDGE_LANES,
    EdgePotentials,
    EdgeSums,
    sum_edge_tiles,
)
from pgnn.inference.chains.kernels.edge_paths import (
    best_edge_tiles,
    best_k_edge_rows,
    draw_edge_tiles,
)
from pgnn.inference.chains.kernels.log_messages import sum_rows_of_logs
from pgnn.inference.chains.kernels.row_messages import (
    FILTER,
    FORWARD,
    PAIRS,
    SMOOTH,
    STEPS,
    sum_rows,
)
from pgnn.inference.chains.kernels.row_paths import best_k_rows, best_rows, draw_rows
from pgnn.inference.chains.kernels.segment_messages import (
    SegmentPotentials,
    SegmentSums,
    sum_segments,
)
from pgnn.inference.chains.kernels.tile_messages import sum_tiles
from pgnn.inference.chains.kernels.tile_paths import MAX_STATES_WITH_ORIGINS, best_tiles
from pgnn.inference.chains.kernels.tile_steps import LANES
from pgnn.inference.chains.kernels.vector_registers import WIDTH

__all__ = [
    "COUNTED",
    "EDGE_LANES",
    "FEW",
    "FILTER",
    "FORWARD",
    "LANES",
    "MAX_STATES_WITH_ORIGINS",
    "PAIRS",
    "SMOOTH",
    "STEPS",
    "WIDTH",
    "EdgePotentials",
    "EdgeSums",
    "PathSums",
    "Potentials",
    "SegmentPotentials",
    "SegmentSums",
    "best_edge_tiles",
    "best_k_edge_rows",
    "best_k_rows",
    "best_rows",
    "best_tiles",
    "draw_edge_tiles",
    "draw_rows",
    "sum_edge_rows_of_logs",
    "sum_edge_tiles",
    "sum_rows",
    "sum_rows_of_logs",
    "sum_segments",
    "sum_tiles",
]
