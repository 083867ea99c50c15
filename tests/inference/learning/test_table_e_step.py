"""Expectation maximisation of directed networks with hidden variables and holes."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, BayesianNetwork, Gaussian, Laplace, Variable
from pgnn.errors import DataError, ModelError, NotConverged, Unsupported
from pgnn.factors import Bernoulli, Poisson, Tabular
from pgnn.factors.conditionals.renamed import Renamed
from pgnn.inference.learning.table_e_step import NetworkEStep
from tests import oracle

K, S = 2, 3
BEST_OF_COINS = -5113.0345  # of 30 starts of EM in NumPy, 3,000 steps each


def network(seed: int) -> BayesianNetwork:
    """A hidden state with a child of each kind: a table, a normal, a coin and a count."""
    rng = np.random.default_rng(seed)
    h, a = Variable("h", K), Variable("a", S)
    model = BayesianNetwork(
        [("h", "a"), ("h", "x"), ("h", "b"), ("a", "b"), ("h", "n")],
        {
            "h": Tabular(h, [], rng.dirichlet(np.ones(K))),
            "a": Tabular(a, [h], rng.dirichlet(np.ones(S), K)),
            "x": Gaussian(Variable("x"), [h], rng.normal(size=K), rng.gamma(3.0, size=K)),
            "b": Bernoulli(Variable("b"), [h, a], rng.random((K, S))),
            "n": Poisson(Variable("n"), [h], rng.gamma(3.0, size=K)),
        },
    )
    return model.requires_grad_()


def rows(seed: int, n: int = 40) -> dict[str, np.ndarray]:
    """Draws of the observed variables, with holes in the table's and the normal's."""
    rng = np.random.default_rng(100 + seed)
    h = rng.integers(K, size=n)
    a = rng.integers(S, size=n).astype(object)
    x = rng.normal(3.0 * h, 1.0)
    a[rng.random(n) < 0.2], x[rng.random(n) < 0.2] = None, np.nan
    return {"a": a, "x": x, "b": (rng.random(n) < 0.3).astype(float), "n": rng.poisson(1.0 + 4 * h)}


def numbers(model: BayesianNetwork) -> dict[str, np.ndarray]:
    c = model.conditionals
    found = {"h": c["h"].probs, "a": c["a"].probs, "mean": c["x"].mean, "b": c["b"].probs}
    found |= {"variance": c["x"].covariance, "rate": c["n"].rate}
    return {n: x.detach().numpy().reshape(-1) for n, x in found.items()}


def enumerated(model: BayesianNetwork, data: dict[str, np.ndarray]) -> tuple[float, dict]:
    """Log-likelihood and the best numbers for expected counts, every completion written down."""
    p = {n: x.reshape(shape) for (n, x), shape in zip(
        numbers(model).items(), [(K,), (K, S), (K,), (K, S), (K,), (K,)], strict=True)}  # fmt: skip
    total, weights, completed = 0.0, [], []
    for r in range(len(data["b"])):
        a, x, b, n = (data[name][r] for name in ("a", "x", "b", "n"))
        own = []
        for h, s in itertools.product(range(K), range(S)):
            if a is not None and s != a:
                continue
            w = p["h"][h] * p["a"][h, s] * (p["b"][h, s] if b else 1.0 - p["b"][h, s])
            w *= math.exp(-p["rate"][h]) * p["rate"][h] ** n / math.factorial(int(n))
            if not math.isnan(x):
                spread = p["variance"][h]
                w *= math.exp(-0.5 * (x - p["mean"][h]) ** 2 / spread)
                w /= math.sqrt(2 * math.pi * spread)
            own.append((w, h, s, x, b, n))
        z = sum(w for w, *_ in own)
        total += math.log(z)
        weights += [w / z for w, *_ in own]
        completed += [rest for _, *rest in own]
    w = np.array(weights)
    h, s, x, b, n = (np.array(c, dtype=float) for c in zip(*completed, strict=True))
    own = {"h": np.array([w[h == k].sum() for k in range(K)]) / w.sum()}
    cells = np.array([[w[(h == k) & (s == j)].sum() for j in range(S)] for k in range(K)])
    heads = np.array([[(w * b)[(h == k) & (s == j)].sum() for j in range(S)] for k in range(K)])
    observed = [(h == k) & ~np.isnan(x) for k in range(K)]
    mean = np.array([(w * x)[i].sum() / w[i].sum() for i in observed])
    spread = [(w * (x - m) ** 2)[i].sum() / w[i].sum() for i, m in zip(observed, mean, strict=True)]
    rate = np.array([(w * n)[h == k].sum() / w[h == k].sum() for k in range(K)])
    own |= {"a": cells / cells.sum(1, keepdims=True), "mean": mean, "b": heads / cells}
    own |= {"variance": np.array(spread), "rate": rate}
    return total, own


@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_that_of_enumeration(seed: int) -> None:
    model, data = network(seed), rows(seed)
    before, expected = enumerated(model, data)
    with pytest.warns(NotConverged, match="1 iterations"):
        model.fit(data, learner=EM(max_iterations=1), progress=False)
    for name, value in numbers(model).items():
        np.testing.assert_allclose(value, expected[name].reshape(-1), atol=1e-9, err_msg=name)
    assert model.history["trace"]["log_likelihood"] == pytest.approx([before], abs=1e-9)
    after, _ = enumerated(model, data)
    assert model.history["log_likelihood"] == pytest.approx(after, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_never_falls(seed: int) -> None:
    model = network(seed)
    model.fit(rows(seed, 60), learner=EM(tolerance=1e-9, max_iterations=2000), progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert model.history["converged"]
    assert (np.diff(trace) > -1e-9).all()


def test_weights_repeat_rows() -> None:
    data = rows(0, 6)
    weights = np.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0])
    one, two = network(1), network(1)
    learner = EM(max_iterations=2)
    with pytest.warns(NotConverged):
        one.fit(data, learner=learner, weights=weights, progress=False)
    times = weights.astype(int)
    with pytest.warns(NotConverged):
        two.fit({n: x.repeat(times) for n, x in data.items()}, learner=learner, progress=False)
    for name, value in numbers(one).items():
        np.testing.assert_allclose(value, numbers(two)[name], atol=1e-12)


def votes(n: int = 600, children: int = 5) -> tuple[dict[str, np.ndarray], float]:
    """Noisy copies of a hidden bit, and their log-likelihood under what drew them."""
    rng = np.random.default_rng(0)
    h = rng.random(n) < 0.4
    data = {f"c{k}": (h ^ (rng.random(n) < 0.15)).astype(int) for k in range(children)}
    table = np.stack([*data.values()], axis=1)
    sides = [
        p * np.where(table == side, 0.85, 0.15).prod(axis=1) for side, p in ((1, 0.4), (0, 0.6))
    ]
    return data, float(np.log(sum(sides)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_a_hidden_cause_is_learnt_from_tables_that_say_nothing(seed: int) -> None:
    """Uniform tables are a saddle: clusters of the rows are where learning begins."""
    data, truth = votes()
    model = BayesianNetwork([("h", c) for c in data], states={"h": 2} | dict.fromkeys(data, 2))
    model.fit(data, learner=EM(), seed=seed, progress=False)
    assert model.history["converged"]
    assert truth < model.history["log_likelihood"] < truth + 15


@pytest.mark.parametrize("seed", range(4))
def test_classes_that_clusters_of_one_column_would_hide(seed: int) -> None:
    """Clusters of few coins are those of one of them, and a table that is certain stays so."""
    rng = np.random.default_rng(1)
    share, heads = rng.dirichlet([5.0, 5.0]), rng.dirichlet([0.7, 0.7], size=(2, 4))[..., 1]
    rows = rng.random((2000, 4)) < heads[rng.choice(2, size=2000, p=share)]
    data = {f"c{k}": rows[:, k].astype(int) for k in range(4)}
    model = BayesianNetwork([("h", c) for c in data], states={"h": 2} | dict.fromkeys(data, 2))
    model.fit(data, learner=EM(), seed=seed, progress=False)
    assert model.history["log_likelihood"] == pytest.approx(BEST_OF_COINS, abs=0.05)


def test_tables_at_several_places_are_one() -> None:
    """What is expected at all places is counted together."""
    rng = np.random.default_rng(0)
    moves = Tabular(Variable("b", S), [Variable("a", S)])
    places = {"b": moves}
    for old, new in itertools.pairwise("bcd"):
        places[new] = Renamed(moves, {"a": old, "b": new})
    edges = list(itertools.pairwise("abcd"))
    model = BayesianNetwork(edges, places, states=dict.fromkeys("abcd", S))
    moves.set_probs(rng.dirichlet(np.ones(S), S))
    given = moves.probs.detach().clone()
    data = {n: rng.integers(-1, S, size=50) for n in "abcd"}
    start = model.conditionals["a"].probs.detach().numpy()
    counts = np.full((S, S), 0.7)
    for row in np.stack([*data.values()], axis=1):
        joint = oracle.joint(
            dict.fromkeys("abcd", S),
            [(("a",), start), *((pair, given.numpy()) for pair in edges)],
            {n: int(k) for n, k in zip("abcd", row, strict=True) if k >= 0},
        )
        counts += sum(oracle.expected_counts(joint, edges))
    learner = EM(Laplace({"b": 0.7}), max_iterations=1)
    with pytest.warns(NotConverged):
        model.fit(pgnn.codes(data), learner=learner, progress=False)
    right = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(moves.probs.detach().numpy(), right, atol=1e-9)


def test_networks_at_several_places_take_steps_together() -> None:
    rng = np.random.default_rng(0)
    data = {n: rng.integers(-1, S, size=60) for n in "abc"}
    found = []
    for learner in (EM(), pgnn.Gradient()):
        shared = torch.nn.Linear(S, S).double()
        torch.nn.init.zeros_(shared.weight)
        torch.nn.init.zeros_(shared.bias)
        a, b, c = (Variable(n, S) for n in "abc")
        model = BayesianNetwork(
            [("a", "b"), ("b", "c")],
            {"b": pgnn.Neural(b, [a], shared), "c": pgnn.Neural(c, [b], shared)},
            states={"a": S},
        )
        model.fit(pgnn.codes(data), learner=learner, progress=False)
        found.append(model.history["log_likelihood"])
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_some_shared_parameters_are_refused() -> None:
    h, x, y = Variable("h", 2), Variable("x"), Variable("y")
    one, two = Gaussian(x, [h]), Gaussian(y, [h])
    two.mean = one.mean
    model = BayesianNetwork([("h", "x"), ("h", "y")], {"x": one, "y": two})
    with pytest.raises(Unsupported, match=r"'x' and 'y' share only some parameters.*Gradient"):
        model.fit({"x": [0.0, 1.0], "y": [1.0, 2.0]}, learner=EM(), progress=False)


def test_extrapolation_never_falls_and_gets_further() -> None:
    data, reached = votes(300)[0], []
    for accelerate in (False, True):
        model = BayesianNetwork([("h", c) for c in data], states={"h": 3} | dict.fromkeys(data, 2))
        learner = EM(accelerate=accelerate, max_iterations=60, tolerance=0.0)
        with pytest.warns(NotConverged):
            model.fit(data, learner=learner, seed=0, progress=False)
        assert (np.diff(model.history["trace"]["log_likelihood"]) > -1e-9).all()
        reached.append(model.history["log_likelihood"])
    assert reached[1] > reached[0] + 0.01


def test_starts_differ_by_seed_and_the_best_goes_on() -> None:
    data, _ = votes(200)
    states = {"h": 3} | dict.fromkeys(data, 2)
    found = []
    for seed in (0, 0, 1):
        model = BayesianNetwork([("h", c) for c in data], states=states)
        model.fit(data, learner=EM(restarts=3, max_iterations=400), seed=seed, progress=False)
        found.append(model.conditionals["h"].probs.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-9)


def test_a_hidden_variable_with_hidden_children() -> None:
    data, truth = votes(400, 4)
    edges = [("top", "left"), ("top", "right"), ("left", "c0"), ("left", "c1")]
    edges += [("right", "c2"), ("right", "c3")]
    states = dict.fromkeys(["top", "left", "right", *data], 2)
    model = BayesianNetwork(edges, states=states)
    model.fit(data, learner=EM(tolerance=1e-6), seed=0, progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) > -1e-9).all()
    assert model.history["log_likelihood"] > truth - 5


def test_complete_rows_are_counted() -> None:
    model = BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    data = {"a": [0, 0, 0, 1], "b": [0, 1, 1, 1]}
    model.fit(data, learner=EM(), progress=False)
    np.testing.assert_allclose(model.conditionals["a"].probs.detach(), [0.75, 0.25], atol=1e-12)
    got = model.conditionals["b"].probs.detach()
    np.testing.assert_allclose(got, [[1 / 3, 2 / 3], [0, 1]], atol=1e-12)


def test_constants_stay_and_priors_are_by_name() -> None:
    model = BayesianNetwork([("a", "b")], {"a": [0.9, 0.1]}, states={"a": 2, "b": 2})
    data = {"a": [0, None, 1, 1], "b": [0, 1, None, 1]}
    model.fit(data, learner=EM(prior={"b": pgnn.Laplace()}), progress=False)
    np.testing.assert_allclose(model.conditionals["a"].probs.detach(), [0.9, 0.1], atol=1e-12)
    with pytest.raises(ModelError, match=r"'c'.*'b'"):
        model.fit(data, learner=EM(prior={"c": pgnn.Laplace()}))


def test_conditionals_without_a_closed_form_take_gradient_steps() -> None:
    data, _ = votes(300, 3)
    names = [*data]
    model = BayesianNetwork(
        [("h", c) for c in data],
        dict.fromkeys(names, pgnn.NoisyOr),
        states={"h": 2} | dict.fromkeys(names, 2),
    )
    model.fit(data, learner=EM(max_iterations=60, tolerance=1e-6), seed=1, progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) > -1e-6).all()
    assert trace[-1] > trace[0]


def test_streaming_comes_near() -> None:
    data, truth = votes()
    model = BayesianNetwork([("h", c) for c in data], states={"h": 2} | dict.fromkeys(data, 2))
    model.fit(data, learner=EM(batch_size=50, tolerance=1e-5), seed=0, progress=False)
    assert model.history["log_likelihood"] > truth - 5


def test_impossible_rows_and_models_without_expectations_are_refused() -> None:
    model = BayesianNetwork(
        [("h", "a")], {"h": [0.5, 0.5], "a": [[1.0, 0.0], [1.0, 0.0]]}
    ).requires_grad_()
    with pytest.raises(DataError, match="1 of 2 rows have probability zero"):
        model.fit({"a": [0, 1]}, learner=EM(), progress=False)
    with pytest.raises(Unsupported, match="has no E-step"):
        EM().fit(torch.nn.Linear(1, 1), {"a": [0]})


def test_the_model_stays_as_it_was_where_a_fit_fails() -> None:
    model = network(0)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    data = rows(0) | {"n": np.full(40, 2.5)}
    with pytest.raises((DataError, pgnn.errors.EvidenceError)):
        model.fit(data, learner=EM(), progress=False)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())


def test_expected_counts_are_those_of_the_posterior() -> None:
    model = BayesianNetwork(
        [("h", "a")], {"h": [0.3, 0.7], "a": [[0.9, 0.1], [0.4, 0.6]]}
    ).requires_grad_()
    step = NetworkEStep(model)
    expected = step.expect(step.read({"a": [0, 0, 1]}, None, None))
    joint = np.array([[0.27, 0.03], [0.28, 0.42]])
    counts = joint / joint.sum(0) * np.array([2.0, 1.0])
    np.testing.assert_allclose(expected.sums["a"][0], counts, atol=1e-12)
    np.testing.assert_allclose(expected.sums["h"][0], counts.sum(1), atol=1e-12)


def holes(n: int = 200) -> tuple[list[tuple[str, str]], dict[str, np.ndarray]]:
    """A loop of coins, and rows of them with holes."""
    rng = np.random.default_rng(0)
    a = rng.random(n) < 0.4
    b, c = a ^ (rng.random(n) < 0.2), a ^ (rng.random(n) < 0.3)
    d = (b & c) ^ (rng.random(n) < 0.1)
    gone = rng.random((4, n)) < 0.2
    columns = (np.where(g, -1, x) for g, x in zip(gone, (a, b, c, d), strict=True))
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    return edges, dict(zip("abcd", columns, strict=True))


def fitted(learner: EM) -> BayesianNetwork:
    edges, data = holes()
    model = BayesianNetwork(edges, states=dict.fromkeys("abcd", 2))
    return model.fit(pgnn.codes(data), learner=learner, seed=0, progress=False)


def test_engines_that_approximate_or_draw_come_near() -> None:
    exact = fitted(EM())
    data = pgnn.codes(holes()[1])
    best = exact.history["log_likelihood"]
    assert best == pytest.approx(float(exact.log_prob(data).sum()), abs=1e-8)
    loopy = fitted(EM(engine=pgnn.BeliefPropagation()))
    assert float(loopy.log_prob(data).sum()) == pytest.approx(best, abs=1.0)
    with pytest.warns(NotConverged):
        drawn = fitted(EM(engine=pgnn.Gibbs(), num_samples=2000, max_iterations=8))
    assert float(drawn.log_prob(data).sum()) == pytest.approx(best, abs=1.0)
    assert "log_likelihood" not in drawn.history
    assert "Gibbs" in drawn.history["engine"]


def test_hard_steps_raise_the_probability_of_completed_rows() -> None:
    model = fitted(EM(hard=True, accelerate=False))
    assert model.history["converged"]
    trace = model.history["trace"]["log_likelihood"]
    assert (np.diff(trace) > -1e-9).all()
    best = model.most_probable(pgnn.codes(holes()[1]))
    assert trace[-1] == pytest.approx(float(best.log_prob.sum()), abs=1e-8)
    assert model.history["log_likelihood"] > trace[-1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["holes", "one value", "never observed", "few rows"])
def test_random_networks_with_random_holes_never_fall(kind: str, seed: int) -> None:
    """Nor do columns of one value, or without any, stop them."""
    rng = np.random.default_rng(seed)
    drawn = oracle.random_network(rng, "loop", num_variables=5, max_states=3)
    size = 2 if kind == "few rows" else 50
    data = {n: rng.integers(0, k, size=size) for n, k in drawn.cards.items()}
    data = {n: np.where(rng.random(size) < 0.3, -1, x) for n, x in data.items()}
    first = next(iter(data))
    data[first] = {"one value": 0 * data[first], "never observed": 0 * data[first] - 1}.get(
        kind, data[first]
    )
    model = BayesianNetwork(drawn.edges, states=drawn.cards)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        learner = EM(max_iterations=20, tolerance=0.0)
        model.fit(pgnn.codes(data), learner=learner, seed=seed, progress=False)
    assert (np.diff(model.history["trace"]["log_likelihood"]) > -1e-9).all()
    tables = [((*(v.name for v in c.parents), n), c.probs.detach().numpy())
              for n, c in model.conditionals.items()]  # fmt: skip
    value = 0.0
    for row in zip(*data.values(), strict=True):
        known = {n: int(k) for n, k in zip(data, row, strict=True) if k >= 0}
        value += oracle.log_evidence(oracle.joint(drawn.cards, tables, known))
    assert model.history["log_likelihood"] == pytest.approx(value, abs=1e-8)
