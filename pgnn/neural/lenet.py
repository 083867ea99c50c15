"""LeNet-5 as published."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from pgnn.errors import ModelError
from pgnn.neural.convolutions import SubSample2d, TableConv2d
from pgnn.neural.units import GaussianClasses, ScaledTanh

_TABLE = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


def connection_table() -> Tensor:
    """Return the ``(6, 16)`` connections from the 6 maps of S2 to the 16 maps of C3.

    Example:
        >>> connection_table().sum().item()
        60
    """
    return torch.tensor([[cell == "X" for cell in row] for row in _TABLE.split()])


class LeNet5(nn.Sequential):
    r"""LeNet-5, a classifier of grey images with trainable pooling and radial-basis outputs.

    Layers C1, S2, C3, S4, C5, F6 have 156, 12, 1516, 32, 48120 and 10164 parameters. The output
    layer has none: each class has a code of 84 numbers :math:`\pm 1`, around which the activations
    of F6 are normally distributed (:class:`~pgnn.neural.GaussianClasses`). In a
    :class:`~pgnn.Neural` conditional, the network is therefore the posterior of a Gaussian class
    model.

    Args:
        classes: Number :math:`K` of classes.
        variance: Variance of the activations of F6 around the code of a class. At variance one,
            codes, which differ in about half of their 84 numbers, are separated by 84 nats.
        seed: Seed of the codes, whose distances are all similar.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
        recognition.

    Example:
        >>> import pgnn
        >>> digit = pgnn.Variable("digit", 10)
        >>> likelihood = pgnn.Neural(digit, [], LeNet5(), inputs=["image"])
        >>> model = pgnn.BayesianNetwork([], [likelihood])
        >>> image = torch.rand(3, 1, 28, 28)
        >>> model.query("digit", inputs={"image": image})["digit"].probs.shape
        torch.Size([3, 10])
    """

    def __init__(self, classes: int = 10, variance: float = 10.0, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        codes = 2.0 * torch.randint(2, (classes, 84), generator=rng) - 1.0
        super().__init__(
            OrderedDict(
                pad=_PadTo32(),
                c1=nn.Conv2d(1, 6, 5),
                f1=ScaledTanh(),
                s2=SubSample2d(6),
                f2=ScaledTanh(),
                c3=TableConv2d(connection_table(), 5),
                f3=ScaledTanh(),
                s4=SubSample2d(16),
                f4=ScaledTanh(),
                c5=nn.Conv2d(16, 120, 5),
                f5=ScaledTanh(),
                flat=nn.Flatten(),
                f6=nn.Linear(120, 84),
                squash=ScaledTanh(),
                output=GaussianClasses(codes, variance),
            )
        )
        self.out_features = classes


class _PadTo32(nn.Module):
    """Pads images to 32 x 32 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 1 or not 23 <= min(x.shape[2:]) <= max(x.shape[2:]) <= 32:
            raise ModelError(
                "LeNet-5 takes grey images (B, 1, H, W) of at most 32 x 32 pixels, got shape "
                f"{tuple(x.shape)}"
            )
        below, right = 32 - x.shape[2], 32 - x.shape[3]
        return functional.pad(
            x, [right // 2, math.ceil(right / 2), below // 2, math.ceil(below / 2)]
        )
