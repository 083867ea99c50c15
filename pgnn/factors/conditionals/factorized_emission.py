"""Vectors of independent numbers, each of a one-parameter exponential family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.errors import EvidenceError
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT, Statistics
from pgnn.factors.finite import all_finite
from pgnn.factors.piece import learnable_zeros
from pgnn.factors.sparse_rows import is_sparse, stored, weighted_totals
from pgnn.factors.variable import Variable

_NUMBERS = 2**17
"""Numbers of some rows that are worked on together."""


class FactorizedEmission(Emission):
    r"""Independent numbers :math:`p(x \mid j) = \prod_d h(x_d) e^{x_d \eta_{jd} - A(\eta_{jd})}`.

    The best expectations are weighted means. A number of a vector that is ``NaN`` was not observed,
    and does not count.

    Args:
        child: The variable, of any known shape.
        parents: Discrete variables.
        natural: ``(K1, ..., Kn, *event)`` natural parameters, constants; learnable zeros without.

    Attributes:
        natural: The parameters :math:`\eta`, infinite where a number cannot vary.
    """

    has_independent_elements = True

    def __init__(
        self, child: Variable, parents: Sequence[Variable] = (), natural: Tensor | None = None
    ) -> None:
        super().__init__(child, parents)
        if natural is None:
            shape = (*self.configurations, *child.shape)
            self.natural = learnable_zeros(f"the emission of {child.name!r}", shape)
        else:
            self.natural = nn.Parameter(natural, requires_grad=False)

    @abstractmethod
    def _log_partition(self, natural: Tensor) -> Tensor:
        """The function ``A``."""

    @abstractmethod
    def _log_base(self, x: Tensor) -> Tensor | None:
        """Logs of ``h``, none where it is one."""

    @abstractmethod
    def _is_value(self, x: Tensor) -> Tensor:
        """Which numbers can occur."""

    @abstractmethod
    def _from_mean(self, mean: Tensor) -> Tensor:
        """Natural parameters of expectations, kept from their limits."""

    @abstractmethod
    def _pseudo_counts(self, prior: Any) -> tuple[float, float]:
        """Sum and number of the rows that a prior counts as."""

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return counts and sums, ``(K, D)`` each; see the base class."""
        x = self._read(values)[self.child.name]
        w = self._weights(weights, len(x), self.configurations)
        if is_sparse(x):
            self._parts(x)
            return self._counted(w), weighted_totals(x, w)
        x = x.reshape(-1, self.size)
        count, total = w.new_zeros(w.shape[1], self.size), w.new_zeros(w.shape[1], self.size)
        step = max(64, _NUMBERS // self.size)  # rows that stay in the cache
        for part, part_weights in zip(torch.split(x, step), torch.split(w, step), strict=True):
            known, observed = self._parts(part)
            count += (
                self._counted(part_weights) if observed is None else part_weights.t() @ observed
            )
            total.addmm_(part_weights.t(), known)
        return count, total

    def _counted(self, w: Tensor) -> Tensor:
        """``(K, D)`` what rows count in which everything was observed."""
        return w.sum(dim=0).unsqueeze(1).expand(-1, self.size).clone()

    def log_likelihood(
        self, statistics: Statistics, values: Mapping[Hashable, Tensor], weights: Tensor
    ) -> Tensor | None:
        """Return that of rows without holes, where no number is certain; see the base class."""
        count, total = statistics
        natural = self.natural.detach().double().reshape(-1, self.size)
        if not all_finite(natural):
            return None
        value = total.reshape(-1) @ natural.reshape(-1)
        value = value - count.reshape(-1) @ self._log_partition(natural).reshape(-1)
        if self._log_base(total[:0]) is None:
            return value
        base = self._log_base(self._read(values)[self.child.name].reshape(-1, self.size))
        return value if base is None else value + (base.sum(dim=1) * weights.to(base)).sum()

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set expectations to weighted means; see the base class and the prior's own."""
        more, rows = self._pseudo_counts(prior)
        if not self.natural.requires_grad:
            return
        count, total = statistics[0] + rows, statistics[1] + more
        known = count > LEAST_COUNT
        if bool(known.all()):
            new = self._from_mean(total.div_(count))
        else:
            new = self._from_mean(total.div_(count.masked_fill_(~known, 1.0)))
            new = torch.where(known, new, self.natural.double().reshape(new.shape))
        self.natural.copy_(new.reshape(self.natural.shape))

    def log_prior(self, prior: Any) -> Tensor:
        """Log density of the prior, up to a constant; zero without one."""
        more, rows = self._pseudo_counts(prior)
        if not rows and not more:
            return self.natural.new_zeros(())
        finite = self.natural[self.natural.isfinite()]  # others are constants
        return (more * finite - rows * self._log_partition(finite)).sum()

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        natural = self.natural.reshape(-1, self.size)
        x, observed = self._parts(x)
        infinite = natural.detach().isinf()
        finite = natural.masked_fill(infinite, 0.0)
        partition = self._log_partition(finite).masked_fill(infinite, 0.0)
        if observed is None:
            table = x @ finite.t() - partition.sum(dim=1)
        else:
            table = torch.cat([x, observed], dim=1) @ torch.cat([finite, -partition], dim=1).t()
        base = self._log_base(x)
        if base is not None:
            table = table + base.sum(dim=1, keepdim=True)
        if bool(infinite.any()):
            never = x @ natural.detach().isneginf().to(x.dtype).t()
            certain = natural.detach().isposinf().to(x.dtype).t()
            certain_sum = certain.sum(dim=0) if observed is None else observed @ certain
            always = certain_sum - x @ certain
            table = table.masked_fill(never + always > 0, -torch.inf)
        return table

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Numbers with zeros where not observed, and what was observed if not all.

        Raises:
            EvidenceError: If a number cannot occur.
        """
        if is_sparse(x):
            self._check_values(stored(x))
            return x, None
        holes = not all_finite(x)
        hole = x.isnan() if holes else x
        x = x.masked_fill(hole, 0.0) if holes else x
        self._check_values(x)
        return x, (~hole).to(x.dtype) if holes else None

    def _check_values(self, x: Tensor) -> None:
        """Check numbers.

        Raises:
            EvidenceError: If one cannot occur.
        """
        good = self._is_value(x)
        if not bool(good.all()):
            raise EvidenceError(
                f"{type(self).__name__} variable {self.child.name!r} cannot be "
                f"{x[~good][0].item():g}"
            )
