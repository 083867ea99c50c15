"""Steps of sequences of different lengths: concatenated, and in padded groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_PADDING = 1.25
"""Largest ratio of the steps of a padded group to its real steps."""


class RaggedSteps:
    """``N`` steps of ``B`` sequences, in groups of sequences of about the same length.

    Args:
        lengths: ``(B,)`` number of steps of each sequence, on the CPU.

    Attributes:
        groups: ``(b,)`` indices of the sequences of each group.
        lengths: ``(b,)`` lengths of the sequences of each group.

    Example:
        >>> steps = RaggedSteps(torch.tensor([2, 9, 2]))
        >>> [g.tolist() for g in steps.groups]
        [[0, 2], [1]]
        >>> steps.padded(torch.arange(13.0).unsqueeze(-1))[0].squeeze(-1)
        tensor([[ 0.,  1.],
                [11., 12.]])
    """

    def __init__(self, lengths: Tensor) -> None:
        order = torch.argsort(lengths, stable=True)
        bounds = _bounds(lengths[order].tolist())
        self.groups = [order[a:b] for a, b in itertools.pairwise(bounds)]
        self.lengths = [lengths[g] for g in self.groups]
        begin = lengths.cumsum(0) - lengths
        places = [_places(begin[g], lengths[g]) for g in self.groups]
        self._inside = [p >= 0 for p in places]
        self._steps = torch.cat([p[p >= 0] for p in places])

    def padded(self, values: Tensor) -> list[Tensor]:
        """Return ``(b, t, ...)`` values of the steps of each group, padded with zeros.

        Args:
            values: ``(N, ...)``, sequence after sequence.
        """
        parts: Any = _Padded.apply(values, self._inside, self._steps)  # type: ignore[no-untyped-call]
        return list(parts)

    def unpadded(self, parts: Sequence[Tensor]) -> Tensor:
        """Return ``(N, ...)`` concatenated values of the steps, without gradients."""
        values = parts[0].new_empty((len(self._steps), *parts[0].shape[2:]))
        begin = 0
        for part, inside in zip(parts, self._inside, strict=True):
            rows = part[inside]
            values[self._steps[begin : begin + len(rows)]] = rows
            begin += len(rows)
        return values

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate ``(b,)`` values of the sequences of each group into ``(B,)``."""
        return torch.cat([*parts])[torch.argsort(torch.cat(self.groups)).to(parts[0].device)]


class _Padded(Function):
    """Padded groups; the gradient is gathered without a sum, as each step is in one group."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, inside: list[Tensor], steps: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.inside, ctx.steps, ctx.shape = inside, steps, values.shape
        rows = torch.split(values[steps.to(values.device)], [int(x.sum()) for x in inside])
        parts = []
        for present, chosen in zip(inside, rows, strict=True):
            part = values.new_zeros((*present.shape, *values.shape[1:]))
            part[present.to(values.device)] = chosen
            parts.append(part)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        rows = torch.cat(
            [part[x.to(part.device)] for part, x in zip(upstream, ctx.inside, strict=True)]
        )
        steps = ctx.steps.to(rows.device)
        return rows.new_zeros(ctx.shape).index_copy(0, steps, rows), None, None


def _bounds(lengths: list[int]) -> list[int]:
    """Boundaries of the groups, whose longest sequence is little longer than their shortest."""
    bounds = [0]
    for i, length in enumerate(lengths):
        if length > _PADDING * lengths[bounds[-1]] + 2:
            bounds.append(i)
    return [*bounds, len(lengths)]


def _places(begin: Tensor, lengths: Tensor) -> Tensor:
    """Return ``(b, t)`` indices of the steps, -1 beyond the end."""
    steps = torch.arange(int(lengths.max()) if len(lengths) else 0)
    return torch.where(steps < lengths[:, None], begin[:, None] + steps, -1)
