import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from pgnn.graphs import MinDegree, MinFill, MinWeight, WeightedMinFill
from pgnn.graphs.bitset import adjacency_masks, bits
from pgnn.graphs.heuristics import Weights
from tests.graphs.graph_zoo import graphs, state_counts


def missing_pairs(graph, node):
    return [(a, b) for a, b in itertools.combinations(graph[node], 2) if not graph.has_edge(a, b)]


@given(st.data())
def test_costs_are_their_definitions(data):
    graph = data.draw(graphs())
    counts = data.draw(state_counts(graph))
    adjacency = adjacency_masks(graph)
    for node in graph:
        pairs = missing_pairs(graph, node)
        table = math.prod(counts[n] for n in [node, *graph[node]])

        def cost(rule, node=node):
            return rule.cost(node, adjacency, rule.weights([counts[n] for n in graph]))

        assert cost(MinFill()) == len(pairs)
        assert cost(WeightedMinFill()) == sum(counts[a] * counts[b] for a, b in pairs)
        assert cost(MinDegree()) == graph.degree(node)
        assert cost(MinWeight()) == table


def test_heuristics_are_values():
    assert MinFill() == MinFill()
    assert MinFill() != MinDegree()
    assert len({MinFill(), MinFill(), MinWeight()}) == 2


@given(st.sets(st.integers(0, 200)))
def test_bits_lists_positions_in_order(positions):
    assert list(bits(sum(1 << i for i in positions))) == sorted(positions)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans())))
def test_weights_over_a_set(members):
    weights = Weights([weight for weight, _ in members])
    mask = sum(1 << i for i, (_, inside) in enumerate(members) if inside)
    inside = [weight for weight, inside in members if inside]
    assert weights.total(mask) == sum(inside)
    assert weights.product(mask) == math.prod(inside)
