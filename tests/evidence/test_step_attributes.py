"""Attributes of steps, read into numbers."""

from typing import Any

import numpy as np
import pytest

from pgnn.errors import EvidenceError
from pgnn.evidence.name_index import NameIndex
from pgnn.evidence.step_attributes import StepAttributes


def pairs(raw: Any) -> list[list[tuple[Any, float]]]:
    """Names and values of each step, written down one by one."""
    steps = [step for sequence in raw for step in sequence]
    return [[*s.items()] if isinstance(s, dict) else [(n, 1.0) for n in s] for s in steps]


@pytest.mark.parametrize(
    "raw",
    [
        [[["a", "b"], []], [], [["b", "b", "c"]]],
        [[["a", "b"], ["a"]], [{"c": 1.0, "a": 2.5}], [["b"], {"b": -1.0}]],
        [[{"a": 1.0}, {"b": 1.0}], [["a"]]],
        [],
    ],
)
def test_numbers_stand_for_the_pairs_of_names_and_values(raw: Any) -> None:
    steps, expected = StepAttributes.read("x", raw), pairs(raw)
    assert steps.lengths.tolist() == [len(s) for s in raw]
    assert steps.counts.tolist() == [len(p) for p in expected]
    flat = [pair for step in expected for pair in step]
    assert [steps.names[i] for i in steps.which] == [n for n, _ in flat]
    ones = all(value == 1.0 for _, value in flat)
    assert (steps.values is None) == ones
    if steps.values is not None:
        assert steps.values.tolist() == [value for _, value in flat]
    first = dict.fromkeys(n for n, _ in flat)
    assert steps.names == [*first]
    assert steps.occurrences().tolist() == [sum(n == m for m, _ in flat) for n in first]
    numbers = {"other": 0, "b": 1}
    expected_numbers = [numbers.get(n, -1) for n, _ in flat]
    assert steps.numbers(NameIndex(numbers)).tolist() == expected_numbers
    known = StepAttributes.read("x", raw, NameIndex(numbers))
    assert known.which.tolist() == expected_numbers
    assert known.occurrences().tolist() == [sum(n == m for m, _ in flat) for n in numbers]
    assert known.counts.tolist() == steps.counts.tolist()
    assert {steps.which.dtype, steps.counts.dtype} <= {np.dtype(np.int32)}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([[["a", ["b"]]]], r"must be text, got \['b'\]"),
        ([[["a"], [float("nan")]]], "must be text, got nan"),
        ([[["a"], [{"b": 1.0}]]], r"must be text, got \{'b': 1.0\}"),
        ([[["a"], {"b": float("inf")}]], "attribute 'b' of 'x' has the value inf"),
        ([[["a"], {"b": float("nan")}]], "attribute 'b' of 'x' has the value nan"),
        ([[["a"], {"b": 1.0, "c": -1e300}]], r"attribute 'c' of 'x' has the value -1e\+300"),
        ([[["a"], "b"]], "must be a list of names or a mapping"),
    ],
)
def test_what_is_no_attribute_is_told(raw: Any, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        StepAttributes.read("x", raw)
