"""The published networks, and evidence drawn from them."""

from __future__ import annotations

import graphlib
import importlib.util
import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = (
    "asia",
    "alarm",
    "hepar2",
    "win95pts",
    "andes",
    "pigs",
    "water",
    "barley",
    "diabetes",
    "munin",
    "link",
)
OBSERVED = 0.15  # fraction of the variables that a row of evidence holds


@dataclass(frozen=True)
class Network:
    """A network as plain numbers, the same for every contender.

    Attributes:
        name: Of the file.
        model: The pgnn model.
        names: Variables, in the model's order; everything below follows it.
        cards: Number of states of each.
        parents: Positions of each one's parents.
        tables: Probabilities ``(K_pa1, ..., K_child)``, normalised.
    """

    name: str
    model: Any
    names: tuple[Hashable, ...]
    cards: np.ndarray
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def starts(self) -> np.ndarray:
        """Where each variable's states begin in a vector of all marginals; the end comes last."""
        return np.concatenate([[0], np.cumsum(self.cards)])

    def family(self, v: int) -> tuple[int, ...]:
        """Positions of a variable's parents and itself, the axes of its table."""
        return (*self.parents[v], v)

    def sample(self, n: int, seed: int) -> np.ndarray:
        """Draw complete rows ``(n, V)``, int32, by inverting cumulated rows of the tables."""
        rng = np.random.default_rng(seed)
        rows = np.zeros((n, len(self)), np.int32)
        order = graphlib.TopologicalSorter(dict(enumerate(self.parents))).static_order()
        for v in order:
            steps = self.tables[v].cumsum(-1)[(*(rows[:, p] for p in self.parents[v]),)]
            # The cumulated row ends within rounding of one; the last step is left out.
            rows[:, v] = (rng.random((n, 1)) >= steps[..., :-1]).sum(-1)
        return rows

    def log_joint(self, rows: np.ndarray) -> np.ndarray:
        """Log probabilities ``(n,)`` of complete rows."""
        total = np.zeros(len(rows))
        with np.errstate(divide="ignore"):
            for v, table in enumerate(self.tables):
                total += np.log(table[tuple(rows[:, u] for u in self.family(v))])
        return total

    def one_hot(self, codes: np.ndarray) -> np.ndarray:
        """Marginals ``(n, S)`` with the observed variables filled in and zeros elsewhere."""
        out = np.zeros((len(codes), int(self.cards.sum())))
        row, column = np.nonzero(codes >= 0)
        out[row, self.starts[column] + codes[row, column]] = 1.0
        return out


def load(name: str) -> Network:
    """Read a network by name."""
    from pgnn.io import read

    model = read(find(name))
    names = tuple(model.variables)
    position = {n: i for i, n in enumerate(names)}
    conditionals = [model.conditionals[n] for n in names]
    tables = (c.probs.detach().numpy() for c in conditionals)
    return Network(
        name,
        model,
        names,
        np.array([model.variables[n].num_states for n in names]),
        tuple(tuple(position[p.name] for p in c.parents) for c in conditionals),
        tuple(t / t.sum(-1, keepdims=True) for t in tables),
    )


def find(name: str) -> Path:
    """Return the network's file in the data folder, else among those that pgmpy carries.

    Raises:
        FileNotFoundError: If it is in neither.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folders = [Path(os.environ.get("PGNN_DATA") or beside) / "bn"]
    pgmpy = importlib.util.find_spec("pgmpy")
    if pgmpy and pgmpy.origin:
        folders.append(Path(pgmpy.origin).parent / "utils" / "example_models")
    for folder in folders:
        for path in (folder / f"{name}.bif", folder / f"{name}.bif.gz"):
            if path.exists():
                return path
    raise FileNotFoundError(f"no {name}.bif in {folders}; point PGNN_DATA at a folder with bn/")


def hide(rows: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return evidence ``(n, V)`` with -1 where ``observed``, ``(V,)`` or ``(n, V)``, is false."""
    return np.where(observed, rows, -1).astype(np.int32)


def observed_sets(network: Network, n: int, seed: int) -> np.ndarray:
    """Choose what ``n`` rows observe: ``(n, V)``, as many true in every row."""
    rng = np.random.default_rng([seed, 1])  # another stream than that of the rows
    k = max(1, round(OBSERVED * len(network)))
    observed = np.zeros((n, len(network)), dtype=bool)
    for row in observed:
        row[rng.choice(len(network), k, replace=False)] = True
    return observed
