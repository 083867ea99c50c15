r"""Exact inference by bucket elimination in torch, in log space, for a whole batch at once.

The variables of an order are eliminated one by one: the log tables that contain a variable are
added and reduced over it. Answers come from reverse-mode differentiation of the final value, or
from a backward pass over the buckets. This is the executor for GPUs, for derivatives of any order,
and for tables whose entries underflow in probability units.

All functions identify variables by index: ``order`` lists those to eliminate, every other variable
of a factor is ``sliced``, that is, observed in every row. A variable that is observed only in some
rows stays in the order. ``used`` excludes factors that cannot affect the result. Rows of
probability zero have ``log_z = -inf`` and marginals of zeros; no value is ever ``NaN``.

References:
    Dechter (1999), Bucket elimination: a unifying framework for reasoning, sections 4-6.
    Darwiche (2003), A differential approach to inference in Bayesian networks, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pgnn.factors.randomness import generator
from pgnn.inference.exact.torch_elimination import Choose, Elimination, Step, Table
from pgnn.inference.exact.torch_tables import Codes, ObservedTables, numbers, observed_tables
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.semiring import MAX, SUM, Reduction, draw

MAX_BYTES = 2**30
"""Default limit of the memory of the row-wise tables of a chunk of a batch."""


def log_partition(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    reduction: Reduction = SUM,
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    r"""Return :math:`\log \sum_x \prod_f \phi_f(x_f)` over all states that fit the evidence.

    Differentiable to any order with respect to the factors' log values and the unary tables.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        reduction: The reduction over each variable, a sum if not given.
        sliced: Variables observed in every row: indices, or a mask ``(V,)``.
        used: Factors to use: indices, or a mask ``(F,)``; all if not given.
        max_bytes: The batch is split into chunks whose tables take about this much memory.

    Returns:
        ``(B,)`` logs; ``-inf`` in impossible rows.

    Raises:
        EvidenceError: If evidence does not fit the graph.
        ValueError: If ``order`` and ``sliced`` do not cover the factors' variables once each.

    Cost: ``O(sum over the order of the product of the state counts in each bucket)`` per row.
    """
    tables = observed_tables(graph, order, codes, unary, sliced, used)
    steps = [Step(v, reduction) for v in tables.order]
    return torch.cat([_log_z(p, _upward(p, steps)) for p in tables.pieces(max_bytes)])


def marginals(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    wanted: Sequence[int] = (),
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    create_graph: bool = False,
    max_bytes: int = MAX_BYTES,
) -> tuple[Tensor, Tensor]:
    r"""Return posterior marginals: derivatives of :math:`\log Z` with respect to unary log tables.

    Also works under ``no_grad``.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        wanted: Variables whose marginals are wanted, eliminated or sliced.
        sliced: Variables observed in every row: indices, or a mask ``(V,)``.
        used: Factors to use: indices, or a mask ``(F,)``; all if not given.
        create_graph: Whether the results are differentiable.
        max_bytes: The batch is split into chunks whose tables take about this much memory.

    Returns:
        ``(B, S)`` probabilities, the states of the wanted variables concatenated, and ``(B,)`` log
        evidence. Impossible rows are zeros and ``-inf``.

    Raises:
        EvidenceError, ValueError: See :func:`log_partition`.

    Cost: about four times :func:`log_partition`.
    """
    scopes = [(int(v),) for v in wanted]
    with _differentiable():
        tables = observed_tables(graph, order, codes, unary, sliced, used, detach=not create_graph)
        posteriors, log_z = _beliefs(tables, scopes, create_graph, max_bytes)
        empty = tables.zeros((), 0).values.expand(tables.num_rows, 0)
        return torch.cat([empty, *posteriors], dim=1), log_z


def beliefs(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    factors: Sequence[int] = (),
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    create_graph: bool = False,
    max_bytes: int = MAX_BYTES,
) -> list[Tensor]:
    """Return the joint posterior of the variables of some factors.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        factors: Indices of the factors.
        sliced: Variables observed in every row: indices, or a mask ``(V,)``.
        used: Factors to use: indices, or a mask ``(F,)``; all if not given.
        create_graph: Whether the results are differentiable.
        max_bytes: The batch is split into chunks whose tables take about this much memory.

    Returns:
        ``(B, *shape)`` probabilities for each factor, with the factor's axes, including observed
        variables; zeros in impossible rows.

    Raises:
        EvidenceError, ValueError: See :func:`log_partition`.
    """
    scopes = [graph.scopes[f] for f in factors]
    with _differentiable():
        tables = observed_tables(graph, order, codes, unary, sliced, used, detach=not create_graph)
        return _beliefs(tables, scopes, create_graph, max_bytes)[0]


@torch.no_grad()
def most_probable(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    maximized: Iterable[int] | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[Tensor, Tensor]:
    r"""Return :math:`\arg\max_x \sum_y \prod_f \phi_f` and the log of the maximum.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, those that are summed out first.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        sliced: Variables observed in every row: indices, or a mask ``(V,)``.
        used: Factors to use: indices, or a mask ``(F,)``; all if not given.
        maximized: Variables to maximise over, indices or a mask ``(V,)``; all others of the order
            are summed out. By default all are maximised over.
        max_bytes: The batch is split into chunks whose tables take about this much memory.

    Returns:
        ``(B, V)`` int64 states, and ``(B,)`` logs. Observed variables keep their codes; variables
        that were summed out are -1. The states of impossible rows are undefined.

    Raises:
        EvidenceError: See :func:`log_partition`.
        ValueError: See :func:`log_partition`; also if a variable is summed out after a
            maximisation.
    """
    tables = observed_tables(graph, order, codes, unary, sliced, used)
    order = tables.order
    chosen = set(order if maximized is None else numbers(maximized))
    first = next((k for k, v in enumerate(order) if v in chosen), len(order))
    late = [tables.graph.variables[v].name for v in order[first:] if v not in chosen]
    if late:
        raise ValueError(f"{late} are summed out after a maximisation; put them first in the order")
    steps = [Step(v, MAX if k >= first else SUM) for k, v in enumerate(order)]
    states, tops = [], []
    for piece in tables.pieces(max_bytes):
        done = _upward(piece, steps)
        states.append(_walk_back(piece, done, first, 1, _best))
        tops.append(_log_z(piece, done))
    return torch.cat(states), torch.cat(tops)


@torch.no_grad()
def upper_bound(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    maximized: Iterable[int] = (),
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    r"""Return ``(B,)`` upper bounds on the log values of :func:`most_probable`, for any order.

    Where a maximum is taken before a sum, :math:`\sum_y \max_x \ge \max_x \sum_y`.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in any order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: Log-likelihoods of some variables.
        sliced: Variables observed in every row.
        used: Factors to use.
        maximized: Variables to maximise over; all others of the order are summed out.
        max_bytes: The batch is split into chunks whose tables take about this much memory.

    References:
        Park and Darwiche (2003), Solving MAP exactly using systematic search.
    """
    tables = observed_tables(graph, order, codes, unary, sliced, used)
    chosen = set(numbers(maximized))
    steps = [Step(v, MAX if v in chosen else SUM) for v in tables.order]
    return torch.cat([_log_z(p, _upward(p, steps)) for p in tables.pieces(max_bytes)])


@torch.no_grad()
def sample(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    n: int = 1,
    seed: int | None = None,
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """Return exact samples from the joint posterior of all variables.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        n: Number of samples per row.
        seed: Random seed; the same seed gives the same samples on every device, however the batch
            is split. Global random state is not used.
        sliced: Variables observed in every row: indices, or a mask ``(V,)``.
        used: Factors to use: indices, or a mask ``(F,)``; all if not given.
        max_bytes: The batch is split into chunks whose tables take about this much memory.

    Returns:
        ``(n, B, V)`` int64 states; observed variables keep their codes, variables that are neither
        in the order nor observed are -1. The states of impossible rows are undefined.

    Raises:
        EvidenceError, ValueError: See :func:`log_partition`.

    Cost: one :func:`log_partition`, and ``O(K)`` per variable and sample.
    """
    tables = observed_tables(graph, order, codes, unary, sliced, used)
    chance = generator(seed)
    shape = (len(tables.order), n, tables.num_rows)
    uniform = torch.rand(shape, dtype=torch.float64, generator=chance).to(tables.codes.device)
    drawn, start = [], 0
    for piece in tables.pieces(max_bytes):
        done = _upward(piece, [Step(v, SUM) for v in piece.order])
        numbers_of_piece = uniform[:, :, start : start + piece.num_rows].flatten(1)
        states = _walk_back(piece, done, 0, n, partial(_drawn, numbers_of_piece))
        drawn.append(states.reshape(n, piece.num_rows, states.shape[1]))
        start += piece.num_rows
    return torch.cat(drawn, dim=1)


def _upward(
    piece: ObservedTables, steps: Sequence[Step], extra: Iterable[Table] = ()
) -> Elimination:
    """Eliminate the variables in order; a variable in no table has a table of ones."""

    def ones(variable: Any) -> Table:
        return piece.zeros((variable,), 1)

    return Elimination.of(piece.observed(extra), steps, ones, piece.num_rows)


def _log_z(piece: ObservedTables, done: Elimination) -> Tensor:
    """``(B,)`` the log of the product of the remaining tables."""
    constants = [piece.zeros((), 1).values, *(table.values for table in done.left)]
    log_z = torch.stack([c.expand(piece.num_rows) for c in constants]).sum(0)
    # The value of an impossible row is constant: the fill stops its gradient.
    return log_z.masked_fill(log_z == -math.inf, -math.inf)


def _walk_back(
    piece: ObservedTables, done: Elimination, first: int, copies: int, choose: Choose
) -> Tensor:
    """``(copies * B, V)`` states chosen from the last step to step ``first``, copy by copy."""
    states = piece.codes.clamp(min=-1).T.repeat(1, copies)
    rows = torch.arange(piece.num_rows, device=states.device).repeat(copies)
    chosen = done.walk_back(dict(enumerate(states)), rows, choose, first)
    for v in piece.order[first:]:
        states[v] = chosen[v]
    return states.T


def _beliefs(
    tables: ObservedTables, scopes: Sequence[Sequence[int]], create_graph: bool, max_bytes: int
) -> tuple[list[Tensor], Tensor]:
    """Return joint posteriors over the scopes, rows first, from one backward pass per chunk."""
    parts, logs = [], []
    for piece in tables.pieces(max_bytes, scopes):
        units = [piece.zeros(scope, piece.num_rows) for scope in scopes]
        values = [unit.values.requires_grad_() for unit in units]
        log_z = _log_z(piece, _upward(piece, [Step(v, SUM) for v in piece.order], units))
        logs.append(log_z if create_graph else log_z.detach())
        grads = (
            torch.autograd.grad(log_z.sum(), values, create_graph=create_graph) if values else ()
        )
        parts.append([_normalised(g.movedim(-1, 0)) for g in grads])
    return [torch.cat(belief) for belief in zip(*parts, strict=True)], torch.cat(logs)


def _best(_: int, logs: Tensor) -> Tensor:
    return logs.argmax(0)


def _drawn(uniform: Tensor, k: int, logs: Tensor) -> Tensor:
    return draw(logs, uniform[k], 0)


def _normalised(table: Tensor) -> Tensor:
    """Return rows normalised to one; rows of zeros are unchanged."""
    total = table.flatten(1).sum(1) if table.dim() > 1 else table
    total = total.masked_fill(total == 0, 1.0)
    return table / total.reshape([-1] + [1] * (table.dim() - 1))


@contextmanager
def _differentiable() -> Iterator[None]:
    """A context in which gradients are enabled, even if the caller has disabled them."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
