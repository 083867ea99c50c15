"""The tables of a query for the torch executor, conditioned on the evidence, rows last.

A table has the shape ``(K1, ..., Kn, 1 or B)`` over variables given by index.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.inference.exact.torch_elimination import Table
from pgnn.inference.factor_graph import FactorGraph

Codes = Tensor | NDArray[Any]


@dataclass(frozen=True, eq=False)
class ObservedTables:
    """The checked arguments of a query.

    Attributes:
        graph: Variables and factors.
        order: Variables to eliminate, in this order.
        sliced: Variables observed in every row, whose states select slices.
        codes: ``(B, V)`` int64 observed states, -1 where none.
        tables: Factors and soft evidence, with axes in their original order.
    """

    graph: FactorGraph
    order: tuple[int, ...]
    sliced: frozenset[int]
    codes: Tensor
    tables: tuple[Table, ...]

    @cached_property
    def position(self) -> dict[int, int]:
        """The elimination position of each variable."""
        return {v: k for k, v in enumerate(self.order)}

    @property
    def num_rows(self) -> int:
        """Number of rows of evidence ``B``."""
        return self.codes.shape[0]

    @cached_property
    def dtype(self) -> torch.dtype:
        """The widest dtype of the tables, float64 if there are none."""
        return self.tables[0].values.dtype if self.tables else torch.float64

    def zeros(self, scope: Sequence[int], num_rows: int) -> Table:
        """Return a table of ones (logs of zero) over some variables."""
        shape = [int(self.graph.card[v]) for v in scope]
        device = self.codes.device
        return Table(tuple(scope), torch.zeros([*shape, num_rows], dtype=self.dtype, device=device))

    def pieces(self, max_bytes: int, extra: Iterable[Sequence[int]] = ()) -> list[ObservedTables]:
        """Split the rows so that the tables of each chunk fit into about ``max_bytes``.

        Args:
            max_bytes: Memory for the tables that depend on the row, in bytes.
            extra: Scopes of additional row-wise tables.
        """
        if self.num_rows <= 1:
            return [self]
        size = max(1, int(max_bytes // self._bytes_per_row(extra)))
        return [self._rows(k, k + size) for k in range(0, self.num_rows, size)]

    def observed(self, extra: Iterable[Table] = ()) -> list[Table]:
        """Return all tables conditioned on the evidence, with axes in elimination order."""
        return [self._place(t) for t in (*self.tables, *extra)] + self._findings()

    def _rows(self, start: int, stop: int) -> ObservedTables:
        cut = (
            t if t.values.shape[-1] == 1 else Table(t.scope, t.values[..., start:stop])
            for t in self.tables
        )
        return replace(self, codes=self.codes[start:stop], tables=tuple(cut))

    def _place(self, table: Table) -> Table:
        """Return the slice of a table at each row's observed states, with sorted free axes."""
        scope, values = table
        card = self.graph.card
        rows = len(scope)
        observed = [k for k, v in enumerate(scope) if v in self.sliced]
        free = sorted(set(range(rows)) - set(observed), key=lambda k: self.position[scope[k]])
        kept = tuple(scope[k] for k in free)
        if not observed:
            return Table(kept, values.permute(*free, rows))
        index = torch.zeros_like(self.codes[:, 0])
        for k in observed:
            index = index * int(card[scope[k]]) + self.codes[:, scope[k]]
        shape = [int(card[v]) for v in kept]
        slices = _size(card, [scope[k] for k in observed])
        flat = values.permute(*free, *observed, rows).reshape(*shape, slices, values.shape[-1])
        if flat.shape[-1] == 1:
            return Table(kept, flat.squeeze(-1).index_select(-1, index))
        return Table(kept, flat.gather(-2, index.expand(*shape, 1, -1)).squeeze(-2))

    def _findings(self) -> list[Table]:
        """Return tables of the states observed in some rows, for variables that are eliminated."""
        observed = (self.codes >= 0).any(0).tolist()
        tables = []
        for v in self.order:
            if observed[v]:
                code = self.codes[:, v]
                states = torch.arange(int(self.graph.card[v]), device=code.device)
                wrong = (code >= 0) & (code != states[:, None])
                tables.append(Table((v,), self._zero_row.masked_fill(wrong, -math.inf)))
        return tables

    @cached_property
    def _zero_row(self) -> Tensor:
        return torch.zeros(1, dtype=self.dtype, device=self.codes.device)

    def _bytes_per_row(self, extra: Iterable[Sequence[int]]) -> int:
        """Memory per row: four copies of products (value, weights, shares), two of tables."""
        card, kept, largest = self.graph.card, 1, 1
        buckets: list[list[tuple[frozenset[int], bool]]] = [[] for _ in self.order]
        waiting = [(t.scope, t.values.shape[-1] != 1) for t in self.tables]
        waiting += [(tuple(scope), True) for scope in extra]
        waiting += [((v,), True) for v in self.order]
        for scope, wide in waiting:
            free = frozenset(scope) - self.sliced
            if wide or len(free) < len(scope):
                kept += _size(card, scope if wide else free)
                wide = True
            if free:
                buckets[min(self.position[v] for v in free)].append((free, wide))
        for k, v in enumerate(self.order):
            union = frozenset().union(*(scope for scope, _ in buckets[k]))
            wide = any(w for _, w in buckets[k])
            largest = max(largest, _size(card, union)) if wide else largest
            rest = union - {v}
            kept += _size(card, rest) if wide else 0
            if rest:
                buckets[min(self.position[u] for u in rest)].append((rest, wide))
        return (4 * largest + 2 * kept) * self.dtype.itemsize


def observed_tables(
    graph: FactorGraph,
    order: Sequence[int],
    codes: Codes,
    unary: Mapping[int, Tensor] | None = None,
    sliced: Iterable[int] = (),
    used: Iterable[int] | None = None,
    detach: bool = False,
) -> ObservedTables:
    """Check a query and convert its tables to one dtype, device and layout.

    Args:
        graph: Variables and factors.
        order: Variables to eliminate: all variables of the used factors except the sliced ones.
        codes: ``(B, V)`` observed states, -1 where none; a single row is used for every row of the
            tables.
        unary: ``(K,)`` or ``(B, K)`` log-likelihoods of some variables.
        sliced: Variables observed in every row: indices, or a mask ``(V,)``.
        used: Factors that count: numbers, or a mask ``(F,)``; all if not given.
        detach: Whether gradients with respect to the tables are not needed.

    Raises:
        EvidenceError: If evidence has a wrong shape or an invalid state, or lacks a sliced
            variable.
        ValueError: If a variable of a factor is neither eliminated nor sliced, or is both.
    """
    observed = frozenset(numbers(sliced))
    counting = range(graph.num_factors) if used is None else numbers(used)
    raw = [(graph.scopes[f], graph.factors[f].log_values) for f in counting]
    raw += [((int(v),), table) for v, table in (unary or {}).items()]
    raw = [(scope, _plain(values.detach() if detach else values)) for scope, values in raw]
    codes = _plain(codes if isinstance(codes, Tensor) else torch.from_numpy(np.array(codes)))
    _check_codes(graph, codes, observed)
    order = tuple(int(v) for v in order)
    _check_order(graph, order, observed, [scope for scope, _ in raw])
    device = next((t.device for _, t in raw if t.device.type != "cpu"), torch.device("cpu"))
    dtype = torch.float32 if raw else torch.float64
    for _, values in raw:
        dtype = torch.promote_types(dtype, values.dtype)
    tables = tuple(_rows_last(graph, scope, t.to(device, dtype)) for scope, t in raw)
    return ObservedTables(
        graph, order, observed, _all_rows(codes, tables).to(device, torch.int64), tables
    )


def numbers(chosen: Iterable[int]) -> list[int]:
    """Return indices of variables or factors, given as indices or as a mask over all of them."""
    array = np.array([int(v) if not _is_flag(v) else bool(v) for v in chosen])
    if array.dtype == np.bool_:
        return [int(v) for v in np.flatnonzero(array)]
    return [int(v) for v in array]


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) is torch.bool


def _rows_last(graph: FactorGraph, scope: tuple[int, ...], values: Tensor) -> Table:
    shape = tuple(int(graph.card[v]) for v in scope)
    batch = values.dim() - len(shape)
    if batch not in (0, 1) or tuple(values.shape[batch:]) != shape:
        names = [graph.variables[v].name for v in scope]
        raise EvidenceError(
            f"a table over {names} must have the shape {shape} or (B, {str(shape)[1:]}, got "
            f"{tuple(values.shape)}"
        )
    return Table(scope, values.movedim(0, -1) if batch else values.unsqueeze(-1))


def _all_rows(codes: Tensor, tables: Iterable[Table]) -> Tensor:
    """Return codes expanded to the number of rows of the tables."""
    sizes = {t.values.shape[-1] for t in tables} | {codes.shape[0]}
    several = sizes - {1}
    if len(several) > 1:
        raise EvidenceError(
            f"evidence and row-wise tables disagree on the number of rows: {sorted(several)}",
            "give each one row or the same number",
        )
    return codes.expand(several.pop(), -1) if several else codes


def _check_codes(graph: FactorGraph, codes: Tensor, sliced: frozenset[int]) -> None:
    if codes.dim() != 2 or codes.shape[1] != len(graph.variables) or codes.is_floating_point():
        raise EvidenceError(
            f"codes must be integers of shape (B, {len(graph.variables)}), got {codes.dtype} of "
            f"shape {tuple(codes.shape)}"
        )
    high = codes >= torch.as_tensor(graph.card, device=codes.device)
    missed = (codes < 0).any(0).tolist()
    for v, variable in enumerate(graph.variables):
        if v in sliced and missed[v]:
            raise EvidenceError(f"{variable.name!r} is sliced but not observed in every row")
    if bool(high.any()):
        row, v = high.nonzero()[0].tolist()
        raise EvidenceError(
            f"row {row} puts {graph.variables[v].name!r} in state {int(codes[row, v])}; it has "
            f"{graph.card[v]} states"
        )


def _check_order(
    graph: FactorGraph,
    order: tuple[int, ...],
    sliced: frozenset[int],
    scopes: Iterable[tuple[int, ...]],
) -> None:
    if len(set(order)) < len(order) or sliced & set(order):
        both = sorted({v for v in order if order.count(v) > 1 or v in sliced})
        names = [graph.variables[v].name for v in both]
        raise ValueError(f"each variable is eliminated once or sliced: {names} are not")
    left = {v for scope in scopes for v in scope} - set(order) - sliced
    if left:
        names = [graph.variables[v].name for v in sorted(left)]
        raise ValueError(f"{names} are in a table, but neither in the order nor sliced; add them")


def _plain(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd can save, even if the caller is in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _size(card: NDArray[np.int64], scope: Iterable[int]) -> int:
    return math.prod(int(card[v]) for v in scope)
