"""Scoring, sampling and counting on Alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Outcome, Settings, finish
from benchmarks.networks import Network
from benchmarks.peers import build
from benchmarks.timing import Contender

SCORED, SAMPLED, COUNTED = 10_000, 100_000, 1_000_000


class Call(Contender):
    """One call on all rows; its answer is one vector.

    Args:
        name: Who.
        call: What is timed.
        read: Makes a vector of the result.
    """

    def __init__(
        self, name: str, call: Callable[[], Any], read: Callable[[Any], np.ndarray]
    ) -> None:
        self.name, self.call, self.read = name, call, read
        self.items = self.warm = [np.arange(1)]

    def run(self, prepared: Any) -> Any:
        return self.call()

    def answers(self, result: Any, rows: np.ndarray) -> np.ndarray:
        return self.read(result)[None]


def alarm(network: Network, settings: Settings) -> list[Outcome]:
    """All tasks; fewer rows where the settings ask for less than the usual."""
    scale = min(1.0, settings.rows / SCORED)
    tasks = (
        (_score, SCORED, 5e-3, 1e-8),
        (_sample, SAMPLED, 0.12, 4 / (SAMPLED * scale) ** 0.5),
        (_count_frame, COUNTED, 0.5, 1e-8),
        (_count_tensor, COUNTED, 0.5, 1e-8),
    )
    outcomes = []
    for task, usual, goal, tolerance in tasks:
        rows = int(usual * scale)
        title, contenders = task(network, rows, settings.seed)
        chosen = [c for c in contenders if c.name in (*settings.contenders, "torch", "NumPy")]
        outcome = Outcome("alarm", title, rows, goal=goal * scale, tolerance=tolerance)
        outcomes.append(finish(outcome, chosen, settings, repeat=True))
    return outcomes


Task = tuple[str, Sequence[Contender]]


def _score(network: Network, n: int, seed: int) -> Task:
    rows = network.sample(n, seed)
    columns = torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.int64))
    data = dict(zip(network.names, columns, strict=True))
    logs = [torch.from_numpy(t).log() for t in network.tables]

    def gather() -> torch.Tensor:
        total = torch.zeros(n, dtype=torch.float64)
        for v, table in enumerate(logs):
            total += table[tuple(columns[u] for u in network.family(v))]
        return total

    return "score", [
        Call("pgnn", lambda: network.model.log_prob(data), lambda x: x.detach().numpy()),
        Call("pyAgrum", _loop(network, rows), np.array),
        Call("torch", gather, lambda x: x.numpy()),
    ]


def _loop(network: Network, rows: np.ndarray) -> Callable[[], list[float]]:
    net = build(network)
    full = net.completeInstantiation()
    variables = [net.variable(v) for v in range(len(network))]

    def score() -> list[float]:
        scores = []
        for row in rows.tolist():
            for variable, state in zip(variables, row, strict=True):
                full.chgVal(variable, state)
            scores.append(net.log2JointProbability(full) * np.log(2))
        return scores

    return score


def _sample(network: Network, n: int, seed: int) -> Task:
    def frequencies(rows: np.ndarray) -> np.ndarray:
        counts = [np.bincount(rows[:, v], minlength=k) for v, k in enumerate(network.cards)]
        return np.concatenate(counts) / len(rows)

    def generate() -> Any:
        import pyagrum

        generator = pyagrum.BNDatabaseGenerator(net)
        generator.drawSamples(n)
        return generator

    def drawn(samples: Any) -> np.ndarray:
        return frequencies(np.stack([samples[name].numpy() for name in network.names], 1))

    def generated(generator: Any) -> np.ndarray:
        names = [f"x{v}" for v in range(len(network))]
        return frequencies(generator.to_pandas()[names].to_numpy().astype(np.int64))

    net = build(network)
    return "sample", [
        Call("pgnn", lambda: network.model.sample(n, seed=seed), drawn),
        Call("pyAgrum", generate, generated),
        Call("NumPy", lambda: network.sample(n, seed), frequencies),
    ]


def _count_frame(network: Network, n: int, seed: int) -> Task:
    import pandas as pd

    rows = network.sample(n, seed)
    labels = [network.model.variables[name].states for name in network.names]
    columns = (
        pd.Categorical.from_codes(codes, categories=list(k))
        for codes, k in zip(rows.T, labels, strict=True)
    )
    frame = pd.DataFrame(dict(zip(network.names, columns, strict=True)))

    def reference() -> list[np.ndarray]:
        return _count(network, [frame[name].cat.codes.to_numpy() for name in network.names])

    return "count a data frame", _counters(network, frame, reference)


def _count_tensor(network: Network, n: int, seed: int) -> Task:
    rows = torch.from_numpy(network.sample(n, seed)).long()
    columns = list(rows.numpy().T)
    return "count a tensor", _counters(network, rows, lambda: _count(network, columns))


def _counters(
    network: Network, data: Any, reference: Callable[[], list[np.ndarray]]
) -> list[Contender]:
    names = network.names
    edges = [(names[p], names[v]) for v in range(len(names)) for p in network.parents[v]]
    states = {name: variable.states for name, variable in network.model.variables.items()}
    model = type(network.model)(edges, states=states)
    if isinstance(data, torch.Tensor):
        data = data[:, [names.index(name) for name in model.variables]].contiguous()
    observed = [counts.sum(-1) > 0 for counts in reference()]

    def tables(fitted: Any) -> list[np.ndarray]:
        conditionals = (fitted.conditionals[name] for name in names)
        return [c.probs.detach().numpy() for c in conditionals]

    def frequencies(counts: list[np.ndarray]) -> list[np.ndarray]:
        return [c / c.sum(-1, keepdims=True).clip(1) for c in counts]

    def flat(rows: list[np.ndarray]) -> np.ndarray:
        """Rows of the tables whose parents were observed; the others are a matter of taste."""
        return np.concatenate([r[s].ravel() for r, s in zip(rows, observed, strict=True)])

    return [
        Call("pgnn", lambda: model.fit(data, progress=False), lambda m: flat(tables(m))),
        Call("NumPy", reference, lambda counts: flat(frequencies(counts))),
    ]


def _count(network: Network, columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Counts ``(K_pa1, ..., K_child)`` of every family."""
    counts = []
    for v, table in enumerate(network.tables):
        index = np.zeros(len(columns[v]), np.int64)
        for u in network.family(v):
            index *= int(network.cards[u])
            index += columns[u]
        counts.append(np.bincount(index, minlength=table.size).reshape(table.shape))
    return counts
