"""The same work on the CPU and on a GPU: answers, chains, machines, networks, in eight minutes.

``python -m benchmarks.gpu`` runs each piece of work on the CPU, and on the GPU if there is one, and
says so if not. A piece is warmed up once, then repeated for its share of the time; what is told is
the median of seconds on the clock, with the GPU waited for, and how far the answers are apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pgnn

Work = Callable[[], Tensor | None]
"""What is timed; returns numbers that should be the same on both devices, if there are any."""

Build = Callable[[torch.device, float], Work]
"""Makes it ready on a device, of a size: 1 is the usual one."""


class Outcome(NamedTuple):
    """What a piece of work took on a device."""

    seconds: float | None
    numbers: Tensor | None
    error: str | None


def main(argv: list[str] | None = None) -> int:
    """Print a line for each piece of work; return 1 if one failed, or answers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=[*CASES])
    parser.add_argument("--seconds", type=float, default=400.0, help="for everything together")
    parser.add_argument("--size", type=float, default=1.0, help="of the work, 1 the usual one")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args(argv)
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
        print(f"GPU: {torch.cuda.get_device_name()}")
    else:
        print("no GPU here: the CPU alone")
    share = args.seconds / (len(args.cases) * len(devices))
    figures, failed = {}, False
    for name in args.cases:
        outcomes = {d.type: measured(CASES[name], d, args.size, share) for d in devices}
        line = told(outcomes)
        failed |= any(o.error for o in outcomes.values()) or line["difference"] > 1e-3
        figures[name] = line
        print(f"{name:<12} " + "  ".join(f"{k} {v}" for k, v in line.items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    return int(failed)


def measured(build: Build, device: torch.device, size: float, share: float) -> Outcome:
    """Run a piece of work for a share of the time, three times at least if that allows."""
    begin = time.perf_counter()
    try:
        work = build(device, size)
        numbers = work()
        taken: list[float] = []
        while not taken or time.perf_counter() - begin + taken[-1] < share:
            _wait(device)
            start = time.perf_counter()
            work()
            _wait(device)
            taken.append(time.perf_counter() - start)
    except Exception as error:  # a case that fails is told, and the others run
        return Outcome(None, None, f"{type(error).__name__}: {error}")
    numbers = None if numbers is None else numbers.detach().double().cpu()
    return Outcome(statistics.median(taken), numbers, None)


def told(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Seconds by device, the ratio, and the largest difference of the answers."""
    line: dict[str, Any] = {name: o.error or f"{o.seconds:.4f} s" for name, o in outcomes.items()}
    cpu, gpu = outcomes["cpu"], outcomes.get("cuda")
    line["difference"] = 0.0
    if gpu is not None and cpu.seconds and gpu.seconds:
        line["times as fast"] = round(cpu.seconds / gpu.seconds, 2)
        if cpu.numbers is not None and gpu.numbers is not None:
            line["difference"] = float((cpu.numbers - gpu.numbers).abs().max())
    return line


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# --- the pieces of work -----------------------------------------------------------------------


def grid(side: int, seed: int = 0) -> pgnn.MarkovRandomField:
    """A square of binary variables whose neighbours attract or repel each other."""
    rng = np.random.default_rng(seed)
    graph = nx.grid_2d_graph(side, side)
    tables = {edge: np.exp(rng.normal(size=(2, 2))) for edge in graph.edges}
    return pgnn.MarkovRandomField(graph, tables, states=dict.fromkeys(graph, 2))


def evidence(model: pgnn.MarkovRandomField, rows: int) -> dict[Any, Any]:
    """A tenth of the variables observed, the same ones in every row."""
    rng = np.random.default_rng(1)
    names = [*model.variables][::10]
    return {name: rng.integers(0, 2, rows) for name in names}


def exact(device: torch.device, size: float) -> Work:
    """Log evidence of rows of a grid, by the junction tree."""
    model, rows = grid(10).to(device), max(1, int(2000 * size))
    observed = evidence(model, rows)
    return lambda: model.query([(5, 5)], observed).log_evidence


def propagation(device: torch.device, size: float) -> Work:
    """Marginals of a larger grid by loopy belief propagation."""
    model, rows = grid(40).to(device), max(1, int(50 * size))
    observed = evidence(model, rows)
    engine = pgnn.BeliefPropagation(damping=0.3, max_iterations=50, progress=False)
    return lambda: model.query([(20, 20)], observed, engine=engine)[(20, 20)].probs


def gibbs(device: torch.device, size: float) -> Work:
    """Sweeps of Gibbs sampling on that grid."""
    model = grid(40).to(device)
    engine = pgnn.Gibbs(samples=max(100, int(1000 * size)), burn_in=100, seed=0, progress=False)

    def work() -> None:
        model.query([(20, 20)], engine=engine)

    return work


def chain(device: torch.device, size: float) -> Work:
    """Log densities of sequences under a hidden Markov model of 32 states."""
    rng = np.random.default_rng(0)
    tables = [rng.dirichlet(np.ones(k), size=32) for k in (32, 20)]
    model = pgnn.HiddenMarkovModel(
        32, {"x": tables[1]}, initial=np.full(32, 1 / 32), transitions=tables[0]
    ).to(device)
    x = torch.from_numpy(rng.integers(0, 20, (max(1, int(500 * size)), 200)))
    return lambda: model.log_prob({"x": x})


def machine(device: torch.device, size: float) -> Work:
    """An epoch of contrastive divergence of a restricted Boltzmann machine."""
    bits = torch.rand(max(100, int(10_000 * size)), 784) < 0.3
    model = pgnn.RestrictedBoltzmannMachine(784, 500).float().to(device)
    learner = pgnn.ContrastiveDivergence(epochs=1)

    def work() -> None:
        model.fit(bits, learner=learner, seed=0, progress=False)

    return work


def autoencoder(device: torch.device, size: float) -> Work:
    """An epoch of a variational autoencoder."""
    images = (torch.rand(max(100, int(10_000 * size)), 784) < 0.3).float()
    encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
    decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
    model = pgnn.VAE(encoder, decoder, likelihood=pgnn.BernoulliHead((784,)), latent=20)
    model.to(device)
    learner = pgnn.LowerBound(max_iterations=1)

    def work() -> None:
        model.fit(images, learner=learner, seed=0, progress=False)

    return work


def hamiltonian(device: torch.device, size: float) -> Work:
    """Chains of the no-U-turn sampler for a logistic regression."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(5000, 20, generator=rng)
    y = (torch.rand(5000, generator=rng) < (x @ torch.linspace(-1, 1, 20)).sigmoid()).float()
    x, y = x.to(device), y.to(device)

    def regression() -> None:
        zeros = torch.zeros(20, device=device)
        w = pyro.sample("w", dist.Normal(zeros, 1.0).to_event(1))
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    number = max(20, int(200 * size))
    engine = pgnn.MCMC(samples=number, warmup=number, chains=2, seed=0, progress=False)

    def work() -> None:
        pgnn.Program(regression).query("w", engine=engine)

    return work


def _cases() -> Iterator[tuple[str, Build]]:
    for build in (exact, propagation, gibbs, chain, machine, autoencoder, hamiltonian):
        yield build.__name__, build


CASES: dict[str, Build] = dict(_cases())

if __name__ == "__main__":
    sys.exit(main())
