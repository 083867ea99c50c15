"""The elimination of reals whose coefficients are the same in all rows: one matrix each."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.gaussians.elimination import Moments
from pgnn.factors.gaussians.least_squares import Block

Floats = NDArray[np.float64]


class PlainGiven(NamedTuple):
    r"""A variable given those that are eliminated after it, :math:`x = G s + g + T \epsilon`.

    Attributes:
        variable: Its number.
        rest: The indices of the variables :math:`s`.
        gain: ``(D, C)`` :math:`G`.
        offset: ``(B or 1, D)`` :math:`g`.
        spread: ``(D, D)`` :math:`T`.
    """

    variable: int
    rest: tuple[int, ...]
    gain: Floats
    offset: Floats
    spread: Floats


class PlainMoments(NamedTuple):
    """Moments of some variables together: ``(B or 1, C)`` means, and one covariance."""

    scope: tuple[int, ...]
    mean: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class PlainElimination:
    """What :class:`~pgnn.factors.gaussians.elimination.Elimination` is, by one matrix a variable.

    Args:
        given: Each variable given later ones, in the order of elimination.
        total: ``(B or 1,)`` log integral, see there.
        sizes: Dimensions of each variable.
        axes: Axes of answers before that of the numbers.
    """

    given: list[PlainGiven]
    total: Floats
    sizes: Mapping[int, int]
    axes: int

    @classmethod
    def of(
        cls, blocks: Sequence[Block], sizes: Mapping[int, int], order: Sequence[int]
    ) -> PlainElimination | None:
        """Eliminate all variables, by a QR factorisation each; None where matrices differ by row.

        Args:
            blocks: Terms of the energy; nobody differentiates.
            sizes: Dimensions of each variable.
            order: All variables.

        References:
            Cox and Higham (1998), Stability of Householder QR factorization for weighted least
            squares problems: rows are sorted by their largest entries.
        """
        place = {v: k for k, v in enumerate(order)}
        waiting: dict[int, list[tuple[tuple[int, ...], Floats, Floats]]] = {v: [] for v in order}
        axes = 0
        for scope, matrix, target in blocks:
            height, width = matrix.shape[-2:]
            if matrix.device.type != "cpu" or matrix.numel() != height * width:
                return None
            if target.dim() > 1 and target.numel() != len(target) * height:
                return None
            axes = max(axes, target.dim() - 1, matrix.dim() - 2)
            coefficients = matrix.detach().numpy().reshape(height, width)
            rows = target.detach().numpy().reshape(-1, height)
            waiting[min(scope, key=place.__getitem__)].append((scope, coefficients, rows))
        conditionals: list[PlainGiven] = []
        total: Floats = np.zeros(1)
        for v in order:
            one = _eliminated(v, waiting.pop(v), sizes, place)
            conditionals.append(one.given)
            total = total + one.log_integral
            if one.given.rest:
                waiting[one.given.rest[0]].append((one.given.rest, one.matrix, one.target))
        return cls(conditionals, total, sizes, axes)

    @property
    def log_integral(self) -> Tensor:
        """``(B or 1, 1, ...)``."""
        lead = [1] * (self.axes - 1) if self.axes else []
        return torch.from_numpy(self.total).reshape(-1, *lead)

    @cached_property
    def place(self) -> dict[int, int]:
        """When each variable is eliminated."""
        return {g.variable: k for k, g in enumerate(self.given)}

    def moments(self) -> Mapping[int, Moments]:
        """Return moments of each variable together with those that it depends on."""
        moments: dict[int, PlainMoments] = {}
        for conditional in reversed(self.given):
            noise = conditional.spread @ conditional.spread.T
            if not conditional.rest:
                moments[conditional.variable] = PlainMoments(
                    (conditional.variable,), conditional.offset, noise
                )
                continue
            base = moments[min(conditional.rest, key=self.place.__getitem__)]
            mean, inner = base.mean, base.covariance
            if base.scope != conditional.rest:
                index = self._columns(base.scope, conditional.rest)
                mean, inner = mean[:, index], inner[index[:, None], index]
            across = conditional.gain @ inner
            size = len(noise)
            covariance = np.empty((size + len(inner), size + len(inner)))
            covariance[:size, :size] = noise + across @ conditional.gain.T
            covariance[:size, size:] = across
            covariance[size:, :size] = across.T
            covariance[size:, size:] = inner
            ahead = conditional.offset + mean @ conditional.gain.T
            mean = np.broadcast_to(mean, (len(ahead), mean.shape[1]))
            both = np.concatenate([ahead, mean], axis=1)
            moments[conditional.variable] = PlainMoments(
                (conditional.variable, *conditional.rest), both, covariance
            )
        return _Cliques(moments, self.axes)

    def marginal(self, moments: Moments, scope: Sequence[int]) -> Moments:
        """Return the moments of some of the variables."""
        if tuple(scope) == moments.scope:
            return moments
        index = torch.from_numpy(self._columns(moments.scope, scope))
        covariance = moments.covariance.index_select(-1, index).index_select(-2, index)
        return Moments(tuple(scope), moments.mean.index_select(-1, index), covariance)

    def draw(self, rows: int) -> dict[int, Tensor]:
        """Return draws ``(rows, 1, ..., D)`` of each variable, by torch's random state."""

        def noise(spread: Floats) -> Floats:
            standard = torch.randn(rows, len(spread), dtype=torch.float64).numpy()
            return np.asarray(standard @ spread.T)

        return self._solved(noise)

    def mode(self) -> dict[int, Tensor]:
        """Return the most likely values ``(B or 1, 1, ..., D)`` of each variable, all at once."""
        return self._solved(lambda spread: np.zeros((1, len(spread))))

    def log_spread(self, variables: Container[int]) -> Tensor:
        """See :class:`~pgnn.factors.gaussians.elimination.Elimination`."""
        logs = [
            np.log(np.abs(np.diagonal(conditional.spread))).sum()
            for conditional in self.given
            if conditional.variable in variables
        ]
        return torch.full((1, *self._lead), float(sum(logs)), dtype=torch.float64)

    def _solved(self, noise: Callable[[Floats], Floats]) -> dict[int, Tensor]:
        """Values of each variable, the last one first, from what noise its spread makes."""
        solved: dict[int, Floats] = {}
        for conditional in reversed(self.given):
            value = conditional.offset + noise(conditional.spread)
            if conditional.rest:
                rest = [solved[v] for v in conditional.rest]
                rows = _rows(rest)
                wide = [np.broadcast_to(x, (rows, x.shape[1])) for x in rest]
                value = value + np.concatenate(wide, axis=1) @ conditional.gain.T
            solved[conditional.variable] = value
        return {
            v: torch.from_numpy(x).reshape(len(x), *self._lead, x.shape[1])
            for v, x in solved.items()
        }

    @property
    def _lead(self) -> list[int]:
        """Axes of discrete variables, none of which matters."""
        return [1] * max(self.axes - 1, 0)

    def _columns(self, within: Sequence[int], scope: Sequence[int]) -> NDArray[np.int64]:
        first, width = {}, 0
        for v in within:
            first[v] = width
            width += self.sizes[v]
        return np.array([first[v] + k for v in scope for k in range(self.sizes[v])])


class _Cliques(Mapping[int, Moments]):
    """Moments as tensors, computed on first access."""

    def __init__(self, moments: Mapping[int, PlainMoments], axes: int) -> None:
        self._moments, self._lead = moments, [1] * max(axes - 1, 0)

    def __getitem__(self, variable: int) -> Moments:
        moments = self._moments[variable]
        mean = torch.from_numpy(moments.mean).reshape(-1, *self._lead, moments.mean.shape[1])
        covariance = torch.from_numpy(moments.covariance)
        return Moments(moments.scope, mean, covariance.reshape(1, *self._lead, *covariance.shape))

    def __iter__(self) -> Iterator[int]:
        return iter(self._moments)

    def __len__(self) -> int:
        return len(self._moments)


class _Eliminated(NamedTuple):
    """A variable given others, its contribution to their energy, and its integral."""

    given: PlainGiven
    matrix: Floats
    target: Floats
    log_integral: Floats


def _eliminated(
    variable: int,
    blocks: Sequence[tuple[tuple[int, ...], Floats, Floats]],
    sizes: Mapping[int, int],
    place: Mapping[int, int],
) -> _Eliminated:
    """Eliminate one variable from the blocks that have it."""
    scope = sorted({u for b in blocks for u in b[0]}, key=place.__getitem__)
    size, first, width = sizes[variable], {}, 0
    for u in scope:
        first[u] = width
        width += sizes[u]
    height = sum(len(b[1]) for b in blocks)
    matrix = np.zeros((height, width))
    target = np.zeros((_rows([b[2] for b in blocks]), height))
    begin = 0
    for names, coefficients, rows in blocks:
        end, column = begin + len(coefficients), 0
        for u in names:
            matrix[begin:end, first[u] : first[u] + sizes[u]] = coefficients[
                :, column : column + sizes[u]
            ]
            column += sizes[u]
        target[:, begin:end] = rows
        begin = end
    order = np.argsort(-np.abs(matrix).max(axis=1), kind="stable")
    whole, upper = np.linalg.qr(matrix[order], mode="complete")
    turned = target[:, order] @ whole
    top, left = upper[:size, :size], upper[size:width]
    with np.errstate(over="ignore"):  # values out of all bounds have density zero
        square = np.square(turned[:, width:]).sum(axis=1)
    logs = -np.log(np.abs(np.diagonal(top))).sum() - 0.5 * square
    if size == 1:
        spread = 1.0 / top
        gain, offset = -upper[:1, 1:] * spread, turned[:, :1] * spread
    else:
        spread = np.linalg.solve(top, np.eye(size))
        gain, offset = -spread @ upper[:size, size:], turned[:, :size] @ spread.T
    conditionals = PlainGiven(variable, tuple(scope[1:]), gain, offset, spread)
    return _Eliminated(conditionals, left[:, size:], turned[:, size : size + len(left)], logs)


def _rows(arrays: Sequence[Floats]) -> int:
    """Rows of arrays that have as many, or one for all."""
    return int(np.broadcast_shapes(*((len(x),) for x in arrays))[0])
