"""Declaring a directed model in every form, every way to get it wrong, and interventions."""

import re
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn import (
    BayesianNetwork,
    DataError,
    LinearGaussian,
    ModelError,
    NoisyOr,
    Sigmoid,
    Tabular,
    Variable,
)
from pgnn.factors import NormalHead
from tests import oracle

RAIN, WET = Variable("rain", ["no", "yes"]), Variable("wet", ["no", "yes"])
P_RAIN, P_WET = [0.8, 0.2], [[0.9, 0.1], [0.1, 0.9]]
STATES = {"rain": ["no", "yes"], "wet": ["no", "yes"]}


def graph(**attributes: Any) -> nx.DiGraph:
    made = nx.DiGraph([("rain", "wet")])
    for name, values in attributes.items():
        nx.set_node_attributes(made, values, name)
    return made


# --- declaration --------------------------------------------------------------------------------

FRAME = pd.DataFrame([[0.9, 0.1], [0.1, 0.9]], index=["no", "yes"], columns=["no", "yes"])
FORMS = {
    "attributes": lambda: pgnn.BayesianNetwork(
        graph(states=STATES, conditional={"rain": P_RAIN, "wet": P_WET})
    ),
    "conditional objects as attributes": lambda: pgnn.BayesianNetwork(
        graph(conditional={"rain": Tabular(RAIN, (), P_RAIN), "wet": Tabular(WET, [RAIN], P_WET)})
    ),
    "mapping": lambda: pgnn.BayesianNetwork(graph(states=STATES), {"rain": P_RAIN, "wet": P_WET}),
    "states": lambda: pgnn.BayesianNetwork(graph(), {"rain": P_RAIN, "wet": P_WET}, STATES),
    "edges": lambda: pgnn.BayesianNetwork(
        [("rain", "wet")], {"rain": P_RAIN, "wet": P_WET}, STATES
    ),
    "arrays": lambda: pgnn.BayesianNetwork(
        [("rain", "wet")], {"rain": np.array(P_RAIN), "wet": torch.tensor(P_WET).double()}, STATES
    ),
    "rows by label": lambda: pgnn.BayesianNetwork(
        graph(states=STATES),
        {"rain": {"yes": 0.2, "no": 0.8}, "wet": {"yes": [0.1, 0.9], "no": [0.9, 0.1]}},
    ),
    "data frame": lambda: pgnn.BayesianNetwork(
        graph(states=STATES), {"rain": P_RAIN, "wet": FRAME}
    ),
    "conditionals": lambda: pgnn.BayesianNetwork(
        graph(), {"rain": Tabular(RAIN, (), P_RAIN), "wet": Tabular(WET, [RAIN], P_WET)}
    ),
    "callables": lambda: pgnn.BayesianNetwork(
        graph(states=STATES),
        {"rain": P_RAIN, "wet": lambda v, pa: NoisyOr(v, pa, strengths=[8 / 9], leak=0.1)},
    ),
    "mapping before attributes": lambda: pgnn.BayesianNetwork(
        graph(states=STATES, conditional={"rain": [0.5, 0.5], "wet": P_WET}), {"rain": P_RAIN}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    model = FORMS[form]()
    assert list(model.variables) == ["rain", "wet"]
    assert model.variables["wet"] == WET
    assert list(model.conditionals) == ["rain", "wet"]
    posterior = model.query("rain", {"wet": "yes"})
    assert posterior["rain"].probs.tolist() == pytest.approx([0.08 / 0.26, 0.18 / 0.26])


def test_parents_are_in_the_order_of_the_graph() -> None:
    """Of its edges as they were added, not of its nodes."""
    table = np.random.default_rng(0).dirichlet(np.ones(2), size=(3, 2))
    made = nx.DiGraph()
    made.add_nodes_from(["a", "b", "c"])
    made.add_edge("b", "c")
    made.add_edge("a", "c")
    given = {"a": [0.5, 0.5], "b": [0.2, 0.3, 0.5], "c": table}
    for source in (made, [("b", "c"), ("a", "c")]):
        model = pgnn.BayesianNetwork(source, given)
        assert [v.name for v in model.conditionals["c"].parents] == ["b", "a"]
        assert list(model.graph.predecessors("c")) == ["b", "a"]
        found = model.query("c", {"b": 2, "a": 1})["c"].probs
        np.testing.assert_allclose(found, table[2, 1])
    again = pgnn.BayesianNetwork(model.graph, given)
    assert [v.name for v in again.conditionals["c"].parents] == ["b", "a"]


def test_missing_tables_are_learnable_and_uniform() -> None:
    model = pgnn.BayesianNetwork(graph(states=STATES), {"rain": P_RAIN})
    assert model.conditionals["wet"].logits.requires_grad
    assert not model.conditionals["rain"].logits.requires_grad
    assert model.query("wet")["wet"].probs.tolist() == pytest.approx([0.5, 0.5])
    assert model.num_free_parameters == 3


def test_a_class_is_a_callable() -> None:
    model = pgnn.BayesianNetwork([("a", "b")], {"b": Sigmoid}, {"a": 2, "b": 2})
    assert isinstance(model.conditionals["b"], Sigmoid)
    assert isinstance(model.conditionals["a"], Tabular)


def test_nodes_without_edges() -> None:
    model = pgnn.BayesianNetwork([], {"a": [0.3, 0.7]}, {"b": 3})
    assert list(model.variables) == ["b", "a"]
    assert model.query()["b"].probs.shape == (3,)
    assert str(model) == "BayesianNetwork(2 variables, 0 edges)"


def test_the_callers_graph_and_tables_are_their_own() -> None:
    made = graph(states=STATES, conditional={"wet": P_WET})
    table = np.array(P_RAIN)
    given: dict[str, Any] = {"rain": table}
    nodes = {n: dict(a) for n, a in made.nodes(data=True)}
    model = pgnn.BayesianNetwork(made, given)
    assert {n: dict(a) for n, a in made.nodes(data=True)} == nodes
    assert list(given) == ["rain"]
    made.add_edge("wet", "mud")
    made.nodes["rain"]["states"] = ["changed"]
    table[:] = 0.5
    assert list(model.variables) == ["rain", "wet"]
    assert model.query("rain")["rain"].probs.tolist() == pytest.approx(P_RAIN)
    with pytest.raises(nx.NetworkXError):
        model.graph.add_edge("wet", "rain")
    with pytest.raises(TypeError):
        model.variables["wet"] = RAIN  # type: ignore[index]


def test_from_pgmpy_and_files(tmp_path: Any) -> None:
    model = FORMS["mapping"]()
    pgnn.write(model, tmp_path / "rain.bif")
    for other in (pgnn.read(tmp_path / "rain.bif"), pgnn.from_pgmpy(pgnn.to_pgmpy(model))):
        found = other.query("rain", {"wet": "yes"})["rain"].probs
        assert found.tolist() == pytest.approx([0.08 / 0.26, 0.18 / 0.26])


# --- what is wrong is said, with the variable's name and what to do -----------------------------


def declare(
    source: Any = None, conditionals: Any = None, states: Any = None, **attributes: Any
) -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(
        graph(**attributes) if source is None else source, conditionals, states
    )


WRONG: dict[str, tuple[Any, list[str]]] = {
    "cycle": (
        lambda: declare([("a", "b"), ("b", "c"), ("c", "a")], None, dict.fromkeys("abc", 2)),
        ["'a' -> 'b' -> 'c' -> 'a'", "remove one"],
    ),
    "self-loop": (lambda: declare([("a", "a")], None, {"a": 2}), ["'a' -> 'a'", "remove"]),
    "undirected": (lambda: declare(nx.Graph([("a", "b")])), ["directed", "Graph"]),
    "states unknown": (lambda: declare().variables, ["'rain'", "states="]),
    "states unknown, rows by label": (
        lambda: declare(None, {"rain": {"no": 0.8, "yes": 0.2}}).variables,
        ["'rain'", "states="],
    ),
    "states twice": (
        lambda: declare(states={"rain": ["no", "no"], "wet": 2}),
        ["'rain'", "'no'", "twice"],
    ),
    "no states": (lambda: declare(None, None, {"rain": [], "wet": 2}), ["'rain'", "at least one"]),
    "states not countable": (
        lambda: declare(None, None, {"rain": "yes", "wet": 2}),
        ["'rain'", "list of labels"],
    ),
    "states in disagreement": (
        lambda: declare(graph(states=STATES), None, {"rain": 3}),
        ["'rain'", "(0, 1, 2)", "('no', 'yes')"],
    ),
    "states and conditional in disagreement": (
        lambda: declare(None, {"rain": Tabular(Variable("rain", 3), (), [0.2, 0.3, 0.5])}, STATES),
        ["'rain'", "declared with states"],
    ),
    "unknown node of a conditional": (
        lambda: declare(None, {"rains": P_RAIN}, STATES),
        ["'rains'", "did you mean 'rain'"],
    ),
    "unknown node of states": (
        lambda: declare(graph(), None, {**STATES, "wett": 2}),
        ["'wett'", "did you mean 'wet'"],
    ),
    "shape": (
        lambda: declare(None, {"rain": P_RAIN, "wet": [0.5, 0.5]}, STATES),
        ["'wet'", "(2, 2)", "rain: 2", "(2,)"],
    ),
    "transposed": (
        lambda: declare(
            [("rain", "wet")], {"rain": [0.2, 0.3, 0.5], "wet": np.full((2, 3), 0.5)}, {"wet": 2}
        ),
        ["'wet'", "(3, 2)", "(2, 3)", "table.T"],
    ),
    "not rectangular": (
        lambda: declare(None, {"rain": P_RAIN, "wet": [[0.5, 0.5], [1.0]]}, STATES),
        ["'wet'", "rectangular"],
    ),
    "text": (lambda: declare(None, {"rain": ["a", "b"]}, STATES), ["'rain'", "numbers"]),
    "row sum": (
        lambda: declare(None, {"rain": P_RAIN, "wet": [[0.9, 0.1], [0.2, 0.9]]}, STATES),
        ["'wet'", "rain=yes", "1.1", "0.1"],
    ),
    "row sum of a root": (lambda: declare(None, {"rain": [0.8, 0.3]}, STATES), ["'rain'", "1.1"]),
    "negative": (
        lambda: declare(None, {"rain": [1.2, -0.2]}, STATES),
        ["'rain'", "rain=yes", "-0.2"],
    ),
    "nan": (lambda: declare(None, {"rain": [float("nan"), 1.0]}, STATES), ["'rain'", "nan"]),
    "unknown label": (
        lambda: declare(None, {"rain": P_RAIN, "wet": {"nope": P_RAIN, "yes": P_RAIN}}, STATES),
        ["'wet'", "'nope'", "'no'"],
    ),
    "missing row": (
        lambda: declare(None, {"rain": P_RAIN, "wet": {"yes": P_RAIN}}, STATES),
        ["'wet'", "misses 1 of 2 rows", "rain=no"],
    ),
    "missing label": (
        lambda: declare(None, {"rain": {"yes": 1.0}}, STATES),
        ["'rain'", "misses state 'no'"],
    ),
    "real without a conditional": (
        lambda: declare(shape={"rain": ()}, states={"wet": 2}),
        ["'rain'", "real", "Neural"],
    ),
    "table of a child with a real parent": (
        lambda: declare(
            None,
            {"rain": pgnn.Neural(Variable("rain"), [], torch.nn.Linear(1, 1), ["u"], NormalHead())},
            {"wet": 2},
        ),
        ["'wet'", "'rain'", "real", "Softmax"],
    ),
    "parents": (
        lambda: declare(None, {"wet": Tabular(WET, (), [0.5, 0.5])}, {"rain": ["no", "yes"]}),
        ["'wet'", "['rain']", "[]"],
    ),
    "another parent": (
        lambda: declare(None, {"wet": Tabular(WET, [Variable("rain", 2)], P_WET)}, STATES),
        ["'wet'", "'rain'", "['no', 'yes']"],
    ),
    "another child": (
        lambda: declare(None, {"rain": Tabular(WET, (), [0.5, 0.5])}, STATES),
        ["'rain'", "'wet'"],
    ),
    "another child by a callable": (
        lambda: declare(
            None, {"wet": lambda v, pa: Tabular(Variable("mud", 2), pa, P_WET)}, STATES
        ),
        ["'wet'", "'mud'"],
    ),
    "other states by a callable": (
        lambda: declare(
            None, {"wet": lambda v, pa: Tabular(Variable("wet", 2), pa, P_WET)}, STATES
        ),
        ["'wet'", "['no', 'yes']"],
    ),
    "a callable that makes no conditional": (
        lambda: declare(None, {"wet": lambda v, pa: 3}, STATES),
        ["'wet'", "callable", "int"],
    ),
    "not binary": (
        lambda: declare([("a", "b")], {"b": Sigmoid}, {"a": 3, "b": 2}),
        ["'b'", "'a'", "3", "Softmax"],
    ),
    "a table that is too large": (
        lambda: declare([(k, "x") for k in range(30)], None, dict.fromkeys([*range(30), "x"], 2)),
        ["'x'", "30 parents", "NoisyOr"],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_declarations(what: str) -> None:
    make, words = WRONG[what]
    with pytest.raises((ModelError, pgnn.Intractable)) as caught:
        make()
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert re.search(r"[a-z]{3}", message)


# --- interventions ------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.sampled_from(oracle.KINDS))
def test_do_cuts_the_arrows_into_what_is_set(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    network = oracle.random_network(rng, kind)
    made = nx.DiGraph()
    made.add_nodes_from((n, {"states": k}) for n, k in network.cards.items())
    made.add_edges_from(network.edges)
    model = pgnn.BayesianNetwork(made, network.probabilities)
    names = list(network.cards)
    chosen = {n: int(rng.integers(network.cards[n])) for n in names if rng.random() < 0.4}
    done = model.do(chosen)
    parents = {n: () if n in chosen else pa for n, pa in network.parents.items()}
    tables = {n: np.eye(network.cards[n])[chosen[n]] if n in chosen else t
              for n, t in network.probabilities.items()}  # fmt: skip
    joint = oracle.Network(network.cards, parents, tables).joint()
    posterior = done.query()
    for n in names:
        np.testing.assert_allclose(posterior[n].probs, oracle.marginal(joint, [n]), atol=1e-9)
        assert set(done.graph.predecessors(n)) == set(parents[n])
    assert list(done.variables) == list(model.variables)
    assert all(set(model.graph.predecessors(n)) == set(pa) for n, pa in network.parents.items())


def test_seeing_is_not_doing() -> None:
    model = FORMS["mapping"]()
    assert model.query("rain", {"wet": "yes"})["rain"].probs[1] > 0.6
    done = model.do({"wet": "yes"})
    assert done.query("rain")["rain"].probs.tolist() == pytest.approx(P_RAIN)
    assert done.do({}).query("rain")["rain"].probs.tolist() == pytest.approx(P_RAIN)
    with pytest.raises(pgnn.ImpossibleEvidence):
        done.query("rain", {"wet": "no"})


def test_the_other_conditionals_are_shared() -> None:
    model = pgnn.BayesianNetwork(graph(states=STATES))
    done = model.do({"rain": "yes"})
    assert done.conditionals["wet"] is model.conditionals["wet"]
    assert done.query("wet")["wet"].probs.tolist() == pytest.approx([0.5, 0.5])
    model.conditionals["wet"].set_probs([[0.5, 0.5], [0.3, 0.7]])
    assert done.query("wet")["wet"].probs.tolist() == pytest.approx([0.3, 0.7])


def test_wrong_interventions() -> None:
    model = FORMS["mapping"]()
    with pytest.raises(pgnn.EvidenceError, match=r"'rains'.*did you mean 'rain'"):
        model.do({"rains": "yes"})
    with pytest.raises(pgnn.EvidenceError, match="no state 'maybe'"):
        model.do({"rain": "maybe"})
    for missing in (None, -1, float("nan")):
        with pytest.raises(pgnn.EvidenceError, match="'rain'"):
            model.do({"rain": missing})
    amount = pgnn.Neural(Variable("amount"), [RAIN], torch.nn.Linear(2, 2), head=NormalHead())
    real = pgnn.BayesianNetwork(
        [("rain", "amount")], {"rain": Tabular(RAIN, (), P_RAIN), "amount": amount}
    )
    with pytest.raises(pgnn.EvidenceError, match="'amount' to one finite value"):
        real.do({"amount": [1.0, 2.0]})


# --- sizes --------------------------------------------------------------------------------------


def test_parameters_and_order() -> None:
    model = pgnn.BayesianNetwork(
        [("a", "c"), ("b", "c"), ("c", "d")], None, {"d": 2, "c": 3, "b": 4, "a": 2}
    )
    assert model.num_free_parameters == 1 + 3 + 2 * 8 + 3
    assert list(model.variables) == ["d", "c", "b", "a"]
    position = {n: k for k, n in enumerate(model.order)}
    assert all(position[a] < position[b] for a, b in model.graph.edges)


def test_forward_is_the_log_probability_of_rows() -> None:
    model = FORMS["mapping"]()
    codes = torch.tensor([[0, 0], [1, 1], [1, -1]])
    np.testing.assert_allclose(model(codes).exp(), [0.72, 0.18, 0.2])


def test_draws_of_reals_leave_torchs_generators_alone():
    mean, value = Variable("mean", 2), Variable("value")
    model = pgnn.BayesianNetwork(
        [("mean", "value")],
        {"mean": [0.5, 0.5], "value": pgnn.Gaussian(value, [mean], [0.0, 1.0], [1.0, 1.0])},
    )
    before, queued = torch.random.get_rng_state(), len(torch.cuda._queued_calls)
    one, other = (model.sample(5, seed=3)["value"] for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(model.sample(5)["value"], model.sample(5)["value"])
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(torch.cuda._queued_calls) == queued


# --- what was not declared, or misspelled ---------------------------------------------------------

ROWS = {"a": ["x", "y", "x", "x"], "b": [1, 2, 3, 3], "c": [True, False, True, True]}


def test_states_come_from_the_data() -> None:
    edges = [("a", "b"), ("b", "c")]
    told = BayesianNetwork(edges, states={"a": ["x", "y"], "b": [1, 2, 3], "c": [False, True]})
    told.fit(ROWS, progress=False)
    for model in (BayesianNetwork(edges), BayesianNetwork(edges, states=pgnn.states_of(ROWS))):
        model.fit(ROWS, progress=False)
        assert model.variables == told.variables
        for name, conditional in told.conditionals.items():
            assert model.conditionals[name].probs.equal(conditional.probs)


def test_states_that_nothing_tells() -> None:
    model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5]})
    for ask in (
        lambda: model.query("a"),
        lambda: model.log_prob({"a": [0]}),
        lambda: model.conditionals,
        lambda: model.do({"a": 0}),
    ):
        with pytest.raises(ModelError, match=r"states of 'b' are not known; .*fit the model"):
            ask()
    with pytest.raises(ModelError, match="states of 'b' are not known and the data has no such"):
        model.fit({"a": [0, 1]}, progress=False)
    with pytest.raises(DataError, match="missing"):
        model.fit({"a": [0, None], "b": [1, 2]}, progress=False)
    with pytest.raises(ModelError, match="states of 'b' are not known"):
        model.query("a")
    model.fit({"a": [0, 1], "b": [1, 2]}, progress=False)
    assert model.variables["b"].states == (1, 2)


def test_a_misspelled_name_is_told() -> None:
    tables = {"Rain": [0.2, 0.8], "wet": [[0.9, 0.1], [0.1, 0.9]]}
    with pytest.raises(ModelError, match="'Rain' is given a conditional but has no edges, and"):
        BayesianNetwork([("rain", "wet")], tables, states={"rain": 2, "wet": 2})
    with pytest.raises(ModelError, match="'rian' is given states but has no edges, and 'rain'"):
        BayesianNetwork([("rain", "wet")], states={"rian": 2, "wet": 2})
    alone = BayesianNetwork([("rain", "wet")], states={"rain": 2, "wet": 2, "wind": 2, "Rain": 3})
    assert len(alone.variables) == 4


def test_unset_tables_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5]}, states={"a": 2, "b": 2})
    for _ in range(2):
        model.query("a")
    assert [r.getMessage() for r in caplog.records] == [
        "the parameters of 'b' were neither given nor fitted: answers use initial values, "
        "uniform ones for tables"
    ]
    caplog.clear()
    again = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5]}, states={"a": 2, "b": 2})
    again.fit({"a": [0, 1], "b": [0, 1]}, progress=False).query("a")
    BayesianNetwork([], {"a": [0.5, 0.5]}).query("a")
    assert not caplog.records


def test_real_nodes_are_linear_gaussian_unless_told_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = BayesianNetwork([("x", "y")], states={"x": None, "y": None})
    assert type(model.conditionals["y"]) is LinearGaussian
    x = np.array([0.0, 1.0, 2.0, 3.0])
    model.fit({"x": x, "y": 2 * x + 1 + np.array([0.1, -0.1, -0.1, 0.1])}, progress=False)
    torch.testing.assert_close(
        model.conditionals["y"].weight.detach(), torch.tensor([2.0]).double()
    )
    with pytest.raises(ModelError, match=r"'x' is real; use Softmax, LinearGaussian or Neural"):
        BayesianNetwork([("x", "k")], states={"x": None, "k": 2})
    without_parents = LinearGaussian(Variable("x"), [], bias=0.0, covariance=1.0)
    BayesianNetwork([], {"x": without_parents}).query("x")
    assert not caplog.records  # nothing was left to be told: there is no weight


@pytest.mark.parametrize("states", [0, -1, 2.5, ["a", "a"], []])
def test_wrong_states_are_refused_though_others_are_not_known_yet(states: Any) -> None:
    with pytest.raises(ModelError, match="'a'"):
        BayesianNetwork([("a", "b")], states={"a": states})
    with pytest.raises(ModelError, match="'component'"):
        pgnn.Mixture(states, {"x": pgnn.Gaussian})


def test_classes_of_real_children_tell_that_columns_are_real() -> None:
    a = np.random.default_rng(0).normal(size=300)
    given = {"a": pgnn.Gaussian, "b": pgnn.LinearGaussian}
    model = pgnn.BayesianNetwork([("a", "b")], given).fit({"a": a, "b": 2 * a + 1}, progress=False)
    assert model.conditionals["b"].weight.item() == pytest.approx(2.0, abs=1e-6)
    assert "-0.0 " not in str(model.query("a", {"b": 1.0}))
