"""Monte Carlo dropout, weight noise and label smoothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pgnn.errors import ModelError
from pgnn.factors.randomness import kept_randomness, seeded_with
from pgnn.limits import NOT_NEGATIVE, check_real, whole_number


class MonteCarloDropout(nn.Module):
    r"""Averages a classifier over dropout masks, as an approximate posterior of its weights.

    .. math:: \log p(k \mid x) \approx \log \frac{1}{S} \sum_s \mathrm{softmax}(f(x; m_s))_k

    In training mode, it is the module itself; in evaluation mode, it averages over draws of the
    masks :math:`m_s`, which are the same at every call.

    Args:
        module: Returns logits, with the states on the last axis; has dropout layers.
        draws: Number of masks.
        seed: Seed of the masks.

    Raises:
        ModelError: If the module has no dropout layer.

    References:
        Gal and Ghahramani (2016), Dropout as a Bayesian approximation, section 3.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
        >>> MonteCarloDropout(network).eval()(torch.zeros(5, 2)).exp().sum(-1)
        tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000], grad_fn=<SumBackward1>)
    """

    def __init__(self, module: nn.Module, draws: int = 50, seed: int = 0) -> None:
        super().__init__()
        if not _dropouts(module):
            raise ModelError(f"module must have a dropout layer, got {type(module).__name__}")
        self.module, self.seed = module, seed
        self.draws = whole_number("draws", draws, 1, ModelError)

    def outputs(self, x: Tensor) -> Tensor:
        """Return ``(draws, B, ...)`` outputs of the module, with separate masks for each draw."""
        with kept_randomness(), _dropping(self.module):
            seeded_with(self.seed)
            return torch.stack([self.module(x) for _ in range(self.draws)])

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, ..., K)`` log probabilities; logits in training mode."""
        if self.training:
            logits: Tensor = self.module(x)
            return logits
        total = self.outputs(x).log_softmax(-1).logsumexp(0)
        return total - torch.tensor(float(self.draws)).log()


class WeightNoise(nn.Module):
    r"""Adds normal noise to all weights of a module at each step of training.

    .. math:: E_{\epsilon \sim N(0, \sigma^2)} \, \ell(f(x; \theta + \epsilon))

    is then minimised, where :math:`\theta` is the mean of a normal distribution of the weights with
    fixed standard deviation.

    Args:
        module: Any module.
        scale: Standard deviation :math:`\sigma`.

    References:
        Graves (2011), Practical variational inference for neural networks, section 3.

    Example:
        >>> layer, x = WeightNoise(nn.Linear(2, 3), scale=0.1), torch.ones(5, 2)
        >>> torch.equal(layer(x), layer.module(x)), torch.equal(layer.eval()(x), layer.module(x))
        (False, True)
    """

    def __init__(self, module: nn.Module, scale: float = 0.05) -> None:
        super().__init__()
        check_real("scale", scale, NOT_NEGATIVE)
        self.module, self.scale = module, scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the module."""
        if not self.training:
            quiet: Tensor = self.module(x)
            return quiet
        noisy = {
            name: p + self.scale * torch.randn_like(p) for name, p in self.module.named_parameters()
        }
        result: Tensor = functional_call(self.module, noisy, (x,))
        return result


def smooth_labels(labels: Tensor, states: int, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return rows, labels and weights of smoothed labels, with all possible labels of each row.

    .. math:: q(k) = \begin{cases} 1 - \epsilon & \text{the label} \\
        \epsilon / (K - 1) & \text{any other} \end{cases}

    A classifier fitted with these ``weights=`` maximises :math:`\sum_k q(k) \log p(k \mid x)`.
    Torch's ``label_smoothing`` is the same with :math:`\epsilon K / (K - 1)` in place of
    :math:`\epsilon`.

    Args:
        labels: ``(N,)`` indices of states.
        states: Number ``K`` of states.
        epsilon: Total probability of the other labels.

    Returns:
        Indices of rows, labels and weights, ``(N K,)`` each.

    References:
        Szegedy et al. (2016), Rethinking the inception architecture for computer vision, section 7.

    Example:
        >>> smooth_labels(torch.tensor([1]), 3, 0.2)
        (tensor([0, 0, 0]), tensor([0, 1, 2]), tensor([0.1000, 0.8000, 0.1000]))
    """
    states = whole_number("states", states, 2, ModelError)
    check_real("epsilon", epsilon, NOT_NEGATIVE)
    if labels.dim() != 1 or not bool(((labels >= 0) & (labels < states)).all()) or epsilon > 1:
        raise ModelError(
            f"labels must be (N,) with values from 0 to {states - 1} and epsilon at most 1, got "
            f"labels of shape {tuple(labels.shape)} and epsilon={epsilon!r}"
        )
    every = torch.arange(states).repeat(len(labels))
    row = torch.arange(len(labels)).repeat_interleave(states)
    weights = torch.where(every == labels[row], 1 - epsilon, epsilon / (states - 1))
    return row, every, weights


def _dropouts(module: nn.Module) -> list[nn.Module]:
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
    return [m for m in module.modules() if isinstance(m, kinds)]


@contextlib.contextmanager
def _dropping(module: nn.Module) -> Iterator[None]:
    """Enable dropout layers only."""
    layers = [(m, m.training) for m in _dropouts(module)]
    try:
        for layer, _ in layers:
            layer.training = True
        yield
    finally:
        for layer, mode in layers:
            layer.training = mode
