"""Letters of handwritten words: a chain over a convolutional network that looks at each image.

The letters (Kassel 1995; Taskar, Guestrin and Koller 2003) are images of 16 x 8 pixels. The network
sees a letter and those beside it, with ``--around 0`` one letter at a time; the chain scores which
letter follows which. Images are turned, slanted, stretched and moved a little while it learns.
Prints the error of single letters of unseen words, and CPU seconds; nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import pgnn

LETTERS, WIDTH = 26, 192


class Reader(nn.Module):
    """Scores of letters, from images of them and of ``around`` letters on either side."""

    def __init__(self, around: int) -> None:
        super().__init__()
        self.around = around
        self.body = nn.Sequential(
            pgnn.neural.RandomAffine(0.15),
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 96, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(96), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(768, WIDTH), nn.BatchNorm1d(WIDTH),
            nn.ReLU(), nn.Dropout(0.3),
        )  # fmt: skip
        self.head = nn.Linear((2 * around + 1) * WIDTH, LETTERS)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return ``(B, T, 26)`` of words ``(B, T, 16, 8)``."""
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        images = x[inside].unsqueeze(1)
        found = self.body(images)
        steps = found.new_zeros(*inside.shape, WIDTH).index_put((inside,), found)
        wide = pad(steps, (0, 0, self.around, self.around)).unfold(1, x.shape[1], 1)
        return self.head(wide.permute(0, 3, 1, 2).flatten(2))


def words(path: Path, split: str) -> tuple[list[Tensor], list[list[int]]]:
    """Return images ``(T, 16, 8)`` of each word, and its letters."""
    data = np.load(path)
    ends = np.flatnonzero(np.diff(data[f"{split}_word"])) + 1
    pixels = data[f"{split}_pixels"].reshape(-1, 16, 8)
    images = [torch.tensor(x).float() for x in np.split(pixels, ends)]
    return images, [c.tolist() for c in np.split(data[f"{split}_label"], ends)]


def wrong(field: pgnn.ConditionalRandomField, x: list[Tensor], y: list[list[int]]) -> float:
    """Return the share of letters of which the most probable words are wrong."""
    parts = [x[k : k + 500] for k in range(0, len(x), 500)]
    found = [row for part in parts for row in field.decode(inputs={"x": part})["label"].tolist()]
    pairs = zip(found, y, strict=True)  # shorter words are padded
    return float(np.mean([a != b for row, word in pairs for a, b in zip(row, word, strict=False)]))


def main() -> None:
    """Print the error and CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--around", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    path = args.data / "sequence" / "ocr_letters.npz"
    x, y = (part[: args.words] for part in words(path, "train"))
    unknown, true = words(path, "test")
    network = pgnn.NeuralScores(Reader(args.around), "x", takes_lengths=True)
    field = pgnn.ConditionalRandomField(LETTERS, network)
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=1e-3),
        scheduler=lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.02, args.passes),
        batch_size=32, max_norm=5.0, max_iterations=args.passes,
        watch={"wrong": lambda field: wrong(field, unknown[:300], true[:300])},
    )  # fmt: skip
    begin = time.process_time()
    field.fit(y, inputs={"x": x}, learner=learner, seed=0, progress=False)
    print("of the first 300 words:", *(f"{e:.2%}" for e in field.history["trace"]["wrong"]))
    print(
        f"{time.process_time() - begin:.0f} CPU s; {wrong(field, unknown, true):.2%} of all wrong"
    )


if __name__ == "__main__":
    main()
