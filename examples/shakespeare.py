"""A character-level language model, trained on plays by Shakespeare, that generates new text.

The first nine tenths of the text are divided into pieces of a hundred characters. The last tenth is
test data; the log-likelihood is given in nats per character. A table of character frequencies has
3.3, and published models with millions of parameters have 1.47.
``python shakespeare.py 1000000`` reaches 1.53 in 85 seconds on one core.
"""

from __future__ import annotations

import gzip
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save

import pgnn

STEPS = 100


def main(
    argv: list[str] | None = None, characters: int = 100_000, hidden: int = 128, passes: int = 3
) -> dict[str, float]:
    """Return nats a character of the last tenth, of the model and of a frequency table."""
    args = arguments(__doc__ or "", argv)
    with gzip.open(args.data / "text" / "tinyshakespeare.txt.gz", "rt") as file:
        text = file.read()
    train, test = text[: len(text) * 9 // 10][:characters], text[len(text) * 9 // 10 :]
    torch.manual_seed(0)
    letters = sorted(set(text))
    model = pgnn.LanguageModel(letters, hidden, embedding=64)
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.004), batch_size=32, max_norm=1.0,
        scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, passes, 2e-4),
        max_iterations=passes,
    )  # fmt: skip
    model.fit(pieces(train, STEPS), learner=learner, seed=0, progress=True)

    unobserved = pieces(test[:50_000] if characters < len(text) // 2 else test, 500)
    nats = -float(model.log_prob(unobserved).mean()) / 500
    counts, unobserved_counts = (
        np.array([t.count(c) for c in letters]) + 1.0 for t in (train, test)
    )
    table = -(unobserved_counts / unobserved_counts.sum()) @ np.log(counts / counts.sum())
    print(f"{nats:.3f} nats a character; {table:.3f} by the frequencies of characters alone")
    written = model.sample(1, {"token": [*"ROMEO:\n"], "T": 300}, seed=1)["token"][0]
    print("".join(letters[k] for k in written))

    seconds = np.array(model.history["trace"]["seconds"])
    figure, axes = plt.subplots()
    axes.plot(seconds, -np.array(model.history["trace"]["mean_log_likelihood"]) / STEPS, "o-")
    axes.axhline(nats, color="gray", label="last tenth, in the end")
    axes.set(xlabel="seconds", ylabel="nats a character while learning")
    axes.legend()
    save(figure, args.out / "shakespeare.png")
    return {"nats": nats, "table": float(table)}


def pieces(text: str, length: int) -> list[str]:
    """Consecutive pieces of one length; what is left over is left out."""
    return [text[k : k + length] for k in range(0, len(text) - length + 1, length)]


if __name__ == "__main__":
    long = {"characters": int(sys.argv[1]), "hidden": 256, "passes": 4} if sys.argv[1:] else {}
    main([], **long)
