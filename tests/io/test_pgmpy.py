"""Models from and to pgmpy."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from torch import nn

import pgnn
from pgnn import DynamicBayesianNetwork, Gaussian, HiddenMarkovModel, MarkovRandomField
from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.heads import NormalHead
from pgnn.factors.conditionals.neural import Neural
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.io import from_pgmpy, read_bif, to_pgmpy
from pgnn.io.pgmpy import marginals_of_pgmpy
from pgnn.models.bayesian_network import BayesianNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pgmpy.base import DAG
    from pgmpy.factors.continuous import LinearGaussianCPD
    from pgmpy.factors.discrete import DiscreteFactor, TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import (
        DiscreteBayesianNetwork,
        DiscreteMarkovNetwork,
        LinearGaussianBayesianNetwork,
        NaiveBayes,
    )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def small() -> DiscreteBayesianNetwork:
    model = DiscreteBayesianNetwork([("a", "c"), ("b", "c")])
    states = {"a": ["no", "yes"], "b": [10, 20, 30], "c": ["x", "y"]}
    model.add_cpds(
        TabularCPD("a", 2, [[0.3], [0.7]], state_names={"a": states["a"]}),
        TabularCPD("b", 3, [[0.2], [0.3], [0.5]], state_names={"b": states["b"]}),
        TabularCPD(
            "c",
            2,
            [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]],
            ["b", "a"],
            [3, 2],
            state_names=states,
        ),
    )
    return model


def test_child_moves_to_the_last_axis() -> None:
    model = from_pgmpy(small())
    conditional = model.conditionals["c"]
    assert [v.name for v in conditional.parents] == ["b", "a"]
    assert model.variables["b"].states == (10, 20, 30)
    expected = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    np.testing.assert_allclose(conditional.probs[..., 0], expected, rtol=1e-15)


def test_there_and_back(data_dir: Path) -> None:
    ours = read_bif(data_dir / "bn/sachs.bif")
    theirs = to_pgmpy(ours)
    assert theirs.check_model()
    again = from_pgmpy(theirs)
    for name, conditional in ours.conditionals.items():
        assert again.conditionals[name].scope == conditional.scope
        assert again.conditionals[name].logits.equal(conditional.logits)
    assert set(again.graph.edges) == set(ours.graph.edges)


def test_pgmpy_answers_as_the_table_says() -> None:
    answer = VariableElimination(to_pgmpy(from_pgmpy(small()))).query(["c"], {"a": "yes"})
    np.testing.assert_allclose(answer.get_value(c="x"), 0.2 * 0.2 + 0.3 * 0.4 + 0.5 * 0.6)


def test_isolated_node_is_kept() -> None:
    model = BayesianNetwork([], {"a": Tabular(Variable("a", 2), (), [0.25, 0.75])})
    assert list(to_pgmpy(model).nodes) == ["a"]
    assert list(from_pgmpy(to_pgmpy(model)).variables) == ["a"]


def test_states_in_another_order_are_sorted_out() -> None:
    model = small()
    model.remove_cpds("a")
    model.add_cpds(TabularCPD("a", 2, [[0.7], [0.3]], state_names={"a": ["yes", "no"]}))
    again = from_pgmpy(model)
    assert again.variables["a"].states == ("yes", "no")
    expected = from_pgmpy(small()).conditionals["c"].probs.flip(1)
    assert again.conditionals["c"].probs.equal(expected)


def test_graphs_without_tables_are_fitted() -> None:
    graph = DAG([("a", "b"), ("c", "b")], latents={"c"})
    graph.add_node("d")
    model = from_pgmpy(graph)
    assert set(model.graph.edges) == {("a", "b"), ("c", "b")}
    assert "d" in model.graph
    assert model.latents == ["c"]
    fitted = from_pgmpy(DiscreteBayesianNetwork([("a", "b")]))
    rows = pd.DataFrame({"a": ["x", "x", "y", "y"], "b": [0, 1, 1, 1]})
    probs = fitted.fit(rows).conditionals["b"].probs
    assert probs.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_missing_table_and_other_states() -> None:
    model = small()
    model.remove_cpds("a")
    with pytest.raises(ModelError, match="no table for 'a'"):
        from_pgmpy(model)
    model.add_cpds(TabularCPD("a", 2, [[0.7], [0.3]], state_names={"a": ["yes", "nope"]}))
    with pytest.raises(ModelError, match=r"the table of 'c' has states .* of 'a'"):
        from_pgmpy(model)


def test_real_variables_are_refused() -> None:
    digit, size = Variable("digit", 2), Variable("size")
    conditionals = {
        "digit": Tabular(digit),
        "size": Neural(size, [digit], nn.Identity(), head=NormalHead()),
    }
    with pytest.raises(Unsupported, match="'size' is real and cannot be written as a table"):
        to_pgmpy(BayesianNetwork([("digit", "size")], conditionals))


def test_conditionals_with_inputs_are_refused() -> None:
    shade = Softmax(Variable("shade", 2), inputs={"light": 1})
    with pytest.raises(Unsupported, match="'shade' depends on the inputs 'light'"):
        to_pgmpy(BayesianNetwork([], {"shade": shade}))


# --- fields, factor graphs, trees, latents --------------------------------------------------------


def field() -> DiscreteMarkovNetwork:
    model = DiscreteMarkovNetwork([("a", "b"), ("b", "c")])
    states = {"a": ["no", "yes"], "b": [10, 20, 30], "c": ["x", "y"]}
    model.add_factors(
        DiscreteFactor(["a", "b"], [2, 3], np.arange(1.0, 7.0), state_names=states),
        DiscreteFactor(["c", "b"], [2, 3], np.arange(6.0, 0.0, -1.0), state_names=states),
    )
    return model


@pytest.mark.parametrize("make", ["field", "factor graph", "junction tree"])
def test_products_of_factors_come_as_fields(make: str) -> None:
    theirs = field()
    if make == "factor graph":
        theirs = theirs.to_factor_graph()
    elif make == "junction tree":
        theirs = theirs.to_junction_tree()
    ours = from_pgmpy(theirs)
    assert ours.variables["b"].states == (10, 20, 30)
    z = float(np.log(field().get_partition_function()))
    assert float(ours.query().log_evidence) == pytest.approx(z, rel=1e-12)
    answer = VariableElimination(field()).query(["a"], {"c": "y"}).values
    np.testing.assert_allclose(ours.query("a", {"c": "y"})["a"].probs, answer / answer.sum())


def test_fields_there_and_back() -> None:
    ours = from_pgmpy(field())
    theirs = to_pgmpy(ours)
    assert theirs.check_model()
    assert set(theirs.nodes) == {"a", "b", "c"}
    again = from_pgmpy(theirs)
    row = {"a": "yes", "b": 20, "c": "x"}
    np.testing.assert_allclose(again.log_prob(row), ours.log_prob(row))
    grid = MarkovRandomField.grid((2, 2), coupling=0.5, name="pixel")
    nodes = to_pgmpy(grid)
    assert ("pixel", 1, 0) in nodes.nodes
    assert nodes.number_of_edges() == 4
    z = float(np.log(nodes.get_partition_function()))
    assert float(grid.query().log_evidence) == pytest.approx(z, rel=1e-12)


def test_posteriors_of_fields_sum_to_one() -> None:
    table = [[1.0, 5.0], [2.0, 0.5]]
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    field = MarkovRandomField(nx.Graph(edges), dict.fromkeys(edges, table))
    findings: list[dict[str, int]] = [{}, {"a": 1}]
    for evidence, answer in zip(findings, marginals_of_pgmpy(field, findings), strict=True):
        expected = field.query(evidence=evidence)
        assert {*answer} == {*"abcd"} - {*evidence}
        for name, probabilities in answer.items():
            np.testing.assert_allclose(probabilities, expected[name].probs.numpy(), rtol=1e-9)


def test_factor_graphs_have_a_node_for_each_factor() -> None:
    ours = from_pgmpy(field())
    theirs = to_pgmpy(ours, factor_graph=True)
    assert theirs.check_model()
    assert theirs.number_of_nodes() == 5
    assert theirs.number_of_edges() == 4
    z = float(np.log(theirs.get_partition_function()))
    assert float(ours.query().log_evidence) == pytest.approx(z, rel=1e-12)
    again = from_pgmpy(theirs)
    row = {"a": "yes", "b": 20, "c": "x"}
    np.testing.assert_allclose(again.log_prob(row), ours.log_prob(row))
    with pytest.raises(Unsupported, match="is for fields, not for a BayesianNetwork"):
        to_pgmpy(BayesianNetwork([], {"a": [0.5, 0.5]}), factor_graph=True)


def test_models_without_factors_and_strangers_are_told() -> None:
    with pytest.raises(ModelError, match="no factors"):
        from_pgmpy(DiscreteMarkovNetwork())
    with pytest.raises(Unsupported, match="got a dict"):
        from_pgmpy({})


def test_slices_there_and_back() -> None:
    ours = DynamicBayesianNetwork(
        [(("a", -1), "a"), ("a", "b"), (("b", -1), "b")],
        {"a": [[0.7, 0.3], [0.2, 0.8]], "b": [[[0.9, 0.1], [0.4, 0.6]], [[0.3, 0.7], [0.5, 0.5]]]},
        {"a": [0.6, 0.4], "b": [[0.8, 0.2], [0.1, 0.9]]},
        {"a": ["no", "yes"], "b": 2},
    )
    theirs = to_pgmpy(ours)
    assert theirs.check_model()
    again = from_pgmpy(theirs)
    observed = {"b": [0, 1, 1, 0, None, 1]}
    np.testing.assert_allclose(again.log_prob(observed), ours.log_prob(observed), rtol=1e-12)
    chain = HiddenMarkovModel(
        2, {"x": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], [[0.7, 0.3], [0.4, 0.6]]
    )
    again = from_pgmpy(to_pgmpy(chain))
    np.testing.assert_allclose(again.log_prob({"x": [0, 1]}), chain.log_prob({"x": [0, 1]}))
    real = HiddenMarkovModel(2, {"x": Gaussian})
    with pytest.raises(Unsupported, match="real variable 'x'"):
        to_pgmpy(real)


def test_latents_are_kept(tmp_path: Path) -> None:
    theirs = small()
    theirs.latents = {"b"}
    ours = from_pgmpy(theirs)
    assert ours.latents == ["b"]
    assert to_pgmpy(ours).latents == {"b"}
    ours.save(tmp_path / "model.safetensors")
    assert pgnn.load(tmp_path / "model.safetensors").latents == ["b"]
    with pytest.raises(ModelError, match=r"latents= is given for 'z'"):
        BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}, latents=["z"])


def linear() -> "LinearGaussianBayesianNetwork":
    model = LinearGaussianBayesianNetwork([("x", "z"), ("y", "z"), ("z", "w")], latents={"y"})
    model.add_cpds(
        LinearGaussianCPD("x", [1.0], 2.0),
        LinearGaussianCPD("y", [-1.0], 0.5),
        LinearGaussianCPD("z", [0.5, 2.0, -3.0], 1.5, ["x", "y"]),
        LinearGaussianCPD("w", [0.0, 1.0], 0.1, ["z"]),
    )
    return model


def test_linear_gaussian_networks_both_ways() -> None:
    theirs = linear()
    ours = from_pgmpy(theirs)
    assert tuple(ours.latents) == ("y",)
    # the joint of pgmpy is normal with this mean and covariance
    mean, covariance = theirs.to_joint_gaussian()
    names = [*nx.topological_sort(theirs)]
    rows = np.random.default_rng(0).normal(size=(5, 4))
    expected = multivariate_normal(mean, covariance).logpdf(rows)
    found = ours.log_prob({name: rows[:, k] for k, name in enumerate(names)})
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    again = to_pgmpy(ours)
    assert again.latents == {"y"}
    for name in "xyzw":
        a, b = again.get_cpds(name), theirs.get_cpds(name)
        assert a.evidence == b.evidence
        np.testing.assert_allclose([*a.beta, a.std], [*b.beta, b.std], rtol=1e-12)


def test_reals_that_are_no_regression_are_refused() -> None:
    x, y = Variable("x"), Variable("y")
    conditionals = {
        "x": Gaussian(x, (), 0.0, 1.0),
        "y": Neural(y, [x], nn.Linear(1, 2), head=NormalHead()),
    }
    model = BayesianNetwork([("x", "y")], conditionals)
    with pytest.raises(Unsupported, match="Neural is not a linear regression"):
        to_pgmpy(model)


def test_naive_bayes() -> None:
    theirs = NaiveBayes()
    theirs.add_edges_from([("c", "a"), ("c", "b")])
    theirs.add_cpds(
        TabularCPD("c", 2, [[0.3], [0.7]]),
        TabularCPD("a", 2, [[0.1, 0.2], [0.9, 0.8]], ["c"], [2]),
        TabularCPD("b", 2, [[0.5, 0.4], [0.5, 0.6]], ["c"], [2]),
    )
    ours = from_pgmpy(theirs)
    np.testing.assert_allclose(ours.conditionals["a"].probs, [[0.1, 0.9], [0.2, 0.8]])
    assert set(to_pgmpy(ours).edges) == set(theirs.edges)
