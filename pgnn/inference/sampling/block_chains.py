"""Block Gibbs sampling for fields of dense matrices: a block of units at once, in all chains."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.inference.block_graph import Block, BlockGraph, row_fields
from pgnn.inference.sampling.cpu_gibbs import TemperedTables

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class BlockChains:
    """``C`` chains for each of some rows of evidence; one matrix product per block.

    Args:
        tables: Rows and temperatures; the parameters are those of the graph.
        seeds: ``(rows * C,)`` integers; the first one seeds the generator that the chains share.
        blocks: Blocks of elements, without links inside a block.
    """

    def __init__(
        self, tables: TemperedTables, seeds: NDArray[np.uint64], blocks: BlockGraph
    ) -> None:
        question, self._blocks = tables.question, blocks
        graph, chains = question.graph, len(tables.temperatures)
        self._offset, self._num_chains = graph.elements.offset, chains
        device, self._dtype = graph.device, graph.dtype
        self._rng = torch.Generator(device)
        self._rng.manual_seed(int(seeds[0] >> np.uint64(1)) if len(seeds) else 0)
        codes = np.repeat(
            question.observed.codes[slice(*tables.rows)].astype(np.int64), chains, axis=0
        )
        self._codes = torch.from_numpy(codes).to(device)
        field = row_fields(question).detach()
        if len(field) > 1:
            field = field[slice(*tables.rows)].repeat_interleave(chains, dim=0)
        heat = torch.tensor(tables.temperatures * tables.num_rows, dtype=self._dtype)
        self._heat = None if bool((heat == 1).all()) else heat.to(device)
        self._links = [(k.first, k.second, k.matrix.detach()) for k in blocks.links]
        self._fields = [field[:, b.columns] for b in blocks.blocks]
        # units of two states with one feature: only the difference of their logits is needed
        self._two = [tuple(b.table.shape) == (2, 1) for b in blocks.blocks]
        self._gaps = [f[..., 1] - f[..., 0] if two else f
                      for f, two in zip(self._fields, self._two, strict=True)]  # fmt: skip
        self._low = [float(b.table[0, 0]) for b in blocks.blocks]
        self._step = [float(b.table[-1, 0]) - low
                      for b, low in zip(blocks.blocks, self._low, strict=True)]  # fmt: skip
        self._elements = [torch.from_numpy(b.elements).to(device) for b in blocks.blocks]
        self._observed = [self._codes[:, e] for e in self._elements]
        self._moves = [bool((s < 0).any()) for s in self._observed]
        self._fixed = [bool((s >= 0).any()) for s in self._observed]
        self._states = [s.clamp(min=0) for s in self._observed]
        self._features = [b.features(s) for b, s in zip(blocks.blocks, self._states, strict=True)]

    def start(self) -> Ints:
        """Start from samples of the unary potentials, or from uniform possible states."""
        lost = torch.zeros(len(self._codes), dtype=torch.bool, device=self._codes.device)
        flat = torch.arange(len(self._codes), device=self._codes.device) % 2 == 1
        for n, block in enumerate(self._blocks.blocks):
            logits = self._fields[n].expand(len(self._codes), -1, -1)
            any_state = torch.where(logits.isneginf(), logits, torch.zeros_like(logits))
            logits = torch.where(flat[:, None, None], any_state, logits)
            lost |= logits.isneginf().all(-1).any(-1)
            field_of_known = self._fields[n].expand_as(logits).gather(
                2, self._states[n][..., None])[..., 0]  # fmt: skip
            lost |= ((self._observed[n] >= 0) & field_of_known.isneginf()).any(-1)
            self._set(n, block, self._drawn(logits))
        rows = lost.reshape(-1, self._num_chains).any(dim=1)
        return (2 * rows.long()).cpu().numpy()

    def run(self, sweeps: int) -> None:
        """Run sweeps without recording."""
        for _ in range(sweeps):
            for n, block in enumerate(self._blocks.blocks):
                if self._moves[n] and self._two[n]:
                    self._set_bits(n, self._gap(n).sigmoid())
                elif self._moves[n]:
                    self._set(n, block, self._drawn(self._logits(n)))

    def collect(self, kept: int, thin: int) -> tuple[Floats, Floats]:
        """Run sweeps; return ``(rows * C, S)`` sums of full conditionals and of their squares."""
        sums = [torch.zeros(2, len(self._codes), *b.columns.shape, dtype=torch.float64)
                for b in self._blocks.blocks]  # fmt: skip
        for _ in range(kept):
            self.run(thin - 1)
            for n, block in enumerate(self._blocks.blocks):
                if not self._moves[n]:
                    continue
                if self._two[n]:
                    on = self._gap(n).sigmoid()
                    probs = torch.stack([1 - on, on], dim=-1).double().cpu()
                    self._set_bits(n, on)
                else:
                    logits = self._logits(n)
                    probs = logits.softmax(-1).double().cpu()
                    self._set(n, block, self._drawn(logits))
                sums[n][0] += probs
                sums[n][1].addcmul_(probs, probs)
        out = np.zeros((2, len(self._codes), int(self._offset[-1])))
        for n, block in enumerate(self._blocks.blocks):
            out[:, :, block.columns.reshape(-1).cpu().numpy()] = sums[n].flatten(2).numpy()
        return out[0], out[1]

    def trace(self, kept: int, thin: int) -> Ints:
        """Run sweeps, and return ``(kept, rows * C, E)`` states."""
        out = np.empty((kept, *self._codes.shape), dtype=np.int64)
        for t in range(kept):
            self.run(thin)
            for n, block in enumerate(self._blocks.blocks):
                states = self._states[n]
                if self._two[n]:
                    states = (self._features[n] - self._low[n]) / self._step[n] > 0.5
                out[t][:, block.elements] = states.cpu().numpy()
        return out

    # --- helpers ------------------------------------------------------------------------------

    def _gap(self, n: int) -> Tensor:
        """``(N, n)`` log odds of the second state of a block's units given the other blocks."""
        total, step = self._gaps[n], self._step[n]
        for first, second, matrix in self._links:
            if n in (first, second):
                observed = self._features[second if first == n else first]
                total = torch.addmm(total, observed, matrix.T if first == n else matrix, alpha=step)
        total = total.expand(len(self._codes), -1)
        return total if self._heat is None else total / self._heat[:, None]

    def _set_bits(self, n: int, on: Tensor) -> None:
        """Draw the second state of unobserved units with given probabilities."""
        bits = torch.empty_like(on).uniform_(generator=self._rng).lt(on).to(self._dtype)
        if self._step[n] != 1.0 or self._low[n] != 0.0:
            bits.mul_(self._step[n]).add_(self._low[n])
        if self._fixed[n]:
            bits = torch.where(self._observed[n] >= 0, self._features[n], bits)
        self._features[n] = bits

    def _logits(self, n: int) -> Tensor:
        """``(N, n, K)`` logits of a block given the others."""
        block, logits = self._blocks.blocks[n], self._fields[n]
        for first, second, matrix in self._links:
            if first == n:
                logits = logits + block.logits(self._features[second] @ matrix.T)
            elif second == n:
                logits = logits + block.logits(self._features[first] @ matrix)
        logits = logits.expand(len(self._codes), -1, -1)
        return logits if self._heat is None else logits / self._heat[:, None, None]

    def _drawn(self, logits: Tensor) -> Tensor:
        if logits.shape[-1] == 2:
            gap = logits[..., 1] - logits[..., 0]
            noise = torch.empty_like(gap).uniform_(generator=self._rng)
            return noise.lt(gap.sigmoid()).long()
        noise = torch.empty_like(logits).exponential_(generator=self._rng)
        return (logits - noise.log()).argmax(-1)

    def _set(self, n: int, block: Block, states: Tensor) -> None:
        if self._fixed[n]:
            states = torch.where(self._observed[n] >= 0, self._observed[n], states)
        self._states[n] = states
        self._features[n] = block.features(states)


def block_chains(tables: TemperedTables, seeds: NDArray[np.uint64]) -> BlockChains | None:
    """Return chains that sample block by block; None if the graph has no suitable blocks."""
    graph = tables.question.graph
    if not any(g.sides is not None for g in graph.interactions):
        return None
    with torch.no_grad():
        blocks = BlockGraph.of(graph)
    if blocks is None or blocks.inner or any(k.matrix.dim() > 2 for k in blocks.links):
        return None
    return BlockChains(tables, seeds, blocks)
