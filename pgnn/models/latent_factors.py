"""The base class of latent factor models."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import Inputs, LatentFactorModel
from pgnn.errors import DataError, EvidenceError, ModelError, overflowing
from pgnn.factors.conditionals.covariance import Diagonal, Spherical
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.linear_gaussian import LinearGaussian
from pgnn.factors.factor import Factor
from pgnn.factors.gaussians.latent_factors import FactorPosterior, blocks, factor_posterior
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.grouping import Grouping, grouped
from pgnn.factors.piece import MAX_LEARNABLE, Settings
from pgnn.factors.variable import Variable
from pgnn.limits import check_size, whole_number
from pgnn.models.vector_network import Features, VectorNetwork

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class LatentFactors(VectorNetwork, LatentFactorModel):
    r"""A vector that is a linear function of a few hidden factors, plus noise.

    .. math:: z \sim N(0, I), \qquad x \mid z \sim N(W z + \mu, \Psi)

    Args:
        factors: Number of hidden factors.
        features: Number or names of the features; from the data if not given.
        weight: ``(D, factors)`` :math:`W`; learnable if not given.
        mean: ``(D,)`` :math:`\mu`, likewise.
        noise: Variances of the noise, likewise.
        min_variance: Lower bound on the learned variances of the noise.
        name: Name of the vector.
        latent: Name of the hidden factors.
    """

    noise_form: ClassVar[type[Diagonal | Spherical]]
    """Form of the noise's covariance."""

    def __init__(
        self,
        factors: int,
        features: Features = None,
        weight: Any = None,
        mean: Any = None,
        noise: Any = None,
        *,
        min_variance: float | None = None,
        name: Hashable = "x",
        latent: Hashable = "factors",
    ) -> None:
        self.min_variance, form = min_variance, self.noise_form(min_variance)
        size = whole_number("factors", factors, 1, ModelError)
        check_size(
            f"{size:,} factors",
            size,
            MAX_LEARNABLE,
            "Use fewer; more than features are hardly useful",
        )
        self._latent, self._size = latent, size
        known: dict[Hashable, Any] = dict(self.declare_vector(name, features))
        if name == latent:
            raise ModelError(f"the vector and the factors need different names, both are {name!r}")
        z = Variable(latent, None, (size,))
        kinds: dict[Hashable, Any] = {
            latent: Gaussian(z, [], np.zeros(size), np.ones(size), Diagonal()),
            name: partial(LinearGaussian, weight=weight, bias=mean, covariance=noise, form=form),
        }
        graph = nx.DiGraph()
        graph.add_nodes_from([latent, name])
        graph.add_edge(latent, name)
        super().__init__(graph, kinds, known, latents=[latent])

    def settings(self) -> Settings:
        """Return the sizes, the names and the lower bound on variances."""
        return {
            "factors": self.num_factors,
            "features": self._layout,
            "name": self._vector,
            "latent": self._latent,
            "min_variance": self.min_variance,
        }

    @property
    def latent(self) -> Hashable:
        """Name of the hidden factors."""
        return self._latent

    @property
    def observable(self) -> Collection[Hashable]:
        """The vector."""
        return [self._vector]

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """See :meth:`CachingModule.requires_grad_`; the factors remain standard normal."""
        super().requires_grad_(requires_grad)
        self.conditionals[self._latent].requires_grad_(False)
        return self

    @property
    def num_factors(self) -> int:
        """Number of hidden factors."""
        return self._size

    @property
    def weight(self) -> Tensor:
        r"""``(D, factors)`` :math:`W`, the loadings."""
        return self._regression.weight.detach()

    @property
    def mean(self) -> Tensor:
        r"""``(D,)`` :math:`\mu`."""
        return self._regression.bias.detach()

    @property
    def noise(self) -> Tensor:
        """``(D,)`` variances of the noise."""
        return self._regression.covariance.detach().diagonal()

    @property
    def covariance(self) -> Tensor:
        r"""``(D, D)`` covariance :math:`W W^\top + \Psi` of the vector."""
        return self.weight @ self.weight.T + torch.diag(self.noise)

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters of mean, loadings and noise, without rotations."""
        return self._regression.num_free_parameters - self.num_redundant

    @property
    def num_redundant(self) -> int:
        """Number of parameters of rotations of the factors; zero if the loadings are given."""
        free = self._regression.weight.requires_grad
        return self.num_factors * (self.num_factors - 1) // 2 if free else 0

    @property
    def _regression(self) -> LinearGaussian:
        conditional: Any = self.conditionals[self._vector]
        regression: LinearGaussian = conditional
        return regression

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Return the log density of the vector, with the factors integrated out."""
        density = self._density(observed or {})
        return super().factors(observed, inputs) if density is None else (density,)

    def factor_groups(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[FactorGroup, ...]:
        """Return the factors as groups."""
        density = self._density(observed or {})
        if density is None:
            return super().factor_groups(observed, inputs)
        known: deque[Grouping] = self.cached("groupings", lambda: deque(maxlen=4))
        return grouped([density], self.elements, known)

    def _density(self, observed: Mapping[Hashable, Tensor]) -> Factor | None:
        x = observed.get(self._vector)
        if x is None or self._latent in observed:
            return None
        parts = [self._posterior(x[rows]).log_density for rows in blocks(x, self.num_factors)]
        return Factor([], torch.cat(parts) if parts else x.new_zeros(0))

    def _posterior(self, x: Tensor) -> FactorPosterior:
        conditional = self._regression
        return factor_posterior(
            x, conditional.weight, conditional.bias, conditional.covariance.diagonal()
        )

    def scores(self, data: Any) -> Tensor:
        """Return ``(N, factors)`` posterior means of the hidden factors, with any missing values.

        Args:
            data: See :meth:`fit`.
        """
        x = self._read(data)
        with torch.no_grad():
            parts = [self._posterior(x[rows]).mean for rows in blocks(x, self.num_factors)]
        return torch.cat(parts) if parts else x.new_zeros(0, self.num_factors)

    def reconstruct(self, data: Any) -> Tensor:
        """Return ``(N, D)`` rows with missing values replaced by their posterior means.

        Args:
            data: See :meth:`fit`.
        """
        x = self._read(data)
        return torch.where(x.isnan(), self.scores(x) @ self.weight.T + self.mean, x)

    def _read(self, data: Any) -> Tensor:
        """``(N, D)`` rows of the vector."""
        from pgnn.inference.model_reader import reader_of

        observed = reader_of(self).read(data)
        if self._latent in observed.names:
            raise EvidenceError(f"{self._latent!r} was observed", "use query() instead")
        x = observed.reals.get(self._vector)
        if x is None:
            return torch.full((observed.num_rows, len(self.mean)), torch.nan, dtype=torch.float64)
        return x.detach().double()

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood`` for complete rows, ``EM`` if values are missing."""
        from pgnn.inference.learning.maximum_likelihood_or_em import MaximumLikelihoodOrEM

        return MaximumLikelihoodOrEM()

    def solve(
        self, values: Mapping[Hashable, Tensor], weights: Tensor, seed: int | None = None
    ) -> None:
        """Set learnable parameters to their estimates; see the base class."""
        conditional = self._regression
        held = [n for n in ("weight", "bias", "scale") if not getattr(conditional, n).requires_grad]
        if held:
            raise DataError(
                f"{held[0]!r} of {self._vector!r} was given: the others then have no closed form",
                "use learner=EM()",
            )
        x = values[self._vector].double()
        share = (weights / weights.sum()).to(x)
        mean = share @ x
        centred = (x - mean) * share.sqrt().unsqueeze(1)
        if not bool(torch.isfinite(centred.square().sum())):
            raise overflowing([self._vector])
        floor = conditional.form.floor(centred.square().sum(dim=0)).numpy(force=True)
        weight, noise = self._solution(centred.numpy(force=True), floor)
        with torch.no_grad():
            conditional.bias.copy_(mean)
            conditional.weight.copy_(torch.from_numpy(weight))
            natural = torch.from_numpy(np.asarray(noise))
            conditional.scale.copy_(
                conditional.form.unconstrain(natural).reshape(conditional.scale.shape)
            )

    @abstractmethod
    def _solution(self, centred: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights ``(D, factors)`` and variances of the noise.

        Args:
            centred: ``(N, D)`` rows, whose products sum to the covariance.
            floor: ``(D,)`` lower bounds on variances.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._size}, features={self._layout!r})"
