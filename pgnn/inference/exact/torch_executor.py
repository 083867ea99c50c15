r"""Exact answers by bucket elimination in torch, in log space, for a whole batch at once.

Each variable of an order is eliminated in turn: the logs of all tables that contain it are added
and reduced over it. The answers come from reverse-mode differentiation of the final number, or
from walking the buckets backwards. This is the executor for GPUs, for derivatives of any order,
and for tables whose numbers no floating-point type holds in linear units.

All functions take the variables by number: ``order`` has the ones to eliminate, every other
variable of a factor is ``sliced``, that is, observed in every row. A variable that is observed in
some rows stays in the order. Factors that cannot matter are left out by ``used``. Rows of
probability zero have ``log_z = -inf`` and zeros for marginals; nothing is ever ``NaN``.

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
"""Memory that the row-wise tables of one piece of a batch may take by default."""


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

    Differentiable any number of times in the factors' log values and in the unary tables.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        reduction: Sum, or what else is to be done to each variable.
        sliced: Variables observed in every row: numbers, or a mask ``(V,)``.
        used: Factors that count: numbers, or a mask ``(F,)``; all if not given.
        max_bytes: The batch is cut into pieces whose tables take about this much memory.

    Returns:
        ``(B,)`` logs; ``-inf`` in impossible rows.

    Raises:
        EvidenceError: If evidence does not fit the graph.
        ValueError: If ``order`` and ``sliced`` do not cover the factors' variables once each.

    Cost: ``O(sum over the order of the product of the state counts in each bucket)`` a row.
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
    r"""Return posterior marginals, the derivatives of :math:`\log Z` by unary tables of zeros.

    Works under ``no_grad`` too.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        wanted: Variables whose marginals are asked, eliminated or sliced.
        sliced: Variables observed in every row: numbers, or a mask ``(V,)``.
        used: Factors that count: numbers, or a mask ``(F,)``; all if not given.
        create_graph: Whether the results are to be differentiable.
        max_bytes: The batch is cut into pieces whose tables take about this much memory.

    Returns:
        ``(B, S)`` probabilities, the states of the wanted variables side by side, and ``(B,)``
        logs of the evidence's probability. Impossible rows are zeros and ``-inf``.

    Raises:
        EvidenceError, ValueError: As :func:`log_partition`.

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
    """Return the joint posterior of the variables of each asked factor.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        factors: Numbers of the factors.
        sliced: Variables observed in every row: numbers, or a mask ``(V,)``.
        used: Factors that count: numbers, or a mask ``(F,)``; all if not given.
        create_graph: Whether the results are to be differentiable.
        max_bytes: The batch is cut into pieces whose tables take about this much memory.

    Returns:
        ``(B, *shape)`` probabilities for each factor, axes as the factor's, observed variables
        among them; zeros in impossible rows.

    Raises:
        EvidenceError, ValueError: As :func:`log_partition`.
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
        sliced: Variables observed in every row: numbers, or a mask ``(V,)``.
        used: Factors that count: numbers, or a mask ``(F,)``; all if not given.
        maximized: Variables to maximise, numbers or a mask ``(V,)``; all others of the order are
            summed out. By default all are maximised.
        max_bytes: The batch is cut into pieces whose tables take about this much memory.

    Returns:
        ``(B, V)`` int64 states, and ``(B,)`` logs. Observed variables keep their codes; variables
        that were summed out are -1. The states of an impossible row mean nothing.

    Raises:
        EvidenceError: As :func:`log_partition`.
        ValueError: As there, or if a variable is summed out after one that is maximised.
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
    r"""Return ``(B,)`` bounds on the logs that :func:`most_probable` returns, for any order.

    Where a maximum is taken before a sum, :math:`\sum_y \max_x \ge \max_x \sum_y`.

    Args:
        graph: As of :func:`most_probable`, and so are all others.
        order: Variables to eliminate, in any order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: Log-likelihoods of some variables.
        sliced: Variables observed in every row.
        used: Factors that count.
        maximized: Variables to maximise; all others of the order are summed out.
        max_bytes: The batch is cut into pieces whose tables take about this much memory.

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
    """Return exact draws from the posterior of all variables together.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        codes: ``(B, V)`` observed states, -1 where none.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        n: Draws for each row.
        seed: The same seed gives the same draws on every device, however the batch is cut; the
            global random state is not used.
        sliced: Variables observed in every row: numbers, or a mask ``(V,)``.
        used: Factors that count: numbers, or a mask ``(F,)``; all if not given.
        max_bytes: The batch is cut into pieces whose tables take about this much memory.

    Returns:
        ``(n, B, V)`` int64 states; observed variables keep their codes, variables that are
        neither in the order nor observed are -1. The states of an impossible row mean nothing.

    Raises:
        EvidenceError, ValueError: As :func:`log_partition`.

    Cost: one :func:`log_partition`, and ``O(K)`` a variable and draw.
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
    """Eliminate the variables in order; one that is in no table counts as a table of ones."""

    def ones(variable: Any) -> Table:
        return piece.zeros((variable,), 1)

    return Elimination.of(piece.observed(extra), steps, ones, piece.num_rows)


def _log_z(piece: ObservedTables, done: Elimination) -> Tensor:
    """``(B,)`` the product of the tables that remain."""
    constants = [piece.zeros((), 1).values, *(table.values for table in done.left)]
    log_z = torch.stack([c.expand(piece.num_rows) for c in constants]).sum(0)
    # Nothing that is done to an impossible row changes it: the fill stops the gradient.
    return log_z.masked_fill(log_z == -math.inf, -math.inf)


def _walk_back(
    piece: ObservedTables, done: Elimination, first: int, copies: int, choose: Choose
) -> Tensor:
    """``(copies * B, V)`` states from the last step to step ``first``, copies one after another."""
    states = piece.codes.clamp(min=-1).T.repeat(1, copies)
    rows = torch.arange(piece.num_rows, device=states.device).repeat(copies)
    chosen = done.walk_back(dict(enumerate(states)), rows, choose, first)
    for v in piece.order[first:]:
        states[v] = chosen[v]
    return states.T


def _beliefs(
    tables: ObservedTables, scopes: Sequence[Sequence[int]], create_graph: bool, max_bytes: int
) -> tuple[list[Tensor], Tensor]:
    """Joint posteriors over the scopes, rows first, from one backward pass a piece."""
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
    """Rows that sum to one up to the last bit; rows of zeros stay."""
    total = table.flatten(1).sum(1) if table.dim() > 1 else table
    total = total.masked_fill(total == 0, 1.0)
    return table / total.reshape([-1] + [1] * (table.dim() - 1))


@contextmanager
def _differentiable() -> Iterator[None]:
    """Gradients on, even if the caller has switched them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
