"""Names of questions as numbers of variables, matrices as evidence."""

from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Unsupported
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.questions import as_evidence, columns_in_order, listed, numbers_of


def network() -> pgnn.BayesianNetwork:
    """Names that are themselves iterable: a text, a number and a tuple."""
    edges = [("rain", 7), (7, ("pixel", 0))]
    return pgnn.BayesianNetwork(edges, states={"rain": 2, 7: 3, ("pixel", 0): 2})


def graph(model: pgnn.BayesianNetwork) -> FactorGraph:
    return FactorGraph(tuple(model.variables.values()), model.factors())


@pytest.mark.parametrize(
    ("targets", "numbers"),
    [
        (None, [0, 1, 2]),
        ("rain", [0]),
        (7, [1]),
        (("pixel", 0), [2]),
        ([("pixel", 0), "rain"], [2, 0]),
        (("rain", 7), [0, 1]),
        ({"rain": 1}, [0]),
        ([], []),
    ],
)
def test_names_become_numbers(targets: Any, numbers: list[int]) -> None:
    model = network()
    assert numbers_of(model, graph(model), targets) == numbers


def test_wrong_names() -> None:
    model = network()
    with pytest.raises(EvidenceError, match="'rian'; did you mean 'rain'"):
        numbers_of(model, graph(model), "rian")
    with pytest.raises(EvidenceError, match="'rain' is named twice"):
        numbers_of(model, graph(model), ["rain", 7, "rain"])
    with pytest.raises(EvidenceError, match=r"a list of names, got \['rain'\]"):
        numbers_of(model, graph(model), [7, ["rain"]])


def test_real_variables_have_no_number() -> None:
    sex, dose = pgnn.Variable("sex", 2), pgnn.Variable("dose")
    conditional = pgnn.Neural(dose, [sex], torch.nn.Linear(2, 1))
    model = pgnn.BayesianNetwork([("sex", "dose")], {"dose": conditional}, {"sex": 2})
    with pytest.raises(Unsupported, match="'dose' is real"):
        numbers_of(model, FactorGraph((sex,), ()), ["dose"])


def test_lists_of_names() -> None:
    assert listed("rain") == ["rain"]
    assert listed(7) == [7]
    assert listed(name for name in "ab") == ["a", "b"]


def test_columns_follow_the_order_of_the_question() -> None:
    model = network()  # states side by side, those of 7 left out: rain 0, 1, pixel 2, 3
    assert columns_in_order(graph(model), [2, 0]).tolist() == [2, 3, 0, 1]
    assert columns_in_order(graph(model), [1]).tolist() == [0, 1, 2]


def test_matrices_are_evidence_by_column() -> None:
    model = network()
    for matrix in (np.array([[1, 2, 0]]), torch.tensor([[1, 2, 0]])):
        found = as_evidence(model, matrix)
        assert {name: column.tolist() for name, column in found.items()} == {
            "rain": [1],
            7: [2],
            ("pixel", 0): [0],
        }
    assert as_evidence(model, {"rain": 1}) == {"rain": 1}
    with pytest.raises(EvidenceError, match=r"needs 3 columns, .* got 2"):
        as_evidence(model, np.zeros((4, 2), dtype=int))
