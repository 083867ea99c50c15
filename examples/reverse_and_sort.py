"""Sequence-to-sequence models that reverse words and sort numbers.

To reverse a word, a decoder with attention over the letters writes until it emits the end of the
word (Luong, Pham and Manning 2015). To sort numbers, a pointer network selects one of them at each
step (Vinyals, Fortunato and Jaitly 2015); its outputs are positions, so they do not depend on the
size of the numbers. Beam search reports whether its answer is the most probable sequence.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save

import pgnn

LETTERS = [*"abcdefgh"]


def main(argv: list[str] | None = None, examples: int = 600, passes: int = 20) -> dict[str, float]:
    """Return the shares of unseen words reversed, and of unseen numbers sorted."""
    args = arguments(__doc__ or "", argv)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.01), batch_size=32, max_norm=1.0,
        max_iterations=passes,
    )  # fmt: skip

    words = [[LETTERS[k] for k in rng.integers(0, 8, rng.integers(1, 7))] for _ in range(examples)]
    reverser = pgnn.SequenceToSequence(LETTERS, hidden=32)
    backwards = [word[::-1] for word in words]
    reverser.fit(backwards, inputs={"source": words}, learner=learner, seed=0, progress=False)
    unobserved = [[LETTERS[k] for k in rng.integers(0, 8, rng.integers(1, 7))] for _ in range(100)]
    written = reverser.most_probable(inputs={"source": unobserved})
    spelled = [[LETTERS[k] for k in row if k >= 0] for row in written.codes.tolist()]
    reversed_ = np.mean([a == b[::-1] for a, b in zip(spelled, unobserved, strict=True)])
    best = float((written.upper_bound == written.log_prob).double().mean())
    print(f"reversed {reversed_:.0%} of words; known to be the best answer: {best:.0%}")

    numbers = [torch.rand(int(rng.integers(2, 6)), 1) for _ in range(examples)]
    sorter = pgnn.PointerNetwork(1, places=5, hidden=32)
    order = [x[:, 0].argsort().tolist() for x in numbers]
    sorter.fit(order, inputs={"x": numbers}, learner=learner, seed=0, progress=False)
    unobserved_numbers = [torch.rand(int(rng.integers(2, 6)), 1) for _ in range(100)]
    places = sorter.most_probable(inputs={"x": unobserved_numbers}).codes.tolist()
    told = [[k for k in row if k >= 0] for row in places]
    pairs = zip(told, unobserved_numbers, strict=True)
    sorted_ = np.mean([row == x[:, 0].argsort().tolist() for row, x in pairs])
    print(f"sorted {sorted_:.0%} of lists of up to five numbers")
    draw(reverser, [*"abcdefgh"][:6], args.out / "reverse_and_sort.png")
    return {"reversed": float(reversed_), "sorted": float(sorted_), "best": best}


def draw(model: pgnn.SequenceToSequence, word: list[str], path: Path) -> None:
    """Which letters the decoder looks at as it writes."""
    rows = model.read(word[::-1], {"source": word})
    with torch.no_grad():
        memory = model.encoder(rows.inputs["source"], rows.input_lengths)
        features = model.heads[0].embed(rows.codes["token"], memory)
        before = torch.cat([model.first[None, None], features], dim=1)
        weights = model.body.attention(model.body.cells(before)[0], memory)[0]
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.imshow(weights.numpy(), cmap="gray_r")
    axes.set_xticks(range(len(word)), word)
    axes.set_yticks(range(len(word) + 1), [*word[::-1], "end"])
    axes.set(xlabel="looked at", ylabel="written")
    save(figure, path)


if __name__ == "__main__":
    main([], **({"examples": int(sys.argv[1])} if len(sys.argv) > 1 else {}))
