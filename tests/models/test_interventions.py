"""Interventions: states, distributions, policies, and trials at random."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import BayesianNetwork, EvidenceError, Gaussian, ModelError, Tabular, Variable
from tests import oracle

CARDS = {"z": 2, "x": 3, "y": 2}
P_Z = np.array([0.3, 0.7])
P_X = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
P_Y = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9]]])


def network() -> BayesianNetwork:
    edges = [("z", "x"), ("x", "y"), ("z", "y")]
    return BayesianNetwork(edges, {"z": P_Z, "x": P_X, "y": P_Y}, latents=["z"])


def after(p_x: np.ndarray, given: tuple[str, ...] = ()) -> np.ndarray:
    """p(y) once x is drawn from another table."""
    tables = [(("z",), P_Z), ((*given, "x"), p_x), (("x", "z", "y"), P_Y)]
    return oracle.marginal(oracle.joint(CARDS, tables), ["y"])


def p_y(model: BayesianNetwork) -> np.ndarray:
    return model.query("y")["y"].probs.numpy()


@pytest.mark.parametrize(
    "action",
    [{0: 0.1, 2: 0.9}, [0.1, 0.0, 0.9], np.array([0.1, 0.0, 0.9]), torch.tensor([0.1, 0.0, 0.9])],
)
def test_a_distribution_is_set(action):
    np.testing.assert_allclose(p_y(network().do({"x": action})), after([0.1, 0.0, 0.9]), rtol=1e-6)


def test_a_state_is_a_point_mass_and_arrows_are_cut():
    done = network().do({"x": 2})
    np.testing.assert_allclose(p_y(done), after([0.0, 0.0, 1.0]), rtol=1e-12)
    assert set(done.graph.edges) == {("x", "y"), ("z", "y")}
    assert done.latents == ["z"]


def test_a_policy_has_arrows_of_its_own():
    model = network()
    table = np.array([[0.8, 0.1, 0.1], [0.0, 0.5, 0.5]])
    policy = Tabular(model.variables["x"], [model.variables["z"]], table)
    np.testing.assert_allclose(p_y(model.do({"x": policy})), after(table, ("z",)), rtol=1e-12)


def test_a_trial_at_random_takes_a_state_in_each_row():
    model = network()
    trial = model.do(["x"])
    rows = trial.query("y", {"x": [2, 0, 1]})["y"].probs
    for row, state in zip(rows.numpy(), [2, 0, 1], strict=True):
        np.testing.assert_allclose(row, p_y(model.do({"x": state})), rtol=1e-12)
    np.testing.assert_allclose(p_y(trial), after(np.full(3, 1 / 3)), rtol=1e-12)
    np.testing.assert_allclose(p_y(model.do("x")), p_y(trial), rtol=1e-12)


def test_what_is_no_action_is_told():
    model = network()
    with pytest.raises(EvidenceError, match=r"model\.do\(\['x'\]\)"):
        model.do({"x": [2, 0, 1]})
    with pytest.raises(EvidenceError, match="no state 7"):
        model.do({"x": {7: 1.0}})
    with pytest.raises(EvidenceError, match="did you mean"):
        model.do({"xx": 1})
    with pytest.raises(EvidenceError, match="needs a state"):
        model.do({"x": None, "y": -1})
    with pytest.raises(ModelError, match="sum to 1"):
        model.do({"x": {0: 0.5}})
    cycle = Tabular(model.variables["x"], [model.variables["y"]])
    with pytest.raises(ModelError, match="cycle"):
        model.do({"x": cycle})
    stranger = Tabular(model.variables["x"], [Variable("w", 2)])
    with pytest.raises(EvidenceError, match="'w'"):
        model.do({"x": stranger})
    with pytest.raises(ModelError, match="got one of"):
        model.do({"x": model.conditionals["y"]})


A, B, C, K = Variable("a"), Variable("b"), Variable("c"), Variable("k", 2)


def hybrid() -> BayesianNetwork:
    pieces = {
        "a": Gaussian(A, mean=1.0, covariance=1.0),
        "b": pgnn.LinearGaussian(B, [A], [2.0], 0.0, 1.0),
        "k": [0.3, 0.7],
        "c": pgnn.LinearGaussian(C, [B, A, K], [[1.0, 3.0], [2.0, 0.0]], [0.0, 1.0], [0.5, 1.0]),
    }
    return BayesianNetwork([("a", "b"), ("b", "c"), ("a", "c"), ("k", "c")], pieces)


def test_a_real_variable_is_set_by_a_conditional() -> None:
    done = hybrid().do({"b": Gaussian(B, mean=3.0, covariance=1e-6)})
    assert abs(float(done.sample(20, seed=0)["b"].mean()) - 3.0) < 0.01


def test_a_real_variable_is_set_to_a_value() -> None:
    done = hybrid().do({"b": 1.0})
    assert set(done.graph.edges) == {("b", "c"), ("a", "c"), ("k", "c")}
    assert float(done.query("c")["c"].mean) == pytest.approx(0.3 * (1 + 3) + 0.7 * (2 + 1))
    seen = {"c": [2.0, 3.0]}
    near = hybrid().do({"b": Gaussian(B, mean=1.0, covariance=1e-10)})
    mine, other = (x.query(["a", "k"], seen) for x in (done, near))
    torch.testing.assert_close(mine["a"].mean, other["a"].mean, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(mine["k"].probs, other["k"].probs, rtol=1e-6, atol=0.0)
    drawn = done.sample(50, seed=0)
    assert bool((drawn["b"] == 1.0).all())
    assert float(done.do({"b": 2.0}).query("c")["c"].mean) == pytest.approx(5.0)


def test_log_probabilities_are_relative_to_the_value() -> None:
    rows = {"a": [1.0, 2.0], "c": [2.0, 3.0], "k": [0, 1]}
    done, free = hybrid().do({"b": 1.0}), hybrid().do(["b"])
    expected = free.log_prob({**rows, "b": [1.0, 1.0]})
    torch.testing.assert_close(done.log_prob(rows), expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(done.log_prob({**rows, "b": [1.0, np.nan]}), expected)
    assert done.log_prob({**rows, "b": [1.0, 1.5]}).tolist() == [float(expected[0]), -np.inf]
    with pytest.raises(pgnn.ImpossibleEvidence):
        done.query("a", {"b": 2.0})


def test_reals_without_a_value_lose_their_edges_and_take_one_in_each_row() -> None:
    free = hybrid().do(["b"])
    means = free.query("c", {"b": [1.0, 2.0]})["c"].mean
    expected = [float(hybrid().do({"b": x}).query("c")["c"].mean) for x in (1.0, 2.0)]
    np.testing.assert_allclose(means, expected, rtol=1e-12)
    with pytest.raises(pgnn.Unsupported, match=r"'b' has no distribution; observe it, as in \{'b'"):
        free.query("c")


def test_values_of_vectors_and_of_no_shape() -> None:
    vector = Variable("v", shape=(2,))
    pieces = {"v": Gaussian(vector), "c": pgnn.LinearGaussian(C, [vector], [1.0, 2.0], 0.0, 1.0)}
    model = BayesianNetwork([("v", "c")], pieces)
    assert float(model.do({"v": [1.0, 2.0]}).query("c")["c"].mean) == pytest.approx(5.0)
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for wrong in (1.0, [1.0], [1.0, np.nan], "yes", None, masked, ["1", "2"], [True, 2.0]):
        with pytest.raises(EvidenceError, match=r"'v' to one finite value.*model\.do\(\['v'\]\)"):
            model.do({"v": wrong})


def test_set_models_are_saved_and_run_as_programs(tmp_path) -> None:
    done = hybrid().do({"b": 1.0})
    done.save(tmp_path / "done.pgnn")
    again = pgnn.load(tmp_path / "done.pgnn")
    assert float(again.query("c")["c"].mean) == float(done.query("c")["c"].mean)
    assert "1.0000" in str(again.conditionals["b"])
    drawn = pgnn.Program(done.program()).sample(5, seed=0)
    assert bool((drawn["b"] == 1.0).all())


def point(x: float = 1.5) -> BayesianNetwork:
    """x -> y, with x set to a value."""
    y = pgnn.LinearGaussian(B, [A], [2.0], 0.0, covariance=1.0)
    return BayesianNetwork([("a", "b")], {"a": Gaussian(A), "b": y}).do({"a": x})


@pytest.mark.parametrize(
    "value",
    [
        np.ma.masked,
        np.ma.array(1.0, mask=True),
        "1.5",
        b"1.5",
        True,
        np.True_,
        torch.tensor(True),
        np.datetime64("2020-01-01"),
    ],
    ids=repr,
)
def test_values_that_are_no_numbers_are_refused(value) -> None:
    with pytest.raises(EvidenceError, match="'a' to one finite value"):
        point(value)


def test_masked_states_and_distributions_are_refused() -> None:
    with pytest.raises(EvidenceError, match="needs a state to set 'x' to, got masked"):
        network().do({"x": np.ma.masked})
    with pytest.raises(EvidenceError, match="by a distribution"):
        network().do({"x": np.ma.array([0.5, 0.5, 0.0], mask=[False, True, False])})
    np.testing.assert_allclose(
        p_y(network().do({"x": np.ma.array(2, mask=False)})), after([0.0, 0.0, 1.0]), rtol=1e-12
    )


def test_messages_show_tables_in_one_line() -> None:
    import pandas as pd

    with pytest.raises(EvidenceError, match=r"got 0 1\.5 1 2\.0 dtype: float64;"):
        point(pd.Series([1.5, 2.0]))


def test_programs_of_set_models_answer_like_the_models() -> None:
    done = point()
    program = pgnn.Program(done.program())
    for rows in (
        {"b": 3.0},
        {"b": [3.0, 1.0], "a": [1.5, np.nan]},
        {"b": [3.0, 3.0], "a": [1.5, 2]},
    ):
        torch.testing.assert_close(program.log_prob(rows), done.log_prob(rows), rtol=1e-6, atol=0)
    answer = program.query("b", engine=pgnn.MCMC(samples=200, warmup=100, seed=0))["b"]
    assert abs(float(answer.mean) - float(done.query("b")["b"].mean)) < 0.4
    drawn = program.sample(400, seed=0)
    assert bool((drawn["a"] == 1.5).all())
    assert abs(float(drawn["b"].mean()) - 3.0) < 5 / 20  # five standard errors
    vector = Variable("v", shape=(2,))
    pieces = {"v": Gaussian(vector), "c": pgnn.LinearGaussian(C, [vector], [1.0, 2.0], 0.0, 1.0)}
    model = BayesianNetwork([("v", "c")], pieces).do({"v": [1.0, 2.0]})
    other = pgnn.Program(model.program())
    torch.testing.assert_close(other.log_prob({"c": 4.0}), model.log_prob({"c": 4.0}))


def test_cells_of_set_variables_are_imputed_by_the_value() -> None:
    filled = point().impute({"a": [1.5, np.nan], "b": [np.nan, 1.0]})
    assert filled["a"].tolist() == [1.5, 1.5]
    assert filled["b"].tolist() == pytest.approx([3.0, 1.0])
    drawn = point().impute({"a": [1.5, np.nan], "b": [np.nan, 1.0]}, draws=2, seed=0)
    assert all(table["a"].tolist() == [1.5, 1.5] for table in drawn)


def test_parts_of_a_set_vector_are_known() -> None:
    vector = Variable("v", shape=(2,))
    pieces = {"v": Gaussian(vector), "c": pgnn.LinearGaussian(C, [vector], [1.0, 2.0], 0.0, 1.0)}
    done = BayesianNetwork([("v", "c")], pieces).do({"v": [1.0, 2.0]})
    for seen in ({("v", 0): 1.0}, {"v": [1.0, np.nan]}):
        assert float(done.query("c", seen)["c"].mean) == pytest.approx(5.0)
    assert done.impute({"v": [[np.nan, 2.0]], "c": [0.0]})["v"][0].tolist() == [1.0, 2.0]


def test_evidence_in_single_precision_agrees_with_the_value() -> None:
    done = point(0.1)
    for seen in (torch.tensor([0.1]), np.float32(0.1), np.array([0.1], dtype=np.float32)):
        mean = torch.as_tensor(done.query("b", {"a": seen})["b"].mean)
        assert mean.reshape(()).item() == pytest.approx(0.2, rel=1e-12)
    assert float(point(np.float32(0.1)).query("b", {"a": 0.1})["b"].mean) == pytest.approx(0.2)
    with pytest.raises(pgnn.ImpossibleEvidence, match=r"'a' is set to 0\.1, but observed as 2\.0;"):
        done.query("b", {"a": 2.0})
    with pytest.raises(pgnn.ImpossibleEvidence, match=r"as 2\.0 in 1 of 2 rows, first row 1") as e:
        done.sample(2, {"a": [0.1, 2.0]})
    assert e.value.rows == (1,)
    answer = done.query("b", {"a": [0.1, 2.0]}, errors="nan")["b"].mean
    assert answer.isnan().tolist() == [False, True]
    assert done.log_prob({"a": 2.0}) == -torch.inf


def test_set_variables_are_no_targets() -> None:
    with pytest.raises(EvidenceError, match=r"'a' is set to 1\.5, so it has no posterior"):
        point().query(["a", "b"])


def test_the_shape_of_a_class_is_known_after_a_fit() -> None:
    model = BayesianNetwork([("a", "b")], {"a": Gaussian, "b": pgnn.LinearGaussian})
    with pytest.raises(ModelError, match="the shape of 'a' is not known; fit the model"):
        model.do({"a": 1.5})


@pytest.mark.parametrize("learner", [None, pgnn.MaximumLikelihood(), pgnn.EM(), pgnn.Gradient()])
def test_rows_with_another_value_than_the_one_set_are_not_learned_from(learner: object) -> None:
    rng = np.random.default_rng(0)
    rows = {"a": [0, 0, 1, 1], "b": [0, 1, 1, 1]}
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2}).fit(rows, progress=False)
    before = model.conditionals["b"].logits.clone()
    with pytest.raises(pgnn.DataError, match=r"'a' = 0 was given as zero.*model.do\(\['a'\]\)"):
        model.do({"a": 1}).fit(rows, learner=learner, progress=False)
    torch.testing.assert_close(model.conditionals["b"].logits, before)
    x = rng.normal(size=20)
    reals = {"x": x, "y": 2.0 * x + rng.normal(size=20)}
    linear = pgnn.BayesianNetwork([("x", "y")], dict.fromkeys("xy", pgnn.LinearGaussian))
    linear.fit(reals, progress=False)
    with pytest.raises(pgnn.errors.PgnnError, match=r"'x' is set to 1.5.*model.do\(\['x'\]\)"):
        linear.do({"x": 1.5}).fit(reals, learner=learner, progress=False)


def test_rows_of_an_experiment_are_learned_from() -> None:
    rows = {"a": [0, 0, 1, 1], "b": [0, 1, 1, 1]}
    model = pgnn.BayesianNetwork([("b", "a")], states={"a": 2, "b": 2}).fit(rows, progress=False)
    found = model.do(["a"]).fit(rows, progress=False)
    assert found.query("b")["b"].probs.tolist() == pytest.approx([0.25, 0.75])
    same = model.do({"a": 1}).fit({"a": [1, 1], "b": [1, 0]}, progress=False)
    assert same.query("b")["b"].probs.tolist() == pytest.approx([0.5, 0.5])
