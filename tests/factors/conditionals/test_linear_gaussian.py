"""Linear regressions as conditionals."""

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor

import pgnn
from pgnn.errors import EvidenceError, ModelError
from pgnn.factors import (
    Covariance,
    Diagonal,
    Full,
    LinearGaussian,
    NormalWishart,
    Spherical,
    Tabular,
    Tied,
    Variable,
)
from tests import oracle

S, X, Y = Variable("s", 2), Variable("x"), Variable("y")
U, Y3 = Variable("u", shape=(2,)), Variable("y", shape=(3,))
FORMS = [Full(), Tied(), Diagonal(), Spherical()]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_regression(form: Covariance) -> LinearGaussian:
    p = LinearGaussian(Y3, [U, S], form=form)
    with torch.no_grad():
        for k, parameter in enumerate(p.parameters()):
            parameter.copy_(0.5 * numbers(*parameter.shape, seed=k))
    return p


def some_holes(y: Tensor) -> Tensor:
    hole = torch.rand(y.shape, generator=torch.Generator().manual_seed(9)) < 0.25
    return y.masked_fill(hole, torch.nan)


@pytest.mark.parametrize("form", FORMS)
def test_density_is_that_of_scipy_observed_whole_or_in_part(form: Covariance) -> None:
    p = random_regression(form)
    u, whole = numbers(20, 2, seed=5), numbers(20, 3, seed=6)
    weight, bias = p.weight.detach().numpy(), p.bias.detach().numpy()
    covariance = p.covariance.detach().numpy()
    for y in (whole, some_holes(whole)):
        table = p.factor({"y": y, "u": u}).log_values.detach()
        for n in range(20):
            o = ~np.isnan(y[n].numpy())
            for k in range(2):
                mean = weight[k] @ u[n].numpy() + bias[k]
                expected = 0.0
                if o.any():
                    normal = multivariate_normal(mean[o], covariance[k][np.ix_(o, o)])
                    expected = normal.logpdf(y[n].numpy()[o])
                assert table[n, k].item() == pytest.approx(expected, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_learning_from_vectors_observed_in_part_climbs_to_a_maximum(form: Covariance) -> None:
    u = numbers(80, 2, seed=5)
    y = some_holes(numbers(80, 3, seed=6) @ numbers(3, 3, seed=7) + u @ numbers(2, 3, seed=8))
    w = torch.rand(80, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    p = random_regression(form)
    values = []
    for _ in range(120):
        values.append(float((p.factor({"y": y, "u": u}).log_values * w).sum().detach()))
        p.maximize(p.statistics({"y": y, "u": u}, w))
    assert (np.diff(values) > -1e-9).all()
    (p.factor({"y": y, "u": u}).log_values * w).sum().backward()
    for q in p.parameters():
        assert q.grad.abs().max() < 1e-4


def test_least_squares_of_numpy() -> None:
    u, y = numbers(40, 2), numbers(40, 3, seed=1)
    p = LinearGaussian(Y3, [U])
    p.maximize(p.statistics({"y": y, "u": u}, torch.ones(40)))
    design = np.column_stack([u, np.ones(40)])
    expected, *_ = np.linalg.lstsq(design, y.numpy(), rcond=None)
    np.testing.assert_allclose(p.weight.detach(), expected[:2].T, rtol=1e-10)
    np.testing.assert_allclose(p.bias.detach(), expected[2], rtol=1e-10)
    error = y.numpy() - design @ expected
    np.testing.assert_allclose(p.covariance.detach(), error.T @ error / 40, rtol=1e-10)


@pytest.mark.parametrize("known", ["weight", "bias"])
def test_given_coefficients_stay(known: str) -> None:
    u, y = numbers(40, 2), numbers(40, 3, seed=1)
    p = LinearGaussian(
        Y3, [S, U], **{known: numbers(2, 3, 2, seed=2) if known == "weight" else numbers(2, 3)}
    )
    before = getattr(p, known).clone()
    w = torch.rand(40, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    p.maximize(p.statistics({"y": y, "u": u}, w))
    (p.factor({"y": y, "u": u}).log_values * w).sum().backward()
    assert torch.equal(before, getattr(p, known))
    free = p.bias if known == "weight" else p.weight
    assert free.grad.abs().max() < 1e-9
    assert p.scale.grad.abs().max() < 1e-9


def test_regressors_that_follow_from_others_do_no_harm() -> None:
    v = Variable("v")
    p = LinearGaussian(Y, [X, v])
    x = numbers(30)
    values = {"x": x, "v": 2.0 * x, "y": 3.0 * x + 1.0 + 0.1 * numbers(30, seed=1)}
    p.maximize(p.statistics(values, torch.ones(30)))
    alone = LinearGaussian(Y, [X])
    alone.maximize(alone.statistics(values, torch.ones(30)))
    assert p.weight.abs().max() < 2
    assert p.covariance.item() == pytest.approx(alone.covariance.item(), rel=1e-8)
    p.maximize(p.statistics(values, torch.ones(30)), NormalWishart(confidence=1.0, scale=1.0))
    assert all(q.isfinite().all() for q in p.parameters())


def test_a_real_parent_that_was_not_observed() -> None:
    p = LinearGaussian(Y, [X, S], [[1.0], [2.0]], [0.0, 0.0], [1.0, 1.0])
    nan = torch.nan
    observed = {"x": torch.tensor([1.0, nan]), "y": torch.tensor([1.0, nan])}
    assert p.factor(observed).log_values[1].tolist() == [0.0, 0.0]
    assert p.statistics(observed, torch.ones(2, 2))[0].tolist() == [1.0, 1.0]
    observed["y"] = torch.tensor([1.0, 2.0])
    with pytest.raises(
        EvidenceError, match=r"'y' was observed in a row in which .* \['x'\] was not"
    ):
        p.factor(observed)
    with pytest.raises(EvidenceError, match="'y' was observed in a row"):
        p.statistics(observed, torch.ones(2, 2))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ModelError, match=r"weight of 'y' must have shape \(2, 3, 2\)"):
        LinearGaussian(Y3, [S, U], weight=numbers(2, 3))
    with pytest.raises(ModelError, match="or real ones of known shape"):
        LinearGaussian(Y, [Variable("u", shape=("T",))])
    with pytest.raises(ModelError, match="LinearGaussian needs a child of shape"):
        LinearGaussian(Variable("y", shape=(2, 2)), [X])
    with pytest.raises(ModelError, match="singular"):
        LinearGaussian(Y3, [X], covariance=np.ones((3, 3)))


def test_inside_a_network_that_draws_and_infers() -> None:
    prior = np.array([0.4, 0.6])
    model = pgnn.BayesianNetwork(
        nx.DiGraph([("s", "y"), ("x", "y"), ("s", "x")]),
        {
            "s": Tabular(S, (), prior),
            "x": pgnn.Gaussian(X, [S], [0.0, 1.0], [1.0, 1.0]),
            "y": LinearGaussian(Y, [X, S], [[1.0], [-1.0]], [0.0, 2.0], [0.25, 0.25]),
        },
    )
    x, y = np.array([0.3, -1.0]), np.array([0.5, 2.5])
    found = model.query("s", {"x": x, "y": y})["s"].probs
    for n in range(2):
        likelihood = norm([0.0, 1.0]).pdf(x[n]) * norm([x[n], 2.0 - x[n]], 0.5).pdf(y[n])
        joint = oracle.joint({"s": 2}, [(["s"], prior), (["s"], likelihood)])
        np.testing.assert_allclose(found[n], oracle.marginal(joint, ["s"]), rtol=1e-10)
    draws = model.sample(20_000, seed=0)
    first = draws["s"] == 0
    error = (draws["y"] - draws["x"])[first]
    # five standard errors of a mean of normals with deviation 0.5
    assert abs(error.mean()) < 5 * 0.5 / np.sqrt(int(first.sum()))


@pytest.mark.parametrize("unit", [1e-6, 1e-8, 1e-12, 1e12])
def test_the_units_of_a_parent_do_not_matter(unit: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = 2.0 * x + 1.0 + 0.1 * rng.normal(size=200)
    model = pgnn.BayesianNetwork([("x", "y")], [pgnn.Gaussian(X), LinearGaussian(Y, [X])])
    model.fit({"x": unit * x, "y": y}, progress=False)
    slope, offset = np.polyfit(x, y, 1)
    regression = model.conditionals["y"]
    assert float(regression.weight.detach()) * unit == pytest.approx(slope, rel=1e-9)
    assert float(regression.bias.detach()) == pytest.approx(offset, rel=1e-9)
