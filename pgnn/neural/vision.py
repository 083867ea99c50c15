"""Well-known convolutional networks, sized for small images.

Each builder returns a body that maps images ``(B, C, H, W)``, of any size from about 16 pixels, to
``(B, out_features)``; :class:`~pgnn.neural.Readout` turns it into a classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.neural.convolutions import local_response_norm
from pgnn.neural.units import Body, Highway


def alexnet(channels: int = 1, width: int = 32, hidden: int = 256) -> Body:
    """Return AlexNet: five convolutions with response normalisation and dropout.

    Args:
        channels: Number of channels of the images.
        width: Number of maps of the first layer.
        hidden: Number of units of the two dense layers.

    References:
        Krizhevsky, Sutskever and Hinton (2012), ImageNet classification with deep convolutional
        neural networks.

    Example:
        >>> alexnet(3, width=8, hidden=20)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 20])
    """
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, width), (width, 2 * width)):
        layers += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.ReLU()]
        layers += [local_response_norm(5, k=2.0), nn.MaxPool2d(3, stride=2)]
    for inputs, outputs in ((2, 3), (3, 3), (3, 2)):
        layers += [nn.Conv2d(inputs * width, outputs * width, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveMaxPool2d(3), nn.Flatten()]
    for inputs in (18 * width, hidden):
        layers += [nn.Dropout(), nn.Linear(inputs, hidden), nn.ReLU()]
    return Body(*layers, out_features=hidden)


def vgg(channels: int = 1, widths: Sequence[int] = (32, 64, 128), depth: int = 2) -> Body:
    """Return a VGG network: 3 x 3 convolutions and 2 x 2 maximum pooling.

    Args:
        channels: Number of channels of the images.
        widths: Numbers of maps of the blocks.
        depth: Number of convolutions of each block.

    References:
        Simonyan and Zisserman (2015), Very deep convolutional networks for large-scale image
        recognition.

    Example:
        >>> vgg(3, (8, 16))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """
    layers: list[nn.Module] = []
    for width in _checked(widths):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return _pooled(layers, channels)


class Inception(nn.Module):
    """Parallel 1 x 1, 3 x 3 and 5 x 5 convolutions and pooling, with 1 x 1 convolutions.

    Args:
        channels: Number of input maps.
        width: Number of maps of each of the four branches.

    References:
        Szegedy et al. (2015), Going deeper with convolutions.

    Example:
        >>> Inception(8, 4)(torch.zeros(2, 8, 14, 14)).shape
        torch.Size([2, 16, 14, 14])
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU())])
        for size in (3, 5):
            layers = [nn.Conv2d(channels, width, 1), nn.ReLU()]
            layers += [nn.Conv2d(width, width, size, padding=size // 2), nn.ReLU()]
            self.branches.append(nn.Sequential(*layers))
        pooled = [nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(channels, width, 1), nn.ReLU()]
        self.branches.append(nn.Sequential(*pooled))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 4 * width, H, W)``."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception(channels: int = 1, widths: Sequence[int] = (16, 32)) -> Body:
    """Return a small GoogLeNet: a convolution and pairs of :class:`Inception` blocks.

    Args:
        channels: Number of channels of the images.
        widths: Number of maps of each branch, for each pair.

    References:
        Szegedy et al. (2015), Going deeper with convolutions.

    Example:
        >>> inception(3, (4, 8))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 32])
    """
    inputs = _checked(widths)[0]
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, padding=1), nn.ReLU()]
    for width in widths:
        layers += [nn.MaxPool2d(2), Inception(inputs, width), Inception(4 * width, width)]
        inputs = 4 * width
    return _pooled(layers, inputs)


class Residual(nn.Module):
    r"""A residual block :math:`y = \mathrm{ReLU}(x + F(x))`, with a projection if sizes differ.

    Args:
        channels: Number of input maps.
        width: Number of output maps.
        stride: Stride of the first convolution; 2 halves the sides.

    References:
        He, Zhang, Ren and Sun (2016), Deep residual learning for image recognition.

    Example:
        >>> Residual(8, 16, stride=2)(torch.zeros(2, 8, 14, 14)).shape
        torch.Size([2, 16, 7, 7])
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, width, H / stride, W / stride)``."""
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total.relu()


def resnet(channels: int = 1, widths: Sequence[int] = (16, 32, 64), depth: int = 2) -> Body:
    """Return a residual network.

    Args:
        channels: Number of channels of the images.
        widths: Number of maps of each group of :class:`Residual` blocks; sides are halved between
            groups.
        depth: Number of blocks of each group.

    References:
        He, Zhang, Ren and Sun (2016), section 4.2.

    Example:
        >>> resnet(3, (8, 16))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """
    inputs = _checked(widths)[0]
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, padding=1), nn.ReLU()]
    for k, width in enumerate(widths):
        for block in range(depth):
            layers.append(Residual(inputs, width, 2 if k and not block else 1))
            inputs = width
    return _pooled(layers, inputs)


class Dense(nn.Module):
    """Densely connected layers, whose inputs are the maps of all previous layers.

    Args:
        channels: Number of input maps.
        growth: Number of maps that each layer adds.
        depth: Number of layers.

    References:
        Huang, Liu, van der Maaten and Weinberger (2017), Densely connected convolutional networks.

    Example:
        >>> Dense(8, growth=4, depth=3)(torch.zeros(2, 8, 14, 14)).shape
        torch.Size([2, 20, 14, 14])
    """

    def __init__(self, channels: int, growth: int, depth: int) -> None:
        super().__init__()
        self.out_channels = channels + growth * depth
        self.layers = nn.ModuleList()
        for inputs in range(channels, self.out_channels, growth):
            convolution = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)
            self.layers.append(nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), convolution))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, channels + growth * depth, H, W)``."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


def densenet(channels: int = 1, growth: int = 12, depth: int = 4, blocks: int = 3) -> Body:
    """Return a densely connected network.

    Args:
        channels: Number of channels of the images.
        growth: Number of maps that each layer adds.
        depth: Number of layers of each :class:`Dense` block.
        blocks: Number of blocks; maps and sides are halved between blocks.

    References:
        Huang, Liu, van der Maaten and Weinberger (2017).

    Example:
        >>> densenet(3, growth=4, depth=2, blocks=2)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """
    inputs = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, padding=1)]
    for k in range(blocks):
        block = Dense(inputs, growth, depth)
        layers.append(block)
        inputs = block.out_channels
        if k < blocks - 1:
            layers += [nn.Conv2d(inputs, inputs // 2, 1), nn.AvgPool2d(2)]
            inputs //= 2
    return _pooled([*layers, nn.BatchNorm2d(inputs), nn.ReLU()], inputs)


def highway(channels: int = 1, widths: Sequence[int] = (16, 32), depth: int = 3) -> Body:
    """Return a convolutional highway network.

    Args:
        channels: Number of channels of the images.
        widths: Number of maps of each group of :class:`~pgnn.neural.Highway` layers.
        depth: Number of layers of each group.

    References:
        Srivastava, Greff and Schmidhuber (2015), Highway networks.

    Example:
        >>> highway(3, (8, 16))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """
    layers: list[nn.Module] = []
    for width in _checked(widths):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth):
            change = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
            layers.append(Highway(width, change, nn.Conv2d(width, width, 3, padding=1)))
        layers.append(nn.MaxPool2d(2))
        channels = width
    return _pooled(layers, channels)


def _checked(widths: Sequence[int]) -> Sequence[int]:
    if not widths:
        raise ModelError("widths must contain at least one number of maps, got none")
    return widths


def _pooled(layers: Sequence[nn.Module], maps: int) -> Body:
    """Append global average pooling."""
    return Body(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), out_features=maps)
