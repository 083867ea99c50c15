"""Most probable values of real variables where a model recognises them, or decodes them."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn.errors import Unsupported


def linear(head: Any = None, wide: int = 3) -> pgnn.VAE:
    """Two latent numbers behind three: all is normal, and has a closed form."""
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(2, wide).double()
    return pgnn.VAE(encoder, decoder, head or pgnn.NormalHead((3,), 0.5), latent=2)


def rows(*, holes: bool = False) -> Tensor:
    x = torch.tensor([[1.0, -0.5, 0.3], [0.2, 2.0, -1.0]], dtype=torch.float64)
    x[0, 1] = torch.nan if holes else x[0, 1]
    return x


def posterior_mean(model: pgnn.VAE, x: Tensor) -> Tensor:
    """The mean of z given what was seen of x = W z + b + noise of deviation one half."""
    decoder: Any = model.conditionals["x"]
    w, b = decoder.module.weight.detach(), decoder.module.bias.detach()
    means = []
    for row in x:
        seen = ~row.isnan()
        part = w[seen]
        precision = torch.eye(2, dtype=torch.float64) + 4.0 * part.T @ part
        means.append(torch.linalg.solve(precision, 4.0 * part.T @ (row - b)[seen]))
    return torch.stack(means)


@pytest.mark.parametrize("holes", [False, True])
def test_codes_are_at_the_mode_of_their_posterior(holes: bool) -> None:
    model, x = linear(), rows(holes=holes)
    best = model.most_probable({"x": x})
    torch.testing.assert_close(best["z"], posterior_mean(model, x), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(best.log_prob, model.log_prob({"x": x, "z": best["z"]}).detach())
    assert best.engine == "Variational"
    named = model.most_probable({"x": x}, "z", engine=pgnn.Variational(progress=False))
    torch.testing.assert_close(named["z"], best["z"], atol=1e-5, rtol=0.0)


def test_data_is_at_the_mode_of_what_is_decoded() -> None:
    model, z = linear(), torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(model.most_probable({"z": z})["x"], model.decode(z).mean.detach())
    bits = linear(pgnn.BernoulliHead((3,)))
    best = bits.most_probable({"z": z[0]}, "x")["x"]
    assert torch.equal(best, (bits.decode(z).mean[0] > 0.5).double())
    partly = bits.most_probable(
        {"z": z, "x": torch.tensor([[1.0 - float(best[0]), *[torch.nan] * 2]])}
    )
    assert partly["x"][0].tolist() == [1.0 - float(best[0]), *best[1:].tolist()]


def test_what_is_not_maximised_says_what_to_do() -> None:
    model = linear(pgnn.DiscretisedLogisticHead((3,), 4), 6)
    z = torch.zeros(1, 2)
    with pytest.raises(Unsupported, match=r"does not define its mode.*query"):
        model.most_probable({"z": z}, engine=pgnn.Variational(progress=False))
    guide = pgnn.Variational(guide=pgnn.MeanFieldNormal(), progress=False)
    with pytest.raises(Unsupported, match=r"guide=Delta\(\)\) finds the most probable reals"):
        model.most_probable({"x": rows()}, engine=guide)
    y, x = pgnn.Variable("y", 2), pgnn.Variable("x", shape=(2,))
    mixed = pgnn.BayesianNetwork(
        [("y", "x")],
        [pgnn.Tabular(y, []), pgnn.Neural(x, [y], nn.Linear(2, 4), head=pgnn.NormalHead((2,)))],
    )
    with pytest.raises(Unsupported, match="states and real values"):
        mixed.most_probable({}, engine=pgnn.Variational(progress=False))


@pytest.mark.parametrize("seed", [7, 24])
def test_rounding_of_single_precision_is_not_a_missing_convergence(seed: int) -> None:
    torch.manual_seed(seed)
    images = (torch.rand(2, 8, 8) < 0.3).float()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 64))
    vae = pgnn.VAE(encoder, decoder, pgnn.BernoulliHead((8, 8)), latent=4)
    codes = vae.most_probable({"x": images})["z"]  # warnings are errors
    twin = vae.double().most_probable({"x": images.double()})["z"]
    torch.testing.assert_close(codes.double(), twin, atol=2e-3, rtol=0.0)


def test_an_ascent_that_ends_early_is_told() -> None:
    with pytest.warns(pgnn.NotConverged, match="raise max_iterations"):
        linear().most_probable({"x": rows()}, engine=pgnn.Variational(max_iterations=1))


def test_many_rows_do_not_hide_that_the_limit_was_reached() -> None:
    torch.manual_seed(7)
    decoder = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 64))
    vae = pgnn.VAE(nn.Linear(64, 8), decoder, pgnn.BernoulliHead((64,)), latent=4)
    images = (torch.rand(2000, 64) < 0.3).float()
    with pytest.warns(pgnn.NotConverged, match="raise max_iterations"):
        vae.most_probable({"x": images}, engine=pgnn.Variational(max_iterations=4))


def test_states_are_summed_out_where_the_targets_are_real() -> None:
    values = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.5], dtype=torch.float64)

    def mixture() -> None:
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(torch.tensor([0.0, 10.0]).double(), 5.0))
        with pyro.plate("rows", len(values)):
            z = pyro.sample("z", dist.Categorical(prior))
            pyro.sample("y", dist.Normal(locs[z], 2.0), obs=values)

    program, engine = pgnn.Program(mixture), pgnn.Variational(seed=0, progress=False)
    with pytest.raises(Unsupported, match=r"pass only real variables as targets=.*summed out"):
        program.most_probable(engine=engine)
    with pytest.raises(Unsupported, match="pass only real variables as targets="):
        program.most_probable(targets=["z", "locs"], engine=engine)
    best = program.most_probable(targets="locs", engine=engine)
    locs = best["locs"]
    assert list(best) == ["locs"]

    def log_joint(at: Tensor) -> Tensor:
        likelihood = prior.log() + dist.Normal(at, 2.0).log_prob(values[:, None])
        start = torch.tensor([0.0, 10.0], dtype=torch.float64)
        return likelihood.logsumexp(1).sum() + dist.Normal(start, 5.0).log_prob(at).sum()

    torch.testing.assert_close(best.log_prob, log_joint(locs))
    for step in (0.05, -0.05):
        for k in range(2):
            assert float(log_joint(locs + step * torch.eye(2)[k])) < float(best.log_prob)


def two_means(*, float_type: torch.dtype = torch.float64) -> pgnn.Program:
    """Two exchangeable means, whose density has a saddle point where they are equal."""
    values = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0], dtype=float_type)
    prior = dist.Normal(torch.zeros((), dtype=float_type), 10.0)

    def mixture() -> None:
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", prior)
        with pyro.plate("rows", len(values)):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5, dtype=float_type)))
            pyro.sample("y", dist.Normal(locs[z.long()], 1.0), obs=values)

    return pgnn.Program(mixture)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("float_type", [torch.float32, torch.float64])
def test_exchangeable_variables_leave_the_saddle_point(seed: int, float_type: torch.dtype) -> None:
    program = two_means(float_type=float_type)
    best = program.most_probable(targets="locs", engine=pgnn.Variational(seed=seed))
    saddle = program.log_prob({"locs": [6.7729, 6.7729]})
    assert float(saddle) < -78.0
    # Pyro 1.9.2, AutoDelta from init_to_sample
    assert float(best.log_prob) == pytest.approx(-16.3577, abs=1e-3)
    assert sorted(best["locs"].tolist()) == pytest.approx([0.4975, 10.9635], abs=1e-3)
    assert (int(best.diagnostics["starts"]), int(best.diagnostics["reached_by"])) == (4, 3)
    again = program.most_probable(targets="locs", engine=pgnn.Variational(seed=seed))
    assert torch.equal(best["locs"], again["locs"])


def test_each_row_keeps_the_best_of_its_own_starts() -> None:
    a, x = pgnn.Variable("a"), pgnn.Variable("x")

    class Square(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return (a - 0.3).square()

    model = pgnn.BayesianNetwork(
        [("a", "x")],
        [
            pgnn.Gaussian(a, mean=3.0, covariance=4.0),
            pgnn.Neural(x, [a], Square(), head=pgnn.NormalHead((), 0.1)),
        ],
    ).double()
    rows = torch.tensor([4.0, 9.0, 0.0], dtype=torch.float64)
    best = model.most_probable({"x": rows}, "a", engine=pgnn.Variational(seed=1))
    assert best.diagnostics["starts"].tolist() == [5, 5, 3]
    grid = torch.linspace(-6.0, 6.0, 24001, dtype=torch.float64)
    for row, value in zip(rows, best["a"], strict=True):
        log_joint = dist.Normal(3.0, 2.0).log_prob(grid) + dist.Normal(
            Square()(grid), 0.1
        ).log_prob(row)
        assert float(value) == pytest.approx(float(grid[log_joint.argmax()]), abs=1e-3)
