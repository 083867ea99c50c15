"""pyAgrum, the fastest library for one row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.networks import Network
from benchmarks.timing import Contender

# LazyPropagation does not finish a row of link; Shafer-Shenoy takes about two seconds.
ENGINES = {"link": "ShaferShenoyInference"}


class PyAgrum(Contender):
    """All marginals of the unobserved variables, one row a call.

    Args:
        network: The network; it is built from its tables, so that both libraries compute with
            the same doubles (pyAgrum reads files in single precision).
        codes: Evidence ``(n, V)``, -1 where nothing was observed.
        items: Single rows, the order in which they are answered.
        shared: Whether all rows observe the same variables; then the engine is told only of the
            new values, which spares it a new junction tree.
    """

    name = "pyAgrum"

    def __init__(
        self, network: Network, codes: np.ndarray, items: Sequence[np.ndarray], shared: bool
    ) -> None:
        import pyagrum

        self.network, self.codes, self.items, self.shared = network, codes, items, shared
        self.net = build(network)
        self.engine = getattr(pyagrum, ENGINES.get(network.name, "LazyPropagation"))(self.net)
        if shared:
            self.engine.setEvidence(self.prepare(items[0])[0])

    def prepare(self, rows: np.ndarray) -> tuple[dict[int, int], list[int]]:
        row = self.codes[rows[0]].tolist()
        observed = {v: code for v, code in enumerate(row) if code >= 0}
        return observed, [v for v, code in enumerate(row) if code < 0]

    def run(self, prepared: tuple[dict[int, int], list[int]]) -> list[np.ndarray]:
        observed, free = prepared
        if self.shared:
            for v, code in observed.items():
                self.engine.chgEvidence(v, code)
        else:
            self.engine.setEvidence(observed)
        self.engine.makeInference()
        return [self.engine.posterior(v).toarray() for v in free]

    def answers(self, result: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
        out = self.network.one_hot(self.codes[rows])
        starts = self.network.starts
        for v, found in zip(self.prepare(rows)[1], result, strict=True):
            out[0, starts[v] : starts[v + 1]] = found
        return out


def build(network: Network) -> Any:
    """Return the network as pyAgrum's; its node ids are the positions of the variables."""
    import pyagrum

    net = pyagrum.BayesNet(network.name)
    for v, card in enumerate(network.cards.tolist()):
        net.add(pyagrum.LabelizedVariable(f"x{v}", "", card))
    for v, parents in enumerate(network.parents):
        for p in parents:
            net.addArc(p, v)
    for v, table in enumerate(network.tables):
        # A table's axes are its variables from last to first, and the child is the first.
        parents = network.parents[v]
        axes = (*range(len(parents))[::-1], len(parents))
        net.cpt(v)[:] = np.ascontiguousarray(table.transpose(axes))
    return net
