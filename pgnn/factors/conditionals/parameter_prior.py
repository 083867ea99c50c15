"""Priors on the parameters of any conditional: normal priors shrink, Laplace priors select."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.piece import Restorable
from pgnn.limits import Interval, check_real

_SCALE = Interval(0.0, open_low=True)


@dataclass(frozen=True)
class ParameterPrior(Restorable, ABC):
    r"""Independent priors on learnable parameters, centred at zero; fits give the joint mode.

    Fits maximise :math:`\sum_n w_n \log p(x_n \mid \theta) + \log p(\theta)`.

    Args:
        scale: Expected distance of parameters from zero, or a mapping by parameter name; infinite
            for a flat prior.
        parameters: Names of the parameters that have a prior: by default ``weight`` alone, so that
            neither a bias nor a variance is shrunk. Parameters of submodules are matched by the
            last part of their name.
    """

    scale: float | Mapping[str, float] = 1.0
    parameters: Iterable[str] = ("weight",)

    def __post_init__(self) -> None:
        kind = type(self).__name__
        scales = self.scale if isinstance(self.scale, Mapping) else {"": self.scale}
        for name, scale in scales.items():
            check_real(f"scale of {name!r}" if name else f"scale of {kind}", scale, _SCALE)
        if isinstance(self.parameters, str):
            raise ModelError(f"parameters of {kind} must be a list of names: [{self.parameters!r}]")
        object.__setattr__(self, "parameters", tuple(self.parameters))

    def scale_of(self, name: str) -> float | None:
        """Return the scale of a parameter; None if it has no prior."""
        last = name.split(".")[-1]
        if isinstance(self.scale, Mapping):
            return next((self.scale[n] for n in (name, last) if n in self.scale), None)
        return self.scale if {name, last} & {*self.parameters} else None

    def rates(self, name: str) -> tuple[float, float]:
        """Return the penalty rates of the absolute value and of half the square of a parameter."""
        scale = self.scale_of(name)
        return (0.0, 0.0) if scale is None else self._rates(scale)

    @abstractmethod
    def _rates(self, scale: float) -> tuple[float, float]:
        """Return the penalty rates for a scale."""

    def applies(self, conditional: Conditional) -> bool:
        """Return whether some learnable parameter of a conditional has a prior."""
        pairs = conditional.named_parameters()
        return any(p.requires_grad and self.scale_of(n) is not None for n, p in pairs)

    def log_density(self, conditional: Conditional) -> Tensor:
        """Return the log density of a conditional's learnable parameters, up to a constant."""
        total = torch.zeros((), dtype=torch.float64)
        for name, p in conditional.named_parameters():
            absolute, square = self.rates(name)
            if p.requires_grad and (absolute or square):
                total = total - absolute * p.double().abs().sum()
                total = total - 0.5 * square * p.double().square().sum()
        return total


@dataclass(frozen=True)
class NormalPrior(ParameterPrior):
    r"""Normal priors: ridge regression, weight decay.

    .. math:: \log p(\theta) = -\sum_k \frac{\theta_k^2}{2 s^2}

    A penalty of :math:`\tfrac12 \lambda \|\theta\|^2` on the log-likelihood corresponds to :math:`s
    = \lambda^{-1/2}`.

    Args:
        scale: Standard deviation :math:`s`, or a mapping by parameter name.
        parameters: See :class:`ParameterPrior`.

    Raises:
        ModelError: If a scale is not positive.

    References:
        Hoerl and Kennard (1970), Ridge regression.

    Example:
        >>> NormalPrior(0.5).rates("weight")
        (0.0, 4.0)
    """

    def _rates(self, scale: float) -> tuple[float, float]:
        return 0.0, scale**-2


@dataclass(frozen=True)
class LaplacePrior(ParameterPrior):
    r"""Laplace priors (the lasso), whose mode sets some parameters exactly to zero.

    .. math:: \log p(\theta) = -\sum_k \frac{|\theta_k|}{s}

    A penalty of :math:`\lambda \|\theta\|_1` on the log-likelihood corresponds to :math:`s = 1 /
    \lambda`.

    Args:
        scale: Scale :math:`s`, or a mapping by parameter name.
        parameters: See :class:`ParameterPrior`.

    Raises:
        ModelError: If a scale is not positive.

    References:
        Tibshirani (1996), Regression shrinkage and selection via the lasso.

    Example:
        >>> LaplacePrior(0.5).rates("weight")
        (2.0, 0.0)
    """

    def _rates(self, scale: float) -> tuple[float, float]:
        return 1.0 / scale, 0.0
