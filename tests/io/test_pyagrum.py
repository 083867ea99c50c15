"""Models of pyAgrum keep their names, states and answers in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, Unsupported

gum: Any = pytest.importorskip("pyagrum")
STATES = {
    "a": ("x", "y", "z"),
    "b": (3, 4, 5),
    "c": (1.5, 2.5),
    "d": ("[1;2[", "[2;3]"),
    "e": (1, 3, 7),
}


@pytest.fixture
def theirs() -> Any:
    """Variables of every kind, among them one whose parents come later than it."""
    gum.initRandom(3)  # zero would take the clock
    return gum.fastBN("a{x|y|z}->b[3,5]<-c{1.5|2.5}; c->d[1.0,2.0,3.0]->e{1|3|7}; b->e; a->e")


def posteriors(engine: Any, evidence: dict[str, int], names: str) -> list[np.ndarray]:
    engine.setEvidence(evidence)
    engine.makeInference()
    return [engine.posterior(name).toarray() for name in names]


def test_answers_of_networks_are_those_of_pyagrum(theirs: Any) -> None:
    model = pgnn.from_pyagrum(theirs)
    answer = model.query(None, {"e": 3, "c": 1.5})
    expected = posteriors(gum.LazyPropagation(theirs), {"e": 1, "c": 0}, "abd")
    assert {name: v.states for name, v in model.variables.items()} == STATES
    for name, probs in zip("abd", expected, strict=True):
        np.testing.assert_allclose(answer[name].probs.numpy(), probs, atol=1e-12)


def test_networks_come_back(theirs: Any) -> None:
    model = pgnn.from_pyagrum(theirs)
    returned = pgnn.to_pyagrum(model)
    for name in STATES:
        ours, before = returned.variable(name), theirs.variable(name)
        assert ours.labels() == before.labels()
        if name != "d":  # an interval becomes a label
            assert ours.varType() == before.varType()
        assert returned.cpt(name).names == theirs.cpt(name).names
        values = theirs.cpt(name).toarray()
        # Tables hold logarithms, whose rounding is relative to log p and so that of p to p log p.
        rounding = np.finfo(np.float64).eps * values * (1 - np.log(values))
        assert np.all(np.abs(returned.cpt(name).toarray() - values) <= rounding)
    again = pgnn.from_pyagrum(returned)
    assert again.variables == model.variables
    assert [*again.graph.edges] == [*model.graph.edges]


def test_nodes_without_a_table_of_their_own() -> None:
    """pyAgrum computes each number of a noisy-or when it is asked for."""
    theirs = gum.BayesNet()
    for cause in "ab":
        theirs.add(gum.LabelizedVariable(cause, "", 2))
        theirs.cpt(cause).fillWith([0.6, 0.4])
    theirs.addNoisyORCompound(gum.LabelizedVariable("y", "", 2), 0.1)
    theirs.addWeightedArc("a", "y", 0.7)
    theirs.addWeightedArc("b", "y", 0.4)
    table = pgnn.from_pyagrum(theirs).conditionals["y"].probs
    (expected,) = posteriors(gum.LazyPropagation(theirs), {"a": 1, "b": 0}, "y")
    np.testing.assert_allclose(table[1, 0].numpy(), expected, atol=1e-12)
    assert table[..., 1].flatten().tolist() == pytest.approx([0.1, 0.4, 0.7, 0.8])


def test_states_keep_all_digits() -> None:
    numbers = [0.1 + 0.2, 1234567.5]
    tables = {"v": pgnn.Tabular(pgnn.Variable("v", numbers), [], [0.5, 0.5])}
    again = pgnn.from_pyagrum(pgnn.to_pyagrum(pgnn.BayesianNetwork([], tables)))
    assert list(again.variables["v"].states) == numbers


def test_answers_of_fields_are_those_of_pyagrum() -> None:
    gum.initRandom(1)
    theirs = gum.fastMRF("a--b{u|v}--c; c--d[4]; e")
    answer = pgnn.from_pyagrum(theirs).query(None, {"b": "u"})
    expected = posteriors(gum.ShaferShenoyMRFInference(theirs), {"b": 0}, "acde")
    for name, probs in zip("acde", expected, strict=True):
        np.testing.assert_allclose(answer[name].probs.numpy(), probs, atol=1e-12)


def test_names_that_are_not_text_are_written_as_text() -> None:
    model = pgnn.BayesianNetwork(
        [(0, ("x", 1))], {0: [0.3, 0.7], ("x", 1): [[1.0, 0.0], [0.5, 0.5]]}
    )
    theirs = pgnn.to_pyagrum(model)
    assert [theirs.variable(node).name() for node in sorted(theirs.nodes())] == ["0", "('x', 1)"]
    np.testing.assert_array_equal(theirs.cpt("('x', 1)").toarray(), [[1.0, 0.0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        ([2, 3, 4], "RANGE"),
        ([1, 3, 4], "INTEGER"),
        ([0.5, 1.5], "NUMERICAL"),
        ([4, 3], "LABELIZED"),
        ([np.int64(2), np.int64(3)], "RANGE"),
        ([False, True], "LABELIZED"),
        (["1", "0"], "LABELIZED"),
        ([0.5, float("inf")], "LABELIZED"),
        ([1, "many"], "LABELIZED"),
    ],
)
def test_kinds_of_variables(states: list[Any], kind: str) -> None:
    table = torch.full((len(states),), 1 / len(states), dtype=torch.float64)
    model = pgnn.BayesianNetwork([], {"v": pgnn.Tabular(pgnn.Variable("v", states), [], table)})
    theirs = pgnn.to_pyagrum(model)
    variable = theirs.variable("v")  # which must not live longer than its network
    assert variable.varType() == getattr(gum, f"VarType_{kind}")
    assert [float(x) for x in variable.labels() if kind != "LABELIZED"] == [
        x for x in states if kind != "LABELIZED"
    ]
    assert kind != "LABELIZED" or list(variable.labels()) == [str(state) for state in states]


def test_what_has_no_tables_is_refused(theirs: Any) -> None:
    with pytest.raises(Unsupported, match="a BayesNet or a MarkovRandomField of pyAgrum, got int"):
        pgnn.from_pyagrum(3)
    with pytest.raises(Unsupported, match="got InfluenceDiagram"):
        pgnn.from_pyagrum(gum.fastID("a->*d->$u"))
    real = pgnn.BayesianNetwork([], {"x": pgnn.Gaussian(pgnn.Variable("x"), [])})
    with pytest.raises(Unsupported, match="'x' is real"):
        pgnn.to_pyagrum(real)
    with pytest.raises(Unsupported, match="takes a Bayesian network, got a MarkovRandomField"):
        pgnn.to_pyagrum(pgnn.MarkovRandomField.grid((2, 2)))
    twins = pgnn.BayesianNetwork([], {1: [0.5, 0.5], "1": [0.5, 0.5]})
    with pytest.raises(DataError, match="would both be written '1'"):
        pgnn.to_pyagrum(twins)
    theirs.cpt("a").fillWith([0.5, 0.6, 0.7])
    with pytest.raises(DataError, match="sum"):
        pgnn.from_pyagrum(theirs)
