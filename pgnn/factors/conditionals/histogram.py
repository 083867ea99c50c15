"""Histograms as conditionals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pgnn.errors import DataError, ModelError
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.conditionals.exponential_family import LEAST_COUNT, Statistics
from pgnn.factors.conditionals.stored_rows import StoredDistribution
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import NOT_NEGATIVE, check_real, check_size, whole_number


class Histogram(Emission):
    r"""A histogram over a grid of cells, for each configuration of discrete parents.

    .. math:: p(x \mid j) = \frac{N_{cj} + \alpha}{(N_j + \alpha C)\, V_c} \quad
        \text{for } x \text{ in cell } c

    The density is zero outside the grid.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete variables.
        bins: Number of cells along each axis, of equal width between the smallest and largest
            training value; or their edges, the same along each axis.
        pseudo_count: Pseudo-count :math:`\alpha` added to the count of each cell.

    Attributes:
        edges: ``(D, bins + 1)`` edges of the cells.
        log_masses: ``(K, bins ** D)`` log probabilities of the cells, a parameter.

    Raises:
        ModelError: If there is no cell, or edges do not increase.
        Intractable: If there are too many cells.

    References:
        Pearson (1895); Scott (1979), On optimal and data-based histograms.

    Example:
        >>> x = Variable("x")
        >>> own = Histogram(x, bins=[0.0, 1.0, 3.0])
        >>> own.maximize(own.statistics({"x": torch.tensor([0.5, 2.0, 2.5, 0.1])}, torch.ones(4)))
        >>> own.factor({"x": torch.tensor([0.5, 2.0])}).log_values.detach().exp()
        tensor([0.5000, 0.2500], dtype=torch.float64)
    """

    integrates_missing = False
    is_additive = False  # the first rows determine the bins
    log_numbers = ("log_masses",)
    edges: Tensor

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        bins: int | Iterable[float] = 10,
        pseudo_count: float = 0.0,
    ) -> None:
        super().__init__(child, parents)
        if len(child.shape) > 1:
            raise ModelError(
                f"Histogram needs a child of shape () or (D,), {child.name!r} has {child.shape}"
            )
        check_real("pseudo_count", pseudo_count, NOT_NEGATIVE)
        self.pseudo_count, self.bins = pseudo_count, bins
        if isinstance(bins, Iterable):
            numbers = np.array([*bins], dtype=np.float64)
            self.bins = tuple(numbers.tolist())
            if (
                len(numbers) < 2
                or not np.isfinite(numbers).all()
                or not (np.diff(numbers) > 0).all()
            ):
                raise ModelError(
                    f"edges of {child.name!r} must be at least two increasing values, got {bins}"
                )
            self.number = len(numbers) - 1
        else:
            self.number = whole_number("bins", bins, 1, ModelError)
            numbers = np.linspace(0.0, 1.0, self.number + 1)
        cells = self.number**self.size
        check_size(f"cells of the histogram of {child.name!r}", cells * self.num_configurations,
                   2**30, "Take fewer bins")  # fmt: skip
        edges = torch.from_numpy(numbers).expand(self.size, -1).clone()
        self.register_buffer("edges", edges)
        start = torch.full((self.num_configurations, cells), -math.log(cells), dtype=torch.float64)
        self.log_masses = nn.Parameter(start)

    def settings(self) -> Settings:
        """Return the variables, the cells and the pseudo-count."""
        return super().settings() | {"bins": self.bins, "pseudo_count": self.pseudo_count}

    @property
    def num_free_parameters(self) -> int:
        """Number of cells minus one for each configuration."""
        return self.num_configurations * (int(self.log_masses.shape[1]) - 1)

    def num_free(self, parameter: Tensor) -> int:
        """See :attr:`num_free_parameters`."""
        return self.num_free_parameters

    def prepare(self, values: Mapping[Hashable, Tensor]) -> None:
        """Choose the edges if not given; see the base class."""
        if not isinstance(self.bins, int):
            return
        x = self._read(values)[self.child.name].reshape(-1, self.size)
        x = x[~x.isnan().any(dim=1)]
        if not len(x):
            raise DataError(
                f"{self.child.name!r} was not observed in any row, so there are no cells"
            )
        low, high = x.amin(dim=0), x.amax(dim=0)
        same = low == high
        low, high = torch.where(same, low - 0.5, low), torch.where(same, high + 0.5, high)
        part = torch.linspace(0.0, 1.0, self.number + 1, dtype=torch.float64)
        self.edges.copy_(low.unsqueeze(1) + (high - low).unsqueeze(1) * part)
        self.edges[:, -1] = high

    def _centre_on(self, rows: Tensor) -> None:
        self.prepare({self.child.name: rows.reshape(-1, *self.child.shape)})

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return counts ``(K, cells)``; see the base class."""
        x = self._read(values)[self.child.name].reshape(-1, self.size)
        w = self._weights(weights, len(x), self.configurations)
        cell = self._cells(x)
        kept = cell >= 0
        lost = (~kept & ~x.isnan().any(dim=1)).nonzero()[:, 0].tolist()
        if lost and not self.pseudo_count:
            raise DataError(
                f"{self.child.name!r} has values outside its cells (first: row {lost[0]})",
                "give bins= wider edges",
            )
        counts = torch.zeros(self.log_masses.shape[::-1], dtype=torch.float64)
        return (counts.index_add_(0, cell[kept], w[kept]).T,)

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set the probabilities of the cells; see the base class."""
        if prior is not None:
            raise ModelError(f"Histogram takes pseudo_count= instead of a prior, got {prior!r}")
        counts = statistics[0] + self.pseudo_count
        total = counts.sum(dim=1, keepdim=True)
        known = total[:, 0] > LEAST_COUNT
        self.log_masses[known] = (counts[known] / total[known]).log()

    def log_prior(self, prior: Any) -> Tensor:
        """Contribution of the pseudo-counts to the log posterior."""
        if not self.pseudo_count:
            return torch.zeros((), dtype=torch.float64)
        return self.pseudo_count * self.log_masses.sum()

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the densities at the parents' states."""
        index = self._index(parents)
        flat = torch.zeros((), dtype=torch.int64)
        for state, size in zip(index, self.configurations, strict=True):
            flat = flat * size + state
        return StoredDistribution(self, flat)

    def draw_rows(self, configuration: Tensor) -> Tensor:
        """Return ``(R, D)`` draws, uniform within a random cell."""
        cell = torch.multinomial(self.log_masses.detach().exp()[configuration], 1)[:, 0]
        places = []
        for d in reversed(range(self.size)):
            along = cell % self.number
            cell = cell // self.number
            low, high = self.edges[d][along], self.edges[d][along + 1]
            places.append(low + (high - low) * torch.rand(len(low), dtype=torch.float64))
        return torch.stack(places[::-1], dim=1)

    def _cells(self, x: Tensor) -> Tensor:
        """Return ``(N,)`` indices of cells; -1 outside the grid."""
        cell = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        inside = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for d in range(self.size):
            column, edges = x[:, d].contiguous(), self.edges[d].contiguous()
            place = torch.searchsorted(edges, column, right=True) - 1
            place = torch.where(column == edges[-1], self.number - 1, place)
            inside &= (column >= edges[0]) & (column <= edges[-1])
            cell = cell * self.number + place.clamp(0, self.number - 1)
        return torch.where(inside, cell, -1)

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        volume = torch.zeros(1, dtype=torch.float64)
        for d in range(self.size):
            volume = (volume.unsqueeze(1) + self.edges[d].diff().log()).reshape(-1)
        cell = self._cells(x.double())
        table = (self.log_masses - volume).T[cell.clamp_min(0)]
        return torch.where((cell >= 0).unsqueeze(1), table, -math.inf).to(x.dtype)

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create a histogram from its settings."""
        return cls(**settings)
