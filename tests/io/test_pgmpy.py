"""Models from and to pgmpy."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.neural import Neural, NormalHead
from pgnn.factors.conditionals.softmax import Softmax
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.io import from_pgmpy, read_bif, to_pgmpy
from pgnn.models.bayesian_network import BayesianNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork


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
