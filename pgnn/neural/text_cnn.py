"""Convolutional networks for texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgnn.errors import ModelError
from pgnn.limits import whole_number


class TextCNN(nn.Module):
    """Word embeddings, convolutions over neighbouring words, and maximum pooling over time.

    Args:
        words: Size of the vocabulary; word 0 is padding, with a vector of zeros.
        size: Size of a word vector.
        filters: Number of filters of each length.
        lengths: Numbers of words in the windows of the filters.

    References:
        Kim (2014), Convolutional neural networks for sentence classification.

    Example:
        >>> TextCNN(100, filters=8)(torch.tensor([[5, 7, 2, 0], [1, 0, 0, 0]])).shape
        torch.Size([2, 24])
    """

    def __init__(
        self, words: int, size: int = 50, filters: int = 50, lengths: Sequence[int] = (3, 4, 5)
    ) -> None:
        super().__init__()
        self.lengths = tuple(whole_number("lengths", n, 1, ModelError) for n in lengths)
        self.out_features = filters * len(self.lengths)
        self.embedding = nn.Embedding(words, size, padding_idx=0)
        self.filters = nn.ModuleList(nn.Conv1d(size, filters, n) for n in self.lengths)

    def forward(self, words: Tensor) -> Tensor:
        """Map word indices ``(B, T)`` to ``(B, filters * len(lengths))``."""
        short = max(self.lengths) - words.shape[1]
        if short > 0:
            words = functional.pad(words, [0, short])
        x = self.embedding(words).transpose(1, 2)
        return torch.cat([convolve(x).relu().amax(2) for convolve in self.filters], 1)
