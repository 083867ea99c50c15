"""Heads: what makes a distribution of a network's output."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import softplus

from pgnn.errors import ModelError
from pgnn.factors.piece import Restorable, Settings


class NeuralHead(Restorable):
    """Makes distributions of independent numbers of a network's output.

    A subclass says how many numbers a row of output has, and what they mean. Numbers of the child
    that are missing (``NaN``) are summed out, as each is independent of the others.

    Args:
        shape: Event shape of the child.
    """

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self.shape = tuple(shape)

    def settings(self) -> Settings:
        """Return the shape; what else the constructor takes, a subclass adds."""
        return {"shape": self.shape}

    @abstractmethod
    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for outputs ``(rows, ...)``."""

    def reshaped(self, output: Tensor) -> Tensor:
        """Return outputs ``(rows, ...)``, one number for each of the child, as ``(rows, *shape)``.

        Raises:
            ModelError: If there are more or fewer.
        """
        size = math.prod(self.shape)
        if math.prod(output.shape[1:]) != size:
            raise ModelError(
                f"a child of shape {self.shape} needs {size} outputs a row, got "
                f"{math.prod(output.shape[1:])}"
            )
        return output.reshape([output.shape[0], *self.shape])

    def independent(self, base: Distribution) -> Distribution:
        """Return the product of the distributions of the numbers."""
        return Independent(base, len(self.shape), validate_args=False)


class NormalHead(NeuralHead):
    r"""Independent normals over a real child; the module gives the mean, or mean and scale.

    Args:
        shape: Event shape of the child.
        scale: Common standard deviation; without it the module returns twice as many numbers and
            the second half, through a softplus, is the standard deviation of each.

    Example:
        >>> NormalHead((3,))(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """

    def __init__(self, shape: Sequence[int] = (), scale: float | Tensor | None = None) -> None:
        super().__init__(shape)
        self.scale = scale

    def settings(self) -> Settings:
        """Return the shape and the scale."""
        return super().settings() | {"scale": self.scale}

    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for outputs ``(rows, D)`` or ``(rows, 2 D)``."""
        if self.scale is not None:
            mean, scale = self.reshaped(output), self.scale
            return self.independent(Normal(mean, scale, validate_args=False))
        size, flat = math.prod(self.shape), output.flatten(start_dim=1)
        if flat.shape[1] != 2 * size:
            raise ModelError(
                f"a normal of shape {self.shape} needs {2 * size} outputs, a mean and a scale for "
                f"each number, got {flat.shape[1]}; or give scale="
            )
        mean, raw = (self.reshaped(half) for half in torch.split(flat, size, dim=1))
        return self.independent(Normal(mean, softplus(raw), validate_args=False))


class BernoulliHead(NeuralHead):
    """Independent zeros and ones over a real child, a binary image say; the module gives logits.

    Args:
        shape: Event shape of the child.

    Example:
        >>> BernoulliHead((2,))(torch.zeros(1, 2)).mean
        tensor([[0.5000, 0.5000]])
    """

    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for logits of ``prod(shape)`` numbers a row."""
        return self.independent(Bernoulli(logits=self.reshaped(output), validate_args=False))
