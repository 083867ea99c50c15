"""Elimination of the variables of a least squares problem, and back substitution."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.factors.gaussians.least_squares import (
    Block,
    Reduced,
    common_shape,
    reduced,
    stacked,
    times,
)


class Given(NamedTuple):
    r"""A variable given those that are eliminated after it, :math:`x = G s + g + T \epsilon`.

    Attributes:
        variable: Its number.
        rest: The indices of the variables :math:`s`.
        gain: ``(*lead, D, C)`` :math:`G`.
        offset: ``(*lead, D)`` :math:`g`.
        spread: ``(*lead, D, D)`` :math:`T`; the noise is standard normal.
    """

    variable: int
    rest: tuple[int, ...]
    gain: Tensor
    offset: Tensor
    spread: Tensor


class Moments(NamedTuple):
    """Mean and covariance of some variables together.

    Attributes:
        scope: Their numbers.
        mean: ``(*lead, C)``.
        covariance: ``(*lead, C, C)``; its leading axes may be shorter than the mean's.
    """

    scope: tuple[int, ...]
    mean: Tensor
    covariance: Tensor


class Elimination(NamedTuple):
    r"""Result of an elimination.

    Attributes:
        given: Each variable given later ones, in the order of elimination.
        log_integral: ``(*lead)`` log of :math:`\int \exp(-\frac12 \|A x - b\|^2) dx`, but for the
            factor :math:`\sqrt{2 \pi}` of each dimension.
        sizes: Dimensions of each variable.
    """

    given: list[Given]
    log_integral: Tensor
    sizes: Mapping[int, int]

    @property
    def place(self) -> dict[int, int]:
        """When each variable is eliminated."""
        return {g.variable: k for k, g in enumerate(self.given)}

    def moments(self) -> dict[int, Moments]:
        """Return moments of each variable together with those that it depends on, itself first.

        Cost:
            Cubic in the dimensions of the largest of these sets, linear in the variables.
        """
        moments: dict[int, Moments] = {}
        place = self.place
        for conditional in reversed(self.given):
            noise = conditional.spread @ conditional.spread.mT
            if not conditional.rest:
                moments[conditional.variable] = Moments(
                    (conditional.variable,), conditional.offset, noise
                )
                continue
            base = moments[min(conditional.rest, key=place.__getitem__)]
            rest = self.marginal(base, conditional.rest)
            across = conditional.gain @ rest.covariance
            inner = noise + across @ conditional.gain.mT
            lead = common_shape(*(x.shape[:-2] for x in (inner, rest.covariance)))
            parts = (inner, across, across.mT, rest.covariance)
            a, b, c, d = (x.expand(*lead, *x.shape[-2:]) for x in parts)
            covariance = torch.cat([torch.cat([a, b], -1), torch.cat([c, d], -1)], -2)
            mean = conditional.offset + times(conditional.gain, rest.mean)
            lead = common_shape(mean.shape[:-1], rest.mean.shape[:-1])
            means = [x.expand(*lead, x.shape[-1]) for x in (mean, rest.mean)]
            scope = (conditional.variable, *conditional.rest)
            moments[conditional.variable] = Moments(scope, torch.cat(means, -1), covariance)
        return moments

    def marginal(self, moments: Moments, scope: Sequence[int]) -> Moments:
        """Return the moments of some of the variables."""
        if tuple(scope) == moments.scope:
            return moments
        first, width = {}, 0
        for v in moments.scope:
            first[v] = width
            width += self.sizes[v]
        columns = [first[v] + k for v in scope for k in range(self.sizes[v])]
        index = torch.tensor(columns, device=moments.mean.device)
        covariance = moments.covariance.index_select(-1, index).index_select(-2, index)
        return Moments(tuple(scope), moments.mean.index_select(-1, index), covariance)

    def draw(self, rows: int) -> dict[int, Tensor]:
        """Return draws of each variable, by torch's present random state.

        Args:
            rows: How many, if the first axes have length 1; else their length.

        Returns:
            ``(rows, *lead, D)`` by number.
        """
        lead = (rows, *self.log_integral.shape[1:])

        def noise(spread: Tensor) -> Tensor:
            standard = torch.randn(
                (*lead, spread.shape[-1]), dtype=spread.dtype, device=spread.device
            )
            return times(spread, standard)

        return self._solved(noise)

    def mode(self) -> dict[int, Tensor]:
        """Return the most likely values ``(*lead, D)`` of each variable, all at once."""
        shape = self.log_integral.shape
        return self._solved(lambda spread: spread.new_zeros(*shape, spread.shape[-1]))

    def log_spread(self, variables: Container[int]) -> Tensor:
        """Return ``(*lead)`` log root of the determinant of the covariance of the last variables.

        Args:
            variables: Numbers of those; each is eliminated after all others.
        """
        total = torch.zeros((), dtype=torch.float64)
        for conditional in self.given:
            if conditional.variable in variables:
                total = total + conditional.spread.diagonal(dim1=-2, dim2=-1).abs().log().sum(
                    dim=-1
                )
        return total

    def _solved(self, noise: Callable[[Tensor], Tensor]) -> dict[int, Tensor]:
        """Values of each variable, the last one first, from what noise its spread makes."""
        solved: dict[int, Tensor] = {}
        for conditional in reversed(self.given):
            value = conditional.offset + noise(conditional.spread)
            if conditional.rest:
                value = value + times(
                    conditional.gain, torch.cat([solved[v] for v in conditional.rest], dim=-1)
                )
            solved[conditional.variable] = value
        return solved


def eliminate(
    blocks: Iterable[Block], sizes: Mapping[int, int], order: Sequence[int], compress: bool = True
) -> Elimination:
    r"""Integrate out all variables, by QR factorisation of the rows that have them.

    Square roots of precisions take the place of precisions, so that no digits are lost to
    differences of large numbers where noise is small.

    Args:
        blocks: Terms of the energy; each has a variable.
        sizes: Dimensions of each variable.
        order: All variables; :func:`elimination_order` finds a good one.
        compress: Whether to reduce accumulated rows, which makes the cost of chains linear.
            Results can't be differentiated twice where coefficients are zero then.

    Cost:
        ``O(R C^2)`` for each variable, with ``R`` rows that have it over ``C`` columns.

    References:
        Bierman (1977), Factorization methods for discrete sequential estimation. Dellaert and
        Kaess (2006), Square root SAM, section 3.
    """
    place = {v: k for k, v in enumerate(order)}
    waiting: dict[int, list[Block]] = {v: [] for v in order}
    for block in blocks:
        waiting[min(block.scope, key=place.__getitem__)].append(block)
    conditionals: list[Given] = []
    total = torch.zeros((), dtype=torch.float64)
    for v in order:
        blocks_of_v = waiting.pop(v)
        scope = sorted({u for b in blocks_of_v for u in b.scope}, key=place.__getitem__)
        block = stacked(blocks_of_v, scope, sizes)
        triangle = reduced(block.matrix, block.target, sizes[v])
        conditionals.append(_solved(v, tuple(scope[1:]), triangle))
        for row in triangle.rows:
            total = total - row[..., 0].abs().log()
        matrix, target = triangle.matrix, triangle.target
        width = matrix.shape[-1]
        if compress and width and matrix.shape[-2] > 2 * width:
            less = reduced(matrix, target, width)
            pads = [torch.nn.functional.pad(r, (width - r.shape[-1], 0)) for r in less.rows]
            total = total - 0.5 * less.target.square().sum(dim=-1)
            matrix, target = torch.stack(pads, dim=-2), torch.stack(less.targets, dim=-1)
        if width:
            rest = Block(tuple(scope[1:]), matrix, target)
            waiting[scope[1]].append(rest)
        else:
            total = total - 0.5 * target.square().sum(dim=-1)
    return Elimination(conditionals, total, sizes)


def elimination_order(
    scopes: Iterable[Collection[int]], sizes: Mapping[int, int], last: Collection[int] = ()
) -> tuple[int, ...]:
    """Return the variables, those first that have the fewest neighbours (minimum degree).

    Args:
        scopes: Variables that occur together.
        sizes: Dimensions of each variable, by which neighbours count.
        last: Variables that are eliminated last.
    """
    near: dict[int, set[int]] = {v: set() for v in sizes}
    for scope in scopes:
        for v in scope:
            near[v].update(scope)
    for v, others in near.items():
        others.discard(v)
    weight = {v: sum(sizes[u] for u in others) for v, others in near.items()}
    late = frozenset(last)
    heap = [(v in late, w, v) for v, w in weight.items()]
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        _, before, v = heapq.heappop(heap)
        if v not in near or before != weight[v]:
            continue  # outdated: it has a newer entry
        order.append(v)
        around = near.pop(v)
        for u in around:
            fill = around - near[u]
            fill.discard(u)
            weight[u] += sum(sizes[t] for t in fill) - sizes[v]
            near[u] |= fill
            near[u].discard(v)
            heapq.heappush(heap, (u in late, weight[u], u))
    return tuple(order)


def _solved(variable: int, rest: tuple[int, ...], triangle: Reduced) -> Given:
    """Solve the triangular rows of a variable for it."""
    size = len(triangle.rows)
    gains: list[Tensor] = []
    offsets: list[Tensor] = []
    spreads: list[Tensor] = []
    for i in reversed(range(size)):
        row, width = triangle.rows[i], size - i
        gain, offset = -row[..., width:], triangle.targets[i]
        spread = torch.zeros_like(row[..., :1]).expand(*row.shape[:-1], size)
        unit = torch.eye(size, dtype=row.dtype, device=row.device)[i]
        spread = spread + unit
        pairs = zip(gains, offsets, spreads, strict=True)
        for k, (later_gain, later_offset, later_spread) in enumerate(pairs):
            coefficient = row[..., width - 1 - k]
            gain = gain - coefficient.unsqueeze(-1) * later_gain
            offset = offset - coefficient * later_offset
            spread = spread - coefficient.unsqueeze(-1) * later_spread
        pivot = row[..., 0]
        gains.append(gain / pivot.unsqueeze(-1))
        offsets.append(offset / pivot)
        spreads.append(spread / pivot.unsqueeze(-1))
    return Given(
        variable,
        rest,
        torch.stack(gains[::-1], dim=-2),
        torch.stack(offsets[::-1], dim=-1),
        torch.stack(spreads[::-1], dim=-2),
    )
