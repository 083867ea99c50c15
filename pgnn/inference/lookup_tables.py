"""Lookups of complete rows in local tables: scores, counts, ancestral sampling."""

from __future__ import annotations

import graphlib
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, Intractable, ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.variable import Variable
from pgnn.inference.numba_support import has_numba
from pgnn.inference.threads import Stop, interruptible

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

_CELL = 5.0  # nanoseconds


@cache
def _kernels() -> ModuleType:
    """Return the compiled kernels, or vectorised NumPy functions where numba cannot be imported."""
    if has_numba():
        from pgnn.inference.kernels import lookup_tables

        return lookup_tables
    import pgnn.inference.lookup_tables_numpy as vectorised

    return vectorised


@dataclass(frozen=True, eq=False)
class LookupTables:
    r"""Concatenated tables over small scopes, for scoring, counting and sampling complete rows.

    Rows are state codes ``(B, V)`` in the order of ``variables``, integers of any type; int32 with
    contiguous columns is fastest. No code may be missing.

    Args:
        variables: Discrete variables, in the order of the columns.
        scopes: Column indices of each table's axes. For :meth:`sample` a scope is a family: the
            parents, then the child.

    Raises:
        Intractable: If a table would have ``2**31`` entries or more.

    Example:
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> lookup = LookupTables((a, b), ((0,), (0, 1)))
        >>> lookup.count(np.array([[0, 1], [1, 1], [0, 1]]))
        array([2, 1, 0, 2, 0, 1])
    """

    variables: tuple[Variable, ...]
    scopes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for scope, shape in zip(self.scopes, self.shapes, strict=True):
            if math.prod(shape) >= 2**31:
                names = [self.variables[v].name for v in scope]
                raise Intractable(
                    f"a table over {names} would have {math.prod(shape):,} entries, at most "
                    f"{2**31 - 1:,} are possible",
                    "use a conditional that needs no table",
                )

    @classmethod
    def of(cls, variables: Sequence[Variable], conditionals: Iterable[Conditional]) -> LookupTables:
        """Return the tables of some conditionals whose scopes are discrete."""
        index = {v.name: k for k, v in enumerate(variables)}
        scopes = (tuple(index[v.name] for v in c.scope) for c in conditionals)
        return cls(tuple(variables), tuple(scopes))

    @cached_property
    def card(self) -> Ints:
        """``(V,)`` state counts."""
        return np.array([v.num_states for v in self.variables], dtype=np.int64)

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each table."""
        return tuple(tuple(self.variables[v].num_states for v in s) for s in self.scopes)

    @cached_property
    def start(self) -> Ints:
        """``(F + 1,)`` offset of each table among all entries, then the number of entries."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def flatten(self, tables: Sequence[Tensor]) -> Tensor:
        """Return the concatenated entries of tables; differentiable."""
        flat = [t.reshape(-1) for t in tables]
        return torch.cat(flat) if flat else torch.zeros(0, dtype=torch.float64)

    def split(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """Return each table of a flat array in its shape (views)."""
        pieces = np.split(flat, self.start[1:-1])
        return [p.reshape(shape) for p, shape in zip(pieces, self.shapes, strict=False)]

    def log_prob(self, codes: Any, log_values: Tensor) -> Tensor:
        r"""Return :math:`\sum_f \log \phi_f(x_f)` for each row, differentiable to any order.

        Args:
            codes: ``(B, V)`` state codes.
            log_values: All log tables, flattened by :meth:`flatten`; ``-inf`` is legal.

        Returns:
            ``(B,)`` on the device and of the dtype of ``log_values``.

        Raises:
            EvidenceError: If a code is not a state of its variable.

        Cost:
            One lookup per row and table.
        """
        columns = self._columns(codes)
        out: Tensor = _Score.apply(log_values, self, columns)  # type: ignore[no-untyped-call]
        return out

    def score(self, codes: Any, log_values: Floats) -> Floats:
        """Return :meth:`log_prob` of NumPy arrays, as an array."""
        values = np.ascontiguousarray(log_values, dtype=np.float64)
        return self._score(self._columns(codes), values)

    def count(self, codes: Any, weights: Any = None, out: NDArray[Any] | None = None) -> Any:
        r"""Count how often each entry of each table occurs, in one pass over the rows.

        Args:
            codes: ``(B, V)`` state codes.
            weights: ``(B,)`` weight of each row; ones if not given.
            out: Flat counts to add to, float64 with weights and int64 without; zeros if not given.

        Returns:
            The counts of all tables, flat; :meth:`split` restores the shapes.

        Raises:
            EvidenceError: If a code is not a state of its variable.

        Cost:
            One increment per row and table; no memory beyond the counts.
        """
        columns = self._columns(codes)
        if out is None:
            out = np.zeros(self.start[-1], dtype=np.int64 if weights is None else np.float64)
        if weights is None:
            self._run(columns, lambda stop: _kernels().count(columns, *self._layout, out, stop))
        else:
            weights = np.ascontiguousarray(weights, dtype=np.float64)
            if weights.shape != columns.shape[1:]:
                raise EvidenceError(
                    f"weights must have shape ({columns.shape[1]},), got {weights.shape}"
                )
            args = (columns, *self._layout, weights, out)
            self._run(columns, lambda stop: _kernels().count_weighted(*args, stop))
        return out

    def sample(self, n: int, probs: Any, seed: int | None = None, first: int = 0) -> Codes:
        r"""Draw rows of :math:`\prod_v p(x_v \mid \mathrm{pa}(v))`, parents before children.

        Row ``r`` depends on ``seed`` and ``r`` only: drawing batches one by one with ``first``
        gives the same rows as drawing all at once.

        Args:
            n: Number of rows.
            probs: The conditional probability tables of all families, flat.
            seed: Random seed; the same seed gives the same rows. A random one if not given. Global
                random state is not changed.
            first: Index of the first row.

        Returns:
            ``(n, V)`` int32 codes, columns contiguous.

        Raises:
            ModelError: If some variable does not have exactly one family, or the families form a
                cycle.

        Cost:
            One random number and at most ``K`` comparisons per cell.
        """
        columns = np.empty((len(self.variables), n), dtype=np.int32)
        cdf = self._cumulative(np.asarray(probs, dtype=np.float64))
        key = _key(secrets.randbits(64) if seed is None else seed)
        args = (columns, self.card, self._order, *self._layout, cdf, key, first)
        self._run(columns, lambda stop: _kernels().forward_sample(*args, stop))
        return columns.T

    def _score(self, columns: Codes, log_values: Floats) -> Floats:
        out = np.zeros(columns.shape[1])
        args = (columns, *self._layout, log_values, out)
        self._run(columns, lambda stop: _kernels().score(*args, stop))
        return out

    @staticmethod
    def _run(columns: Codes, work: Callable[[Stop], None]) -> None:
        interruptible([work], cost=columns.size * _CELL)

    def _columns(self, codes: Any) -> Codes:
        """Return checked ``(V, B)`` int32 columns, without a copy where possible."""
        if isinstance(codes, Tensor):
            codes = codes.detach().cpu().numpy()
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.variables) or codes.dtype.kind not in "iu":
            raise EvidenceError(
                f"rows must be integer state codes of shape (B, {len(self.variables)}), got "
                f"{codes.dtype} of shape {codes.shape}"
            )
        columns = np.ascontiguousarray(codes.T, dtype=np.int32)
        row, _ = _kernels().first_invalid(columns, self.card)
        if row >= 0 or codes.dtype.itemsize > 4:
            self._refuse(codes)
        return columns

    def _refuse(self, codes: NDArray[Any]) -> None:
        """Raise an error if a code is not a state, before conversion to int32."""
        bad = (codes < 0) | (codes >= self.card)
        if bad.any():
            row, v = (int(k) for k in np.argwhere(bad)[0])
            raise EvidenceError(
                f"row {row} has code {codes[row, v]} for {self.variables[v].name!r}, expected a "
                f"state index 0..{self.card[v] - 1}; rows must be complete (-1 means missing)"
            )

    @cached_property
    def _layout(self) -> tuple[Ints, Ints, Ints, Ints]:
        """``scope_ptr``, ``scope_var``, ``stride`` and ``start`` as the kernels take them."""
        ptr = np.concatenate([[0], np.cumsum([len(s) for s in self.scopes])]).astype(np.int64)
        var = np.array([v for s in self.scopes for v in s], dtype=np.int64)
        stride = [math.prod(s[k + 1 :]) for s in self.shapes for k in range(len(s))]
        return ptr, var, np.array(stride, dtype=np.int64), self.start[:-1]

    @cached_property
    def _order(self) -> Ints:
        """Indices of the families, parents before children."""
        family = {scope[-1]: f for f, scope in enumerate(self.scopes)}
        if sorted(family) != list(range(len(self.variables))) or len(self.scopes) != len(family):
            raise ModelError("ancestral sampling needs exactly one family for each variable")
        try:
            order = graphlib.TopologicalSorter({s[-1]: s[:-1] for s in self.scopes}).static_order()
            return np.array([family[v] for v in order], dtype=np.int64)
        except graphlib.CycleError as error:
            cycle = " -> ".join(repr(self.variables[v].name) for v in error.args[1])
            raise ModelError(
                f"ancestral sampling needs a graph without cycles, got {cycle}"
            ) from None

    def _cumulative(self, probs: Floats) -> Floats:
        """Normalised cumulative sums of the rows; states of probability 0 are never drawn."""
        if probs.shape != (self.start[-1],) or not (probs >= 0).all():
            raise ModelError(
                f"sampling needs {self.start[-1]} probabilities, the concatenated tables of "
                "all families"
            )
        out = [np.cumsum(table, axis=-1) for table in self.split(probs)]
        if any((table[..., -1] <= 0).any() for table in out):
            raise ModelError("a row of a conditional probability table has no positive entry")
        return np.concatenate([(table / table[..., -1:]).ravel() for table in out])


class _Score(torch.autograd.Function):
    """Sum of table entries: linear in the tables, with weighted counts as its adjoint."""

    @staticmethod
    def forward(ctx: Any, log_values: Tensor, lookup: LookupTables, columns: Codes) -> Tensor:
        ctx.lookup, ctx.columns = lookup, columns
        values = log_values.detach().to("cpu", torch.float64).contiguous().numpy()
        return torch.from_numpy(lookup._score(columns, values)).to(log_values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        adjoint: Tensor = _Count.apply(grad, ctx.lookup, ctx.columns)  # type: ignore[no-untyped-call]
        return adjoint, None, None


class _Count(torch.autograd.Function):
    """Weighted counts, the adjoint of :class:`_Score`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, lookup: LookupTables, columns: Codes) -> Tensor:
        ctx.lookup, ctx.columns = lookup, columns
        array = weights.detach().to("cpu", torch.float64).contiguous().numpy()
        counts = lookup.count(columns.T, array)
        return torch.from_numpy(counts).to(weights)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        adjoint: Tensor = _Score.apply(grad, ctx.lookup, ctx.columns)  # type: ignore[no-untyped-call]
        return adjoint, None, None


def _key(seed: int) -> np.uint64:
    """Return a 64-bit hash of a seed, so that nearby seeds give independent sequences."""
    x = seed % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return np.uint64(x ^ (x >> 31))
