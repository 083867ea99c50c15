"""Rows whose class is known by likelihoods, against EM written down in NumPy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import DataError, Unsupported
from pgnn.inference.learning.class_e_step import ClassEStep
from pgnn.inference.learning.table_e_step import NetworkEStep

RNG = np.random.default_rng(0)
SIZE = 40
CLASS = RNG.integers(0, 2, SIZE)
X = RNG.normal(3.0 * CLASS, 1.0)
D = (RNG.random(SIZE) < 0.3 + 0.4 * CLASS) * 1
LIKELIHOODS = RNG.dirichlet([2.0, 2.0], SIZE) * RNG.uniform(0.1, 3.0, (SIZE, 1))
LIKELIHOODS[::5] = np.nan  # nothing is known
LIKELIHOODS[1] = [0.0, 2.0]
WEIGHTS = RNG.integers(1, 4, SIZE).astype(float)
ROWS = {"k": pgnn.likelihood(LIKELIHOODS), "x": X, "d": D}

PRIOR, MEAN, VARIANCE = np.array([0.4, 0.6]), np.array([0.5, 2.0]), np.array([1.0, 2.0])
TABLE = np.array([[0.6, 0.4], [0.3, 0.7]])
STEPS = 12


def in_numpy() -> tuple[dict[str, np.ndarray], list[float]]:
    """EM by its definition: parameters after some steps, and log-likelihoods before each."""
    prior, mean, variance, table, values = PRIOR, MEAN, VARIANCE, TABLE, []
    given = np.where(np.isnan(LIKELIHOODS), 1.0, LIKELIHOODS)
    for _ in range(STEPS):
        density = np.exp(-0.5 * (X[:, None] - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
        joint = prior * given * density * table.T[D]
        values.append(float(WEIGHTS @ np.log(joint.sum(axis=1))))
        share = joint / joint.sum(axis=1, keepdims=True) * WEIGHTS[:, None]
        total = share.sum(axis=0)
        prior, mean = total / total.sum(), X @ share / total
        variance = ((X[:, None] - mean) ** 2 * share).sum(axis=0) / total
        table = share.T @ np.eye(2)[D] / total[:, None]
    return {"prior": prior, "mean": mean, "variance": variance, "table": table}, values


def model_of(kind: str) -> pgnn.Model:
    k, d, x = pgnn.Variable("k", 2), pgnn.Variable("d", 2), pgnn.Variable("x")
    if kind == "models":
        parts = [
            pgnn.BayesianNetwork([], {"x": pgnn.Gaussian(x, [], m, v), "d": t.tolist()})
            for m, v, t in zip(MEAN, VARIANCE, TABLE, strict=True)
        ]
        model: pgnn.Model = pgnn.ModelMixture(parts, PRIOR.tolist(), name="k")
        return model.requires_grad_()
    normal = pgnn.Gaussian(x, [k], MEAN, VARIANCE)
    if kind == "network":
        pieces = {"k": PRIOR, "d": TABLE, "x": normal}
        return pgnn.BayesianNetwork([("k", "d"), ("k", "x")], pieces, {"d": d}).requires_grad_()
    family = pgnn.Mixture if kind == "mixture" else pgnn.NaiveBayes
    return family(2, {"d": TABLE, "x": normal}, PRIOR, name="k", smoothing=0.0).requires_grad_()


def learned(model: Any) -> list[Any]:
    """Prior, means and table of a model."""
    if isinstance(model, pgnn.ModelMixture):
        parts = [c.conditionals for c in model.components]
        means, tables = ([c[n] for c in parts] for n in "xd")
        mean = torch.stack([c.mean for c in means])
        return [model.weights.probs, mean, torch.stack([c.probs for c in tables])]
    c = model.conditionals
    return [c["k"].probs, c["x"].mean, c["d"].probs]


@pytest.mark.parametrize("kind", ["mixture", "classes", "network", "models"])
@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")  # after some steps
def test_steps_are_those_of_the_definition(kind: str) -> None:
    expected, values = in_numpy()
    learner = pgnn.EM(accelerate=False, initialize=False, max_iterations=STEPS, tolerance=0.0)
    model = model_of(kind).fit(ROWS, weights=WEIGHTS, learner=learner, progress=False)
    np.testing.assert_allclose(model.history["trace"]["log_likelihood"], values, rtol=1e-9)
    assert values[-1] > values[0] + 1.0
    prior, mean, table = (x.detach().numpy() for x in learned(model))
    np.testing.assert_allclose(prior, expected["prior"], rtol=1e-7)
    np.testing.assert_allclose(mean.reshape(-1), expected["mean"], rtol=1e-7)
    np.testing.assert_allclose(table, expected["table"], rtol=1e-7)
    total = float((model.log_prob(ROWS).detach().numpy() * WEIGHTS).sum())
    assert model.history["log_likelihood"] == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("kind", ["mixture", "classes", "network", "models"])
def test_certain_likelihoods_are_labels(kind: str) -> None:
    labels = np.where(RNG.random(SIZE) < 0.3, -1, CLASS)
    certain = np.where(labels[:, None] < 0, np.nan, np.eye(2)[labels])
    found = []
    for k in (pgnn.codes(labels), pgnn.likelihood(certain)):
        model = model_of(kind).fit({**ROWS, "k": k}, seed=0, learner=pgnn.EM(), progress=False)
        found.append([x.detach() for x in learned(model)])
    for by_label, by_likelihood in zip(*found, strict=True):
        torch.testing.assert_close(by_label, by_likelihood, rtol=1e-6, atol=1e-8)


def test_likelihoods_of_features_are_left_to_the_general_way() -> None:
    model, soft = model_of("classes"), pgnn.likelihood(RNG.dirichlet([1.0, 1.0], SIZE))
    for rows in (ROWS, {**ROWS, "d": soft}):
        steps = [ClassEStep(model), NetworkEStep(model)]
        observed = steps[0].read(rows, WEIGHTS, None)
        fast, slow = (s.expect(observed) for s in steps)
        assert fast.log_likelihood == pytest.approx(slow.log_likelihood, abs=1e-9)
        for name, sums in slow.sums.items():
            for x, y in zip(fast.sums[name], sums, strict=True):
                torch.testing.assert_close(x, y, check_dtype=False)
        assert steps[0].completed(observed).codes.tolist() == slow_completion(steps[1], observed)


def slow_completion(step: NetworkEStep, observed: Any) -> list[list[int]]:
    """The states of the class and of d that are most probable together with their likelihoods."""
    best = step.model.most_probable(observed, ["k", "d"])
    order = [list(step.model.elements.first).index(n) for n in ("k", "d")]
    return best.codes[:, np.argsort(order)].tolist()


def test_hard_steps_heed_likelihoods() -> None:
    for kind in ("mixture", "network", "models"):
        learner = pgnn.EM(hard=True, accelerate=False, initialize=False)
        model = model_of(kind).fit(ROWS, learner=learner, progress=False)
        trace = model.history["trace"]["log_likelihood"]
        assert (np.diff(trace) > -1e-9).all()
        best = model.most_probable(ROWS, ["k"]).log_prob
        assert trace[-1] == pytest.approx(float(best.sum()), abs=1e-8)


def test_default_learners_take_likelihoods() -> None:
    x = [0.0, 0.1, 5.0, 5.1] * 5
    soft = pgnn.likelihood([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [np.nan, np.nan]] * 5)
    for model in (pgnn.NaiveBayes(2, {"x": pgnn.Gaussian}), mixture_of_normals()):
        name = model.class_name
        model.fit({name: soft, "x": x}, seed=0, progress=False)
        found = model.query(name, {"x": [0.0, 5.0]})[name].probs
        torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())


@pytest.mark.parametrize("kind", ["mixture", "network", "models"])
@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")  # after one step
def test_a_batch_is_a_step(kind: str) -> None:
    batch = model_of(kind).partial_fit(ROWS, weights=WEIGHTS, learner=pgnn.EM())
    learner = pgnn.EM(accelerate=False, initialize=False, max_iterations=1)
    whole = model_of(kind).fit(ROWS, weights=WEIGHTS, learner=learner, progress=False)
    for one, other in zip(learned(batch), learned(whole), strict=True):
        torch.testing.assert_close(one, other)


def test_states_are_the_labels_of_likelihoods() -> None:
    weights = {"ham": [0.9, 0.8, 0.1, 0.1], "spam": [0.1, 0.1, 0.7, 0.5]}
    x, found = [0.0, 0.2, 5.0, 5.2], []
    for named in (weights, pd.DataFrame(weights)):
        model = pgnn.NaiveBayes(None, {"x": pgnn.Gaussian})
        model.fit({"class": pgnn.likelihood(named), "x": x}, seed=0, progress=False)
        found.append(model.most_probable({"x": 5.0}, ["class"])["class"])
    assert found == ["spam", "spam"]
    table = np.stack([*weights.values()], axis=1)
    with pytest.raises(DataError, match="do not tell its states"):
        pgnn.NaiveBayes(None, {"x": pgnn.Gaussian}).fit({"class": pgnn.likelihood(table), "x": x})


def mixture_of_normals() -> pgnn.ModelMixture:
    parts = [pgnn.BayesianNetwork([], {"x": pgnn.Gaussian(pgnn.Variable("x"))}) for _ in range(2)]
    return pgnn.ModelMixture(parts)


def test_likelihoods_that_are_the_same_in_all_rows_tell_nothing_apart() -> None:
    x = [0.0, 0.1, 5.0, 5.1] * 5
    model = mixture_of_normals()
    model.fit({"component": pgnn.likelihood([0.4, 0.6]), "x": x}, seed=0, progress=False)
    means = sorted(c.conditionals["x"].mean.item() for c in model.components)
    assert means == pytest.approx([0.05, 5.05], abs=1e-3)


def test_queries_take_likelihoods_of_the_component() -> None:
    model = model_of("models").requires_grad_(False)
    for name in ("k", "d"):
        found, exact = (model.query(name, ROWS, engine=e) for e in (None, pgnn.JunctionTree()))
        torch.testing.assert_close(found[name].probs, exact[name].probs)
        torch.testing.assert_close(found.log_evidence, exact.log_evidence)
    drawn = model.sample(20000, {"k": pgnn.likelihood([1.0, 0.25]), "x": 1.0}, seed=0)["k"]
    expected = model.query("k", {"k": pgnn.likelihood([1.0, 0.25]), "x": 1.0})["k"].probs[1]
    assert float(drawn.double().mean()) == pytest.approx(float(expected), abs=0.015)


def test_where_likelihoods_are_no_data() -> None:
    with pytest.raises(DataError, match=r"not likelihoods \(floats\). EM\(\) learns"):
        model_of("mixture").fit(ROWS, learner=pgnn.SelfTraining(), progress=False)
    field = pgnn.MarkovRandomField([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(DataError, match="not likelihoods"):
        field.fit({"a": pgnn.likelihood([[0.2, 0.8]]), "b": [1]}, learner=pgnn.EM())
    trees = pgnn.ModelMixture([pgnn.ChowLiuTree({"a": 2, "b": 2}) for _ in range(2)])
    rows = {"a": pgnn.likelihood([[0.2, 0.8], [0.5, 0.1]]), "b": [1, 0]}
    with pytest.raises(Unsupported, match="other than the component"):
        trees.fit(rows, progress=False)
    trees.fit({"component": rows["a"], "a": [0, 1], "b": [1, 0]}, seed=0, progress=False)
    tensor = torch.tensor([0.2, 0.8], requires_grad=True)
    with pytest.raises(Unsupported, match="not differentiated"):
        mixture_of_normals().log_prob({"component": tensor, "x": 0.0})
