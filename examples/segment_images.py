"""Segment strips of a noisy picture by a grid field with learned potentials.

Regions differ in colour, but the noise is as large as the difference. The potential of a pixel
depends on its colour. Neighbours have a table of the compatibility of their labels, and prefer
equal labels more strongly if their colours are similar. All weights are learned from labelled
pictures: by the exact likelihood (the strips are narrow enough), by the pseudo-likelihood, which is
known to overestimate couplings in large regions, and by maximising a margin. Kumar and Hebert
(2003), Discriminative random fields; Szummer et al. (2008), Learning CRFs using graph cuts.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import torch
from common import arguments, save

import pgnn

HEIGHT, WIDTH = 5, 40
LABELS = ["grey", "red", "blue"]
COLOURS = np.array([[0.5, 0.5, 0.5], [0.75, 0.45, 0.4], [0.4, 0.5, 0.75]])
LEARNERS = {
    "alone": pgnn.Gradient(l2=1e-3, tolerance=1e-3),
    "pseudo-likelihood": pgnn.PseudoLikelihood(l2=1e-2, tolerance=1e-3),
    "likelihood": pgnn.Gradient(l2=1e-2, max_iterations=100, tolerance=1e-2),
    "margin": pgnn.MaxMargin(cost=1.0, aggressiveness=0.01, max_iterations=10),
}


def main(argv: list[str] | None = None, pictures: int = 20) -> dict[str, float]:
    """Return the share of pixels that is right, with neighbours and without."""
    args = arguments(__doc__ or "", argv)
    rng = np.random.default_rng(0)
    labels, images = zip(*(drawn(rng) for _ in range(2 * pictures)), strict=True)
    z = np.stack(labels).reshape(2 * pictures, -1)
    grid = nx.grid_2d_graph(HEIGHT, WIDTH)
    found, right = {}, {}
    for name, learner in LEARNERS.items():
        graph = nx.create_empty_copy(grid) if name == "alone" else grid
        field = pgnn.GraphRandomField(graph, LABELS, features=4, edge_features=1)
        inputs = features(np.stack(images), field)
        told, unobserved = ({n: inputs[n][half] for n in field.input_names}
                            for half in (slice(pictures), slice(pictures, None)))  # fmt: skip
        field.fit({"label": z[:pictures]}, inputs=told, learner=learner, seed=0, progress=False)
        found[name] = np.asarray(field.most_probable(inputs=unobserved)["label"])
        right[name] = float((found[name] == z[pictures:]).mean())
        print(f"{name:<18} {100 * right[name]:.1f} % of the pixels are right")
    panels = {"picture": images[pictures].clip(0, 1), "labels": z[pictures]}
    draw(panels | {name: best[0] for name, best in found.items()}, args.out)
    return right


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of two rows of boxes, and a noisy picture of them."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    for rows in (slice(0, 3), slice(3, HEIGHT)):
        column = 0
        while column < WIDTH:
            end = column + int(rng.integers(4, 12))
            labels[rows, column:end] = rng.integers(0, 3)
            column = end
    return labels, COLOURS[labels] + 0.25 * rng.normal(size=(HEIGHT, WIDTH, 3))


def features(images: np.ndarray, field: pgnn.GraphRandomField) -> dict[str, torch.Tensor]:
    """A constant and the colour of each pixel; how alike the colours of both ends of edges are."""
    colours = images.reshape(len(images), -1, 3)
    x = np.concatenate([np.ones((*colours.shape[:2], 1)), colours], axis=2)
    ends = np.array([[a * WIDTH + b for a, b in edge] for edge in field.edge_names], dtype=int)
    first, second = ends.reshape(-1, 2).T
    square = ((colours[:, first] - colours[:, second]) ** 2).sum(2, keepdims=True)
    alike = np.exp(-square / 0.4)
    return {"x": torch.from_numpy(x), "y": torch.from_numpy(alike)}


def draw(panels: dict[str, np.ndarray], folder: Path) -> None:
    """A picture, its labels, and those that were found."""
    figure, axes = plt.subplots(len(panels), figsize=(6, 1.1 * len(panels)))
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        ax.imshow(panel.reshape(HEIGHT, WIDTH, *panel.shape[2:]), vmin=0, vmax=2)
        ax.set(title=name, xticks=[], yticks=[])
    save(figure, folder / "segment_images.png")


if __name__ == "__main__":
    main()
