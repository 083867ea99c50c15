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
from pgnn.limits import NOT_NEGATIVE, check_real

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Laplace(Prior):
    """The same pseudo-count for every entry (Laplace's rule of succession with 1).

    Args:
        count: Pseudo-count, not negative.

    Raises:
        ModelError: If it is negative or not finite.
    """

    count: float = 1.0

    def __post_init__(self) -> None:
        check_real("count of Laplace", self.count, NOT_NEGATIVE)

    def counts(self, conditional: Tabular) -> Floats:
        """Pseudo-counts of one table."""
        return np.full(conditional.shape, float(self.count))


@dataclass(frozen=True)
class K2(Prior):
    """One pseudo-count for every entry: uniform on the distributions of each row.

    References:
        Cooper and Herskovits (1992), A Bayesian method for the induction of probabilistic
        networks from data, section 2.
    """

    def counts(self, conditional: Tabular) -> Floats:
        """Pseudo-counts of one table."""
        return np.ones(conditional.shape)


@dataclass(frozen=True)
class BDeu(Prior):
    r"""An imagined sample spread evenly: :math:`\alpha_{jk} = \alpha / (q r)`.

    Here :math:`q` is the number of parent configurations and :math:`r` of child states.

    Args:
        equivalent_sample_size: Number :math:`\alpha` of imagined rows, not negative.

    Raises:
        ModelError: If it is negative or not finite.

    References:
        Heckerman, Geiger and Chickering (1995), Learning Bayesian networks: the combination of
        knowledge and statistical data, section 7.
    """

    equivalent_sample_size: float = 10.0

    def __post_init__(self) -> None:
        own = self.equivalent_sample_size
        check_real("equivalent_sample_size of BDeu", own, NOT_NEGATIVE)

    def counts(self, conditional: Tabular) -> Floats:
        """Pseudo-counts of one table."""
        share = float(self.equivalent_sample_size) / math.prod(conditional.shape)
        return np.full(conditional.shape, share)


@dataclass(frozen=True, eq=False)
class Dirichlet(Prior):
    """Pseudo-counts written out.

    Args:
        pseudo_counts: Name of the child to an array of the shape of its table (parents first,
            child last), or a number for all its entries. Tables that are not named have none.
    """

    pseudo_counts: Mapping[Hashable, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.pseudo_counts, Mapping):
            raise ModelError(
                "pseudo_counts must be a mapping from the names of children to arrays or numbers, "
                f"got {self.pseudo_counts!r}; Laplace(1.0) is the same for every table"
            )

    def counts(self, conditional: Tabular) -> Floats:
        """Pseudo-counts of one table.

        Raises:
            ModelError: If their shape is wrong, or one is negative or not finite.
        """
        name = conditional.child.name
        pseudo = self.pseudo_counts.get(name, 0.0)
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
        for name in self.pseudo_counts:
            if name not in names:
                raise ModelError(
                    f"pseudo-counts are given for {name!r}, which has no table to learn"
                    f"{closest(name, names)}"
                )
