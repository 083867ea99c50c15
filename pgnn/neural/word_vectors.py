"""Vectors of words: told from their neighbours, or from their letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import DataError, ModelError
from pgnn.limits import whole_number

TRIGRAMS = 26**3
"""How many triples of letters there are; their number fills rows of :func:`letter_trigrams` up."""


class SkipGram(nn.Module):
    r"""Tells words that were seen near each other from words that were drawn at random.

    .. math:: p(\text{real} \mid w, c) = \sigma(v_w^\top u_c)

    The module of a conditional of a variable of two states, with both words as inputs
    (``features=pgnn.ByName()``), which is fitted to :func:`skip_gram_rows`.

    Args:
        words: How many there are.
        size: Numbers of a vector.
        word: Name of the input ``(B,)``.
        context: Name of the input ``(B,)``.

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
        """Return ``(B, 2)`` logits: drawn at random, real."""
        v, u = self.vectors(inputs[self.word].long()), self.contexts(inputs[self.context].long())
        score = (v * u).sum(-1)
        return torch.stack([torch.zeros_like(score), score], -1)

    def analogy(self, a: int, b: int, c: int) -> int:
        """Return the word that is to ``c`` as ``b`` is to ``a``, none of these."""
        v = nn.functional.normalize(self.vectors.weight.detach(), dim=-1)
        alike = v @ (v[b] - v[a] + v[c])
        alike[[a, b, c]] = -torch.inf
        return int(alike.argmax())


def skip_gram_rows(
    sentences: Sequence[Sequence[int]], window: int = 5, negatives: int = 5,
    seed: int | None = None,
) -> tuple[Tensor, dict[Hashable, Tensor]]:  # fmt: skip
    r"""Return labels and inputs: pairs of words near each other, and pairs drawn at random.

    Random contexts are drawn with probabilities :math:`\propto n_w^{3/4}`.

    Args:
        sentences: Numbers of words.
        window: How far apart real pairs are at most.
        negatives: Random contexts for each real one.
        seed: Of the draws.

    Returns:
        ``(N,)`` labels, 1 of real pairs; the inputs ``word`` and ``context``, ``(N,)`` each.

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
        raise DataError("no sentence has two words: there are no pairs to learn from")
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
    """Return ``(B, L)`` numbers of the triples of letters of words, filled up with 26 cubed.

    ``nn.EmbeddingBag(TRIGRAMS + 1, size, padding_idx=TRIGRAMS)`` makes vectors of them, of words
    that were never seen before, too. Other characters than a to z are left out.

    Args:
        words: Of any case.

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
    for row, own in zip(result, rows, strict=True):
        row[: len(own)] = torch.tensor(own, dtype=torch.int64)
    return result
