"""Exact inference and maximum likelihood for a Pyro mixture, without a guide.

The standard mixture model: a plate of data, an assignment for each point, and the means and weights
as ``pyro.param``. The assignments form one array variable with an exact posterior. The parameters
are learned from gradients of the exact log-likelihood. Pyro's parameter store is left unchanged.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from common import arguments, save
from torch import Tensor

import pgnn

POINTS, PARTS = 600, 3


def mixture(data: Tensor) -> None:
    """Assign each point to a part and draw it there."""
    weights = pyro.param(
        "weights", torch.full((PARTS,), 1 / PARTS).double(), dist.constraints.simplex
    )
    means = pyro.param("means", torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).double())
    scales = pyro.param("scales", torch.ones(PARTS, 2).double(), dist.constraints.positive)
    with pyro.plate("points", len(data)):
        part = pyro.sample("part", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(means[part], scales[part]).to_event(1), obs=data)


def made_up() -> tuple[Tensor, Tensor]:
    """Draw points around three places, and tell which."""
    rng = torch.Generator().manual_seed(0)
    part = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), POINTS, True, generator=rng)
    places = torch.tensor([[-2.0, -1.0], [0.5, 2.0], [2.0, -0.5]])
    noise = torch.randn(POINTS, 2, generator=rng) * torch.tensor([0.9, 0.6])
    return (places[part] + noise).double(), part


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Return the log likelihood before and after, and the share of points given to their part."""
    import matplotlib.pyplot as plt

    options = arguments(__doc__ or "", argv)
    data, truth = made_up()
    model = pgnn.Program(mixture, args=(data,))
    print(model, model.variables["part"])
    before = model.log_prob({})
    model.fit(progress=False)
    print(f"log likelihood {before:.1f} -> {model.log_prob({}):.1f}")
    posterior = model.query("part")
    print(f"kind of the answer: {posterior.kind}; Pyro's store: {[*pyro.get_param_store().keys()]}")
    probs = posterior["part"].probs.detach()
    right = float((probs.argmax(-1) == truth).double().mean())
    print(f"points given to the part they came from: {right:.1%}")
    print("first point:", model.query(("part", 0))["part", 0].probs.detach())

    figure, axes = plt.subplots(figsize=(5, 5))
    axes.scatter(*data.T, c=probs.clamp(0, 1).numpy(), s=12)
    axes.set(title="assignments: the colours are mixed by probability", aspect="equal")
    save(figure, options.out / "program_mixture.png")
    plt.close(figure)
    return {"before": before.item(), "after": model.log_prob({}).item(), "right": right}


if __name__ == "__main__":
    main()
