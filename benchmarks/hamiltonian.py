"""Chains over real variables: effective draws a second of pgnn's NUTS and of Pyro's.

Usage: ``python -m benchmarks.hamiltonian [--budget SECONDS] [--models NAME ...]``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import pgnn
from pgnn.inference.rank_diagnostics import rank_effective_sample_size, rank_r_hat

EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]).double()
ERROR = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]).double()
ZERO, ONE = torch.zeros(()).double(), torch.ones(()).double()


def centred() -> None:
    """Eight schools, a funnel."""
    mu = pyro.sample("mu", dist.Normal(ZERO, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0 * ONE))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, ERROR), obs=EFFECT)


def non_centred() -> None:
    """Eight schools with the scale taken out."""
    mu = pyro.sample("mu", dist.Normal(ZERO, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0 * ONE))
    with pyro.plate("schools", 8):
        z = pyro.sample("z", dist.Normal(ZERO, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * z, ERROR), obs=EFFECT)


def _logistic() -> Callable[[], None]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(500, 5, generator=rng).double()
    truth = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0]).double()
    y = (torch.rand(500, generator=rng) < torch.sigmoid(x @ truth)).double()

    def logistic() -> None:
        with pyro.plate("columns", 5):
            w = pyro.sample("w", dist.Normal(torch.zeros(5).double(), 2.0))
        with pyro.plate("rows", 500):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return logistic


def _normal() -> Callable[[], None]:
    # neighbours are correlated by 0.9
    place = torch.arange(20).double()
    covariance = 0.9 ** (place[:, None] - place).abs()

    def normal() -> None:
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(20).double(), covariance))

    return normal


def _mixture() -> Callable[[], None]:
    rng = torch.Generator().manual_seed(0)
    part = torch.randint(2, (200,), generator=rng)
    y = torch.tensor([-2.0, 2.0]).double()[part] + torch.randn(200, generator=rng).double()
    weights = torch.tensor([0.5, 0.5]).double()

    def mixture() -> None:
        # in order, as chains would not find the way from one order to the other
        low = pyro.sample("low", dist.Normal(ZERO, 3.0))
        gap = pyro.sample("gap", dist.LogNormal(ONE, 1.0))  # type: ignore[no-untyped-call]
        with pyro.plate("rows", 200):
            z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(low + gap * z, 1.0), obs=y)

    return mixture


MODELS: dict[str, Callable[[], None]] = {
    "centred eight schools": centred,
    "non-centred eight schools": non_centred,
    "logistic, 500 x 5": _logistic(),
    "normal of 20 numbers": _normal(),
    "mixture, 200 rows": _mixture(),
}


@dataclass(frozen=True)
class Run:
    """What one sampler did.

    Attributes:
        seconds: Warm-up included, compilation not.
        size: Least effective sample size of all numbers.
        r_hat: The largest.
        divergences: After the warm-up.
    """

    seconds: float
    size: float
    r_hat: float
    divergences: int

    @property
    def rate(self) -> float:
        """Effective draws a second."""
        return self.size / self.seconds


def run_pgnn(program: Callable[[], None], target: float, seed: int) -> Run:
    """Four chains in a batch, 500 steps of warm-up, 1000 draws each."""
    model: Any = pgnn.Program(program)
    start = time.process_time()
    posterior: Any = model.query(
        [v.name for v in model.variables.values() if not v.is_discrete],
        engine=pgnn.MCMC(seed=seed, target_accept=target, progress=False),
    )
    seconds = time.process_time() - start
    draws = {n: posterior[n].samples.numpy() for n in posterior.reals}
    return _summed(seconds, draws, int(posterior.diagnostics["divergences"].sum()))


def run_pyro(program: Callable[[], None], target: float, seed: int, draws: int) -> Run:
    """One chain, half as many steps of warm-up as draws and 150 at least."""
    pyro.set_rng_seed(seed)
    infer: Any = pyro.infer
    kernel = infer.NUTS(program, target_accept_prob=target, max_tree_depth=10)
    chains = infer.MCMC(
        kernel,
        num_samples=draws,
        warmup_steps=max(150, draws // 2),
        num_chains=1,
        disable_progbar=True,
    )
    start = time.process_time()
    chains.run()
    seconds = time.process_time() - start
    found = {n: x.numpy()[None] for n, x in chains.get_samples().items()}
    number = sum(len(x) for x in chains.diagnostics()["divergences"].values())
    return _summed(seconds, found, number)


def _summed(seconds: float, draws: dict[Any, Any], divergences: int) -> Run:
    sizes = [np.min(rank_effective_sample_size(x)) for x in draws.values()]
    r_hats = [np.max(rank_r_hat(x)) for x in draws.values()]
    return Run(seconds, float(min(sizes)), float(max(r_hats)), divergences)


def main(argv: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--targets", nargs="*", type=float, default=[0.8])
    parser.add_argument("--pyro", type=int, default=500, help="draws of Pyro; 0: without it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run_pgnn(non_centred, 0.8, 0)  # compiles
    print(
        "| model | target | ESS/s | s | ESS | R-hat | divergences | Pyro: ESS/s | s | ESS "
        "| divergences | times |"
    )
    print("|---|" + "--:|" * 11)
    for name in options.models:
        for target in options.targets:
            ours = run_pgnn(MODELS[name], target, options.seed)
            line = (
                f"| {name} | {target} | {ours.rate:.0f} | {ours.seconds:.1f} | {ours.size:.0f} "
                f"| {ours.r_hat:.3f} | {ours.divergences} of 4000 |"
            )
            if options.pyro:
                theirs = run_pyro(MODELS[name], target, options.seed, options.pyro)
                line += (
                    f" {theirs.rate:.1f} | {theirs.seconds:.0f} | {theirs.size:.0f} | "
                    f"{theirs.divergences} of {options.pyro} | {ours.rate / theirs.rate:.0f} |"
                )
            print(line, flush=True)


if __name__ == "__main__":
    main()
