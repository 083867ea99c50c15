"""Bayesian logistic regression three ways: Laplace's approximation, variational, and NUTS.

One program, three posteriors of its two weights in one picture. With few points the posterior
leans: the normal distribution at the mode (Laplace) sits too near to zero, the best normal one
(variational, full rank) is moved to where the mass is, chains of NUTS have the shape itself.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from common import arguments, save
from torch import Tensor

import pgnn

POINTS = 25


def regression(x: Tensor, y: Tensor) -> None:
    """Draw two weights and, given them, a class for each point."""
    weights = pyro.sample("weights", dist.Normal(0.0, 3.0 * torch.ones(2).double()).to_event(1))
    with pyro.plate("points", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ weights), obs=y)


def made_up() -> tuple[Tensor, Tensor]:
    """Draw points and classes."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(POINTS, 2, generator=rng).double()
    p = torch.sigmoid(x @ torch.tensor([2.5, -1.5]).double())
    return x, (torch.rand(POINTS, generator=rng) < p).double()


def laplace(model: pgnn.Program) -> tuple[Tensor, Tensor, Tensor]:
    """Return mode, covariance, and the approximation of the log evidence."""
    engine = pgnn.Variational(
        guide=pgnn.Delta(),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.1),
        max_iterations=250,
        seed=0,
        progress=False,
    )
    mode = model.query(engine=engine)["weights"].mean

    def value(w: Tensor) -> Tensor:
        return model.log_density({"weights": w.unsqueeze(0)})[0]

    hessian = torch.autograd.functional.hessian(value, mode)
    covariance = torch.linalg.inv(-hessian)
    log_evidence = value(mode) + 0.5 * torch.logdet(2 * torch.pi * covariance)
    return mode, covariance, log_evidence.detach()


def by_grid(model: pgnn.Program, points: Tensor) -> tuple[Tensor, float]:
    """Return the posterior density on a grid ``(G, G, 2)``, and the log evidence: the truth."""
    with torch.no_grad():
        log_p = model.log_density({"weights": points.reshape(-1, 2)}).reshape(points.shape[:2])
    cell = float((points[1, 0] - points[0, 0])[0] * (points[0, 1] - points[0, 0])[1])
    log_evidence = log_p.flatten().logsumexp(0) + torch.tensor(cell).log()
    return (log_p - log_evidence).exp(), float(log_evidence)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the log evidence by each way, and how far each mean is from the true one."""
    import matplotlib.pyplot as plt

    options = arguments(__doc__ or "", argv)
    model = pgnn.Program(regression, args=made_up())
    axis = [torch.linspace(-4, 12, 161).double(), torch.linspace(-10, 4, 141).double()]
    points = torch.stack(torch.meshgrid(*axis, indexing="ij"), dim=-1)
    density, truth = by_grid(model, points)
    mean = (points * density.unsqueeze(-1)).sum((0, 1)) / density.sum()

    mode, covariance, by_laplace = laplace(model)
    engine = pgnn.Variational(
        guide=pgnn.FullRankNormal(),
        objective=pgnn.Elbo(num_particles=10),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.995),
        max_iterations=800,
        seed=0,
        progress=False,
    )
    fitted = model.query(engine=engine)
    chains = model.query(
        engine=pgnn.MCMC(chains=4, warmup=300, samples=500, seed=0, progress=False)
    )
    own, nuts = fitted["weights"], chains["weights"]
    print(
        f"log evidence: grid {truth:.3f}, Laplace {by_laplace:.3f}, bound {fitted.log_evidence:.3f}"
    )
    for name, m in [
        ("grid", mean),
        ("Laplace", mode),
        ("variational", own.mean),
        ("NUTS", nuts.mean),
    ]:
        print(f"mean by {name}: {[round(w, 2) for w in m.tolist()]}")

    figure, axes = plt.subplots(figsize=(6, 5))
    axes.plot(*nuts.draws.T, ".", ms=2, color="0.7", label="NUTS", zorder=0)
    grid = [points[..., 0], points[..., 1]]
    axes.contour(*grid, density, 5, colors="k", linewidths=1)
    normals = {
        "Laplace": ("C1", mode, covariance),
        "variational": ("C0", own.mean, torch.cov(own.draws.T)),
    }
    for name, (colour, loc, matrix) in normals.items():
        normal = torch.distributions.MultivariateNormal(loc, matrix)
        axes.contour(*grid, normal.log_prob(points).exp(), 5, colors=colour, linewidths=1)
        axes.plot(*loc, "o", color=colour, label=name)
    axes.plot(*mean, "ks", label="truth, by a grid")
    axes.set(xlabel="first weight", ylabel="second weight", xlim=(-0.5, 7), ylim=(-5, 1))
    axes.legend(frameon=False)
    save(figure, options.out / "logistic_three_ways.png")
    plt.close(figure)
    return {
        "truth": truth,
        "laplace": float(by_laplace),
        "bound": float(fitted.log_evidence),
        "laplace_error": float((mode - mean).norm()),
        "variational_error": float((own.mean - mean).norm()),
        "nuts_error": float((nuts.mean - mean).norm()),
    }


if __name__ == "__main__":
    main()
