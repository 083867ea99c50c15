"""Classify digits from 100 labels, by a variational autoencoder with the label as a variable.

An image depends on a digit and on a style vector, both with a recognition network. If the label of
an image is missing, it is marginalised (Kingma, Rezende, Mohamed and Welling 2014, Semi-supervised
learning with deep generative models). The labels also train the recognition network, on randomly
transformed images. ``python digits_few_labels.py 40000 16`` takes five minutes on one core.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from common import arguments, save
from lenet_digits import read
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.optim.lr_scheduler import LinearLR

import pgnn

SIDE, STYLES = 14, 16
DIGIT, STYLE = pgnn.Variable("digit", 10), pgnn.Variable("style", shape=(STYLES,))
IMAGE = pgnn.Variable("image", shape=(SIDE * SIDE,))


def autoencoder(maps: int, pixels: int = SIDE * SIDE) -> pgnn.AmortisedNetwork:
    """Return the networks."""
    torch.manual_seed(0)
    classifier = nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)), pgnn.neural.RandomAffine(0.1),
        nn.Conv2d(1, maps, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(maps), nn.ReLU(),
        nn.Conv2d(maps, 2 * maps, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(2 * maps),
        nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(18 * maps, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip
    encoder = [nn.Linear(pixels + 10, 128), nn.ReLU(), nn.Linear(128, 2 * STYLES)]
    decoder = [nn.Linear(10 + STYLES, 128), nn.ReLU(), nn.Linear(128, pixels)]
    image, style = pgnn.BernoulliHead((pixels,)), pgnn.NormalHead((STYLES,))
    return pgnn.AmortisedNetwork(
        [("digit", "image"), ("style", "image")],
        [pgnn.Tabular(DIGIT, [], [0.1] * 10),
         pgnn.Gaussian(STYLE, [], [0.0] * STYLES, [1.0] * STYLES, pgnn.Diagonal()),
         pgnn.Neural(IMAGE, [DIGIT, STYLE], nn.Sequential(*decoder), head=image)],
        [pgnn.Neural(DIGIT, [IMAGE], classifier),
         pgnn.Neural(STYLE, [IMAGE, DIGIT], nn.Sequential(*encoder), head=style)],
    )  # fmt: skip


def main(
    argv: list[str] | None = None, rows: int = 5000, epochs: int = 6, maps: int = 24
) -> dict[str, float]:
    """Return the shares of the test images of which the recognition is wrong."""
    args = arguments(__doc__ or "", argv)
    folder = args.data / "images" / "mnist"
    (x, y), (unknown, true) = read(folder, "train", rows), read(folder, "t10k", 10_000)
    x, unknown = ((avg_pool2d(z, 2).flatten(1) > 0.4).float() for z in (x, unknown))
    told = torch.cat([(y == c).nonzero()[:10, 0] for c in range(10)]).repeat(rows // 500)
    labels = y[told].tolist()  # some of the hundred are in each batch
    model = autoencoder(maps)
    learner = pgnn.LowerBound(
        bound=pgnn.Elbo(closed_form=True), supervision=20.0, batch_size=100, max_iterations=6,
        optimizer=lambda p: torch.optim.Adam(p, lr=3e-3))  # fmt: skip
    model.fit({"image": x[told], "digit": labels}, learner=learner, seed=0)
    found = {"labels alone": wrong(model, unknown, true)}
    end = replace(learner, max_iterations=epochs, scheduler=lambda o: LinearLR(o, 1, 0.02, epochs))
    data = {"image": torch.cat([x[told], x]), "digit": labels + [None] * len(x)}
    model.fit(data, learner=end, seed=0)
    print(found := found | {"all images": wrong(model, unknown, true)})
    styles = torch.randn(12, STYLES, generator=torch.Generator().manual_seed(0))
    parents = {"digit": torch.arange(10).repeat(12), "style": styles.repeat_interleave(10, 0)}
    images = model.conditionals["image"].distribution(parents).mean.reshape(12, 10, SIDE, SIDE)
    tiles = images.permute(0, 2, 1, 3).reshape(12 * SIDE, 10 * SIDE).numpy(force=True)
    figure, ax = plt.subplots(figsize=(5, 6))
    ax.imshow(tiles, cmap="gray_r")
    ax.set(title="each row a style, each column a digit", xticks=[], yticks=[])
    save(figure, args.out / "digits_few_labels.png")
    return found


def wrong(model: pgnn.AmortisedNetwork, x: Tensor, y: Tensor) -> float:
    """Return the share of images of which the digit is not recognised."""
    found = model.recognition["digit"].distribution({"image": x}).probs.argmax(1)
    return float((found != y).double().mean())


if __name__ == "__main__":
    main([], **dict(zip(("rows", "epochs", "maps"), map(int, sys.argv[1:]), strict=False)))
