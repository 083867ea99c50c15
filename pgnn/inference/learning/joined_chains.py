"""The E-steps of several hidden Markov models on the same sequences, as one chain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pgnn.evidence.sequences import Sequences
from pgnn.inference.chains.chain import Chain
from pgnn.inference.learning.chain_e_step import ChainEStep, ChainSums
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.numba_support import has_numba

MAX_WORK = 2**18
"""Most multiplications ``B T K^2`` of a chain that is worth joining to others.

Beyond that a chain of its own is faster: its rows share a transition."""


def expect_side_by_side(steps: Sequence[EStep], seen: Sequences) -> list[ExpectedStatistics] | None:
    """Return what several models expect, by one pass; None where one by one is better.

    Args:
        steps: Expectations under models of one kind, with different parameters.
        seen: The sequences of all of them.
    """
    own = [s for s in steps if isinstance(s, ChainEStep)]
    if len(own) < len(steps) or not has_numba():
        return None
    k = own[0].model.state.num_states
    if seen.num_rows * seen.steps * k**2 > MAX_WORK:
        return None
    chains = []
    for step in own:
        chain = step.chain(seen)
        if not isinstance(chain, Chain) or not _joins(chain):
            return None
        chains.append(chain)
    sums = sums_side_by_side(chains, seen.row_weights)
    together = zip(own, chains, sums, strict=True)
    return [step.collect(seen, chain, found) for step, chain, found in together]


def sums_side_by_side(chains: Sequence[Chain], weights: Tensor) -> list[ChainSums]:
    """Return sums over the paths of chains of the same shape, each with one transition.

    They are slopes of log Z, whose rows have transitions of their own.

    Args:
        chains: The chains.
        weights: ``(B,)`` what each row of a chain counts.
    """
    count, rows = len(chains), chains[0].tensors.num_rows
    parts = [c.tensors for c in chains]
    with torch.enable_grad():
        initial, transition = (
            torch.cat([x.expand(rows, *x.shape[1:]) for x in part]).requires_grad_()
            for part in ([p.initial for p in parts], [p.transition[:, 0] for p in parts])
        )
        field = torch.cat([p.field for p in parts]).requires_grad_()
        lengths = parts[0].lengths.repeat(count)
        log_z = Chain(initial, transition, field, lengths).log_partition()
        total = (log_z.masked_fill(log_z.isneginf(), 0.0) * weights.to(log_z).repeat(count)).sum()
        slopes = torch.autograd.grad(total, [initial, transition, field])
    first, moves, states = (x.reshape(count, rows, *x.shape[1:]) for x in slopes)
    split = log_z.detach().reshape(count, rows)
    sums = first.sum(1), moves.sum(1)
    return [ChainSums(split[r], states[r], sums[0][r], sums[1][r]) for r in range(count)]


def _joins(chain: Chain) -> bool:
    """Whether a chain has one transition for all, on the CPU."""
    tensors = chain.tensors
    return tensors.transition.shape[:2] == (1, 1) and tensors.field.device.type == "cpu"
