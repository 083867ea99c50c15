"""Kernel density estimates (Parzen windows) as conditionals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.smoothing_kernels import GaussianKernel, SmoothingKernel
from pgnn.factors.conditionals.stored_rows import AT_ONCE, StoredRows
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable
from pgnn.limits import POSITIVE, check_real

_ASKED = 2_000
"""Maximum number of rows on which bandwidths are cross-validated; more are thinned out evenly."""
_LEAST = -1e300
_EXPANDED = 1e6
"""Largest sum of squares, in bandwidths, that may be expanded: digits are lost to it."""
_RANGE = 5.0
"""Range of log bandwidths around the rule of thumb that is searched."""


@dataclass(frozen=True)
class Bandwidth(Restorable, ABC):
    """Rule for the bandwidth of a kernel density estimate."""

    @abstractmethod
    def of(self, density: KernelDensity) -> float:
        """Return the bandwidth for the rows of a density."""


def _deviation(density: KernelDensity) -> float:
    """Return the root of the mean variance of the rows about the means of their configurations."""
    x, w = density.rows, density.shares.detach()
    total = w.sum(dim=0).clamp_min(1e-300)
    mean = (w.T @ x) / total.unsqueeze(1)
    square = sum(w[:, k] @ (x - m).square() for k, m in enumerate(mean)) / total.sum()
    deviation = math.sqrt(float(torch.as_tensor(square).mean()))
    return deviation if deviation > 0 else 1.0


def _effective(density: KernelDensity) -> float:
    return max(1.0, float(density.totals.sum()) / density.num_configurations)


@dataclass(frozen=True)
class Scott(Bandwidth):
    r"""The rule :math:`\sigma \, n^{-1/(D+4)}` of Scott (1992), Multivariate Density Estimation."""

    def of(self, density: KernelDensity) -> float:
        """See the base class."""
        return float(_deviation(density) * _effective(density) ** (-1.0 / (density.size + 4)))


@dataclass(frozen=True)
class Silverman(Bandwidth):
    r"""The rule :math:`\sigma \, (n (D + 2) / 4)^{-1/(D+4)}` of Silverman (1986), section 4.3.2."""

    def of(self, density: KernelDensity) -> float:
        """See the base class."""
        D = density.size
        count = _effective(density) * (D + 2) / 4.0
        return float(_deviation(density) * count ** (-1.0 / (D + 4)))


@dataclass(frozen=True)
class LeaveOneOut(Bandwidth):
    r"""The bandwidth that maximises the leave-one-out likelihood.

    .. math:: \max_h \sum_n \log \frac{1}{N - 1} \sum_{m \ne n} k_h(x_n - x_m)

    References:
        Habbema, Hermans and van den Broek (1974), A stepwise discriminant analysis program using
        density estimation.
    """

    def of(self, density: KernelDensity) -> float:
        """See the base class."""
        from scipy.optimize import minimize_scalar

        begin = math.log(Silverman().of(density))
        step = max(1, len(density.rows) // _ASKED)
        subset = torch.arange(0, len(density.rows), step)
        squares = (density.rows[subset].unsqueeze(1) - density.rows).square().sum(-1)
        squares[torch.arange(len(subset)), subset] = math.inf  # each row is left out for itself
        shares = density.shares.detach()
        least = shares.sum() * torch.finfo(torch.float64).tiny

        def cost(log_width: float) -> float:
            logs = density.kernel.log_value(squares * math.exp(-2.0 * log_width))
            total = logs.exp() @ shares
            value = (shares[subset] * (total + least).log()).sum() / shares[subset].sum()
            return float(density.size * log_width - value)

        grid = np.linspace(begin - _RANGE, begin + _RANGE, 41)
        best = grid[int(np.argmin([cost(float(g)) for g in grid]))]
        span = (best - 0.25, best + 0.25)
        minimum = minimize_scalar(lambda t: cost(float(t)), bounds=span, method="bounded")
        return math.exp(float(minimum.x))


class KernelDensity(StoredRows):
    r"""A kernel density estimate for each configuration of discrete parents.

    .. math:: p(x \mid j) = \frac{1}{\sum_n w_{nj}} \sum_n w_{nj}\, h^{-D}\, k(\|x - x_n\| / h)

    With a class as parent this is Parzen's classifier; rows may be weighted.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete variables.
        bandwidth: :math:`h`; or a rule: ``Silverman()`` (the default), ``Scott()``,
            ``LeaveOneOut()``.
        kernel: ``GaussianKernel()`` by default; ``TophatKernel()``, ``EpanechnikovKernel()``,
            ``ExponentialKernel()``, ``LinearKernel()``, ``CosineKernel()``.

    Attributes:
        rows: ``(N, D)`` observed rows.
        shares: ``(N, K)`` weight of each row for each configuration.
        width: The bandwidth in use.

    Raises:
        ModelError: If the bandwidth is not positive, or the kernel is invalid.

    References:
        Rosenblatt (1956); Parzen (1962), On estimation of a probability density function and mode.

    Cost:
        ``O(M N D)`` for ``M`` values.

    Example:
        >>> x = Variable("x")
        >>> own = KernelDensity(x, bandwidth=1.0)
        >>> own.maximize(own.statistics({"x": torch.tensor([0.0, 2.0])}, torch.ones(2)))
        >>> own.factor({"x": torch.tensor([1.0])}).log_values.exp()
        tensor([0.2420], dtype=torch.float64)
    """

    width: Tensor

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable] = (),
        bandwidth: float | Bandwidth | None = None,
        kernel: SmoothingKernel | None = None,
    ) -> None:
        super().__init__(child, parents)
        self.bandwidth = Silverman() if bandwidth is None else bandwidth
        if not isinstance(self.bandwidth, Bandwidth):
            check_real(f"bandwidth of {child.name!r}", self.bandwidth, POSITIVE)
        self.kernel = GaussianKernel() if kernel is None else kernel
        if not isinstance(self.kernel, SmoothingKernel):
            raise ModelError(f"kernel must be one such as GaussianKernel(), got {kernel!r}")
        start = 1.0 if isinstance(self.bandwidth, Bandwidth) else float(self.bandwidth)
        self.register_buffer("width", torch.tensor(start, dtype=torch.float64))

    def settings(self) -> Settings:
        """Return the variables, the bandwidth and the kernel."""
        return super().settings() | {"bandwidth": self.bandwidth, "kernel": self.kernel}

    def refine(self) -> None:
        """Determine the bandwidth."""
        if isinstance(self.bandwidth, Bandwidth) and len(self.rows):
            self.width.fill_(self.bandwidth.of(self))

    def draw_rows(self, configuration: Tensor) -> Tensor:
        """Return draws of a row plus noise from the kernel."""
        self._check_fitted()
        weights = self.shares.detach().T[configuration]
        chosen = torch.multinomial(weights, 1)[:, 0]
        return self.rows[chosen] + self.width * self.kernel.draw(len(chosen), self.size)

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        if not len(self.rows):  # nothing is known yet
            return x.new_zeros(len(x), self.num_configurations)
        log_width = float(self.width.log())
        constant = self.kernel.log_integral(self.size) + self.size * log_width
        shares = self.shares.detach()
        members = [shares[:, k] > 0 for k in range(shares.shape[1])]
        step = max(1, AT_ONCE // max(1, len(self.rows)))
        parts = []
        for part in torch.split(x.detach().double(), step):
            columns = []
            for k, counted in enumerate(members):
                square = self._squares(part / self.width, self.rows[counted] / self.width)
                value = self.kernel.log_value(square)
                if not value.shape[1]:
                    columns.append(value.new_full((len(part),), -math.inf))
                    continue
                most = value.amax(dim=1, keepdim=True).clamp_min(_LEAST)
                columns.append(((value - most).exp_() @ shares[counted, k]).log() + most[:, 0])
            parts.append(torch.stack(columns, dim=1))
        total = shares.sum(dim=0).clamp_min(1e-300).log()
        return (torch.cat(parts) - total - constant).to(x.dtype)

    @staticmethod
    def _squares(a: Tensor, b: Tensor) -> Tensor:
        """Return ``(M, N)`` squared distances, centred for numerical accuracy."""
        if a.shape[1] <= 2:
            return (a.unsqueeze(1) - b).square().sum(dim=2)
        origin = b.mean(dim=0)
        a, b = a - origin, b - origin
        both = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1)
        if both.numel() and float(both.max()) > _EXPANDED:
            return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.addmm(both, a, b.T, alpha=-2.0).clamp_min(0.0)
