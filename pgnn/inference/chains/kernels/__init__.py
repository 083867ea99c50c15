"""Compiled kernels of chains: sums over paths, best paths and draws, for many rows at once.

What is imported here is all that the rest of pgnn calls (:class:`~pgnn.inference.chains.cpu_chain.
CpuChain` and :class:`~pgnn.inference.chains.segment_chain.SegmentChain` do). Every kernel takes a
chain's :class:`Potentials`, writes into arrays that the caller made (a kernel allocates nothing and
returns nothing), takes scratch arrays whose sizes its docstring tells, and works on the rows or
tiles it is told to, so that threads share the work by sharing these numbers out.

**Layout.** Potentials are exponentiated and divided by their largest; a message is normalised at
every step, and the logs of what it was divided by are added up. There are two ways to fill vector
registers:

* *by rows*: one row after another, the vector runs over the states of a step. Matrices are padded
  with ``-inf`` (or zeros) from ``K`` to ``P`` columns, the next multiple of four. For few rows, or
  rows with transitions of their own.
* *by tiles*: ``WIDTH`` rows of similar length side by side, the vector runs over the rows of the
  tile. A message is ``(K, WIDTH)``, so that a step's fields are transposed on their way in and its
  marginals on their way out. For many rows that share their transitions.

Plain loops in numba are 2-8 times slower than this: the compiler stores and loads every partial sum
and does not vectorise the exponential. So the innermost products are written in LLVM instructions
(numba intrinsics), each a function of arrays and of positions in them.

**Files**, from the calls to the instructions:

=====================  =============================================================================
``row_messages``       Forward and backward messages by rows: ``sum_rows``.
``tile_messages``      The same by tiles: ``sum_tiles``.
``alignment_messages`` Sums over the alignments of labels with steps: ``align_rows``.
``log_messages``       The same in logs, for rows whose numbers leave the range of floating point.
``edge_messages``      Forward and backward messages along listed transitions, by tiles:
                       ``sum_edge_tiles``; in logs ``edge_log_messages``, paths ``edge_paths``,
                       the innermost products ``edge_products``.
``segment_messages``   Messages of segment chains, in logs: ``sum_segments``.
``row_paths``          By rows: best path (Viterbi), ``k`` best paths, exact draws.
``tile_paths``         Best paths by tiles.
``row_steps``          What is done to a row at a step: emit, normalise, meet (vectors of states).
``tile_steps``         What is done to a tile at a step (vectors of rows).
``back_pointers``      Largest sums together with the states they come from, and following these.
``argmax``             The largest of many numbers, and where it stands.
``attribute_messages`` Likelihood of labels that attributes tell, and gradient: ``sum_sequences``;
                       best labels, and steps of perceptrons are ``attribute_corrections``.
``row_gathers``        Sums of rows of a table that numbers point at.
``transposes``         Steps of many rows into a tile and back.
``vector_registers``   Small matrix products that keep their sums in registers; loads and stores.
``arrays``             What kernels read and write (``Potentials``, ``PathSums``); the exponential.
=====================  =============================================================================

A number too small to be held is lost. ``PathSums.trust`` tells in which rows that might matter;
the caller has ``sum_rows_of_logs`` compute those again.
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
