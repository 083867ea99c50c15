"""Projective dependency trees: the algorithm of Eisner."""

from __future__ import annotations

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.inference.semiring import Reduction, contract
from pgnn.inference.trees.tree_field import TreeField, splits


def check_arcs(scores: Tensor) -> None:
    """Check the shape of arc scores.

    Raises:
        ModelError: If it is wrong.
    """
    if scores.dim() != 3 or scores.shape[1] != scores.shape[2] + 1:
        raise ModelError(f"scores must be (B, n + 1, n), heads by words, got {tuple(scores.shape)}")


def heads_of(arcs: Tensor) -> Tensor:
    """Return ``(..., n)`` heads of words given arcs ``(..., n + 1, n)``; 0: root, -1: none.

    Example:
        >>> heads_of(torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
        tensor([2, 0])
    """
    return torch.where(arcs.sum(-2) > 0, arcs.argmax(-2), -1)


class ProjectiveTrees(TreeField):
    r"""Distributions over dependency trees without crossing arcs.

    Parts are arcs: ``scores[b, h, m]`` is the score of head ``h`` for word ``m`` (counted from 0),
    where head 0 is the root and head ``h`` is word ``h - 1``.

    Args:
        scores: ``(B, n + 1, n)`` log scores.
        lengths: ``(B,)`` number of words of each row; ``n`` if not given.
        single_root: Whether exactly one word depends on the root.

    Raises:
        ModelError: If the shape is wrong.

    Cost: :math:`O(n^3)` per row.

    References:
        Eisner (1996), Three new probabilistic models for dependency parsing.

    Example:
        >>> trees = ProjectiveTrees(torch.zeros(1, 4, 3))
        >>> trees.log_partition().exp().round()
        tensor([7.])
    """

    def __init__(
        self, scores: Tensor, lengths: Tensor | None = None, *, single_root: bool = True
    ) -> None:
        check_arcs(scores)
        super().__init__(scores, lengths, scores.shape[2])
        self.single_root = single_root

    def inside(self, scores: Tensor, reduction: Reduction) -> Tensor:
        """See the base class; spans of a head and its dependents on one side."""
        nodes = self.words + 1
        none = scores.new_zeros(len(scores), nodes)
        rights, lefts = [none], [none]  # spans with the head at the left, or at the right
        begun, ended = [none], [none]  # spans of an arc, likewise
        for width in range(1, nodes):
            starts = nodes - width
            parts = splits(rights, lefts, range(width), width, starts, gap=1)
            under = contract(parts, reduction, 2)
            if self.single_root:
                alone = rights[0][:, :1] + lefts[width - 1][:, 1:2]
                under = torch.cat([alone, under[:, 1:]], dim=1)
            begun.append(under + torch.diagonal(scores, width - 1, 1, 2))
            back = under[:, 1:] + torch.diagonal(scores, -width - 1, 1, 2)
            never = scores.new_full((len(scores), 1), -torch.inf)
            ended.append(torch.cat([never, back], dim=1))
            parts = splits(begun, rights, range(1, width + 1), width, starts)
            rights.append(contract(parts, reduction, 2))
            parts = splits(lefts, ended, range(width), width, starts)
            lefts.append(contract(parts, reduction, 2))
        return self._of_lengths(rights)
