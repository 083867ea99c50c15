"""What propagation needs to know of a graph, whatever was seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.propagation_tables import Tables, tables_of
from pgnn.inference.propagation.spanning_forests import SpanningForests
from pgnn.inference.wiring import Wiring

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PropagationPlan:
    """A graph's integers and tables as the kernels read them.

    Args:
        graph: Elements and factors.
        temperature: Of the distribution; at zero sums become maxima.
        num_forests: Of how many random forests, at least, the factors' weights are made; none if
            the weights are ones. A graph without loops has none in any case.
        seed: Of the forests.
    """

    graph: FactorGraph
    temperature: float = 1.0
    num_forests: int = 0
    seed: int = 0

    @property
    def hard(self) -> bool:
        """Whether sums are maxima, and numbers logarithms."""
        return self.temperature == 0

    @property
    def algebra(self) -> tuple[int, ...]:
        """Which arithmetic the kernels use."""
        from pgnn.inference.kernels.algebra import MAX_PRODUCT, SUM_PRODUCT

        return MAX_PRODUCT if self.hard else SUM_PRODUCT

    @cached_property
    def forests(self) -> SpanningForests | None:
        """Where the weights come from."""
        if not self.num_forests or self.acyclic:
            return None
        return SpanningForests.draw(self._structure, self.num_forests, self.seed)

    @cached_property
    def tables(self) -> Tables:
        """Scaled tables."""
        weights = None if self.forests is None else self.forests.weights
        return tables_of(self.graph, self.temperature, weights)

    @cached_property
    def routes(self) -> Any:
        """Integers, see :class:`~pgnn.inference.propagation.kernels.propagation_arrays.Routes`."""
        structure = self._structure
        factor = structure.factor.copy()
        factor[:, 2] = self.tables.start
        return structure._replace(factor=factor)

    @cached_property
    def acyclic(self) -> bool:
        """Whether the factor graph is a forest."""
        from pgnn.inference.propagation.kernels.propagation_values import span

        num, factors = len(self.graph.elements), len(self._structure.factor)
        parent, seen = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        member = np.zeros(factors, dtype=np.bool_)
        return bool(span(self._structure, np.arange(factors), parent, seen, member) == factors)

    @cached_property
    def order(self) -> Ints:
        """``(E,)`` elements as a walk through the graph reaches them."""
        return self.walk(np.ones(len(self._structure.factor), dtype=np.bool_))[0]

    def walk(self, member: Mask) -> tuple[Ints, Ints, Ints]:
        """Walk through some of the factors.

        Args:
            member: ``(F,)`` which.

        Returns:
            ``(E,)`` elements in the order reached; ``(E,)`` the slot by which each was reached, -1
            for roots; slots of the factors nearest to the root, in the order reached.
        """
        from pgnn.inference.propagation.kernels.propagation_values import breadth_first

        num = len(self.graph.elements)
        order, reached = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        through = np.zeros(len(self._structure.factor), dtype=np.int64)
        count = breadth_first(self._structure, member, order, reached, through)
        return order, reached, through[:count].copy()

    @cached_property
    def depth(self) -> int:
        """Most factors between an element and the one from which a walk begins."""
        order, reached, through = self.walk(np.ones(len(self._structure.factor), dtype=np.bool_))
        wiring = self.graph.wiring
        nearest = dict(zip(wiring.slot_factor[through], wiring.scope_var[through], strict=True))
        depth = np.zeros(len(order), dtype=np.int64)
        for e in order:
            if reached[e] >= 0:
                depth[e] = depth[nearest[wiring.slot_factor[reached[e]]]] + 1
        return int(depth.max(initial=0))

    @cached_property
    def sizes(self) -> Ints:
        """``(F,)`` entries of each factor's table, as far as messages must walk over them."""
        groups = self.graph.compiled
        costs = np.array([g.message_cost for g in groups], dtype=np.int64)
        return np.repeat(costs, [g.num_factors for g in groups])

    @cached_property
    def cost(self) -> float:
        """About how many numbers an iteration walks over."""
        wiring = self.graph.wiring
        return float(2 * self.sizes.sum() + 4 * wiring.message[-1] + 4 * wiring.offset[-1])

    @cached_property
    def _structure(self) -> Any:
        """Routes as far as they do not depend on where the tables are."""
        return routes_of(self.graph.wiring)

    def work(self) -> Any:
        """Memory for a thread, see ``Work`` of the kernels."""
        from pgnn.inference.propagation.kernels.propagation_arrays import Work

        wiring = self.graph.wiring
        num, card = len(wiring.card), wiring.card
        scope = np.diff(wiring.message[wiring.scope_ptr])
        largest = max(self.sizes.max(initial=1), scope.max(initial=1), card.max(initial=1))
        return Work(
            state=np.full(num, -1),
            heap=np.arange(num),
            place=np.arange(num),
            scratch=np.zeros(4 * int(largest)),
        )


def routes_of(wiring: Wiring) -> Any:
    """Gather a graph's integers as the kernels read them; no factor has a table yet."""
    from pgnn.inference.propagation.kernels.propagation_arrays import Routes

    num, slots = len(wiring.card), wiring.var_slot
    factor = np.zeros((len(wiring.kind), 4), dtype=np.int64)
    factor[:, 0], factor[:, 1] = wiring.scope_ptr[:-1], np.diff(wiring.scope_ptr)
    factor[:, 3] = wiring.kind
    slot = np.zeros((len(slots), 4), dtype=np.int32)
    var = wiring.scope_var
    slot[:, 0], slot[:, 1], slot[:, 3] = wiring.offset[var], wiring.message[:-1], var
    slot[:, 2] = wiring.card[var]
    element = np.zeros((num + 1, 3), dtype=np.int32)
    element[:, 0], element[:num, 1], element[:, 2] = wiring.offset, wiring.card, wiring.var_ptr
    inbox = np.zeros((len(slots), 3), dtype=np.int32)
    inbox[:, 0], inbox[:, 1] = wiring.message[slots], slots
    inbox[:, 2] = wiring.slot_factor[slots]
    return Routes(factor, slot, element, inbox)
