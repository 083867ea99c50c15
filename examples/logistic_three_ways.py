"""Bayesian logistic regression by the Laplace approximation, variational inference, and NUTS.

With few data, the posterior of the two weights is skewed. The normal distribution at the mode is
too close to zero, and the best normal approximation is centred on the mass of the posterior. NUTS
samples from the posterior itself.
"""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import torch
from common import arguments, save
from torch import Tensor
from torch.optim import Adam

import pgnn


def regression(x: Tensor, y: Tensor) -> None:
    """Draw two weights and, given them, a class for each point."""
    weights = pyro.sample("weights", dist.Normal(0.0, 3.0 * torch.ones(2).double()).to_event(1))
    with pyro.plate("points", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ weights), obs=y)


def made_up() -> tuple[Tensor, Tensor]:
    """Draw points and classes."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(25, 2, generator=rng).double()
    p = torch.sigmoid(x @ torch.tensor([2.5, -1.5]).double())
    return x, (torch.rand(25, generator=rng) < p).double()


def laplace(model: pgnn.Program) -> tuple[Tensor, Tensor]:
    """Return the mode, and the covariance of the Laplace approximation there."""
    fast = partial(Adam, lr=0.1)
    engine = pgnn.Variational(pgnn.Delta(), optimizer=fast, seed=0)
    mode = model.query(engine=engine)["weights"].mean

    def value(w: Tensor) -> Tensor:
        return model.log_density({"weights": w.unsqueeze(0)})[0]

    return mode, torch.linalg.inv(-torch.autograd.functional.hessian(value, mode))


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the log evidence and its bound, and how far each mean is from the true one."""
    import matplotlib.pyplot as plt

    options, model = arguments(__doc__ or "", argv), pgnn.Program(regression, args=made_up())
    axis = torch.linspace(-4, 12, 161).double(), torch.linspace(-10, 4, 141).double()
    points = torch.stack(torch.meshgrid(*axis, indexing="ij"), dim=-1)  # reference on a grid
    with torch.no_grad():
        log_p = model.log_density({"weights": points.reshape(-1, 2)}).reshape(161, 141)
    share = log_p.flatten().softmax(0).reshape(161, 141)
    mean, truth = (points * share[..., None]).sum((0, 1)), float((log_p.exp() * 0.01).sum().log())

    mode, covariance = laplace(model)
    parts = pgnn.FullRankNormal(), pgnn.Elbo(num_particles=10), partial(Adam, lr=0.05)
    fade = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.995)
    fitted = model.query(engine=pgnn.Variational(*parts, fade, seed=0))
    nuts = model.query(engine=pgnn.MCMC(warmup=300, samples=500, seed=0))["weights"]
    own = fitted["weights"]

    figure, axes = plt.subplots(figsize=(6, 5))
    axes.plot(*nuts.draws.T, ".", ms=2, color="0.7", label="NUTS", zorder=0)
    axes.contour(points[..., 0], points[..., 1], share, 5, colors="k", linewidths=1)
    normals = {"Laplace": (mode, covariance), "variational": (own.mean, torch.cov(own.draws.T))}
    for colour, (name, (loc, matrix)) in zip(("C1", "C0"), normals.items(), strict=True):
        density = torch.distributions.MultivariateNormal(loc, matrix).log_prob(points).exp()
        axes.contour(points[..., 0], points[..., 1], density, 5, colors=colour, linewidths=1)
        axes.plot(*loc, "o", color=colour, label=name)
    axes.plot(*mean, "ks", label="truth, by a grid")
    axes.set(xlabel="first weight", ylabel="second weight", xlim=(-0.5, 7), ylim=(-5, 1))
    axes.legend()
    save(figure, options.out / "logistic_three_ways.png")
    means = {"laplace": mode, "variational": own.mean, "nuts": nuts.mean}
    found = {f"{name}_error": float((m - mean).norm()) for name, m in means.items()}
    found |= {"truth": truth, "bound": float(fitted.log_evidence)}
    print(found)
    return found


if __name__ == "__main__":
    main()
