"""Chunks of sentences, CoNLL-2000: attributes and a recurrent network in one random field.

The scores of a label are the weights of the attributes of ``examples/chunking.py``, added up, and
what a bidirectional LSTM says over vectors of words, parts of speech and letters. Both learn
together, with dropout, of the attributes too: else these would leave nothing to explain.
Prints F1 of the test sentences, CPU seconds, and which share of these the field takes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import pgnn
from pgnn.inference.chains.label_likelihood import LabelLikelihood

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from chunking import read

Sentence = Sequence[Sequence[str]]

LETTERS, UNKNOWN, BATCH = 12, 1, 32
RATE, ATTRIBUTE_RATE = 4e-3, 2e-3


class Tagger(nn.Module):
    """Scores of labels, from numbers of words, parts of speech and letters.

    Args:
        words: How many.
        tags: How many.
        labels: How many.
        size: Of either direction.
    """

    def __init__(self, words: int, tags: int, labels: int, size: int = 128) -> None:
        super().__init__()
        self.words, self.tags = nn.Embedding(words, 48), nn.Embedding(tags, 24)
        self.letters, self.filters = nn.Embedding(128, 16), nn.Conv1d(16, 24, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.lstm = nn.LSTM(96, size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * size, labels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return ``(B, T, labels)`` of numbers ``(B, T, 2 + LETTERS)``."""
        words, tags, letters = x[..., 0], x[..., 1], x[..., 2:]
        if self.training:  # what is not known is learnt as well
            words = words.where(torch.rand(words.shape) > 0.05, UNKNOWN)
        flat = self.letters(letters.flatten(0, 1)).transpose(1, 2)
        spelled = self.filters(flat).amax(2).unflatten(0, x.shape[:2])
        steps = torch.cat([self.words(words), self.tags(tags), spelled], 2)
        packed = pack_padded_sequence(self.dropout(steps), lengths, True, enforce_sorted=False)
        found, _ = pad_packed_sequence(self.lstm(packed)[0], True, total_length=x.shape[1])
        return self.head(self.dropout(found))


class Numbers:
    """Numbers of words, of parts of speech and of letters, as the network takes them.

    Args:
        sentences: Those that are learnt from; words that they have once are unknown.
    """

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self.columns = []
        for name, least in (("word", 2), ("tag", 1)):
            found = Counter(x for s in sentences for x in here(s, name))
            known = sorted(x for x, n in found.items() if n >= least)
            self.columns.append((name, {x: k for k, x in enumerate(known, 2)}))

    def __call__(self, sentence: Sentence) -> Tensor:
        """Return ``(T, 2 + LETTERS)`` of a sentence."""
        first = [[known.get(x, UNKNOWN) for x in here(sentence, n)] for n, known in self.columns]
        letters = [[ord(c) % 128 for c in w[-LETTERS:]] for w in here(sentence, "word", str)]
        spelled = torch.tensor([row + [0] * (LETTERS - len(row)) for row in letters])
        return torch.cat([torch.tensor(first).T, spelled], 1)


def here(sentence: Sentence, name: str, form: Callable[[str], str] = str.lower) -> list[str]:
    """What the attributes of a sentence's steps say of the steps themselves."""
    begin = f"{name}(0,)="
    return [form(next(a for a in s if a.startswith(begin))[len(begin) :]) for s in sentence]


def adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return Adam, with shorter steps for the weights of attributes than for the network."""
    every = [*parameters]
    groups = [
        {"params": [p for p in every if p.dtype == torch.float64], "lr": ATTRIBUTE_RATE},
        {"params": [p for p in every if p.dtype != torch.float64]},
    ]
    return torch.optim.Adam(groups, lr=RATE)


def field_seconds(labels: Sequence[Sequence[str]], states: Sequence[str]) -> float:
    """Return CPU seconds of likelihoods and gradients by scores of a pass, nothing else."""
    begin, k = time.process_time(), len(states)
    moves = torch.zeros(k, k, requires_grad=True)
    for first in range(0, len(labels), BATCH):
        batch = labels[first : first + BATCH]
        codes = torch.tensor([states.index(z) for row in batch for z in row])
        likelihood = LabelLikelihood(torch.tensor([len(row) for row in batch]), codes)
        steps = torch.randn(len(codes), k, requires_grad=True)
        likelihood(steps, torch.zeros(k), moves).mean().backward()
    return time.process_time() - begin


def main() -> None:
    """Print F1 and CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sentences", type=int, default=8936)
    parser.add_argument("--held", type=int, default=0, help="asked instead of the test sentences")
    parser.add_argument("--passes", type=int, default=22)
    parser.add_argument("--dropout", type=float, default=0.5, help="of attributes")
    parser.add_argument("--parts", nargs="+", default=["attributes", "x"], help="of the scores")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = args.data / "sequence"
    words, labels = read(folder / "conll2000_train.txt.gz", args.sentences)
    unknown, true = read(folder / "conll2000_test.txt.gz", 2012)
    if args.held:
        unknown, true = words[-args.held :], labels[-args.held :]
        words, labels = words[: -args.held], labels[: -args.held]
    numbers = Numbers(words)
    sizes = [len(known) + 2 for _, known in numbers.columns]
    states = sorted({k for row in labels for k in row})
    parts = [pgnn.AttributeScores("attributes", dropout=args.dropout),
             pgnn.NeuralScores(Tagger(*sizes, len(states)), "x", takes_lengths=True)]  # fmt: skip
    field = pgnn.ConditionalRandomField(states, [p for p in parts if p.input_name in args.parts])

    def inputs(sentences: Sequence[Sentence]) -> dict[str, Sequence]:
        both = {"attributes": sentences, "x": [numbers(s) for s in sentences]}
        return {n: v for n, v in both.items() if n in args.parts}

    asked, begin = inputs(unknown), time.process_time()

    def f1(field: pgnn.ConditionalRandomField) -> float:
        best = field.decode(inputs=asked)["label"].tolist()
        found = [[states[k] for k in row[: len(t)]] for row, t in zip(best, true, strict=True)]
        score = 100 * pgnn.metrics.chunk_scores(true, found).f1
        print(f"F1 {score:.2f} after {time.process_time() - begin:.0f} CPU s", flush=True)
        return score

    learner = pgnn.Gradient(
        optimizer=adam, batch_size=BATCH, max_norm=5.0, max_iterations=args.passes,
        scheduler=lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.02, args.passes),
        watch={"f1": f1},
    )  # fmt: skip
    field.fit(labels, inputs=inputs(words), learner=learner, seed=0, progress=False)
    field_seconds(labels, states)  # kernels are compiled at their first call
    share = args.passes * field_seconds(labels, states) / (time.process_time() - begin)
    print(f"the field takes {share:.0%} of the time")
    print("objective", [round(v, 3) for v in field.history["trace"]["objective"]])


if __name__ == "__main__":
    main()
