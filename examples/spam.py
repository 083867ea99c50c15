"""A spam filter trained on few labelled and many unlabelled messages.

The model is naive Bayes on word counts. The unlabelled messages still show which words occur
together. Expectation maximisation treats their labels as missing values; self-training uses the
predicted labels that are confident.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import numpy as np
from common import arguments, save
from scipy import sparse

import pgnn

WORDS = 2000
"""The most frequent words are counted."""


def messages(path: Path) -> tuple[np.ndarray, sparse.csr_array]:
    """Whether each message is spam, and counts of its words."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t", 1) for line in file if "\t" in line]
    texts = [re.findall(r"[a-z']+|\d+|[£$!?]", text.lower()) for _, text in pairs]
    counted = Counter(word for text in texts for word in text)
    place = {word: k for k, (word, _) in enumerate(counted.most_common(WORDS))}
    rows = [(i, place[w]) for i, text in enumerate(texts) for w in text if w in place]
    i, j = np.array(rows).T
    counts = sparse.csr_array((np.ones(len(i)), (i, j)), shape=(len(texts), len(place)))
    return np.array([label == "spam" for label, _ in pairs]).astype(int), counts


def main(argv: list[str] | None = None, *, repeats: int = 5) -> dict[str, float]:
    """Return the share of spam and ham told apart (mean over classes), by way of learning."""
    args = arguments(__doc__ or "", argv)
    spam, counts = messages(args.data / "text" / "sms_spam.tsv.gz")
    scores: dict[str, dict[int, list[float]]] = {}
    for labels in (20, 50, 200):
        for seed in range(repeats):
            told = np.random.default_rng(seed).permutation(len(spam))
            some, rest = told[:labels], told[labels:]
            known = np.full(len(spam), -1)
            known[some] = spam[some]
            ways = {
                "labels alone": ({"class": spam[some], "words": counts[some]}, None),
                "EM": ({"class": known, "words": counts}, pgnn.EM(pgnn.Laplace({"words": 1.0}))),
                "self-training": (
                    {"class": known, "words": counts},
                    pgnn.SelfTraining(threshold=0.99),
                ),
            }
            for name, (rows, learner) in ways.items():
                model = pgnn.NaiveBayes(2, {"words": pgnn.Multinomial})
                model.fit(rows, learner=learner, seed=0, progress=False)
                best = model.most_probable({"words": counts[rest]}, "class")["class"].numpy()
                score = np.mean([(best == spam[rest])[spam[rest] == c].mean() for c in (0, 1)])
                scores.setdefault(name, {}).setdefault(labels, []).append(float(score))
    for name, by_labels in scores.items():
        shown = "  ".join(f"{n} labels {np.mean(s):.3f}" for n, s in by_labels.items())
        print(f"{name:<14} {shown}")
    draw(scores, args.out / "spam.png")
    return {f"{name}, {n}": float(np.mean(s)) for name, by in scores.items() for n, s in by.items()}


def draw(scores: dict[str, dict[int, list[float]]], path: Path) -> None:
    """Show scores by the number of labels."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for name, by_labels in scores.items():
        ax.plot([*by_labels], [np.mean(s) for s in by_labels.values()], marker="o", label=name)
    ax.set(xlabel="labelled messages", ylabel="right (mean of spam and ham)", xscale="log")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    save(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
