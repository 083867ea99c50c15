"""Hidden Markov models by writing down every path of states, in NumPy; knows nothing of pgnn."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

import pgnn


@dataclass(frozen=True)
class Paths:
    """All paths ``(P, T)`` of one row with their weights ``(P,)``."""

    paths: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, initial: Any, moves: Any, likelihoods: np.ndarray) -> Paths:
        """Weights of paths: ``moves`` is ``(K, K)`` or ``(T - 1, K, K)``."""
        steps, k = likelihoods.shape
        moves = np.broadcast_to(np.asarray(moves), (max(steps - 1, 0), k, k))
        paths = np.array([*itertools.product(range(k), repeat=steps)], dtype=int)
        paths = paths.reshape(k**steps, steps)
        weights = np.ones(len(paths))
        for n, path in enumerate(paths):
            for t, z in enumerate(path):
                weights[n] *= likelihoods[t, z]
                weights[n] *= initial[z] if t == 0 else moves[t - 1, path[t - 1], z]
        return cls(paths, weights)

    @property
    def log_z(self) -> float:
        with np.errstate(divide="ignore"):
            return float(np.log(self.weights.sum()))

    def marginals(self, k: int) -> np.ndarray:
        """``(T, K)``."""
        found = [
            [self.weights[self.paths[:, t] == z].sum() for z in range(k)]
            for t in range(self.paths.shape[1])
        ]
        return np.array(found).reshape(self.paths.shape[1], k) / self.weights.sum()

    def best(self, number: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The best paths and the logs of their weights."""
        order = np.argsort(-self.weights, kind="stable")[:number]
        with np.errstate(divide="ignore"):
            return self.paths[order], np.log(self.weights[order])


def tables(rng: np.random.Generator, k: int, symbols: dict[str, int], zeros: float = 0.0) -> dict:
    """Random initial probabilities, transitions and emissions."""

    def rows(n: int, m: int) -> np.ndarray:
        table = rng.dirichlet(np.ones(m), size=n)
        table[rng.random(table.shape) < zeros] = 0.0
        table[np.arange(n), rng.integers(0, m, n)] += 0.1
        return table / table.sum(1, keepdims=True)

    return {
        "initial": rows(1, k)[0],
        "transitions": rows(k, k),
        "emissions": {n: rows(k, s) for n, s in symbols.items()},
    }


def model_of(given: dict, **more: Any) -> pgnn.HiddenMarkovModel:
    """The model of these tables."""
    k = len(given["initial"])
    return pgnn.HiddenMarkovModel(
        k, given["emissions"], given["initial"], given["transitions"], **more
    )


def likelihoods(given: dict, observed: dict[str, Any], steps: int) -> np.ndarray:
    """``(T, K)`` of one row; -1 is not observed, floats ``(T, S)`` are likelihoods."""
    k = len(given["initial"])
    found = np.ones((steps, k))
    for name, values in observed.items():
        table = np.eye(k) if name == "state" else given["emissions"][name]
        for t, value in enumerate(values):
            if np.ndim(value):
                found[t] *= table @ np.asarray(value)
            elif value >= 0:
                found[t] *= table[:, value]
    return found


def enumerate_row(given: dict, observed: dict[str, Any], steps: int) -> Paths:
    """All paths of one row of evidence."""
    return Paths.of(given["initial"], given["transitions"], likelihoods(given, observed, steps))
