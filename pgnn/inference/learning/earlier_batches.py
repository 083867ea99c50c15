"""Log-likelihoods of earlier batches, for conditionals without sufficient statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.conditionals.conditional import Conditional


@dataclass(frozen=True, eq=False)
class EarlierBatches:
    r"""The log-likelihood of earlier batches, up to a constant, to second order.

    .. math:: \ell(\theta) \approx h^\top \theta - \tfrac12 \theta^\top \Lambda \theta

    Each batch is expanded at the maximum of its own log-likelihood and the earlier expansions, and
    only there is the expansion accurate. For a logistic regression of 400 rows with one feature,
    batches of 40 rows that are drawn at random lose 0.0001 nats per row against one fit. Batches of
    a single class, whose log-likelihood is flat at its maximum, would lose 0.4; their rows are kept
    instead (:attr:`RunningStatistics.waiting`), which leaves a loss of 0.001. An expansion cannot
    be moved afterwards, since its rows are gone.

    Attributes:
        precision: ``(P, P)`` :math:`\Lambda`, for the finite learnable parameters.
        target: ``(P,)`` :math:`h`.

    References:
        Opper (1998), A Bayesian approach to on-line learning.
    """

    precision: Tensor
    target: Tensor

    @property
    def are_none(self) -> bool:
        """Whether there were no earlier batches."""
        return not bool(self.precision.any() or self.target.any())

    def value(self, conditional: Conditional) -> Tensor:
        """Return the scalar log-likelihood, differentiable in the parameters."""
        parts = [p for p in conditional.parameters() if p.requires_grad]
        theta = torch.cat([p[torch.isfinite(p.detach())].reshape(-1).double() for p in parts])
        precision, target = self.precision.to(theta), self.target.to(theta)
        return theta @ target - 0.5 * theta @ (precision @ theta)
