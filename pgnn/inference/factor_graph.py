"""What the engines for discrete models see: variables, scopes and flat tables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.variable import Variable
from pgnn.inference.families import Families
from pgnn.inference.linear_tables import LinearTables

Ints = NDArray[np.int64]

_STRUCTURE = ("index", "card", "offset", "scopes", "scope_ptr", "scope_var", "structure", "rowwise",
              "sizes", "child_factor", "start", "families", "first")  # fmt: skip


@dataclass(frozen=True, eq=False)
class FactorGraph:
    r"""A product of tables :math:`\prod_f \phi_f(x_f)` with variables numbered ``0 .. V-1``.

    Its numbers stand in :attr:`sources`: one tensor for each group of tables, one for each table
    on its own. Factors are numbered in that order, those of a group one after the other.

    Args:
        variables: The discrete variables, in the order that evidence codes and marginals use.
        lone: Log tables on their own; one with batch shape ``(B,)`` differs from row to row.
        groups: Log tables in arrays, over the numbers of the variables.
    """

    variables: tuple[Variable, ...]
    lone: tuple[Factor, ...]
    groups: tuple[FactorGroup, ...] = ()

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """Every table on its own."""
        spread = [f for g in self.groups for f in g.over(self.variables)]
        return (*spread, *self.lone)

    @property
    def num_factors(self) -> int:
        """Number of factors ``F``."""
        return len(self.scope_ptr) - 1

    @cached_property
    def sources(self) -> tuple[Tensor, ...]:
        """The tensors that all numbers come from."""
        return (*(g.log_values for g in self.groups), *(f.log_values for f in self.lone))

    @cached_property
    def learned(self) -> tuple[int, ...]:
        """Numbers of the sources that want gradients."""
        return tuple(k for k, x in enumerate(self.sources) if x.requires_grad)

    @cached_property
    def first(self) -> Ints:
        """``(sources + 1,)`` number of the first factor of each source; last ``F``."""
        counts = [g.num_factors for g in self.groups] + [1] * len(self.lone)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def with_sources(self, given: Mapping[int, Tensor]) -> FactorGraph:
        """Return the graph with other numbers from some of its sources."""
        many = len(self.groups)
        groups = [
            TableGroup(g.scopes, given[k], g.child) if k in given else g
            for k, g in enumerate(self.groups)
        ]
        lone = [
            Factor(f.variables, given[k], f.child) if k in given else f
            for k, f in enumerate(self.lone, start=many)
        ]
        made = FactorGraph(self.variables, tuple(lone), tuple(groups))
        if all(x.dim() == self.sources[k].dim() for k, x in given.items()):
            made._take_structure(self)
        return made

    @cached_property
    def index(self) -> dict[Hashable, int]:
        """Number of each variable, by name."""
        return {v.name: k for k, v in enumerate(self.variables)}

    @cached_property
    def card(self) -> Ints:
        """``(V,)`` state counts."""
        return np.array([v.num_states for v in self.variables], dtype=np.int64)

    @cached_property
    def offset(self) -> Ints:
        """``(V + 1,)`` first column of each variable where all states stand side by side."""
        return np.concatenate([[0], np.cumsum(self.card)]).astype(np.int64)

    def columns(self, wanted: NDArray[np.bool_]) -> Ints:
        """``(V,)`` first column of each variable where the wanted ones' states stand together."""
        sizes = np.where(wanted, self.card, 0)
        return np.cumsum(sizes) - sizes

    @cached_property
    def scopes(self) -> tuple[tuple[int, ...], ...]:
        """Variable numbers of each factor, in the order of its axes."""
        spread = [tuple(row) for g in self.groups for row in g.scopes.tolist()]
        return (*spread, *(tuple(self.index[n] for n in f.names) for f in self.lone))

    @cached_property
    def scope_ptr(self) -> Ints:
        """``(F + 1,)`` where each factor's scope begins in :attr:`scope_var`."""
        arities = self._each([g.arity for g in self.groups], [len(f.variables) for f in self.lone])
        return np.concatenate([[0], np.cumsum(arities)]).astype(np.int64)

    @cached_property
    def scope_var(self) -> Ints:
        """All scopes, one after the other."""
        lone = [self.index[n] for f in self.lone for n in f.names]
        parts = [*(g.scopes.ravel() for g in self.groups), np.array(lone, dtype=np.int64)]
        return np.concatenate(parts).astype(np.int64)

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
        flags = self._each([bool(g.batch_shape) for g in self.groups],
                           [bool(f.batch_shape) for f in self.lone])  # fmt: skip
        return flags.astype(np.bool_)

    @cached_property
    def num_rows(self) -> int:
        """Rows ``B`` of the row-wise tables; 1 if there are none."""
        sizes = (len(x) for x, own in zip(self.sources, self.rowwise[self.first[:-1]], strict=True)
                 if own)  # fmt: skip
        return max(sizes, default=1)

    @cached_property
    def sizes(self) -> Ints:
        """``(F,)`` entries of each table."""
        own = [math.prod(x.shape[x.dim() - g.arity :]) for g, x in zip(self.groups, self.sources,
                                                                     strict=False)]  # fmt: skip
        lone = [math.prod([v.num_states for v in f.variables]) for f in self.lone]
        return self._each(own, lone)

    @cached_property
    def start(self) -> Ints:
        """``(F,)`` where each table begins among the shared ones, or in a row of the row-wise."""
        start = np.zeros(self.num_factors, dtype=np.int64)
        for kind in (self.rowwise, ~self.rowwise):
            start[kind] = np.cumsum(self.sizes[kind]) - self.sizes[kind]
        return start

    @cached_property
    def child_factor(self) -> Ints:
        """``(V,)`` the factor whose rows sum to one over the variable, -1 where there is none."""
        own = np.full(len(self.variables), -1, dtype=np.int64)
        for first, g in zip(self.first.tolist(), self.groups, strict=False):
            if g.child is not None:
                own[g.scopes[:, g.child]] = np.arange(first, first + g.num_factors)
        last = int(self.first[len(self.groups)])
        for k, factor in enumerate(self.lone, start=last):
            if factor.child is not None:
                own[self.index[factor.child]] = k
        return own

    @cached_property
    def linear(self) -> LinearTables:
        """The tables in linear units, as the compiled kernels read them."""
        return LinearTables.of(self)

    def log_constant(self) -> Tensor:
        """Return the log of the product of tables over no variable, ``(B,)`` or ``()``."""
        total = torch.zeros((), dtype=self.dtype, device=self.device)
        for k, x in enumerate(self.sources):
            if not self.sizes[self.first[k] : self.first[k + 1]].any():
                continue
            if k >= len(self.groups):
                total = total + x
                continue
            copies = self.groups[k].num_factors // max(x.shape[-1], 1)
            total = total + copies * x.sum(-1)
        return total

    @property
    def requires_grad(self) -> bool:
        """Whether any table wants a gradient."""
        return bool(self.learned)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of the answers: the widest of the tables, at least float32."""
        widest = torch.float32
        for kind in {x.dtype for x in self.sources}:
            widest = torch.promote_types(widest, kind)
        return widest

    @cached_property
    def families(self) -> Families:
        """The same tables as what complete rows are looked up in."""
        return Families(self.variables, self.scopes)

    @cached_property
    def flat_log_values(self) -> Tensor:
        """All shared log tables, one after the other."""
        many = len(self.groups)
        spread = [
            x.expand(g.num_factors, *x.shape[1:])
            for g, x in zip(self.groups, self.sources, strict=False)
        ]
        return self.families.flatten([*spread, *self.sources[many:]])

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.sources[0].device if self.sources else torch.device("cpu")

    @cached_property
    def skeleton(self) -> FactorGraph:
        """The structure without the numbers: what plans may hold on to."""
        nothing = torch.zeros(())
        bare = {k: nothing.expand(x.shape) for k, x in enumerate(self.sources)}
        for name in _STRUCTURE:
            getattr(self, name)
        return self.with_sources(bare)

    def like(self, others: Iterable[FactorGraph]) -> bool:
        """Whether some graph has the same structure, which this one then need not look at.

        That is seen by their factors having the very same scopes.
        """
        for other in others:
            if self._is_like(other):
                self._take_structure(other)
                return True
        return False

    def _is_like(self, other: FactorGraph) -> bool:
        return (
            len(self.lone) == len(other.lone)
            and len(self.groups) == len(other.groups)
            and all(
                f.variables is g.variables
                and f.child == g.child
                and f.log_values.dim() == g.log_values.dim()
                for f, g in zip(self.lone, other.lone, strict=True)
            )
            and all(
                a.scopes is b.scopes
                and a.child == b.child
                and bool(a.batch_shape) == bool(b.batch_shape)
                for a, b in zip(self.groups, other.groups, strict=True)
            )
        )

    def at_rows(self, rows: Ints) -> FactorGraph:
        """Keep some rows of the row-wise tables."""
        index = torch.from_numpy(rows).to(self.device)
        own = self.rowwise[self.first[:-1]].tolist()
        return self.with_sources({k: x[index] for k, x in enumerate(self.sources) if own[k]})

    def with_unity(self, scope: Sequence[int]) -> FactorGraph:
        """Add a table of ones over some variables: its belief is their joint distribution."""
        variables = [self.variables[v] for v in scope]
        ones: Tensor = torch.zeros(
            [v.num_states for v in variables], dtype=torch.float64, device=self.device
        )
        return self.with_factors(Factor(variables, ones))

    def with_factors(self, *more: Factor) -> FactorGraph:
        """Add tables; they have the last numbers."""
        return FactorGraph(self.variables, (*self.lone, *more), self.groups)

    def _take_structure(self, other: FactorGraph) -> None:
        for name in _STRUCTURE:
            if name in other.__dict__:
                self.__dict__[name] = other.__dict__[name]

    def _each(self, of_groups: Sequence[int], of_lone: Sequence[int]) -> Ints:
        """A number for each factor."""
        return np.repeat(np.array([*of_groups, *of_lone], dtype=np.int64), np.diff(self.first))
