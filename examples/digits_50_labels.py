"""Classify digits from 50 labels: a Gaussian field propagates them over a graph of similar images.

Each image is connected to its nearest neighbours in the space of the principal components. Each
class is a row of evidence, with ones and zeros at the labelled images; the posterior means of all
others are the propagated labels. Naive Bayes and regression are trained on the same 50 labels for
comparison; they do not use the unlabelled images.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from common import arguments, save

import pgnn
from pgnn.graphs import neighbour_graph


def digits(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as rows of numbers from 0 to 1, and what they show."""
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        shown = np.frombuffer(file.read(), np.uint8, offset=8).astype(int)
    return pictures[:count] / 255.0, shown[:count]


def main(argv: list[str] | None = None, *, count: int = 10_000) -> dict[str, float]:
    """Return the share of the other pictures that is told right, by model."""
    args = arguments(__doc__ or "", argv)
    x, y = digits(args.data / "images" / "mnist", count)
    told = np.concatenate([np.flatnonzero(y == c)[:5] for c in range(10)])
    rest = np.setdiff1d(np.arange(len(y)), told)
    components = pgnn.PrincipalComponents(30).fit(x, progress=False)
    z = components.project(x).numpy()

    field = pgnn.GaussianMarkovField(neighbour_graph(z, k=8, width=2.0, matrix=True), anchor=1e-4)
    observed = np.full((10, len(y)), np.nan)
    observed[:, told] = (y[told] == np.arange(10)[:, None]).astype(float)
    spread = field.query(evidence=observed)["x"].mean.numpy()
    # equal class frequencies: the rows of each class are scaled to the same sum
    best = (spread / spread.sum(axis=1, keepdims=True)).argmax(axis=0)

    bayes = pgnn.NaiveBayes(10, {"x": pgnn.Bernoulli})
    bayes.fit({"class": y[told], "x": (x[told] > 0.5) * 1.0}, progress=False)
    regression = pgnn.LogisticRegression("digit", "z", prior=pgnn.NormalPrior(1.0))
    regression.fit({"digit": y[told], "z": z[told]}, progress=False)
    found = {
        "Gaussian field": float((best == y)[rest].mean()),
        "softmax regression": float((regression.predict({"z": z[rest]}) == y[rest]).mean()),
        "naive Bayes": float(
            (
                bayes.most_probable({"x": (x[rest] > 0.5) * 1.0}, "class")["class"].numpy()
                == y[rest]
            ).mean()
        ),
    }
    for name, value in found.items():
        print(f"{name:<20} {value:.3f}")
    draw(components, z, best, found, args.out / "digits_50_labels.png")
    return found


def draw(
    components: pgnn.PrincipalComponents,
    z: np.ndarray,
    best: np.ndarray,
    found: dict[str, float],
    path: Path,
) -> None:
    """Show the first components as pictures, and the labels in the plane of two of them."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    pgnn.plot.loadings(components, shape=(28, 28), ax=left)
    left.set_title("principal components", loc="left")
    right.scatter(z[:, 0], z[:, 1], c=best, cmap="tab10", s=3)
    right.set_title(f"labels spread from 50: {found['Gaussian field']:.1%} right", loc="left")
    right.set_axis_off()
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
