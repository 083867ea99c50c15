"""Doubly reparameterised gradients of importance weighted bounds, against plain ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import pgnn
from pgnn import BayesianNetwork, Gaussian, LinearGaussian, Variable
from pgnn.errors import Unsupported
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guides import Guide, LowRankNormal, MeanFieldNormal
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.objective import Elbo, ImportanceWeighted, Objective, Renyi
from pgnn.inference.model_reader import reader_of

X, Y, W = Variable("x"), Variable("y"), Variable("w")


def model() -> BayesianNetwork:
    """w -> x -> y and w -> y; the slope of x can learn."""
    return BayesianNetwork(
        [("w", "x"), ("x", "y"), ("w", "y")],
        {
            "w": Gaussian(W, mean=0.3, covariance=1.5),
            "x": LinearGaussian(X, [W], None, 0.0, covariance=0.7),
            "y": LinearGaussian(Y, [X, W], [1.0, 0.5], 0.0, covariance=0.5),
        },
    )


def model_and_guide(rows: Tensor, guide: Guide, shared=(), weights=None) -> ModelAndGuide:
    own = model()
    with torch.no_grad():
        own.conditionals["x"].weight.fill_(0.7)
    density = SummedDensity(own, reader_of(own).read({"y": rows}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ModelAndGuide.of(density, guide, shared, weights)


def gradients(objective: Objective, repeats: int, guide: Guide, seed: int) -> Tensor:
    """``(repeats, P)``: each row of evidence has parameters and draws of its own."""
    problem = model_and_guide(torch.full((repeats,), 0.7).double(), guide)
    with torch.no_grad():
        for p in problem.parts.parameters():
            p += 0.3 * torch.linspace(-1.0, 1.0, p[0].numel()).reshape(p[0].shape)
    drawn = problem.weighted(objective, make_generator(seed))
    total = problem.total(drawn, objective)
    found = torch.autograd.grad(total, [*problem.parts.parameters()])
    return torch.cat([g.reshape(repeats, -1) for g in found], 1)


@pytest.mark.parametrize("guide", [MeanFieldNormal(0.8), LowRankNormal(1, 0.8)])
@pytest.mark.parametrize(
    ("make", "alpha"), [(ImportanceWeighted, 0.0), (Renyi, 0.5), (Renyi, 1.0), (Renyi, -1.0)]
)
def test_unbiased_with_less_noise(make, alpha, guide):
    settings = {} if make is ImportanceWeighted else {"alpha": alpha}
    doubly = gradients(make(8, doubly_reparameterised=True, **settings), 20_000, guide, 1)
    plain = gradients(make(8, **settings), 20_000, guide, 2)
    error = (doubly.var(0) / len(doubly) + plain.var(0) / len(plain)).sqrt()
    # each of up to 6 numbers in 8 cases passes 4.5 standard errors once in 3,000 runs of them all
    assert bool(((doubly.mean(0) - plain.mean(0)).abs() < 4.5 * error).all())
    if alpha >= 0:  # squares of weights are so uneven that nothing is gained
        assert float(doubly.var(0).sum()) < 0.8 * float(plain.var(0).sum())


def test_the_noise_of_plain_gradients_outgrows_them():
    """The ratio of signal to noise falls with more draws (Rainforth et al. 2018)."""

    def ratio(draws: int, doubly: bool) -> float:
        objective = ImportanceWeighted(draws, doubly_reparameterised=doubly)
        found = gradients(objective, 4000, MeanFieldNormal(0.8), 3)
        return float(found.mean(0).norm() / found.var(0).sum().sqrt())

    assert ratio(64, False) < ratio(4, False)
    assert ratio(64, True) > 1.3 * ratio(64, False)


def test_one_draw_is_the_evidence_lower_bound():
    for seed in (1, 2):
        one = gradients(
            ImportanceWeighted(1, doubly_reparameterised=True), 50, MeanFieldNormal(), seed
        )
        other = gradients(Elbo(1, path_only=True), 50, MeanFieldNormal(), seed)
        torch.testing.assert_close(one, other)
        many = gradients(Renyi(5, 1.0, doubly_reparameterised=True), 50, MeanFieldNormal(), seed)
        other = gradients(Elbo(5, path_only=True), 50, MeanFieldNormal(), seed)
        torch.testing.assert_close(many, other)


def test_the_models_gradient_is_the_plain_one():
    """What does not go through the draws is left alone."""
    found = []
    for doubly in (False, True):
        objective = ImportanceWeighted(5, doubly_reparameterised=doubly)
        problem = model_and_guide(torch.tensor([0.7, -0.2]).double(), MeanFieldNormal())
        total = problem.total(problem.weighted(objective, make_generator(0)), objective)
        found.append(torch.autograd.grad(total, problem.density.model.conditionals["x"].weight)[0])
    torch.testing.assert_close(*found)
    assert float(found[0].abs().max()) > 1e-3


@pytest.mark.parametrize("counts", [None, torch.tensor([1.0, 3.0]).double()])
def test_unbiased_where_rows_share_latents(counts):
    rows = torch.tensor([0.7, -0.4]).double()

    problem = model_and_guide(rows, MeanFieldNormal(0.6), ("w",), counts)

    def one(doubly: bool, seed: int) -> Tensor:
        objective = ImportanceWeighted(6, doubly_reparameterised=doubly)
        total = problem.total(problem.weighted(objective, make_generator(seed)), objective)
        found = torch.autograd.grad(total, [*problem.parts.parameters()])
        return torch.cat([g.reshape(-1) for g in found])

    doubly, plain = (torch.stack([one(d, s) for s in range(400)]) for d in (True, False))
    # the same draws: differences have less noise
    apart = doubly - plain
    error = apart.std(0) / math.sqrt(len(apart))
    assert bool((apart.mean(0).abs() < 4.5 * error).all())
    assert not torch.equal(doubly, plain)


@pytest.mark.parametrize("doubly", [False, True])
def test_at_the_posterior_the_gradient_vanishes_whatever_the_draws(doubly):
    """x ~ N(1, 2), y = 2 ~ N(0.5 x, 0.5): the posterior is N(2.5, 1)."""
    y = LinearGaussian(Y, [X], [0.5], 0.0, covariance=0.5)
    line = BayesianNetwork([("x", "y")], {"x": Gaussian(X, mean=1.0, covariance=2.0), "y": y})
    density = SummedDensity(line, reader_of(line).read({"y": 2.0}))
    problem = ModelAndGuide.of(density, MeanFieldNormal(1.0), ())
    location, _ = parameters = [*problem.parts.parameters()]
    with torch.no_grad():
        location += 2.5
    objective = ImportanceWeighted(5, doubly_reparameterised=doubly)
    drawn = problem.weighted(objective, make_generator(0))
    found = torch.autograd.grad(problem.total(drawn, objective), parameters)
    largest = max(float(g.abs().max()) for g in found)
    assert largest < 1e-9 if doubly else largest > 1e-2


def test_a_programs_own_guide_has_none():
    import pyro
    import pyro.distributions as dist

    def program():
        pyro.sample("x", dist.Normal(0.0, 1.0))

    own = pgnn.Program(program, program)
    engine = pgnn.Variational(
        objective=ImportanceWeighted(2, doubly_reparameterised=True), progress=False
    )
    with pytest.raises(Unsupported, match="in place of the program's guide"):
        own.query(engine=engine)
