"""What people of other libraries write first, and what they are told."""

from collections.abc import Iterator

import pytest

import pgnn
from pgnn import BayesianNetwork, ModelError, Tabular, Variable


@pytest.mark.parametrize("graph", ["a->b", ["ab", "bc"], [("a", "b", "c")], [1, 2]])
def test_edges_are_pairs(graph):
    with pytest.raises(ModelError, match=r"list of edges|pair of nodes"):
        BayesianNetwork(graph, states={"a": 2, "b": 2})
    with pytest.raises(ModelError, match=r"list of edges|pair of nodes"):
        pgnn.DynamicBayesianNetwork(graph, states={"a": 2, "b": 2})


@pytest.mark.parametrize("tables", [[[0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]]], "ab", 3, [0.5]])
def test_tables_go_by_name(tables):
    with pytest.raises(ModelError, match="must be given by name"):
        BayesianNetwork([("a", "b")], tables)
    with pytest.raises(ModelError, match="must be given by name"):
        BayesianNetwork([("a", "b")], states=tables)


def test_conditionals_know_their_names():
    a, b = Variable("a", 2), Variable("b", 2)
    pieces = [Tabular(b, [a], [[0.9, 0.1], [0.2, 0.8]]), Tabular(a, [], [0.5, 0.5])]
    model = BayesianNetwork([("a", "b")], pieces)
    assert model.conditionals["b"] is pieces[0]
    with pytest.raises(ModelError, match="must be given by name"):
        BayesianNetwork([("a", "b")], [*pieces, pieces[0]])


def test_unknown_labels_name_the_way_to_skip_them():
    model = BayesianNetwork([], states={"wet": ["no", "yes"]})
    with pytest.raises(pgnn.EvidenceError, match=r"unknown='missing'"):
        model.log_prob({"wet": ["yes", "soaked"]})


def test_dir_shows_the_verbs():
    model = BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    shown = [name for name in dir(model) if not name.startswith("_")]
    assert {"query", "fit", "sample", "do", "parameters", "to", "state_dict"} <= set(shown)
    assert not {"register_full_backward_hook", "share_memory", "xpu", "zero_grad"} & set(shown)
    assert len(shown) < 55
    piece = [name for name in dir(model.conditionals["a"]) if not name.startswith("_")]
    assert {"probs", "frame", "logits"} <= set(piece)
    assert len(piece) < 70


def test_conditionals_tell_the_states_of_their_parents():
    flu, fever = Variable("flu", ["no", "yes"]), Variable("fever", ["low", "high"])
    gate = pgnn.NoisyOr(fever, [flu], [0.8], leak=0.1)
    model = BayesianNetwork([("flu", "fever")], {"flu": [0.9, 0.1], "fever": gate})
    assert model.variables["flu"] == flu
    assert float(model.query("fever", {"flu": "no"})["fever"].probs[1]) == pytest.approx(0.1)
    learnable = BayesianNetwork([("flu", "fever")], {"fever": gate})
    assert learnable.variables["flu"] == flu
    with pytest.raises(ModelError, match="declare the same states in both"):
        BayesianNetwork([("flu", "fever")], {"fever": gate}, states={"flu": 2})
    with pytest.raises(ModelError, match="must have shape"):
        BayesianNetwork([("flu", "fever")], {"flu": [0.5, 0.3, 0.2], "fever": gate})


def test_an_emission_is_no_word():
    with pytest.raises(ModelError, match="must be a conditional, a callable that returns one"):
        pgnn.HiddenMarkovModel(2, {"x": "gaussian"})


def test_graphs_of_other_libraries_are_refused() -> None:
    class BayesNet:
        """Iterates over its nodes as pairs of a number and a name."""

        def nodes(self) -> list[int]:
            return [0, 1]

        def __iter__(self) -> Iterator[tuple[int, str]]:
            return iter([(0, "a"), (1, "b")])

    message = r"a graph of another library, .*BayesNet; pass its edges by name, or convert"
    with pytest.raises(ModelError, match=message):
        BayesianNetwork(BayesNet())  # type: ignore[arg-type]
