"""Conditional linear-Gaussian networks by brute force: a dense normal for each configuration.

Written in NumPy from the definition; it shares no code with pgnn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

import pgnn

Row = Mapping[str, Any]


@dataclass
class Network:
    """Discrete variables with tables, real ones with regressions, parents before children.

    Attributes:
        cards: States of each discrete variable.
        sizes: Numbers of each real variable; 0 of a scalar.
        parents: Of each variable.
        tables: ``(K1, ..., K)`` of each discrete variable.
        regressions: ``weight (K..., D, F), bias (K..., D), covariance (K..., D, D)``.
    """

    cards: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    regressions: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)

    def width(self, name: str) -> int:
        return max(self.sizes[name], 1)

    def model(self) -> pgnn.BayesianNetwork:
        """The same network as pgnn declares it."""
        variables = {n: pgnn.Variable(n, k) for n, k in self.cards.items()}
        for n, size in self.sizes.items():
            variables[n] = pgnn.Variable(n, shape=(size,) if size else ())
        given: dict[str, Any] = dict(self.tables)
        for n, (weight, bias, covariance) in self.regressions.items():
            parents = [variables[p] for p in self.parents[n]]
            cut = (...,) if self.sizes[n] else (..., 0)
            own = weight if self.sizes[n] else weight[..., 0, :]
            spread = covariance if self.sizes[n] else covariance[..., 0, 0]
            if any(p in self.sizes for p in self.parents[n]):
                given[n] = pgnn.LinearGaussian(variables[n], parents, own, bias[cut], spread)
            else:
                given[n] = pgnn.Gaussian(variables[n], parents, bias[cut], spread)
        graph = [(p, n) for n in self.parents for p in self.parents[n]]
        known = {n: v for n, v in variables.items() if n in self.cards}

        directed = nx.DiGraph()
        directed.add_nodes_from(self.parents)
        directed.add_edges_from(graph)
        return pgnn.BayesianNetwork(directed, given, known)

    def configurations(self) -> list[dict[str, int]]:
        return [
            dict(zip(self.cards, states, strict=True))
            for states in itertools.product(*(range(k) for k in self.cards.values()))
        ]

    def prior(self, states: Mapping[str, int]) -> float:
        p = 1.0
        for n, table in self.tables.items():
            p *= table[tuple(states[v] for v in [*self.parents[n], n])]
        return p

    def normal(self, states: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray, dict[str, slice]]:
        """Mean and covariance of all numbers, and where those of each variable are."""
        place, total = {}, 0
        for n in self.sizes:
            place[n] = slice(total, total + self.width(n))
            total += self.width(n)
        mean, covariance = np.zeros(total), np.zeros((total, total))
        done: list[int] = []
        for n in self.parents:
            if n in self.cards:
                continue
            weight, bias, noise = (
                x[tuple(states[p] for p in self.parents[n] if p in self.cards)]
                for x in self.regressions[n]
            )
            real = [p for p in self.parents[n] if p in self.sizes]
            above = [k for p in real for k in range(place[p].start, place[p].stop)]
            own = list(range(place[n].start, place[n].stop))
            mean[own] = bias + weight @ mean[above]
            across = weight @ covariance[np.ix_(above, done)]
            covariance[np.ix_(own, done)] = across
            covariance[np.ix_(done, own)] = across.T
            inner = weight @ covariance[np.ix_(above, above)] @ weight.T
            covariance[np.ix_(own, own)] = noise + inner
            done += own
        return mean, covariance, place

    def answer(self, row: Row) -> Answer:
        """Everything about one row; numbers that are NaN were not observed."""
        logs, means, covariances, kept = [], [], [], []
        for states in self.configurations():
            p = self.prior(states)
            if p == 0 or any(row.get(n, k) != k for n, k in states.items()):
                continue
            mean, covariance, place = self.normal(states)
            x = np.full(len(mean), np.nan)
            for n, at in place.items():
                if n in row:
                    x[at] = row[n]
            observed, hidden = ~np.isnan(x), np.isnan(x)
            inner = covariance[np.ix_(observed, observed)]
            error = x[observed] - mean[observed]
            gain = np.linalg.solve(inner, covariance[np.ix_(observed, hidden)])
            square = error @ np.linalg.solve(inner, error)
            size = len(error)
            normalizer = np.linalg.slogdet(inner)[1] + size * math.log(2 * math.pi)
            logs.append(math.log(p) - 0.5 * (square + normalizer))
            x[hidden] = mean[hidden] + gain.T @ error
            left = np.zeros_like(covariance)
            left[np.ix_(hidden, hidden)] = (
                covariance[np.ix_(hidden, hidden)] - covariance[np.ix_(hidden, observed)] @ gain
            )
            means.append(x)
            covariances.append(left)
            kept.append(states)
        log_evidence = np.logaddexp.reduce(logs) if logs else -math.inf
        weights = np.exp(np.array(logs) - log_evidence)
        return Answer(float(log_evidence), weights, kept, means, covariances, place)


@dataclass
class Answer:
    """What is known about a row: a mixture with a part for each possible configuration."""

    log_evidence: float
    weights: np.ndarray
    states: list[dict[str, int]]
    means: list[np.ndarray]
    covariances: list[np.ndarray]
    place: dict[str, slice]

    def probs(self, name: str, card: int) -> np.ndarray:
        p = np.zeros(card)
        for w, states in zip(self.weights, self.states, strict=True):
            p[states[name]] += w
        return p

    def moments(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        at = [k for n in names for k in range(self.place[n].start, self.place[n].stop)]
        mean = sum(w * m[at] for w, m in zip(self.weights, self.means, strict=True))
        second = sum(
            w * (c[np.ix_(at, at)] + np.outer(m[at], m[at]))
            for w, m, c in zip(self.weights, self.means, self.covariances, strict=True)
        )
        return mean, second - np.outer(mean, mean)

    def modes(self, names: list[str]) -> list[tuple[float, dict[str, int], np.ndarray]]:
        """The log density at the mode of each configuration, best first; the rest integrated out.

        Args:
            names: Real variables that are maximised over.
        """
        at = np.array([k for n in names for k in range(self.place[n].start, self.place[n].stop)])
        found = []
        for w, states, m, c in zip(
            self.weights, self.states, self.means, self.covariances, strict=True
        ):
            hidden = at[np.diag(c)[at] > 0]
            spread = np.linalg.slogdet(2 * math.pi * c[np.ix_(hidden, hidden)])[1]
            found.append((math.log(w) + self.log_evidence - 0.5 * spread, states, m[at]))
        return sorted(found, key=lambda x: -x[0])


def random_network(
    rng: np.random.Generator, discrete: int = 2, reals: int = 4, vectors: float = 0.3
) -> Network:
    """A network whose variables come in a random order, real ones never parents of discrete."""
    net = Network()
    names = [f"d{k}" for k in range(discrete)] + [f"x{k}" for k in range(reals)]
    # discrete variables may come after real ones, as long as they do not depend on them
    for n in rng.permutation(names).tolist():
        before = [*net.parents]
        if n.startswith("d"):
            own = [p for p in before if p in net.cards and rng.random() < 0.5]
            net.cards[n] = int(rng.integers(2, 4))
            shape = [net.cards[p] for p in own]
            net.tables[n] = rng.dirichlet(np.ones(net.cards[n]), size=shape or None)
        else:
            own = [p for p in before if rng.random() < (0.4 if p in net.cards else 0.5)]
            net.sizes[n] = int(rng.integers(1, 3)) if rng.random() < vectors else 0
            lead = [net.cards[p] for p in own if p in net.cards]
            size = net.width(n)
            features = sum(net.width(p) for p in own if p in net.sizes)
            root = rng.normal(size=(*lead, size, size))
            noise = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(size)
            weight = rng.normal(size=(*lead, size, features))
            net.regressions[n] = (weight, rng.normal(size=(*lead, size)), noise)
        net.parents[n] = own
    return net


def random_rows(rng: np.random.Generator, net: Network, rows: int, share: float) -> list[dict]:
    """Evidence in which each variable, and each number of a vector, is observed at random."""
    found = []
    for _ in range(rows):
        row: dict[str, Any] = {}
        for n, k in net.cards.items():
            if rng.random() < share:
                row[n] = int(rng.integers(k))
        for n in net.sizes:
            values = rng.normal(size=net.width(n)) * 2
            values[rng.random(net.width(n)) > share] = np.nan
            row[n] = values
        found.append(row)
    return found


def batch(net: Network, rows: list[dict]) -> dict[str, Any]:
    """The rows as evidence of one batch."""
    observed: dict[str, Any] = {n: [row.get(n) for row in rows] for n in net.cards}
    for n, size in net.sizes.items():
        values = np.stack([row[n] for row in rows])
        observed[n] = values if size else values[:, 0]
    return observed
