"""Normal distributions, and mixtures of them, as posteriors of real variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from pgnn.factors.variable import Variable

LOG_2PI = math.log(2.0 * math.pi)
_HALVINGS = 60
"""Number of bisections after which a quantile is accurate to the last digits."""


class NormalMarginal(Normal):
    """A ``Normal`` marginal of a real variable or component, with standard deviation 0 if observed.

    Args:
        loc: ``(*batch)`` means.
        scale: ``(*batch)`` standard deviations.

    Example:
        >>> x = NormalMarginal(torch.tensor(1.0), torch.tensor(2.0))
        >>> x.std, x.quantile(0.5)
        (tensor(2.), tensor(1.))
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)

    @property
    def std(self) -> Tensor:
        """Standard deviations."""
        return self.stddev

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities; for observed variables ``inf`` at the value, ``-inf`` elsewhere."""
        certain = self.scale == 0
        scale = self.scale.masked_fill(certain, 1.0)
        logs = -0.5 * ((value - self.loc) / scale).square() - scale.log() - 0.5 * LOG_2PI
        return torch.where(certain, torch.where(value == self.loc, math.inf, -math.inf), logs)

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles, ``(*batch)`` for one level, ``(Q, *batch)`` for ``Q`` levels."""
        levels = torch.as_tensor(q, dtype=self.loc.dtype, device=self.loc.device)
        shaped = levels.reshape([*levels.shape, *[1] * self.loc.dim()])
        standard = math.sqrt(2.0) * torch.erfinv(2.0 * shaped - 1.0)
        return self.loc + torch.where(self.scale == 0, 0.0, self.scale * standard)


class VectorMarginal(MultivariateNormal):
    """A ``MultivariateNormal`` in which observed components have variance 0.

    Args:
        loc: ``(*batch, D)`` means.
        scale_tril: ``(*batch, D, D)`` lower Cholesky factors of the covariances.
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    @property
    def std(self) -> Tensor:
        """``(*batch, D)`` standard deviations."""
        return self.stddev

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles of each component, ``(*batch, D)``, or ``(Q, *batch, D)``."""
        return NormalMarginal(self.mean, self.stddev).quantile(q)


class MixtureMarginal(MixtureSameFamily):
    """A mixture of normal distributions, one for each configuration of discrete variables.

    Args:
        weights: ``(*batch, K)`` probabilities of the configurations.
        parts: Component distributions of batch shape ``(*batch, K)``.

    Example:
        >>> means, deviations = torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 1.0])
        >>> x = MixtureMarginal(torch.tensor([0.5, 0.5]), NormalMarginal(means, deviations))
        >>> x.mean, x.variance
        (tensor(0.), tensor(2.))
    """

    def __init__(self, weights: Tensor, parts: NormalMarginal | VectorMarginal) -> None:
        super().__init__(Categorical(probs=weights, validate_args=False), parts, False)

    @property
    def std(self) -> Tensor:
        """Standard deviations, shaped like the mean."""
        return self.variance.sqrt()

    def quantile(self, q: float | Sequence[float]) -> Tensor:
        """Return quantiles, ``(*batch, *event)`` for one level, ``(Q, ...)`` for ``Q`` levels.

        Cost:
            Sixty evaluations of the cumulative distribution function.
        """
        event = self._event_ndims
        parts = self.component_distribution
        weights = self.mixture_distribution.probs
        weights = weights.reshape(*weights.shape, *[1] * event)
        axis = weights.dim() - 1 - event
        components = NormalMarginal(parts.mean, parts.stddev)
        levels = torch.as_tensor(q, dtype=components.loc.dtype, device=components.loc.device)
        quantiles = [
            self._quantile(components, weights, axis, level) for level in levels.reshape(-1)
        ]
        return torch.stack(quantiles) if levels.dim() else quantiles[0]

    @staticmethod
    def _quantile(components: NormalMarginal, weights: Tensor, axis: int, level: Tensor) -> Tensor:
        ends = components.quantile(level.clamp(1e-12, 1 - 1e-12).item())
        low, high = ends.amin(axis), ends.amax(axis)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            distance = middle.unsqueeze(axis) - components.loc
            below = 0.5 * torch.erfc(
                -distance / (components.scale.clamp_min(1e-300) * math.sqrt(2.0))
            )
            right = (weights * below).sum(axis) < level
            low, high = torch.where(right, middle, low), torch.where(right, high, middle)
        return (low + high) / 2


ExactMarginal = NormalMarginal | VectorMarginal | MixtureMarginal
"""An exact marginal of a real variable."""


def real_marginal(
    mean: Tensor, covariance: Tensor, shape: tuple[int, ...], weights: Tensor | None = None
) -> ExactMarginal:
    """Return the marginal of a real variable, given its moments.

    Args:
        mean: ``(*batch, D)``, or ``(*batch, K, D)`` for each configuration.
        covariance: ``(*batch, D, D)`` or ``(*batch, K, D, D)``, zero for observed components.
        shape: Shape of the variable: ``()`` or ``(D,)``.
        weights: ``(*batch, K)`` posterior probabilities of the configurations.
    """
    part: NormalMarginal | VectorMarginal
    if shape:
        part = VectorMarginal(mean, semidefinite_cholesky(covariance))
    else:
        variance = covariance[..., 0, 0]
        known = variance <= 0  # where the square root has no derivative
        deviation = variance.masked_fill(known, 1.0).sqrt().masked_fill(known, 0.0)
        part = NormalMarginal(mean[..., 0], deviation)
    return part if weights is None else MixtureMarginal(weights, part)


def element_marginal(
    marginal: ExactMarginal, array: Variable, index: tuple[int, ...]
) -> NormalMarginal | MixtureMarginal:
    """Return the marginal of an element of an array, normal or a mixture of normals.

    Args:
        marginal: Marginal of the array: of its vector, or of all of its elements.
        array: The array.
        index: Index of the element.
    """
    mixed = isinstance(marginal, MixtureMarginal)
    parts: Any = marginal
    if isinstance(marginal, MixtureMarginal):
        parts = marginal.component_distribution
    if isinstance(parts, VectorMarginal):
        part = NormalMarginal(*(x[..., array.position(index)] for x in (parts.loc, parts.stddev)))
    else:
        at: Any = (..., *index, slice(None)) if mixed else (..., *index)
        part = NormalMarginal(parts.loc[at], parts.scale[at])
    if not isinstance(marginal, MixtureMarginal):
        return part
    weights = marginal.mixture_distribution.probs
    return MixtureMarginal(weights if isinstance(parts, VectorMarginal) else weights[at], part)


def marginal_at(marginal: ExactMarginal, place: tuple[int | slice, ...]) -> ExactMarginal:
    """Return the marginal at an index of the first batch axes."""
    if isinstance(marginal, MixtureMarginal):
        component: Any = marginal.component_distribution
        parts: Any = marginal_at(component, place)
        return MixtureMarginal(marginal.mixture_distribution.probs[place], parts)
    if isinstance(marginal, VectorMarginal):
        return VectorMarginal(marginal.loc[place], marginal.scale_tril[place])
    return NormalMarginal(marginal.loc[place], marginal.scale[place])


def side_by_side(
    marginals: Sequence[ExactMarginal], axis: int, gone: Tensor | None = None
) -> ExactMarginal:
    """Return the marginals of several variables of one shape stacked along a new axis.

    Args:
        marginals: Marginals of one batch shape; mixtures may have different numbers of parts.
        axis: Position of the new axis among the batch axes.
        gone: ``(*batch)`` with the new axis: marginals without an answer, whose means are ``NaN``.
    """
    parts: list[Any] = [
        m.component_distribution if isinstance(m, MixtureMarginal) else m for m in marginals
    ]
    weights = [
        m.mixture_distribution.probs if isinstance(m, MixtureMarginal) else None for m in marginals
    ]
    most = max((w.shape[-1] for w in weights if w is not None), default=0)
    batch = len(marginals[0].batch_shape)

    def stacked(values: list[Tensor]) -> Tensor:
        """Return values of all parts; the last part is repeated where there are fewer."""
        if not most:
            return torch.stack(values, dim=axis)
        wide = []
        for x, w in zip(values, weights, strict=True):
            tensor = x.unsqueeze(batch) if w is None else x
            place = torch.arange(most, device=x.device).clamp_max(tensor.shape[batch] - 1)
            wide.append(tensor.index_select(batch, place))
        return torch.stack(wide, dim=axis)

    vectors = isinstance(parts[0], VectorMarginal)
    loc = stacked([p.loc for p in parts])
    if gone is not None:
        tail = loc.dim() - gone.dim()
        loc = loc.masked_fill(gone.reshape(*gone.shape, *[1] * tail), torch.nan)
    part: NormalMarginal | VectorMarginal
    if vectors:
        part = VectorMarginal(loc, stacked([p.scale_tril for p in parts]))
    else:
        part = NormalMarginal(loc, stacked([p.scale for p in parts]))
    if not most:
        return part
    shape = marginals[0].batch_shape
    shares = [loc.new_ones((*shape, 1)) if w is None else w for w in weights]
    padded = [torch.nn.functional.pad(w, (0, most - w.shape[-1])) for w in shares]
    return MixtureMarginal(torch.stack(padded, dim=axis), part)


def mixture_of(share: Tensor, marginals: Sequence[ExactMarginal]) -> MixtureMarginal:
    """Return a mixture of the marginals of one variable.

    Args:
        share: ``(*batch, K)`` weights; a marginal of weight zero may be ``NaN``.
        marginals: ``K`` marginals, which may be mixtures themselves.
    """
    axis = len(marginals[0].batch_shape)
    shares, means, scales = [], [], []
    for k, marginal in enumerate(marginals):
        weight = share[..., k].reshape(*share.shape[:-1], *[1] * (axis - share.dim() + 2))
        part: Any = marginal
        if isinstance(marginal, MixtureMarginal):
            part = marginal.component_distribution
            weight = torch.where(weight > 0, weight * marginal.mixture_distribution.probs, weight)
        vector = isinstance(part, VectorMarginal)
        numbers = [part.loc, part.scale_tril if vector else part.scale]
        if part is marginal:
            numbers = [x.unsqueeze(axis) for x in numbers]
        weight = weight.expand(numbers[0].shape[: axis + 1])
        present = [weight.reshape(*weight.shape, *[1] * (x.dim() - axis - 1)) > 0 for x in numbers]
        blank = torch.eye(part.loc.shape[-1]).to(part.loc) if vector else part.loc.new_ones(())
        shares.append(weight)
        means.append(torch.where(present[0], numbers[0], 0.0))
        scales.append(torch.where(present[1], numbers[1], blank))
    weights, loc = torch.cat(shares, dim=axis), torch.cat(means, dim=axis)
    scale, gone = torch.cat(scales, dim=axis), weights.isnan()
    loc = loc.masked_fill(gone.reshape(*gone.shape, *[1] * vector), torch.nan)
    parts = VectorMarginal(loc, scale) if vector else NormalMarginal(loc, scale)
    return MixtureMarginal(weights.to(loc), parts)


def semidefinite_cholesky(covariance: Tensor) -> Tensor:
    """Return lower Cholesky factors of covariances that may have variances of zero."""
    known = covariance.diagonal(dim1=-2, dim2=-1) == 0
    unit = torch.diag_embed(known.to(covariance))
    factor, info = torch.linalg.cholesky_ex(covariance + unit)
    if bool((info > 0).any()):  # singular up to rounding
        largest = covariance.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None]
        small = torch.finfo(covariance.dtype).eps * largest.expand(known.shape)
        factor, _ = torch.linalg.cholesky_ex(covariance + unit + torch.diag_embed(4.0 * small))
    root: Tensor = factor - unit
    return root
