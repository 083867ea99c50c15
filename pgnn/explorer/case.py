"""Queries of the page: findings, and temporarily changed entries of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgnn.errors import DataError
from pgnn.factors.variable import Variable

MOST_CHANGES = 50
"""Changed entries of tables in one case."""


@dataclass(frozen=True)
class Case:
    """Findings and changes by indices of variables and states.

    Attributes:
        states: State of each variable that was observed.
        likelihoods: Weight of each state of variables with soft evidence.
        changes: Changed entries: variable, states of its parents and of itself, probability.
    """

    states: Mapping[int, int]
    likelihoods: Mapping[int, tuple[float, ...]]
    changes: tuple[tuple[int, tuple[int, ...], float], ...] = ()

    @classmethod
    def read(cls, message: Any, variables: Sequence[Variable]) -> Case:
        """Read a case from decoded JSON; other parts of a message are ignored.

        Args:
            message: ``{"evidence": {"3": 1, "5": [0.2, 0.8]}, "changes": [[2, [0, 1], 0.3]]}``.
            variables: Of the network, in the order of their indices.

        Raises:
            DataError: If a number is missing or out of range.

        Example:
            >>> rain = Variable("rain", ["no", "yes"])
            >>> Case.read({"evidence": {"0": 1}}, [rain]).states
            {0: 1}
        """
        if not isinstance(message, dict):
            raise DataError("expected an object with evidence and changes")
        evidence, changes = message.get("evidence", {}), message.get("changes", [])
        if not isinstance(evidence, dict) or len(evidence) > len(variables):
            raise DataError("evidence must map numbers of variables to states or weights")
        if not isinstance(changes, list) or len(changes) > MOST_CHANGES:
            raise DataError(f"changes must be a list of at most {MOST_CHANGES} entries")
        states: dict[int, int] = {}
        likelihoods: dict[int, tuple[float, ...]] = {}
        for key, value in evidence.items():
            number = _index(int(key) if str(key).isdecimal() and len(key) < 10 else key, variables)
            size = variables[number].num_states
            if isinstance(value, list):
                likelihoods[number] = _weights(value, size)
            else:
                states[number] = _index(value, range(size))
        return cls(states, likelihoods, tuple(_change(c, variables) for c in changes))


def _index(value: Any, among: Sequence[Any]) -> int:
    if type(value) is not int or not 0 <= value < len(among):
        raise DataError(f"expected a number from 0 to {len(among) - 1}, got {str(value)[:40]!r}")
    return value


def _weights(values: Sequence[Any], size: int) -> tuple[float, ...]:
    numbers = tuple(_number(v) for v in values)
    if len(numbers) != size or min(numbers) < 0 or max(numbers) <= 0:
        raise DataError(f"expected {size} weights that are not negative, one of them positive")
    return numbers


def _number(value: Any) -> float:
    if type(value) not in (int, float) or abs(value) > 1e300 or not math.isfinite(value):
        raise DataError(f"expected a finite number, got {str(value)[:40]!r}")
    return float(value)


def _change(change: Any, variables: Sequence[Variable]) -> tuple[int, tuple[int, ...], float]:
    if not isinstance(change, list) or len(change) != 3 or not isinstance(change[1], list):
        raise DataError("a change is [variable, [states of parents, state], probability]")
    number, value = _index(change[0], variables), _number(change[2])
    if not 0.0 <= value <= 1.0:
        raise DataError(f"expected a probability, got {value}")
    if len(change[1]) > len(variables):
        raise DataError("a change names more states than there are variables")
    return number, tuple(_index(s, range(1_000_000)) for s in change[1]), value
