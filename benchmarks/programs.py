"""Pyro programs with discrete sites: pgnn beside Pyro's own enumeration, in one process.

Usage: ``python -m benchmarks.programs [--programs NAME ...] [--repeats N]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.integrator import potential_grad

import pgnn
from pgnn.inference.continuous.potential_energy import PotentialEnergy

ONE = torch.ones(()).double()
CHAINS = 4
_FIRST = 5


def _data(rows: int) -> torch.Tensor:
    made = torch.randn(rows, generator=torch.Generator().manual_seed(0)).double()
    return made + 4.0 * (torch.arange(rows) % 2)


def _tosses(steps: int) -> torch.Tensor:
    return torch.randint(0, 5, (steps,), generator=torch.Generator().manual_seed(0))


def mixture(rows: int, learned: bool) -> Callable[[], None]:
    """A mixture of three normals; weights and means are parameters or latent."""
    data = _data(rows)

    def program() -> None:
        if learned:
            weights = pyro.param("w", ONE.expand(3) / 3, constraint=dist.constraints.simplex)
            mean = pyro.param("mean", torch.tensor([-1.0, 1.0, 4.0]).double())
        else:
            weights = pyro.sample("w", dist.Dirichlet(ONE.expand(3)))
            with pyro.plate("k", 3):
                mean = pyro.sample("mean", dist.Normal(0.0 * ONE.expand(3), 5.0 * ONE))
        with pyro.plate("rows", rows):
            z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(mean[z], ONE), obs=data)

    return program


def markov(steps: int, states: int, learned: bool) -> Callable[[], None]:
    """A hidden Markov model of so many steps, written as a loop."""
    tosses, rng = _tosses(steps), torch.Generator().manual_seed(1)
    start = [torch.rand(states, k, generator=rng).double() + 0.1 for k in (states, 5)]
    start = [x / x.sum(-1, keepdim=True) for x in start]

    def program() -> None:
        if learned:
            moves, faces = (
                pyro.param(n, x, constraint=dist.constraints.simplex)
                for n, x in zip(("moves", "faces"), start, strict=True)
            )
        else:
            with pyro.plate("k", states):
                moves = pyro.sample("moves", dist.Dirichlet(ONE.expand(states)))
                faces = pyro.sample("faces", dist.Dirichlet(ONE.expand(5)))
        z: Any = 0
        for t in pyro.markov(range(steps)):
            z = pyro.sample(f"z_{t}", dist.Categorical(moves[z]), infer={"enumerate": "parallel"})
            pyro.sample(f"x_{t}", dist.Categorical(faces[z]), obs=tosses[t])

    return program


PROGRAMS: dict[str, Callable[[bool], Callable[[], None]]] = {
    "mixture of 3, 1,000 rows": lambda learned: mixture(1000, learned),
    "mixture of 3, 10,000 rows": lambda learned: mixture(10_000, learned),
    "Markov, 8 states, 200 steps": lambda learned: markov(200, 8, learned),
}


def clocked(call: Callable[[], Any], repeats: int) -> float:
    """Median CPU seconds; the first calls, which learn how the program is made, are not timed."""
    times = []
    for k in range(repeats + _FIRST):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
        if k == _FIRST and times[-1] > 0.05:
            break
    return statistics.median(times[_FIRST:])


def learning(make: Callable[[bool], Callable[[], None]], repeats: int) -> list[tuple[Any, ...]]:
    """The log evidence with numbers that change, and its gradient."""
    program = make(True)
    pyro.clear_param_store()
    elbo: Any = TraceEnum_ELBO(max_plate_nesting=1)

    def theirs() -> torch.Tensor:
        found: torch.Tensor = elbo.differentiable_loss(program, lambda: None)
        return found

    value = -float(theirs().detach())
    model: Any = pgnn.Program(program)
    parameters = list(model.parameters())
    agree = abs(float(model.log_density({}).detach()) - value) / abs(value)

    def ours() -> torch.Tensor:
        with torch.no_grad():
            for p in parameters:
                p.add_(1e-9)
        found: torch.Tensor = model.log_density({})
        return found

    def plainly() -> None:
        with torch.no_grad():
            ours()

    return [
        ("log evidence", clocked(plainly, repeats), clocked(theirs, repeats), agree),
        (
            "and its gradient",
            clocked(lambda: ours().backward(), repeats),  # type: ignore[no-untyped-call]
            clocked(lambda: theirs().backward(), repeats),  # type: ignore[no-untyped-call]
            None,
        ),
    ]


def latent(make: Callable[[bool], Callable[[], None]], repeats: int) -> list[tuple[Any, ...]]:
    """Steps of SVI and gradients of NUTS, where parameters are latent."""
    program = make(False)
    model: Any = pgnn.Program(program)
    pyro.clear_param_store()
    reals = [v.name for v in model.variables.values() if not v.is_discrete]
    guide: Any = AutoNormal(pyro.poutine.block(program, expose=reals))  # type: ignore[attr-defined]
    svi: Any = SVI(
        program, guide, pyro.optim.Adam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1)
    )  # type: ignore[attr-defined]

    def fit(steps: int) -> float:
        engine = pgnn.Variational(max_iterations=steps, tolerance=0.0, seed=0, progress=False)
        begin = time.process_time()
        model.query(reals[0], engine=engine)
        return time.process_time() - begin

    fit(20)
    short, long = fit(20), fit(20 + 10 * repeats)
    potential = PotentialEnergy(model, {})
    points = potential.start(CHAINS, 0)
    pyro.set_rng_seed(0)
    start, function, *_ = initialize_model(program, max_plate_nesting=1)
    return [
        ("a step of SVI", (long - short) / (10 * repeats), clocked(svi.step, repeats), None),
        (
            "a gradient of NUTS, one chain",
            clocked(lambda: potential(points), repeats) / CHAINS,
            clocked(lambda: potential_grad(function, start), repeats),
            None,
        ),
    ]


def main(argv: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| program | what | ms | Pyro | times | relative difference |")
    print("|---|---|--:|--:|--:|--:|")
    for name in options.programs:
        for part in (learning, latent):
            for what, ours, theirs, gap in part(PROGRAMS[name], options.repeats):
                shown = "" if gap is None else f"{gap:.0e}"
                print(
                    f"| {name} | {what} | {1e3 * ours:.2f} | {1e3 * theirs:.2f} "
                    f"| {theirs / ours:.1f} | {shown} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
