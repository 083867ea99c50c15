"""Random fields in groups of every kind, and propagation on them written out in plain NumPy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from tests import oracle


@dataclass
class LoopyField:
    """Ten elements in loops: shared, own and row-wise tables, Potts factors, three at once.

    An array of four elements with three states, two single variables with two, one with one, a
    pair apart from the rest, and one element that nothing touches.

    Args:
        seed: Of all numbers.
        rows: Rows ``B``; fields and one group differ between them.
        strength: How strong the couplings are.
        zeros: Share of zero entries (no two of them make a row impossible).
        observe: Whether the rows observe some elements.
        tree: Leave out what closes loops.
    """

    seed: int
    rows: int = 2
    strength: float = 0.7
    zeros: float = 0.0
    observe: bool = False
    tree: bool = False
    elements: Elements = field(init=False)
    numbers: list[Tensor] = field(init=False)
    log_field: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rng = rng = np.random.default_rng(self.seed)
        self.elements = Elements(
            [
                Variable("pixel", 3, shape=(2, 2)),
                *[Variable(n, 2) for n in "ab"],
                Variable("one", 1),
                Variable("c", 3),
                Variable("d", 2),
                Variable("alone", 4),
            ]
        )
        self.spared = rng.integers(0, self.elements.card, size=len(self.elements))
        self.scopes = [np.array(s) for s in self._scopes()]
        tables = [
            self._table(1, [3, 3]),
            self._potts(len(self.scopes[1])),
            self._table(len(self.scopes[2]), [3, 2]),
            self._table(1, [2, 3, 2], rows=True),
            self._table(1, [1, 2]),
            self._table(1, [3, 2]),
        ]
        self.numbers = [torch.from_numpy(t) for t in tables]
        states = int(self.elements.offset[-1])
        self.log_field = torch.from_numpy(rng.normal(size=(self.rows, states)))
        if self.observe:
            self._observe()

    def _scopes(self) -> list[list[list[int]]]:
        if self.tree:
            return [[[0, 1]], [[1, 2], [3, 2]], [[3, 5]], [[5, 7, 4]], [[6, 4]], [[7, 8]]]
        return [
            [[0, 1], [2, 3], [0, 3]],
            [[0, 2], [1, 3], [3, 2]],
            [[0, 4], [1, 5], [2, 4]],
            [[4, 3, 5]],
            [[6, 4]],
            [[7, 8]],
        ]

    def _table(self, count: int, states: list[int], rows: bool = False) -> np.ndarray:
        shape = [*([self.rows] if rows else []), count, *states]
        table = self.strength * self.rng.normal(size=shape)
        zero = self.rng.random(table.shape) < self.zeros
        # one state of each element stays possible in all tables at once
        zero &= ~self._spares(table.shape, len(states))
        return np.where(zero, -np.inf, table)

    def _spares(self, shape: tuple[int, ...], arity: int) -> np.ndarray:
        """Entries that the spared assignment of some scope meets."""
        spared = np.zeros(shape, dtype=bool)
        for group in self.scopes:
            for scope in group:
                at = tuple(self.spared[scope])
                if len(at) == arity and all(a < k for a, k in zip(at, shape[-arity:], strict=True)):
                    spared[(..., *at)] = True
        return spared

    def _potts(self, count: int) -> np.ndarray:
        return self.strength * self.rng.normal(size=(self.rows, count))

    def _observe(self) -> None:
        for row in range(self.rows):
            for e in self.rng.permutation(len(self.elements))[: 1 + row % 3]:
                first, last = self.elements.offset[e : e + 2]
                hidden = np.arange(first, last) != first + self.spared[e]
                self.log_field[row, first:last][torch.from_numpy(hidden)] = -torch.inf

    @property
    def graph(self) -> FactorGraph:
        """The field as engines see it."""
        return self.with_numbers(self.numbers)

    def with_numbers(self, numbers: list[Tensor]) -> FactorGraph:
        """The same field with other numbers, and a factor over nothing."""
        groups = [
            PottsGroup(s, t, 3) if k == 1 else TableGroup(s, t)
            for k, (s, t) in enumerate(zip(self.scopes, numbers, strict=True))
        ]
        constant = TableGroup(
            np.zeros((1, 0), dtype=np.int64), torch.tensor([0.3], dtype=torch.float64)
        )
        return FactorGraph(self.elements, (*groups, constant))

    # --- written out ----------------------------------------------------------------------------

    def factors(self, row: int) -> list[tuple[tuple[int, ...], np.ndarray]]:
        """Scope and full log table of each factor in a row, in order."""
        found = []
        for k, (scopes, numbers) in enumerate(zip(self.scopes, self.numbers, strict=True)):
            array = numbers.numpy()
            own_axes = 1 if k == 1 else scopes.shape[1] + 1
            array = array[row] if array.ndim > own_axes else array
            for f, scope in enumerate(scopes):
                entry = array[0 if len(array) == 1 else f]
                table = np.eye(3) * entry if k == 1 else entry
                found.append((tuple(scope.tolist()), table))
        return found

    def joint(self, row: int, power: float = 1.0) -> oracle.Joint:
        """The whole table of a row, in probability units."""
        cards = dict(enumerate(self.elements.card.tolist()))
        offset = self.elements.offset
        fields = [
            ((e,), np.exp(power * self.log_field[row, offset[e] : offset[e + 1]].numpy()))
            for e in cards
        ]
        tables = [(s, np.exp(power * t)) for s, t in self.factors(row)]
        return oracle.joint(cards, [*fields, *tables, ((), np.exp(power * 0.3))])


class PlainPropagation:
    """One row's messages in loops over factors and states, in probability units."""

    def __init__(
        self,
        made: LoopyField,
        row: int,
        temperature: float = 1.0,
        weights: np.ndarray | None = None,
    ) -> None:
        self.hard = temperature == 0
        power = 1.0 if self.hard else 1 / temperature
        self.card = made.elements.card.tolist()
        offset = made.elements.offset
        self.fields = [
            np.exp(power * made.log_field[row, offset[e] : offset[e + 1]].numpy())
            for e in range(len(self.card))
        ]
        given = made.factors(row)
        self.rho = np.ones(len(given)) if weights is None else weights
        self.factors = [(s, np.exp(power * t / self.rho[f])) for f, (s, t) in enumerate(given)]
        self.messages = {
            (f, e): self._scaled(np.ones(self.card[e]))
            for f, (s, _) in enumerate(self.factors)
            for e in s
        }

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        total = values.max() if self.hard else values.sum()
        return values / total if total > 0 else values

    def belief(self, e: int) -> np.ndarray:
        product = self.fields[e].copy()
        for (f, other), m in self.messages.items():
            if other == e:
                product = product * m ** self.rho[f]
        return product

    def cavity(self, f: int, e: int) -> np.ndarray:
        m = self.messages[f, e]
        return np.where(m > 0, self.belief(e) / np.where(m > 0, m, 1.0), 0.0)

    def step(self) -> None:
        new = {}
        for f, (scope, table) in enumerate(self.factors):
            cavities = [self.cavity(f, e) for e in scope]
            for place, e in enumerate(scope):
                message = np.zeros(self.card[e])
                for x in itertools.product(*(range(self.card[v]) for v in scope)):
                    value = table[x]
                    for other in range(len(scope)):
                        if other != place:
                            value = value * cavities[other][x[other]]
                    old = message[x[place]]
                    message[x[place]] = max(old, value) if self.hard else old + value
                new[f, e] = self._scaled(message)
        self.messages = new

    def flat_messages(self) -> np.ndarray:
        return np.concatenate(
            [self.messages[f, e] for f, (s, _) in enumerate(self.factors) for e in s]
        )

    def beliefs(self) -> list[np.ndarray]:
        return [self._scaled(self.belief(e)) for e in range(len(self.card))]

    def factor_beliefs(self) -> list[np.ndarray]:
        found = []
        for f, (scope, table) in enumerate(self.factors):
            joint = table.copy()
            for axis, e in enumerate(scope):
                shape = [-1 if a == axis else 1 for a in range(len(scope))]
                joint = joint * self.cavity(f, e).reshape(shape)
            found.append(self._scaled(joint))
        return found

    def free_energy(self, constant: float) -> float:
        """Average energy plus entropies, at a fixed point."""
        beliefs, joints = self.beliefs(), self.factor_beliefs()
        total = constant
        for e, b in enumerate(beliefs):
            total += _average(b, self.fields[e]) - _average(b, b)
        for f, (scope, table) in enumerate(self.factors):
            joint = joints[f]
            information = _average(joint, joint) - sum(
                _average(beliefs[e], beliefs[e]) for e in scope
            )
            total += self.rho[f] * (_average(joint, table) - information)
        return total


def _average(probs: np.ndarray, of: np.ndarray) -> float:
    """The average logarithm."""
    observed = probs > 0
    return float((probs[observed] * np.log(of[observed])).sum())
