"""Heads: what makes a distribution of a network's output."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, constraints
from torch.nn.functional import logsigmoid, softplus

from pgnn.errors import ModelError
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.support import log_density
from pgnn.limits import whole_number


class NeuralHead(Restorable):
    """Makes distributions of a network's output, of independent numbers as a rule.

    A subclass says how many numbers a row of output has, and what they mean. Numbers of the child
    that are missing (``NaN``) are summed out, see :meth:`log_prob`.

    Args:
        shape: Event shape of the child.
    """

    is_density = True
    """Whether the distributions have densities; a point mass has none."""
    has_independent_elements: ClassVar[bool] = False
    """Whether numbers of the child are independent, so that missing ones are drawn alone."""

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self.shape = tuple(shape)

    def settings(self) -> Settings:
        """Return the shape; what else the constructor takes, a subclass adds."""
        return {"shape": self.shape}

    @abstractmethod
    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for outputs ``(rows, ...)``."""

    def log_prob(self, dist: Distribution, x: Tensor) -> Tensor:
        """Return log probabilities of values ``(..., *shape)``, ``NaN`` among them summed out.

        Args:
            dist: A distribution that this head made.
            x: The values, broadcast with its rows.
        """
        if not isinstance(dist, Independent):
            return log_density(dist, x)
        each = log_density(dist.base_dist, x.nan_to_num()).masked_fill(x.isnan(), 0.0)
        axes = dist.reinterpreted_batch_ndims
        return each.flatten(start_dim=each.dim() - axes).sum(-1) if axes else each

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

    def halves(self, output: Tensor, advice: str = "") -> tuple[Tensor, Tensor]:
        """Return outputs ``(rows, 2 D)`` as two numbers for each of the child.

        Args:
            output: Of the network.
            advice: What to do if there are more or fewer, for the message.

        Raises:
            ModelError: If there are.
        """
        size, flat = math.prod(self.shape), output.flatten(start_dim=1)
        if flat.shape[1] != 2 * size:
            raise ModelError(
                f"a child of shape {self.shape} needs {2 * size} outputs, a mean and a scale for "
                f"each number, got {flat.shape[1]}{advice}"
            )
        first, second = torch.split(flat, size, dim=1)
        return self.reshaped(first), self.reshaped(second)

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

    has_independent_elements = True

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
        mean, raw = self.halves(output, "; or give scale=")
        return self.independent(Normal(mean, softplus(raw), validate_args=False))


class BernoulliHead(NeuralHead):
    """Independent zeros and ones, a binary image say; the module gives logits.

    The child is real, or an array of two states.

    Args:
        shape: Event shape of the child.

    Example:
        >>> BernoulliHead((2,))(torch.zeros(1, 2)).mean
        tensor([[0.5000, 0.5000]])
    """

    has_independent_elements = True

    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for logits of ``prod(shape)`` numbers a row."""
        return self.independent(Bernoulli(logits=self.reshaped(output), validate_args=False))


class DiscretisedLogisticHead(NeuralHead):
    r"""Grey values :math:`k / (L - 1)`: a logistic distribution, each value its bin's share.

    .. math:: p(x) = \sigma\Big(\frac{x + \delta - \mu}{s}\Big) -
        \sigma\Big(\frac{x - \delta - \mu}{s}\Big), \qquad \delta = \frac{1}{2 (L - 1)}

    The first and the last bin have what lies beyond them. The module returns a mean and, through
    a softplus, a scale for each number.

    Args:
        shape: Event shape of the child.
        levels: How many values ``L`` there are, from 0 to 1.

    References:
        Kingma et al. (2016), Improved variational inference with inverse autoregressive flow,
        appendix A. Salimans et al. (2017), PixelCNN++.

    Example:
        >>> head = DiscretisedLogisticHead((1,), levels=3)
        >>> values = torch.tensor([[0.0], [0.5], [1.0]])
        >>> round(float(head(torch.zeros(1, 2)).log_prob(values).exp().sum()), 6)
        1.0
    """

    has_independent_elements = True

    def __init__(self, shape: Sequence[int] = (), levels: int = 256) -> None:
        super().__init__(shape)
        self.levels = whole_number("levels", levels, 2, ModelError)

    def settings(self) -> Settings:
        """Return the shape and the number of values."""
        return super().settings() | {"levels": self.levels}

    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for outputs ``(rows, 2 D)``."""
        mean, raw = self.halves(output)
        return self.independent(DiscretisedLogistic(mean, softplus(raw), self.levels))


class DiscretisedLogistic(Distribution):
    """A logistic distribution of the numbers ``k / (levels - 1)``, see its head.

    Args:
        mean: ``(*batch)``.
        scale: ``(*batch)``.
        levels: How many values there are.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, mean: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale, self.levels = mean, scale, levels
        super().__init__(mean.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Numbers between zero and one."""
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        """The middle of the logistic distribution, as far as it lies between zero and one."""
        return self.loc.clamp(0.0, 1.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities of the bins of some values."""
        half = 0.5 / (self.levels - 1)
        high = ((value + half - self.loc) / self.scale).masked_fill(value > 1.0 - half, torch.inf)
        low = ((value - half - self.loc) / self.scale).masked_fill(value < half, -torch.inf)
        # log(sigma(a) - sigma(b)) = log sigma(a) + log sigma(-b) + log(1 - exp(b - a))
        gap = (low - high).clamp(max=-1e-7)
        return logsigmoid(high) + logsigmoid(-low) + torch.log1p(-gap.exp())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws, rounded to the nearest value."""
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.loc.shape
            uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            x = self.loc + self.scale * torch.logit(uniform, eps=1e-6)
            last = self.levels - 1
            return (x.clamp(0.0, 1.0) * last).round() / last

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiscretisedLogistic:
        """Return the same for a larger batch."""
        shape = torch.Size(batch_shape)
        return DiscretisedLogistic(self.loc.expand(shape), self.scale.expand(shape), self.levels)


class PointMassHead(NeuralHead):
    """All mass at what the module returns: the code of an autoencoder.

    Args:
        shape: Event shape of the child.

    Example:
        >>> PointMassHead((2,))(torch.tensor([[0.5, 1.0]])).sample()
        tensor([[0.5000, 1.0000]])
    """

    is_density = False

    has_independent_elements = True

    def __call__(self, output: Tensor) -> Distribution:
        """Return the distribution for outputs of ``prod(shape)`` numbers a row."""
        return self.independent(PointMass(self.reshaped(output)))


class PointMass(Distribution):
    """A distribution with all mass at one point, relative to which its density is one there.

    Args:
        value: ``(*batch)``.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support: constraints.Constraint = constraints.real
    has_rsample = True

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The point."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return copies of the point."""
        return self.value.expand(torch.Size(sample_shape) + self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return zero at the point, ``-inf`` elsewhere."""
        zero = torch.zeros_like(self.value)
        return torch.where(value == self.value, zero, -torch.inf)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PointMass:
        """Return the same for a larger batch."""
        return type(self)(self.value.expand(torch.Size(batch_shape)))
