"""Connected components of hidden real variables, with the conditionals that contain them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.errors import Intractable
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.gaussians.elimination import elimination_order
from pgnn.factors.gaussians.least_squares import Block, common_shape
from pgnn.factors.gaussians.linear_system import LOG_2PI, LinearSystem, Observed
from pgnn.factors.variable import Variable
from pgnn.limits import human_count

Values = Mapping[Hashable, Tensor]

_FEW = 2**12
"""Numbers of a conditional whose whitened rows are kept."""
MAX_NUMBERS = 2**26
"""Most numbers that are computed for all rows and configurations together."""


class Whitened(NamedTuple):
    """Rows of a conditional in units of its noise, an axis for each discrete parent first.

    Attributes:
        matrix: ``(K1, ..., Kn, D, D + F)`` of the child and the real parents.
        target: ``(K1, ..., Kn, D)``.
        logs: ``(K1, ..., Kn)`` of the density's factor.
    """

    matrix: Tensor
    target: Tensor
    logs: Tensor

    @classmethod
    def of(cls, c: Conditional) -> Whitened:
        """Create it from a conditional's parameters."""
        weight, bias, scale = (x.double() for x in c.regression())
        size = c.child.num_elements
        if size == 1:
            white = scale.reciprocal()
            coefficients, target = -(white * weight), white[..., 0] * bias
        else:
            eye = torch.eye(size, dtype=scale.dtype, device=scale.device)
            white = torch.linalg.solve_triangular(scale, eye, upper=False)
            coefficients, target = -(white @ weight), (white @ bias.unsqueeze(-1)).squeeze(-1)
        matrix = torch.cat([white.expand(*coefficients.shape[:-1], size), coefficients], dim=-1)
        logs = -scale.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1) - 0.5 * size * LOG_2PI
        return cls(matrix, target, logs)


@dataclass(frozen=True, eq=False)
class GaussianComponent:
    r"""Hidden reals that are jointly normal for each configuration of their discrete neighbours.

    .. math:: \phi(j) = \int \prod_i N(y_i; W_{ij} x_i + b_{ij}, \Sigma_{ij}) \, dx

    Args:
        conditionals: All that have one of the hidden variables; see
            :meth:`Conditional.regression`.
        hidden: Real variables that some row has not observed, or not all of.
        discrete: The discrete parents of these conditionals.
    """

    conditionals: tuple[Conditional, ...]
    hidden: tuple[Variable, ...]
    discrete: tuple[Variable, ...]

    @property
    def names(self) -> set[Hashable]:
        """Names of the hidden variables."""
        return set(self._number)

    @property
    def tensors(self) -> list[Tensor]:
        """Parameters from which the system is computed."""
        return [p for c in self.conditionals for p in c.parameters()]

    def relevant(self, observed: Values) -> dict[Hashable, Tensor]:
        """Return the observed values of the variables of the conditionals."""
        names = {v.name for c in self.conditionals for v in c.scope if not v.is_discrete}
        return {n: x for n, x in observed.items() if n in names}

    def free(self, known: Values) -> tuple[Variable, ...]:
        """Return the discrete neighbours whose states are not known."""
        return tuple(v for v in self.discrete if v.name not in known)

    def check(self, known: Values, rows: int) -> None:
        """Check how much is to be computed.

        Args:
            known: States of discrete neighbours by name.
            rows: How many rows there are.

        Raises:
            Intractable: If it is too much.
        """
        free = self.free(known)
        configurations = math.prod(v.num_states for v in free)
        if configurations * self._width * max(rows, 1) > MAX_NUMBERS:
            names = ", ".join(repr(v.name) for v in free[:5]) + (", ..." if free[5:] else "")
            reals = ", ".join(repr(v.name) for v in self.hidden[:3])
            reals += ", ..." if self.hidden[3:] else ""
            raise Intractable(
                f"integrating out {len(self.hidden):,} real variables ({reals}) takes "
                f"{human_count(configurations)} configurations of the {len(free)} discrete ones "
                f"that they depend on ({names}) in {rows:,} rows, with matrices of "
                f"{self._width:,} numbers; at most {human_count(MAX_NUMBERS)} numbers in all are "
                "computed",
                "observe more of them, ask about fewer rows, or use "
                "engine=pgnn.ImportanceSampling(), MCMC() or Variational()",
            )

    def log_evidence(self, observed: Values, known: Values, rows: int) -> Tensor:
        r"""Return ``(rows, K1, ..., Kn)`` logs of :math:`\phi`; differentiable.

        Args:
            observed: ``(rows or 1, *shape)`` values of reals, ``NaN`` where not observed.
            known: ``(rows or 1,)`` states of discrete neighbours; the others are the axes.
            rows: How many rows.

        Raises:
            Intractable: If there are too many configurations.
        """
        self.check(known, rows)
        system = self.system(observed, known, rows)
        table = system.log_evidence()
        # values out of all bounds make infinities of both signs: nothing is there
        table = table.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        for c in self.conditionals:
            table = c.recorded_integral(HiddenIntegral(self, observed, known, system, table))
        return table

    def system(self, observed: Values, known: Values, rows: int) -> LinearSystem:
        """Return the numbers; arguments as in :meth:`log_evidence`."""
        return _Assembly(self, observed, known).system(rows)

    def whitened(self, c: Conditional) -> Whitened:
        """Return the rows of one of the conditionals; kept while its numbers stay, if plain."""
        parameters = [*c.parameters()]
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return Whitened.of(c)
        key = tuple((p.data_ptr(), p._version) for p in parameters)
        known = self._whitened.get(c.child.name)
        if known is None or known[0] != key:
            with torch.no_grad():
                known = key, Whitened.of(c)
            if self._is_cacheable(c):
                self._whitened[c.child.name] = known
        return known[1]

    @cached_property
    def _whitened(self) -> dict[Hashable, tuple[Any, Whitened]]:
        return {}

    @staticmethod
    def _is_cacheable(c: Conditional) -> bool:
        """Whether the numbers are those of the parameters alone, and few."""
        return bool([*c.parameters()]) and sum(p.numel() for p in c.parameters()) <= _FEW

    @cached_property
    def order(self) -> tuple[int, ...]:
        """In which variables are eliminated."""
        return elimination_order(self._scopes, self._sizes)

    @cached_property
    def _number(self) -> dict[Hashable, int]:
        return {v.name: k for k, v in enumerate(self.hidden)}

    @cached_property
    def _sizes(self) -> dict[int, int]:
        return {k: v.num_elements for k, v in enumerate(self.hidden)}

    @cached_property
    def _scopes(self) -> list[list[int]]:
        return [
            [self._number[v.name] for v in c.scope if v.name in self._number]
            for c in self.conditionals
        ]

    @cached_property
    def _width(self) -> int:
        """Numbers of the largest matrix that is reduced, about."""
        scopes: dict[int, set[int]] = {k: {k} for k in self._sizes}
        place = {v: k for k, v in enumerate(self.order)}
        heights = dict.fromkeys(self._sizes, 0)
        for c, scope in zip(self.conditionals, self._scopes, strict=True):
            first = min(scope, key=place.__getitem__)
            scopes[first].update(scope)
            heights[first] += c.child.num_elements
        widest = 1
        for v in self.order:
            width = sum(self._sizes[u] for u in scopes[v])
            height = heights[v]
            widest = max(widest, height * width)
            rest = scopes[v] - {v}
            if rest:
                after = min(rest, key=place.__getitem__)
                scopes[after] |= rest
                less = width - self._sizes[v]
                heights[after] += min(height - self._sizes[v], 2 * less)
        return widest


@dataclass(frozen=True, eq=False)
class HiddenIntegral:
    r"""An integral over hidden reals, with its arguments.

    Attributes:
        component: Which reals, and their conditionals.
        observed: ``(B or 1, *shape)`` what was observed of reals.
        known: ``(B or 1,)`` states of discrete neighbours that all rows have observed.
        system: The density of hidden and observed ones.
        table: ``(B, K1, ..., Kn)`` logs of the integral.
    """

    component: GaussianComponent
    observed: Values
    known: Values
    system: LinearSystem
    table: Tensor


class _Assembly:
    """Writes down the rows of a component's conditionals.

    Args:
        component: Whose.
        observed: Values of reals.
        known: States of discrete neighbours.
    """

    def __init__(self, component: GaussianComponent, observed: Values, known: Values) -> None:
        self.component, self.known = component, known
        self.free = component.free(known)
        self._axis = {v.name: k for k, v in enumerate(self.free)}
        relevant = component.relevant(observed)
        flat = {n: x.double().unsqueeze(1).flatten(start_dim=1) for n, x in relevant.items()}
        number = component._number
        self.observed = {n: x for n, x in flat.items() if n not in number}
        self.partly = {
            number[n]: Observed(~x.isnan(), x.nan_to_num(nan=0.0))
            for n, x in flat.items()
            if n in number and not bool(x.isnan().all())
        }

    def system(self, rows: int) -> LinearSystem:
        component = self.component
        blocks = []
        constant = torch.zeros((), dtype=torch.float64)
        for c in component.conditionals:
            block, log_normalizer = self._block(c)
            blocks.append(block)
            constant = constant + log_normalizer
        for number, observed in self.partly.items():
            blocks.append(self._held(number, observed))
        return LinearSystem(
            component.hidden,
            self.free,
            tuple(blocks),
            constant,
            component.order,
            self.partly,
            rows,
            component._width,
        )

    def _block(self, c: Conditional) -> tuple[Block, Tensor]:
        """The rows of a conditional, and the log of its density's factor."""
        axes = [v for v in c.parents if v.is_discrete]
        whitened = self.component.whitened(c)
        matrix, target, logs = (
            self._aligned(x, axes, tail) for x, tail in zip(whitened, (2, 1, 0), strict=True)
        )
        reals = [c.child, *(p for p in c.parents if not p.is_discrete)]
        numbers = [self.component._number.get(v.name) for v in reals]
        if all(n is not None and n not in self.partly for n in numbers):
            return Block(tuple(n for n in numbers if n is not None), matrix, target), logs
        columns: list[Tensor] = []
        scope: list[int] = []
        first = 0
        for v, number in zip(reals, numbers, strict=True):
            part = matrix[..., first : first + v.num_elements]
            first += v.num_elements
            if number is None:
                target = target - _products(part, self.observed[v.name])
                continue
            if number in self.partly:
                observed = self.partly[number]
                target = target - _products(part, observed.values)
                hidden = (~observed.mask).to(part)
                part = part * hidden.reshape(len(hidden), *[1] * (part.dim() - 2), -1)
            scope.append(number)
            columns.append(part)
        lead = common_shape(*(x.shape[:-1] for x in columns))
        whole = torch.cat([x.expand(*lead, x.shape[-1]) for x in columns], dim=-1)
        return Block(tuple(scope), whole, target), logs

    def _held(self, number: int, observed: Observed) -> Block:
        """Rows for the observations, which are not eliminated."""
        matrix = torch.diag_embed(observed.mask.double())
        lead = [len(matrix), *[1] * len(self.free)]
        matrix = matrix.reshape(*lead, *matrix.shape[1:])
        return Block((number,), matrix, torch.zeros_like(matrix[..., 0]))

    def _aligned(self, x: Tensor, axes: Sequence[Variable], tail: int) -> Tensor:
        """Numbers with an axis for the rows, and one for each free discrete neighbour."""
        if not axes:
            return x.reshape([1] * (1 + len(self.free)) + list(x.shape)) if self.free else x[None]
        kept = [k for k, v in enumerate(axes) if v.name not in self.known]
        gone = [k for k, v in enumerate(axes) if v.name in self.known]
        last = range(len(axes), len(axes) + tail)
        x = x.permute((*gone, *kept, *last))
        if gone:
            states = [self.known[axes[k].name].to(x.device) for k in gone]
            index = [s if n > 1 else s * 0 for s, n in zip(states, x.shape, strict=False)]
            x = x[tuple(index)]
        else:
            x = x.unsqueeze(0)
        places = [self._axis[axes[k].name] for k in kept]
        order = sorted(range(len(kept)), key=places.__getitem__)
        x = x.permute((0, *(1 + k for k in order), *range(1 + len(kept), x.dim())))
        shape = [1] * len(self.free)
        for k, place in enumerate(sorted(places)):
            shape[place] = x.shape[1 + k]
        return x.reshape(x.shape[0], *shape, *x.shape[1 + len(kept) :])


def _products(matrix: Tensor, values: Tensor) -> Tensor:
    """Products ``(B, *lead, R)`` of matrices ``(1 or B, *lead, R, C)`` and values ``(B, C)``."""
    if len(matrix) == 1:
        products: Tensor = torch.tensordot(values.to(matrix), matrix[0], dims=([1], [-1]))
        return products
    lead = [len(values), *[1] * (matrix.dim() - 2), values.shape[1]]
    return (matrix * values.to(matrix).reshape(lead)).sum(dim=-1)
