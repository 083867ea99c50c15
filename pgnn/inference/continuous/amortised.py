"""Guides whose parameters an encoder computes from what was seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.inference.continuous.guides import (
    Approximation,
    At,
    Guide,
    diagonal_log_prob,
    times,
    triangular,
    triangular_log_prob,
)


@dataclass(frozen=True)
class Amortised(Guide):
    r"""A normal distribution whose parameters an encoder computes from what was seen.

    Args:
        encoder: Maps ``(R, F)`` findings to ``(R, 2 D)`` numbers: means, then logs of standard
            deviations; or to ``(R, D + D (D + 1) / 2)``: means, then the rows of a triangular
            matrix :math:`L`, its diagonal as logs. The findings are the observed real variables
            (flattened; zero where not seen), then an indicator of each state of the observed
            discrete ones, in the order of the model's variables, then the inputs. A fit of the
            model trains it; a query works on a copy.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes.

    Example:
        >>> guide = Amortised(nn.Linear(4, 2).double())
        >>> at = At(torch.arange(5), torch.zeros(5, 4, dtype=torch.float64))
        >>> guide.start(rows=5, size=1).draw(torch.zeros(1, 5, 1).double(), at).shape
        torch.Size([1, 5, 1])
    """

    encoder: nn.Module

    def start(self, rows: int, size: int) -> Approximation:
        """See :class:`Guide`."""
        return _Encoded(self.encoder, size)


class _Encoded(Approximation):
    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.noise_size, self.encoder = size, encoder

    def draw(self, noise: Tensor, at: At) -> Tensor:
        loc, rest = self._parameters_of(at)
        if rest.dim() == 2:
            return loc + rest.exp() * noise
        return loc + times(triangular(rest), noise)

    def forward(self, z: Tensor, at: At) -> Tensor:
        loc, rest = self._parameters_of(at)
        log_prob = diagonal_log_prob if rest.dim() == 2 else triangular_log_prob
        return log_prob(z, loc, rest)

    def _parameters_of(self, at: At) -> tuple[Tensor, Tensor]:
        first = next((p for p in self.encoder.parameters()), at.features)
        D, R = self.noise_size, len(at.features)
        out = self.encoder(at.features.to(first)).double()
        if tuple(out.shape) == (R, 2 * D):
            return out[:, :D], out[:, D:]
        if tuple(out.shape) != (R, D + D * (D + 1) // 2):
            raise ModelError(
                f"the encoder must return {R} rows of {2 * D} numbers (means and logs of standard "
                f"deviations) or of {D + D * (D + 1) // 2} (a triangular matrix instead), got "
                f"{tuple(out.shape)}"
            )
        i, j = torch.tril_indices(D, D)
        return out[:, :D], out.new_zeros(R, D, D).index_put(
            (torch.arange(R).unsqueeze(1), i, j), out[:, D:]
        )
