"""What a program tells about one of its sample sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import networkx as nx

from pgnn.factors.variable import Variable


@dataclass(frozen=True, eq=False)
class ProgramSite:
    """One sample statement of a program.

    Attributes:
        name: Of the site.
        variable: What stands for it in questions and evidence; None if the program observes it.
        parents: The sites that its distribution depends on, in the order of the program.
        plates: The size of each plate around it, the outermost first.
        observed: Whether the program itself observes it (``obs=``).
    """

    name: str
    variable: Variable | None
    parents: tuple[str, ...]
    plates: Mapping[str, int]
    observed: bool

    @classmethod
    def read(cls, source: Any) -> dict[str, ProgramSite]:
        """Return the sites of a program that was read.

        Args:
            source: With ``sites``, ``names``, ``variables`` and ``graph``.
        """
        graph: nx.DiGraph = source.graph
        found = {}
        for name, site in source.sites.items():
            plates = {a.name: a.size for a in site.axes if a.name is not None}
            before = set(graph.predecessors(name))
            found[name] = cls(
                name=name,
                variable=source.variables[source.names[name]] if name in source.names else None,
                parents=tuple(n for n in source.sites if n in before),
                plates=MappingProxyType(plates),
                observed=name not in source.names,
            )
        return found
