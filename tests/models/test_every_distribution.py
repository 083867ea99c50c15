"""Every class of torch.distributions and pyro.distributions as the conditional of a node."""

import functools
import inspect
import math

import numpy as np
import pyro.distributions
import pytest
import torch
from scipy import optimize, stats
from torch import distributions as dist

import pgnn
from pgnn.errors import DataError, ModelError, PgnnError, Unsupported
from pgnn.factors.conditionals.distribution_class import event_axes

REFUSED = {
    # classes of states, or made of other distributions, or without a density
    *("Categorical", "Distribution", "ExponentialFamily", "TorchDistribution", "Independent"),
    *("MixtureSameFamily", "TransformedDistribution", "DiscreteHMM", "Empirical", "Rejector"),
    *("ExpandedDistribution", "FoldedDistribution", "GammaGaussianHMM", "GaussianHMM"),
    *("GaussianMRF", "GroupedNormalNormal", "ImproperUniform", "IndependentHMM", "LinearHMM"),
    *("MaskedDistribution", "MaskedMixture", "SineSkewed", "TruncatedPolyaGamma", "Delta", "Unit"),
    *("ZeroInflatedDistribution", "OneOneMatching", "OneTwoMatching", "SpanningTree"),
    # classes whose parameters have another shape, or must be fixed
    *("LowRankMultivariateNormal", "RelaxedBernoulli", "RelaxedOneHotCategorical", "Uniform"),
    *("RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough", "Wishart"),
    *("LKJCholesky", "LKJ", "LKJCorrCholesky", "AVFMultivariateNormal", "CoalescentTimes"),
    *("CoalescentTimesWithRate", "GaussianScaleMixture", "MixtureOfDiagNormals"),
    *("MixtureOfDiagNormalsSharedCovariance", "OMTMultivariateNormal", "OrderedLogistic"),
    *("SineBivariateVonMises", "VonMises3D", "LogNormalNegativeBinomial"),
    # classes whose support is learned
    *("Pareto", "GeneralizedPareto", "AffineBeta"),
}
LEAST = {"SoftAsymmetricLaplace": -0.1}
"""Rise of the log-likelihood; the tails of this density underflow, so that its fit stops early."""
SIZES = {0: (), 1: (3,), 2: (3, 3)}
ONE = torch.ones((), dtype=torch.float64)


def classes() -> list[type]:
    found = {}
    for module in (dist, pyro.distributions):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, dist.Distribution):
                found.setdefault(name, kind)
    return [found[n] for n in sorted(found)]


def asked(make: object, shape: tuple[int, ...], has_parent: bool) -> float:
    """Declare a node, sample, fit and ask; return by how much the mean log-likelihood rose."""
    s, x = pgnn.Variable("s", 2), pgnn.Variable("x", shape=shape)
    pieces = {"x": make} | ({"s": [0.5, 0.5]} if has_parent else {})
    edges = [("s", "x")] if has_parent else []
    variables = {"x": x} | ({"s": s} if has_parent else {})
    model = pgnn.BayesianNetwork(edges, pieces, variables)
    rows = model.sample(30, seed=0)
    before = float(model.log_prob(rows).mean())
    model.fit(rows, progress=False)
    gain = float(model.log_prob(rows).mean()) - before
    if has_parent:
        probs = model.query("s", {"x": rows["x"][:3]})["s"].probs
        torch.testing.assert_close(probs.sum(-1), torch.ones(3).double())
    return gain


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("has_parent", [False, True])
@pytest.mark.parametrize("kind", classes(), ids=lambda k: k.__name__)
def test_a_class_is_fitted_to_its_own_samples_or_refused(kind: type, has_parent: bool) -> None:
    shape = SIZES[event_axes(kind) or 0]
    if kind.__name__ in REFUSED:
        with pytest.raises((ModelError, Unsupported)):
            asked(kind, shape, has_parent)
    else:
        assert asked(kind, shape, has_parent) >= LEAST.get(kind.__name__, -1e-9)


@pytest.mark.parametrize("kind", classes(), ids=lambda k: k.__name__)
def test_a_class_that_does_not_fit_the_shape_gives_no_raw_error(kind: type) -> None:
    def declared(shape: tuple[int, ...], parents: list[pgnn.Variable]) -> str:
        try:
            return repr(pgnn.Distributional(pgnn.Variable("x", shape=shape), parents, kind))
        except PgnnError as error:
            return str(error)

    for shape in [(), (3,), (3, 3)]:
        for parents in ([], [pgnn.Variable("s", 2)]):
            assert "'x'" in declared(shape, parents)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("has_parent", [False, True])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (functools.partial(dist.Binomial, 10), ()),
        (functools.partial(dist.Multinomial, total_count=5), (3,)),
        (functools.partial(dist.Pareto, 1.5), (2,)),
        (functools.partial(dist.GeneralizedPareto, 0.0), ()),
        (functools.partial(dist.RelaxedBernoulli, 0.5 * ONE), ()),
        (functools.partial(dist.RelaxedOneHotCategorical, 0.5 * ONE), (3,)),
        (functools.partial(dist.LKJCholesky, 3), (3, 3)),
        (functools.partial(dist.StudentT, 4.0), (2,)),
        (functools.partial(pyro.distributions.AffineBeta, loc=-1.0, scale=2.0), ()),
        (functools.partial(pyro.distributions.BetaBinomial, total_count=10), ()),
    ],
)
def test_fixed_arguments_are_those_of_a_partial(
    make: object, shape: tuple[int, ...], has_parent: bool
) -> None:
    assert asked(make, shape, has_parent) >= -1e-9


def test_a_distribution_without_numbers_to_learn() -> None:
    s, x = pgnn.Variable("s", 2), pgnn.Variable("x")
    pieces = {"s": [0.5, 0.5], "x": functools.partial(dist.Uniform, 0.0, 4.0)}
    model = pgnn.BayesianNetwork([("s", "x")], pieces, {"s": s, "x": x})
    assert ((model.sample(9, seed=0)["x"] > 0.0) & (model.sample(9, seed=0)["x"] < 4.0)).all()
    assert float(model.log_prob({"s": [0], "x": [1.0]})[0]) == pytest.approx(-math.log(8.0))
    assert model.query("s", {"x": [3.0]})["s"].probs[0].tolist() == [0.5, 0.5]
    with pytest.raises(ModelError, match="nothing to learn"):
        model.fit({"s": [0], "x": [1.0]}, progress=False)


def best(log_prob: object, start: list[float]) -> float:
    """The largest mean log-likelihood, by the simplex method."""
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 5000}
    found = optimize.minimize(lambda t: -log_prob(t).mean(), start, method="Nelder-Mead")
    return -optimize.minimize(
        lambda t: -log_prob(t).mean(), found.x, method="Nelder-Mead", options=options
    ).fun


EXP = np.exp
OTHERS = [
    (dist.Beta(0.3 * ONE, 0.2 * ONE), dist.Beta, stats.beta.logpdf, lambda t: EXP(t), [0, 0]),
    (dist.Cauchy(50 * ONE, 0.1 * ONE), dist.Cauchy, stats.cauchy.logpdf,
     lambda t: (50 + t[0], EXP(t[1])), [0, 0]),
    (dist.Chi2(17 * ONE), dist.Chi2, stats.chi2.logpdf, EXP, [0]),
    (dist.FisherSnedecor(5 * ONE, 9 * ONE), dist.FisherSnedecor, stats.f.logpdf, EXP, [1, 1]),
    (dist.GeneralizedPareto(0 * ONE, 5 * ONE, 0.3 * ONE),
     functools.partial(dist.GeneralizedPareto, 0.0), stats.genpareto.logpdf,
     lambda t: (t[0], 0, EXP(t[1])), [0.1, 1]),
    (dist.Geometric(0.02 * ONE), dist.Geometric, stats.geom.logpmf,
     lambda t: (1 / (1 + EXP(t[0])), -1), [3]),
    (dist.Gumbel(100 * ONE, 3 * ONE), dist.Gumbel, stats.gumbel_r.logpdf,
     lambda t: (100 + t[0], EXP(t[1])), [0, 0]),
    (dist.HalfCauchy(40 * ONE), dist.HalfCauchy, stats.halfcauchy.logpdf,
     lambda t: (0, EXP(t[0])), [3]),
    (dist.Laplace(1000 * ONE, 0.5 * ONE), dist.Laplace, stats.laplace.logpdf,
     lambda t: (1000 + t[0], EXP(t[1])), [0, 0]),
    (dist.NegativeBinomial(3 * ONE, 0.9 * ONE), dist.NegativeBinomial, stats.nbinom.logpmf,
     lambda t: (EXP(t[0]), 1 / (1 + EXP(t[1]))), [0, 1]),
    (dist.Poisson(300 * ONE), dist.Poisson, stats.poisson.logpmf, EXP, [5]),
    (dist.StudentT(3 * ONE, 500 * ONE, 0.2 * ONE), dist.StudentT, stats.t.logpdf,
     lambda t: (EXP(t[0]), 500 + t[1], EXP(t[2])), [1, 0, -1]),
    (dist.VonMises(3 * ONE, 4 * ONE), dist.VonMises, stats.vonmises.logpdf,
     lambda t: (EXP(t[0]), t[1]), [1, 3]),
    (pyro.distributions.Logistic(200 * ONE, 5 * ONE), pyro.distributions.Logistic,
     stats.logistic.logpdf, lambda t: (200 + t[0], EXP(t[1])), [0, 1]),
    (dist.Binomial(10, 0.2 * ONE), functools.partial(dist.Binomial, 10), stats.binom.logpmf,
     lambda t: (10, 1 / (1 + EXP(t[0]))), [0]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("truth", "make", "log_prob", "numbers", "start"), OTHERS, ids=lambda x: type(x).__name__
)
def test_a_fit_is_the_maximum_of_the_density_of_scipy(
    truth: dist.Distribution, make: object, log_prob: object, numbers: object, start: list[float]
) -> None:
    torch.manual_seed(3)
    x = truth.sample((200,)).numpy()
    model = pgnn.BayesianNetwork([], {"x": make}).fit({"x": x}, progress=False)
    found = float(model.log_prob({"x": x}).mean())
    assert found == pytest.approx(best(lambda t: log_prob(x, *numbers(t)), start), abs=1e-4)


@pytest.mark.parametrize(
    ("make", "values", "error", "message"),
    [
        (dist.Binomial, [3.0, 7.0], DataError, "value 3.0, .*partial.*Binomial, total_count=10"),
        (functools.partial(dist.Binomial, 5), [7.0], DataError, "7.0.*total_count=10"),
        (dist.Gamma, [1.0, -2.0], DataError, "value -2.0, which is outside .*Gamma"),
        (dist.Pareto, [3.0, 4.0], Unsupported, r"partial\(torch.distributions.Pareto, scale=1.0"),
        (dist.GeneralizedPareto, [3.0, 4.0], Unsupported, "GeneralizedPareto, loc=0.0"),
    ],
)
def test_data_that_a_class_cannot_be_learned_from(
    make: object, values: list[float], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        pgnn.BayesianNetwork([], {"x": make}).fit({"x": values}, progress=False)


def test_a_class_does_not_depend_on_real_parents() -> None:
    u, x = pgnn.Variable("u"), pgnn.Variable("x")
    with pytest.raises(ModelError, match=r"depends on its real parents \['u'\]; use pgnn.Linear"):
        pgnn.BayesianNetwork([("u", "x")], {"u": dist.Normal, "x": dist.Normal}, {"u": u, "x": x})


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_a_normal_vector_is_fitted_in_any_units(unit: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + 7.0
    model = pgnn.BayesianNetwork([], {"x": dist.MultivariateNormal})
    model.fit({"x": x * unit}, progress=False)
    expected = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x).mean()
    found = float(model.log_prob({"x": x * unit}).mean()) + 2 * np.log(unit)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_partial_is_kept(tmp_path: object) -> None:
    make = functools.partial(dist.Binomial, total_count=10)
    model = pgnn.BayesianNetwork([], {"x": make}).fit({"x": [3.0, 5.0]}, progress=False)
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert again.log_prob({"x": [4.0]}).equal(model.log_prob({"x": [4.0]}))
    assert inspect.signature(again.conditionals["x"].make).parameters["total_count"].default == 10


def test_text_of_a_callable_names_it() -> None:
    x, y = pgnn.Variable("x"), pgnn.Variable("y")

    def drift(past: torch.Tensor) -> dist.Distribution:
        return dist.Normal(0.9 * past, 1.0)

    piece = pgnn.Distributional(y, [x], drift)
    assert "'y' | 'x', drift" in repr(piece)
    assert "drift" in str(piece)
    assert "Empty" not in str(piece) + piece._repr_html_()
    binomial = pgnn.Distributional(x, [], functools.partial(dist.Binomial, 10), probs=0.25)
    assert "Binomial(10)" in repr(binomial)
    assert "0.25" in repr(binomial)
    assert "Binomial(10)" in str(binomial)


def test_rows_of_weight_zero_may_be_outside_of_the_support() -> None:
    model = pgnn.BayesianNetwork([], {"x": dist.Exponential})
    piece = pgnn.Distributional(pgnn.Variable("x"), [], dist.Exponential)
    rows = {"x": torch.tensor([2.0, -1.0, 4.0]).double()}
    piece.start_from(rows, torch.tensor([1.0, 0.0, 1.0]))
    assert piece.values["rate"].item() == pytest.approx(1 / 3)
    with pytest.raises(DataError, match=r"value -1\.0"):
        piece.start_from(rows, torch.ones(3))
    model.fit(rows, weights=np.array([1.0, 0.0, 1.0]), progress=False)
    assert model.conditionals["x"].values["rate"].item() == pytest.approx(1 / 3, rel=1e-5)


def test_a_concentration_of_zero_is_learned() -> None:
    torch.manual_seed(0)
    x = torch.distributions.GeneralizedPareto(0.0, 1.0, 0.3).sample((300,)).double()
    kind = torch.distributions.GeneralizedPareto
    fixed = functools.partial(kind, 0.0)

    def fitted(concentration: float) -> pgnn.BayesianNetwork:
        start = pgnn.Distributional(
            pgnn.Variable("x"), [], fixed, scale=1.0, concentration=concentration
        )
        return pgnn.BayesianNetwork([], {"x": start}).fit({"x": x}, progress=False)

    best = float(fitted(0.1).log_prob({"x": x}).sum())
    assert float(fitted(0.0).log_prob({"x": x}).sum()) == pytest.approx(best, abs=1e-4)
