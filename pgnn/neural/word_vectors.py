"""Word vectors, from neighbouring words or from letter trigrams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import DataError, ModelError
from pgnn.limits import whole_number

TRIGRAMS = 26**3
"""Number of letter trigrams; also the padding index of :func:`letter_trigrams`."""


class SkipGram(nn.Module):
    r"""A skip-gram classifier of word pairs, which separates real contexts from random ones.

    .. math:: p(\text{real} \mid w, c) = \sigma(v_w^\top u_c)

    It is the module of a conditional of a binary variable, with both words as inputs
    (``features=pgnn.ByName()``), and is fitted to :func:`skip_gram_rows`.

    Args:
        words: Size of the vocabulary.
        size: Size of a word vector.
        word: Name of the input ``(B,)`` of words.
        context: Name of the input ``(B,)`` of context words.

    References:
        Mikolov et al. (2013), Distributed representations of words and phrases and their
        compositionality, section 2.2; Goldberg and Levy (2014), word2vec explained.

    Example:
        >>> SkipGram(5, 3)({"word": torch.tensor([0]), "context": torch.tensor([4])}).shape
        torch.Size([1, 2])
    """

    def __init__(
        self, words: int, size: int, word: Hashable = "word", context: Hashable = "context"
    ) -> None:
        super().__init__()
        self.word, self.context = word, context
        self.vectors, self.contexts = nn.Embedding(words, size), nn.Embedding(words, size)
        nn.init.uniform_(self.vectors.weight, -0.5 / size, 0.5 / size)
        nn.init.zeros_(self.contexts.weight)

    def forward(self, inputs: Mapping[Hashable, Tensor]) -> Tensor:
        """Return ``(B, 2)`` logits of a random and of a real context."""
        v, u = self.vectors(inputs[self.word].long()), self.contexts(inputs[self.context].long())
        score = (v * u).sum(-1)
        return torch.stack([torch.zeros_like(score), score], -1)

    def analogy(self, a: int, b: int, c: int) -> int:
        """Return the word that is to ``c`` as ``b`` is to ``a``, excluding these three."""
        v = nn.functional.normalize(self.vectors.weight.detach(), dim=-1)
        alike = v @ (v[b] - v[a] + v[c])
        alike[[a, b, c]] = -torch.inf
        return int(alike.argmax())


def skip_gram_rows(
    sentences: Sequence[Sequence[int]], window: int = 5, negatives: int = 5,
    seed: int | None = None,
) -> tuple[Tensor, dict[Hashable, Tensor]]:  # fmt: skip
    r"""Return labels and inputs of real word pairs and of random pairs.

    Random contexts are drawn with probabilities :math:`\propto n_w^{3/4}`.

    Args:
        sentences: Sequences of word indices.
        window: Largest distance of the words of a real pair.
        negatives: Number of random contexts for each real one.
        seed: Seed of the draws.

    Returns:
        ``(N,)`` labels, 1 for real pairs; the inputs ``word`` and ``context``, ``(N,)`` each.

    Raises:
        DataError: If no sentence has two words.

    Example:
        >>> real, inputs = skip_gram_rows([[0, 1, 2]], window=1, negatives=1, seed=0)
        >>> real.tolist(), inputs["word"].tolist()
        ([1, 1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 2, 0, 1, 1, 2])
    """
    window = whole_number("window", window, 1, ModelError)
    negatives = whole_number("negatives", negatives, 0, ModelError)
    pairs = [
        (int(word), int(s[j]))
        for s in sentences
        for i, word in enumerate(s)
        for j in range(max(0, i - window), min(len(s), i + window + 1))
        if i != j
    ]
    if not pairs:
        raise DataError("at least one sentence must have two words, got none")
    counts = Counter(int(word) for s in sentences for word in s)
    words = np.array([*counts])
    share = np.array([*counts.values()]) ** 0.75
    rng = np.random.default_rng(seed)
    near = np.array(pairs)
    drawn = rng.choice(words, size=negatives * len(near), p=share / share.sum())
    word = np.concatenate([near[:, 0], np.tile(near[:, 0], negatives)])
    context = np.concatenate([near[:, 1], drawn])
    real = torch.zeros(len(word), dtype=torch.int64)
    real[: len(near)] = 1
    return real, {"word": torch.from_numpy(word), "context": torch.from_numpy(context)}


def letter_trigrams(words: Sequence[str]) -> Tensor:
    """Return ``(B, L)`` indices of the letter trigrams of words, padded with 26 cubed.

    ``nn.EmbeddingBag(TRIGRAMS + 1, size, padding_idx=TRIGRAMS)`` maps them to vectors, also for
    words outside the training data. Characters other than a to z are ignored.

    Args:
        words: Words in upper or lower case.

    References:
        Huang et al. (2013), Learning deep structured semantic models for web search using
        clickthrough data, section 3.2.

    Example:
        >>> letter_trigrams(["apple", "app"]).tolist()  # app, ppl, ple
        [[405, 10541, 10430], [405, 17576, 17576]]
    """
    codes = [[ord(c) - ord("a") for c in word.lower() if "a" <= c <= "z"] for word in words]
    rows = [[676 * a + 26 * b + c for a, b, c in zip(w, w[1:], w[2:], strict=False)] for w in codes]
    result = torch.full((len(rows), max(map(len, rows), default=0)), TRIGRAMS)
    for row, trigrams in zip(result, rows, strict=True):
        row[: len(trigrams)] = torch.tensor(trigrams, dtype=torch.int64)
    return result
