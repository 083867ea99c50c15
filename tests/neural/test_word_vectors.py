"""Vectors of words from a planted language, and from their letters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn import neural
from pgnn.errors import DataError
from pgnn.neural.word_vectors import TRIGRAMS


def test_rows_are_neighbours_and_draws() -> None:
    real, inputs = neural.skip_gram_rows([[0, 1, 2, 3], [4]], window=2, negatives=3, seed=0)
    pairs = [*zip(inputs["word"].tolist(), inputs["context"].tolist(), strict=True)]
    near = {(i, j) for i, j in itertools.permutations(range(4), 2) if abs(i - j) <= 2}
    assert real.tolist() == [1] * 10 + [0] * 30
    assert sorted(pairs[:10]) == sorted(near)
    assert [w for w, _ in pairs[10:20]] == [w for w, _ in pairs[:10]]
    with pytest.raises(DataError, match="one sentence must have two words"):
        neural.skip_gram_rows([[1], []])


def test_contexts_are_drawn_by_their_tempered_frequency() -> None:
    sentences = [[0] * 8, [1, 1]]
    _, inputs = neural.skip_gram_rows(sentences, negatives=200, seed=0)
    drawn = inputs["context"][58:]
    share = 8**0.75 / (8**0.75 + 2**0.75)
    error = (share * (1 - share) / len(drawn)) ** 0.5
    assert float((drawn == 0).double().mean()) == pytest.approx(share, abs=5 * error)


def test_analogies_of_a_planted_language() -> None:
    """Words 0 to 5 have a kind (of two) and a role (of three); their neighbours tell either."""
    rng = np.random.default_rng(0)
    sentences = []
    for kind, role in itertools.product(range(2), range(3)):
        word = 3 * kind + role
        for _ in range(60):
            sentences.append([6 + kind, word] if rng.random() < 0.5 else [8 + role, word])
    real, inputs = neural.skip_gram_rows(sentences, window=1, negatives=4, seed=0)
    torch.manual_seed(0)
    network = neural.SkipGram(11, 4)
    told = pgnn.Neural(
        pgnn.Variable("real", 2), [], network, inputs=["word", "context"], features=pgnn.ByName()
    )
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05), batch_size=200, max_iterations=30
    )
    pgnn.BayesianNetwork([], [told]).fit(
        {"real": real}, inputs=inputs, learner=learner, seed=0, progress=False
    )
    questions = [(a, b, 3 + a, 3 + b) for a, b in itertools.permutations(range(3), 2)]
    assert all(network.analogy(a, b, c) == d for a, b, c, d in questions)


def test_letters_in_threes() -> None:
    codes = neural.letter_trigrams(["apple", "Ap-ples", "at"])
    assert codes.shape == (3, 4)
    spelled = ["".join(chr(97 + int(c) // 26**k % 26) for k in (2, 1, 0)) for c in codes[0, :3]]
    assert spelled == ["app", "ppl", "ple"]
    assert codes[1, :3].tolist() == codes[0, :3].tolist()
    assert (codes[2] == TRIGRAMS).all()
    assert TRIGRAMS == 17_576
    vectors = nn.EmbeddingBag(TRIGRAMS + 1, 3, mode="sum", padding_idx=TRIGRAMS)(codes)
    assert not vectors[2].any()
    assert neural.letter_trigrams([]).shape == (0, 0)
