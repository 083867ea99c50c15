"""Feed-forward layers that torch does not provide, and linear heads."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.limits import POSITIVE, check_real, whole_number


class Body(nn.Sequential):
    """Sequential layers with a declared number of output features.

    Args:
        layers: The layers.
        out_features: Number of features, on the last axis of the output.

    Example:
        >>> Body(nn.Flatten(), nn.Linear(784, 10), out_features=10)(torch.zeros(5, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(self, *layers: nn.Module, out_features: int) -> None:
        super().__init__(*layers)
        self.out_features = out_features

    def __getitem__(self, index: Any) -> Any:
        """Return a layer, or a slice of layers as an ``nn.Sequential``."""
        return nn.Sequential(*[*self][index]) if isinstance(index, slice) else [*self][index]


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> Body:
    """Return a multilayer perceptron: linear layers with activations in between.

    Args:
        sizes: Number of inputs, number of units of each hidden layer, number of outputs.
        activation: Class of the activation, such as ``nn.ReLU``, ``nn.Tanh``, ``nn.PReLU``.

    Raises:
        ModelError: If there are fewer than two sizes.

    Example:
        >>> mlp(3, 16, 16, 2)(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """
    if len(sizes) < 2:
        raise ModelError(f"mlp() needs at least two sizes, inputs and outputs, got {sizes!r}")
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return Body(*layers[:-1], out_features=sizes[-1])


class Readout(nn.Sequential):
    """A body with a linear head, for example for :class:`~pgnn.Neural`.

    Args:
        body: Maps ``(B, ...)`` to ``(B, ..., out_features)``, with an attribute ``out_features``.
        outputs: Number of outputs of the head, such as logits of states.

    Raises:
        ModelError: If the body has no ``out_features``.

    Example:
        >>> import pgnn
        >>> body = Maxout(4, 8)
        >>> kind = pgnn.Variable("kind", 3)
        >>> pgnn.Neural(kind, [], Readout(body, 3), inputs=["x"]).factor(
        ...     inputs={"x": torch.zeros(5, 4)})
        Factor('kind', batch=(5,))
    """

    def __init__(self, body: nn.Module, outputs: int) -> None:
        features = body.__dict__.get("out_features")
        if not isinstance(features, int):
            raise ModelError(
                f"the body must have out_features, got {type(body).__name__} without it",
                "set body.out_features to the number of its features",
            )
        outputs = whole_number("outputs", outputs, 1, ModelError)
        super().__init__(body, nn.Linear(features, outputs))
        self.out_features = outputs


class Maxout(nn.Module):
    r"""The maximum of several linear functions, :math:`h_i = \max_k (w_{ik}^\top x + b_{ik})`.

    Args:
        in_features: Number of inputs, on the last axis.
        out_features: Number of units.
        pieces: Number of linear functions of each unit.

    References:
        Goodfellow et al. (2013), Maxout networks.

    Example:
        >>> unit = Maxout(1, 1, pieces=2)
        >>> with torch.no_grad():
        ...     unit.linear.weight[:], unit.linear.bias[:] = torch.tensor([[1.0], [-1.0]]), 0.0
        >>> unit(torch.tensor([[-3.0]])).item()  # of x and -x: the absolute value
        3.0
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = 2) -> None:
        super().__init__()
        self.out_features, self.pieces = out_features, pieces
        self.linear = nn.Linear(in_features, out_features * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., out_features)``."""
        z: Tensor = self.linear(x)
        return z.reshape(*z.shape[:-1], self.out_features, self.pieces).amax(-1)


class RadialBasis(nn.Module):
    r"""Radial basis functions, :math:`\exp(-\beta_i \|x - c_i\|^2)`, with learned centres.

    Args:
        in_features: Number of inputs, on the last axis.
        out_features: Number of units.
        beta: Initial sharpness, which is learned as well.

    References:
        Broomhead and Lowe (1988), Multivariable functional interpolation and adaptive networks.

    Example:
        >>> layer = RadialBasis(2, 3)
        >>> layer(layer.centres).diagonal().tolist()  # at the centres
        [1.0, 1.0, 1.0]
    """

    def __init__(self, in_features: int, out_features: int, beta: float = 1.0) -> None:
        super().__init__()
        check_real("beta", beta, POSITIVE)
        self.out_features = out_features
        self.centres = nn.Parameter(torch.randn(out_features, in_features))
        self.log_beta = nn.Parameter(torch.full((out_features,), math.log(beta)))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., out_features)`` in (0, 1]."""
        return (-self.log_beta.exp() * square_distances(x, self.centres)).exp()


class GaussianClasses(nn.Module):
    r"""Euclidean radial-basis outputs: logits of classes that are normal around fixed codes.

    .. math:: \log p(k \mid f) = -\frac{\|f - c_k\|^2}{2 \sigma^2} + \text{const}

    It is Bayes' rule with :math:`p(f \mid k) = N(f; c_k, \sigma^2 I)` and equally probable classes.

    Args:
        codes: ``(K, D)`` codes, which are constant.
        variance: Variance :math:`\sigma^2`.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
        recognition, section II.B.

    Example:
        >>> layer = GaussianClasses(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        >>> layer(torch.tensor([[2.0, 1.0]])).tolist()
        [[-2.5, -0.5]]
    """

    codes: Tensor

    def __init__(self, codes: Tensor, variance: float = 1.0) -> None:
        super().__init__()
        check_real("variance", variance, POSITIVE)
        if codes.dim() != 2:
            raise ModelError(f"codes must have shape (K, D), got {tuple(codes.shape)}")
        self.register_buffer("codes", codes.clone())
        self.variance = float(variance)
        self.out_features = len(codes)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(..., D)`` to logits ``(..., K)``."""
        return square_distances(x, self.codes) / (-2.0 * self.variance)


class Highway(nn.Module):
    r"""A gated layer, :math:`y = H(x) \odot T(x) + x \odot (1 - T(x))`.

    Args:
        features: Number of inputs and outputs, on the last axis.
        transform: Module :math:`H`; by default, a linear layer with ``ReLU``.
        gate: Module with a ``bias`` that returns the logits of the gate :math:`T`; by default, a
            linear layer.
        gate_bias: Initial bias of the gate; a negative bias passes the input through.

    References:
        Srivastava, Greff and Schmidhuber (2015), Highway networks.

    Example:
        >>> x = torch.randn(2, 4)
        >>> torch.allclose(Highway(4, gate_bias=-30.0)(x), x)
        True
    """

    def __init__(
        self,
        features: int,
        transform: nn.Module | None = None,
        gate: nn.Linear | nn.Conv2d | None = None,
        gate_bias: float = -1.0,
    ) -> None:
        super().__init__()
        self.out_features = features
        self.transform = transform or nn.Sequential(nn.Linear(features, features), nn.ReLU())
        self.gate = nn.Linear(features, features) if gate is None else gate
        if self.gate.bias is not None:
            nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(..., features)``."""
        return x.lerp(self.transform(x), self.gate(x).sigmoid())


class ScaledTanh(nn.Module):
    r"""The activation :math:`1.7159 \tanh(\tfrac23 x)`, which is about one at one.

    References:
        LeCun et al. (1998), appendix A.

    Example:
        >>> round(ScaledTanh()(torch.tensor(1.0)).item(), 3)
        1.0
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return 1.7159 * torch.tanh(x * (2.0 / 3.0))


def square_distances(x: Tensor, centres: Tensor) -> Tensor:
    """Return ``(..., K)`` squared distances of points ``(..., D)`` from centres ``(K, D)``.

    Squares the differences, because the expanded product loses precision and may be negative.
    """
    return (x.unsqueeze(-2) - centres).square().sum(-1)
