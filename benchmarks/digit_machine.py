"""Binary digits (Salakhutdinov and Murray 2008, the fixed set): nats of a restricted machine.

500 hidden units learn the 50,000 training images by persistent chains, centred, with the settings
that ``fit`` has by itself. After ``--epochs`` passes of each run: stochastic bounds of the mean log
probability of the 10,000 test images, by annealing there and back.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import pgnn

HIDDEN = 500


def main() -> None:
    """Print bounds after few and many passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 100], help="of each run")
    parser.add_argument("--temperatures", type=int, default=10_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    packed = np.load(args.data / "images" / "mnist" / "binarized_mnist_packed.npz")
    train, test = (
        torch.from_numpy(np.unpackbits(packed[n], axis=1)[:, :784]) for n in ("train", "test")
    )
    for epochs in args.epochs:
        begin = time.process_time()
        machine = pgnn.RestrictedBoltzmannMachine(784, HIDDEN).float()
        learner = pgnn.ContrastiveDivergence(epochs=epochs)
        machine.fit(train, learner=learner, seed=0, progress=False)
        learned = time.process_time()
        bracket = machine.log_partition_bracket(train, temperatures=args.temperatures, seed=0)
        low, high = bracket.log_prob(-machine.free_energy(test).mean())
        seconds = learned - begin, time.process_time() - learned
        print(f"{epochs} passes, {seconds[0]:.0f} CPU s: between {float(low):.2f} and "
              f"{float(high):.2f} nats, {seconds[1]:.0f} CPU s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
