"""Rows that observe the same units, and the block graph conditioned on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from pgnn.factors.units.axes import cut
from pgnn.inference.block_graph import BlockGraph, row_fields
from pgnn.inference.question import Question

Ints = NDArray[np.int64]

NUMBERS = 2**22
"""Largest number of values that are stored at once."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Rows that observe the same elements, with the graph conditioned on the observations.

    Attributes:
        blocks: All blocks and links.
        rows: ``(R,)`` indices of the rows.
        free: For each block the positions ``(f,)`` of the unobserved elements.
        logits: For each block ``(R or 1, f, K)`` unary log potentials, including the interactions
            with observed elements.
        constant: ``(R,)`` log score of the observed elements.
        links: For each link the matrix between unobserved elements, ``(R or 1, f d, g e)``.
        fixed: Blocks that are enumerated.
        states: Number of joint states of these blocks.
    """

    blocks: BlockGraph
    rows: Tensor
    free: list[Tensor]
    logits: list[Tensor]
    constant: Tensor
    links: list[Tensor]
    fixed: tuple[int, ...]
    states: float

    @classmethod
    def of(cls, blocks: BlockGraph, question: Question, rows: Ints) -> Pattern:
        """Condition the graph on the observations of some rows."""
        graph = question.graph
        codes = torch.from_numpy(question.observed.codes[rows].astype(np.int64)).to(graph.device)
        chosen = torch.from_numpy(rows).to(graph.device)
        field = _floored(row_fields(question))
        field = field[chosen] if len(field) > 1 else field
        constant = graph.log_constant.to(field)
        constant = (constant[chosen] if len(constant) > 1 else constant).expand(len(rows))
        values, free, logits, known = [], [], [], []
        for b in blocks.blocks:
            states = codes[:, torch.from_numpy(b.elements).to(graph.device)]
            values.append(b.features(states))
            hidden = states[0] < 0
            free.append(hidden.nonzero()[:, 0])
            block_field = field[:, b.columns]
            logits.append(block_field[:, hidden])
            observed = (~hidden).nonzero()[:, 0]
            spread = block_field[:, observed].expand(len(rows), -1, -1)
            known.append(spread.gather(2, states[:, observed, None])[..., 0].sum(1))
        constant = constant + torch.stack(known).sum(0)
        felt = [torch.zeros(1, 1, dtype=field.dtype, device=field.device)] * len(values)
        links = []
        for k in blocks.links:
            matrix = k.of_rows(chosen)
            left = (values[k.first][:, None] @ matrix)[:, 0]
            both = (left * values[k.second]).sum(-1)
            constant = constant + (0.5 * both if k.is_within else both)
            felt[k.second] = felt[k.second] + left
            if not k.is_within:
                right = (values[k.second][:, None] @ matrix.transpose(1, 2))[:, 0]
                felt[k.first] = felt[k.first] + right
            d, e = (blocks.blocks[n].table.shape[1] for n in (k.first, k.second))
            grid = cut(cut(matrix, 2, e), 1, d)
            grid = grid[:, free[k.first]][:, :, :, free[k.second]]
            links.append(grid.flatten(3, 4).flatten(1, 2))
        for n, b in enumerate(blocks.blocks):
            if felt[n].shape[1] == values[n].shape[1] and values[n].shape[1]:
                logits[n] = logits[n] + b.logits(felt[n])[:, free[n]]
        sizes = np.array([len(f) for f in free], dtype=np.int64)
        fixed = blocks.apart(sizes)
        bits = sum(sizes[b] * math.log2(len(blocks.blocks[b].table)) for b in fixed)
        return cls(blocks, chosen, free, logits, constant, links, fixed,
                   2.0**bits if bits < 1000 else math.inf)  # fmt: skip

    @property
    def width(self) -> int:
        """Number of values per row and joint state of the enumerated blocks."""
        rest = [len(f) * len(b.table) for f, b in zip(self.free, self.blocks.blocks, strict=True)]
        return 1 + sum(rest)

    def chunks(self) -> Iterator[Tensor]:
        """Yield joint states of the enumerated blocks, ``(M, f)``, concatenated over blocks."""
        cards = [
            len(self.blocks.blocks[b].table) for b in self.fixed for _ in range(len(self.free[b]))
        ]
        total = int(self.states + 0.5)
        step = max(1, NUMBERS // (self.width * max(1, len(self.rows))))
        strides = np.cumprod([1, *cards[::-1]])[::-1][1:].astype(np.int64)
        stride = torch.from_numpy(strides.copy()).to(self.rows.device)
        card = torch.tensor(cards, dtype=torch.int64, device=self.rows.device)
        for first in range(0, total, step):
            numbers = torch.arange(first, min(first + step, total), device=self.rows.device)
            yield (numbers[:, None] // stride) % card

    def rest_of(self, states: Tensor) -> dict[int, Tensor]:
        """Return logits ``(N, f, K)`` of the other blocks given enumerated states ``(N, f)``.

        Args:
            states: One joint state per row; any number of them if there is a single row.
        """
        parts = self.split(states)
        features = {
            b: self.blocks.blocks[b].features(block_states) for b, block_states in parts.items()
        }
        rest = {
            n: x.expand(len(states), -1, -1)
            for n, x in enumerate(self.logits)
            if n not in parts and x.shape[1]
        }
        for k, matrix in zip(self.blocks.links, self.links, strict=True):
            for first, second, way in ((k.first, k.second, matrix), (k.second, k.first, matrix.mT)):
                if first in features and second in rest:
                    felt = (features[first][:, None] @ way)[:, 0]
                    rest[second] = rest[second] + self.blocks.blocks[second].logits(felt)
        return rest

    def split(self, states: Tensor) -> dict[int, Tensor]:
        """Split joint states into those of each enumerated block."""
        sizes = [len(self.free[b]) for b in self.fixed]
        return dict(zip(self.fixed, torch.split(states, sizes, dim=1), strict=True))

    def scores(self, states: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return ``(R, M)`` scores of enumerated states, ``(R, M, f, K)`` logits of the others."""
        parts = self.split(states)
        total = self.constant[:, None].expand(-1, len(states))
        features = {}
        for b, block_states in parts.items():
            block = self.blocks.blocks[b]
            hot = block.one_hot(block_states).flatten(start_dim=1)
            total = total + self.logits[b].flatten(start_dim=1) @ hot.T
            features[b] = block.features(block_states)
        rest = {n: x[:, None] for n, x in enumerate(self.logits) if n not in parts and x.shape[1]}
        for k, matrix in zip(self.blocks.links, self.links, strict=True):
            left, right = features.get(k.first), features.get(k.second)
            if left is not None and right is not None:
                both = ((left @ matrix) * right).sum(-1)
                total = total + (0.5 * both if k.is_within else both)
            elif left is not None and k.second in rest:
                felt = self.blocks.blocks[k.second].logits(left @ matrix)
                rest[k.second] = rest[k.second] + felt
            elif right is not None and k.first in rest:
                felt = self.blocks.blocks[k.first].logits(right @ matrix.mT)
                rest[k.first] = rest[k.first] + felt
        return total, rest

    def log_weights(self, states: Tensor, hard: bool) -> Tensor:
        """Return ``(R, M)`` scores of enumerated states, the others summed or maximised out."""
        total, rest = self.scores(states)
        for x in rest.values():
            if hard:
                best = x.amax(-1)
            elif x.shape[-1] == 2:
                best = x[..., 0] + softplus(x[..., 1] - x[..., 0])
            else:
                best = x.logsumexp(-1)
            total = total + best.sum(-1)
        return total


def _floored(field: Tensor) -> Tensor:
    """Replace minus infinity by a finite value so low that its exponential is always zero."""
    least = -(torch.finfo(field.dtype).max ** 0.5)
    return field.clamp(min=least)
