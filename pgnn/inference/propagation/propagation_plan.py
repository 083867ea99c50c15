"""Data of a graph that do not depend on the evidence: traversal order, tables, forests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.compilation import KERNELS
from pgnn.inference.wiring import MessageWiring
from pgnn.limits import check_size

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_SLOT = 50.0  # nanoseconds
_CHUNK = 2**18  # entries written at once, so that intermediate arrays stay small


class ScaledTables(NamedTuple):
    """The tables of all factors in the arithmetic of the kernels.

    Attributes:
        values: ``(1, T)`` or ``(B, T)`` scaled probabilities, or log values.
        start: ``(F,)`` first entry of each factor.
        log_scale: ``(1,)`` or ``(B,)`` log of the product of all scales.
        log_range: Largest difference of two finite log values in one table.
    """

    values: Floats
    start: Ints
    log_scale: Floats
    log_range: float


def scaled_tables(graph: FactorGraph, temperature: float, weights: Floats | None) -> ScaledTables:
    r"""Return tables to the power :math:`1 / (T \rho_f)`, scaled to a largest entry of one.

    Args:
        graph: The factors.
        temperature: ``T``; at zero the log values (divided by :math:`\rho_f`) are returned.
        weights: ``(F,)`` positive powers, or None for ones.
    """
    entries = [_numbers(g) for g in graph.compiled]
    counts = [
        g.num_factors if weights is not None else n.shape[1]
        for g, n in _groups_with_entries(graph, entries)
    ]
    sizes = [n.shape[2] for n in entries]
    rows = max([len(n) for n in entries if len(n) != 1], default=1)
    values = np.zeros((rows, 1 + sum(c * s for c, s in zip(counts, sizes, strict=True))))
    starts, scale = [np.zeros(0, np.int64)], np.zeros(rows)
    widest = 0.0
    first, factor = 1, 0
    for g, numbers, count, size in zip(graph.compiled, entries, counts, sizes, strict=True):
        rho = np.ones(1) if weights is None else weights[factor : factor + g.num_factors]
        target = values[:, first : first + count * size].reshape(rows, count, size)
        group_scale, log_range = _fill(target, numbers, rho, temperature)
        scale += group_scale * (g.num_factors if count == 1 else 1)
        widest = max(widest, log_range)
        starts.append(first + (size if count > 1 else 0) * np.arange(g.num_factors))
        first += count * size
        factor += g.num_factors
    return ScaledTables(values, np.concatenate(starts), scale, widest)


def _groups_with_entries(
    graph: FactorGraph, entries: list[Floats]
) -> Iterator[tuple[FactorGroup, Floats]]:
    return zip(graph.compiled, entries, strict=True)


def _numbers(g: FactorGroup) -> Floats:
    """``(1 or B, F or 1, size)`` entries of a group, without a copy if possible."""
    entries = g.entries().detach().to("cpu").double().numpy()
    return np.asarray(entries if g.batch_shape else entries[None])


def _fill(target: Floats, numbers: Floats, rho: Floats, temperature: float) -> tuple[Floats, float]:
    """Write the tables of a group; return the log scales and the largest log range.

    Args:
        target: ``(B, F or 1, size)`` zeros that are overwritten; a view.
        numbers: ``(B or 1, F or 1, size)`` logarithms.
        rho: ``(F,)`` or ``(1,)`` powers.
        temperature: The temperature; at zero log values are written.
    """
    scale, widest = np.zeros(len(target)), 0.0
    count, size = target.shape[1:]
    step = max(1, _CHUNK // (size * max(len(target), 1)))
    for first in range(0, count, step):
        part = slice(first, first + step)
        tables, entries = target[:, part], numbers if numbers.shape[1] == 1 else numbers[:, part]
        weight = rho if len(rho) == 1 else rho[part]
        power = 1.0 / (weight * (temperature or 1.0))
        np.multiply(entries, power[:, None], out=tables)
        finite = ~np.isneginf(tables)
        top = tables.max(axis=2)
        top[np.isneginf(top)] = 0.0
        least = tables.min(axis=2, initial=np.inf, where=finite)
        widest = max(widest, float((top - least).max(initial=0.0)))
        if temperature > 0:
            tables -= top[:, :, None]
            np.exp(tables, out=tables)
            scale += (top * weight).sum(axis=1)
    return scale, widest


@dataclass(frozen=True, eq=False)
class SpanningForests:
    r"""Forests of factors that together cover a graph, and the factors' weights.

    Factors are tried in an order; a factor is added if no two of its elements are connected
    already. Factors that are in the fewest forests so far come first, with random ties, so that the
    weights

    .. math:: \rho_f = \frac{1}{N} \#\{n : f \in T_n\}

    are as equal as the graph allows, and positive.

    Args:
        members: ``(N, F)`` whether a factor is in a forest.

    References:
        Wainwright, Jaakkola and Willsky (2005), A new class of upper bounds on the log partition
        function, section V.
    """

    members: Mask

    @classmethod
    def draw(cls, wiring: MessageWiring, at_least: int, seed: int) -> SpanningForests:
        """Draw enough forests to cover all factors.

        Args:
            wiring: Wiring of the graph.
            at_least: Smallest number of forests.
            seed: Random seed; the same seed gives the same forests.
        """
        from pgnn.inference.propagation.kernels.values import spanning_forest

        num = len(wiring.factor)
        check_size(f"{at_least:,} forests", at_least * max(num, 1), advice="Draw fewer", each=1)
        run = KERNELS.choose(spanning_forest, _SLOT * len(wiring.slot))
        random = np.random.default_rng(seed)
        count = np.zeros(num, dtype=np.int64)
        parent, observed = (np.zeros(len(wiring.element) - 1, dtype=np.int64) for _ in range(2))
        forests: list[Mask] = []
        while len(forests) < at_least or (num and count.min() == 0):
            member = np.zeros(num, dtype=np.bool_)
            run(wiring, np.lexsort((random.random(num), count)), parent, observed, member)
            count += member
            forests.append(member)
            if member.all():
                break
        return cls(np.array(forests))

    @property
    def weights(self) -> Floats:
        """``(F,)`` share of the forests that each factor is in."""
        return np.asarray(self.members.mean(axis=0))

    def __iter__(self) -> Iterator[Mask]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True, eq=False)
class PropagationPlan:
    """Wiring and tables of a graph in the layout of the kernels.

    Args:
        graph: Elements and factors.
        temperature: Temperature of the distribution; at zero sums become maxima.
        num_forests: Smallest number of random forests from which the factors' weights are computed;
            0 if the weights are ones. A graph without loops needs none.
        seed: Random seed of the forests.
    """

    graph: FactorGraph
    temperature: float = 1.0
    num_forests: int = 0
    seed: int = 0

    @property
    def max_product(self) -> bool:
        """Whether sums are replaced by maxima, and values are logarithms."""
        return self.temperature == 0

    @property
    def algebra(self) -> tuple[int, ...]:
        """The arithmetic of the kernels."""
        from pgnn.inference.kernels.algebra import MAX_PRODUCT, SUM_PRODUCT

        return MAX_PRODUCT if self.max_product else SUM_PRODUCT

    @cached_property
    def forests(self) -> SpanningForests | None:
        """The forests from which the weights are computed; None if the weights are ones."""
        if not self.num_forests or self.acyclic:
            return None
        return SpanningForests.draw(self.graph.message_wiring, self.num_forests, self.seed)

    @cached_property
    def tables(self) -> ScaledTables:
        """Scaled tables."""
        weights = None if self.forests is None else self.forests.weights
        return scaled_tables(self.graph, self.temperature, weights)

    @cached_property
    def wiring(self) -> MessageWiring:
        """Wiring of the graph, with the offsets of the scaled tables."""
        return self.graph.message_wiring.with_tables(self.tables.start)

    @cached_property
    def acyclic(self) -> bool:
        """Whether the factor graph is a forest."""
        from pgnn.inference.propagation.kernels.values import spanning_forest

        wiring = self.graph.message_wiring
        num, factors = len(self.graph.elements), len(wiring.factor)
        parent, observed = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        member = np.zeros(factors, dtype=np.bool_)
        run = KERNELS.choose(spanning_forest, self.cost)
        return bool(run(wiring, np.arange(factors), parent, observed, member) == factors)

    @cached_property
    def order(self) -> Ints:
        """``(E,)`` elements in the order of a traversal of the graph."""
        return self._full_traversal[0]

    def traverse(self, member: Mask) -> tuple[Ints, Ints, Ints]:
        """Traverse the graph of some of the factors, breadth first.

        Args:
            member: ``(F,)`` the factors to traverse.

        Returns:
            ``(E,)`` elements in the order reached; ``(E,)`` the slot by which each was reached, -1
            for roots; slots of the factors nearest to the root, in the order reached.
        """
        from pgnn.inference.propagation.kernels.values import breadth_first

        num = len(self.graph.elements)
        order, reached = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        through = np.zeros(self.graph.num_interactions, dtype=np.int64)
        run = KERNELS.choose(breadth_first, self.cost)
        count = run(self.graph.message_wiring, member, order, reached, through)
        return order, reached, through[:count].copy()

    @cached_property
    def _full_traversal(self) -> tuple[Ints, Ints, Ints]:
        return self.traverse(np.ones(self.graph.num_interactions, dtype=np.bool_))

    @cached_property
    def depth(self) -> int:
        """Largest number of factors between an element and its root in the traversal."""
        order, reached, through = self._full_traversal
        wiring = self.graph.wiring
        nearest = dict(zip(wiring.slot_factor[through], wiring.slot_var[through], strict=True))
        depth = np.zeros(len(order), dtype=np.int64)
        for e in order:
            if reached[e] >= 0:
                depth[e] = depth[nearest[wiring.slot_factor[reached[e]]]] + 1
        return int(depth.max(initial=0))

    @cached_property
    def sizes(self) -> Ints:
        """``(F,)`` number of table entries of each factor that messages visit."""
        groups = self.graph.compiled
        costs = np.array([g.message_cost for g in groups], dtype=np.int64)
        return np.repeat(costs, [g.num_factors for g in groups])

    @cached_property
    def cost(self) -> float:
        """Approximate number of table entries that an iteration visits."""
        wiring = self.graph.wiring
        return float(2 * self.sizes.sum() + 4 * wiring.message[-1] + 4 * wiring.offset[-1])

    def work(self) -> Any:
        """Return the working memory of a thread, see ``SweepMemory`` of the kernels."""
        from pgnn.inference.propagation.kernels.sweeps import SweepMemory

        wiring = self.graph.wiring
        num, card = len(wiring.card), wiring.card
        scope = np.diff(wiring.message[wiring.factor_ptr])
        largest = max(self.sizes.max(initial=1), scope.max(initial=1), card.max(initial=1))
        return SweepMemory(
            state=np.full(num, -1),
            heap=np.arange(num),
            place=np.arange(num),
            scratch=np.zeros(4 * int(largest)),
        )
