"""Greedy heuristics for elimination orders: the cost of eliminating a node next.

All costs are integers, so that they are exact and do not depend on the order of summation: two
implementations of a rule choose the same node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pgnn.graphs.bitset import bits


class Weights:
    """Integer weights of nodes, ready to be added up or multiplied over bit sets.

    Args:
        values: One weight a node, by position.

    Example:
        >>> weights = Weights([5, 3, 5])
        >>> weights.total(0b101), weights.product(0b101)
        (10, 25)
    """

    __slots__ = ("_classes", "values")

    def __init__(self, values: Sequence[int]) -> None:
        self.values = tuple(values)
        members: dict[int, int] = {}
        for node, weight in enumerate(self.values):
            members[weight] = members.get(weight, 0) | 1 << node
        self._classes = tuple(members.items())

    def total(self, mask: int) -> int:
        """Return the sum of the weights of the nodes in a bit set."""
        total = 0
        for weight, members in self._classes:
            total += weight * (mask & members).bit_count()
        return total

    def product(self, mask: int) -> int:
        """Return the product of the weights of the nodes in a bit set."""
        product = 1
        for weight, members in self._classes:
            product *= weight ** (mask & members).bit_count()
        return product


class Heuristic(ABC):
    """A rule that gives every node an integer cost; the cheapest node is eliminated next.

    Attributes:
        counts_fill: Whether the cost depends on the edges among a node's neighbours, and not only
            on who the neighbours are.
    """

    counts_fill: ClassVar[bool]

    @abstractmethod
    def weights(self, num_states: Sequence[int]) -> Weights:
        """Return the weights of the nodes that :meth:`cost` works with.

        Args:
            num_states: Number of states of each node, by position.

        Returns:
            One weight a node.
        """

    @abstractmethod
    def cost(self, node: int, adjacency: Sequence[int], weights: Weights) -> int:
        """Return the cost of eliminating a node next.

        Args:
            node: Position of the node.
            adjacency: Neighbours of each node as bit sets, eliminated nodes left out.
            weights: What :meth:`weights` returned.

        Returns:
            The cost.
        """


class _Fill(Heuristic):
    counts_fill = True

    def cost(self, node: int, adjacency: Sequence[int], weights: Weights) -> int:
        """Sum the products of weights over the pairs of neighbours that are not joined."""
        around = later = adjacency[node]
        total = 0
        for other in bits(around):
            later &= later - 1  # each pair once: drop the lowest, which is `other`
            apart = later & ~adjacency[other]
            if apart:
                total += weights.values[other] * weights.total(apart)
        return total


@dataclass(frozen=True)
class MinFill(_Fill):
    r"""Least number of edges that must be added among the neighbours.

    .. math:: c(v) = |\{\{a, b\} \subseteq N(v) : a \not\sim b\}|

    References:
        Kjærulff (1990); Koller and Friedman (2009), section 9.4.3.2.
    """

    def weights(self, num_states: Sequence[int]) -> Weights:
        """Return ones."""
        return Weights([1] * len(num_states))

    def cost(self, node: int, adjacency: Sequence[int], weights: Weights) -> int:
        """Count the pairs of neighbours that are not joined, faster than by weights."""
        around = adjacency[node]
        size = around.bit_count()
        joined = sum([(around & adjacency[other]).bit_count() for other in bits(around)])
        return (size * (size - 1) - joined) // 2


@dataclass(frozen=True)
class WeightedMinFill(_Fill):
    r"""Least sum, over the edges that must be added, of the product of the state counts.

    .. math:: c(v) = \sum_{\{a, b\} \subseteq N(v),\, a \not\sim b} K_a K_b

    References:
        Koller and Friedman (2009), section 9.4.3.2.
    """

    def weights(self, num_states: Sequence[int]) -> Weights:
        """Return the state counts."""
        return Weights(num_states)


@dataclass(frozen=True)
class Ranked(MinFill):
    r"""Safe nodes first (no fill-in, or at most two neighbours), then by rank.

    .. math:: c(v) = 0 \text{ if } |N(v)| \le 2 \text{ or no edge is to be added, else } 1 + r_v

    Args:
        rank: Of each node, by position; not negative.

    References:
        Bodlaender, Koster and van den Eijkhof (2005), Preprocessing rules for triangulation of
        probabilistic networks.
    """

    rank: tuple[int, ...]

    def cost(self, node: int, adjacency: Sequence[int], weights: Weights) -> int:
        """Return the rank, unless the node can go without harm."""
        harmless = adjacency[node].bit_count() <= 2 or super().cost(node, adjacency, weights) == 0
        return 0 if harmless else 1 + self.rank[node]


@dataclass(frozen=True)
class MinWeight(Heuristic):
    r"""Smallest table over the node and its neighbours.

    .. math:: c(v) = \prod_{u \in \{v\} \cup N(v)} K_u

    References:
        Kjærulff (1990); Koller and Friedman (2009), section 9.4.3.2.
    """

    counts_fill = False

    def weights(self, num_states: Sequence[int]) -> Weights:
        """Return the state counts."""
        return Weights(num_states)

    def cost(self, node: int, adjacency: Sequence[int], weights: Weights) -> int:
        """Multiply the state counts of the node and its neighbours."""
        return weights.product(adjacency[node] | 1 << node)


@dataclass(frozen=True)
class MinDegree(Heuristic):
    r"""Fewest neighbours.

    .. math:: c(v) = |N(v)|

    References:
        Kjærulff (1990); Koller and Friedman (2009), section 9.4.3.2 (min-neighbors).
    """

    counts_fill = False

    def weights(self, num_states: Sequence[int]) -> Weights:
        """Return ones."""
        return Weights([1] * len(num_states))

    def cost(self, node: int, adjacency: Sequence[int], weights: Weights) -> int:
        """Count the neighbours."""
        return adjacency[node].bit_count()
