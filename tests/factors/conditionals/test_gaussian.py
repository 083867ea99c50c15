"""Normal emissions: densities, partly observed vectors, other libraries, bad input, in a model."""

import math
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

import pgnn
from pgnn.errors import EvidenceError, ModelError, Unsupported
from pgnn.factors import (
    Covariance,
    Diagonal,
    Full,
    Gaussian,
    NormalWishart,
    Spherical,
    Tabular,
    Tied,
    Variable,
)
from tests import oracle

S = Variable("s", 3)
X, X4 = Variable("x"), Variable("x", shape=(4,))
FORMS = [Full(), Tied(), Diagonal(), Spherical()]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_gaussian(form: Covariance, child: Variable = X4, seed: int = 0) -> Gaussian:
    g = Gaussian(child, [S], form=form)
    with torch.no_grad():
        g.mean.copy_(numbers(*g.mean.shape, seed=seed))
        g.scale.copy_(0.4 * numbers(*g.scale.shape, seed=seed + 1))
    return g


def with_holes(x: Tensor, share: float = 0.4, seed: int = 9) -> Tensor:
    hole = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    hole[0] = torch.tensor([False, True, True, True])
    return x.masked_fill(hole, torch.nan)


def marginal_log_density(g: Gaussian, x: Tensor) -> np.ndarray:
    """By SciPy, one row and one state at a time, on what was observed."""
    table = np.zeros((len(x), 3))
    mean, covariance = g.mean.detach().numpy(), g.covariance.detach().numpy()
    for n, row in enumerate(x.numpy()):
        o = ~np.isnan(row)
        for k in range(3):
            if o.any():
                normal = multivariate_normal(mean[k][o], covariance[k][np.ix_(o, o)])
                table[n, k] = normal.logpdf(row[o])
    return table


@pytest.mark.parametrize("form", FORMS)
def test_density_is_that_of_scipy_observed_whole_or_in_part(form: Covariance) -> None:
    g = random_gaussian(form)
    x = 2.0 * numbers(40, 4, seed=5)
    for rows in (x, with_holes(x)):
        table = g.factor({"x": rows}).log_values.detach().numpy()
        np.testing.assert_allclose(table, marginal_log_density(g, rows), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("holes", [False, True])
def test_gradients(form: Covariance, holes: bool) -> None:
    g = random_gaussian(form)
    x = numbers(7, 4, seed=5)
    x = with_holes(x) if holes else x

    def density(mean: Tensor, scale: Tensor) -> Tensor:
        given = {"mean": mean, "scale": scale, "centre": g.centre}
        return torch.func.functional_call(g, given, ({"x": x},), strict=True)

    g.forward = lambda observed: g.factor(observed).log_values
    inputs = [g.mean.detach().clone(), g.scale.detach().clone()]
    assert torch.autograd.gradcheck(density, [v.requires_grad_() for v in inputs])


@pytest.mark.parametrize("form", FORMS)
def test_far_from_zero_no_digits_are_lost(form: Covariance) -> None:
    g = random_gaussian(form)
    far = random_gaussian(form)
    x = numbers(50, 4, seed=5)
    with torch.no_grad():
        far.mean.add_(2.0**20)
    moved = x + 2.0**20
    with torch.no_grad():  # rounded alike, so that only the arithmetic of the density differs
        g.mean.copy_(far.mean - 2.0**20)
    table = g.factor({"x": moved - 2.0**20}).log_values
    torch.testing.assert_close(far.factor({"x": moved}).log_values, table, rtol=1e-12, atol=1e-12)
    w = table.detach().softmax(dim=-1)
    far.initialize({"x": moved}, 0)
    far.maximize(far.statistics({"x": moved}, w))
    g.maximize(g.statistics({"x": moved - 2.0**20}, w))
    torch.testing.assert_close(far.covariance, g.covariance, rtol=1e-8, atol=1e-8)


def test_narrow_states_far_apart_keep_their_digits() -> None:
    g = Gaussian(X4, [S], numbers(3, 4) * 100, torch.full((3, 4), 1e-6), form=Diagonal())
    x = g.mean[[0, 1, 2, 0]] + 1e-3 * numbers(4, 4, seed=3)
    expected = marginal_log_density(g, x)
    np.testing.assert_allclose(g.factor({"x": x}).log_values, expected, rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_learning_from_vectors_observed_in_part_climbs_to_a_maximum(form: Covariance) -> None:
    # correlated rows, so that what was observed tells of what was not
    x = with_holes(numbers(80, 4, seed=2) @ numbers(4, 4, seed=3), 0.15)
    w = torch.rand(80, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    g = random_gaussian(form)
    values = []
    for _ in range(100):
        values.append(float((g.factor({"x": x}).log_values * w).sum().detach()))
        g.maximize(g.statistics({"x": x}, w))
    assert (np.diff(values) > -1e-9).all()
    (g.factor({"x": x}).log_values * w).sum().backward()
    for p in g.parameters():
        assert p.grad.abs().max() < 1e-5
    assert values[-1] > values[1] + 1


@pytest.mark.parametrize(
    ("form", "kind"),
    [(Full(), "full"), (Tied(), "tied"), (Diagonal(), "diag"), (Spherical(), "spherical")],
)
def test_one_step_equals_hmmlearn(form: Covariance, kind: str) -> None:
    hmm = pytest.importorskip("hmmlearn.hmm")
    x = numbers(200, 4, seed=2) + 2.0 * (torch.arange(200) % 3).unsqueeze(1)
    g = random_gaussian(form)
    covariances = {
        "full": g.covariance,
        "tied": g.covariance[0],
        "diag": g.covariance.diagonal(dim1=1, dim2=2),
        "spherical": g.covariance[:, 0, 0],
    }
    # every row alike whatever the last state: the chain is a mixture with equal weights
    peer = hmm.GaussianHMM(
        3, kind, covars_prior=0.0, covars_weight=1.0, n_iter=1, params="mc", init_params=""
    )
    peer.startprob_ = np.full(3, 1 / 3)
    peer.transmat_ = np.full((3, 3), 1 / 3)
    peer.means_ = g.mean.detach().numpy()
    peer.covars_ = covariances[kind].detach().numpy()
    table = g.factor({"x": x}).log_values.detach()
    np.testing.assert_allclose(peer._compute_log_likelihood(x.numpy()), table, rtol=1e-10)
    peer.fit(x.numpy())
    g.maximize(g.statistics({"x": x}, table.softmax(dim=1)))
    np.testing.assert_allclose(g.mean.detach(), peer.means_, rtol=1e-9, atol=1e-9)
    found = np.broadcast_to(peer._covars_.T, (4, 3)).T if kind == "spherical" else peer._covars_
    ours = g.covariance.detach()
    if kind in ("diag", "spherical"):
        ours = ours.diagonal(dim1=1, dim2=2)
    np.testing.assert_allclose(ours, np.broadcast_to(found, ours.shape), rtol=1e-9, atol=1e-9)


def test_small_eigenvalues_are_raised_to_the_best_matrix_that_has_none() -> None:
    x = torch.cat([numbers(30, 2), torch.zeros(30, 2, dtype=torch.float64)], dim=1)
    g = Gaussian(X4, form=Full(0.01))
    statistics = g.statistics({"x": x}, torch.ones(30))
    g.maximize(statistics)
    values = torch.linalg.eigvalsh(g.covariance)
    torch.testing.assert_close(values[:2], torch.full((2,), 0.01, dtype=torch.float64))
    kept = torch.cov(x[:, :2].t(), correction=0)
    torch.testing.assert_close(g.covariance[:2, :2], kept, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_given_means_stay_and_variances_are_about_them(form: Covariance) -> None:
    x = numbers(50, 4)
    g = Gaussian(X4, [S], mean=numbers(3, 4, seed=1), form=form)
    w = torch.rand(50, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    g.maximize(g.statistics({"x": x}, w))
    (g.factor({"x": x}).log_values * w).sum().backward()
    assert torch.equal(g.mean, numbers(3, 4, seed=1))
    assert g.mean.grad is None
    assert g.scale.grad.abs().max() < 1e-9


def test_mode_under_the_prior_is_the_textbooks() -> None:
    x = numbers(20, 4) + 1.0
    prior = NormalWishart([1.0, 2.0, 3.0, 4.0], 3.0, 7.0, np.eye(4) * 2.0)
    g = Gaussian(X4)
    g.maximize(g.statistics({"x": x}, torch.ones(20)), prior)
    mean, m = x.mean(0), torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    scatter = (x - mean).t() @ (x - mean)
    scatter += 2.0 * torch.eye(4) + 20 * 3 / 23 * torch.outer(mean - m, mean - m)
    torch.testing.assert_close(g.mean.detach(), (3 * m + 20 * mean) / 23)
    torch.testing.assert_close(g.covariance.detach(), scatter / (7 + 20 + 4 + 2))


def test_a_state_that_nothing_is_counted_for_goes_to_the_prior() -> None:
    g = Gaussian(X, [S], mean=[5.0, 6.0, 7.0]).requires_grad_()
    statistics = g.statistics({"x": torch.tensor([5.0, 6.0])}, torch.eye(3)[:2])
    g.maximize(statistics, NormalWishart(1.0, 2.0, 1.0, 8.0))
    assert g.mean[2].item() == 1.0
    assert g.covariance[2].item() == pytest.approx(8.0 / (1 + 1 + 2))
    assert (g.covariance > 1.0).all()


def test_reading_and_setting() -> None:
    g = Gaussian(X4, [S], form=Diagonal())
    assert (g.mean.requires_grad, g.num_free_parameters) == (True, 24)
    g.set_parameters(numbers(3, 4), torch.full((3, 4), 4.0))
    torch.testing.assert_close(g.covariance, 4.0 * torch.eye(4).double().expand(3, 4, 4))
    assert Gaussian(X4, [S]).num_free_parameters == 12 + 30
    assert Gaussian(X4, [S], form=Tied()).num_free_parameters == 12 + 10
    assert Gaussian(X4, [S], form=Spherical()).num_free_parameters == 12 + 3
    assert Gaussian(X, covariance=4.0, mean=1.0).covariance.item() == pytest.approx(4.0)
    before = g.mean.clone()
    with pytest.raises(ModelError, match="variances must be positive"):
        g.set_parameters(numbers(3, 4, seed=8), torch.zeros(3, 4))
    assert torch.equal(before, g.mean)


SINGULAR = [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariance": [SINGULAR] * 3}, "covariance of 'x': covariance matrix number 0 is sing"),
        ({"covariance": [np.eye(2)] * 2 + [-np.eye(2)]}, "number 2 is singular or not positive"),
        ({"covariance": [[[1.0, 0.5], [0.0, 1.0]]] * 3}, "must be symmetric"),
        ({"covariance": np.eye(2)}, r"covariance of 'x' must have shape \(3, 2, 2\)"),
        ({"covariance": np.eye(3), "form": Tied()}, r"covariance of 'x' must have shape \(2, 2\)"),
        ({"covariance": [[1.0, -1.0]] * 3, "form": Diagonal()}, "variances must be positive"),
        ({"mean": [[math.nan, 0.0]] * 3}, "mean of 'x' must be finite"),
        ({"mean": [0.0, 1.0, 2.0]}, r"mean of 'x' must have shape \(3, 2\)"),
    ],
)
def test_bad_numbers_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Gaussian(Variable("x", shape=(2,)), [S], **arguments)


def test_a_matrix_that_rounding_makes_positive_is_singular_too() -> None:
    root = np.array([[1.0, 0.1, 0.3]])
    with pytest.raises(ModelError, match="singular"):
        Gaussian(Variable("x", shape=(3,)), covariance=root.T @ root + 1e-17 * np.eye(3))


def test_other_variables_are_refused() -> None:
    for child, parents in [
        (Variable("x", 2), [S]),
        (Variable("x", shape=("T",)), [S]),
        (X, [Variable("u")]),
        (X, [Variable("s", 2, shape=(3,))]),
    ]:
        with pytest.raises(ModelError, match="Gaussian needs a real child of known shape"):
            Gaussian(child, parents)
    with pytest.raises(ModelError, match="Gaussian needs a child of shape"):
        Gaussian(Variable("x", shape=(2, 2)), [S])
    with pytest.raises(Unsupported, match="real and not observed"):
        Gaussian(X, [S]).factor()
    with pytest.raises(EvidenceError, match="same number of rows"):
        Gaussian(X, [S]).factor({"x": torch.zeros(3), "s": torch.zeros(2, dtype=torch.long)})


@pytest.mark.parametrize("bad", [{"confidence": -1.0}, {"degrees": math.nan}])
def test_bad_priors_are_refused(bad: dict) -> None:
    with pytest.raises(ModelError, match="finite"):
        NormalWishart(**bad)
    for prior, message in [
        (NormalWishart(mean=[1.0, 2.0]), "mean of NormalWishart must have shape"),
        (NormalWishart(scale=np.ones((2, 3))), "scale of NormalWishart must be a number"),
        (NormalWishart(scale=-1.0), "symmetric and nonnegative"),
        (NormalWishart(degrees=-9.0), "degrees of NormalWishart must be at least"),
    ]:
        g = Gaussian(Variable("x", shape=(3,)))
        with pytest.raises(ModelError, match=message):
            g.maximize(g.statistics({"x": numbers(5, 3)}, torch.ones(5)), prior)


@pytest.mark.parametrize("form", FORMS)
def test_inside_a_network_observed_in_part(form: Covariance) -> None:
    g = random_gaussian(form)
    a, s = np.array([0.3, 0.7]), np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    model = pgnn.BayesianNetwork(
        nx.DiGraph([("a", "s"), ("s", "x")]),
        {"a": Tabular(Variable("a", 2), (), a), "s": Tabular(S, [Variable("a", 2)], s), "x": g},
    )
    x = with_holes(numbers(6, 4, seed=3))
    x[3] = torch.nan
    likelihood = np.exp(marginal_log_density(g, x))
    product, *rest = model.factors({"x": x})
    joint_table = product.product(*rest).values.detach()
    whole = torch.where(x.isnan().any(dim=1, keepdim=True), torch.nan, x)
    posterior = model.query(["a", "s"], {"x": whole})
    likelihood_of_whole = np.exp(marginal_log_density(g, whole))
    for n in range(6):
        expected = a[:, None] * s * likelihood[n]
        np.testing.assert_allclose(joint_table[n], expected, rtol=1e-9)
        tables = [(["a"], a), (["a", "s"], s), (["s"], likelihood_of_whole[n])]
        joint = oracle.joint({"a": 2, "s": 3}, tables)
        for name in ("a", "s"):
            expected = oracle.marginal(joint, [name])
            np.testing.assert_allclose(
                posterior[name].probs[n].detach(), expected, rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("form", FORMS)
def test_samples_have_the_moments(form: Covariance) -> None:
    g = random_gaussian(form)
    torch.manual_seed(0)
    dist = g.distribution({"s": torch.tensor([0, 1, 2])})
    assert dist.batch_shape == (3,)
    assert dist.event_shape == (4,)
    draws = dist.sample((40_000,))
    # five standard errors of a mean, whose variance is at most the largest one over 40,000
    bound = 5 * math.sqrt(float(g.covariance.detach().amax()) / 40_000)
    assert (draws.mean(dim=0) - g.mean).abs().max() < bound
    for k in range(3):
        covariance = g.covariance[k].detach()
        # the variance of an entry of a sample covariance is at most 2 max(diagonal)^2 / n
        error = torch.cov(draws[:, k].t()) - covariance
        assert error.abs().max() < 5 * math.sqrt(2 / 40_000) * float(covariance.max())


def test_a_network_draws_numbers() -> None:
    model = pgnn.BayesianNetwork(
        nx.DiGraph([("s", "x")]),
        {
            "s": Tabular(S, (), [0.0, 0.0, 1.0]),
            "x": Gaussian(X, [S], [0.0, 0.0, 9.0], [1.0, 1.0, 1e-4]),
        },
    )
    samples = model.sample(100, seed=0)
    assert (samples["x"] - 9.0).abs().max() < 0.1


def test_sklearn_agrees_on_tied_classes() -> None:
    lda = pytest.importorskip("sklearn.discriminant_analysis")
    x = numbers(90, 4) + (torch.arange(90) % 3).unsqueeze(1)
    y = torch.arange(90) % 3
    g = Gaussian(X4, [S], form=Tied())
    g.maximize(g.statistics({"x": x}, torch.eye(3, dtype=torch.float64)[y]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = lda.LinearDiscriminantAnalysis(store_covariance=True, solver="lsqr").fit(x, y)
    np.testing.assert_allclose(g.mean.detach(), peer.means_, atol=1e-12)
    np.testing.assert_allclose(g.covariance[0].detach(), peer.covariance_, atol=1e-12)
