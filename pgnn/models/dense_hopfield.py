"""Dense Hopfield networks: real patterns recalled by softmax attention."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError, ModelError
from pgnn.evidence.reading import floats_of
from pgnn.factors.conditionals.covariance import Spherical
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.limits import POSITIVE, check_real, whole_number
from pgnn.models.mixture import Mixture


class DenseHopfield(Mixture):
    r"""Dense Hopfield network: a memory of real patterns whose update is softmax attention.

    .. math:: E(\xi) = -\frac1\beta \log \sum_p e^{\beta x_p^\top \xi} + \tfrac12 \xi^\top \xi,
        \qquad \xi \leftarrow X^\top \mathrm{softmax}(\beta X \xi)

    The capacity is exponential in the number of units. As a distribution,
    :math:`p(\xi) \propto e^{-\beta E(\xi)}` is a mixture of normal distributions around the
    patterns with variance :math:`1 / \beta` and weights :math:`\propto e^{\beta \|x_p\|^2 / 2}`,
    so that all methods of a model work: ``model.query("pattern", {"units": xi})`` is exactly the
    attention, also with missing units.

    Args:
        patterns: ``(P, n)`` real patterns :math:`x_p`.
        beta: Inverse temperature :math:`\beta`.

    Raises:
        ModelError: If there is no pattern, or a value is not finite.

    References:
        Ramsauer et al. (2021), Hopfield networks is all you need. Krotov and Hopfield (2016), Dense
        associative memory for pattern recognition.

    Example:
        >>> memory = DenseHopfield([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], beta=8.0)
        >>> [round(x, 2) for x in memory.recall([0.9, 0.6, 0.1]).tolist()]
        [1.0, 1.0, 0.0]
    """

    def __init__(self, patterns: Any, beta: float = 1.0) -> None:
        check_real("beta", beta, POSITIVE)
        x = read_numbers("the patterns", patterns)
        if x.ndim != 2 or not x.size or not np.isfinite(x).all():
            raise ModelError(f"patterns must be finite numbers of shape (P, n), got {x.shape}")
        score = 0.5 * beta * (x**2).sum(1)
        weights = np.exp(score - score.max())
        variance = np.full(len(x), 1.0 / beta)
        super().__init__(
            len(x),
            {"units": partial(Gaussian, mean=x, covariance=variance, form=Spherical())},
            weights / weights.sum(),
            shapes={"units": (x.shape[1],)},
            name="pattern",
        )
        self.beta = float(beta)

    def settings(self) -> dict[str, Any]:
        """Return the patterns and the inverse temperature."""
        return {"patterns": self.patterns.cpu().numpy(), "beta": self.beta}

    @property
    def patterns(self) -> Tensor:
        """``(P, n)``."""
        mean: Any = self.conditionals["units"]
        means: Tensor = mean.mean.detach()
        return means

    def energy(self, units: Any) -> Tensor:
        """Return ``(N,)`` energies of states ``(N, n)``, or the energy of one."""
        xi = self._read(units)
        kept = (self.beta * xi @ self.patterns.T).logsumexp(-1) / self.beta
        return 0.5 * xi.square().sum(-1) - kept

    def recall(self, units: Any, *, steps: int = 10) -> Tensor:
        """Return states ``(N, n)``, or a single state, after some updates.

        Args:
            units: The initial states.
            steps: Number of updates; one update is one attention head.
        """
        xi = self._read(units)
        for _ in range(whole_number("steps", steps)):
            xi = (self.beta * xi @ self.patterns.T).softmax(-1) @ self.patterns
        return xi

    def _read(self, units: Any) -> Tensor:
        x = self.patterns
        try:
            xi = torch.as_tensor(units if isinstance(units, Tensor) else floats_of(units))
        except (TypeError, ValueError):
            raise EvidenceError(
                f"states must be {x.shape[1]} numbers each, got {units!r}"
            ) from None
        if not xi.dim() or xi.shape[-1] != x.shape[1] or not bool(xi.isfinite().all()):
            raise EvidenceError(
                f"states must be {x.shape[1]} finite numbers each, got shape {tuple(xi.shape)}"
            )
        return xi.to(x)
