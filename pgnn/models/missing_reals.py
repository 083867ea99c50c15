"""Real variables that were not observed: left out where nothing depends on them."""

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
    """Finds real variables that integrate to one, so that their densities may be left out.

    Args:
        graph: Dependencies between variables.
        reals: The real variables that may be missing.
    """

    def __init__(self, graph: nx.DiGraph, reals: Collection[Name]) -> None:
        self.graph, self.reals = graph, frozenset(reals)

    def left_out(self, observed: Collection[Name]) -> set[Name]:
        """Return the real variables that were not observed and on which nothing depends.

        Raises:
            Unsupported: If something depends on one that was not observed; both are named.
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
            Unsupported: If something depends on a variable that is missing in some rows.
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
                    f"{name!r} has no states and is missing in some rows, but {child!r} depends "
                    "on it; query the rows in which it was observed, or use a sampling engine"
                )
            missing[name] = rows
        return missing
