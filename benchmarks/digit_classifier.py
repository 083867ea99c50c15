"""All labels of MNIST: a deep belief network, learnt without them, fine-tuned as a classifier.

Layers of 500, 500 and 2,000 units learn the 60,000 training images as grey values;
``to_classifier(10)`` is fine-tuned with dropout (Srivastava et al. 2014), once with every image
turned, slanted, stretched and moved by chance and once with the pixels as they are. Prints CPU
seconds and the error of the 10,000 test images after the last step; no pass is chosen by them.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import pgnn

LAYERS, BATCH = (500, 500, 2000), 100
INPUT_DROPOUT, HIDDEN_DROPOUT = 0.1, 0.25


def main() -> None:
    """Print errors and CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--pretraining", type=int, default=10, help="passes a machine")
    parser.add_argument("--passes", type=int, default=25, help="of fine-tuning")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.07, 0.0], help="of moves")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.data / "images" / "mnist"
    x, y = read(folder, "train")
    x, y = x[: args.rows], y[: args.rows]
    unknown, labels = read(folder, "t10k")
    begin = time.process_time()
    machines = pgnn.ContrastiveDivergence(
        persistent=False, epochs=args.pretraining, probabilities=True
    )
    network = pgnn.DeepBeliefNetwork([784, *LAYERS]).float()
    network.fit(x, learner=pgnn.GreedyLayerwise(machines), seed=0)
    print(f"learnt without labels: {time.process_time() - begin:.0f} CPU s", flush=True)
    for scale in args.scales:
        begin = time.process_time()
        classifier = tuned(network.to_classifier(10), x, y, args.passes, scale)
        wrong = int((classifier(unknown).argmax(1) != labels).sum())
        seconds = time.process_time() - begin
        print(f"scale {scale}: {wrong / len(labels):.2%} wrong, {seconds:.0f} CPU s", flush=True)


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return grey values ``(N, 784)`` between 0 and 1, and labels ``(N,)``."""
    images, labels = (
        np.frombuffer(gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8)
        for kind in ("images-idx3", "labels-idx1")
    )
    x = torch.from_numpy(images[16:].reshape(-1, 784).copy()).float() / 255
    return x, torch.from_numpy(labels[8:].copy()).long()


def tuned(network: nn.Sequential, x: Tensor, y: Tensor, passes: int, scale: float) -> nn.Sequential:
    """Return the network fine-tuned by Adam, whose rate falls to zero, with dropout."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    affine = (nn.Unflatten(1, (1, 28, 28)), pgnn.neural.RandomAffine(scale), nn.Flatten())
    noisy = nn.Sequential(*(affine if scale else ()), nn.Dropout(INPUT_DROPOUT))
    for layer in network:
        noisy.append(layer)
        if isinstance(layer, nn.Sigmoid):
            noisy.append(nn.Dropout(HIDDEN_DROPOUT))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    steps = passes * len(x) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: max(1 - t / steps, 0.0))
    for k in range(passes):
        total = 0.0
        for rows in torch.randperm(len(x), generator=rng).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(noisy(x[rows]), y[rows])
            loss.backward()
            total += float(loss.detach()) * len(rows) / len(x)
            optimizer.step()
            schedule.step()
        print(f"  pass {k + 1}: loss {total:.4f}", flush=True)
    return network.requires_grad_(False)


if __name__ == "__main__":
    main()
