"""pgnn, as a user who is in a hurry calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.networks import Network
from benchmarks.references import score
from benchmarks.timing import Contender


class Pgnn(Contender):
    """All marginals by a compiled query.

    Args:
        network: The network.
        codes: Evidence ``(n, V)``, -1 where nothing was observed.
        items: Rows of each call; an item of one row is asked without a batch axis.
        observed: Positions of what every row observes, to have a plan sliced for that set;
            without it each row may observe anything.
    """

    name = "pgnn"

    def __init__(
        self,
        network: Network,
        codes: np.ndarray,
        items: Sequence[np.ndarray],
        observed: np.ndarray | None = None,
    ) -> None:
        names = None if observed is None else [network.names[v] for v in observed]
        self.query = network.model.compile(observed=names)
        self.network, self.codes, self.items = network, codes, items
        position = {name: v for v, name in enumerate(network.names)}
        self.columns = [position[name] for name in self.query.observed]
        places = (self.query.columns[name] for name in network.names)
        self.order = np.concatenate([np.arange(p.start, p.stop) for p in places])

    def prepare(self, rows: np.ndarray) -> np.ndarray:
        codes = np.ascontiguousarray(self.codes[rows][:, self.columns])
        return codes[0] if len(rows) == 1 else codes

    def run(self, prepared: np.ndarray) -> Tensor:
        return self.query(prepared).marginals

    def answers(self, result: Tensor, rows: np.ndarray) -> np.ndarray:
        return result.numpy().reshape(len(rows), -1)[:, self.order]


class PgnnExplanation(Contender):
    """Most probable explanations, one row a call, evidence and answer by state label."""

    name = "pgnn"

    def __init__(self, network: Network, codes: np.ndarray, items: Sequence[np.ndarray]) -> None:
        self.network, self.codes, self.items = network, codes, items
        self.variables = list(network.model.variables.values())

    def prepare(self, rows: np.ndarray) -> dict[Any, Any]:
        row = zip(self.variables, self.codes[rows[0]].tolist(), strict=True)
        return {v.name: v.states[code] for v, code in row if code >= 0}

    def run(self, prepared: dict[Any, Any]) -> Any:
        return self.network.model.most_probable(prepared)

    def answers(self, result: Any, rows: np.ndarray) -> np.ndarray:
        states = [v.index(result[v.name]) for v in self.variables]
        return score(self.network, self.codes[rows], np.array([states]))
