"""Mixtures of normal distributions given discrete variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from pgnn.errors import AdvisedWarning, ModelError, short_repr
from pgnn.factors.conditionals.covariance import Covariance
from pgnn.factors.conditionals.emission import Emission, kmeans
from pgnn.factors.conditionals.exponential_family import Statistics
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.lloyd import nearest
from pgnn.factors.logspace import logsumexp
from pgnn.factors.piece import Settings
from pgnn.factors.randomness import generator
from pgnn.factors.variable import Variable


class GaussianMixture(Emission):
    r"""A mixture of ``M`` normal distributions for each configuration of discrete parents.

    .. math:: p(x \mid j) = \sum_m \pi_{jm} N(x; \mu_{jm}, \Sigma_{jm})

    Statistics share each row out among the components by their posterior probabilities, so that
    a fit to them raises the likelihood, but reaches its maximum only when repeated.

    Args:
        child: Real variable of shape ``()`` or ``(D,)``.
        parents: Discrete variables.
        num_components: ``M``.
        weights: ``(K1, ..., Kn, M)`` probabilities of the components; learnable and uniform if
            not given.
        mean: ``(K1, ..., Kn, M)`` or ``(K1, ..., Kn, M, D)``; as for :class:`Gaussian`.
        covariance: As for :class:`Gaussian`, with the components as last parent.
        form: As for :class:`Gaussian`; a tied covariance is one for all components of all states.

    Attributes:
        components: The :class:`Gaussian` given the parents and the component.
        weights: The :class:`Tabular` conditional of the component.

    Raises:
        ModelError: If ``num_components`` is not positive, or as for the parts.

    References:
        Bilmes (1998), A gentle tutorial of the EM algorithm, section 4.2.

    Example:
        >>> x = Variable("x")
        >>> p = GaussianMixture(x, [], 2, [0.5, 0.5], mean=[-1.0, 1.0], covariance=[1.0, 1.0])
        >>> p.factor({"x": torch.tensor([0.0])}).values
        tensor([0.2420], dtype=torch.float64)
    """

    has_hidden_parts = True

    def __init__(
        self,
        child: Variable,
        parents: Sequence[Variable],
        num_components: int,
        weights: Any = None,
        mean: Any = None,
        covariance: Any = None,
        form: Covariance | None = None,
    ) -> None:
        super().__init__(child, parents)
        number: Any = num_components
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise ModelError(
                f"num_components of {child.name!r} must be a whole number, got "
                f"{short_repr(number)}",
                "give the parameters after it: GaussianMixture(child, parents, 2, weights=..., "
                "mean=..., covariance=...)",
            )
        num_components = int(number)
        if num_components < 1:
            raise ModelError(f"GaussianMixture needs a component or more, got {num_components}")
        component = Variable((child.name, "component"), num_components)
        self.num_components = num_components
        self.components = Gaussian(child, [*self.parents, component], mean, covariance, form)
        self.weights = Tabular(component, self.parents, weights)

    def settings(self) -> Settings:
        """Return the variables, the number of components and the form of their covariances."""
        settings = {"num_components": self.num_components, "form": self.components.form}
        return super().settings() | settings

    @property
    def num_free_parameters(self) -> int:
        """Those of the components and of their weights."""
        return self.components.num_free_parameters + self.weights.num_free_parameters

    def parameter_table(self) -> ParameterTable | None:
        """Return the parameters of each component, its weight first; see the base class."""
        parts = self.components
        table = ParameterTable.of_regression(self.child, parts.parents, parts.regression())
        rows = [*self.parents, Variable(f"component of {self.child.name}", self.num_components)]
        return ParameterTable(rows, {"weight": self.weights.log_probs.exp(), **table.columns})

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the mixtures at the parents' states."""
        index = self._index(parents)
        probs = self.weights.log_probs
        number = torch.arange(self.num_components, device=self._device)
        states = {v.name: k.unsqueeze(-1) for v, k in zip(self.parents, index, strict=True)}
        parts = self.components.distribution({**states, self.weights.child.name: number})
        return MixtureSameFamily(Categorical(logits=probs[index] if index else probs), parts)

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return those of the components, whose first are the counts of the components."""
        parent_values = self._read(values)
        x = parent_values[self.child.name].reshape(-1, self.size)
        self._weights(weights, len(x), self.configurations)
        with torch.no_grad():
            share = self._joint(x.to(self._dtype)).softmax(dim=-1).double()
        share = share.reshape(len(x), *self.configurations, self.num_components)
        return self.components.statistics(parent_values, weights.to(share).unsqueeze(-1) * share)

    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Set weights, means and covariances; see the base class.

        Args:
            statistics: The result of :meth:`statistics`.
            prior: A ``NormalWishart`` on the components, or a pair of one and a Dirichlet prior
                (``Laplace`` and the like) on the weights.
        """
        normal, dirichlet = prior if isinstance(prior, tuple) else (prior, None)
        self.components.maximize(statistics, normal)
        self.weights.maximize((statistics[0].reshape(self.weights.shape),), dirichlet)

    def doubt(self, statistics: Statistics) -> AdvisedWarning | None:
        """Those of the components; see the base class."""
        return self.components.doubt(statistics)

    def log_prior(self, prior: Any) -> Tensor:
        """Log density of the priors, up to a constant."""
        normal, dirichlet = prior if isinstance(prior, tuple) else (prior, None)
        return self.components.log_prior(normal) + self.weights.log_prior(dirichlet)

    def initialize(self, values: Mapping[Hashable, Tensor], seed: int | None = None) -> None:
        """Initialise by a cluster for each configuration of the parents, split into components.

        If the parents were observed, their states are the clusters.
        """
        chance = generator(seed)
        filled, rows = self.components._complete(values)
        groups = self._observed_groups(values)
        if groups is None:
            groups = kmeans(rows, self.num_configurations, chance)
        self._split(filled, rows, groups, chance)

    def initialize_at_random(self, values: Mapping[Hashable, Tensor], seed: int) -> None:
        """Initialise by the rows nearest to random rows, split into components."""
        chance = generator(seed)
        filled, rows = self.components._complete(values)
        spread = rows.std(dim=0, correction=0)
        scaled = rows / spread.masked_fill(spread == 0, 1.0)
        chosen = torch.randperm(len(rows), generator=chance)[: self.num_configurations]
        self._split(filled, rows, nearest(scaled, scaled[chosen.to(rows.device)]), chance)

    def _observed_groups(self, values: Mapping[Hashable, Tensor]) -> Tensor | None:
        """``(N,)`` configurations of the rows with an observed child; None if some are unknown."""
        if not self.parents or any(v.name not in values for v in self.parents):
            return None
        x, groups = (
            values[self.child.name].reshape(-1, self.size),
            torch.zeros((), dtype=torch.int64),
        )
        for v in self.parents:
            states = torch.as_tensor(values[v.name]).long()
            if bool((states < 0).any()):
                return None
            groups = groups * v.num_states + states
        return groups[~x.isnan().all(dim=1)]

    def _split(
        self,
        filled: Mapping[Hashable, Tensor],
        rows: Tensor,
        groups: Tensor,
        chance: torch.Generator,
    ) -> None:
        """Start from groups of rows, one for each configuration, split into components."""
        labels = groups * self.num_components
        for group in range(self.num_configurations):
            own = groups == group
            if bool(own.any()):
                labels[own] += kmeans(rows[own], self.num_components, chance)
        self.components._start_from(filled, rows, labels, chance)
        with torch.no_grad():
            if self.weights.logits.requires_grad:
                self.weights.logits.zero_()

    def _joint(self, x: Tensor) -> Tensor:
        """``(N, K, M)`` log densities of rows together with components."""
        table = self.components._log_density(x, {})
        shape = (self.num_configurations, self.num_components)
        return table.reshape(len(x), *shape) + self.weights.log_probs.reshape(shape).to(table)

    def _log_density(self, x: Tensor, values: Mapping[Hashable, Tensor]) -> Tensor:
        return logsumexp(self._joint(x), [-1])
