"""Attention to the channels and the positions of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.limits import whole_number


class ChannelAttention(nn.Module):
    r"""Channel weights computed from the means and maxima of all channels.

    .. math:: y_c = x_c\, \sigma\big(f(\mathrm{mean}\, x)_c + f(\max x)_c\big)

    Args:
        channels: Number of channels.
        reduction: Ratio of channels to hidden units of the perceptron :math:`f`.

    References:
        Hu, Shen and Sun (2018), Squeeze-and-excitation networks. Woo, Park, Lee and Kweon (2018),
        CBAM: Convolutional block attention module, section 3.

    Example:
        >>> ChannelAttention(8)(torch.ones(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(channels // whole_number("reduction", reduction, 1, ModelError), 1)
        self.network = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, ``(B, C, H, W)``."""
        weights: Tensor = self.network(x.mean((2, 3))) + self.network(x.amax((2, 3)))
        weights = weights.sigmoid()
        return x * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    r"""Position weights computed from the means and maxima over channels in a neighbourhood.

    .. math:: y = x\, \sigma\big(W \otimes [\mathrm{mean}_c\, x; \max_c x]\big)

    Args:
        size: Side of the neighbourhood, an odd number.

    References:
        Woo, Park, Lee and Kweon (2018), section 3.

    Example:
        >>> SpatialAttention()(torch.ones(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, size: int = 7) -> None:
        super().__init__()
        if whole_number("size", size, 1, ModelError) % 2 == 0:
            raise ModelError(f"size must be odd, so that the kernel has a centre, got {size!r}")
        self.convolution = nn.Conv2d(2, 1, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, ``(B, C, H, W)``."""
        shown = torch.stack([x.mean(1), x.amax(1)], 1)
        weights: Tensor = self.convolution(shown).sigmoid()
        return x * weights
