"""Complete rows with real variables: each conditional in closed form, or by its gradient."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pgnn
from pgnn import BayesianNetwork, DataError, MaximumLikelihood, Variable

RNG = np.random.default_rng(0)
K = RNG.integers(0, 2, 400)
X = RNG.normal(np.array([1e6, 1e6 + 5.0])[K], np.array([1.0, 2.0])[K])
N = RNG.poisson(np.array([3.0, 9.0])[K])
DATA = {"k": K, "x": X, "n": N.astype(float)}
S = Variable("k", 2)


def mixed() -> BayesianNetwork:
    pieces = {
        "x": pgnn.Gaussian(Variable("x"), [S]),
        "n": pgnn.Poisson(Variable("n"), [S]),
    }
    return BayesianNetwork([("k", "x"), ("k", "n")], pieces, states={"k": 2})


def test_estimates_are_the_means_and_variances_of_each_class():
    model = mixed().fit(DATA)
    x = model.conditionals["x"]
    for k in range(2):
        own = X[k == K]
        assert float(x.mean[k].detach()) == pytest.approx(own.mean(), rel=1e-12)
        assert float(x.covariance[k].detach()) == pytest.approx(own.var(), rel=1e-9)
        rate = model.conditionals["n"].distribution({"k": torch.tensor([k])}).mean
        assert float(rate.detach()) == pytest.approx(N[k == K].mean(), rel=1e-9)
    np.testing.assert_allclose(model.conditionals["k"].probs.detach(), np.bincount(K) / 400)
    total = float(model.log_prob(DATA).sum())
    assert model.history["log_likelihood"] == pytest.approx(total, rel=1e-9)


def test_they_are_those_of_em_and_do_not_depend_on_earlier_fits():
    model, other = mixed().fit(DATA), mixed()
    other.fit({n: x[:50] for n, x in DATA.items()}).fit(DATA)
    again = mixed().fit(DATA, learner=pgnn.EM(), progress=False)
    for name in ("x", "n", "k"):
        for own, theirs in zip(
            model.conditionals[name].parameters(),
            other.conditionals[name].parameters(),
            strict=True,
        ):
            torch.testing.assert_close(own, theirs, rtol=1e-9, atol=1e-9)
    assert again.history["log_likelihood"] == pytest.approx(model.history["log_likelihood"])


def test_weights_priors_and_unobserved_configurations():
    frame = pd.DataFrame(DATA)[K == 0].assign(w=2.0)
    model = mixed()
    model.fit(frame, learner=MaximumLikelihood(pgnn.Laplace()), weights="w")
    count = int((K == 0).sum()) * 2
    np.testing.assert_allclose(model.conditionals["k"].probs[1].detach(), 1 / (count + 2))
    assert model.history["unseen"] == {"x": 1, "n": 1}
    assert float(model.conditionals["x"].mean[1].detach()) == 0.0  # as it was
    assert model.history["weight"] == count


def test_regression_on_real_parents():
    y = 2.0 * X - 3.0 * K + RNG.normal(size=400)
    x = pgnn.Gaussian(Variable("x"), [S])
    line = pgnn.LinearGaussian(Variable("y"), [S, Variable("x")])
    model = BayesianNetwork(
        [("k", "x"), ("k", "y"), ("x", "y")], {"x": x, "y": line}, states={"k": 2}
    )
    model.fit({"k": K, "x": X - 1e6, "y": y - 2e6})
    for k in range(2):
        slope, _ = np.polyfit((X - 1e6)[k == K], (y - 2e6)[k == K], 1)
        assert float(line.weight[k, 0].detach()) == pytest.approx(slope, rel=1e-6)


def test_mixtures_inside_are_repeated_to_the_end():
    values = np.concatenate([RNG.normal(0, 1, 200), RNG.normal(8, 1, 200)])
    own = pgnn.GaussianMixture(Variable("x"), [], 2)
    model = BayesianNetwork([], {"x": own}).fit({"x": values})
    assert sorted(own.components.mean.detach().tolist()) == pytest.approx([0, 8], abs=0.3)
    assert model.history["log_likelihood"] / 400 > -2.2


def test_networks_take_gradients_and_inputs():
    u = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    x = 3.0 * u[:, 0] + 0.1 * torch.randn(300, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    neural = pgnn.Neural(Variable("x"), [], nn.Linear(1, 2), inputs=["u"], head=pgnn.NormalHead())
    model = BayesianNetwork([], {"x": neural}).fit({"x": x}, inputs={"u": u})
    mean = neural.distribution({}, {"u": torch.tensor([[1.0]])}).mean
    assert float(mean.detach()) == pytest.approx(3.0, abs=0.05)
    assert model.history["rows"] == 300


@pytest.mark.parametrize("hole", ["x", "k"])
def test_holes_and_missing_columns_are_for_em(hole):
    rows = {n: x.astype(float).copy() for n, x in DATA.items()}
    rows[hole][3] = np.nan
    model = mixed()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(DataError, match=rf"column '{hole}' in 1 of 400 rows \(first row 3\)"):
        model.fit(rows)
    del rows[hole]
    with pytest.raises(DataError, match=r"EM\(\)"):
        model.fit(rows)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())


def test_complete_sequences_repeat_mixtures_too():
    states = np.repeat([0, 1], 150)
    values = RNG.normal(np.where(RNG.random(300) < 0.5, -4, 4) + 20 * states, 0.5)
    chain = pgnn.HiddenMarkovModel(
        2, {"x": lambda child, parents: pgnn.GaussianMixture(child, parents, 2)}
    )
    chain.fit({"x": values, "state": states}, learner=MaximumLikelihood())
    means = chain.emissions["x"].components.mean.detach()
    np.testing.assert_allclose(means.sort().values, [[-4, 4], [16, 24]], atol=0.3)
