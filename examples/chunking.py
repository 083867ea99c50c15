"""Chunking of sentences (CoNLL-2000) by a conditional random field with the usual attributes.

The attributes are words and parts of speech within two words, and their pairs and triples. The
labels are those of chunks (``B-NP`` begins a noun phrase, ``I-NP`` continues it). Tjong Kim Sang
and Buchholz (2000), Introduction to the CoNLL-2000 shared task: chunking; Sha and Pereira (2003),
Shallow parsing with conditional random fields. All 8,936 sentences take some minutes:
``python chunking.py 8936``.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from common import arguments, save

import pgnn

OFFSETS = {"word": [(-2,), (-1,), (0,), (1,), (2,), (-1, 0), (0, 1)],
           "tag": [(-2,), (-1,), (0,), (1,), (2,), (-2, -1), (-1, 0), (0, 1), (1, 2),
                   (-2, -1, 0), (-1, 0, 1), (0, 1, 2)]}  # fmt: skip
LEARNER = pgnn.Gradient(l2=1e-3, max_iterations=60, tolerance=1e-4)


def main(argv: list[str] | None = None, sentences: int = 1000) -> dict[str, float]:
    """Return F1 of all chunks of the test sentences, and what the learned weights say."""
    args = arguments(__doc__ or "", argv)
    words, labels = read(args.data / "sequence" / "conll2000_train.txt.gz", sentences)
    unobserved, true = read(
        args.data / "sequence" / "conll2000_test.txt.gz", max(200, sentences // 4)
    )

    begin = time.perf_counter()
    field = pgnn.ConditionalRandomField(observed_transitions=True)
    field.fit(labels, inputs={"attributes": words}, learner=LEARNER, progress=False)
    print(f"{time.perf_counter() - begin:.0f} s to learn {field.scores[0]}")
    states = field.state.states or ()
    best = field.decode(inputs={"attributes": unobserved})["label"]
    predicted = [
        [states[k] for k in row[: len(tags)]] for row, tags in zip(best.tolist(), true, strict=True)
    ]
    scores = pgnn.metrics.chunk_scores(true, predicted)
    print(f"F1 {100 * scores.f1:.2f} of {len(true)} sentences; of types with their counts:")
    for kind in ("NP", "VP", "PP", "ADVP"):
        print(f"  {kind:<5} {100 * scores.by_type[kind].f1:.2f}")
    sure = field.smooth(inputs={"attributes": unobserved})["label"].probs.amax(-1).nanmean().item()
    draw(field, args.out / "chunking.png")
    return {"f1": scores.f1, "np": scores.by_type["NP"].f1, "certainty": sure}


def read(path: Path, count: int) -> tuple[list[list[list[str]]], list[list[str]]]:
    """Attributes and labels of the first sentences of a file."""
    with gzip.open(path, "rt") as file:
        blocks = file.read().strip().split("\n\n")[:count]
    rows = [[line.split() for line in block.splitlines()] for block in blocks]
    return [attributes(row) for row in rows], [[label for *_, label in row] for row in rows]


def attributes(rows: list[list[str]]) -> list[list[str]]:
    """For each word the names of what is found around it."""
    columns = {"word": [r[0] for r in rows], "tag": [r[1] for r in rows]}

    def around(t: int) -> Iterator[str]:
        yield from ["__BOS__"] * (t == 0) + ["__EOS__"] * (t == len(rows) - 1)
        for name, places in OFFSETS.items():
            for place in places:
                if t + place[0] >= 0 and t + place[-1] < len(rows):
                    yield f"{name}{place}=" + "|".join(columns[name][t + o] for o in place)

    return [[*around(t)] for t in range(len(rows))]


def draw(field: pgnn.ConditionalRandomField, path: Path) -> None:
    """The scores of transitions between the labels."""
    states, moves = field.state.states or (), field.moves().detach().numpy()
    figure, axes = plt.subplots(figsize=(7, 6))
    image = axes.imshow(moves, cmap="RdBu_r", vmin=-abs(moves).max(), vmax=abs(moves).max())
    axes.set_xticks(range(len(states)), states, rotation=90)
    axes.set_yticks(range(len(states)), states)
    axes.set(xlabel="label", ylabel="label before", title="scores of transitions")
    figure.colorbar(image)
    save(figure, path)


if __name__ == "__main__":
    main([], **({"sentences": int(sys.argv[1])} if len(sys.argv) > 1 else {}))
