"""Decomposition of factors without tables into small factors with auxiliary elements."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.grouping import Grouping, grouped
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

DECOMPOSED = 2**6
"""Largest number of entries of a table that exact inference and propagation do not decompose."""
WRITTEN = 2**14
"""Largest number of entries of a table that is created although it could be avoided."""
_GROUPINGS = 4


class CertainStates(NamedTuple):
    """Auxiliary elements whose states are determined once an element has a given state.

    Attributes:
        element: The element of the graph.
        state: The state that determines the others.
        first: The first auxiliary element.
        last: One past the last auxiliary element.
        certain: The state that all of them then have.
    """

    element: int
    state: int
    first: int
    last: int
    certain: int


@dataclass(eq=False)
class KnownExpansions:
    """Cached results for graphs with the same scopes.

    Attributes:
        elements: The extended elements of each expansion so far.
        groupings: How the small factors are gathered.
    """

    elements: list[Elements] = field(default_factory=list)
    groupings: deque[Grouping] = field(default_factory=lambda: deque(maxlen=_GROUPINGS))

    def with_hidden(self, elements: Elements, hidden: Sequence[Variable]) -> Elements:
        """Return a graph's elements followed by auxiliary ones."""
        variables = (*elements.variables, *hidden)
        for known in self.elements:
            if known.variables == variables:
                return known
        extended = Elements(variables)
        self.elements = [*self.elements[1 - _GROUPINGS :], extended]
        return extended


@dataclass(frozen=True, eq=False)
class Expansion:
    """A factor graph with auxiliary elements, which must be summed out, after its own elements.

    Indices of the original elements, and the columns of their states, do not change.

    Attributes:
        elements: The elements, auxiliary ones last.
        groups: The factors; those that are large and cannot be decomposed are unchanged.
        order: ``(E,)`` ranks of the original elements, the order in which gates combine causes.
        following: ``(H,)`` for each auxiliary element the cause that its gate combines next, or -1.
        rules: States of auxiliary elements that observed elements determine.
    """

    elements: Elements
    groups: tuple[FactorGroup, ...]
    order: Ints
    following: Ints
    rules: tuple[CertainStates, ...]

    @classmethod
    def of(
        cls, elements: Elements, groups: Sequence[FactorGroup], most: int, known: KnownExpansions
    ) -> Expansion:
        """Decompose factors that have no table.

        Args:
            elements: The elements of a graph.
            groups: The factors of the graph.
            most: Factors with at most this many table entries are tabulated instead.
            known: Cache for graphs with these scopes; new results are added.
        """
        others: list[FactorGroup] = []
        factors: list[Factor] = []
        hidden: list[Variable] = []
        rules: list[CertainStates] = []
        gates = [not g.written_down and g.num_entries > most for g in groups]
        causes = [g.scopes[0, :-1] for g, gate in zip(groups, gates, strict=True) if gate]
        ranks = _common_order(causes, len(elements))
        for g, gate in zip(groups, gates, strict=True):
            parts = g.decomposition(ranks) if gate else None
            if parts is None:
                small = g.written_down or g.num_entries > max(most, WRITTEN)
                others.append(g if small else g.as_tables())
                continue
            first = len(elements) + len(hidden)
            hidden += parts.hidden
            last = len(elements) + len(hidden)
            child = int(g.scopes[0, -1])
            rules += [CertainStates(child, s, first, last, a) for s, a in parts.certain.items()]
            factors += parts.factors
        extended = known.with_hidden(elements, hidden) if hidden else elements
        small_ones = grouped(factors, extended, known.groupings) if factors else ()
        following = _following_causes(ranks, small_ones, len(hidden))
        return cls(extended, (*others, *small_ones), ranks, following, tuple(rules))

    @property
    def num_own(self) -> int:
        """Number of original elements."""
        return len(self.order)

    def rank(self, order: Ints | None = None) -> Ints:
        """Return ranks of all elements that make a cheap elimination order.

        An auxiliary element is eliminated just before the cause that its gate combines next.

        Args:
            order: ``(E,)`` ranks of the original elements; by default the order of the gates, along
                which few gates are open at any time.
        """
        singly = 2 * (self.order if order is None else order) + 1
        return np.concatenate([singly, np.where(self.following < 0, 0, singly[self.following] - 1)])

    def codes(self, codes: Codes) -> Codes:
        """Return ``(B, E)`` codes, with those of auxiliary elements that are determined."""
        count = len(self.elements) - self.num_own
        if not count or codes.shape[1] != self.num_own:
            return codes
        extended = np.concatenate([codes, np.full((len(codes), count), -1, codes.dtype)], axis=1)
        for rule in self.rules:
            rows = codes[:, rule.element] == rule.state
            if rows.any():
                extended[rows, rule.first : rule.last] = rule.certain
        return extended

    def evidence(self, observed: RowEvidence) -> RowEvidence:
        """Return evidence about the extended elements."""
        if observed.codes.shape[1] == len(self.elements):
            return observed
        soft = observed.soft
        if soft is not None:
            more = int(self.elements.offset[-1]) - soft.shape[1]
            soft = np.concatenate([soft, np.ones((len(soft), more))], axis=1)
        return replace(observed, codes=self.codes(observed.codes), soft=soft)


def _common_order(causes: Sequence[Ints], num_elements: int) -> Ints:
    """Return ``(E,)`` ranks: the causes of the smallest gate first, then those of the next one.

    A gate is open between two causes if it has causes before and after them.

    Args:
        causes: Indices of the elements that are the causes of each gate.
        num_elements: ``E``.
    """
    first, last = np.full((2, num_elements), len(causes))
    by_size = sorted(causes, key=len)
    for k, gate in enumerate(by_size):
        first[gate] = np.minimum(first[gate], k)
        last[gate] = k
    ranks = np.empty(num_elements, dtype=np.int64)
    ranks[np.lexsort((last, first))] = np.arange(num_elements)
    return ranks


def _following_causes(ranks: Ints, groups: Sequence[FactorGroup], num_hidden: int) -> Ints:
    """Return ``(H,)`` the cause that the gate of each auxiliary element combines next, or -1.

    Args:
        ranks: ``(E,)`` the order in which causes are combined.
        groups: The small factors.
        num_hidden: Number of auxiliary elements ``H``, which come last.
    """
    num_own = len(ranks)
    following = np.full(num_hidden, -1)
    padded = np.concatenate([ranks, np.full(num_hidden, num_own)])
    for g in groups:
        if g.child is not None and g.arity > 1:
            causes = np.delete(g.scopes, g.child, axis=1)
            first = np.take_along_axis(causes, padded[causes].argmin(axis=1)[:, None], axis=1)
            hidden = causes >= num_own
            nearest = np.broadcast_to(first, causes.shape)[hidden]
            following[causes[hidden] - num_own] = np.where(nearest < num_own, nearest, -1)
    return following
