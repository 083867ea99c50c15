"""Factor graphs of blocks of elements that are joined by dense matrices alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.groups.matrix_group import MatrixGroup
from pgnn.factors.units.axes import cut
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.question import Question

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Block:
    """Elements with the same neighbours, connected to each other only by a link within the block.

    Attributes:
        elements: ``(n,)`` indices of the elements.
        columns: ``(n, K)`` columns of their states among those of all elements.
        table: ``(K, d)`` features of each state.
    """

    elements: Ints
    columns: Tensor
    table: Tensor

    def one_hot(self, states: Tensor) -> Tensor:
        """Return one-hot indicators ``(N, n, K)`` of states ``(N, n)``."""
        return torch.nn.functional.one_hot(states, len(self.table)).to(self.table.dtype)

    def features(self, states: Tensor) -> Tensor:
        """Return ``(N, n d)`` features of ``(N, n)`` states; zeros for a state -1."""
        known = (states >= 0).to(self.table.dtype)[..., None]
        return (self.table[states.clamp(min=0)] * known).flatten(start_dim=1)

    def logits(self, felt: Tensor) -> Tensor:
        """Return logits ``(..., n, K)`` of the states, given fields ``(..., n d)`` on features."""
        return cut(felt, felt.dim() - 1, self.table.shape[1]) @ self.table.T


@dataclass(frozen=True, eq=False)
class BlockLink:
    """A matrix between two blocks, or within one.

    Attributes:
        first: Index of a block.
        second: Index of another, or the same.
        matrix: ``(m d, n e)`` or ``(B, m d, n e)``.
    """

    first: int
    second: int
    matrix: Tensor

    @property
    def is_within(self) -> bool:
        """Whether it joins a block to itself."""
        return self.first == self.second

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the matrices of some rows, ``(1, m d, n e)`` if all rows share one."""
        if self.matrix.dim() == 2:
            return self.matrix[None]
        return self.matrix[rows] if len(self.matrix) > 1 else self.matrix


@dataclass(frozen=True, eq=False)
class BlockGraph:
    """A factor graph of blocks of elements and matrices between them.

    Attributes:
        blocks: A partition of the elements.
        links: The matrices.
    """

    blocks: tuple[Block, ...]
    links: tuple[BlockLink, ...]

    @classmethod
    def of(cls, graph: FactorGraph) -> BlockGraph | None:
        """Return the block graph of a factor graph; None if some factor is of another kind."""
        owner = np.full(len(graph.elements), -1, dtype=np.int64)
        blocks: list[tuple[Ints, Tensor]] = []
        links: list[BlockLink] = []
        for g in graph.interactions:
            if g.sides is None or not isinstance(g, MatrixGroup):
                return None
            ends = []
            for elements, table in zip(g.sides, (g.first, g.second), strict=True):
                number = int(owner[elements[0]])
                if number < 0:
                    if (owner[elements] >= 0).any():
                        return None
                    number = len(blocks)
                    blocks.append((elements, table.to(graph.dtype)))
                    owner[elements] = number
                known, features = blocks[number]
                same = known is elements or np.array_equal(known, elements)
                if not same or not torch.equal(features, table.to(features)):
                    return None
                ends.append(number)
            links.append(BlockLink(ends[0], ends[1], g.matrix().to(graph.dtype)))
        loose = owner < 0
        for states in np.unique(graph.elements.card[loose]).tolist():
            members = np.flatnonzero(loose & (graph.elements.card == states))
            like = torch.zeros(states, 1, dtype=graph.dtype, device=graph.device)
            blocks.append((members, like))
        return cls(tuple(_block(graph, e, table) for e, table in blocks), tuple(links))

    @property
    def inner(self) -> frozenset[int]:
        """Blocks whose elements are connected to each other."""
        return frozenset(k.first for k in self.links if k.is_within)

    def apart(self, free: Ints) -> tuple[int, ...]:
        """Return the cheapest set of blocks that makes all other blocks conditionally independent.

        Args:
            free: ``(blocks,)`` number of unobserved elements of each.
        """
        open_blocks = [b for b in range(len(self.blocks)) if free[b]]
        joined = [
            (k.first, k.second)
            for k in self.links
            if free[k.first] and free[k.second] and not (k.is_within and free[k.first] == 1)
        ]
        involved = sorted({b for pair in joined for b in pair})
        bits = {b: float(free[b]) * math.log2(max(len(self.blocks[b].table), 1))
                for b in open_blocks}  # fmt: skip
        best: tuple[float, tuple[int, ...]] = (math.inf, ())
        for size in range(len(involved) + 1):
            for chosen in itertools.combinations(involved, size):
                if all(a in chosen or b in chosen for a, b in joined):
                    best = min(best, (sum(bits[b] for b in chosen), chosen))
        return best[1]


def _block(graph: FactorGraph, elements: Ints, table: Tensor) -> Block:
    columns = graph.elements.offset[elements][:, None] + np.arange(len(table))
    return Block(elements, torch.from_numpy(columns).to(graph.device), table)


def row_fields(question: Question) -> Tensor:
    """Return ``(1, S)`` or ``(B, S)`` unary log potentials with soft evidence; differentiable.

    Hard evidence is not included.
    """
    field = question.graph.log_field
    if question.observed.soft is not None:
        soft = torch.from_numpy(np.ascontiguousarray(question.observed.soft)).to(field)
        field = field + soft.log()
    return field
