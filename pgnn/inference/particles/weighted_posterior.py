"""Posteriors from weighted samples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable
from pgnn.inference.diagnostics import weighted_sample_size
from pgnn.inference.posterior import Numbers
from pgnn.inference.samples import Samples
from pgnn.inference.with_reals import QUANTILES, WithReals


@dataclass(frozen=True, eq=False)
class WeightedMarginal:
    r"""The posterior of a real variable as weighted samples.

    .. math:: \hat\mu = \sum_i w_i x_i, \qquad
        \mathrm{se}^2 = \sum_f \Bigl( \sum_{i \in f} w_i (x_i - \hat\mu) \Bigr)^2

    with normalised weights :math:`w`, and families :math:`f` of samples with a common ancestor.
    Samples that are ``NaN`` are ignored: the variable was not present.

    Args:
        draws: ``(n, *batch, *shape)`` values.
        log_weights: ``(n, *batch)`` log weights.
        families: ``(n, *batch)`` the family of each sample, an integer below ``n``; one family per
            sample if not given.

    Example:
        >>> draws = torch.tensor([0.0, 1.0, 2.0])
        >>> marginal = WeightedMarginal(draws, torch.tensor([0.25, 0.5, 0.25]).log())
        >>> marginal.mean, marginal.variance, marginal.quantile(0.5)
        (tensor(1.), tensor(0.5000), tensor(1.))
    """

    draws: Tensor
    log_weights: Tensor
    families: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """``(n, *batch, *shape)`` normalised weights of the values."""
        logs = self.log_weights.reshape([*self.log_weights.shape, *[1] * self._events])
        logs = logs.expand(self.draws.shape).masked_fill(self.draws.isnan(), -torch.inf)
        top = logs.amax(0, keepdim=True).clamp_min(torch.finfo(logs.dtype).min)
        weights = (logs - top).exp()
        return weights / weights.sum(0)

    @property
    def mean(self) -> Tensor:
        """``(*batch, *shape)`` posterior mean."""
        return (self.weights * self._values).sum(0).to(self.draws.dtype)

    @property
    def variance(self) -> Tensor:
        """``(*batch, *shape)`` posterior variance."""
        centred = self._values - self.mean
        return (self.weights * centred.square()).sum(0).to(self.draws.dtype)

    @property
    def std(self) -> Tensor:
        """``(*batch, *shape)`` posterior standard deviation."""
        return self.variance.sqrt()

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles, ``(*batch, *shape)`` for one level, ``(Q, ...)`` for ``Q`` levels."""
        levels = torch.as_tensor(q, dtype=torch.float64)
        ordered, order = self._values.sort(0)
        ends = self.weights.gather(0, order).cumsum(0).movedim(0, -1).contiguous()
        scaled_levels = (
            (levels.reshape(-1) * (1.0 - 1e-12)).expand(*ends.shape[:-1], -1).contiguous()
        )
        at = torch.searchsorted(ends, scaled_levels).clamp_max(len(ordered) - 1)
        quantiles = ordered.movedim(0, -1).gather(-1, at).movedim(-1, 0).to(self.draws.dtype)
        quantiles = quantiles.masked_fill(self.draws.isnan().all(0), torch.nan)
        return quantiles if levels.dim() else quantiles[0]

    @property
    def effective_sample_size(self) -> Tensor:
        """``(*batch, *shape)`` effective sample sizes, at most the number of samples."""
        size: Tensor = weighted_sample_size(1.0, self.weights.square().sum(0))
        return size

    @property
    def standard_error(self) -> Tensor:
        """``(*batch, *shape)`` Monte Carlo standard error of the mean."""
        parts = self.weights * (self._values - self.mean)
        if self.families is not None:
            family = self.families.reshape([*self.families.shape, *[1] * self._events])
            parts = torch.zeros_like(parts).scatter_add_(0, family.expand(parts.shape), parts)
        return parts.square().sum(0).sqrt().to(self.draws.dtype)

    @property
    def _values(self) -> Tensor:
        return self.draws.nan_to_num(nan=0.0).double()

    @property
    def _events(self) -> int:
        return self.draws.dim() - self.log_weights.dim()

    def __repr__(self) -> str:
        shape = tuple(self.draws.shape[1:])
        return f"WeightedMarginal({len(self.draws)} draws, shape={shape})"


class WeightedPosterior(WithReals):
    """A posterior of real variables as weighted samples, and of discrete ones as probabilities.

    ``posterior["tau"]`` of a real variable is a :class:`WeightedMarginal`; all else is as in
    :class:`~pgnn.inference.posterior.Posterior`.

    Args:
        variables: The discrete targets.
        marginals: ``(B, S)`` their probabilities.
        log_evidence: ``(B,)`` log evidence.
        reals: The real targets.
        draws: ``(n, B, *shape)`` values of each.
        log_weights: ``(n, B)`` log weights, or ``(n, B, T)`` if each step has its own.
        families: Families of the draws, in the same shape.
        **rest: See :class:`~pgnn.inference.posterior.Posterior`.

    Attributes:
        statistic_names: Columns of the summary; ``error`` is the standard error of the mean.
    """

    statistic_names: ClassVar = (*WithReals.statistic_names, "ess", "error")
    _step_of: Mapping[Hashable, int] = MappingProxyType({})

    def __init__(
        self,
        variables: Sequence[Variable],
        marginals: Numbers,
        log_evidence: Numbers,
        reals: Sequence[Variable],
        draws: Mapping[Hashable, Tensor],
        log_weights: Tensor,
        *,
        families: Tensor | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(variables, marginals, log_evidence, **rest)
        self.reals = {v.name: v for v in reals}
        self.log_weights = log_weights
        self._draws, self._families = dict(draws), families

    def marginal(self, name: Hashable) -> WeightedMarginal:
        """See :class:`~pgnn.inference.with_reals.WithReals`."""
        draws, (weights, families) = self._draws[name], self._weights_of(name)
        if not self.batched:
            draws, weights = draws[:, 0], weights[:, 0]
            families = None if families is None else families[:, 0]
        return WeightedMarginal(draws, weights, families)

    def _weights_of(self, name: Hashable) -> tuple[Tensor, Tensor | None]:
        """Return the log weights and families of the draws of a target."""
        weights, families = self.log_weights, self._families
        if name not in self._step_of:
            return weights, families
        step = self._step_of[name]
        return weights[..., step], None if families is None else families[..., step]

    def _take_element(self, name: Any, array: Variable) -> None:
        super()._take_element(name, array)
        if self.log_weights.dim() > 2:
            self._step_of = {**self._step_of, name: name[1]}

    @property
    def samples(self) -> Samples:
        """The weighted samples of the real targets.

        Raises:
            Unsupported: If each step has its own weights.
        """
        weights = self.log_weights
        if weights.dim() > 2:
            raise Unsupported(
                "filtered samples have different weights at each step", "use smooth() or sample()"
            )
        draws = {n: x if self.batched else x[:, 0] for n, x in self._draws.items()}
        weights = weights if self.batched else weights[:, 0]
        none = torch.zeros(*weights.shape, 0, dtype=torch.int64)
        variables = [*self.reals.values()]
        return Samples(
            variables, none, draws, batched=self.batched, index=self.index, log_weights=weights
        )

    def _statistics(self, name: Hashable, row: int) -> Sequence[Tensor]:
        weights, families = self._weights_of(name)
        families = None if families is None else families[:, row]
        marginal = WeightedMarginal(self._draws[name][:, row], weights[:, row], families)
        moments = [marginal.mean, marginal.std, *marginal.quantile(QUANTILES)]
        return [*moments, marginal.effective_sample_size, marginal.standard_error]
