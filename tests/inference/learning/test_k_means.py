"""K-means: scikit-learn's sums of squares, and the limit of a Gaussian mixture."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, NotConverged, Unsupported


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 3)) + rng.integers(0, 3, (300, 1)) * 4.0 + 1e5


def spherical(child: pgnn.Variable, parents: list) -> pgnn.Gaussian:
    return pgnn.Gaussian(child, parents, form=pgnn.Spherical())


def mixture(k: int) -> pgnn.Mixture:
    return pgnn.Mixture(k, {"x": spherical}, shapes={"x": (3,)})


def test_equals_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    x, w = rows(), np.random.default_rng(1).random(300)
    other = cluster.KMeans(5, init=x[:5], n_init=1, tol=0.0, max_iter=300).fit(x, sample_weight=w)
    model = mixture(5)
    model.conditionals["x"].set_parameters(x[:5], np.ones(5))
    model.fit({"x": x}, learner=pgnn.KMeans(initialize=False), weights=w, progress=False)
    found = model.conditionals["x"].mean.detach()
    np.testing.assert_allclose(found, other.cluster_centers_, rtol=0, atol=1e-6)
    assert model.history["inertia"] == pytest.approx(other.inertia_, rel=1e-6)
    best = cluster.KMeans(3, n_init=10, random_state=0, tol=0.0).fit(x)
    model = mixture(3).fit({"x": x}, learner=pgnn.KMeans(), seed=0, progress=False)
    assert model.history["inertia"] == pytest.approx(best.inertia_, rel=1e-6)


def test_is_the_limit_of_a_mixture() -> None:
    """One EM step with tiny equal variances moves the means where a round of k-means does."""
    x = rows() - 1e5
    model = mixture(3)
    model.conditionals["x"].set_parameters(x[:3], np.full(3, 1e-4))
    learner = pgnn.EM(max_iterations=1, initialize=False)
    with pytest.warns(NotConverged):
        model.fit({"x": x}, learner=learner, progress=False)
    other = mixture(3)
    other.conditionals["x"].set_parameters(x[:3], np.ones(3))
    with pytest.warns(NotConverged):
        other.fit({"x": x}, learner=pgnn.KMeans(initialize=False, max_iterations=1), progress=False)
    means = [m.conditionals["x"].mean.detach() for m in (model, other)]
    # the clusters of the second are those after the means moved: its means moved once more
    labels = (torch.from_numpy(x)[:, None] - torch.from_numpy(x[:3])).square().sum(-1).argmin(1)
    once = torch.stack([torch.from_numpy(x)[labels == k].mean(0) for k in range(3)])
    torch.testing.assert_close(means[0], once)
    labels = (torch.from_numpy(x)[:, None] - once).square().sum(-1).argmin(1)
    twice = torch.stack([torch.from_numpy(x)[labels == k].mean(0) for k in range(3)])
    torch.testing.assert_close(means[1], twice)


def test_what_it_refuses() -> None:
    x = rows()
    with pytest.raises(Unsupported, match="use EM"):
        pgnn.Mixture(2, {"x": pgnn.Poisson}, shapes={"x": (3,)}).fit(
            {"x": x.round()}, learner=pgnn.KMeans()
        )
    with pytest.raises(Unsupported, match="not a BayesianNetwork"):
        pgnn.BayesianNetwork([], states={"a": 2}).fit({"a": [0]}, learner=pgnn.KMeans())
    x[0, 0] = np.nan
    with pytest.raises(DataError, match="'x' is missing in some"):
        mixture(2).fit({"x": x}, learner=pgnn.KMeans())
