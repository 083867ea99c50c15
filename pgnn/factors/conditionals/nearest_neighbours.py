"""Nearest-neighbour densities as conditionals; with a class as parent, the classifier."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.smoothing_kernels import log_ball
from pgnn.factors.conditionals.stored_rows import StoredRows
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number


class NearestNeighbours(StoredRows):
    r"""A density from the ball of the :math:`k` nearest rows, for each configuration.

    .. math:: p(x \mid j) = \frac{\sum_{n \in B(x)} w_{nj}}{V(x) \sum_n w_{nj}}

    With a class as parent and its relative frequencies, Bayes' rule yields the class frequencies
    among the neighbours: the nearest-neighbour classifier. The estimate does not integrate to one,
    so it cannot be sampled.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete variables.
        k: Number of neighbours; all rows if there are fewer.

    Attributes:
        rows: ``(N, D)`` observed rows.
        shares: ``(N, K)`` weight of each row for each configuration.

    Raises:
        ModelError: If ``k`` is not an integer of at least one.

    References:
        Cover and Hart (1967), Nearest neighbor pattern classification. Bishop (2006), Pattern
        Recognition and Machine Learning, section 2.5.2.

    Example:
        >>> x = Variable("x")
        >>> own = NearestNeighbours(x, k=1)
        >>> own.maximize(own.statistics({"x": torch.tensor([0.0, 2.0])}, torch.ones(2)))
        >>> own.factor({"x": torch.tensor([0.5])}).log_values.exp()  # 1 / (2 * 2 * 0.5)
        tensor([0.5000], dtype=torch.float64)
    """

    def __init__(self, child: Variable, parents: Sequence[Variable] = (), k: int = 5) -> None:
        super().__init__(child, parents)
        self.k = whole_number("k", k, 1, ModelError)

    def settings(self) -> Settings:
        """Return the variables and the number of neighbours."""
        return super().settings() | {"k": self.k}

    def draw_rows(self, configuration: Tensor) -> Tensor:
        """Raise an error, since the estimate does not integrate to one.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"a nearest-neighbour density of {self.child.name!r} does not integrate to one and "
            "cannot be sampled",
            "KernelDensity can",
        )

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        from scipy.spatial import cKDTree

        if not len(self.rows):  # nothing is known yet
            return x.new_zeros(len(x), self.num_configurations)
        rows, shares = self.rows.numpy(force=True), self.shares.detach()
        k = min(self.k, len(rows))
        distance, nearest = cKDTree(rows).query(
            x.detach().double().numpy(force=True), [*range(1, k + 1)]
        )
        radius = np.maximum(distance[:, -1], 1e-300)
        log_volume = log_ball(self.size) + self.size * np.log(radius)
        inside = shares[torch.from_numpy(nearest)].sum(dim=1)
        table = inside.log() - shares.sum(dim=0).log() - torch.from_numpy(log_volume).unsqueeze(1)
        return table.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf).to(x.dtype)
