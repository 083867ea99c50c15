"""Expectation maximisation with real variables that were not observed."""

import math
import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, Diagonal, Gaussian, LinearGaussian, Variable
from tests import gaussian_oracle as oracle


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_rises(seed: int) -> None:
    """Of random networks with random holes, to where its gradient is zero."""
    rng = np.random.default_rng(seed)
    net = oracle.random_network(rng, int(rng.integers(0, 3)), int(rng.integers(2, 5)))
    data = oracle.batch(net, oracle.random_rows(rng, net, 40, 0.7))
    model = net.model().requires_grad_()
    learner = EM(max_iterations=25, initialize=False, tolerance=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pgnn.NotConverged)
        model.fit(data, learner=learner, progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) > -1e-8).all()
    assert trace[-1] > trace[0] + 1.0
    assert float(model.log_prob(data).sum()) == pytest.approx(model.history["log_likelihood"])


def test_one_step_is_that_of_complete_statistics() -> None:
    """A hidden cause: the M-step takes the regression on its posterior mean and variance."""
    x, y = Variable("x"), Variable("y")
    model = pgnn.BayesianNetwork(
        [("x", "y")], {"x": Gaussian(x, [], 0.0, 1.0), "y": LinearGaussian(y, [x])}
    )
    with torch.no_grad():
        model.conditionals["y"].weight.fill_(0.5)
    data = np.random.default_rng(0).normal(size=50) * 2.0 + 3.0
    with pytest.warns(pgnn.NotConverged):
        model.fit({"y": data}, learner=EM(max_iterations=1, initialize=False), progress=False)
    gain = 0.5 / 1.25
    mean, second = gain * data, (gain * data) ** 2 + 0.8
    left = np.array([[second.sum(), mean.sum()], [mean.sum(), 50.0]])
    weight, bias = np.linalg.solve(left, [(data * mean).sum(), data.sum()])
    own = model.conditionals["y"]
    assert float(own.weight[0].detach()) == pytest.approx(weight, abs=1e-12)
    assert float(own.bias.detach()) == pytest.approx(bias, abs=1e-12)
    rest = (data**2).sum() - weight * (data * mean).sum() - bias * data.sum()
    assert float(own.covariance.detach()) == pytest.approx(rest / 50.0, abs=1e-12)


def test_factor_analysis() -> None:
    """A latent vector that begins without effect; as good as scikit-learn."""
    from sklearn.decomposition import FactorAnalysis

    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 4)) * np.array([0.5, 0.6, 0.7, 1.0])
    data = rng.normal(size=(200, 1)) * np.array([1.0, -2.0, 1.5, 0.5]) + noise + 1.0
    z, v = Variable("z", shape=(1,)), Variable("v", shape=(4,))
    model = pgnn.BayesianNetwork(
        [("z", "v")],
        {"z": Gaussian(z, [], [0.0], [[1.0]]), "v": LinearGaussian(v, [z], form=Diagonal())},
    )
    model.fit({"v": data}, learner=EM(tolerance=1e-8), progress=False, seed=0)
    best = FactorAnalysis(1, tol=1e-6, max_iter=20_000).fit(data).score(data) * 200
    assert model.history["log_likelihood"] == pytest.approx(best, abs=0.01)


def test_mixture_of_regressions_with_holes() -> None:
    """The kind and some numbers are missing; the likelihood ends near that of the truth."""
    rng = np.random.default_rng(1)
    kind, x, y = Variable("kind", 2), Variable("x"), Variable("y")

    def network(*given: object) -> pgnn.BayesianNetwork:
        p, mean, weight = given or (None, None, None)
        bias, spread = ([0.0, 1.0], [0.1, 0.2]) if given else (None, None)
        return pgnn.BayesianNetwork(
            [("kind", "x"), ("kind", "y"), ("x", "y")],
            {
                "kind": pgnn.Tabular(kind, (), p),
                "x": Gaussian(x, [kind], mean, [1.0, 1.0] if given else None),
                "y": LinearGaussian(y, [kind, x], weight, bias, spread),
            },
        )

    truth = network([0.3, 0.7], [-3.0, 3.0], [[1.0], [-1.0]])
    data = {n: v.clone() for n, v in truth.sample(400, seed=0).items() if n != "kind"}
    for n in ("x", "y"):
        data[n][torch.from_numpy(rng.random(400) < 0.2)] = math.nan
    learnt = network().fit(data, learner=EM(restarts=2), seed=0, progress=False)
    assert learnt.history["log_likelihood"] > float(truth.log_prob(data).sum())
