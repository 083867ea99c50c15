"""Real variables integrated out exactly: against dense normal distributions, and closed forms."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from torch.distributions import MixtureSameFamily, MultivariateNormal, Normal

import pgnn
from pgnn import Gaussian, LinearGaussian, Tabular, Variable
from pgnn.errors import EvidenceError, ImpossibleEvidence, Intractable, Unsupported
from tests import gaussian_oracle as oracle


def regression() -> pgnn.BayesianNetwork:
    x, y = Variable("x"), Variable("y")
    return pgnn.BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(x, mean=0.0, covariance=1.0),
            "y": LinearGaussian(y, [x], [2.0], 1.0, covariance=0.5),
        },
    )


def switch(dtype: torch.dtype = torch.float64) -> pgnn.BayesianNetwork:
    """A kind, a hidden number that depends on it, a measurement, and an impossible pair."""
    kind, x, y = Variable("kind", ["low", "high"]), Variable("x"), Variable("y")
    return pgnn.BayesianNetwork(
        [("kind", "x"), ("x", "y"), ("kind", "y"), ("kind", "sign")],
        {
            "kind": [0.25, 0.75],
            "x": Gaussian(x, [kind], [-2.0, 1.0], [0.5, 2.0]),
            "y": LinearGaussian(y, [x, kind], [[1.0], [-1.0]], [0.0, 3.0], [1.0, 0.25]),
            "sign": [[1.0, 0.0], [0.5, 0.5]],
        },
    ).to(dtype)


def test_a_textbook_regression() -> None:
    model = regression()
    found = model.query("x", {"y": 3.0})
    assert (found.kind, found.engine) == ("exact", "JunctionTree")
    assert isinstance(found["x"], Normal)
    assert float(found["x"].mean) == pytest.approx(8 / 9, abs=1e-12)
    assert float(found["x"].std) == pytest.approx(1 / 3, abs=1e-12)
    assert float(found.log_evidence) == pytest.approx(-2.115422, abs=1e-6)
    assert float(model.log_prob({"y": 3.0})) == float(found.log_evidence)
    assert found["x"].quantile([0.5, 0.975]).tolist() == pytest.approx(
        [8 / 9, 8 / 9 + 1.959964 / 3], abs=1e-6
    )
    assert [*found] == ["x"]
    assert list(found.frame().columns) == ["mean", "std", "5%", "50%", "95%"]
    both = model.query()  # nothing observed: all that has an answer
    assert [*both] == ["x", "y"]
    assert float(both["y"].variance) == pytest.approx(4.5)
    assert float(both.log_evidence) == 0.0
    assert model.explain("x", {"y": 3.0}).kind == "exact"


@pytest.mark.parametrize("seed", range(16))
def test_random_networks(seed: int) -> None:
    """Any pattern of holes, of states and of numbers of vectors; a batch at once."""
    rng = np.random.default_rng(seed)
    net = oracle.random_network(rng, int(rng.integers(0, 4)), int(rng.integers(1, 6)))
    rows = oracle.random_rows(rng, net, 4, float(rng.choice([0.2, 0.5, 0.8])))
    model, evidence = net.model(), oracle.batch(net, rows)
    logs = model.log_prob(evidence)
    hidden = [n for n in net.sizes if any(np.isnan(row[n]).any() for row in rows)]
    posterior = model.query([*net.cards, *hidden], evidence)
    np.testing.assert_allclose(posterior.log_evidence, logs)
    for r, row in enumerate(rows):
        answer = net.answer(row)
        assert float(logs[r]) == pytest.approx(answer.log_evidence, rel=1e-9, abs=1e-9)
        for n, card in net.cards.items():
            np.testing.assert_allclose(posterior[n].probs[r], answer.probs(n, card), atol=1e-9)
        for n in hidden:
            mean, covariance = answer.moments([n])
            np.testing.assert_allclose(posterior[n].mean[r].reshape(-1), mean, atol=1e-8)
            own = posterior[n].variance[r].reshape(-1)
            np.testing.assert_allclose(own, np.diag(covariance), rtol=1e-7, atol=1e-9)
        if len(hidden) > 1:
            mean, covariance = answer.moments(hidden[-3:])
            joint = posterior.joint(*hidden[-3:])
            np.testing.assert_allclose(joint.mean[r], mean, atol=1e-8)
            own = joint.variance[r]
            np.testing.assert_allclose(own, np.diag(covariance), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_without_targets_all_that_was_not_observed_is_told(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    net = oracle.random_network(rng, 2, 4)
    rows = oracle.random_rows(rng, net, 3, 0.4)
    hidden = {n for n in net.sizes if any(np.isnan(row[n]).any() for row in rows)}
    posterior = net.model().query(None, oracle.batch(net, rows))
    assert hidden
    assert {*posterior} == {*net.cards, *hidden}
    for r, row in enumerate(rows):
        answer = net.answer(row)
        for n in hidden:
            mean, covariance = answer.moments([n])
            np.testing.assert_allclose(posterior[n].mean[r].reshape(-1), mean, atol=1e-8)
            own = posterior[n].variance[r].reshape(-1)
            np.testing.assert_allclose(own, np.diag(covariance), rtol=1e-7, atol=1e-9)
    frame = posterior.frame()
    assert len(frame) == 3
    assert (next(iter(net.cards)), 0) in frame.columns
    assert set(posterior.summary().columns) == {"mean", "std", "5%", "50%", "95%"}


def test_joint_covariances() -> None:
    rng = np.random.default_rng(3)
    net = oracle.random_network(rng, 0, 6)
    row = oracle.random_rows(rng, net, 1, 0.3)[0]
    hidden = [n for n in net.sizes if np.isnan(row[n]).all()]
    model = net.model()
    observed = {n: x if net.sizes[n] else x[0] for n, x in row.items() if n not in hidden}
    assert len(hidden) > 2
    joint = model.query(hidden, observed).joint(*hidden)
    mean, covariance = net.answer(row).moments(hidden)
    assert isinstance(joint, MultivariateNormal)
    np.testing.assert_allclose(joint.mean, mean, atol=1e-9)
    np.testing.assert_allclose(joint.covariance_matrix, covariance, atol=1e-9)


def test_mixtures_are_exact() -> None:
    """Not their moments alone: the density is that of Bayes' rule."""
    model = switch()
    found = model.query(["x", "kind"], {"y": 1.5})
    assert isinstance(found["x"], MixtureSameFamily)
    grid = torch.linspace(-4.0, 5.0, 7, dtype=torch.float64)
    expected = model.log_prob({"x": grid, "y": torch.full_like(grid, 1.5)}) - found.log_evidence
    np.testing.assert_allclose(found["x"].log_prob(grid), expected, atol=1e-12)
    q = found["x"].quantile([0.1, 0.5, 0.9])
    np.testing.assert_allclose(found["x"].cdf(q), [0.1, 0.5, 0.9], atol=1e-9)
    assert isinstance(model.query("x", {"y": 1.5, "kind": "high"})["x"], Normal)
    assert isinstance(found.joint("x"), MixtureSameFamily)
    assert found.joint("kind").values.sum() == pytest.approx(1.0)


def test_gradients() -> None:
    """Of the log evidence by every parameter, at zero coefficients too, and of a mean."""
    rng = np.random.default_rng(8)
    net = oracle.random_network(rng, 2, 5)
    for weight, _, _ in net.regressions.values():
        weight[rng.random(weight.shape) < 0.4] = 0.0
    model = net.model().requires_grad_()
    evidence = oracle.batch(net, oracle.random_rows(rng, net, 3, 0.6))
    hidden = [n for n in net.sizes if any(np.isnan(evidence[n]).ravel())]

    def value(targets: bool) -> torch.Tensor:
        if not targets:
            return model.log_prob(evidence).sum()
        found = model.query(hidden, evidence)
        return sum(found[n].mean.sum() + found[n].variance.sum() for n in hidden)

    for targets in (False, True):
        model.zero_grad()
        value(targets).backward()
        for p in model.parameters():
            if p.grad is None or not p.numel():
                continue
            flat, gradient = p.data.view(-1), p.grad.view(-1)
            for k in {0, flat.numel() // 2, flat.numel() - 1}:
                before, h = float(flat[k]), 1e-5
                with torch.no_grad():
                    p.view(-1)[k] = before + h
                    up = float(value(targets))
                    p.view(-1)[k] = before - h
                    down = float(value(targets))
                    p.view(-1)[k] = before
                assert float(gradient[k]) == pytest.approx(
                    (up - down) / (2 * h), rel=1e-4, abs=1e-6
                )


def test_draws_given_evidence() -> None:
    """Means and variances of draws lie within five standard errors of the exact ones."""
    model, n = switch(), 20_000
    observed = {"y": [1.5, None], "kind": [None, "low"]}
    drawn = model.sample(n, observed, seed=0)
    again = model.sample(n, observed, seed=0)
    assert torch.equal(drawn["x"], again["x"])
    exact = model.query(["x"], observed)["x"]
    error = 5 * exact.std / math.sqrt(n)
    assert bool((drawn["x"].mean(0) - exact.mean).abs().le(error).all())
    assert bool((drawn["x"].var(0) / exact.variance - 1).abs().le(5 * math.sqrt(3 / n)).all())
    assert bool((drawn["y"][:, 0] == 1.5).all())


def test_a_vector_that_was_observed_in_part_is_drawn() -> None:
    v = Variable("v", shape=(2,))
    model = pgnn.BayesianNetwork([], [Gaussian(v, [], [0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])])
    drawn = model.sample(5000, {"v": [math.nan, 2.0]}, seed=0)["v"]
    assert bool((drawn[:, 1] == 2.0).all())
    assert float(drawn[:, 0].mean()) == pytest.approx(1.6, abs=5 * 0.6 / math.sqrt(5000))


def test_noise_that_is_nearly_none() -> None:
    """A copy that is exact but for the last digits: the sum has the variance of its parts."""
    names = ["a", "b", "copy", "y"]
    a, b, copy, y = (Variable(n) for n in names)
    model = pgnn.BayesianNetwork(
        [("a", "copy"), ("b", "copy"), ("copy", "y")],
        [
            Gaussian(a, [], 1.0, 4.0),
            Gaussian(b, [], 2.0, 9.0),
            LinearGaussian(copy, [a, b], [1.0, 1.0], 0.0, 1e-24),
            LinearGaussian(y, [copy], [1.0], 0.0, 3.0),
        ],
    )
    found = model.query(["a", "b", "copy"], {"y": 11.0})
    gain = 8.0 / 16.0  # (y - 3) / (4 + 9 + 3)
    assert float(found["a"].mean) == pytest.approx(1.0 + 4.0 * gain, abs=1e-12)
    assert float(found["copy"].mean) == pytest.approx(3.0 + 13.0 * gain, abs=1e-12)
    assert float(found["b"].variance) == pytest.approx(9.0 - 81.0 / 16.0, abs=1e-12)
    exact = -0.5 * (64.0 / 16.0 + math.log(2 * math.pi * 16.0))
    assert float(found.log_evidence) == pytest.approx(exact, abs=1e-12)


def test_long_chains() -> None:
    """A random walk of 1,500 steps with gaps, against the scalar Kalman filter."""
    steps = 1500
    x, y = ([Variable((s, t)) for t in range(steps)] for s in "xy")
    pieces = [Gaussian(x[0], [], 0.0, 1.0)]
    pieces += [LinearGaussian(v, [u], [0.9], 0.1, 0.5) for u, v in itertools.pairwise(x)]
    pieces += [LinearGaussian(w, [v], [1.0], 0.0, 2.0) for v, w in zip(x, y, strict=True)]
    edges = [(p.name, c.child.name) for c in pieces for p in c.parents]
    model = pgnn.BayesianNetwork(edges, pieces)
    values = np.random.default_rng(0).normal(size=steps)
    observed = {("y", t): values[t] for t in range(steps) if t % 3}
    mean, variance, total = 0.0, 1.0, 0.0
    for t in range(steps):
        if t:
            mean, variance = 0.9 * mean + 0.1, 0.81 * variance + 0.5
        if t % 3:
            s, error = variance + 2.0, values[t] - mean
            total -= 0.5 * (error**2 / s + math.log(2 * math.pi * s))
            mean, variance = mean + variance / s * error, variance * 2.0 / s
    found = model.query([("x", steps - 1), ("x", 0)], observed)
    assert float(found.log_evidence) == pytest.approx(total, rel=1e-12)
    assert float(found["x", steps - 1].mean) == pytest.approx(mean, rel=1e-10)
    assert float(found["x", steps - 1].variance) == pytest.approx(variance, rel=1e-10)


def test_single_precision_and_inference_mode() -> None:
    exact = switch().query(["x", "kind"], {"y": [1.5, -2.0]})
    model = switch(torch.float32)
    for mode in (False, True):
        with torch.inference_mode(mode):
            found = model.query(["x", "kind"], {"y": [1.5, -2.0]})
            assert found["x"].mean.dtype == found.log_evidence.dtype == torch.float32
            np.testing.assert_allclose(found["x"].mean, exact["x"].mean, rtol=1e-5)
            np.testing.assert_allclose(found["kind"].probs, exact["kind"].probs, rtol=1e-5)


def test_impossible_evidence() -> None:
    model = switch()
    with pytest.raises(ImpossibleEvidence, match="kind=low"):
        model.query("x", {"y": 0.0, "kind": "low", "sign": 1})
    observed = {"y": [0.0, 1.0], "kind": ["low", None], "sign": [1, 1]}
    found = model.query("x", observed, errors="nan")
    assert bool(found["x"].mean[0].isnan())
    alone = model.query("x", {"y": 1.0, "sign": 1})
    assert float(found["x"].mean[1]) == pytest.approx(float(alone["x"].mean))
    assert model.log_prob(observed)[0] == -math.inf
    assert model.log_prob({"y": 1e200}) == -math.inf


def test_soft_evidence_and_masks() -> None:
    model = switch()
    soft = model.query("x", {"y": 1.5, "kind": pgnn.likelihood([1.0, 0.0])})
    hard = model.query("x", {"y": 1.5, "kind": "low"})
    assert float(soft["x"].mean) == pytest.approx(float(hard["x"].mean))
    y = np.ma.array([1.5, 7.0], mask=[False, True])
    found = model.query("x", {"y": y})
    assert float(found["x"].mean[1]) == pytest.approx(float(model.query("x")["x"].mean))


def test_pickled_answers() -> None:
    found = switch().query(["x", "kind"], {"y": 1.5})
    again = pickle.loads(pickle.dumps(found))
    assert float(again["x"].mean) == float(found["x"].mean)
    assert float(again.joint("x").mean) == float(found["x"].mean)


def test_what_is_refused() -> None:
    model = switch()
    with pytest.raises(EvidenceError, match="'x' is real and observed"):
        model.query("x", {"x": 1.0})
    with pytest.raises(
        Unsupported,
        match="joint distribution needs names of discrete",
    ):
        model.query(["x", "kind"], {"y": 1.0}).joint("x", "kind")
    x = Variable("x")
    kinds = [Variable(f"k{i}", 2) for i in range(30)]
    wide = pgnn.BayesianNetwork(
        [(k.name, f"x{i}") for i, k in enumerate(kinds)] + [("x", f"x{i}") for i in range(30)],
        [Tabular(k, [], [0.5, 0.5]) for k in kinds]
        + [Gaussian(x, [], 0.0, 1.0)]
        + [
            LinearGaussian(Variable(f"x{i}"), [x, k], [[1.0], [1.0]], [0.0, 1.0], [1.0, 1.0])
            for i, k in enumerate(kinds)
        ],
    )
    observed = {f"x{i}": 0.1 * i for i in range(30)}
    with pytest.raises(Intractable, match=r"configurations of the 30 discrete ones.*'k0'"):
        wide.query("x", observed, engine=pgnn.JunctionTree())
    barren = wide.query()  # nobody named the reals: they are left out, and it is said
    assert {*barren} == {k.name for k in kinds}
    assert "configurations of the 30 discrete ones" in barren.diagnostics["reason"]
    known = {**observed, **{f"k{i}": i % 2 for i in range(28)}}
    found = wide.query(["x", "k29"], known)  # all but two are put in first
    assert found.kind == "exact"
    assert float(found["x"].mean) == pytest.approx(
        (sum(0.1 * i - i % 2 for i in range(28)) + 2.8 + 2.9
         - sum(float(wide.query(k, known)[k].probs[1]) for k in ("k28", "k29"))) / 31
    )  # fmt: skip


def test_no_rows() -> None:
    found = switch().query(["x", "kind"], {"y": torch.zeros(0)})
    assert found["x"].mean.shape == (0,)
    assert switch().sample(3, {"y": torch.zeros(0)})["x"].shape == (3, 0)
