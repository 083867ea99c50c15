"""Sparse coding with a learned dictionary."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import SolvableModel
from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.conditionals.covariance import Spherical
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.conditionals.sparse_prior import AbsolutePenalty, SparsePenalty, SparsePrior
from pgnn.factors.finite import all_finite
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import POSITIVE, check_real, whole_number
from pgnn.models.vector_network import Features, VectorNetwork

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner

_AT_ONCE = 2**22
"""Largest number of intermediate values of a batch of rows."""
_CODE_STEPS = 20
"""Number of code updates per update of the dictionary."""
_TOLERANCE = 1e-9
"""Relative change of the codes at which the iteration stops."""


class SparseCoding(VectorNetwork, SolvableModel):
    r"""Sparse coding: a vector that is a sum of few dictionary atoms, plus noise.

    .. math:: p(z) \propto e^{-\sum_k \rho(z_k)}, \qquad x \mid z \sim N(D z, \sigma^2 I)

    :meth:`encode` finds the most probable code of each row, :meth:`fit` the dictionary that
    maximises the joint density of rows and codes, with atoms of norm at most one. ``query("codes",
    row, engine=MCMC())`` samples from the posterior of the codes, if the penalty is a proper prior.

    Args:
        codes: Number of atoms.
        features: Number or names of the features; from the data if not given.
        penalty: :math:`\rho`: ``AbsolutePenalty()`` if not given, ``LogPenalty()``,
            ``ExpPenalty()``.
        noise: Variance :math:`\sigma^2`.
        dictionary: ``(D, codes)``; learnable if not given.
        iterations: Largest number of updates of codes and dictionary.
        name: Name of the vector.
        latent: Name of the codes.

    Raises:
        ModelError: If a size or number is out of range.

    References:
        Olshausen and Field (1996), Emergence of simple-cell receptive field properties by learning
        a sparse code for natural images. Beck and Teboulle (2009), A fast iterative shrinkage-
        thresholding algorithm. Mairal, Bach, Ponce and Sapiro (2009), Online dictionary learning
        for sparse coding.

    Example:
        >>> model = SparseCoding(2, 2, AbsolutePenalty(0.5), dictionary=np.eye(2))
        >>> model.encode([{"x": [2.0, 0.3]}])
        tensor([[1.5000, 0.0000]], dtype=torch.float64)
    """

    def __init__(
        self,
        codes: int,
        features: Features = None,
        penalty: SparsePenalty | None = None,
        noise: float = 1.0,
        dictionary: Any = None,
        *,
        iterations: int = 100,
        name: Hashable = "x",
        latent: Hashable = "codes",
    ) -> None:
        size = whole_number("codes", codes, 1, ModelError)
        self.iterations = whole_number("iterations", iterations, 1, ModelError)
        check_real("noise", noise, POSITIVE)
        self.penalty = AbsolutePenalty() if penalty is None else penalty
        self.noise, self._latent, self._size = float(noise), latent, size
        known: dict[Hashable, Any] = dict(self.declare_vector(name, features))
        z = Variable(latent, None, (size,))
        kinds = {
            latent: SparsePrior(z, penalty=self.penalty),
            name: partial(_emission, weight=dictionary, noise=self.noise),
        }
        graph = nx.DiGraph()
        graph.add_nodes_from([latent, name])
        graph.add_edge(latent, name)
        super().__init__(graph, kinds, known, latents=[latent])

    def settings(self) -> Settings:
        """Return the sizes, names and penalty; the dictionary is saved as a parameter."""
        return {
            "codes": self.conditionals[self._latent].child.num_elements,
            "features": self._layout,
            "penalty": self.penalty,
            "noise": self.noise,
            "iterations": self.iterations,
            "name": self._vector,
            "latent": self._latent,
        }

    @property
    def observable(self) -> Collection[Hashable]:
        """The vector."""
        return [self._vector]

    @property
    def dictionary(self) -> Tensor:
        """``(D, codes)`` the atoms."""
        emission: Any = self.conditionals[self._vector]
        weight: Tensor = emission.weight.detach()
        return weight

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood()``, which alternates codes and dictionary."""
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood()

    def encode(self, data: Any) -> Tensor:
        """Return ``(N, codes)`` most probable codes of complete rows.

        Args:
            data: See :meth:`fit`.
        """
        from pgnn.inference.model_reader import reader_of

        x = reader_of(self).read(data).reals.get(self._vector)
        if x is None or not all_finite(x):
            raise EvidenceError(f"{self._vector!r} must be observed completely to be encoded")
        return self._codes(x.detach().double(), self.dictionary.double())

    def decode(self, codes: Tensor) -> Tensor:
        """Return ``(N, D)`` vectors given codes."""
        vectors: Tensor = torch.as_tensor(codes).double() @ self.dictionary.T
        return vectors

    def solve(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, seed: int | None = None
    ) -> Mapping[str, Any]:
        """Maximise the joint density of rows and codes over codes and dictionary, alternately."""
        emission: Any = self.conditionals[self._vector]
        if not emission.weight.requires_grad:
            raise ModelError("the dictionary was given: there is nothing to learn")
        x, w = values[self._vector].double(), weights.double().unsqueeze(1)
        words = self._start(x, seed)
        z = self._codes(x, words)
        trace = [self._objective(x, z, words, w)]
        converged = False
        for _ in range(self.iterations):
            words = _updated(words, (z * w).T @ z, x.T @ (z * w))
            z = self._codes(x, words, z, max_iterations=_CODE_STEPS)
            trace.append(self._objective(x, z, words, w))
            converged = trace[-1] - trace[-2] <= 1e-6 * abs(trace[-2])
            if converged:
                break
        with torch.no_grad():
            emission.weight.copy_(words)
        return {
            "objective": trace[-1],
            "iterations": len(trace) - 1,
            "converged": converged,
            "words used": int((z.abs() > 0).any(dim=0).sum()),
            "trace": {"objective": trace},
        }

    def _start(self, x: Tensor, seed: int | None) -> Tensor:
        """Return initial atoms: random rows with noise."""
        size = self.conditionals[self._latent].child.num_elements
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        chosen = torch.randint(len(x), (size,), generator=generator)
        noise = torch.randn(x.shape[1], size, generator=generator, dtype=torch.float64)
        words = x[chosen].T + 0.1 * x.square().mean().sqrt() * noise
        return words / words.square().sum(dim=0).sqrt().clamp_min(1e-12)

    def _objective(self, x: Tensor, z: Tensor, words: Tensor, weights: Tensor) -> float:
        """Return the joint log density of rows and codes, up to a constant."""
        misfit = (x - z @ words.T).square().sum(dim=1, keepdim=True) / (2.0 * self.noise)
        return -float((weights * (misfit + self.penalty.value(z).sum(dim=1, keepdim=True))).sum())

    def _codes(
        self, x: Tensor, words: Tensor, start: Tensor | None = None, max_iterations: int = 2000
    ) -> Tensor:
        """``(N, codes)`` most probable codes given the atoms."""
        gram, target = words.T @ words / self.noise, x @ words / self.noise
        z = torch.zeros_like(target) if start is None else start
        if isinstance(self.penalty, AbsolutePenalty):
            return fista(gram, target, self.penalty.strength, z, max_iterations)
        if start is None:  # ridge regression
            ridge = gram + self.penalty.curvature(torch.zeros(1).double()) * torch.eye(len(gram))
            z = torch.linalg.solve(ridge, target.T).T
        step = max(1, _AT_ONCE // len(gram) ** 2)
        batches = [
            reweighted_least_squares(gram, t, self.penalty, b, max_iterations)
            for t, b in zip(torch.split(target, step), torch.split(z, step), strict=True)
        ]
        return torch.cat(batches) if batches else z

    def __repr__(self) -> str:
        return f"SparseCoding({self._size}, features={self._layout!r})"


def _emission(child: Variable, parents: Any, *, weight: Any, noise: float) -> LinearGaussian:
    zero = np.zeros(child.shape)
    return LinearGaussian(child, parents, weight, zero, noise, Spherical())


def fista(
    gram: Tensor, target: Tensor, strength: float, start: Tensor, max_iterations: int = 2000
) -> Tensor:
    r"""Minimise :math:`\tfrac12 z^\top G z - t^\top z + \lambda \|z\|_1` for each row.

    Args:
        gram: ``(K, K)`` :math:`G`.
        target: ``(N, K)`` rows :math:`t`.
        strength: :math:`\lambda`.
        start: ``(N, K)`` initial codes.
        max_iterations: Largest number of steps.

    References:
        Beck and Teboulle (2009), A fast iterative shrinkage-thresholding algorithm; O'Donoghue and
        Candes (2015), Adaptive restart for accelerated gradient schemes.
    """
    largest = float(torch.linalg.eigvalsh(gram)[-1].clamp_min(1e-12))
    z, extrapolated, momentum = start, start, 1.0
    for _ in range(max_iterations):
        descent = extrapolated - (extrapolated @ gram - target) / largest
        new = descent.sign() * (descent.abs() - strength / largest).clamp_min(0.0)
        step = new - z
        if float(((extrapolated - new) * step).sum()) > 0:  # adaptive restart
            momentum = 1.0
        next_momentum = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
        extrapolated = new + (momentum - 1.0) / next_momentum * step
        z, momentum = new, next_momentum
        if not z.numel() or float(step.abs().max()) <= _TOLERANCE * (1.0 + float(z.abs().max())):
            break
    return z


def reweighted_least_squares(
    gram: Tensor, target: Tensor, penalty: SparsePenalty, start: Tensor, max_iterations: int = 200
) -> Tensor:
    """Return codes under a penalty that is majorised by parabolas; the objective never increases.

    Args:
        gram: ``(K, K)``.
        target: ``(N, K)``.
        penalty: Penalty of each code.
        start: ``(N, K)`` initial codes.
        max_iterations: Largest number of iterations, each a linear system for each row.
    """
    z = start
    for _ in range(max_iterations):
        weighted = gram + torch.diag_embed(penalty.curvature(z))
        new = torch.linalg.solve(weighted, target.unsqueeze(-1)).squeeze(-1)
        change = float((new - z).abs().max()) if z.numel() else 0.0
        z = new
        if change <= 1e-8:
            break
    return z


def _updated(words: Tensor, products: Tensor, target: Tensor) -> Tensor:
    """Update atoms one by one, with norms of at most one."""
    words = words.clone()
    for k in range(words.shape[1]):
        if float(products[k, k]) <= 1e-12:
            continue
        new = words[:, k] + (target[:, k] - words @ products[:, k]) / products[k, k]
        words[:, k] = new / new.square().sum().sqrt().clamp_min(1.0)
    return words
