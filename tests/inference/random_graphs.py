"""Random factor graphs with evidence, and what the oracle says about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.exact import planner
from pgnn.inference.factor_graph import FactorGraph
from tests import oracle

KINDS = (*oracle.KINDS, "markov")


@dataclass
class RandomGraph:
    """A random model of a kind of the oracle's, or ``"markov"``, with evidence rows.

    Args:
        seed: Of everything.
        kind: Which.
        rows: How many rows of evidence.
        share: Share of variables that a row observes.
        soft: Whether up to two variables have likelihoods (and are not observed).
        num_variables: How many.
    """

    seed: int
    kind: str = "loop"
    rows: int = 3
    share: float = 0.3
    soft: bool = False
    num_variables: int = 6
    cards: dict[str, int] = field(init=False)
    tables: list[oracle.Table] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = rng = np.random.default_rng(self.seed)
        children: list[str | None]
        if self.kind == "markov":
            self.cards, self.tables = oracle.random_factors(rng, self.num_variables)
            children = [None] * len(self.tables)
        else:
            network = oracle.random_network(rng, self.kind, self.num_variables)
            self.cards, self.tables = network.cards, network.tables
            children = [scope[-1] for scope, _ in self.tables]
        self.names = list(self.cards)
        variables = {n: Variable(n, k) for n, k in self.cards.items()}
        with np.errstate(divide="ignore"):
            self.graph = FactorGraph(
                tuple(variables.values()),
                tuple(
                    Factor([variables[n] for n in s], torch.from_numpy(np.log(t)), child)
                    for (s, t), child in zip(self.tables, children, strict=True)
                ),
            )
        softly = rng.permutation(self.names)[: 2 * self.soft].tolist()
        drawn = oracle.random_evidence(rng, self.joint({}), self.share, self.rows)
        self.evidence = [{n: k for n, k in row.items() if n not in softly} for row in drawn]
        self.codes = np.array(
            [[row.get(n, -1) for n in self.names] for row in self.evidence], dtype=np.int32
        ).reshape(self.rows, len(self.names))
        self.likelihoods = self._likelihoods(softly) if self.soft else None

    def _likelihoods(self, softly: list[str]) -> np.ndarray:
        """``(B, S)`` likelihoods of these variables, the largest one; ones elsewhere."""
        offset = self.graph.offset
        soft = np.ones((self.rows, int(offset[-1])))
        for v in map(self.names.index, softly):
            part = self.rng.random((self.rows, int(self.graph.card[v]))) + 0.05
            soft[:, offset[v] : offset[v + 1]] = part / part.max(axis=1, keepdims=True)
        return soft

    def joint(self, row: dict[str, int], soft: Any = None) -> oracle.Joint:
        return oracle.joint(self.cards, self.tables, row, soft)

    @property
    def joints(self) -> list[oracle.Joint]:
        """The joint of every row with its evidence."""
        found = []
        for b, row in enumerate(self.evidence):
            soft = None
            if self.likelihoods is not None:
                parts = np.split(self.likelihoods[b], self.graph.offset[1:-1])
                soft = dict(zip(self.names, parts, strict=True))
            found.append(self.joint(row, soft))
        return found

    @property
    def log_evidence(self) -> np.ndarray:
        return np.array([oracle.log_evidence(joint) for joint in self.joints])

    def marginals(self, wanted: np.ndarray | None = None) -> np.ndarray:
        """``(B, S)`` marginals of the wanted variables, or of all."""
        keep = np.ones(len(self.names), bool) if wanted is None else wanted
        names = [n for n, flag in zip(self.names, keep, strict=True) if flag]
        rows = [
            np.concatenate([np.empty(0), *(oracle.marginal(joint, [n]) for n in names)])
            for joint in self.joints
        ]
        return np.array(rows).reshape(self.rows, -1)

    def assignment(self, states: np.ndarray) -> dict[str, int]:
        return {n: int(s) for n, s in zip(self.names, states, strict=True)}


@contextmanager
def planning(free: bool) -> Iterator[None]:
    """Where planning costs nothing, rows get plans of their own, cut to what they observe."""
    with pytest.MonkeyPatch.context() as patch:
        if free:
            patch.setattr(planner, "_PLANNING", 0.0)
            patch.setattr(planner, "_PLANNING_AT_ALL", 0.0)
        yield


def everything(graph: FactorGraph) -> np.ndarray:
    """All variables, as a mask."""
    return np.ones(len(graph.variables), dtype=np.bool_)


def graph_of(cards: list[int], tables: list[tuple[list[int], Any]]) -> FactorGraph:
    """A factor graph of log tables over numbered variables."""
    variables = tuple(Variable(k, n) for k, n in enumerate(cards))
    factors = tuple(
        Factor([variables[v] for v in scope], torch.as_tensor(np.asarray(t, dtype=np.float64)))
        for scope, t in tables
    )
    return FactorGraph(variables, factors)
