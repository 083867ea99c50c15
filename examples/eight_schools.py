"""Eight schools: a hierarchical model declared as a graph, with posterior samples from NUTS.

Effects of coaching (Rubin 1981): centred, with a funnel, and non-centred.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from common import arguments as read
from common import save
from torch import Tensor, nn
from torch.distributions import Distribution, HalfCauchy, Independent, Normal

import pgnn
from pgnn.factors.conditionals.neural import ByName

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)


class Normals(nn.Module):
    """Eight normals whose means and scales are functions of the parents."""

    def __init__(self, mean: Callable[..., Tensor], scale: Callable[..., Tensor]) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, given: Mapping[str, Tensor]) -> Distribution:
        """Return their joint distribution."""
        spread = torch.zeros(8).double()
        return Independent(Normal(self.mean(given) + spread, self.scale(given) + spread), 1)


def schools(centred: bool) -> pgnn.BayesianNetwork:
    """Return the model as a graph."""
    mu, tau, y = pgnn.Variable("mu"), pgnn.Variable("tau"), pgnn.Variable("y", shape=(8,))
    inner = pgnn.Variable("theta" if centred else "z", shape=(8,))
    both = [mu, tau, inner]
    spread = pgnn.Distributional(tau, [], HalfCauchy, scale=5.0)
    made = [pgnn.Gaussian(mu, mean=0.0, covariance=25.0), spread]
    if centred:
        effects = Normals(lambda v: v["mu"].unsqueeze(-1), lambda v: v["tau"].unsqueeze(-1))
        made += [pgnn.Neural(inner, [mu, tau], effects, features=ByName())]
        reports, both = Normals(lambda v: v["theta"], lambda v: ERROR), [inner]
    else:
        made += [pgnn.Gaussian(inner, mean=[0.0] * 8, form=pgnn.Diagonal())]
        around = lambda v: v["mu"].unsqueeze(-1) + v["tau"].unsqueeze(-1) * v["z"]  # noqa: E731
        reports = Normals(around, lambda v: ERROR)
    made += [pgnn.Neural(y, both, reports, features=ByName())]
    edges = [(v.name, c.child.name) for c in made for v in c.parents]
    return pgnn.BayesianNetwork(edges, {c.child.name: c for c in made})


def main(argv: list[str] | None = None, samples: int = 500) -> dict[str, float]:
    """Draw from both, print summaries, and plot the funnel."""
    options = read(__doc__ or "", argv)
    found, answers = {}, {}
    for name, centred in [("centred", True), ("non-centred", False)]:
        engine = pgnn.MCMC(samples=samples, seed=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pgnn.NotConverged)  # the centred model diverges
            posterior = schools(centred).query(evidence={"y": EFFECT}, engine=engine)
        print(name, answers.setdefault(name, posterior), sep="\n")
        found |= {f"{v}, {name}": float(posterior[v].mean) for v in ("mu", "tau")}
        found[f"divergences, {name}"] = float(posterior.diagnostics["divergences"].sum())
        found[f"size, {name}"] = posterior.diagnostics["effective_sample_size"]["tau"]
    plot(answers, options.out / "eight_schools.png")
    return found


def plot(answers: Mapping[str, pgnn.Posterior], path: Path) -> None:
    """Show the first school's effect beside the scale: a funnel."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True)
    for axis, (name, posterior) in zip(axes, answers.items(), strict=True):
        tau, mu = posterior["tau"].draws, posterior["mu"].draws
        centred = "theta" in posterior
        effect = posterior["theta"].draws.T[0] if centred else mu + tau * posterior["z"].draws.T[0]
        axis.scatter(effect, tau.log(), s=3, alpha=0.3)
        axis.set(title=name, xlabel="effect of the first school", ylabel="log tau")
    save(figure, path)


if __name__ == "__main__":
    main()
