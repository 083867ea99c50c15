"""Image layers that torch does not provide."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgnn.errors import ModelError
from pgnn.limits import whole_number


class TableConv2d(nn.Module):
    r"""A convolution whose input and output maps are connected by a table.

    .. math:: z_k = b_k + \sum_{p:\, T_{pk} = 1} W_{kp} \otimes x_p

    There is one filter for each connection.

    Args:
        table: ``(P, K)`` booleans: whether output map ``k`` is connected to input map ``p``.
        kernel_size: Height and width of each filter.

    Raises:
        ModelError: If the table has another shape, or an output map has no input.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), table I.

    Example:
        >>> layer = TableConv2d(torch.tensor([[1, 0, 1], [0, 1, 1]]), 5)
        >>> layer(torch.zeros(7, 2, 14, 14)).shape, sum(p.numel() for p in layer.parameters())
        (torch.Size([7, 3, 10, 10]), 103)
    """

    table: Tensor

    def __init__(self, table: Tensor, kernel_size: int) -> None:
        super().__init__()
        connected = torch.as_tensor(table).bool()
        if connected.dim() != 2 or not bool(connected.any(0).all()):
            raise ModelError(
                "a connection table must be (input maps, output maps) with an input for every "
                f"output, got shape {tuple(connected.shape)}"
            )
        size = whole_number("kernel_size", kernel_size, 1, ModelError)
        self.register_buffer("table", connected.T.contiguous())
        inputs = self.table.sum(1)
        bound = 1 / (inputs * size**2).double().sqrt()
        spread = bound.repeat_interleave(inputs).float()[:, None, None]
        self.weight = nn.Parameter((2 * torch.rand(len(spread), size, size) - 1) * spread)
        self.bias = nn.Parameter((2 * torch.rand(len(bound)) - 1) * bound.float())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, P, H, W)`` to ``(B, K, H - size + 1, W - size + 1)``."""
        dense = self.weight.new_zeros(*self.table.shape, *self.weight.shape[1:])
        dense[self.table] = self.weight
        return functional.conv2d(x, dense, self.bias)


class SubSample2d(nn.Module):
    r"""Trainable subsampling, :math:`w_c \cdot \mathrm{mean}(R) + b_c`, with two weights per map.

    Args:
        channels: Number of maps.
        size: Side and stride of the squares :math:`R`.

    Example:
        >>> sum(p.numel() for p in SubSample2d(6).parameters())
        12
    """

    def __init__(self, channels: int, size: int = 2) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, H // size, W // size)``."""
        return self.weight * functional.avg_pool2d(x, self.size) + self.bias


class SpatialPyramidPool2d(nn.Module):
    """Maximum pooling over grids of several sizes, with a fixed number of features.

    Args:
        grids: Number of cells along each side of the image, for each grid.

    References:
        He, Zhang, Ren and Sun (2014), Spatial pyramid pooling in deep convolutional networks.

    Example:
        >>> pool = SpatialPyramidPool2d([1, 2, 4])
        >>> pool(torch.zeros(3, 8, 13, 13)).shape, pool(torch.zeros(3, 8, 20, 9)).shape
        (torch.Size([3, 168]), torch.Size([3, 168]))
    """

    def __init__(self, grids: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        self.grids = tuple(whole_number("grids", g, 1, ModelError) for g in grids)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C * sum(grids ** 2))``."""
        pooled = [functional.adaptive_max_pool2d(x, grid).flatten(1) for grid in self.grids]
        return torch.cat(pooled, 1)


class PositionBias(nn.Module):
    """A separate bias for every position, as in the last layer of AlphaGo's policy network.

    Args:
        shape: Shape of the bias, ``(C, H, W)`` or one that broadcasts to it.

    References:
        Silver et al. (2016), Mastering the game of Go with deep neural networks and tree search.

    Example:
        >>> PositionBias((19, 19))(torch.zeros(2, 1, 19, 19)).shape
        torch.Size([2, 1, 19, 19])
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return x + self.bias


class RandomShift(nn.Module):
    """Random shifts of images by a few pixels in training mode, padded with zeros.

    Args:
        pixels: Largest shift along each side.

    Example:
        >>> shift = RandomShift(2)
        >>> x = torch.rand(3, 1, 8, 8)
        >>> torch.equal(shift.eval()(x), x), shift.train()(x).shape
        (True, torch.Size([3, 1, 8, 8]))
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = whole_number("pixels", pixels, 0, ModelError)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, H, W)``."""
        if not self.training or not self.pixels:
            return x
        n, _, height, width = x.shape
        padded = functional.pad(x, [self.pixels] * 4)
        down, right = torch.randint(2 * self.pixels + 1, (2, n, 1), device=x.device)
        rows = (torch.arange(height, device=x.device) + down)[:, None, :, None]
        columns = (torch.arange(width, device=x.device) + right)[:, None, None, :]
        images = torch.arange(n, device=x.device)[:, None, None, None]
        channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
        return padded[images, channels, rows, columns]


def local_response_norm(
    size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> nn.LocalResponseNorm:
    r"""Apply local response normalisation as defined by its authors.

    .. math:: y_c = x_c \Big/ \Big(k + \alpha \sum_{|j - c| \le n/2} x_j^2\Big)^\beta

    Torch's version divides :math:`\alpha` by the number :math:`n` of maps.

    Args:
        size: Number :math:`n` of neighbouring maps.
        alpha: Factor of the sum of squares.
        beta: Exponent.
        k: Additive constant.

    References:
        Krizhevsky, Sutskever and Hinton (2012), ImageNet classification with deep convolutional
        neural networks, section 3.3.

    Example:
        >>> local_response_norm(1, alpha=1.0, beta=1.0)(torch.full((1, 1, 1, 1), 2.0)).item()
        0.4000000059604645
    """
    return nn.LocalResponseNorm(size, alpha * size, beta, k)
