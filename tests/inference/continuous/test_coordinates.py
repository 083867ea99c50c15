"""Coordinates of constrained variables: Jacobians, shapes, what is recordable, what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import Transform, TransformedDistribution, biject_to

import pgnn
from pgnn import BayesianNetwork, Distributional, Gaussian, LinearGaussian, Variable
from pgnn.errors import Unsupported
from pgnn.factors.conditionals.neural import ByName
from pgnn.factors.support import Support
from pgnn.inference.continuous.coordinates import Coordinates, bijection_onto
from pgnn.inference.continuous.supports import supports_of
from pgnn.tape.replay import recorded

BOUNDS = torch.tensor([0.5, 1.0, -2.0]).double()
# constraint, shape of the variable, unconstrained numbers, free entries of a value
CASES = {
    "real": (constraints.real, (), 1),
    "real vector": (constraints.real_vector, (3,), 3),
    "positive": (constraints.positive, (2, 2), 4),
    "nonnegative": (constraints.nonnegative, (2,), 2),
    "greater than": (constraints.greater_than(BOUNDS), (3,), 3),
    "less than": (constraints.less_than(-1.0), (3,), 3),
    "unit interval": (constraints.unit_interval, (), 1),
    "interval": (constraints.interval(BOUNDS - 3.0, BOUNDS), (3,), 3),
    "half open": (constraints.half_open_interval(-1.0, 3.0), (), 1),
    "simplex": (constraints.simplex, (4,), 3),
    "plate of simplexes": (constraints.simplex, (2, 3), 4),
    "ordered": (constraints.ordered_vector, (3,), 3),
    "positive ordered": (constraints.positive_ordered_vector, (3,), 3),
    "lower Cholesky": (constraints.lower_cholesky, (3, 3), 6),
    "plate of covariances": (constraints.positive_definite, (2, 3, 3), 12),
    "semidefinite": (constraints.positive_semidefinite, (2, 2), 3),
    "LKJ": (constraints.corr_cholesky, (3, 3), 3),
    "correlation": (constraints.corr_matrix, (3, 3), 3),
    "independent": (constraints.independent(constraints.unit_interval, 2), (2, 3), 6),
    "softplus": (constraints.softplus_positive, (2,), 2),
    "stacked": (constraints.stack([constraints.real, constraints.positive], -1), (2,), 2),
    "joined": (
        constraints.cat([constraints.positive, constraints.interval(1.0, 2.0)], -1, [2, 1]),
        (3,),
        3,
    ),
}


def free_entries(constraint, value: Tensor) -> Tensor:
    """The entries of one value with respect to which densities are."""
    kind = type(constraint)
    if kind is type(constraints.simplex):
        return value[..., :-1].reshape(-1)
    if kind in (type(constraints.lower_cholesky), type(constraints.positive_definite)):
        i, j = torch.tril_indices(*value.shape[-2:])
        return value[..., i, j].reshape(-1)
    if kind is type(constraints.positive_semidefinite):
        i, j = torch.tril_indices(*value.shape[-2:])
        return value[..., i, j].reshape(-1)
    if kind in (type(constraints.corr_cholesky), type(constraints.corr_matrix)):
        i, j = torch.tril_indices(*value.shape[-2:], offset=-1)
        return value[..., i, j].reshape(-1)
    return value.reshape(-1)


@pytest.mark.parametrize("case", CASES)
def test_values_fulfil_the_constraint_and_jacobians_are_derivatives(case):
    constraint, shape, size = CASES[case]
    one = Coordinates([Variable("x", shape=shape)], {"x": Support(constraint)})
    assert one.size == size
    q = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, log_det = one.constrain(q)
    x = values["x"]
    assert x.shape == (2, 3, *shape)
    assert log_det.shape == (2, 3)
    # within rounding: a product of triangular matrices is symmetric to the last digit or so
    rounded = x.float() if case == "correlation" else x
    assert bool(constraint.check(rounded).all())
    torch.testing.assert_close(one.unconstrain(values), q, rtol=1e-7, atol=1e-7)
    step = 1e-5
    for at, told in zip(q.reshape(-1, size), log_det.reshape(-1), strict=True):
        columns = []
        for e in step * torch.eye(size).double():
            ends = [one.constrain(y[None])[0]["x"][0] for y in (at + e, at - e)]
            columns.append(free_entries(constraint, ends[0]) - free_entries(constraint, ends[1]))
        slopes = torch.stack(columns, dim=1) / (2 * step)
        # central differences: the error is of the order of the step squared
        torch.testing.assert_close(torch.linalg.slogdet(slopes)[1], told, rtol=1e-6, atol=1e-6)


# torch's stacks of maps forget in a density that they act on vectors
@pytest.mark.parametrize("case", [c for c in CASES if c != "stacked"])
def test_densities_are_those_of_transformed_distributions(case):
    """p(q) of the coordinates is that of torch's own change of variables."""
    constraint, shape, size = CASES[case]
    bijection = bijection_onto(constraint)
    one = Coordinates([Variable("x", shape=shape)], {"x": Support(constraint)})
    q = torch.randn(5, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    raw = bijection.inverse_shape(torch.Size((5, *shape)))
    base = dist.Normal(torch.zeros(raw).double(), 1.0)
    extra = len(raw) - 1
    moved = TransformedDistribution(base.to_event(extra), [bijection])
    values, log_det = one.constrain(q)
    found = moved.log_prob(values["x"]).reshape(5, -1).sum(1) + log_det
    expected = dist.Normal(0.0, 1.0).log_prob(q).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_densities_of_matrices_add_up_to_one():
    """The Wishart and LKJ densities over coordinates, summed on a grid."""
    axis = torch.linspace(-9, 9, 61).double()
    cells = float(axis[1] - axis[0]) ** 3
    grid = torch.cartesian_prod(axis, axis, axis)
    scale = torch.eye(2).double()
    for distribution, shape, points, cell in (
        (dist.Wishart(torch.tensor(4.0).double(), scale), (2, 2), grid, cells),
        (dist.LKJCholesky(2, torch.tensor(1.5).double()), (2, 2), axis[:, None], cells ** (1 / 3)),
    ):
        one = Coordinates([Variable("x", shape=shape)], {"x": Support(distribution.support)})
        values, log_det = one.constrain(points)
        with pyro.validation_enabled(False):
            total = (distribution.log_prob(values["x"]) + log_det).exp().sum() * cell
        assert float(total) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("case", CASES)
def test_maps_are_recordable(case):
    constraint, shape, size = CASES[case]
    one = Coordinates([Variable("x", shape=shape)], {"x": Support(constraint)})
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def function(points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            q = points.detach().requires_grad_()
            values, log_det = one.constrain(q)
            own = (values["x"] * weight).reshape(len(q), -1).sum(1) + log_det + 0.0 * q.sum(1)
            (slope,) = torch.autograd.grad(own.sum(), q)
        return own.detach(), slope

    points = torch.randn(4, 3, size, generator=torch.Generator().manual_seed(3)).double()
    with pyro.validation_enabled(False):
        fast = recorded(function, list(points[:3]))
        assert fast is not None
        for a, b in zip(fast(points[3]), function(points[3]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# --- supports that no tape can follow ----------------------------------------------------------


class Counted(constraints.Constraint):
    """Positive numbers, with a map of its own."""

    is_discrete, event_dim = False, 0

    def check(self, value):
        return value > 0


class ByNumber(Transform):
    """Looks at numbers, so that it cannot be written down."""

    domain, codomain, bijective = constraints.real, constraints.positive, True

    def _call(self, x):
        return x.exp() * (1.0 if float(x.detach().sum()) < 1e9 else 2.0)

    def _inverse(self, y):
        return y.log()

    def log_abs_det_jacobian(self, x, y):
        return x


@pytest.fixture
def counted():
    biject_to.register(Counted, lambda _: ByNumber())
    yield Counted()
    del biject_to._registry[Counted]


class CountedGamma(dist.Gamma):
    support = Counted()


def test_supports_that_cannot_be_recorded_work(counted):
    x = Variable("x")
    model = BayesianNetwork(
        [], {"x": Distributional(x, [], CountedGamma, concentration=3.0, rate=2.0)}
    )
    posterior = model.query("x", engine=pgnn.MCMC(warmup=100, samples=250, seed=0, progress=False))
    assert not posterior.diagnostics["compiled"]
    marginal = posterior["x"]
    assert abs(float(marginal.mean) - 1.5) < 4.5 * float(marginal.standard_error)


# --- read from models --------------------------------------------------------------------------


class Made(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, given: Mapping[str, Tensor]):
        return self.make(given)


def neural(child, parents, make):
    return pgnn.Neural(child, parents, Made(make), features=ByName())


W, X, C = Variable("w"), Variable("x"), Variable("c")


def uniform_below() -> BayesianNetwork:
    return BayesianNetwork(
        [("w", "x")],
        {
            "w": Distributional(W, [], dist.Gamma, concentration=4.0, rate=2.0),
            "x": neural(X, [W], lambda v: dist.Uniform(torch.zeros_like(v["w"]), v["w"])),
        },
    )


def test_supports_that_depend_on_reals_are_followed():
    model = uniform_below()
    supports = supports_of(model, [W, X], {})
    coordinates = Coordinates([W, X], supports)
    q = torch.tensor([[0.0, 0.0], [1.0, 2.0]]).double()
    values, log_det = coordinates.constrain(q)
    width = q[:, 0].exp()
    torch.testing.assert_close(values["x"], width * q[:, 1].sigmoid())
    logistic = q[:, 1].sigmoid() * (1 - q[:, 1].sigmoid())
    torch.testing.assert_close(log_det, q[:, 0] + (width * logistic).log())
    torch.testing.assert_close(coordinates.unconstrain(values), q)
    # what variational inference says: the prior has the log evidence zero
    engine = pgnn.Variational(
        guide=pgnn.FullRankNormal(),
        objective=pgnn.Elbo(10),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.1),
        max_iterations=150,
        tolerance=0.0,
        seed=0,
        progress=False,
    )
    found = model.query(engine=engine)
    assert -0.1 < float(found.log_evidence) < 4 * float(found.diagnostics["standard_error"])
    assert bool((found["x"].draws < found["w"].draws).all())


def test_supports_of_rows():
    """What was observed may bound a latent, if it does so in all rows alike."""
    model = BayesianNetwork(
        [("c", "x")],
        {
            "c": Gaussian(C, mean=0.0, covariance=1.0),
            "x": neural(X, [C], lambda v: dist.Uniform(v["c"], v["c"] + 1.0)),
        },
    )
    same = supports_of(model, [X], {"c": torch.tensor([2.0, 2.0])})
    assert float(same["x"].constraint.upper_bound) == 3.0
    with pytest.raises(Unsupported, match=r"'x'.*evidence of the row"):
        supports_of(model, [X], {"c": torch.tensor([2.0, 2.5])})
    with pytest.raises(Unsupported, match=r"'x'.*'w'"):
        uniform_below().query(engine=pgnn.Variational(shared="w", progress=False))


def test_states_that_change_a_support_are_refused_below_reals_too():
    k = Variable("k", 2)
    model = BayesianNetwork(
        [("k", "x"), ("w", "x")],
        {
            "k": [0.5, 0.5],
            "w": Gaussian(W, mean=0.0, covariance=1.0),
            "x": neural(X, [k, W], lambda v: dist.Uniform(v["w"], v["w"] + 1.0 + v["k"])),
        },
    )
    with pytest.raises(Unsupported, match=r"'x'.*'k'"):
        supports_of(model, [W, X], {})
    assert supports_of(model, [W, X], {"k": torch.tensor([1])})


def test_constant_supports_are_read_once():
    y = Variable("y")
    model = BayesianNetwork(
        [("x", "y")],
        {
            "x": Gaussian(X, mean=0.0, covariance=1.0),
            "y": LinearGaussian(y, [X], [1.0], 0.0, covariance=1.0),
        },
    )
    found = supports_of(model, [X, y], {})
    assert all(type(s) is Support for s in found.values())


def test_sites_keep_the_shapes_of_plates():
    low = torch.tensor([[1.0], [2.0]])

    def program():
        with pyro.plate("a", 2, dim=-2):
            u = pyro.sample("u", dist.Uniform(low, low + 1.0))
            with pyro.plate("b", 3, dim=-1):
                pyro.sample("p", dist.Dirichlet(torch.ones(4)))
        pyro.sample("y", dist.Normal(u.sum(), 1.0), obs=torch.tensor(3.0))

    model = pgnn.Program(program)
    variables = [model.variables[n] for n in ("u", "p")]
    coordinates = Coordinates(variables, supports_of(model, variables, {}), keep_dtype=True)
    assert coordinates.size == 2 + 2 * 3 * 3
    values, _ = coordinates.constrain(torch.zeros(5, coordinates.size).double())
    assert values["u"].shape == (5, *model.variables["u"].shape)
    assert values["u"][0].reshape(-1).tolist() == [1.5, 2.5]
    assert values["p"].shape == (5, 2, 3, 4)
    assert values["u"].dtype == torch.float32
    assert float(coordinates.unconstrain(values).abs().max()) < 1e-6


def test_mixtures_have_the_support_of_their_parts():
    weights = dist.Categorical(torch.ones(2).double())
    mixed = torch.distributions.MixtureSameFamily(weights, dist.Gamma(BOUNDS[:2], 1.0))
    assert float(bijection_onto(mixed.support)(torch.zeros(()))) == 1.0


class Sphere(torch.distributions.Distribution):
    """Points on a circle."""

    arg_constraints: ClassVar = {}
    support, has_rsample = constraints.sphere, False

    def __init__(self) -> None:
        super().__init__((), (2,), validate_args=False)

    def sample(self, sample_shape=()):
        return torch.tensor([1.0, 0.0]).double().expand(*sample_shape, 2)

    def log_prob(self, value):
        return torch.full(value.shape[:-1], -math.log(2 * math.pi))


@pytest.mark.parametrize("engine", [pgnn.MCMC(progress=False), pgnn.Variational(progress=False)])
def test_unknown_supports_are_named(engine):
    x = Variable("x", shape=(2,))
    model = BayesianNetwork([], {"x": Distributional(x, [], Sphere)})
    with pytest.raises(Unsupported, match=r"'x'.*Sphere"):
        model.query("x", engine=engine)
    with pytest.raises(Unsupported, match="'x' is a count"):
        Coordinates([X], {"x": Support(constraints.nonnegative_integer)})
    with pytest.raises(Unsupported, match="does not declare"):
        Coordinates([X], {"x": Support(None)})
