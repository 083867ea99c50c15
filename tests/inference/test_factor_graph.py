"""One graph for all engines: its views, what graphs share, and how it grows."""

import tracemalloc

import numpy as np
import pytest
import torch

import pgnn
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.inference.exact.solver import model_solver
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.question import Question
from pgnn.inference.wiring import Neighbours
from tests.inference.loopy_fields import LoopyField


def pairs(num: int, potts: bool) -> FactorGraph:
    """So many pairs of elements that nothing connects."""
    elements = Elements([Variable("x", 2, shape=(num, 2))])
    scopes = np.arange(2 * num).reshape(num, 2)
    numbers = torch.zeros(1).double() if potts else torch.zeros(1, 2, 2).double()
    group = PottsGroup(scopes, numbers, 2) if potts else TableGroup(scopes, numbers)
    return FactorGraph(elements, [group])


def bytes_of_views(num: int, potts: bool) -> int:
    """The most memory that making all views takes, none of which is gone."""
    tracemalloc.start()
    graph = pairs(num, potts)
    wiring = graph.local_wiring
    held = (graph.scaled_tables, graph.log_tables, graph.log_field, graph.digest, graph.sizes,
            graph.start, graph.child_factor, Neighbours.of(wiring))  # fmt: skip
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(held) == 8
    return peak


@pytest.mark.parametrize("potts", [False, True])
def test_memory_is_linear_in_what_is_connected(potts: bool) -> None:
    small, large = bytes_of_views(20_000, potts), bytes_of_views(200_000, potts)
    assert large < 11 * small
    assert large < 200e6


def test_all_engines_read_the_very_same_graph() -> None:
    x = Variable("x", 3, shape=(3, 3))
    for model in (
        pgnn.MarkovRandomField([pgnn.Potts(x, coupling=0.5, field=np.zeros(3))]),
        pgnn.BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]}),
    ):
        graph = model_solver(model).graph
        assert Question.read(model, None).graph is graph
        assert Question.read(model, None).graph is graph


def test_tables_constants_and_fields_are_the_same_product() -> None:
    """The score of complete rows, from every view."""
    made = LoopyField(3)
    graph = FactorGraph(made.elements, made.graph.groups)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, graph.card, size=(2, len(graph.card))).astype(np.int32)
    score = graph.log_score(codes).numpy()
    for row in range(2):
        total = 0.0
        for f, scope in zip(graph.factors, graph.scopes, strict=True):
            table = f.log_values[row] if f.batch_shape else f.log_values
            total += float(table[tuple(codes[row, list(scope)])])
        assert total == pytest.approx(score[row], rel=1e-12)
    wiring, tables = graph.wiring, graph.log_tables
    assert len(wiring.size) == graph.num_interactions == len(wiring.factor_ptr) - 1
    assert wiring.num_entries == tables.shape[1]


def test_structure_is_found_once_for_graphs_with_the_same_scopes() -> None:
    graph = LoopyField(4).graph
    other = graph.with_sources({0: graph.sources[0] + 1.0})
    assert other.structure is graph.structure
    assert other.digest == graph.digest
    changed = FactorGraph(graph.elements, graph.groups[1:])
    assert not changed.adopt_structure([graph.structure])
    assert changed.digest != graph.digest


def test_tables_on_their_own_are_groups_of_one() -> None:
    a, b = Variable("a", 2), Variable("b", 3)
    table = torch.arange(6.0).double().reshape(2, 3)
    rows = torch.zeros(4, 3).double()
    graph = FactorGraph([a, b], [Factor([a, b], table, "b"), Factor([b], rows)])
    assert [g.scopes.tolist() for g in graph.groups] == [[[0, 1]], [[1]]]
    assert graph.child_factor.tolist() == [-1, 0]
    assert graph.rowwise.tolist() == [False, True]
    assert graph.num_rows == 4
    assert torch.equal(graph.factors[0].log_values, table)
    more = graph.with_unity([0])
    assert more.num_factors == 3
    assert more.scopes[-1] == (0,)
