"""The structure that is shared by factor graphs with the same scopes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.variable import Variable
from pgnn.inference.expansion import KnownExpansions
from pgnn.inference.lookup_tables import LookupTables

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GraphStructure:
    """Structure shared by graphs with the same scopes, computed once.

    Args:
        elements: The elements.
        scopes_of: ``(F_g, n_g)`` scopes of each group.
        children: Axis of the child in the scopes of each group, see
            :class:`~pgnn.factors.groups.factor_group.FactorGroup`.
        batched: For each group whether its parameters depend on the row.
    """

    elements: Elements
    scopes_of: tuple[Ints, ...]
    children: tuple[int | None, ...]
    batched: tuple[bool, ...]

    @classmethod
    def of(cls, elements: Elements, groups: Sequence[FactorGroup]) -> GraphStructure:
        """Return the structure of groups."""
        return cls(
            elements,
            tuple(g.scopes for g in groups),
            tuple(g.child for g in groups),
            tuple(bool(g.batch_shape) for g in groups),
        )

    def is_of(self, groups: Sequence[FactorGroup]) -> bool:
        """Whether groups have exactly these scopes."""
        return len(groups) == len(self.scopes_of) and all(
            g.child == c
            and bool(g.batch_shape) == b
            and (g.scopes is s or np.array_equal(g.scopes, s))
            for g, s, c, b in zip(groups, self.scopes_of, self.children, self.batched, strict=True)
        )

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The elements as variables."""
        return self.elements.singles

    @property
    def card(self) -> Ints:
        """``(V,)`` state counts."""
        return self.elements.card

    @property
    def num_factors(self) -> int:
        """Number of factors ``F``."""
        return int(self.first[-1])

    @cached_property
    def index(self) -> dict[Hashable, int]:
        """Index of each element, by name."""
        return {v.name: k for k, v in enumerate(self.elements.singles)}

    @cached_property
    def first(self) -> Ints:
        """``(groups + 1,)`` index of the first factor of each group, then ``F``."""
        counts = [len(s) for s in self.scopes_of]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def scope_ptr(self) -> Ints:
        """``(F + 1,)`` offset of each factor's scope in :attr:`scope_var`."""
        arities = self._per_factor([s.shape[1] for s in self.scopes_of])
        return np.concatenate([[0], np.cumsum(arities)]).astype(np.int64)

    @cached_property
    def scope_var(self) -> Ints:
        """All scopes, concatenated."""
        return np.concatenate([np.zeros(0, np.int64), *(s.ravel() for s in self.scopes_of)])

    @cached_property
    def scopes(self) -> tuple[tuple[int, ...], ...]:
        """Element indices of each factor, in the order of its axes."""
        return tuple(tuple(row) for s in self.scopes_of for row in s.tolist())

    @cached_property
    def digest(self) -> bytes:
        """A hash of state counts, scopes and row-wise factors; graphs that share plans agree."""
        digest = blake2b(digest_size=16)
        for part in (self.elements.card, self.scope_ptr, self.scope_var, self.rowwise):
            digest.update(part.tobytes())
        return digest.digest()

    @cached_property
    def rowwise(self) -> Mask:
        """``(F,)`` whether a factor's table depends on the row."""
        return self._per_factor(self.batched).astype(np.bool_)

    @cached_property
    def sizes(self) -> Ints:
        """``(F,)`` entries of each table."""
        card = self.elements.card
        return self._per_factor(
            [math.prod(card[s[0]].tolist()) if len(s) else 0 for s in self.scopes_of]
        )

    @cached_property
    def start(self) -> Ints:
        """``(F,)`` offset of each table among the shared ones, or in a row of the row-wise ones."""
        start = np.zeros(self.num_factors, dtype=np.int64)
        for kind in (self.rowwise, ~self.rowwise):
            start[kind] = np.cumsum(self.sizes[kind]) - self.sizes[kind]
        return start

    @cached_property
    def child_factor(self) -> Ints:
        """``(V,)`` the factor that is normalised over the element (its conditional), or -1."""
        factor = np.full(len(self.elements), -1, dtype=np.int64)
        for first, scopes, child in zip(self.first.tolist(), self.scopes_of, self.children,
                                        strict=False):  # fmt: skip
            if child is not None:
                factor[scopes[:, child]] = np.arange(first, first + len(scopes))
        return factor

    @cached_property
    def lookup(self) -> LookupTables:
        """Lookups of complete rows in the same tables."""
        return LookupTables(self.elements.singles, self.scopes)

    @cached_property
    def expansions(self) -> KnownExpansions:
        """Cached expansions of graphs of this structure with auxiliary elements."""
        return KnownExpansions()

    @cached_property
    def expanded(self) -> list[GraphStructure]:
        """Cached structures of expanded graphs."""
        return []

    def _per_factor(self, of_groups: Sequence[int]) -> Ints:
        """Return a value for each factor."""
        return np.repeat(np.array(of_groups, dtype=np.int64), np.diff(self.first))
