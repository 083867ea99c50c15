"""Codebooks: priors of vector-quantised latent vectors."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from pgnn.errors import ModelError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.neural import Concatenate
from pgnn.factors.piece import Restorable, Settings
from pgnn.factors.variable import Variable
from pgnn.limits import POSITIVE, Interval, check_real, whole_number

_RARE = 0.02
"""A code is put elsewhere if it is used less than this share of the mean use."""


class Codebook(Conditional):
    r"""Vectors near one of ``K`` codes: a mixture of normals with hard assignments.

    .. math:: \log p(z) = \sum_s \log \pi_{k_s} + \log N\big(z_s; e_{k_s}, \tfrac{1}{2\beta} I\big),
        \qquad k_s = \arg\min_k \|z_s - e_k\|

    The prior of a vector-quantised autoencoder: the squared distance is its commitment loss. During
    a fit, codes are running means of their nearest vectors, and :math:`\pi` their running
    frequencies; codes that are hardly used are reinitialised at random vectors of a batch.

    Args:
        child: Real variable ``(*places, D)``: the last axis is a vector.
        num_codes: ``K``.
        commitment: :math:`\beta`, the strength of the attraction of vectors to their codes.
        decay: Decay rate of running means per batch.

    Attributes:
        vectors: ``(K, D)`` the codes.
        usage: ``(K,)`` frequencies :math:`\pi` of the codes.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        ``K`` distances per vector.

    References:
        van den Oord, Vinyals and Kavukcuoglu (2017), Neural discrete representation learning,
        section 3.2 and appendix A.1. Dhariwal et al. (2020), Jukebox (reinitialised codes).

    Example:
        >>> codes = Codebook(Variable("z", shape=(3, 2)), 4)
        >>> codes.nearest(codes.vectors[[1, 3]]).tolist()
        [1, 3]
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self, child: Variable, num_codes: int, commitment: float = 0.25, decay: float = 0.99
    ) -> None:
        super().__init__(child)
        if child.is_discrete or not child.shape:
            raise ModelError(f"a codebook needs a real child of shape (*places, D), got {child!r}")
        self.num_codes = whole_number("num_codes", num_codes, 2, ModelError)
        check_real("commitment", commitment, POSITIVE)
        check_real("decay", decay, Interval(0.0, 1.0, open_low=True, open_high=True))
        self.commitment, self.decay = float(commitment), float(decay)
        vectors = torch.randn(self.num_codes, child.shape[-1])
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.zeros(self.num_codes))
        self.register_buffer("sums", torch.zeros_like(vectors))

    def settings(self) -> Settings:
        """Return the variable and the three numbers."""
        names = ("child", "num_codes", "commitment", "decay")
        return {name: getattr(self, name) for name in names}

    @property
    def usage(self) -> Tensor:
        """``(K,)`` frequencies of the codes; uniform before any batch."""
        counts = self.counts + 1e-5 * (self.counts.sum() + 1.0)
        return counts / counts.sum()

    @property
    def perplexity(self) -> float:
        """The effective number of codes: the exponential of the entropy of their frequencies."""
        shares = self.usage
        return float((-shares * shares.log()).sum().exp())

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the distribution of all vectors; see the base class."""
        return NearestCode(self.vectors, self.usage, self.commitment, self.child.shape)

    def nearest(self, z: Tensor) -> Tensor:
        """Return ``(...)`` indices of the nearest codes of vectors ``(..., D)``."""
        return nearest_code(z, self.vectors)

    def quantised(self, z: Tensor) -> Tensor:
        """Return the codes of vectors ``(..., D)``, with straight-through gradients.

        During a fit, the codes are updated.
        """
        if self.training and torch.is_grad_enabled():
            self._follow(z.detach().reshape(-1, z.shape[-1]))
        codes = self.vectors[self.nearest(z)].to(z)
        return z + (codes - z).detach()

    @torch.no_grad()
    def _follow(self, z: Tensor) -> None:
        """Move the codes to the means of the vectors ``(N, D)`` that are nearest to them."""
        z = z.to(self.vectors)
        if not bool(self.counts.any()):
            self.vectors.copy_(self._some(z, self.num_codes))
        index = self.nearest(z)
        ones = self.counts.new_ones(len(z))
        new = 1.0 - self.decay if bool(self.counts.any()) else 1.0
        self.counts.lerp_(torch.zeros_like(self.counts).index_add(0, index, ones), new)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add(0, index, z), new)
        rare = self.counts < _RARE * self.counts.mean()
        self.vectors.copy_(self.sums / self.counts.clamp(min=1e-12).unsqueeze(1))
        if bool(rare.any()):
            self.vectors[rare] = self._some(z, int(rare.sum()))
            self.counts[rare] = self.counts.mean()
            self.sums[rare] = self.vectors[rare] * self.counts[rare].unsqueeze(1)

    @staticmethod
    def _some(z: Tensor, count: int) -> Tensor:
        """Random vectors, without repetition if there are enough."""
        order = torch.randperm(len(z), device=z.device)
        return z[order.repeat(-(-count // len(z)))[:count]]


class Quantised(Restorable):
    """Features of a decoder in which latent vectors are replaced by their codes.

    Args:
        codebook: Codebook of the latent vectors, which are among the decoder's parents.
    """

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook

    def settings(self) -> Settings:
        """Return the codebook."""
        return {"codebook": self.codebook}

    def __call__(self, variables: Sequence[Variable], values: Mapping[Hashable, Tensor]) -> Tensor:
        """Return the features, as in :class:`Concatenate`."""
        name = self.codebook.child.name
        codes = self.codebook.quantised(values[name])
        return Concatenate()(variables, {**values, name: codes})


class NearestCode(Distribution):
    """Independent vectors near codes, see :class:`Codebook`.

    Args:
        vectors: ``(K, D)``.
        usage: ``(K,)`` probabilities.
        commitment: Half the precision of the normal around a code.
        shape: ``(*places, D)``.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, vectors: Tensor, usage: Tensor, commitment: float, shape: Sequence[int]
    ) -> None:
        self.vectors, self.usage, self.commitment = vectors, usage, commitment
        super().__init__(torch.Size(), torch.Size(shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All arrays."""
        independent: Any = constraints.independent
        array: constraints.Constraint = independent(constraints.real, len(self.event_shape))
        return array

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities ``(...)`` of arrays ``(..., *places, D)``."""
        codes, size = nearest_code(value, self.vectors), value.shape[-1]
        gaps = (value - self.vectors[codes].to(value)).square().sum(-1)
        height = 0.5 * size * math.log(self.commitment / math.pi)
        each = self.usage.log()[codes].to(value) + height - self.commitment * gaps
        places = len(self.event_shape) - 1
        return each.flatten(start_dim=each.dim() - places).sum(-1) if places else each

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return codes, drawn by their frequencies."""
        shape = (*sample_shape, *self.event_shape[:-1])
        index = torch.multinomial(self.usage, math.prod(shape), replacement=True)
        return self.vectors[index].reshape(*shape, -1)


def nearest_code(z: Tensor, vectors: Tensor) -> Tensor:
    """Return ``(...)`` indices of the nearest of ``(K, D)`` codes to ``(..., D)`` vectors."""
    flat = z.detach().reshape(-1, z.shape[-1]).to(vectors)
    scores = torch.addmm(vectors.square().sum(1), flat, vectors.T, alpha=-2.0)
    return scores.argmin(1).reshape(z.shape[:-1])
