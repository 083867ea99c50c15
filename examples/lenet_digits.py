"""LeNet-5 as the conditional distribution of a digit given its image: a model of one variable.

LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition:
60,000 parameters, a connection table, trainable pooling, and classes that are normally distributed
around codes. During training, images are shifted by up to one pixel.
``python lenet_digits.py 60000 12`` takes two and a half minutes on one core and has a test accuracy
of 99.19 %.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn

DIGIT = pgnn.Variable("digit", 10)


def read(folder: Path, part: str, rows: int) -> tuple[Tensor, Tensor]:
    """Return images in [0, 1] and their labels."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:rows]
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:rows]
    return torch.tensor(pixels).float() / 255, torch.tensor(labels).long()


def learned(image: Tensor, label: Tensor, epochs: int) -> pgnn.BayesianNetwork:
    """Fit the network of one node."""
    torch.manual_seed(0)
    body = nn.Sequential(pgnn.neural.RandomShift(1), pgnn.neural.LeNet5())
    model = pgnn.BayesianNetwork([], [pgnn.Neural(DIGIT, [], body, inputs=["image"])])
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.003),
        scheduler=lambda o: one_cycle(o, 0.003, total_steps=epochs + 1),
        batch_size=64,
        max_iterations=epochs,
    )
    return model.fit({"digit": label}, inputs={"image": image}, learner=learner, seed=0).eval()


def main(
    argv: list[str] | None = None, rows: int = 6000, epochs: int = 4, tests: int = 10000
) -> dict[str, float]:
    """Learn, and draw the test images about which the network is least sure."""
    args = arguments(__doc__, argv)
    folder = args.data / "images" / "mnist"
    model = learned(*read(folder, "train", rows), epochs)
    image, label = read(folder, "t10k", tests)
    probs = model.query("digit", inputs={"image": image})["digit"].probs
    right = (probs.argmax(1) == label).double().mean()
    log_prob = model.log_prob({"digit": label}, inputs={"image": image}).mean()
    print(f"{right:.2%} of the test images, {log_prob:.4f} nats each")
    figure, axes = plt.subplots(2, 6, figsize=(9, 3.6))
    for ax, k in zip(axes.flat, probs.max(1).values.argsort()[:12].tolist(), strict=True):
        first, second = probs[k].topk(2).indices.tolist()
        ax.imshow(image[k, 0].numpy(), cmap="gray_r")
        ax.set_title(f"{first} {probs[k, first]:.0%}, {second} {probs[k, second]:.0%}", fontsize=8)
        ax.set_axis_off()
    save(figure, args.out / "lenet_digits.png")
    return {"right": float(right), "log_prob": float(log_prob)}


if __name__ == "__main__":
    main([], **dict(zip(("rows", "epochs", "tests"), map(int, sys.argv[1:]), strict=False)))
