"""Exact inference for blocks of units joined by dense matrices, by enumerating a few blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import Intractable
from pgnn.factors.randomness import generator
from pgnn.factors.units.axes import cut
from pgnn.inference.beliefs import Beliefs, Best
from pgnn.inference.block_graph import BlockGraph, row_fields
from pgnn.inference.engine import Engine
from pgnn.inference.exact.block_pattern import NUMBERS, Pattern
from pgnn.inference.explanation import Explanation
from pgnn.inference.question import Question
from pgnn.limits import POSITIVE, check_settings, check_size, human_count

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class BlockElimination(Engine):
    r"""Exact inference for fields whose factors are dense matrices between blocks of units.

    .. math:: Z = \sum_{x_S} e^{b_S^\top x_S + \frac12 x_S^\top W_{SS} x_S}
        \prod_{i \notin S} \sum_{x_i} e^{x_i (b_i + W_{iS} x_S)}

    The joint states of a set S of blocks are enumerated, given which all other units are
    independent: in a restricted Boltzmann machine the layer with fewer unobserved units (none if
    one layer is observed), in a Boltzmann machine all unobserved units. Rows that observe the same
    units are answered together, by differentiable matrix products.

    Args:
        max_states: Largest number of joint states to enumerate.
        max_work: Largest number of multiply-adds, all rows together.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        :math:`O(R\, |x_S|\, n)` for ``R`` rows, :math:`|x_S|` joint states and ``n`` other units.

    Example:
        >>> import pgnn
        >>> model = pgnn.RestrictedBoltzmannMachine(3, 2, weight=[[1, 0], [0, 1], [1, 1]])
        >>> print(f"{model.log_partition(engine=BlockElimination()):.4f}")
        5.1890
    """

    max_states: int = 2**25
    max_work: float = 1e12

    def __post_init__(self) -> None:
        check_settings(self, max_states=1, max_work=POSITIVE)

    def reason(self) -> str:
        """Return a short description of the engine, for :meth:`explain`."""
        return "blocks of units are joined by matrices; the smallest separating set is enumerated"

    @property
    def kind_of_evidence(self) -> str:
        """See :class:`Engine`."""
        return "exact"

    def patterns(self, question: Question) -> list[Pattern]:
        """Return the rows grouped by the elements that they observe.

        Raises:
            Unsupported: If some factor is not a matrix between blocks.
            Intractable: If too many joint states would have to be enumerated.
        """
        blocks = BlockGraph.of(question.graph)
        if blocks is None:
            raise self._cannot(
                "supports only fields of dense matrices between arrays of units", "JunctionTree()"
            )
        codes = question.observed.codes
        patterns = [Pattern.of(blocks, question, rows) for rows in _alike(codes < 0)]
        work = sum(p.states * len(p.rows) * p.width for p in patterns)
        most = max((p.states for p in patterns), default=1.0)
        if most > self.max_states or work > self.max_work:
            raise Intractable(
                f"{human_count(min(most, 1e99))} joint states of units would have to be "
                f"enumerated for {question.num_rows:,} rows; at most {self.max_states:,} are, and "
                f"{self.max_work:g} multiply-adds in all",
                "Gibbs() draws, MeanField() and log_partition_bracket() bound log Z",
            )
        return patterns

    def infer(self, question: Question) -> Beliefs:
        """Sum over the enumerated blocks: once for log Z, once for the marginals."""
        patterns = self.patterns(question)
        rows, elements = question.num_rows, question.graph.elements
        check_size(f"marginals of {rows:,} rows", rows * float(elements.offset[-1]))
        like = row_fields(question)
        log_z = like.new_zeros(rows)
        wanted = question.names is None or len(question.targets.numbers) > 0
        marginals = like.new_zeros(rows, int(elements.offset[-1]) if wanted else 0)
        if not wanted:
            marginals = like.new_full((rows, int(elements.offset[-1])), math.nan)
        for p in patterns:
            total = self._log_sum(p)
            log_z = log_z.index_put((p.rows,), total)
            if wanted:
                marginals = marginals.index_put((p.rows,), self._marginals(p, question, total))
        nothing = log_z.isneginf()
        if bool(nothing.any()):
            marginals = marginals.masked_fill(nothing[:, None], math.nan)
        return Beliefs(marginals, log_z, kind="exact")

    def maximize(self, question: Question, maximized: Mask) -> Best:
        """Maximise over all unobserved elements.

        Raises:
            Unsupported: If some elements are to be summed out.
        """
        if not maximized[(question.observed.codes < 0).any(axis=0)].all():
            raise self._cannot("maximises over all unobserved units jointly", "JunctionTree()")
        like = row_fields(question)
        codes = torch.from_numpy(question.observed.codes.astype(np.int64)).to(like.device)
        score = like.new_zeros(question.num_rows)
        for p in self.patterns(question):
            best = like.new_full((len(p.rows),), -math.inf)
            states = torch.zeros(len(p.rows), sum(len(p.free[b]) for b in p.fixed),
                                 dtype=torch.int64, device=like.device)  # fmt: skip
            for chunk in p.chunks():
                top, place = p.log_weights(chunk, hard=True).max(dim=1)
                better = top > best
                best = torch.where(better, top, best)
                states[better] = chunk[place[better]]
            score = score.index_put((p.rows,), _sunk(best))
            self._complete(p, states[None], codes[None], None)
        return Best(codes, score)

    def draw(self, question: Question, n: int, seed: int | None) -> tuple[Tensor, None]:
        """Sample the enumerated blocks from their joint posterior, then the others given these."""
        patterns, rng = self.patterns(question), generator(seed)
        codes = torch.from_numpy(question.observed.codes.astype(np.int64))
        out = codes.expand(n, *codes.shape).contiguous()
        for p in patterns:
            total = self._log_sum(p)
            self.refuse(question, _spread(total.isneginf(), p, question.num_rows))
            states = self._fixed_draws(p, total, n, rng)
            self._complete(p, states, out, rng)
        return out, None

    def describe(self, question: Question) -> Explanation:
        """Answer ``explain``."""
        patterns = self.patterns(question)
        work = sum(p.states * p.width for p in patterns) / max(1, len(patterns))
        return replace(self.outline(question), multiply_adds=work)

    def outline(self, question: Question) -> Explanation:
        """Return the explanation without the costs."""
        hidden: Mask = np.asarray((question.observed.codes < 0).any(axis=0))
        return Explanation(
            engine=type(self).__name__,
            kind=self.kind_of_evidence,
            reason=self.reason(),
            num_variables=len(hidden),
            num_eliminated=int(hidden.sum()),
            num_sliced=int((~hidden).sum()),
            memory_bytes=8.0 * NUMBERS,
            num_factors=question.graph.num_interactions,
        )

    # --- helpers ------------------------------------------------------------------------------

    def _log_sum(self, p: Pattern) -> Tensor:
        parts = [p.log_weights(chunk, hard=False).logsumexp(dim=1) for chunk in p.chunks()]
        return _sunk(torch.stack(parts).logsumexp(dim=0))

    def _marginals(self, p: Pattern, question: Question, total: Tensor) -> Tensor:
        """``(R, S)`` probabilities."""
        codes = torch.from_numpy(question.observed.codes[p.rows.cpu().numpy()].astype(np.int64))
        marginals = total.new_zeros(len(p.rows), int(question.graph.elements.offset[-1]))
        sums: dict[int, Tensor] = {}
        level = total.masked_fill(total.isneginf(), 0.0)[:, None]
        for chunk in p.chunks():
            weight = (p.log_weights(chunk, hard=False) - level).exp()
            _, rest = p.scores(chunk)
            parts = {b: weight @ p.blocks.blocks[b].one_hot(states).flatten(start_dim=1)
                     for b, states in p.split(chunk).items()}  # fmt: skip
            for b, x in rest.items():
                parts[b] = torch.einsum(
                    "rm,rmfk->rfk", weight, x.softmax(-1).expand(len(weight), len(chunk), -1, -1)
                ).flatten(start_dim=1)
            for b, x in parts.items():
                sums[b] = sums[b] + x if b in sums else x
        for n, block in enumerate(p.blocks.blocks):
            codes_here = codes[:, torch.from_numpy(block.elements)].to(marginals.device)
            values = block.one_hot(codes_here.clamp(min=0)).to(marginals)
            if n in sums:
                free_marginals = cut(sums[n], 1, values.shape[2]).to(values)
                values = values.index_copy(1, p.free[n], free_marginals)
            columns = block.columns.reshape(-1)
            marginals = marginals.index_copy(1, columns, values.flatten(start_dim=1))
        return marginals

    def _fixed_draws(self, p: Pattern, total: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """``(n, R, f)`` samples of the enumerated blocks, by inversion."""
        at = torch.rand(len(p.rows), n, generator=rng, dtype=total.dtype).to(total.device)
        at = at.clamp(min=torch.finfo(total.dtype).tiny)
        below = torch.zeros(len(p.rows), 1, dtype=total.dtype, device=total.device)
        width = sum(len(p.free[b]) for b in p.fixed)
        states = torch.zeros(n, len(p.rows), width, dtype=torch.int64, device=total.device)
        for chunk in p.chunks():
            sums = below + (p.log_weights(chunk, hard=False) - total[:, None]).exp().cumsum(1)
            place = torch.searchsorted(sums.contiguous(), at).clamp(max=len(chunk) - 1)
            reached = at > below  # a sample belongs to the last chunk whose range contains it
            states[reached.T] = chunk[place.T[reached.T]]
            below = sums[:, -1:]
        return states

    def _complete(self, p: Pattern, states: Tensor, codes: Tensor,
                  rng: torch.Generator | None) -> None:  # fmt: skip
        """Fill in the enumerated blocks' states, and the best or sampled states of the others.

        Args:
            p: Rows with one pattern of observations.
            states: ``(n, R, f)`` states of the enumerated blocks.
            codes: ``(n, B, E)``, changed in place.
            rng: Random generator for samples; None for the best states.
        """
        if len(p.rows) == 1:
            step = max(1, NUMBERS // p.width)
            pieces = [(slice(k, k + step), states[k : k + step, 0])
                      for k in range(0, len(states), step)]  # fmt: skip
        else:
            pieces = [(slice(k, k + 1), pattern) for k, pattern in enumerate(states)]
        for pattern, fixed in pieces:
            for b, x in p.rest_of(fixed).items():
                if rng is not None:
                    noise = torch.empty(x.shape, dtype=x.dtype).exponential_(generator=rng)
                    x = x - noise.log().to(x.device)
                self._put(p, b, pattern, x.argmax(-1), codes)
            for b, x in p.split(fixed).items():
                self._put(p, b, pattern, x, codes)

    @staticmethod
    def _put(p: Pattern, b: int, draws: slice, states: Tensor, codes: Tensor) -> None:
        elements = torch.from_numpy(p.blocks.blocks[b].elements)[p.free[b].cpu()]
        target = codes[draws]
        target[:, p.rows.cpu()[:, None], elements] = states.reshape(
            len(target), len(p.rows), len(elements)
        ).to(codes)


def _alike(free: Mask) -> list[Ints]:
    """Return rows grouped by their unobserved elements."""
    if not len(free):
        return []
    if (free == free[:1]).all():
        return [np.arange(len(free))]
    packed = np.packbits(free, axis=1)
    _, number = np.unique(packed, axis=0, return_inverse=True)
    number = number.reshape(-1)
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _sunk(total: Tensor) -> Tensor:
    """Replace floored values by minus infinity again."""
    least = -(torch.finfo(total.dtype).max ** 0.5)
    return total.masked_fill(total < 0.5 * least, -math.inf)


def _spread(impossible: Tensor, p: Pattern, rows: int) -> Mask:
    spread = np.zeros(rows, dtype=np.bool_)
    spread[p.rows.cpu().numpy()] = impossible.cpu().numpy()
    return spread
