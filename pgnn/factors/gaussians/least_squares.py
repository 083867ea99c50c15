"""Blocks of rows of a least squares problem, and the orthogonal reflections that eliminate columns.

Everything is batched: the first axis of all arrays are rows of evidence, the next ones are states
of discrete variables; an axis has length 1 where nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Block(NamedTuple):
    r"""Some terms :math:`\frac12 \|A x - b\|^2` of an energy.

    Attributes:
        scope: Numbers of the variables that have columns in the matrix, in their order.
        matrix: ``(*lead, R, C)``.
        target: ``(*lead, R)``; its leading axes may be longer or shorter than the matrix's.
    """

    scope: tuple[int, ...]
    matrix: Tensor
    target: Tensor


class Reduced(NamedTuple):
    """What reflections leave of a block.

    Attributes:
        rows: For each eliminated column ``(*lead, C - i)``, its pivot first.
        targets: For each eliminated column ``(*lead)``.
        matrix: ``(*lead, R - n, C - n)`` the rest.
        target: ``(*lead, R - n)`` the rest.
    """

    rows: list[Tensor]
    targets: list[Tensor]
    matrix: Tensor
    target: Tensor


def stacked(blocks: Sequence[Block], scope: Sequence[int], sizes: Mapping[int, int]) -> Block:
    """Return the rows of all blocks over the columns of a scope.

    Args:
        blocks: Whose scopes are parts of it.
        scope: Numbers of variables.
        sizes: How many columns each has.
    """
    first, width = {}, 0
    for v in scope:
        first[v] = width
        width += sizes[v]
    names = tuple(scope)
    matrices = []
    for block in blocks:
        if block.scope == names:
            matrices.append(block.matrix)
            continue
        columns = [first[v] + k for v in block.scope for k in range(sizes[v])]
        index = torch.tensor(columns, device=block.matrix.device)
        wide = block.matrix.new_zeros(*block.matrix.shape[:-1], width)
        matrices.append(wide.index_copy(-1, index, block.matrix))
    return Block(names, _joined(matrices, -2), _joined([b.target for b in blocks], -1))


def reduced(matrix: Tensor, target: Tensor, count: int) -> Reduced:
    """Eliminate the first columns by Householder reflections, largest entries as pivots.

    Rows of very different scales, as of noise that is nearly zero beside noise that is not, keep
    their digits: the row of the largest entry is brought up first.

    Args:
        matrix: ``(*lead, R, C)``.
        target: ``(*lead, R)``.
        count: How many columns; at least as many rows there must be.

    References:
        Householder (1958), Unitary triangularization of a nonsymmetric matrix. Cox and Higham
        (1998), Stability of Householder QR factorization for weighted least squares problems.
    """
    rows, targets = [], []
    for _ in range(count):
        x = matrix[..., 0]
        rest = matrix[..., 1:]
        largest = x.detach().abs().argmax(dim=-1, keepdim=True)
        pivot = torch.arange(x.shape[-1], device=x.device) == largest
        head = torch.where(pivot, x, 0.0).sum(dim=-1, keepdim=True)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        end = torch.where(head < 0, norm, -norm)
        mirror = torch.where(pivot, x - end, x)
        empty = norm == 0
        strength = (norm * (norm + head.abs())).masked_fill(empty, 1.0).reciprocal()
        strength = strength.masked_fill(empty, 0.0)
        scaled = strength * mirror
        rest = rest - scaled.unsqueeze(-1) * (mirror.unsqueeze(-1) * rest).sum(-2, keepdim=True)
        target = target - scaled * (mirror * target).sum(dim=-1, keepdim=True)
        top = torch.where(pivot.unsqueeze(-1), rest, 0.0).sum(dim=-2)
        rows.append(torch.cat([end, top], dim=-1))
        targets.append(torch.where(pivot, target, 0.0).sum(dim=-1))
        # the first row takes the place of the pivot's
        below = pivot[..., 1:]
        matrix = torch.where(below.unsqueeze(-1), rest[..., :1, :], rest[..., 1:, :])
        target = torch.where(below, target[..., :1], target[..., 1:])
    return Reduced(rows, targets, matrix, target)


def common_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Shape of arrays that are broadcast together."""
    return tuple(np.broadcast_shapes(*(tuple(s) for s in shapes)))  # torch's is slow


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Product ``(*lead, R)`` of matrices ``(*lead, R, C)`` and vectors ``(*lead, C)``."""
    return (matrix * vector.unsqueeze(-2)).sum(dim=-1)


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Arrays one behind the other along one of the last axes, the leading ones broadcast."""
    if len(parts) == 1:
        return parts[0]
    lead = common_shape(*(p.shape[:axis] for p in parts))
    return torch.cat([p.expand(*lead, *p.shape[axis:]) for p in parts], dim=axis)
