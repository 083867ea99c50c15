"""Bare torch loops, written for the comparison: what a person would write without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.networks import Network
from benchmarks.timing import Contender

BATCH = -1  # the index of the rows in an einsum over positions of variables
LARGEST = 2**21  # numbers in the largest intermediate that a batch is cut to
LIMIT = 2**29  # numbers in an intermediate beyond which the reference gives up


class Einsum(Contender):
    r"""One contraction for P(evidence), and autograd through it for all marginals at once.

    Every unobserved variable has a vector of ones :math:`\lambda` as a further factor;
    :math:`\partial \log Z / \partial \lambda_v` at one is the marginal of v (Darwiche 2003).
    Tables are sliced at what is observed. The greedy path is searched once for an observed set
    and not counted.

    Args:
        network: The network.
        codes: Evidence ``(n, V)``; rows in one item must observe the same variables.
        items: Rows of each call; for batches see :func:`chunk`.
    """

    name = "einsum"

    def __init__(self, network: Network, codes: np.ndarray, items: Sequence[np.ndarray]) -> None:
        self.network, self.codes, self.items = network, codes, items
        self.tables = [torch.from_numpy(t) for t in network.tables]
        self.trees: dict[tuple[bytes, int], Any] = {}

    def prepare(self, rows: np.ndarray) -> tuple[Any, Tensor, np.ndarray]:
        observed = self.codes[rows[0]] >= 0
        key = observed.tobytes(), len(rows)
        if key not in self.trees:
            self.trees[key] = path(self.network, observed, len(rows))
        columns = torch.from_numpy(self.codes[rows].T.astype(np.int64))
        return self.trees[key], columns[:, 0] if len(rows) == 1 else columns, observed

    def run(self, prepared: tuple[Any, Tensor, np.ndarray]) -> list[Tensor]:
        tree, codes, observed = prepared
        tables = []
        for v, table in enumerate(self.tables):
            family = self.network.family(v)
            if not observed[list(family)].all():
                tables.append(_slice(table, family, codes, observed))
        free = np.flatnonzero(~observed)
        shapes = [(*codes.shape[1:], int(self.network.cards[v])) for v in free]
        ones = [torch.ones(s, dtype=torch.float64, requires_grad=True) for s in shapes]
        z = tree.contract([*tables, *ones], backend="torch")
        return list(torch.autograd.grad(z.log().sum(), ones))

    def answers(self, result: list[Tensor], rows: np.ndarray) -> np.ndarray:
        out = self.network.one_hot(self.codes[rows])
        starts = self.network.starts
        free = np.flatnonzero(self.codes[rows[0]] < 0)
        for v, found in zip(free, result, strict=True):
            out[:, starts[v] : starts[v + 1]] = found.numpy()  # (K,) or (B, K)
        return out


def path(network: Network, observed: np.ndarray, rows: int) -> Any:
    """Search a contraction for an observed set: tables that are not scalars, then the ones.

    The greedy search is misled by the index of the rows now and then, so the path that it finds
    for a single row is tried on all rows, too, and the cheaper of the two is taken.
    """
    import cotengra

    sizes = {v: int(k) for v, k in enumerate(network.cards)} | {BATCH: rows}
    inputs = _inputs(network, observed, ())
    tree = cotengra.array_contract_tree(inputs, (), sizes, optimize="greedy")
    if rows > 1:
        found = tree.get_path()
        inputs = _inputs(network, observed, (BATCH,))
        trees = (
            cotengra.array_contract_tree(inputs, (BATCH,), sizes, optimize=how)
            for how in ("greedy", found)
        )
        tree = min(trees, key=lambda t: t.contraction_cost())
    if tree.contraction_width() > math.log2(LIMIT):
        raise MemoryError(f"the greedy path needs 2**{tree.contraction_width():.1f} numbers")
    return tree


def _inputs(
    network: Network, observed: np.ndarray, batch: tuple[int, ...]
) -> list[tuple[int, ...]]:
    inputs = []
    for v in range(len(network)):
        family = network.family(v)
        free = tuple(u for u in family if not observed[u])
        if free:
            inputs.append(free if len(free) == len(family) else (*batch, *free))
    return inputs + [(*batch, int(v)) for v in np.flatnonzero(~observed)]


def chunk(network: Network, observed: np.ndarray) -> int:
    """How many rows keep the largest intermediate at about 2**21 numbers, 2 to 500."""
    width = path(network, observed, 2).contraction_width() - 1
    return int(min(500, max(2, LARGEST / 2**width)))


def _slice(table: Tensor, family: Sequence[int], codes: Tensor, observed: np.ndarray) -> Tensor:
    """Table at the observed states, rows first; as it is where nothing was observed."""
    known = [k for k, v in enumerate(family) if observed[v]]
    if not known:
        return table
    free = [k for k, v in enumerate(family) if not observed[v]]
    return table.permute(known + free)[tuple(codes[family[k]] for k in known)]


class MaxSum(Contender):
    """Most probable explanation by eliminating one variable after another, order search included.

    The variable whose elimination makes the smallest table goes next. Axes of all tables are
    sorted by position, so that they are lined up by inserting axes of one.

    Args:
        network: The network.
        codes: Evidence ``(n, V)``.
        items: Single rows.
    """

    name = "max-sum"

    def __init__(self, network: Network, codes: np.ndarray, items: Sequence[np.ndarray]) -> None:
        self.network, self.codes, self.items = network, codes, items
        self.tables = []
        for v, table in enumerate(network.tables):
            family = network.family(v)
            axes = sorted(range(len(family)), key=family.__getitem__)
            logs = torch.from_numpy(table).log().permute(axes).contiguous()
            self.tables.append((sorted(family), logs))

    def prepare(self, rows: np.ndarray) -> list[int]:
        return list(self.codes[rows[0]].tolist())

    def run(self, prepared: list[int]) -> list[int]:
        states = list(prepared)
        factors = self._evidence(states)
        neighbours: dict[int, set[int]] = {v: set() for v, s in enumerate(states) if s < 0}
        for scope, _ in factors:
            for v in scope:
                neighbours[v].update(scope)
        holding: dict[int, list[tuple[list[int], Tensor]]] = {v: [] for v in neighbours}
        for scope, table in factors:
            for v in scope:
                holding[v].append((scope, table))
        decisions = self._eliminate(neighbours, holding)
        for v, scope, best in reversed(decisions):
            states[v] = int(best[tuple(states[u] for u in scope)])
        return states

    def _evidence(self, states: list[int]) -> list[tuple[list[int], Tensor]]:
        factors = []
        for family, table in self.tables:
            scope = [v for v in family if states[v] < 0]
            if scope:
                index = tuple(slice(None) if states[v] < 0 else states[v] for v in family)
                factors.append((scope, table[index]))
        return factors

    def _eliminate(
        self,
        neighbours: dict[int, set[int]],
        holding: dict[int, list[tuple[list[int], Tensor]]],
    ) -> list[tuple[int, list[int], Tensor]]:
        cards = self.network.cards.tolist()
        size = {v: math.prod(cards[u] for u in near) for v, near in neighbours.items()}
        decisions = []
        while size:
            v = min(size, key=size.__getitem__)
            if size.pop(v) > LIMIT:
                raise MemoryError("the elimination order needs more than 2**29 numbers")
            scope = sorted(neighbours.pop(v))
            best, state = _sum(holding.pop(v), scope, cards).max(scope.index(v))
            rest = [u for u in scope if u != v]
            decisions.append((v, rest, state))
            for u in rest:
                holding[u] = [f for f in holding[u] if v not in f[0]] + [(rest, best)]
                neighbours[u] = (neighbours[u] | set(rest)) - {v}
                size[u] = math.prod(cards[w] for w in neighbours[u])
        return decisions

    def answers(self, result: list[int], rows: np.ndarray) -> np.ndarray:
        return score(self.network, self.codes[rows], np.array([result]))


def _sum(factors: list[tuple[list[int], Tensor]], scope: list[int], cards: list[int]) -> Tensor:
    """Sum of log tables over the sorted variables of ``scope``."""
    total = torch.zeros([cards[v] for v in scope], dtype=torch.float64)
    for held, table in factors:
        total += table.reshape([cards[v] if v in held else 1 for v in scope])
    return total


def score(network: Network, codes: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Log probability ``(n, 1)`` of explanations; minus infinity where one denies the evidence."""
    agrees = ((codes < 0) | (codes == states)).all(1)
    return np.where(agrees, network.log_joint(states), -np.inf)[:, None]
