"""The base class of conditionals of real variables given discrete ones."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import DataError, ModelError
from pgnn.factors.conditionals.checks import check_rows, select_values
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.factor import Factor
from pgnn.factors.finite import all_finite
from pgnn.factors.lloyd import lloyd, nearest, spread_centres
from pgnn.factors.randomness import generator
from pgnn.factors.sparse_rows import is_sparse, written_out
from pgnn.factors.variable import Variable

SHARE = 0.1
"""What a row counts, spread at random, for the clusters that it is not in, at the start."""


class Emission(ExponentialFamily):
    r"""A conditional :math:`p(x \mid j)` of a real child, with :math:`K` configurations of parents.

    Its table over the discrete parents is the density of the observation under each configuration.
    A row with a ``NaN`` child is unobserved, and has density 1.

    Args:
        child: Real variable of known shape.
        parents: Single discrete variables.

    Raises:
        ModelError: If a variable has an unsupported kind.
    """

    integrates_missing = True

    takes_reals = False
    """Whether parents may be real."""

    takes_states = False
    """Whether the child may have states."""

    def __init__(self, child: Variable, parents: Sequence[Variable] = ()) -> None:
        super().__init__(child, parents)
        for v in self.scope:
            known = all(isinstance(n, int) for n in v.shape)
            if not self._accepts(v) or not known:
                what = "discrete" if v.is_discrete else "real"
                raise ModelError(
                    f"{type(self).__name__} needs a real child of known shape and single discrete "
                    f"parents{', or real ones of known shape' if self.takes_reals else ''}, but "
                    f"{v.name!r} is {what} with shape {v.shape}"
                )

    def _accepts(self, v: Variable) -> bool:
        if v.name == self.child.name:
            return not v.is_discrete
        return not v.shape if v.is_discrete else self.takes_reals

    @property
    def size(self) -> int:
        """Number of components of the child."""
        return self.child.num_elements

    @property
    def num_configurations(self) -> int:
        """Number ``K`` of configurations of the discrete parents; 1 without any."""
        return math.prod(self.configurations)

    @abstractmethod
    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        """Log densities ``(N, K)`` of rows ``(N, D)``; ``NaN`` components are omitted."""

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the log density of the child over the unobserved parents; see the base class.

        Args:
            observed: The child and the real parents, and any of the discrete parents. ``NaN``
                components of the child are integrated out.
            inputs: Ignored.

        Cost:
            A few matrix products of rows and parameters.
        """
        known = self._observed_part(observed)
        free = self._unobserved(known)
        check_rows(self.child, known)
        x = known[self.child.name].to(self._dtype)
        rows = len(x)
        if not rows:
            return Factor(free, x.new_zeros(0, *(v.num_states for v in free)))
        table = self._log_density(x if is_sparse(x) else x.reshape(rows, self.size), known)
        discrete = [v for v in self.parents if v.is_discrete]
        full = Factor(discrete, table.reshape(rows, *self.configurations))
        return full.condition({v.name: known[v.name] for v in discrete if v.name in known})

    def initialize(self, values: Mapping[Hashable, Tensor], seed: int | None = None) -> None:
        """Initialise by clusters of the rows; see the base class.

        Each configuration is fitted to one cluster, with small random weights of all other rows, so
        that none is initially narrow or empty, and no two are equal.
        """
        chance = generator(seed)
        filled, rows = self._complete(values)
        labels = kmeans(self._clustered(rows), self.num_configurations, chance)
        self._start_from(filled, rows, labels, chance)

    def _start_from(
        self,
        filled: Mapping[Hashable, Tensor],
        rows: Tensor,
        labels: Tensor,
        chance: torch.Generator,
    ) -> None:
        """Fit each configuration to the rows of its cluster.

        Args:
            filled: Values of child and real parents without missing ones.
            rows: ``(N, E)`` the same values, concatenated.
            labels: ``(N,)`` number of a configuration.
            chance: Random generator of the weights of all other rows.
        """
        weights = torch.empty(len(rows), self.num_configurations, dtype=torch.float64)
        weights.exponential_(generator=chance)
        weights = SHARE * (weights / weights.sum(dim=1, keepdim=True)).to(rows.device)
        weights[torch.arange(len(rows), device=rows.device), labels] += 1.0
        self._centre_on(rows)
        self.maximize(self.statistics(filled, weights.reshape(-1, *self.configurations)))

    def _clustered(self, rows: Tensor) -> Tensor:
        """The columns used for clustering, of the rows ``(N, E)`` of child and real parents."""
        return rows

    def _centre_on(self, rows: Tensor) -> None:
        """Set the origin of statistics."""

    def _complete(self, values: Mapping[Hashable, Tensor]) -> tuple[dict[Hashable, Tensor], Tensor]:
        """Rows with an observed child, missing values replaced by means; and concatenated."""
        parent_values = self._read(values)
        if all(all_finite(x) for x in parent_values.values()):
            columns = [_flat(self.child.name, x) for x in parent_values.values()]
            if len(columns[0]):
                return parent_values, torch.cat(columns, dim=1) if len(columns) > 1 else columns[0]
        x = parent_values[self.child.name].reshape(-1, self.size)
        kept = ~x.isnan().all(dim=1)
        if not bool(kept.any()):
            raise DataError(
                f"{self.child.name!r} was not observed in any row, so that it cannot be initialised"
            )
        for name, value in parent_values.items():
            flat = value[kept].reshape(int(kept.sum()), -1)
            mean = flat.nanmean(dim=0).nan_to_num().expand_as(flat)
            parent_values[name] = self._filled(flat, mean).reshape(-1, *value.shape[1:])
        return parent_values, torch.cat(
            [v.reshape(len(v), -1) for v in parent_values.values()], dim=1
        )

    def _filled(self, flat: Tensor, mean: Tensor) -> Tensor:
        return torch.where(flat.isnan(), mean, flat)

    def _read(self, values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Checked values of child and real parents, in float64."""
        names = [self.child.name, *(v.name for v in self.parents if not v.is_discrete)]
        parent_values = select_values(self.child, names, values, "variable", "values")
        known = self._observed_part(
            {n: torch.as_tensor(x).detach() for n, x in parent_values.items()}
        )
        check_rows(self.child, known)
        return {n: known[n].double() for n in names}

    def _index(self, parents: Mapping[Hashable, Tensor]) -> tuple[Tensor, ...]:
        """States of the discrete parents as an index of parameters."""
        values = self._values(parents)
        return tuple(values[v.name] for v in self.parents if v.is_discrete)


def _flat(name: Hashable, x: Tensor) -> Tensor:
    """Flattened components of each row."""
    x = written_out(name, x)
    return x.reshape(len(x), math.prod(x.shape[1:]))


def read_parameter(name: str, child: Variable, numbers: Any, shape: Sequence[int]) -> Tensor:
    """Return a float64 copy of given parameter values.

    Raises:
        ModelError: If the shape is wrong or a value is not finite.
    """
    values = read_numbers(f"{name} of {child.name!r}", numbers)
    if values.shape != tuple(shape):
        raise ModelError(
            f"{name} of {child.name!r} must have shape {tuple(shape)}, states of the discrete "
            f"parents first, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ModelError(
            f"{name} of {child.name!r} must be finite, got {values[~np.isfinite(values)][0]}"
        )
    return torch.from_numpy(values)


MAX_ROWS = 20_000
"""Rows that centres are found from; more are thinned out at random."""

START_ROWS = 1_000
"""Rows on which starts of k-means are compared."""

STARTS = 3
"""Starts of k-means, of which the best is taken: with one, one in sixteen is a poor optimum."""


def kmeans(
    rows: Tensor, num_clusters: int, generator: torch.Generator, num_iter: int = 20
) -> Tensor:
    r"""Return a cluster for each row: Lloyd's algorithm with k-means++ initialisation.

    Columns are first scaled to unit variance. Of three starts, on at most 1,000 rows or 50 for each
    cluster, the one with the smallest sum of squares is continued on all rows.

    Args:
        rows: ``(N, D)`` real numbers without ``NaN``, at least one row.
        num_clusters: ``K``.
        generator: Random generator.
        num_iter: Largest number of iterations; with 0 there is one start only.

    Returns:
        ``(N,)`` cluster indices ``0 .. K-1``; some clusters are empty if fewer rows are distinct.

    Cost:
        ``O(rounds N K D)``, on at most 20,000 rows until the last assignment.

    References:
        Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding.

    Example:
        >>> rows = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> labels = kmeans(rows, 2, torch.Generator().manual_seed(0))
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """
    rows = rows.detach().double()
    spread = rows.std(dim=0, correction=0)
    scaled = (rows - rows.mean(dim=0)) / spread.masked_fill(spread == 0, 1.0)
    few = _thinned(scaled, max(MAX_ROWS, 100 * num_clusters), generator)
    first = _first_centres(few, num_clusters, generator, num_iter)
    result = lloyd(few, first, num_iter)
    return result.labels if few is scaled else nearest(scaled, result.centres)


def _first_centres(
    rows: Tensor, num_clusters: int, generator: torch.Generator, num_iter: int
) -> Tensor:
    """The best centres of a few starts, which are compared on a part of the rows."""
    if not num_iter or num_clusters == 1:
        return spread_centres(rows, num_clusters, generator)
    few = _thinned(rows, max(START_ROWS, 50 * num_clusters), generator)
    starts = [
        lloyd(few, spread_centres(few, num_clusters, generator), num_iter) for _ in range(STARTS)
    ]
    return min(starts, key=lambda found: found.sum_of_squares(few)).centres


def _thinned(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many rows, drawn without replacement."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]
