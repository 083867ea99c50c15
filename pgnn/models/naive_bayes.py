"""Naive Bayes models: a class, and features that are conditionally independent given it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from torch import Tensor

from pgnn.abilities import ClassModel
from pgnn.errors import ModelError
from pgnn.evidence.states import states_of
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.tabular import Prior
from pgnn.factors.piece import Settings
from pgnn.factors.sparse_rows import is_scipy_sparse
from pgnn.factors.variable import Variable
from pgnn.limits import NOT_NEGATIVE, check_real
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.directed_declaration import by_name, event_shape, is_class

if TYPE_CHECKING:
    from pgnn.inference.learner import Learner


class NaiveBayes(BayesianNetwork, ClassModel):
    r"""Naive Bayes: a class, and conditionally independent features of any kinds.

    .. math:: p(c, x) = p(c) \prod_i p(x_i \mid c)

    Features may be missing in some rows, and so may classes (semi-supervised learning by
    :class:`EM`). Classes may also be given by likelihoods, as soft evidence in a query:
    ``fit({"class": pgnn.likelihood(weights), "x": ...})``, with weights ``(B, K)``.
    ``model.query("class", rows)`` gives the probabilities of the classes. With a Gaussian vector as
    its only feature this is Gaussian discriminant analysis, linear with
    ``Tied()`` and quadratic with ``Full()`` covariances.

    Args:
        states: Number or labels of the classes; from the data if not given.
        features: For each feature a conditional given the class; a table ``(K, S)``; a number or
            labels of states (a learnable table), or None to take them from the data; or a callable
            ``(child, parents) -> Conditional`` such as :class:`Bernoulli`, :class:`Multinomial`,
            :class:`Gaussian` or :class:`Poisson`.
        prior: ``(K,)`` probabilities of the classes, a conditional or a callable; learnable if not
            given.
        shapes: Event shapes of real features whose conditional is a callable. For a class, or a
            class with settings such as ``functools.partial(Gaussian, form=Tied())``, :meth:`fit`
            takes undeclared shapes from the data; for any other callable the default is a scalar.
        name: Name of the class.
        smoothing: Pseudo-count of each state of a feature (for ``Bernoulli`` of zero and one, for
            ``Multinomial`` of each outcome) for the default learner. Classes are not smoothed.
        normalise: Whether rows of the tables are weights, each to be divided by its sum.

    Raises:
        ModelError: If there is no feature, a table has a wrong shape, or a feature has parents
            other than the class.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, section 3.1.3. Nigam, McCallum,
        Thrun and Mitchell (2000), Text classification from labeled and unlabeled documents using
        EM. Côme, Oukhellou, Denœux and Aknin (2009), Learning from partially supervised data using
        mixture models and belief functions.

    Example:
        >>> from pgnn import Gaussian, Multinomial
        >>> model = NaiveBayes(["ham", "spam"], {"words": Multinomial, "length": Gaussian})
        >>> mails = {
        ...     "words": [[3, 0], [2, 1], [0, 4], [1, 3]],
        ...     "length": [1.0, 1.2, 3.1, 2.9],
        ...     "class": ["ham", "ham", "spam", "spam"],
        ... }
        >>> _ = model.fit(mails, progress=False)
        >>> model.most_probable({"words": [[0, 3], [3, 0]]}, "class")["class"]
        tensor([1, 0])
    """

    _default_name: Hashable = "class"

    def __init__(
        self,
        states: int | Iterable[Hashable] | None,
        features: Mapping[Hashable, Any],
        prior: Any = None,
        *,
        shapes: Mapping[Hashable, tuple[int, ...]] | None = None,
        name: Hashable = "class",
        smoothing: float = 1.0,
        normalise: bool = False,
    ) -> None:
        check_real("smoothing", smoothing, NOT_NEGATIVE)
        features, shapes = by_name(features, "features"), by_name(shapes, "shapes")
        if not features or name in features:
            what = "has the name of the class" if features else "is needed"
            raise ModelError(
                f"a feature {what}", "give features={'x': pgnn.Gaussian}, name='class'"
            )
        self._class, self.smoothing = name, smoothing
        self._features = [*features]
        self._callables = {n for n, x in features.items() if _is_callable(x)}
        conditionals = {n: x for n, x in features.items() if not _are_states(x)}
        known: dict[Hashable, Any] = {} if states is None else {name: states}
        for feature, kind in features.items():
            if feature in shapes or (_is_callable(kind) and not is_class(kind)):
                known[feature] = Variable(feature, None, shapes.get(feature, ()))
            elif _are_states(kind) and kind is not None:
                known[feature] = kind
        if prior is not None:
            conditionals[name] = prior
        graph = nx.DiGraph()
        graph.add_nodes_from([name, *features])
        graph.add_edges_from((name, n) for n in features)
        super().__init__(graph, conditionals, known, normalise=normalise)

    def settings(self) -> Settings:
        """Return the classes and the conditionals."""
        conditionals = dict(self.conditionals)
        prior = conditionals.pop(self._class)
        return {
            "states": prior.child.states,
            "features": conditionals,
            "prior": prior,
            "name": self._class,
            "smoothing": self.smoothing,
        }

    @property
    def class_name(self) -> Hashable:
        """The name of the class."""
        return self._class

    @property
    def features(self) -> dict[Hashable, Conditional]:
        """The features given the class, by name."""
        return {n: c for n, c in self.conditionals.items() if n != self._class}

    def default_learner(self, data: Any) -> Learner:
        """Return ``MaximumLikelihood`` for complete rows, ``EM`` if values are missing."""
        from pgnn.inference.learning.maximum_likelihood_or_em import MaximumLikelihoodOrEM

        return MaximumLikelihoodOrEM(self.smoothing_prior())

    def smoothing_prior(self) -> Prior | None:
        """Return the prior of discrete features, or None."""
        from pgnn.inference.learning.priors import Laplace

        smoothed = [
            n
            for n, c in self.features.items()
            if isinstance(c, ExponentialFamily)
            and c.accepts(Laplace())
            and any(p.requires_grad for p in c.parameters())
        ]
        wanted = self.smoothing and smoothed
        return Laplace(dict.fromkeys(smoothed, self.smoothing)) if wanted else None

    def _check_declared(self) -> None:
        unknown = [] if self._undeclared is None else self._undeclared.unknown
        for name in unknown:
            if name in self._callables:
                raise ModelError(
                    f"the shape of {name!r} is not known",
                    f"give shapes={{{name!r}: (D,)}}, () of a number, or fit the model to data "
                    "first, which determines it",
                )
        super()._check_declared()

    def _how_declared(self, name: Hashable) -> str:
        """See the base class; the class comes first, features have their states in a mapping."""
        kind = type(self).__name__
        if name == self._class:
            return f"their number or names first, as in {kind}(3, ...)"
        return f"their number or names in place of None, as in {kind}(..., {{{name!r}: 3}})"

    def _columns(self, data: Any) -> Mapping[Hashable, Any]:
        """Return columns by name; a bare array is the only feature."""
        bare = isinstance(data, np.ndarray | Tensor) or is_scipy_sparse(data)
        if bare and len(self._features) == 1:
            return {self._features[0]: data}
        return super()._columns(data)

    def _variables_from(self, columns: Mapping[Hashable, Any]) -> Mapping[Hashable, Variable]:
        """Return shapes of real features, and states of the others and of the class."""
        reals = {n: x for n, x in columns.items() if n in self._callables}
        states = states_of({n: x for n, x in columns.items() if n not in reals})
        return {**states, **{n: Variable(n, None, event_shape(n, x)) for n, x in reals.items()}}

    def __repr__(self) -> str:
        observed = ", ".join(repr(n) for n in self.graph if n != self._class)
        return f"{type(self).__name__}({self._class!r}, features {observed})"


def _is_callable(value: Any) -> bool:
    return callable(value) and not isinstance(value, Conditional)


def _are_states(value: Any) -> bool:
    """Whether a number or labels of states, or nothing, is given rather than a conditional."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return True
    if isinstance(value, Variable):
        return True
    listed = isinstance(value, list | tuple | range)
    return listed and all(isinstance(s, str | bool | int) for s in value)
