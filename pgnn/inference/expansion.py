"""Factors without tables, made of small ones: with hidden elements behind a graph's own."""

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
"""Entries of the largest table that exact answers and messages do not decompose."""
WRITTEN = 2**14
"""Entries of the largest table that is written down where it might be avoided."""
_GROUPINGS = 4


class CertainStates(NamedTuple):
    """Hidden elements whose state is certain once an element has a certain state.

    Attributes:
        element: That element.
        state: Its state.
        first: The first hidden element.
        last: One past the last.
        certain: The state of all of them.
    """

    element: int
    state: int
    first: int
    last: int
    certain: int


@dataclass(eq=False)
class KnownExpansions:
    """Cached results for graphs of the same scopes.

    Attributes:
        elements: The elements with hidden ones, of each expansion so far.
        groupings: How the small factors are gathered.
    """

    elements: list[Elements] = field(default_factory=list)
    groupings: deque[Grouping] = field(default_factory=lambda: deque(maxlen=_GROUPINGS))

    def with_hidden(self, elements: Elements, hidden: Sequence[Variable]) -> Elements:
        """Return a graph's elements with hidden ones behind them."""
        variables = (*elements.variables, *hidden)
        for known in self.elements:
            if known.variables == variables:
                return known
        extended = Elements(variables)
        self.elements = [*self.elements[1 - _GROUPINGS :], extended]
        return extended


@dataclass(frozen=True, eq=False)
class Expansion:
    """A graph's factors with hidden elements behind its own; all of them are to be summed out.

    The numbers of the graph's own elements, and the columns of their states, stay what they are.

    Attributes:
        elements: The elements, hidden ones last.
        groups: The factors; what neither decomposes nor is small stays as it was.
        order: ``(E,)`` ranks of the graph's own elements, by which all gates combine causes.
        following: ``(H,)`` of each hidden element the cause that its gate combines next, or -1.
        rules: States of hidden elements that are certain given observed ones.
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
        """Decompose factors that are not written down.

        Args:
            elements: Of a graph.
            groups: Its factors.
            most: Entries of the largest table that is rather written down.
            known: Cache for such graphs; it is extended.
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
        """How many elements are the graph's own."""
        return len(self.order)

    def rank(self, order: Ints | None = None) -> Ints:
        """Return ranks of all elements, by which elimination is cheap.

        A hidden element goes just before the cause that its gate combines next.

        Args:
            order: ``(E,)`` of the graph's own; the order of the gates if not given, along which
                few of them are under way at any time.
        """
        singly = 2 * (self.order if order is None else order) + 1
        return np.concatenate([singly, np.where(self.following < 0, 0, singly[self.following] - 1)])

    def codes(self, codes: Codes) -> Codes:
        """Return ``(B, E)`` codes with those of hidden elements, where they are certain."""
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
        """Return evidence as it is about these elements."""
        if observed.codes.shape[1] == len(self.elements):
            return observed
        soft = observed.soft
        if soft is not None:
            more = int(self.elements.offset[-1]) - soft.shape[1]
            soft = np.concatenate([soft, np.ones((len(soft), more))], axis=1)
        return replace(observed, codes=self.codes(observed.codes), soft=soft)


def _common_order(causes: Sequence[Ints], num_elements: int) -> Ints:
    """Return ``(E,)`` ranks: the causes of the smallest gate come first, then those of the next.

    Between two causes only those gates are under way that have some before and some after.

    Args:
        causes: Numbers of the elements of which each gate combines the effects.
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
    """Return ``(H,)`` of each hidden element the cause that its gate combines next; -1 if none.

    Args:
        ranks: ``(E,)`` in which order causes are combined.
        groups: The small factors.
        num_hidden: Hidden elements ``H``, which come last.
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
