"""Elimination of the variables of a slice, for all rows and steps at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.errors import Intractable
from pgnn.factors.factor import Factor
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.exact.torch_elimination import Elimination, Step, Table
from pgnn.inference.semiring import MAX, SUM

MAX_ENTRIES = 2**27
"""Largest number of entries of a table over all rows and steps (one gigabyte in float64)."""


@dataclass(frozen=True, eq=False)
class SliceElimination:
    """The tables that remain after an elimination, and the data for decoding.

    Attributes:
        left: Tables over the remaining variables.
        elimination: Elimination of the other variables.
        variables: All variables by name.
    """

    left: tuple[Factor, ...]
    elimination: Elimination
    variables: Mapping[Hashable, Variable]

    @classmethod
    def of(
        cls, factors: Iterable[Factor], kept: Iterable[Hashable], best: Iterable[Hashable] = ()
    ) -> SliceElimination:
        """Eliminate all variables except some: sums first, then maxima.

        Args:
            factors: Tables of batch shape ``()`` or ``(N,)``.
            kept: Names of the remaining variables.
            best: Names of variables that are maximised over instead of summed out.

        Raises:
            Intractable: If an intermediate table is too large.

        Cost: Exponential in the width of the slice, with a greedy elimination order.
        """
        each = [*factors]
        variables = {v.name: v for f in each for v in f.variables}
        steps = _steps(each, set(kept), set(best))
        done = Elimination.of(map(_rows_last, each), steps)
        return cls(tuple(_factor(t, variables) for t in done.left), done, variables)

    def trace(
        self, known: Mapping[Hashable, Tensor], pick: Callable[[Tensor], Tensor], copies: int = 1
    ) -> dict[Hashable, Tensor]:
        """Return states of the eliminated variables given the remaining ones.

        Args:
            known: ``(copies * N,)`` states of the remaining variables, as far as they are needed.
            pick: Chooses ``(copies * N,)`` states of log weights ``(copies * N, K)``.
            copies: Number of copies of each row of the tables.
        """
        size = len(next(iter(known.values())))
        rows = torch.arange(size // copies).repeat(copies)
        names = [step.variable for step in self.elimination.steps]
        kept = {n: x for n, x in known.items() if n not in names}
        states = self.elimination.walk_back(kept, rows, lambda _, weights: pick(weights.T))
        return {n: states[n] for n in names}


Scopes = list[tuple[dict[Hashable, Variable], int]]
"""The variables and the number of rows of each table."""


def _steps(factors: Iterable[Factor], kept: set[Hashable], best: set[Hashable]) -> list[Step]:
    """Return the elimination steps, those with the smallest tables first, maxima last."""
    tables: Scopes = [({v.name: v for v in f.variables}, math.prod(f.batch_shape)) for f in factors]
    waiting = {n for scope, _ in tables for n in scope} - kept
    steps = []
    while waiting:
        early = waiting - best
        sizes = {n: (_entries(_union(tables, n)), str(n)) for n in early or waiting}
        name = min(sizes, key=sizes.__getitem__)
        scope = _union(tables, name)
        rows = max(r for s, r in tables if name in s)
        check_size(scope.values(), rows)
        steps.append(Step(name, SUM if early else MAX))
        del scope[name]
        tables = [(s, r) for s, r in tables if name not in s] + [(scope, rows)]
        waiting.discard(name)
    return steps


def _union(tables: Scopes, name: Hashable) -> dict[Hashable, Variable]:
    """Return the variables of all tables that contain a variable."""
    return {n: v for scope, _ in tables if name in scope for n, v in scope.items()}


def _entries(scope: Mapping[Hashable, Variable]) -> int:
    return math.prod(v.num_states for v in scope.values())


def _rows_last(factor: Factor) -> Table:
    batch = bool(factor.batch_shape)
    return Table(factor.names, factor.log_values.movedim(0, -1) if batch else factor.log_values)


def _factor(table: Table, variables: Mapping[Hashable, Variable]) -> Factor:
    values = table.values.movedim(-1, 0) if table.batch else table.values
    return Factor([variables[n] for n in table.scope], values)


def table_over(factors: Sequence[Factor], variables: Sequence[Variable]) -> tuple[Tensor, bool]:
    """Return the product as ``(N, K)`` over joint states, and whether it differs between rows.

    Args:
        factors: Tables of batch shape ``()`` or ``(N,)``.
        variables: The variables of the joint state, the last one varying fastest.

    Raises:
        Intractable: If the product is too large.
    """
    shape = [v.num_states for v in variables]
    check_size(variables, max((math.prod(f.batch_shape) for f in factors), default=1))
    device = factors[0].log_values.device if factors else None
    total = torch.zeros([1, *shape], dtype=torch.float64, device=device)
    for f in factors:
        order = [f.names.index(v.name) for v in variables if v.name in f.names]
        batch = len(f.batch_shape)
        table = f.log_values.permute([*range(batch), *(batch + k for k in order)])
        sizes = [v.num_states if v.name in f.names else 1 for v in variables]
        total = total + table.reshape([*(f.batch_shape or (1,)), *sizes])
    return total.reshape(len(total), math.prod(shape)), any(f.batch_shape for f in factors)


def check_size(variables: Iterable[Variable], rows: int) -> None:
    """Check that a product is not too large for memory.

    Raises:
        Intractable: If it is.
    """
    scope = [*variables]
    entries = rows * math.prod(v.num_states for v in scope)
    if entries > MAX_ENTRIES:
        names = [v.name for v in scope]
        raise Intractable(
            f"a table over {names} for {rows:,} rows and steps has {entries:,} entries; the "
            f"limit is {MAX_ENTRIES:,}",
            "Pass fewer rows at once, or use engine=JunctionTree(), which unrolls, or "
            "BoyenKoller() to filter",
        )


def best_state(weights: Tensor) -> Tensor:
    """Return the state of largest weight, the first one in case of ties."""
    return weights.argmax(-1)


def random_state(weights: Tensor) -> Tensor:
    """Return a random state with probability proportional to its weight; -1 if all are zero."""
    top = weights.amax(-1, keepdim=True)
    impossible = top.isneginf()
    scaled = (weights - top.masked_fill(impossible, 0.0)).exp()
    drawn = torch.multinomial(scaled.masked_fill(impossible, 1.0), 1)[:, 0]
    return drawn.masked_fill(impossible[:, 0], MISSING)
