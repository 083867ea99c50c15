"""Random spanning forests of a factor graph, and how often each factor is in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SpanningForests:
    r"""Forests of factors that together cover a graph, and what they make of its weights.

    Factors are tried in an order; one is taken if no two of its elements are connected already.
    Those that are in the fewest forests so far come first, ties at random, so that the weights

    .. math:: \rho_f = \frac{1}{N} \#\{n : f \in T_n\}

    are as even as the graph lets them be, and none is zero.

    Args:
        members: ``(N, F)`` which factors each forest has.

    References:
        Wainwright, Jaakkola and Willsky (2005), A new class of upper bounds on the log partition
        function, section V.
    """

    members: Mask

    @classmethod
    def draw(cls, routes: Any, at_least: int, seed: int) -> SpanningForests:
        """Draw at least so many forests, and enough to cover every factor.

        Args:
            routes: The graph's integers.
            at_least: How many.
            seed: The same seed draws the same forests.
        """
        from pgnn.inference.propagation.kernels.propagation_values import span

        num = len(routes.factor)
        random = np.random.default_rng(seed)
        count = np.zeros(num, dtype=np.int64)
        parent, seen = (np.zeros(len(routes.element) - 1, dtype=np.int64) for _ in range(2))
        found: list[Mask] = []
        while len(found) < at_least or (num and count.min() == 0):
            member = np.zeros(num, dtype=np.bool_)
            span(routes, np.lexsort((random.random(num), count)), parent, seen, member)
            count += member
            found.append(member)
            if member.all():
                break
        return cls(np.array(found))

    @property
    def weights(self) -> Floats:
        """``(F,)`` share of the forests that each factor is in."""
        return np.asarray(self.members.mean(axis=0))

    def __iter__(self) -> Iterator[Mask]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)
