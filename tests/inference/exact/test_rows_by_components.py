"""Rows with holes by components, against enumeration and against plans."""

import math

import numpy as np
import pytest
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.exact.hidden_components import HiddenComponents
from pgnn.inference.exact.rows_by_components import RowsByComponents
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from tests import oracle

ROWS = 60


def case(seed: int, zeros: float = 0.2) -> tuple[oracle.Network, FactorGraph, np.ndarray]:
    """A random network, as a graph, and rows of evidence with holes."""
    rng = np.random.default_rng(seed)
    network = oracle.random_network(rng, "loop", num_variables=6, max_states=3, zeros=zeros)
    variables = {n: Variable(n, k) for n, k in network.cards.items()}
    with np.errstate(divide="ignore"):
        factors = [
            Factor([variables[n] for n in scope], torch.from_numpy(np.log(table)))
            for scope, table in network.tables
        ]
    evidence = oracle.random_evidence(rng, network.joint(), 0.5, ROWS)
    codes = np.array([[row.get(n, -1) for n in variables] for row in evidence], dtype=np.int32)
    return network, FactorGraph(tuple(variables.values()), factors), codes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [0.0, 30.0, 1e6])
def test_sums_and_counts_are_those_of_enumeration(seed: int, most: float) -> None:
    """Whether plans answer all rows, some, or none."""
    network, graph, codes = case(seed)
    weights = np.random.default_rng(seed).random(ROWS)
    components = HiddenComponents.of(graph, codes, most)
    assert (len(components.left) == 0) == (most == 1e6)
    rows, solver = RowsByComponents(codes, components), Solver(graph)
    log_z, counts = rows.log_evidence(solver), rows.expected(solver, weights)
    expected = [np.zeros(table.shape) for _, table in network.tables]
    for row, w, z in zip(codes, weights, log_z, strict=True):
        names = zip(network.cards, row.tolist(), strict=True)
        joint = network.joint({n: state for n, state in names if state >= 0})
        found = oracle.expected_counts(joint, [scope for scope, _ in network.tables])
        assert z == pytest.approx(oracle.log_evidence(joint), abs=1e-10)
        expected = [a + w * b for a, b in zip(expected, found, strict=True)]
    for own, (scope, _), right in zip(counts, network.tables, expected, strict=True):
        np.testing.assert_allclose(own.reshape(right.shape), right, atol=1e-9, err_msg=str(scope))


def test_equal_components_are_summed_once() -> None:
    _, graph, codes = case(0)
    once = HiddenComponents.of(graph, codes, 1e6)
    twice = HiddenComponents.of(graph, np.tile(codes, (5, 1)), 1e6)
    assert once.num_components == twice.num_components < len(once.parts[1])


def test_impossible_rows_count_nothing() -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    table = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64).log()
    first = torch.tensor([0.0, 1.0], dtype=torch.float64).log()
    graph = FactorGraph((a, b), (Factor([a], first), Factor([a, b], table)))
    codes = np.array([[-1, 0], [-1, 1], [-1, -1], [0, 1]], dtype=np.int32)
    components = HiddenComponents.of(graph, codes, 1e6)
    log_z = components.log_evidence(graph)
    np.testing.assert_array_equal(log_z, [-math.inf, 0.0, 0.0, -math.inf])
    counts = components.counts(graph, np.array([1.0, 1.0, 2.0, 0.0]))
    np.testing.assert_array_equal(counts, [0.0, 3.0, 0.0, 0.0, 0.0, 3.0])


def test_scopes_of_variables_without_factors() -> None:
    a, b = Variable("a", 3), Variable("b", 2)
    half = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    graph = FactorGraph((a, b), (Factor([b], half), Factor([], torch.tensor(1.5).double())))
    codes = np.array([[-1, 0], [1, -1]], dtype=np.int32)
    log_z = HiddenComponents.of(graph, codes, 1e6).log_evidence(graph)
    np.testing.assert_allclose(log_z, [1.5 + math.log(1.5), 1.5])


def test_a_batch_is_split_once() -> None:
    _, graph, codes = case(1)
    solver = Solver(graph)
    one, two = RowsByComponents.of(solver, codes), RowsByComponents.of(solver, codes.copy())
    assert one is not None
    assert two is not None
    assert one.components is two.components
    assert RowsByComponents.of(solver, codes[:3]) is None
