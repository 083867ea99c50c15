"""Base class of nonparametric densities, which store rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pgnn.errors import ModelError
from pgnn.factors.conditionals.emission import Emission
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable

AT_ONCE = 2**22
"""Distances that are computed together."""


class StoredRows(Emission):
    r"""A density of a real child that stores its training rows.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete variables; each configuration has its own density and rows.

    Attributes:
        rows: ``(N, D)`` observed rows.
        shares: ``(N, K)`` weight of each row for each configuration, a parameter.
    """

    integrates_missing = False
    is_additive = False
    rows: Tensor

    def __init__(self, child: Variable, parents: Sequence[Variable] = ()) -> None:
        super().__init__(child, parents)
        if len(child.shape) > 1:
            raise ModelError(
                f"{type(self).__name__} needs a child of shape () or (D,), {child.name!r} has "
                f"{child.shape}"
            )
        self.register_buffer("rows", torch.zeros(0, self.size, dtype=torch.float64))
        self.shares = nn.Parameter(torch.zeros(0, self.num_configurations, dtype=torch.float64))

    @property
    def totals(self) -> Tensor:
        """``(K,)`` total weight of all rows."""
        return self.shares.detach().sum(dim=0)

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return the observed rows and their weights, which cannot be added to other statistics."""
        x = self._read(values)[self.child.name].reshape(-1, self.size)
        w = self._weights(weights, len(x), self.configurations)
        kept = ~x.isnan().any(dim=1) & (w.sum(dim=1) > 0)
        return x[kept], w[kept]

    @torch.no_grad()
    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Store the rows; see the base class.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: Must be None.
        """
        if prior is not None:
            raise ModelError(f"{type(self).__name__} supports no prior, got {prior!r}")
        x, w = statistics
        self._keep(x.clone(), w.clone())
        self.refine()

    def refine(self) -> None:
        """Learn further settings from the rows."""

    def _keep(self, x: Tensor, w: Tensor) -> None:
        self.rows = x
        self.shares = nn.Parameter(w, requires_grad=self.shares.requires_grad)

    def log_prior(self, prior: Any) -> Tensor:
        """Zero."""
        return torch.zeros((), dtype=torch.float64)

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the densities at the parents' states."""
        index = self._index(parents)
        flat = torch.zeros((), dtype=torch.int64)
        for state, size in zip(index, self.configurations, strict=True):
            flat = flat * size + state
        return StoredDistribution(self, flat)

    @abstractmethod
    def draw_rows(self, configuration: Tensor) -> Tensor:
        """Return ``(R, D)`` draws, one for each of ``(R,)`` configurations."""

    def _check_fitted(self) -> None:
        if not len(self.rows):
            raise ModelError(f"the density of {self.child.name!r} has no rows yet", "fit the model")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self._resize({n: state_dict.get(prefix + n) for n in ("rows", "shares")})
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _resize(self, numbers: Mapping[str, Tensor | None]) -> None:
        """Resize the storage of rows."""
        x, w = numbers.get("rows"), numbers.get("shares")
        if x is not None and w is not None and x.shape != self.rows.shape:
            self._keep(torch.empty_like(x), torch.empty_like(w))

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Create a density with storage for the saved rows."""
        piece = cls(**settings)
        piece._resize(numbers)
        return piece


class StoredDistribution(Distribution):
    """The density of some configurations.

    Args:
        density: The conditional.
        configuration: ``(*batch)`` indices of the configurations.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.real

    def __init__(self, density: Any, configuration: Tensor) -> None:
        self.density, self.configuration = density, configuration
        shape = configuration.shape
        super().__init__(shape, torch.Size(density.child.shape), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws."""
        shape = torch.Size(sample_shape) + self.batch_shape
        which = self.configuration.expand(shape)
        drawn: Tensor = self.density.draw_rows(which.reshape(-1))
        return drawn.reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        table = self.density._log_density(value.reshape(-1, self.density.size).double(), {})
        which = self.configuration.expand(batch).reshape(-1, 1)
        log_probs: Tensor = table.gather(1, which).reshape(batch)
        return log_probs
