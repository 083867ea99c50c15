"""What the engines for discrete models see: variables, scopes and flat tables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.families import Families

_DEEPEST = 700.0  # exp of its negative is a double with all its digits


@dataclass(frozen=True, eq=False)
class FactorGraph:
    r"""A product of tables :math:`\prod_f \phi_f(x_f)` with variables numbered ``0 .. V-1``.

    Args:
        variables: The discrete variables, in the order that evidence codes and marginals use.
        factors: Log tables; a factor with batch shape ``(B,)`` differs from row to row.
    """

    variables: tuple[Variable, ...]
    factors: tuple[Factor, ...]

    @cached_property
    def index(self) -> dict[Hashable, int]:
        """Number of each variable, by name."""
        return {v.name: k for k, v in enumerate(self.variables)}

    @cached_property
    def card(self) -> NDArray[np.int64]:
        """``(V,)`` state counts."""
        return np.array([v.num_states for v in self.variables], dtype=np.int64)

    @cached_property
    def offset(self) -> NDArray[np.int64]:
        """``(V + 1,)`` first column of each variable where all states stand side by side."""
        return np.concatenate([[0], np.cumsum(self.card)]).astype(np.int64)

    def columns(self, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
        """``(V,)`` first column of each variable where the wanted ones' states stand together."""
        sizes = np.where(wanted, self.card, 0)
        return np.cumsum(sizes) - sizes

    @cached_property
    def scopes(self) -> tuple[tuple[int, ...], ...]:
        """Variable numbers of each factor, in the order of its axes."""
        return tuple(tuple(self.index[n] for n in f.names) for f in self.factors)

    @cached_property
    def scope_ptr(self) -> NDArray[np.int64]:
        """``(F + 1,)`` where each factor's scope begins in :attr:`scope_var`."""
        return np.concatenate([[0], np.cumsum([len(s) for s in self.scopes])]).astype(np.int64)

    @cached_property
    def scope_var(self) -> NDArray[np.int64]:
        """All scopes, one after the other."""
        return np.array([v for s in self.scopes for v in s], dtype=np.int64)

    @cached_property
    def structure(self) -> bytes:
        """Equal for graphs that one plan serves: state counts, scopes, what is row-wise."""
        digest = blake2b(digest_size=16)
        for part in (self.card, self.scope_ptr, self.scope_var, self.rowwise):
            digest.update(part.tobytes())
        return digest.digest()

    @cached_property
    def rowwise(self) -> NDArray[np.bool_]:
        """``(F,)`` whether a factor's table differs from row to row."""
        return np.array([bool(f.batch_shape) for f in self.factors], dtype=np.bool_)

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """``(F,)`` where each table begins in :attr:`values`, or in a row of :attr:`row_values`."""
        start = []
        ends = [0, 0]
        for factor, rowwise in zip(self.factors, self.rowwise.tolist(), strict=True):
            start.append(ends[rowwise])
            ends[rowwise] += math.prod([v.num_states for v in factor.variables])
        return np.array(start, dtype=np.int64)

    @cached_property
    def _shared(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Shared tables by size: factors, the row that each has, and ``(n, size)`` distinct tables.

        Models that repeat themselves have the same tensor many times.
        """
        places: dict[int, dict[int, int]] = {}
        tables: dict[int, list[Tensor]] = {}
        members: dict[int, tuple[list[int], list[int]]] = {}
        for f, (factor, rowwise) in enumerate(
            zip(self.factors, self.rowwise.tolist(), strict=True)
        ):
            if rowwise:
                continue
            table = factor.log_values
            size = table.numel()
            own = places.setdefault(size, {})
            place = own.setdefault(id(table), len(own))
            if place == len(tables.setdefault(size, [])):
                tables[size].append(table.detach())
            factors, rows = members.setdefault(size, ([], []))
            factors.append(f)
            rows.append(place)
        return [
            (np.array(factors), np.array(rows), _stacked(tables[size], size))
            for size, (factors, rows) in members.items()
        ]

    @cached_property
    def log_scale(self) -> NDArray[np.float64]:
        """``(F,)`` logarithm of each shared table's largest entry; 0 for row-wise tables."""
        scale = np.zeros(len(self.factors))
        for factors, rows, tables in self._shared:
            scale[factors] = _tops(tables)[rows]
        return scale

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Shared tables in linear units, each divided by its largest entry, flat."""
        total = sum(len(factors) * tables.shape[1] for factors, _, tables in self._shared)
        values = np.zeros(max(total, 1))
        for factors, rows, tables in self._shared:
            own = np.exp(tables - _tops(tables)[:, None])
            values[self.start[factors][:, None] + np.arange(tables.shape[1])] = own[rows]
        return values

    @cached_property
    def flushed(self) -> NDArray[np.bool_]:
        """``(1,)`` or ``(B,)`` whether linear units make a zero of something that is none."""
        lost = np.zeros(1, dtype=np.bool_)
        own = [_array(f.log_values) for f in self.factors if f.batch_shape]
        tables = [table.reshape(len(table), -1) for table in own]
        for table in tables:
            if table.size:
                lost = lost | _flushed(table)
        for _, _, table in self._shared:
            lost = lost | _flushed(table).any()
        return lost

    @cached_property
    def row_scale(self) -> NDArray[np.float64]:
        """``(R, B)`` logarithms by which each of the ``R`` row-wise tables was divided."""
        return self._row_tables[1]

    @cached_property
    def row_values(self) -> NDArray[np.float64]:
        """``(B, .)`` row-wise tables in linear units, each row scaled to a largest entry of one."""
        return self._row_tables[0]

    @cached_property
    def _row_tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tables, scales = [], []
        for k, f in enumerate(self.factors):
            if self.rowwise[k]:
                table = _array(f.log_values).reshape(f.log_values.shape[0], -1)
                top = table.max(axis=1)
                top = np.where(np.isfinite(top), top, 0.0)
                scales.append(top)
                tables.append(np.exp(table - top[:, None]))
        if not tables:
            return np.zeros((1, 1)), np.zeros((0, 1))
        return np.concatenate(tables, axis=1), np.stack(scales)

    @cached_property
    def child_factor(self) -> NDArray[np.int64]:
        """``(V,)`` the factor whose rows sum to one over the variable, -1 where there is none."""
        own = np.full(len(self.variables), -1, dtype=np.int64)
        for f, factor in enumerate(self.factors):
            if factor.child is not None:
                own[self.index[factor.child]] = f
        return own

    @cached_property
    def requires_grad(self) -> bool:
        """Whether any table wants a gradient."""
        return any(f.log_values.requires_grad for f in self.factors)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of the answers: the widest of the tables, at least float32."""
        widest = torch.float32
        for factor in self.factors:
            widest = torch.promote_types(widest, factor.log_values.dtype)
        return widest

    @cached_property
    def families(self) -> Families:
        """The same tables as what complete rows are looked up in."""
        return Families(self.variables, self.scopes)

    @cached_property
    def flat_log_values(self) -> Tensor:
        """All shared log tables, one after the other."""
        return self.families.flatten([f.log_values for f in self.factors])

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.factors[0].log_values.device if self.factors else torch.device("cpu")

    @cached_property
    def skeleton(self) -> FactorGraph:
        """The structure without the numbers: what plans may hold on to."""
        nothing = torch.zeros(())
        bare = [
            Factor(f.variables, nothing.expand(f.log_values.shape), f.child) for f in self.factors
        ]
        graph = FactorGraph(self.variables, tuple(bare))
        graph._take_structure(self)
        return graph

    def like(self, other: FactorGraph) -> FactorGraph:
        """Return this graph, which need not look at its structure if it is that of another one.

        That is seen by their factors having the very same tuples of variables.
        """
        pairs = zip(self.factors, other.factors, strict=False)
        if len(self.factors) == len(other.factors) and all(
            f.variables is g.variables
            and f.child == g.child
            and f.log_values.dim() == g.log_values.dim() == len(f.variables)
            for f, g in pairs
        ):
            self._take_structure(other)
        return self

    def _take_structure(self, other: FactorGraph) -> None:
        for name in ("index", "card", "offset", "scopes", "scope_ptr", "scope_var", "structure",
                     "rowwise", "child_factor", "start", "families"):  # fmt: skip
            self.__dict__[name] = getattr(other, name)

    def at_rows(self, rows: NDArray[np.int64]) -> FactorGraph:
        """Keep some rows of the row-wise tables."""
        index = torch.from_numpy(rows).to(self.device)
        kept = [
            Factor(f.variables, f.log_values[index], f.child) if f.batch_shape else f
            for f in self.factors
        ]
        return FactorGraph(self.variables, tuple(kept))

    def with_unity(self, scope: Sequence[int]) -> FactorGraph:
        """Add a table of ones over some variables: its belief is their joint distribution."""
        variables = [self.variables[v] for v in scope]
        ones: Tensor = torch.zeros(
            [v.num_states for v in variables], dtype=torch.float64, device=self.device
        )
        return FactorGraph(self.variables, (*self.factors, Factor(variables, ones)))


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _stacked(tables: Sequence[Tensor], size: int) -> NDArray[np.float64]:
    """``(n, size)`` numbers of tables of one size; their types and shapes may differ."""
    flat = [x.reshape(size) for x in tables]
    alike = all(x.dtype == flat[0].dtype for x in flat)
    return _array(torch.stack(flat if alike else [x.double() for x in flat]))


def _tops(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n,)`` largest entry of each table; 0 where it is not finite."""
    top = tables.max(axis=1)
    return np.where(np.isfinite(top), top, 0.0)


def _flushed(tables: NDArray[np.float64]) -> NDArray[np.bool_]:
    """``(n,)`` whether linear units make a zero of something that is none."""
    top = tables.max(axis=1, keepdims=True)
    return np.asarray(((tables < top - _DEEPEST) & (tables > -np.inf)).any(axis=1))
