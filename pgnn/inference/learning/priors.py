"""Dirichlet priors on the rows of conditional probability tables, as pseudo-counts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ModelError, closest
from pgnn.factors.conditionals.tabular import Prior, Tabular

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Laplace(Prior):
    """The same pseudo-count for every entry (1: Laplace's rule of succession).

    Args:
        count: Pseudo-count, not negative; or a mapping by name of the child, zero for others.

    Raises:
        ModelError: If it is negative or not finite.
    """

    count: float | Mapping[Hashable, float] = 1.0

    def __post_init__(self) -> None:
        _check_numbers("count of Laplace", self.count)

    def counts(self, conditional: Tabular) -> Floats:
        """Return the pseudo-counts of one table."""
        return np.full(conditional.shape, self.of_each(conditional.child.name))

    def of_each(self, name: Hashable) -> float:
        """Return the pseudo-count, see the base class."""
        return _number_of(self.count, name)

    def check(self, names: Mapping[Hashable, Any]) -> None:
        """Check that every named variable exists, see the base class."""
        _check_names(self.count, names)


@dataclass(frozen=True)
class K2(Prior):
    """A pseudo-count of one for every entry: a uniform prior on the distributions of each row.

    References:
        Cooper and Herskovits (1992), A Bayesian method for the induction of probabilistic
        networks from data, section 2.
    """

    def counts(self, conditional: Tabular) -> Floats:
        """Return the pseudo-counts of one table."""
        return np.ones(conditional.shape)

    def of_each(self, name: Hashable) -> float:
        """Return one, see the base class."""
        return 1.0


@dataclass(frozen=True)
class BDeu(Prior):
    r"""Bayesian Dirichlet equivalent uniform prior: :math:`\alpha_{jk} = \alpha / (q r)`.

    :math:`q` is the number of parent configurations and :math:`r` the number of child states.

    Args:
        equivalent_sample_size: Number :math:`\alpha` of imaginary rows, not negative; or a mapping
            by name of the child, zero for others.

    Raises:
        ModelError: If it is negative or not finite.

    References:
        Heckerman, Geiger and Chickering (1995), Learning Bayesian networks: the combination of
        knowledge and statistical data, section 7.
    """

    equivalent_sample_size: float | Mapping[Hashable, float] = 10.0

    def __post_init__(self) -> None:
        _check_numbers("equivalent_sample_size of BDeu", self.equivalent_sample_size)

    def counts(self, conditional: Tabular) -> Floats:
        """Return the pseudo-counts of one table."""
        size = _number_of(self.equivalent_sample_size, conditional.child.name)
        return np.full(conditional.shape, size / math.prod(conditional.shape))

    def check(self, names: Mapping[Hashable, Any]) -> None:
        """Check that every named variable exists, see the base class."""
        _check_names(self.equivalent_sample_size, names)


@dataclass(frozen=True, eq=False)
class Dirichlet(Prior):
    """Dirichlet priors with given pseudo-counts.

    Args:
        pseudo_counts: Mapping from names of children to arrays shaped like their tables (parents
            first, child last), or to a number for all entries; tables that are not named have none.
            Or one number for all entries of all tables.

    Raises:
        ModelError: If it is neither.
    """

    pseudo_counts: float | Mapping[Hashable, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.pseudo_counts, Mapping):
            _check_numbers("pseudo-counts of Dirichlet", self.pseudo_counts)

    def counts(self, conditional: Tabular) -> Floats:
        """Return the pseudo-counts of one table.

        Raises:
            ModelError: If their shape is wrong, or one is negative or not finite.
        """
        name = conditional.child.name
        pseudo_counts = self.pseudo_counts
        pseudo = (
            pseudo_counts.get(name, 0.0) if isinstance(pseudo_counts, Mapping) else pseudo_counts
        )
        pseudo = pseudo.detach().cpu().numpy() if isinstance(pseudo, torch.Tensor) else pseudo
        counts = np.array(pseudo, dtype=np.float64)
        if counts.shape not in ((), conditional.shape):
            raise ModelError(
                f"pseudo-counts of {name!r} must have shape {conditional.shape}, parents first "
                f"and child last, or be one number; got {counts.shape}"
            )
        if not (np.isfinite(counts) & (counts >= 0)).all():
            raise ModelError(f"pseudo-counts of {name!r} must be finite and not negative")
        return np.broadcast_to(counts, conditional.shape)

    def check(self, names: Mapping[Hashable, Any]) -> None:
        """Check that every named variable exists.

        Raises:
            ModelError: If one does not.
        """
        _check_names(self.pseudo_counts, names)


def _number_of(values: float | Mapping[Hashable, float], name: Hashable) -> float:
    """Return the value for one variable."""
    return float(values.get(name, 0.0) if isinstance(values, Mapping) else values)


def _check_names(value: Any, names: Mapping[Hashable, Any]) -> None:
    for name in value if isinstance(value, Mapping) else ():
        if name not in names:
            raise ModelError(
                f"pseudo-counts are given for {name!r}, which has no table to learn"
                f"{closest(name, names)}"
            )


def _or_arrays(what: str) -> str:
    """What else a prior takes, for its message."""
    return " or arrays of the shape of their tables, {name: counts}" if "Dirichlet" in what else ""


def _check_numbers(what: str, numbers: Any) -> None:
    for value in numbers.values() if isinstance(numbers, Mapping) else [numbers]:
        if not isinstance(value, int | float | np.number):
            raise ModelError(
                f"{what} must be a number, or a mapping from names of variables to numbers"
                f"{_or_arrays(what)}, got {numbers!r}"
            )
        if not (math.isfinite(value) and value >= 0):
            raise ModelError(f"{what} must be finite and not negative, got {value}")
