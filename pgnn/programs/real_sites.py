"""Real sites of a program that a question did not give: left out, or in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx
import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.programs.sites import Kind, Site


@dataclass(frozen=True, eq=False)
class RealSites:
    """Says which real sites integrate to one, so that their tables may be left out.

    Attributes:
        sites: All sites, in the order of the program.
        graph: Who depends on whom.
    """

    sites: dict[str, Site]
    graph: nx.DiGraph

    def left_out(self, given: set[str]) -> set[str]:
        """Return the real sites that are not given and on which nothing else depends.

        Raises:
            Unsupported: If one is not given and something depends on it; both are named.
        """
        found: set[str] = set()
        unknown = [n for n, s in self.sites.items() if s.kind is Kind.REAL and n not in given]
        for name in reversed(unknown):
            if found.issuperset(self.graph.successors(name)):
                found.add(name)
        for name in unknown:
            for child in self.graph.successors(name):
                if child not in found:
                    raise _in_the_way(name, child)
        return found

    def unseen_rows(self, reals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``(B,)`` rows in which real sites were not seen; sites seen in all are left out.

        Args:
            reals: ``(B, ...)`` values, ``NaN`` where not seen.

        Raises:
            Unsupported: If a value was seen in part, or something depends on one not seen.
        """
        found = {}
        for name, x in reals.items():
            missing = x.detach().isnan().unsqueeze(1).flatten(start_dim=1)
            rows = missing.any(dim=1)
            if not bool(rows.any()):
                continue
            if not torch.equal(rows, missing.all(dim=1)):
                raise Unsupported(f"real site {name!r} was seen in part in some rows")
            for child in self.graph.successors(name):
                raise _in_the_way(name, child)
            found[name] = rows
        return found

    def filled(
        self, reals: Mapping[str, Tensor], unseen: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the values with some that were drawn in the place of those not seen."""
        return {
            n: torch.where(x.isnan(), self.sites[n].drawn, x) if n in unseen else x
            for n, x in reals.items()
        }


def _in_the_way(name: str, child: str) -> Unsupported:
    return Unsupported(
        f"site {name!r} is real and not observed, and {child!r} depends on it: the sum over it "
        "has no table; give it as evidence, or use engine=pgnn.ExecutionSampling(), "
        "Variational() or MCMC()"
    )
