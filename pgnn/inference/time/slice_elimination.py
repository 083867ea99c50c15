"""Sums and maxima over the few variables of a slice, for all rows and steps at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgnn.errors import Intractable
from pgnn.factors.factor import Factor
from pgnn.factors.variable import MISSING, Variable

MAX_ENTRIES = 2**27
"""Most entries of a table of a slice, all rows and steps counted (one gigabyte in float64)."""


class Removed(NamedTuple):
    """A variable that was eliminated, and the product of the tables that it was in."""

    variable: Variable
    product: Factor


@dataclass(frozen=True)
class Elimination:
    """What is left of some tables when variables were eliminated, and the way back.

    Attributes:
        left: Tables over the variables that were kept.
        removed: What was eliminated, in this order.
    """

    left: tuple[Factor, ...]
    removed: tuple[Removed, ...]

    @classmethod
    def of(
        cls, factors: Iterable[Factor], kept: Iterable[Hashable], best: Iterable[Hashable] = ()
    ) -> Elimination:
        """Eliminate all variables but some: sums first, then maxima.

        Args:
            factors: Tables of batch shape ``()`` or ``(N,)``.
            kept: Names of the variables that stay.
            best: Names of variables that are maximised over, rather than summed out.

        Raises:
            Intractable: If a table on the way is too large.

        Cost: Exponential in the width of the slice, found by taking what makes the smallest table.
        """
        stay, last = set(kept), set(best)
        left, removed = list(factors), []
        waiting = {n for f in left for n in f.names} - stay
        while waiting:
            early = waiting - last
            name = min(early or waiting, key=lambda n: (_cost(left, n), str(n)))
            own = [f for f in left if name in f.names]
            check_size(_union(own), own)
            product = own[0].product(*own[1:])
            found = product.marginalize([name]) if early else product.maximize([name])
            variable = next(v for v in product.variables if v.name == name)
            removed.append(Removed(variable, product))
            left = [f for f in left if name not in f.names] + [found]
            waiting.discard(name)
        return cls(tuple(left), tuple(removed))

    def trace(
        self, known: Mapping[Hashable, Tensor], pick: Callable[[Tensor], Tensor], copies: int = 1
    ) -> dict[Hashable, Tensor]:
        """Return states of the eliminated variables given those that were kept.

        Args:
            known: ``(copies * N,)`` states of the variables that were kept, where they matter.
            pick: Chooses ``(copies * N,)`` states of log weights ``(copies * N, K)``.
            copies: How often each row of the tables is asked.
        """
        states = dict(known)
        rows = len(next(iter(known.values())))
        for variable, product in reversed(self.removed):
            table = product.log_values
            if product.batch_shape:
                table = table.expand(copies, *table.shape).flatten(0, 1)
            given = {n: states[n].clamp_min(0) for n in product.names if n in states}
            weights = Factor(product.variables, table).condition(given).log_values
            states[variable.name] = pick(weights.expand(rows, variable.num_states))
        return {v.name: states[v.name] for v, _ in self.removed}


def table_over(factors: Sequence[Factor], variables: Sequence[Variable]) -> tuple[Tensor, bool]:
    """Return the product as ``(N, K)`` over joint states, and whether rows have their own.

    Args:
        factors: Tables of batch shape ``()`` or ``(N,)``.
        variables: The last one runs fastest in the joint state.

    Raises:
        Intractable: If it is too large.
    """
    shape = [v.num_states for v in variables]
    check_size(variables, factors)
    total = torch.zeros([1, *shape], dtype=torch.float64)
    for f in factors:
        order = [f.names.index(v.name) for v in variables if v.name in f.names]
        batch = len(f.batch_shape)
        table = f.log_values.permute([*range(batch), *(batch + k for k in order)])
        sizes = [v.num_states if v.name in f.names else 1 for v in variables]
        total = total + table.reshape([*(f.batch_shape or (1,)), *sizes])
    return total.reshape(len(total), math.prod(shape)), any(f.batch_shape for f in factors)


def check_size(variables: Iterable[Variable], factors: Iterable[Factor]) -> None:
    """Check that a product is not too large to be written down.

    Raises:
        Intractable: If it is.
    """
    rows = max((math.prod(f.batch_shape) for f in factors), default=1)
    entries = rows * math.prod(v.num_states for v in variables)
    if entries > MAX_ENTRIES:
        names = [v.name for v in variables]
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


def _union(factors: Sequence[Factor]) -> list[Variable]:
    return list(dict.fromkeys(v for f in factors for v in f.variables))


def _cost(factors: Sequence[Factor], name: Hashable) -> int:
    return math.prod(v.num_states for v in _union([f for f in factors if name in f.names]))
