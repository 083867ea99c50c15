"""Augmentation and preprocessing of small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from pgnn.errors import ModelError
from pgnn.limits import NOT_NEGATIVE, POSITIVE, Interval, check_real


class RandomFlip(nn.Module):
    """Random horizontal flips of images in training mode.

    Args:
        probability: Probability of flipping an image.

    Example:
        >>> flip, x = RandomFlip(1.0), torch.tensor([[[[1.0, 2.0]]]])
        >>> flip(x).tolist(), torch.equal(flip.eval()(x), x)
        ([[[[2.0, 1.0]]]], True)
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        check_real("probability", probability, Interval(0.0, 1.0))
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, H, W)``."""
        if not self.training:
            return x
        chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < self.probability
        return torch.where(chosen, x.flip(-1), x)


class RandomAffine(nn.Module):
    r"""Random affine transforms of images in training mode.

    The value of the new image at :math:`u \in [-1, 1]^2` is that of the old one at
    :math:`(I + A) u + b`, by bilinear interpolation, or zero outside; the six entries of :math:`A`
    and :math:`b` are drawn from a normal distribution.

    Args:
        scale: Standard deviation of the entries; 0.1 moves an image by a twentieth of its side.

    References:
        Simard, Steinkraus and Platt (2003), Best practices for convolutional neural networks
        applied to visual document analysis.

    Example:
        >>> move, x = RandomAffine(0.1), torch.rand(3, 1, 8, 8)
        >>> torch.equal(move.eval()(x), x), move.train()(x).shape
        (True, torch.Size([3, 1, 8, 8]))
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        check_real("scale", scale, NOT_NEGATIVE)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, H, W)``."""
        if not self.training:
            return x
        maps = torch.eye(2, 3).to(x) + self.scale * torch.randn(len(x), 2, 3).to(x)
        grid = affine_grid(maps, list(x.shape), align_corners=False)
        return grid_sample(x, grid, align_corners=False)


class ColourJitter(nn.Module):
    r"""Random changes of hue, saturation and value of colour images in training mode.

    Saturation and value :math:`u` become :math:`a u^b + c`, and the hue is rotated, with separate
    random numbers for each image.

    Args:
        power: :math:`b` is between the inverse of ``power`` and ``power``.
        factor: :math:`a` is between the inverse of ``factor`` and ``factor``.
        shift: :math:`c` is between minus ``shift`` and ``shift``.
        hue: Largest rotation of the hue, as a share of a full turn.

    References:
        Dosovitskiy et al. (2014), Discriminative unsupervised feature learning with convolutional
        neural networks, section 2.1.

    Example:
        >>> ColourJitter()(torch.rand(2, 3, 4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """

    def __init__(
        self, power: float = 4.0, factor: float = 1.4, shift: float = 0.1, hue: float = 0.1
    ) -> None:
        super().__init__()
        for name, value in (("power", power), ("factor", factor)):
            check_real(name, value, POSITIVE)
        for name, value in (("shift", shift), ("hue", hue)):
            check_real(name, value, NOT_NEGATIVE)
        self.power, self.factor, self.shift, self.hue = power, factor, shift, hue

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 3, H, W)`` images with values from 0 to 1.

        Raises:
            ModelError: If the images do not have three channels.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ModelError(f"colour images must be (B, 3, H, W), got {tuple(x.shape)}")
        if not self.training:
            return x
        h, s, v = to_hsv(x).unbind(1)
        turned = (h + self._between(x, self.hue)) % 1.0
        return from_hsv(torch.stack([turned, self._curve(s), self._curve(v)], 1))

    def _curve(self, u: Tensor) -> Tensor:
        power = self.power ** self._between(u, 1.0)
        factor = self.factor ** self._between(u, 1.0)
        return (factor * u**power + self._between(u, self.shift)).clamp(0, 1)

    @staticmethod
    def _between(x: Tensor, most: float) -> Tensor:
        """Draw a number between ``-most`` and ``most`` for each image."""
        return (2 * torch.rand(len(x), 1, 1, device=x.device) - 1) * most


class ColourNoise(nn.Module):
    r"""Random colour shifts along the principal components of colours, in training mode.

    .. math:: x + \sum_i \alpha_i \lambda_i p_i, \qquad \alpha_i \sim N(0, \sigma^2)

    where :math:`p_i` and :math:`\lambda_i` are the principal directions of the colours and their
    variances.

    Args:
        images: ``(N, C, H, W)`` images that determine the principal components.
        scale: Standard deviation :math:`\sigma`.

    References:
        Krizhevsky, Sutskever and Hinton (2012), ImageNet classification with deep convolutional
        neural networks, section 4.1.

    Example:
        >>> images = torch.rand(5, 3, 4, 4)
        >>> ColourNoise(images)(images).shape
        torch.Size([5, 3, 4, 4])
    """

    directions: Tensor

    def __init__(self, images: Tensor, scale: float = 0.1) -> None:
        super().__init__()
        check_real("scale", scale, NOT_NEGATIVE)
        self.scale = scale
        values, vectors = torch.linalg.eigh(torch.cov(images.transpose(0, 1).flatten(1)))
        self.register_buffer("directions", values * vectors)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        if not self.training:
            return x
        alpha = self.scale * torch.randn(len(x), len(self.directions)).to(x)
        colour: Tensor = alpha @ self.directions.T
        return x + colour[:, :, None, None]


class Whitening(nn.Module):
    r"""PCA whitening: uncorrelated features with mean zero and variance one.

    .. math:: y = (\Lambda + \epsilon I)^{-1/2} U^\top (x - \bar x)

    Args:
        rows: ``(N, D)`` data, with covariance :math:`U \Lambda U^\top`.
        epsilon: Regularises directions with small variance.

    References:
        Krizhevsky (2009), Learning multiple layers of features from tiny images, appendix A.

    Example:
        >>> rows = torch.randn(500, 3) @ torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0, 0, 3]])
        >>> torch.allclose(torch.cov(Whitening(rows)(rows).T), torch.eye(3), atol=1e-3)
        True
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, rows: Tensor, epsilon: float = 1e-5) -> None:
        super().__init__()
        check_real("epsilon", epsilon, NOT_NEGATIVE)
        if rows.dim() != 2 or len(rows) < 2:
            raise ModelError(f"whitening takes at least two rows (N, D), got {tuple(rows.shape)}")
        values, vectors = torch.linalg.eigh(torch.cov(rows.T).reshape(rows.shape[1], -1))
        self.out_features = rows.shape[1]
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer("matrix", vectors / (values.clamp_min(0) + epsilon).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, D)``."""
        return (x - self.mean) @ self.matrix


def to_hsv(x: Tensor) -> Tensor:
    """Convert RGB ``(B, 3, H, W)`` to hue, saturation and value from 0 to 1."""
    value, low = x.amax(1), x.amin(1)
    spread = value - low
    safe = spread.clamp_min(1e-12)
    r, g, b = x.unbind(1)
    hue = torch.where(
        value == r,
        ((g - b) / safe) % 6,
        torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4),
    )
    hue = torch.where(spread > 0, hue / 6, 0.0)
    return torch.stack([hue, spread / value.clamp_min(1e-12), value], 1)


def from_hsv(x: Tensor) -> Tensor:
    """Convert hue, saturation and value to RGB ``(B, 3, H, W)``."""
    hue, saturation, value = x.unbind(1)
    offsets = torch.tensor([5.0, 3.0, 1.0]).to(x)[:, None, None]
    k = (offsets + 6 * hue.unsqueeze(1)) % 6
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    return value.unsqueeze(1) * (1 - saturation.unsqueeze(1) * share)
