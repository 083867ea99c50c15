"""Attention whose weights are marginals of a latent chain or tree over the steps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.limits import whole_number


class StructuredAttention(nn.Module, ABC):
    r"""Attention by the expectation of a latent structure :math:`z` over the steps.

    .. math:: c = E_{z \mid x} \, f(x, z) = \sum_r p(r \mid x) \, v_r

    where the parts :math:`r` of the structure are weighted by a field whose scores are computed by
    a network; softmax attention is the case of a single choice. The marginals are exact and
    differentiable.

    Args:
        features: Number ``D`` of features of a step.

    Raises:
        ModelError: If a size is not a positive integer; methods raise it if steps do not fit.

    References:
        Kim, Denton, Hoang and Rush (2017), Structured attention networks.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = whole_number("features", features, 1, ModelError)

    @abstractmethod
    def weights(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return marginals of the parts given steps ``(B, T, D)``, zero beyond the ends.

        Args:
            x: Steps.
            lengths: ``(B,)`` lengths of the rows; ``T`` by default.
        """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the expected values; see :meth:`weights` for the arguments."""
        x = self._steps(x, lengths)
        return self.expectation(self.weights(x, lengths), x)

    def _steps(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return steps ``(B, T, D)`` with zeros beyond the ends.

        Raises:
            ModelError: If the steps have another shape.
        """
        if x.dim() != 3 or x.shape[2] != self.features:
            raise ModelError(f"steps must be (B, T, {self.features}), got {tuple(x.shape)}")
        if lengths is None:
            return x
        beyond = torch.arange(x.shape[1], device=x.device) >= lengths.to(x.device)[:, None]
        return x.masked_fill(beyond[..., None], 0.0)

    @abstractmethod
    def expectation(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return the expected values, given marginals and steps ``(B, T, D)``."""


class ChainAttention(StructuredAttention):
    r"""Selects a subset of the steps by a chain, :math:`c = \sum_t p(z_t = 1 \mid x) x_t`.

    Unary scores are linear in the steps; pairwise scores of neighbours are four parameters.

    Args:
        features: Number ``D`` of features of a step.

    Example:
        >>> layer = ChainAttention(3)
        >>> layer(torch.zeros(2, 5, 3)).shape, layer.weights(torch.zeros(2, 5, 3)).shape
        (torch.Size([2, 3]), torch.Size([2, 5]))
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.score = nn.Linear(features, 1)
        self.neighbours = nn.Parameter(torch.zeros(2, 2))

    def weights(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``(B, T)`` selection probabilities."""
        from pgnn.inference.chains.chain import Chain

        x = self._steps(x, lengths)
        chosen = self.score(x)
        field = torch.cat([torch.zeros_like(chosen), chosen], dim=-1)
        return Chain(field.new_zeros(2), self.neighbours, field, lengths).marginals()[..., 1]

    def expectation(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return ``(B, D)`` expected sums of the selected steps."""
        return torch.einsum("bt,btd->bd", weights, x)


class DependencyAttention(StructuredAttention):
    r"""Attention to the head in a dependency tree, :math:`c_m = \sum_h p(h \to m) x_h`.

    Args:
        features: Number ``D`` of features of a step.
        projective: Whether to exclude trees with crossing arcs.
        size: Size of the vectors in the bilinear scores; ``features`` by default.

    Example:
        >>> layer = DependencyAttention(3)
        >>> layer(torch.zeros(2, 5, 3)).shape, layer.weights(torch.zeros(2, 5, 3)).shape
        (torch.Size([2, 5, 3]), torch.Size([2, 6, 5]))
    """

    def __init__(self, features: int, *, projective: bool = True, size: int | None = None) -> None:
        super().__init__(features)
        self.projective = projective
        self.size = whole_number("size", features if size is None else size, 1, ModelError)
        self.head, self.word = nn.Linear(features, self.size), nn.Linear(features, self.size)
        self.root = nn.Parameter(torch.zeros(features))

    def weights(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``(B, T + 1, T)`` probabilities of arcs from heads (the root first) to words."""
        from pgnn.inference.trees.projective_trees import ProjectiveTrees
        from pgnn.inference.trees.spanning_trees import SpanningTrees

        x = self._steps(x, lengths)
        scores = self.head(self._heads(x)) @ self.word(x).mT / self.size**0.5
        trees = ProjectiveTrees if self.projective else SpanningTrees
        return trees(scores, lengths).marginals()

    def expectation(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return ``(B, T, D)`` expected heads."""
        return weights.mT @ self._heads(x)

    def _heads(self, x: Tensor) -> Tensor:
        return torch.cat([self.root.expand(len(x), 1, -1), x], dim=1)


class ConstituentAttention(StructuredAttention):
    r"""Attention of each step to the other ends of the constituents that start or end at it.

    .. math:: c_i = \sum_{j \ne i} p(\text{a constituent of a binary tree from } i
        \text{ to } j) \, x_j

    Args:
        features: Number ``D`` of features of a step.
        size: Numbers that steps are compared by; ``features`` if not given.

    Example:
        >>> layer = ConstituentAttention(3)
        >>> layer(torch.zeros(2, 5, 3)).shape, layer.weights(torch.zeros(2, 5, 3)).shape
        (torch.Size([2, 5, 3]), torch.Size([2, 5, 5]))
    """

    def __init__(self, features: int, *, size: int | None = None) -> None:
        super().__init__(features)
        self.size = whole_number("size", features if size is None else size, 1, ModelError)
        self.first, self.last = nn.Linear(features, self.size), nn.Linear(features, self.size)

    def weights(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``(B, T, T)`` probabilities of constituents, indexed by first and last step."""
        from pgnn.inference.trees.constituency_trees import ConstituencyTrees

        x = self._steps(x, lengths)
        scores = self.first(x) @ self.last(x).mT / self.size**0.5
        return ConstituencyTrees(scores, lengths).marginals()

    def expectation(self, weights: Tensor, x: Tensor) -> Tensor:
        """Return ``(B, T, D)`` expected sums of the other ends."""
        spans = weights.triu(1)
        return (spans + spans.mT) @ x
