"""Names of elements and numbered variables, as files write them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pgnn import RestrictedBoltzmannMachine, Variable
from pgnn.evidence.spelled_names import SpelledNames

NAMES = SpelledNames({
    "y": Variable("y", 2, shape=(2, 3)), 3: Variable(3, 2), "x": Variable("x", shape=(2,)),
    ("t", 0): Variable(("t", 0), ["a", "b"]), "3": Variable("3", 4),
})  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("y", "y"),
        ("('y', 1, 2)", ("y", 1, 2)),
        ("('y',1,2)", ("y", 1, 2)),
        ("('x', 1)", ("x", 1)),
        ("('t', 0)", ("t", 0)),
        ("3", "3"),  # a name as it is comes first
        (3, 3),
    ],
)
def test_a_text_names_a_variable_or_an_element(text: object, name: object) -> None:
    assert text in NAMES
    found = NAMES.find(text)  # type: ignore[arg-type]
    assert found is not None
    assert found.name == name
    assert found == (NAMES.variables.get(name) or Variable(name, found.states))


@pytest.mark.parametrize(
    "text",
    [
        "('y', 2, 0)",
        "('y', 0)",
        "('z', 0)",
        "(",
        "()",
        "('y', 0, 0",
        "(['y'], 0)",
        "z",
        "(1)",
        4,
        "(" * 500,
        "('y', -1, 0)",
        "('y', 0.0, 0)",
    ],
)
def test_other_texts_are_the_names_of_nothing(text: object) -> None:
    assert NAMES.find(text) is None  # type: ignore[arg-type]
    assert NAMES.of(text) == text  # type: ignore[arg-type]
    assert text not in NAMES


def test_columns_that_spell_elements_have_any_order() -> None:
    machine = RestrictedBoltzmannMachine(
        Variable("y", 2, shape=(3,)),
        1,
        visible_bias=[0.0, 1.0, 2.0],
        hidden_bias=[0.5],
        weight=[[1.0]] * 3,
    )
    rows = np.array([[0, 1, 1], [1, 0, 0]])
    frame = pd.DataFrame({f"('y', {k})": rows[:, k] for k in (2, 0, 1)})
    expected = machine.log_prob(rows)
    assert (expected[0] - expected[1]).abs() > 0.1  # an order of columns matters
    np.testing.assert_allclose(machine.log_prob(frame).tolist(), expected.tolist())
