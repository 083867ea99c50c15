"""Networks for GANs of small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.limits import whole_number


def dcgan_generator(
    noise: int, shape: Sequence[int] = (1, 28, 28), width: int = 64
) -> nn.Sequential:
    """Return a generator of images by transposed convolutions, with values in (-1, 1).

    It starts from a quarter of the sides with ``2 * width`` maps, and doubles the sides twice, with
    batch normalisation and ``ReLU`` in between and ``tanh`` at the end.

    Args:
        noise: Length of the noise.
        shape: Shape of the images, ``(C, H, W)``, with sides that are multiples of four.
        width: Number of maps before the last layer.

    Raises:
        ModelError: If the sides are not multiples of four.

    References:
        Radford, Metz and Chintala (2016), Unsupervised representation learning with deep
        convolutional generative adversarial networks.

    Example:
        >>> dcgan_generator(10, (3, 16, 24), width=8)(torch.zeros(5, 10)).shape
        torch.Size([5, 3, 16, 24])
    """
    channels, height, rest = _sides(shape)
    small = (2 * width, height // 4, rest // 4)
    return _initialised(
        nn.Linear(noise, small[0] * small[1] * small[2], bias=False),
        nn.Unflatten(1, small),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def dcgan_discriminator(
    shape: Sequence[int] = (1, 28, 28), width: int = 64, normalised: bool = True
) -> nn.Sequential:
    """Return a discriminator of images by strided convolutions, with one score per image.

    Args:
        shape: Shape of the images, ``(C, H, W)``, with sides that are multiples of four.
        width: Number of maps after the first layer.
        normalised: Whether to use batch normalisation; not suitable for gradient penalties.

    Raises:
        ModelError: If the sides are not multiples of four.

    References:
        Radford, Metz and Chintala (2016).

    Example:
        >>> dcgan_discriminator((3, 16, 24), width=8)(torch.zeros(5, 3, 16, 24)).shape
        torch.Size([5, 1])
    """
    channels, height, rest = _sides(shape)
    return _initialised(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=not normalised),
        nn.BatchNorm2d(2 * width) if normalised else nn.Identity(),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (rest // 4), 1),
    )


class MinibatchDiscrimination(nn.Module):
    r"""Features that measure the similarity of a row to the other rows of its batch.

    .. math:: o_{ib} = \sum_{j \ne i} \exp(-\|T_b x_i - T_b x_j\|_1)

    are concatenated to the features of the row, so that a discriminator detects a generator without
    variety.

    Args:
        in_features: Number of features of a row, on the last of two axes.
        kernels: Number of added features.
        size: Number of compared values for each added feature.

    References:
        Salimans et al. (2016), Improved techniques for training GANs, section 3.2.

    Example:
        >>> layer = MinibatchDiscrimination(4, 3)
        >>> layer(torch.ones(6, 4))[0].tolist()  # five others that are the same
        [1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0]
    """

    def __init__(self, in_features: int, kernels: int = 16, size: int = 4) -> None:
        super().__init__()
        self.kernels, self.size = kernels, size
        self.out_features = in_features + kernels
        self.tensor = nn.Linear(in_features, kernels * size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, in_features + kernels)``."""
        compared = self.tensor(x).reshape(len(x), self.kernels, self.size)
        distances = (compared.unsqueeze(0) - compared.unsqueeze(1)).abs().sum(-1)
        return torch.cat([x, (-distances).exp().sum(1) - 1], 1)


def _sides(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3 or any(n % 4 for n in tuple(shape)[1:]):
        raise ModelError(
            f"shape must be (C, H, W) with sides that are multiples of 4, got {tuple(shape)}"
        )
    channels, height, rest = (whole_number("shape", n, 1, ModelError) for n in shape)
    return channels, height, rest


def _initialised(*layers: nn.Module) -> nn.Sequential:
    """Initialise with small normal weights, as the authors do."""
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return nn.Sequential(*layers)
