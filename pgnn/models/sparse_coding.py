"""Sparse coding: vectors that are sums of few words of a learned dictionary."""

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
"""Numbers that are computed together."""
_ROUNDS = 20
"""Steps of the codes between those of the dictionary, from where the codes were."""
_AT_REST = 1e-9
"""Relative gain that is none."""


class SparseCoding(VectorNetwork, SolvableModel):
    r"""A vector that is a sum of few words of a dictionary, with noise.

    .. math:: p(z) \propto e^{-\sum_k \rho(z_k)}, \qquad x \mid z \sim N(D z, \sigma^2 I)

    :meth:`encode` finds the most probable code of each row, :meth:`fit` the dictionary under which
    rows and codes together are most probable; its words are no longer than one. ``query("codes",
    row, engine=MCMC())`` draws from the posterior of the codes, where the penalty has one.

    Args:
        codes: How many words there are.
        features: Number or names of the numbers of the vector; those of the data if not given.
        penalty: :math:`\rho`: ``AbsolutePenalty()`` if not given, ``LogPenalty()``,
            ``ExpPenalty()``.
        noise: Variance :math:`\sigma^2`.
        dictionary: ``(D, codes)``; learnable if not given.
        iterations: Most rounds of codes and dictionary.
        name: Of the vector.
        latent: Of the codes.

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
        """Return the sizes, names and penalty; the dictionary is kept apart."""
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
        """``(D, codes)`` the words."""
        own: Any = self.conditionals[self._vector]
        found: Tensor = own.weight.detach()
        return found

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood()``, which alternates codes and dictionary."""
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood()

    def encode(self, data: Any) -> Tensor:
        """Return ``(N, codes)`` most probable codes of complete rows.

        Args:
            data: As for :meth:`fit`.
        """
        from pgnn.inference.question import reader_of

        x = reader_of(self).read(data).reals.get(self._vector)
        if x is None or not all_finite(x):
            raise EvidenceError(f"{self._vector!r} must be seen in full to be encoded")
        return self._codes(x.detach().double(), self.dictionary.double())

    def decode(self, codes: Tensor) -> Tensor:
        """Return ``(N, D)`` vectors of some codes."""
        found: Tensor = torch.as_tensor(codes).double() @ self.dictionary.T
        return found

    def solve(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, seed: int | None = None
    ) -> Mapping[str, Any]:
        """Set the dictionary to one under which rows and codes are most probable."""
        own: Any = self.conditionals[self._vector]
        if not own.weight.requires_grad:
            raise ModelError("the dictionary was given: there is nothing to learn")
        x, w = values[self._vector].double(), weights.double().unsqueeze(1)
        words = self._start(x, seed)
        z = self._codes(x, words)
        trace = [self._objective(x, z, words, w)]
        converged = False
        for _ in range(self.iterations):
            words = _updated(words, (z * w).T @ z, x.T @ (z * w))
            z = self._codes(x, words, z, rounds=_ROUNDS)
            trace.append(self._objective(x, z, words, w))
            converged = trace[-1] - trace[-2] <= 1e-6 * abs(trace[-2])
            if converged:
                break
        with torch.no_grad():
            own.weight.copy_(words)
        used = int((z.abs() > 0).any(dim=0).sum())
        told = {"iterations": len(trace) - 1, "converged": converged, "words used": used}
        return {"objective": trace[-1], **told, "trace": {"objective": trace}}

    def _start(self, x: Tensor, seed: int | None) -> Tensor:
        """Words that are rows, and noise."""
        size = self.conditionals[self._latent].child.num_elements
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        chosen = torch.randint(len(x), (size,), generator=generator)
        noise = torch.randn(x.shape[1], size, generator=generator, dtype=torch.float64)
        words = x[chosen].T + 0.1 * x.square().mean().sqrt() * noise
        return words / words.square().sum(dim=0).sqrt().clamp_min(1e-12)

    def _objective(self, x: Tensor, z: Tensor, words: Tensor, weights: Tensor) -> float:
        """Log density of rows and codes, but for constants."""
        misfit = (x - z @ words.T).square().sum(dim=1, keepdim=True) / (2.0 * self.noise)
        return -float((weights * (misfit + self.penalty.value(z).sum(dim=1, keepdim=True))).sum())

    def _codes(
        self, x: Tensor, words: Tensor, start: Tensor | None = None, rounds: int = 2000
    ) -> Tensor:
        gram, target = words.T @ words / self.noise, x @ words / self.noise
        begin = torch.zeros_like(target) if start is None else start
        if isinstance(self.penalty, AbsolutePenalty):
            return shrunk(gram, target, self.penalty.strength, begin, rounds)
        if start is None:  # beside a parabola that is everywhere the same
            ridge = gram + self.penalty.curvature(torch.zeros(1).double()) * torch.eye(len(gram))
            begin = torch.linalg.solve(ridge, target.T).T
        step = max(1, _AT_ONCE // len(gram) ** 2)
        parts = [
            reweighted(gram, t, self.penalty, b, rounds)
            for t, b in zip(torch.split(target, step), torch.split(begin, step), strict=True)
        ]
        return torch.cat(parts) if parts else begin

    def __repr__(self) -> str:
        return f"SparseCoding({self._size}, features={self._layout!r})"


def _emission(child: Variable, parents: Any, *, weight: Any, noise: float) -> LinearGaussian:
    zero = np.zeros(child.shape)
    return LinearGaussian(child, parents, weight, zero, noise, Spherical())


def shrunk(
    gram: Tensor, target: Tensor, strength: float, begin: Tensor, max_iterations: int = 2000
) -> Tensor:
    r"""Return what minimises :math:`\tfrac12 z^\top G z - t^\top z + \lambda \|z\|_1` for each row.

    Args:
        gram: ``(K, K)`` :math:`G`.
        target: ``(N, K)`` rows :math:`t`.
        strength: :math:`\lambda`.
        begin: ``(N, K)``.
        max_iterations: Most steps.

    References:
        Beck and Teboulle (2009), A fast iterative shrinkage-thresholding algorithm; O'Donoghue and
        Candes (2015), Adaptive restart for accelerated gradient schemes.
    """
    largest = float(torch.linalg.eigvalsh(gram)[-1].clamp_min(1e-12))
    z, ahead, momentum = begin, begin, 1.0
    for _ in range(max_iterations):
        moved = ahead - (ahead @ gram - target) / largest
        new = moved.sign() * (moved.abs() - strength / largest).clamp_min(0.0)
        step = new - z
        if float(((ahead - new) * step).sum()) > 0:  # momentum leads uphill
            momentum = 1.0
        after = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
        ahead = new + (momentum - 1.0) / after * step
        z, momentum = new, after
        if not z.numel() or float(step.abs().max()) <= _AT_REST * (1.0 + float(z.abs().max())):
            break
    return z


def reweighted(
    gram: Tensor, target: Tensor, penalty: SparsePenalty, begin: Tensor, max_iterations: int = 200
) -> Tensor:
    """Return codes under a penalty that parabolas touch from above, which never get worse.

    Args:
        gram: ``(K, K)``.
        target: ``(N, K)``.
        penalty: Of each number.
        begin: ``(N, K)``.
        max_iterations: Most rounds, each a system of equations for each row.
    """
    z = begin
    for _ in range(max_iterations):
        own = gram + torch.diag_embed(penalty.curvature(z))
        new = torch.linalg.solve(own, target.unsqueeze(-1)).squeeze(-1)
        moved = float((new - z).abs().max()) if z.numel() else 0.0
        z = new
        if moved <= 1e-8:
            break
    return z


def _updated(words: Tensor, products: Tensor, target: Tensor) -> Tensor:
    """Better words, one after the other, none longer than one."""
    words = words.clone()
    for k in range(words.shape[1]):
        if float(products[k, k]) <= 1e-12:
            continue
        new = words[:, k] + (target[:, k] - words @ products[:, k]) / products[k, k]
        words[:, k] = new / new.square().sum().sqrt().clamp_min(1.0)
    return words
