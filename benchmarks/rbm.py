"""Epochs of a restricted Boltzmann machine: pgnn, a bare loop of torch, scikit-learn.

Persistent contrastive divergence with 500 hidden units on binary MNIST, batches of 100, one thread.
CPU seconds of an epoch, the median of three, in one process; and sweeps of block Gibbs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pgnn

HIDDEN, BATCH, RATE = 500, 100, 0.05


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=50_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    packed = np.load(args.data / "images" / "mnist" / "binarized_mnist_packed.npz")
    rows = np.unpackbits(packed["train"], axis=1)[: args.rows, :784]
    bits, values = torch.from_numpy(rows), torch.from_numpy(rows).float()
    seconds: dict[str, float] = {}
    for name, k in (("persistent", True), ("CD-1", False)):
        seconds[f"torch {name}"] = timed(lambda k=k: bare(values, k))
        for centred in (True, False):
            told = "centred" if centred else "plain"
            seconds[f"pgnn {name} {told}"] = timed(lambda k=k, c=centred: ours(bits, k, c))
    seconds["scikit-learn persistent"] = timed(lambda: peers(rows))
    model = pgnn.RestrictedBoltzmannMachine(784, HIDDEN).float()
    for name, value in seconds.items():
        own = seconds["torch CD-1" if "CD-1" in name else "torch persistent"]
        print(f"{name:<28} {value:6.2f} s, {value / own:.2f} of the bare loop")
    chains(model)


def timed(run: Callable[[], Any]) -> float:
    """Return the median CPU time of three runs."""
    taken = []
    for _ in range(3):
        begin = time.process_time()
        run()
        taken.append(time.process_time() - begin)
    return statistics.median(taken)


def ours(rows: torch.Tensor, persistent: bool, centred: bool) -> None:
    """The natural call."""
    learner = pgnn.ContrastiveDivergence(epochs=1, persistent=persistent, centred=centred)
    pgnn.RestrictedBoltzmannMachine(784, HIDDEN).float().fit(rows, learner=learner, seed=0)


def peers(rows: np.ndarray) -> None:
    """scikit-learn's machine."""
    from sklearn.neural_network import BernoulliRBM

    model = BernoulliRBM(HIDDEN, learning_rate=RATE, batch_size=BATCH, n_iter=1, random_state=0)
    model.fit(rows.astype(np.float32))


@torch.no_grad()
def bare(rows: torch.Tensor, persistent: bool) -> torch.Tensor:
    """Nothing but the arithmetic."""
    rng = torch.Generator().manual_seed(0)
    w, b, c = torch.randn(784, HIDDEN, generator=rng) * 0.01, torch.zeros(784), torch.zeros(HIDDEN)
    fantasy = torch.zeros(BATCH, 784)
    for i in torch.randperm(len(rows), generator=rng).split(BATCH):
        v0 = rows[i]
        p0 = torch.addmm(c, v0, w).sigmoid_()
        start = torch.addmm(c, fantasy, w).sigmoid_() if persistent else p0
        h = torch.rand(start.shape, generator=rng).lt(start).float()
        p = torch.addmm(b, h, w.T).sigmoid_()
        fantasy = torch.rand(p.shape, generator=rng).lt(p).float()
        p1 = torch.addmm(c, fantasy, w).sigmoid_()
        w.addmm_(v0.T, p0, alpha=RATE / BATCH).addmm_(fantasy.T, p1, alpha=-RATE / BATCH)
        b += RATE * (v0 - fantasy).mean(0)
        c += RATE * (p0 - p1).mean(0)
    return w


@torch.no_grad()
def chains(model: pgnn.RestrictedBoltzmannMachine, count: int = 100, sweeps: int = 200) -> None:
    """Sweeps of 100 chains by ``sample``, and by a bare loop with the same generator."""
    engine = pgnn.Gibbs(chains=count, burn_in=sweeps, seed=0)
    ours = timed(lambda: model.sample(count, seed=0, engine=engine))
    w, b, c = model.weight("visible", "hidden"), model.bias("visible"), model.bias("hidden")

    def loop() -> None:
        rng = torch.Generator().manual_seed(0)
        v = torch.zeros(count, 784)
        for _ in range(sweeps):
            p = torch.addmm(c, v, w).sigmoid_()
            h = torch.rand(p.shape, generator=rng).lt(p).float()
            p = torch.addmm(b, h, w.T).sigmoid_()
            v = torch.rand(p.shape, generator=rng).lt(p).float()

    own = timed(loop)
    print(f"{sweeps} sweeps of {count} chains: {ours:.2f} s, {ours / own:.2f} of a bare loop")


if __name__ == "__main__":
    main()
