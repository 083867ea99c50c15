"""Unobserved real variables without children, which integrate to one."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Generic, TypeVar

import networkx as nx
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.finite import all_finite
from pgnn.factors.gaussians.hidden_reals import without_sum
from pgnn.graphs.relatives import ancestors

Name = TypeVar("Name", bound=Hashable)


class MissingReals(Generic[Name]):
    """Finds unobserved real variables whose densities integrate to one and can be omitted.

    Args:
        graph: The graph of the variables.
        reals: The real variables that may be missing.
    """

    def __init__(self, graph: nx.DiGraph, reals: Collection[Name]) -> None:
        self.graph, self.reals = graph, frozenset(reals)

    def left_out(self, observed: Collection[Name]) -> set[Name]:
        """Return the unobserved real variables without children.

        Raises:
            Unsupported: If an unobserved one has a child; the message names both.
        """
        missing = self.reals.difference(observed)
        if not missing:
            return set()
        needed = ancestors(self.graph, set(self.graph) - missing)
        for name in self.graph:
            if name in missing and name in needed:
                child = next(c for c in self.graph.successors(name) if c in needed)
                raise without_sum(name, child)
        return set(missing)

    def unobserved_rows(self, observed: Mapping[Name, Tensor]) -> dict[Name, Tensor]:
        """Return masks ``(B,)`` of the rows in which entries of real variables are missing.

        Args:
            observed: ``(B, ...)`` values, ``NaN`` where not observed.

        Raises:
            Unsupported: If a variable that is missing in some rows has a child.
        """
        missing = {}
        for name, x in observed.items():
            if name not in self.reals or all_finite(x):
                continue
            rows = x.detach().isnan().unsqueeze(1).flatten(start_dim=1).any(dim=1)
            if not bool(rows.any()):
                continue
            for child in self.graph.successors(name):
                raise Unsupported(
                    f"{name!r} is real and missing in some rows, but {child!r} depends on it",
                    "query the rows in which it was observed, or use a sampling engine",
                )
            missing[name] = rows
        return missing
