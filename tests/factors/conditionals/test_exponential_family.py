"""What every conditional with closed-form learning keeps to, each tried in the same ways."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from pgnn.errors import DataError, EvidenceError, ModelError
from pgnn.factors import (
    Bernoulli,
    Beta,
    Diagonal,
    ExponentialFamily,
    Full,
    Gamma,
    Gaussian,
    GaussianMixture,
    LinearGaussian,
    Multinomial,
    NormalPrior,
    NormalWishart,
    Poisson,
    Spherical,
    Tabular,
    Tied,
    Variable,
)
from pgnn.inference.learning.priors import Laplace

S, R = Variable("s", 3), Variable("r", 2)
X, X3 = Variable("x"), Variable("x", shape=(3,))
U, U2 = Variable("u"), Variable("u2", shape=(2,))
WISHART = NormalWishart(mean=0.3, confidence=2.0, degrees=5.0, scale=1.5)
MATRIX = NormalWishart([0.1, 0.2, 0.3], 0.5, 4.0, [[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0, 0.1, 1.0]])


@dataclass(frozen=True)
class Case:
    """A conditional, the kind of values of its child, and a prior."""

    make: Callable[[], ExponentialFamily]
    kind: str
    prior: Any

    def values(self, rows: int, seed: int = 0) -> dict[str, Tensor]:
        chance = torch.Generator().manual_seed(seed)
        conditional = self.make()
        shape = (rows, *conditional.child.shape)
        draw = torch.randn(shape, generator=chance, dtype=torch.float64)
        values = {
            "real": 2.0 * draw + draw.roll(1, -1) + 1.0,
            "count": (2.0 * draw.abs()).round(),
            "binary": (draw > 0.3).double(),
            "state": (draw > 0.3).long() + (draw > 1.0).long(),
        }
        out = {"x": values[self.kind]}
        for v in conditional.parents:
            if not v.is_discrete:
                more = (rows, *v.shape)
                out[v.name] = torch.randn(more, generator=chance, dtype=torch.float64) + 0.5
        return out

    def weights(self, rows: int, seed: int = 1) -> Tensor:
        chance = torch.Generator().manual_seed(seed)
        shape = (rows, *self.make().configurations)
        return torch.rand(shape, generator=chance, dtype=torch.float64)


CASES = {
    "table": Case(lambda: Tabular(Variable("x", 3), [S, R]), "state", Laplace(0.7)),
    "number": Case(lambda: Gaussian(X, [S]), "real", WISHART),
    "tied number": Case(lambda: Gaussian(X, [S], form=Tied()), "real", WISHART),
    "ridge": Case(lambda: LinearGaussian(X, [S, U2]), "real", NormalPrior(0.5)),
    "ridge of a vector": Case(lambda: LinearGaussian(X3, [S, U]), "real", NormalPrior(0.5)),
    "no parents": Case(lambda: Gaussian(X3), "real", WISHART),
    "full": Case(lambda: Gaussian(X3, [S, R]), "real", MATRIX),
    "tied": Case(lambda: Gaussian(X3, [S, R], form=Tied()), "real", MATRIX),
    "diagonal": Case(lambda: Gaussian(X3, [S, R], form=Diagonal()), "real", MATRIX),
    "spherical": Case(lambda: Gaussian(X3, [S], form=Spherical()), "real", MATRIX),
    "poisson": Case(lambda: Poisson(X, [S]), "count", Gamma(1.5, 0.5)),
    "counts": Case(lambda: Poisson(X3, [S, R]), "count", Gamma(1.5, 0.5)),
    "bernoulli": Case(lambda: Bernoulli(X, [S]), "binary", Beta(2.0, 0.5)),
    "bits": Case(lambda: Bernoulli(X3, [S, R]), "binary", Beta(2.0, 0.5)),
    "states": Case(lambda: Bernoulli(Variable("x", 2, shape=(3,)), [S]), "binary", Beta()),
    "multinomial": Case(lambda: Multinomial(X3, [S, R]), "count", Laplace(0.7)),
    "regression": Case(lambda: LinearGaussian(X, [S, U2]), "real", WISHART),
    "regressions": Case(lambda: LinearGaussian(X3, [U2, S, U]), "real", MATRIX),
    "tied regressions": Case(lambda: LinearGaussian(X3, [S, U], form=Tied()), "real", MATRIX),
    "diagonal regressions": Case(
        lambda: LinearGaussian(X3, [S, U], form=Diagonal()), "real", MATRIX
    ),
    "spherical regressions": Case(
        lambda: LinearGaussian(X3, [S, R, U], form=Spherical()), "real", MATRIX
    ),
    "regression on nothing": Case(lambda: LinearGaussian(X3, [S]), "real", MATRIX),
    "mixture": Case(lambda: GaussianMixture(X3, [S], 2), "real", MATRIX),
}
EXACT = [name for name in CASES if name != "mixture"]
REAL = [name for name, case in CASES.items() if case.kind == "real"]
SIX = ["full", "tied", "diagonal", "counts", "bits", "spherical regressions"]
EMISSIONS = [name for name in CASES if name != "table"]


def log_likelihood(c: ExponentialFamily, values: dict[str, Tensor], weights: Tensor) -> Tensor:
    table = c.factor(values).log_values
    return (table * weights).sum()


def climbed(c: ExponentialFamily, objective: Callable[[], Tensor]) -> float:
    """What a numeric optimiser reaches from where the conditional is."""
    parameters = list(c.parameters())
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -objective()
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(objective().detach())


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_fit_is_the_maximum(name: str, with_prior: bool) -> None:
    case = CASES[name]
    values, weights = case.values(60), case.weights(60)
    prior = case.prior if with_prior else None
    c = case.make()
    other = case.make()
    c.maximize(c.statistics(values, weights), prior)
    best = log_likelihood(c, values, weights) + c.log_prior(prior)
    best.backward()
    for p in filter(Tensor.numel, c.parameters()):
        assert p.grad.abs().max() < 1e-9 * weights.sum()
    reached = climbed(
        other, lambda: log_likelihood(other, values, weights) + other.log_prior(prior)
    )
    assert reached == pytest.approx(float(best.detach()), abs=1e-6)
    assert reached <= float(best.detach()) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_statistics_add_up(name: str) -> None:
    case = CASES[name]
    values, weights = case.values(40), case.weights(40)
    c = case.make()
    c.initialize(values, 0)
    whole = c.statistics(values, weights)
    parts = [
        c.statistics({n: x[rows] for n, x in values.items()}, weights[rows])
        for rows in (slice(0, 13), slice(13, 13), slice(13, 40))
    ]
    for total, *pieces in zip(whole, *parts, strict=True):
        torch.testing.assert_close(total, sum(pieces), rtol=1e-12, atol=1e-12)
        assert total.dtype == torch.float64
        assert not total.requires_grad
    once, thrice = copy.deepcopy(c), copy.deepcopy(c)
    once.maximize(whole)
    thrice.maximize(tuple(3.0 * s for s in whole))
    for p, q in zip(once.parameters(), thrice.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", EMISSIONS)
def test_missing_rows_contribute_nothing(name: str) -> None:
    case = CASES[name]
    values, weights = case.values(20), case.weights(20)
    c = case.make()
    c.initialize(values, 0)
    holes = {**values, "x": values["x"].double().clone()}
    holes["x"][[0, 7, 19]] = torch.nan
    kept = torch.ones(20, dtype=torch.bool)
    kept[[0, 7, 19]] = False
    observed = c.statistics({n: x[kept] for n, x in values.items()}, weights[kept])
    for a, b in zip(c.statistics(holes, weights), observed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    table = c.factor(holes).log_values
    assert (table[~kept] == 0).all()
    torch.testing.assert_close(table[kept], c.factor(values).log_values[kept])
    assert holes["x"].isnan().any()


def test_states_not_observed_contribute_nothing() -> None:
    c = Tabular(Variable("x", 3), [R])
    values = {"x": torch.tensor([2, -1, 0])}
    weights = torch.tensor([[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]])
    assert c.statistics(values, weights)[0].tolist() == [[16, 0, 1], [32, 0, 2]]


@pytest.mark.parametrize("name", CASES)
def test_what_was_not_counted_keeps_its_numbers(name: str) -> None:
    case = CASES[name]
    values, weights = case.values(30), case.weights(30)
    c = case.make()
    c.initialize(values, 3)
    before = copy.deepcopy(c)
    if c.configurations:
        weights[:, 1] = 0.0
    c.maximize(c.statistics(values, weights))
    moved = False
    for (key, p), q in zip(c.named_parameters(), before.parameters(), strict=True):
        assert p.isfinite().all()
        if c.configurations and p.shape[: len(c.configurations)] == c.configurations:
            assert torch.equal(p[1], q[1]), key
            moved |= not torch.equal(p, q)
    assert moved or not c.configurations
    c.maximize(tuple(torch.zeros_like(s) for s in c.statistics(values, weights)))
    assert all(p.isfinite().all() for p in c.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_start_tells_configurations_apart_and_is_repeatable(name: str) -> None:
    case = CASES[name]
    values = case.values(50)
    first, second, other = case.make(), case.make(), case.make()
    state = torch.get_rng_state()
    first.initialize(values, 5)
    second.initialize(values, 5)
    other.initialize(values, 6)
    assert torch.equal(state, torch.get_rng_state())
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)
    if first.configurations:
        assert any(
            not torch.equal(p, q)
            for p, q in zip(first.parameters(), other.parameters(), strict=True)
        )
    table = first.factor(values).log_values.detach().reshape(50, -1)
    if name == "table":
        table = first.log_probs.detach().reshape(-1, 3).t()
    gaps = (table[:, :, None] - table[:, None, :]).abs().amax(dim=0)
    gaps += torch.eye(len(gaps), dtype=torch.float64)
    assert gaps.min() > 1e-3


@pytest.mark.parametrize("name", SIX)
def test_more_configurations_than_distinct_rows_still_differ(name: str) -> None:
    case = CASES[name]
    values = {n: x.repeat_interleave(5, dim=0) for n, x in case.values(4, seed=1).items()}
    c = case.make()
    c.initialize(values, 0)
    table = c.factor(values).log_values.detach().reshape(20, -1)
    gaps = (table[:, :, None] - table[:, None, :]).abs().amax(dim=0)
    assert (gaps + torch.eye(len(gaps), dtype=torch.float64)).min() > 1e-6


def test_structural_zeros_get_no_pseudo_counts_and_are_never_counted() -> None:
    c = Tabular(Variable("x", 3), [R], [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]).requires_grad_()
    counts = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    c.maximize((counts,), Laplace(1.0))
    third = 1 / 3
    expected = [[4 / 6, 2 / 6, 0.0], [third, third, third]]
    torch.testing.assert_close(c.probs, torch.tensor(expected, dtype=torch.float64))
    assert c.log_prior(Laplace(1.0)).isfinite()
    c.initialize({}, 0)
    assert c.probs[0, 2] == 0
    counts[0, 2] = 4.0
    with pytest.raises(DataError, match="'x' = 2 given 'r' = 0 was declared to be zero"):
        c.maximize((counts,), Laplace(1.0))


def test_expected_counts_of_a_hidden_child() -> None:
    c = Tabular(Variable("x", 3), [R])
    weights = torch.rand(7, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(c.statistics({}, weights)[0], weights.sum(0))
    with pytest.raises(DataError, match=r"must have shape \(7, 2, 3\)"):
        c.statistics({}, weights[..., 0])


@pytest.mark.parametrize("name", EMISSIONS)
def test_a_start_bears_holes_and_fewer_rows_than_configurations(name: str) -> None:
    case = CASES[name]
    values = case.values(4)
    values["x"] = values["x"].double()
    values["x"][1] = torch.nan
    if values["x"].dim() > 1:
        values["x"][2, 0] = torch.nan
    c = case.make()
    c.initialize(values, 0)
    assert all(p.isfinite().all() for p in c.parameters())
    values["x"][:] = torch.nan
    with pytest.raises(DataError, match="'x' was not observed in any row"):
        c.initialize(values, 0)


@pytest.mark.parametrize("name", CASES)
def test_constants_stay(name: str) -> None:
    case = CASES[name]
    values, weights = case.values(30), case.weights(30)
    c = case.make().requires_grad_(False)
    before = copy.deepcopy(c.state_dict())
    c.maximize(c.statistics(values, weights), case.prior)
    for key, p in c.named_parameters():
        assert torch.equal(p, before[key])


@pytest.mark.parametrize("name", CASES)
def test_wrong_weights_and_priors_are_refused(name: str) -> None:
    case = CASES[name]
    values, weights = case.values(5), case.weights(5)
    c = case.make()
    with pytest.raises(DataError, match="must have shape"):
        c.statistics(values, weights[:4])
    with pytest.raises(DataError, match="must have shape"):
        c.statistics(values, weights.unsqueeze(-1))
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="finite and not negative"):
            c.statistics(values, weights.fill_(bad))
    with pytest.raises(ModelError, match="prior of the"):
        c.maximize(c.statistics(values, case.weights(5)), 3.0)


@pytest.mark.parametrize("name", EMISSIONS)
def test_factor_and_distribution_agree(name: str) -> None:
    case = CASES[name]
    values = case.values(25)
    c = case.make()
    c.initialize(values, 0)
    table = c.factor(values).log_values.detach()
    assert table.shape == (25, *c.configurations)
    grid = torch.ones(c.configurations).nonzero()
    discrete = [v.name for v in c.parents if v.is_discrete]
    for row in grid:
        states = {n: k.expand(25) for n, k in zip(discrete, row, strict=True)}
        dist = c.distribution({**values, **states})
        x = values["x"].long() if c.child.is_discrete else values["x"]
        expected = dist.log_prob(x)
        torch.testing.assert_close(table[(slice(None), *row)], expected, rtol=1e-12, atol=1e-11)
        at = c.factor({**values, **states})
        assert at.variables == ()
        torch.testing.assert_close(at.log_values, expected, rtol=1e-12, atol=1e-11)
        assert dist.sample().shape[-len(c.child.shape) :] == c.child.shape or not c.child.shape


@pytest.mark.parametrize("name", EMISSIONS)
def test_float32_and_no_rows(name: str) -> None:
    case = CASES[name]
    values = case.values(10)
    c = case.make()
    c.initialize(values, 0)
    exact = c.factor(values).log_values
    c.float()
    rough = c.factor(values).log_values
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), exact, rtol=1e-4, atol=1e-4)
    c.maximize(c.statistics(values, case.weights(10)))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in c.parameters())
    none = {n: x[:0] for n, x in values.items()}
    assert c.factor(none).log_values.shape == (0, *c.configurations)
    c.statistics(none, case.weights(0))


@pytest.mark.parametrize("name", EMISSIONS)
def test_wrong_shapes_are_refused(name: str) -> None:
    case = CASES[name]
    values = case.values(6)
    c = case.make()
    with pytest.raises(EvidenceError, match="shape"):
        c.factor({**values, "x": values["x"].unsqueeze(-1)})
    with pytest.raises(EvidenceError, match="shape"):
        c.statistics({**values, "x": values["x"].unsqueeze(-1)}, case.weights(6))
    with pytest.raises(EvidenceError, match="needs a value"):
        c.statistics({n: x for n, x in values.items() if n != "x"}, case.weights(6))


@pytest.mark.parametrize("name", REAL)
def test_no_covariance_collapses(name: str) -> None:
    case = CASES[name]
    values, weights = case.values(1), case.weights(1)
    c = case.make()
    c.maximize(c.statistics(values, weights))
    covariance = getattr(c, "components", c).covariance.detach()
    least = torch.linalg.eigvalsh(covariance).min() if c.child.shape else covariance.min()
    assert least > 0.99e-6
    assert c.factor(values).log_values.isfinite().all()


def test_forms_refuse_senseless_floors() -> None:
    for form in (Full, Tied, Diagonal, Spherical):
        with pytest.raises(ModelError, match="min_variance"):
            form(0.0)


@pytest.mark.parametrize("name", CASES)
def test_statistics_tell_the_likelihood(name: str) -> None:
    """Where they tell it, it is that of the rows."""
    case = CASES[name]
    values, weights = case.values(40), case.weights(40)
    c = case.make()
    c.initialize(values, 0)
    total = weights.reshape(40, -1).sum(dim=1)
    told = c.log_likelihood(c.statistics(values, weights), values, total)
    if told is None:
        assert name in TELLS_NOT
        return
    expected = float(log_likelihood(c, values, weights).detach())
    assert float(told) == pytest.approx(expected, rel=1e-10)


TELLS_NOT = {
    "ridge",
    "ridge of a vector",
    "table",
    "mixture",
    *(n for n in CASES if "regression" in n),
}
