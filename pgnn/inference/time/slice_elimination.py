"""Sums and maxima over the few variables of a slice, for all rows and steps at once."""

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
"""Most entries of a table of a slice, all rows and steps counted (one gigabyte in float64)."""


@dataclass(frozen=True, eq=False)
class SliceElimination:
    """The tables that remain after an elimination, and the way back.

    Attributes:
        left: Tables over the variables that were kept.
        elimination: Elimination of the others.
        variables: All of them by name.
    """

    left: tuple[Factor, ...]
    elimination: Elimination
    variables: Mapping[Hashable, Variable]

    @classmethod
    def of(
        cls, factors: Iterable[Factor], kept: Iterable[Hashable], best: Iterable[Hashable] = ()
    ) -> SliceElimination:
        """Eliminate all variables but some: sums first, then maxima.

        Args:
            factors: Tables of batch shape ``()`` or ``(N,)``.
            kept: Names of the variables that stay.
            best: Names of variables that are maximised over, rather than summed out.

        Raises:
            Intractable: If a table on the way is too large.

        Cost: Exponential in the width of the slice, found greedily by the smallest table.
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
            known: ``(copies * N,)`` states of the variables that were kept, where they matter.
            pick: Chooses ``(copies * N,)`` states of log weights ``(copies * N, K)``.
            copies: How often each row of the tables is used.
        """
        size = len(next(iter(known.values())))
        rows = torch.arange(size // copies).repeat(copies)
        names = [step.variable for step in self.elimination.steps]
        kept = {n: x for n, x in known.items() if n not in names}
        states = self.elimination.walk_back(kept, rows, lambda _, weights: pick(weights.T))
        return {n: states[n] for n in names}


Scopes = list[tuple[dict[Hashable, Variable], int]]
"""Of each table its variables and the number of its rows."""


def _steps(factors: Iterable[Factor], kept: set[Hashable], best: set[Hashable]) -> list[Step]:
    """The eliminated variables, those with the smallest table first, maxima last."""
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
    """The variables of all tables that one is in."""
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
    """Return the product as ``(N, K)`` over joint states, and whether rows have their own.

    Args:
        factors: Tables of batch shape ``()`` or ``(N,)``.
        variables: The last one runs fastest in the joint state.

    Raises:
        Intractable: If it is too large.
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
            f"a table over {names} for {rows:,} rows and steps has {entries:,} entries, at most "
            f"{MAX_ENTRIES:,} are made; ask fewer rows at once, or use engine=JunctionTree(), "
            "which unrolls, or BoyenKoller() to filter"
        )


def best_state(weights: Tensor) -> Tensor:
    """Pick the state of most weight, the first of equal ones."""
    return weights.argmax(-1)


def random_state(weights: Tensor) -> Tensor:
    """Pick a state with the probability of its weight; -1 where there is none."""
    top = weights.amax(-1, keepdim=True)
    impossible = top.isneginf()
    scaled = (weights - top.masked_fill(impossible, 0.0)).exp()
    drawn = torch.multinomial(scaled.masked_fill(impossible, 1.0), 1)[:, 0]
    return drawn.masked_fill(impossible[:, 0], MISSING)
