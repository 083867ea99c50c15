"""Lower bounds on the expected log of a softmax of sums of independent terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad, softplus

from pgnn.inference.linear_predictors import LinearPredictors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NUMBERS = 2**22
"""Largest number of intermediate values of a batch of rows."""
_LEAST_STEP = 0.05


@dataclass(eq=False)
class Moments:
    r"""Moments of the linear predictors of ``U`` children, which determine their bounds.

    Attributes:
        mean: ``(B, U, C)`` expected sums :math:`E\,\eta`.
        variance: ``(B, U)`` variances of :math:`\eta_1 - \eta_0`; ``(B, 0)`` for more than two
            states.
        tilt: ``(B, U, C)`` variational parameters :math:`\xi` of the tilted bound.
        log_tilted: ``(B, U, C)`` values of :math:`\log E \exp(\eta_c - \xi^\top \eta)`.
        quadratic: ``(B, U)`` whether the quadratic bound is the tighter one.
    """

    mean: Floats
    variance: Floats
    tilt: Floats
    log_tilted: Floats
    quadratic: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SoftmaxBound:
    r"""Bounds :math:`E_q[\log \mathrm{softmax}(\eta)_y]` from below for independent parents.

    The expected log normaliser has no closed form. For any :math:`\xi_c`, by Jensen,

    .. math:: E \log \sum_c e^{\eta_c} \le \xi^\top E\,\eta +
        \log \sum_c E\, e^{\eta_c - \xi^\top \eta},

    which is a product over the parents. For two states with :math:`z = \eta_1 - \eta_0`, the
    tangent of :math:`\log 2\cosh(z/2)`, which is concave in :math:`z^2`, gives

    .. math:: E \log (e^{\eta_0} + e^{\eta_1}) \le \tfrac12 E(\eta_0 + \eta_1) +
        \log 2 \cosh\big(\tfrac12 \sqrt{E z^2}\big).

    The first is tight if the sum is nearly certain, the second if it varies much; each child uses
    the tighter one.

    Args:
        predictors: Linear predictors of the children.

    References:
        Saul, Jaakkola and Jordan (1996), Mean field theory for sigmoid belief networks, section
        3.1 (two states). Jaakkola and Jordan (1996), A variational approach to Bayesian logistic
        regression models and their extensions, section 2.
    """

    predictors: LinearPredictors

    # --- the bound itself ----------------------------------------------------------------------

    def value(self, q: Tensor, tilt: Floats, rows: Ints) -> Tensor:
        """Return ``(B,)`` sums of the bounds of all children; differentiable in the terms.

        Args:
            q: ``(B, S)`` probabilities of all elements' states.
            tilt: ``(B, U, C)`` variational parameters.
            rows: ``(B,)`` rows of the offsets, if these depend on the row.
        """
        predictors, xi = self.predictors, torch.from_numpy(tilt).to(q.device)
        mean, log_tilted, variance = self._sums(q, xi, rows)
        observed = q[:, torch.from_numpy(predictors.child_columns).to(q.device)]
        normaliser = (xi * mean).sum(-1) + log_tilted.logsumexp(-1)
        if predictors.num_classes == 2:
            normaliser = torch.minimum(normaliser, _quadratic(mean, variance))
        return ((observed * mean).sum(-1) - normaliser).sum(-1)

    def _sums(self, q: Tensor, xi: Tensor, rows: Ints) -> tuple[Tensor, Tensor, Tensor]:
        """Expected sums, logs of expected exponentials ``(B, U, C)``, and variances ``(B, U)``."""
        predictors = self.predictors
        unit = torch.from_numpy(predictors.unit).to(q.device)
        start = (
            predictors.offset
            if len(predictors.offset) == 1
            else predictors.offset[torch.from_numpy(rows)]
        )
        p = pad(q, (0, 1))[:, torch.from_numpy(predictors.parent_columns).to(q.device)]
        expected = torch.einsum("bnk,nkc->bnc", p, predictors.terms)
        mean = start + predictors.summed(expected)
        log_p = torch.where(p > 0, p, 1.0).log().masked_fill(p <= 0, -torch.inf)[..., None]
        shift = torch.einsum("bnc,nkc->bnk", xi[:, unit], predictors.terms)
        log_each = (log_p + predictors.terms - shift[..., None]).logsumexp(2)
        log_tilted = start - (xi * start).sum(-1, keepdim=True) + predictors.summed(log_each)
        if predictors.num_classes != 2:
            return mean, log_tilted, mean[..., :0, 0]
        d = predictors.terms[..., 1] - predictors.terms[..., 0]
        variance = torch.einsum("bnk,nk->bn", p, d.square()) - (p * d).sum(-1).square()
        return mean, log_tilted, predictors.summed(variance.clamp(min=0.0))

    # --- its variational parameters ------------------------------------------------------------

    def rows_at_once(self) -> int:
        """Number of rows that fit into a batch."""
        return max(1, _NUMBERS // max(self.predictors.terms.numel(), 1))

    def moments(self, q: Floats, rows: Ints, tilt: Floats | None, steps: int) -> Moments:
        r"""Return the moments after some steps that minimise the bound on the normaliser.

        It is convex in :math:`\xi` with its minimum where
        :math:`\sum_c \pi_c E_c\,\eta = E\,\eta`, :math:`\pi` being the shares of the exponentials.
        A step goes from :math:`\xi` towards :math:`\pi`, which is the minimum if sums are normal;
        it is rejected if the bound does not decrease.

        Args:
            q: ``(B, S)`` probabilities of all elements' states.
            rows: See :meth:`value`.
            tilt: ``(B, U, C)`` initial parameters; computed from q if not given.
            steps: Number of steps.
        """
        with torch.no_grad():
            p = torch.from_numpy(q)
            xi = self._first_tilt(p, rows) if tilt is None else torch.from_numpy(tilt)
            mean, log_tilted, variance = self._sums(p, xi, rows)
            value = (xi * mean).sum(-1) + log_tilted.logsumexp(-1)
            step = torch.ones_like(value)
            for _ in range(steps):
                proposal = xi + step[..., None] * (log_tilted.softmax(-1) - xi)
                _, logs, _ = self._sums(p, proposal, rows)
                new = (proposal * mean).sum(-1) + logs.logsumexp(-1)
                better = new < value
                value = torch.where(better, new, value)
                xi = torch.where(better[..., None], proposal, xi)
                log_tilted = torch.where(better[..., None], logs, log_tilted)
                step = torch.where(better, step, 0.5 * step).clamp(min=_LEAST_STEP)
            quadratic = torch.zeros_like(value, dtype=torch.bool)
            if self.predictors.num_classes == 2:
                quadratic = _quadratic(mean, variance) < value
        return Moments(*(x.numpy() for x in (mean, variance, xi, log_tilted, quadratic)))

    def _first_tilt(self, q: Tensor, rows: Ints) -> Tensor:
        predictors = self.predictors
        zero = torch.zeros(
            len(q), len(predictors.child), predictors.num_classes, dtype=torch.float64
        )
        return self._sums(q, zero, rows)[0].softmax(-1)

    # --- one element ---------------------------------------------------------------------------

    @cached_property
    def _terms(self) -> Floats:
        return np.asarray(self.predictors.terms.detach().cpu().numpy())

    def message(self, moments: Moments, element: int, q: Floats) -> Floats:
        """Return ``(B, K)`` contributions of the states of an element to the bounds.

        A bound that is not linear in the distribution of the element is replaced by its tangent.
        """
        predictors, total = self.predictors, np.zeros(())
        if element in predictors.unit_of:
            total = moments.mean[:, predictors.unit_of[element]]
        if element not in predictors.terms_of:
            return total
        parent = self._parent_terms(moments, element, q)
        units, h, p = parent.units, parent.terms, parent.probabilities
        observed = q[:, predictors.child_columns[units]]  # (B, n, C)
        linear = np.einsum("bnc,nkc->bkn", observed - moments.tilt[:, units], h)
        share = moments.log_tilted[:, units]
        share = share - np.logaddexp.reduce(share, axis=-1, keepdims=True) - parent.log_each
        normaliser = np.exp(np.minimum(share[:, :, None] + parent.tilted, 700.0)).sum(-1)
        tilted = linear - normaliser.swapaxes(1, 2)
        quadratic = moments.quadratic[:, units]
        if not quadratic.any():
            return np.asarray(total + tilted.sum(-1))
        d = h[..., 1] - h[..., 0]  # (n, K)
        m = moments.mean[:, units, 1] - moments.mean[:, units, 0]
        curvature = _curvature(np.sqrt(m * m + np.maximum(moments.variance[:, units], 0.0)))
        others = m - np.einsum("bk,nk->bn", p, d)
        linear = np.einsum("bnc,nkc->bkn", observed - 0.5, h)
        square = curvature[:, None] * (d.T**2 + 2.0 * d.T * others[:, None])
        message = np.where(quadratic[:, None], linear - square, tilted)
        return np.asarray(total + message.sum(-1))

    def update(self, moments: Moments, element: int, before: Floats, after: Floats) -> None:
        """Update the moments after an element's distribution changed."""
        predictors = self.predictors
        if element not in predictors.terms_of:
            return
        old = self._parent_terms(moments, element, before)
        new = self._parent_terms(moments, element, after)
        units, h = old.units, old.terms
        change = new.probabilities - old.probabilities
        moments.mean[:, units] += np.einsum("bk,nkc->bnc", change, h)
        moments.log_tilted[:, units] += new.log_each - old.log_each
        if predictors.num_classes == 2:
            d = h[..., 1] - h[..., 0]
            old_mean, new_mean = (x.probabilities @ d.T for x in (old, new))
            moments.variance[:, units] += change @ (d.T**2) + old_mean**2 - new_mean**2

    def _parent_terms(self, moments: Moments, element: int, q: Floats) -> _ParentTerms:
        predictors, size = self.predictors, int(self.predictors.elements.card[element])
        terms = predictors.terms_of[element]
        units, h = predictors.unit[terms], self._terms[terms, :size]
        first = predictors.elements.offset[element]
        p = q[:, first : first + size]
        g = h - np.einsum("bnc,nkc->bnk", moments.tilt[:, units], h)[..., None]
        with np.errstate(divide="ignore"):
            log_each = np.logaddexp.reduce(np.log(p)[:, None, :, None] + g, axis=2)
        return _ParentTerms(units, h, p, g, log_each)


@dataclass(frozen=True, eq=False)
class _ParentTerms:
    """The terms ``(n, K, C)`` of one parent in its ``n`` children, and their expectations."""

    units: Ints
    terms: Floats
    probabilities: Floats
    tilted: Floats
    log_each: Floats


def _quadratic(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the quadratic bound on the normaliser of two states."""
    square = (mean[..., 1] - mean[..., 0]).square() + variance
    root = square.clamp(min=1e-300).sqrt()
    return 0.5 * mean.sum(-1) + 0.5 * root + softplus(-root)


def _curvature(root: Floats) -> Floats:
    """Return the derivative of ``log 2 cosh(x / 2)`` with respect to the square of ``x``."""
    safe = np.maximum(root, 1e-8)
    return np.asarray(np.tanh(0.5 * safe) / (4.0 * safe))
