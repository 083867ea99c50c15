"""Gibbs sweeps: pgnn, sweeps written by hand for one model, and pyAgrum, side by side."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from benchmarks.networks import Network, load
from benchmarks.peers import build
from benchmarks.timing import clock, limit_memory, pin

COUPLING = 0.4


@njit
def ising_by_hand(spins, accept, sweeps):
    """Checkerboard sweeps over a grid of spins; ``accept`` is p(+1) by the sum of neighbours."""
    height, width = spins.shape
    for _ in range(sweeps):
        for colour in range(2):
            for i in range(height):
                for j in range((i + colour) % 2, width, 2):
                    around = 0
                    if i > 0:
                        around += spins[i - 1, j]
                    if i < height - 1:
                        around += spins[i + 1, j]
                    if j > 0:
                        around += spins[i, j - 1]
                    if j < width - 1:
                        around += spins[i, j + 1]
                    spins[i, j] = 1 if np.random.random() < accept[around + 4] else -1  # noqa: NPY002


@njit
def network_by_hand(
    states, cards, families, ptr, steps, start, tables, children, child_ptr, sweeps
):
    """Sweeps over a Bayesian network: one's own row of the table times the children's entries."""
    weights = np.zeros(cards.max())
    for _ in range(sweeps):
        for v in range(len(cards)):
            for s in range(cards[v]):
                weights[s] = 1.0
            for c in range(child_ptr[v], child_ptr[v + 1]):
                u = children[c]  # the node itself, then its children
                at, step = start[u], 0
                for k in range(ptr[u], ptr[u + 1]):
                    if families[k] == v:
                        step = steps[k]
                    else:
                        at += steps[k] * states[families[k]]
                for s in range(cards[v]):
                    weights[s] *= tables[at + s * step]
            total = 0.0
            for s in range(cards[v]):
                total += weights[s]
            draw = np.random.random() * total  # noqa: NPY002
            s = 0
            while s < cards[v] - 1:
                draw -= weights[s]
                if draw < 0.0:
                    break
                s += 1
            states[v] = s


def flat(network: Network) -> tuple[np.ndarray, ...]:
    """A network as :func:`network_by_hand` takes it."""
    families = [network.family(v) for v in range(len(network))]
    steps = [np.append(np.cumprod(t.shape[:0:-1])[::-1], 1) for t in network.tables]
    touched = [
        [v, *(u for u in range(len(network)) if v in network.parents[u])]
        for v in range(len(network))
    ]
    return (
        network.sample(1, 0)[0].astype(np.int64),
        network.cards,
        np.concatenate(families),
        np.cumsum([0, *map(len, families)]),
        np.concatenate(steps).astype(np.int64),
        np.cumsum([0, *(t.size for t in network.tables)]),
        np.concatenate([t.ravel() for t in network.tables]),
        np.concatenate(touched),
        np.cumsum([0, *map(len, touched)]),
    )


def ours(model: Any) -> Callable[[int], object]:
    """One chain of pgnn that sweeps and keeps nothing."""
    from pgnn.inference.question import Question
    from pgnn.inference.sampling.cpu_gibbs import CpuChains, TemperedTables

    tables = TemperedTables(Question.read(model, {}, None))
    chains = CpuChains(tables, np.ones(1, dtype=np.uint64), 10**6)
    chains.start()
    return chains.run


def keeping(run: Callable[[int], object]) -> Callable[[int], object]:
    """The same chain, adding up its full conditionals."""
    return lambda sweeps: run.__self__.collect(sweeps, 1)  # type: ignore[attr-defined]


def pyagrum(network: Network) -> Callable[[int], object]:
    """PyAgrum's chain; building the sampler is not counted."""
    import pyagrum

    net = build(network)

    def run(sweeps: int) -> None:
        sampler = pyagrum.GibbsSampling(net)
        sampler.setMaxIter(sweeps)
        sampler.setMaxTime(1e6)
        sampler.setEpsilon(1e-12)
        sampler.setMinEpsilonRate(1e-12)
        sampler.setNbrDrawnVar(len(network))  # an iteration draws one variable otherwise
        sampler.setBurnIn(0)
        sampler.setPeriodSize(sweeps)
        sampler.makeInference()

    return run


def ising(size: int) -> dict[str, Callable[[int], object]]:
    """Contenders on a square grid of spins."""
    import pgnn

    model = pgnn.MarkovRandomField.grid((size, size), coupling=COUPLING)
    spins = np.where(np.random.default_rng(0).random((size, size)) < 0.5, 1, -1).astype(np.int8)
    accept = 1.0 / (1.0 + np.exp(-2.0 * COUPLING * np.arange(-4, 5)))
    run = ours(model)
    return {
        "by hand": lambda sweeps: ising_by_hand(spins, accept, sweeps),
        "pgnn": run,
        "pgnn, keeping": keeping(run),
    }


def alarm() -> dict[str, Callable[[int], object]]:
    """Contenders on the network Alarm."""
    network = load("alarm")
    arrays = flat(network)
    run = ours(network.model)
    found: dict[str, Callable[[int], object]] = {
        "by hand": lambda sweeps: network_by_hand(*arrays, sweeps),
        "pgnn": run,
        "pgnn, keeping": keeping(run),
    }
    with contextlib.suppress(ImportError):
        found["pyAgrum"] = pyagrum(network)
    return found


def rates(
    contenders: dict[str, Callable[[int], object]], seconds: float, rounds: int
) -> dict[str, float]:
    """Median sweeps per CPU second; contenders take turns of about so many seconds."""
    sweeps = {}
    for name, run in contenders.items():
        run(2)
        count, spent = 1, 0.0
        while spent < seconds / 4:
            count *= 2
            start = clock()
            run(count)
            spent = clock() - start
        sweeps[name] = max(2, int(count * seconds / spent))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            run(sweeps[name])
            found[name].append(sweeps[name] / (clock() - start))
    return {name: float(np.median(values)) for name, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print sweeps per second, and times as long as by hand."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gibbs", description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="of the grid's sides")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender")
    parser.add_argument("--core", type=int, help="core to run on; by default the last one allowed")
    options = parser.parse_args(arguments)
    limit_memory()
    print(f"{pin(options.core)}; CPU time; one chain\n", flush=True)
    cases = {f"Ising {options.size}x{options.size}": ising(options.size), "Alarm": alarm()}
    print("| model | who | sweeps/s | times as fast as by hand |\n|---|---|--:|--:|")
    for model, contenders in cases.items():
        found = rates(contenders, options.seconds, options.rounds)
        for name, rate in found.items():
            print(f"| {model} | {name} | {rate:,.0f} | {rate / found['by hand']:.3g} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
