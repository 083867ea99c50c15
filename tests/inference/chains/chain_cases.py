"""Small random chains, and their answers by writing down every path."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pgnn.inference.chains.chain import Chain

KINDS = ["plain", "per row", "per step", "per row and step", "zeros", "left to right", "gaps"]


@dataclass
class ChainCase:
    """``B`` ragged rows, the second of which is empty and the last of full length."""

    seed: int
    kind: str = "plain"
    T: int = 5
    K: int = 3
    B: int = 4
    scale: float = 1.5
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = rng = np.random.default_rng(self.seed)
        B, T, K = self.B, self.T, self.K
        self.per_step = "step" in self.kind
        rows = (B,) if "row" in self.kind else ()
        steps = (max(T - 1, 0),) if self.per_step else ()
        self.initial = self.normal(*rows, K)
        self.transition = self.normal(*rows, *steps, K, K)
        self.field = self.normal(B, T, K)
        self.lengths = rng.integers(0, T + 1, B)
        self.lengths[[1 % B, -1]] = 0, T
        self.mask = np.arange(T) < self.lengths[:, None]
        if self.kind == "zeros":
            for table in (self.initial, self.transition, self.field):
                table[rng.random(table.shape) < 0.25] = -math.inf
        if self.kind == "left to right":
            self.transition[np.tril_indices(K, -1)] = -math.inf
            self.initial[1:] = -math.inf
        if self.kind == "gaps":
            self.mask &= rng.random((B, T)) < 0.6
            self.lengths = (self.mask * np.arange(1, T + 1)).max(1, initial=0)

    def normal(self, *shape: int) -> np.ndarray:
        return self.scale * self.rng.normal(size=shape)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.from_numpy(x.copy()) for x in (self.initial, self.transition, self.field)
        )

    @property
    def extent(self) -> torch.Tensor:
        return torch.from_numpy(self.mask if self.kind == "gaps" else self.lengths)

    def chain(self, dtype: torch.dtype = torch.float64, **changes: Any) -> Chain:
        parts = [changes.get(f"part{i}", x.to(dtype)) for i, x in enumerate(self.tensors)]
        return Chain(*parts, self.extent, per_step=self.per_step)

    def row(self, b: int) -> Row:
        return Row(self, b)


class Row:
    """All paths of one row, in the order of their last state, then the one before, and so on."""

    def __init__(self, case: ChainCase, b: int) -> None:
        self.T, self.K, self.n = case.T, case.K, int(case.lengths[b])
        initial = case.initial[b] if case.initial.ndim == 2 else case.initial
        transition = case.transition[b] if "row" in case.kind else case.transition
        if not case.per_step:
            transition = np.broadcast_to(transition, (max(case.T - 1, 0), case.K, case.K))
        self.transition = transition
        backwards = itertools.product(range(case.K), repeat=self.n)
        self.paths = np.array([path[::-1] for path in backwards], int).reshape(
            self.K**self.n, self.n
        )
        self.scores = np.zeros(len(self.paths))
        for t in range(self.n):
            state = self.paths[:, t]
            if t == 0:
                self.scores += initial[state]
            else:
                self.scores += transition[t - 1, self.paths[:, t - 1], state]
            if case.mask[b, t]:
                self.scores += case.field[b, t, state]
        self.weights = np.exp(self.scores)
        self.total = self.weights.sum()
        self.possible = self.total > 0

    @property
    def log_z(self) -> float:
        return math.log(self.total) if self.possible else -math.inf

    def nothing(self, *shape: int) -> np.ndarray:
        """Zeros; NaN up to the end if the row is impossible."""
        found = np.zeros(shape)
        if not self.possible:
            found[: self.n - (len(found) < self.T)] = math.nan
        return found

    def marginals(self) -> np.ndarray:
        found = self.nothing(self.T, self.K)
        if self.possible:
            for path, weight in zip(self.paths, self.weights, strict=True):
                found[np.arange(self.n), path] += weight / self.total
        return found

    def pairs(self) -> np.ndarray:
        found = self.nothing(max(self.T - 1, 0), self.K, self.K)
        if self.possible:
            for path, weight in zip(self.paths, self.weights, strict=True):
                found[np.arange(self.n - 1), path[:-1], path[1:]] += weight / self.total
        return found

    def transitions(self) -> np.ndarray:
        if not self.possible:
            return np.full((self.K, self.K), math.nan)
        return self.pairs().sum(0)

    def entropy(self) -> float:
        if not self.possible:
            return math.nan
        p = self.weights[self.weights > 0] / self.total
        return float(-(p * np.log(p)).sum())

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best paths, of equal ones the first; -1 and ``-inf`` where there are fewer."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        order = order[self.scores[order] > -math.inf]
        states, scores = np.full((k, self.T), -1), np.full(k, -math.inf)
        states[: len(order), : self.n] = self.paths[order]
        scores[: len(order)] = self.scores[order]
        return states, scores
