"""Tables of weights: rounded rows, percentages and counts, where that is said."""

import numpy as np
import pytest

import pgnn
from pgnn import (
    BayesianNetwork,
    DynamicBayesianNetwork,
    HiddenMarkovModel,
    ModelError,
    Tabular,
    Variable,
)

ROWS = {"thirds": [0.333, 0.333, 0.333], "percent": [20, 30, 50], "counts": [7.0, 0.0, 14.0]}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_are_divided_by_their_sums(row):
    expected = np.array(row) / np.sum(row)
    x, p = Variable("x", 3), Variable("p", 2)
    np.testing.assert_allclose(Tabular(x, (), row, normalise=True).probs, expected)
    np.testing.assert_allclose(Tabular(x, [p], {0: row, 1: row}, normalise=True).probs[1], expected)
    table = Tabular(x)
    table.set_probs(row, normalise=True)
    np.testing.assert_allclose(table.probs.detach(), expected)
    network = BayesianNetwork([("x", "y")], {"x": row, "y": [row] * 3}, normalise=True)
    np.testing.assert_allclose(network.query("y")["y"].probs, expected)
    slices = DynamicBayesianNetwork(
        [(("x", -1), "x")], {"x": [row] * 3}, {"x": row}, {"x": 3}, normalise=True
    )
    np.testing.assert_allclose(slices.initial["x"].probs, expected)
    chain = HiddenMarkovModel(3, {"x": [row] * 3}, row, [row] * 3, normalise=True)
    np.testing.assert_allclose(chain.emissions["x"].probs[0], expected)
    semi = pgnn.HiddenSemiMarkovModel(2, {"x": [row] * 2}, [row] * 2, normalise=True)
    np.testing.assert_allclose(semi.durations.probs[0], expected)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_without_saying_so_they_are_refused_and_the_message_names_the_way(row):
    with pytest.raises(ModelError, match="normalise=True"):
        BayesianNetwork([("x", "y")], {"x": row, "y": [row] * 3})


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [-1.0, 1.0, 1.0], [np.nan, 1.0, 1.0]])
def test_what_has_no_sum_is_refused_all_the_same(row):
    with pytest.raises(ModelError, match="table of 'x'"):
        Tabular(Variable("x", 3), (), row, normalise=True)


def test_states_that_the_data_tells_come_with_weights_too():
    model = BayesianNetwork([("x", "y")], {"x": [20, 80]}, normalise=True)
    model.fit({"x": [0, 1, 1, 0], "y": ["b", "a", "a", "b"]})
    np.testing.assert_allclose(model.conditionals["x"].probs, [0.2, 0.8])
