"""Gaussian discriminant analysis."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.covariance import Covariance
from pgnn.factors.conditionals.full_covariance import Tied
from pgnn.factors.conditionals.gaussian import Gaussian
from pgnn.factors.piece import Settings
from pgnn.models.naive_bayes import NaiveBayes
from pgnn.models.vector_network import Features, VectorNetwork


class LinearScores(NamedTuple):
    """Linear scores of the classes, with probabilities ``softmax(x @ weight.T + bias)``.

    Attributes:
        weight: ``(K, D)``.
        bias: ``(K,)``.
    """

    weight: Tensor
    bias: Tensor


class GaussianDiscriminant(VectorNetwork, NaiveBayes):
    r"""Linear and quadratic discriminant analysis: a vector that is normal given a class.

    .. math:: p(c, x) = \pi_c \, N(x; \mu_c, \Sigma_c)

    With a shared covariance the decision boundaries are linear, see :meth:`linear_scores`; with
    separate covariances quadratic; with diagonal ones this is Gaussian naive Bayes.
    ``model.query("class", rows)`` gives the probabilities of the classes, with any features
    missing. Rows without a class are used as well (semi-supervised learning by :class:`EM`).

    Args:
        states: Number or labels of the classes; those of the data if not given.
        features: Number or names of the features; from the data if not given.
        form: Form of the covariances: ``Tied()`` if not given, ``Full()``, ``Diagonal()``, ...; for
            few rows ``Tied(shrinkage=LedoitWolf())``, or a fixed shrinkage.
        prior: ``(K,)`` probabilities of the classes; learnable if not given.
        name: Name of the vector.
        target: Name of the class.

    Raises:
        ModelError: If a size or name is invalid.

    References:
        Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, section 4.3.
        Friedman (1989), Regularized discriminant analysis.

    Example:
        >>> rows = {"class": ["a", "a", "b", "b"], "x": [[0.0, 1], [1, 0], [4, 5], [5, 4.5]]}
        >>> model = GaussianDiscriminant().fit(rows, progress=False)
        >>> model.most_probable({"x": [0.5, 0.0]}, "class")["class"]
        'a'
    """

    def __init__(
        self,
        states: int | Iterable[Hashable] | None = None,
        features: Features = None,
        form: Covariance | None = None,
        prior: Any = None,
        *,
        name: Hashable = "x",
        target: Hashable = "class",
    ) -> None:
        self.form = Tied() if form is None else form
        if not isinstance(self.form, Covariance):
            raise ModelError(f"form must be one such as Tied(), Full() or Diagonal(), got {form!r}")
        known = self.declare_vector(name, features)
        kind = partial(Gaussian, form=self.form)
        shapes = {n: v.shape for n, v in known.items()}
        NaiveBayes.__init__(
            self, states, {name: kind}, prior, shapes=shapes, name=target, smoothing=0.0
        )

    def settings(self) -> Settings:
        """Return the classes, sizes and form."""
        prior = self.conditionals[self.class_name]
        return {
            "states": prior.child.states,
            "features": self._layout,
            "form": self.form,
            "prior": prior,
            "name": self._vector,
            "target": self.class_name,
        }

    @property
    def mean(self) -> Tensor:
        """``(K, D)`` means of the classes."""
        return self._normal.mean.detach()

    @property
    def covariance(self) -> Tensor:
        """``(K, D, D)`` covariances of the classes."""
        return self._normal.covariance.detach()

    @property
    def _normal(self) -> Gaussian:
        conditional: Any = self.conditionals[self._vector]
        gaussian: Gaussian = conditional
        return gaussian

    def linear_scores(self) -> LinearScores:
        r"""Return the linear scores of the classes, for a shared covariance.

        .. math:: p(c \mid x) \propto \exp\big(\mu_c^\top \Sigma^{-1} x
            - \tfrac12 \mu_c^\top \Sigma^{-1} \mu_c + \log \pi_c\big)

        Raises:
            Unsupported: If each class has its own covariance.
        """
        if not self.form.tied:
            raise Unsupported("scores are linear only with a shared covariance", "use form=Tied()")
        mean = self.mean
        weight = torch.linalg.solve(self.covariance[0], mean.T).T
        with torch.no_grad():
            log_prior = self.conditionals[self.class_name].factor().log_values
        return LinearScores(weight, log_prior - 0.5 * (weight * mean).sum(dim=1))

    def __repr__(self) -> str:
        return f"GaussianDiscriminant({self.class_name!r}, {self._vector!r}, {self.form!r})"
