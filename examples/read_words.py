"""Read words from images without segmentation into letters, by CTC.

The letters of handwritten words (Kassel 1995; Taskar, Guestrin and Koller 2003) are concatenated
into a strip of 16 rows. A small convolutional network processes the columns. The likelihood of a
word is the sum over all alignments of its letters with the columns. All 3,400 words take some
minutes: ``python read_words.py 3400``.
"""

from __future__ import annotations

import string
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn

LETTERS = [*string.ascii_lowercase]
ADAM = {"optimizer": lambda p: torch.optim.Adam(p, lr=0.005), "max_norm": 1.0, "batch_size": 16}


class Columns(nn.Sequential):
    """Scores of a blank and the letters at each column, from those around it."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(16, 96, 7, padding=3), nn.ReLU(), nn.Dropout(0.2),
            nn.Conv1d(96, 96, 5, padding=2), nn.ReLU(), nn.Dropout(0.2),
            nn.Conv1d(96, 1 + len(LETTERS), 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map columns ``(B, T, 16)`` to scores ``(B, T, 27)``."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def main(argv: list[str] | None = None, words: int = 1000) -> dict[str, float]:
    """Return the share of letters of unseen words that have to be corrected."""
    args = arguments(__doc__ or "", argv)
    data = np.load(args.data / "sequence" / "ocr_letters.npz")
    columns, labels = read(data, "train", words)
    unobserved, true = read(data, "test", 300)
    torch.manual_seed(0)
    model = pgnn.CTC(LETTERS, Columns())
    learner = pgnn.Gradient(**ADAM, max_iterations=12)
    model.fit(labels, inputs={"x": columns}, learner=learner, seed=0, progress=False)

    found = model.decode(inputs={"x": unobserved})
    spelled = [[LETTERS[c] for c in row if c >= 0] for row in found.codes.tolist()]
    wrong = sum(pgnn.metrics.edit_distance(a, b) for a, b in zip(true, spelled, strict=True))
    error = wrong / sum(map(len, true))
    exact = float((found.upper_bound == found.log_prob).double().mean())
    print(f"letters to correct {error:.1%}; answers known to be the best {exact:.0%}")
    print(*("".join(z) for z in spelled[:9]))
    draw(model, unobserved[0], true[0], args.out / "read_words.png")
    return {"error": error, "exact": exact}


def read(
    data: dict[str, np.ndarray], split: str, count: int
) -> tuple[list[Tensor], list[list[str]]]:
    """Strips ``(T, 16)`` of the first words of a split, and their letters."""
    ends = np.flatnonzero(np.diff(data[f"{split}_word"])) + 1
    pixels = data[f"{split}_pixels"].reshape(-1, 16, 8).swapaxes(1, 2)
    strips = [torch.tensor(x.reshape(-1, 16)).float() for x in np.split(pixels, ends)[:count]]
    codes = np.split(data[f"{split}_label"], ends)[:count]
    return strips, [[LETTERS[k] for k in c] for c in codes]


def draw(model: pgnn.CTC, strip: Tensor, word: list[str], path: Path) -> None:
    """A word, and which of its columns say which letter."""
    probs = model.query("alignment", word, inputs={"x": strip})["alignment"].probs
    figure, axes = plt.subplots(2, 1, figsize=(8, 5), sharex=True)
    axes[0].imshow(strip.T.numpy(), cmap="gray_r", aspect="auto")
    for letter in sorted(set(word)):
        axes[1].plot(probs[:, 1 + LETTERS.index(letter)].numpy(), label=letter)
    axes[1].set(xlabel="column", ylabel="probability given the word")
    axes[1].legend()
    save(figure, path)


if __name__ == "__main__":
    main([], **({"words": int(sys.argv[1])} if len(sys.argv) > 1 else {}))
