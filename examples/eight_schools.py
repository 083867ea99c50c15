"""Eight schools: a hierarchical model declared as a graph, its posterior drawn by NUTS.

How much does coaching help? Eight schools report an effect and its standard error (Rubin 1981).
The schools' true effects are alike, but how much alike is unknown. The model is declared twice:
centred, with a funnel that chains get stuck in, and with the scale taken out, which they like.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, HalfCauchy, Independent, Normal

import pgnn
from pgnn.factors.neural import ByName

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)


class Effects(nn.Module):
    """True effects of the schools, around a common mean."""

    def forward(self, given: Mapping[str, Tensor]) -> Distribution:
        """Return the distribution of eight effects."""
        mean, scale = given["mu"].unsqueeze(-1), given["tau"].unsqueeze(-1)
        return Independent(Normal(mean.expand(-1, 8), scale.expand(-1, 8)), 1)


class Reports(nn.Module):
    """Reported effects around the true ones."""

    def forward(self, given: Mapping[str, Tensor]) -> Distribution:
        """Return the distribution of eight reports."""
        effect = given.get("theta")
        if effect is None:
            effect = given["mu"].unsqueeze(-1) + given["tau"].unsqueeze(-1) * given["z"]
        return Independent(Normal(effect, ERROR), 1)


def schools(centred: bool) -> pgnn.BayesianNetwork:
    """Return the model as a graph."""
    mu, tau, y = pgnn.Variable("mu"), pgnn.Variable("tau"), pgnn.Variable("y", shape=(8,))
    conditionals = {
        "mu": pgnn.Gaussian(mu, mean=0.0, covariance=25.0),
        "tau": pgnn.Distributional(tau, [], HalfCauchy, scale=5.0),
    }
    if centred:
        theta = pgnn.Variable("theta", shape=(8,))
        conditionals["theta"] = pgnn.Neural(theta, [mu, tau], Effects(), features=ByName())
        conditionals["y"] = pgnn.Neural(y, [theta], Reports(), features=ByName())
        edges = [("mu", "theta"), ("tau", "theta"), ("theta", "y")]
    else:
        z = pgnn.Variable("z", shape=(8,))
        conditionals["z"] = pgnn.Gaussian(z, mean=[0.0] * 8, form=pgnn.Diagonal())
        conditionals["y"] = pgnn.Neural(y, [mu, tau, z], Reports(), features=ByName())
        edges = [("mu", "y"), ("tau", "y"), ("z", "y")]
    return pgnn.BayesianNetwork(edges, conditionals)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Draw from both, print summaries, and plot the funnel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=".", help="folder for the picture")
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args(arguments)
    found: dict[str, float] = {}
    answers = {}
    for name, centred in [("centred", True), ("non-centred", False)]:
        engine = pgnn.MCMC(samples=options.samples, seed=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pgnn.NotConverged)  # the centred one does diverge
            posterior = schools(centred).query(evidence={"y": EFFECT}, engine=engine)
        print(f"{name}\n{posterior}\n")
        answers[name] = posterior
        found[f"mu, {name}"] = float(posterior["mu"].mean)
        found[f"tau, {name}"] = float(posterior["tau"].mean)
        found[f"divergences, {name}"] = float(posterior.diagnostics["divergences"].sum())
        found[f"size, {name}"] = posterior.diagnostics["effective_sample_size"]["tau"]
    plot(answers, Path(options.out) / "eight_schools.png")
    return found


def plot(answers: Mapping[str, pgnn.Posterior], path: Path) -> None:
    """Show the first school's effect beside the scale: a funnel."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True)
    for axis, (name, posterior) in zip(axes, answers.items(), strict=True):
        tau, mu = posterior["tau"].draws, posterior["mu"].draws
        first = posterior["theta"].draws[:, 0] if "theta" in posterior else None
        effect = mu + tau * posterior["z"].draws[:, 0] if first is None else first
        axis.scatter(effect, tau.log(), s=3, alpha=0.3)
        axis.set(title=name, xlabel="effect of the first school", ylabel="log tau")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
