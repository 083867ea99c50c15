"""Mixtures of models of rows: trees, networks, fields, densities."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs, MixtureModel, UnrollableModel
from pgnn.errors import ModelError, Unsupported
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.models.model import Model

if TYPE_CHECKING:
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner


class ModelMixture(Model, MixtureModel):
    r"""A mixture of models over the same variables.

    .. math:: p(x) = \sum_k \pi_k\, p_k(x)

    ``model.query("component", rows)`` gives the responsibilities :math:`p(k \mid x)`. Learning is
    by :class:`EM`: each component runs its own E-step and M-step with weighted rows, so that its
    hidden and missing variables are handled at the same time. Components may be trees whose edges
    are learned (:class:`ChowLiuTree`), networks, fields, mixtures, and densities of different
    families (``[Density(torch.distributions.Exponential), Density(Gaussian)]``), with their
    variables in any order. Rows may be labelled with their component, all or some of them:
    ``fit({"component": [0, 1, None], "x": ...})``, or with its likelihoods, by
    :func:`pgnn.likelihood` as in a query. For mixtures of distributions see
    :class:`~pgnn.models.mixture.Mixture`, for sequences
    :class:`~pgnn.models.sequence_mixture.SequenceMixture`.

    Args:
        components: The models, all over the same variables.
        weights: ``(K,)`` their probabilities; learnable if not given.
        labels: Names of the components; indices if not given.
        name: Name of the component variable.

    Raises:
        ModelError: If there are no components, one is not a model, or variables or their states
            differ.

    References:
        Meilă and Jordan (2000), Learning with mixtures of trees.

    Example:
        >>> import pgnn
        >>> rows = {"a": [0, 0, 1, 1] * 9, "b": [0, 1, 0, 1] * 9, "c": [0, 0, 1, 1] * 9}
        >>> trees = [pgnn.ChowLiuTree(pgnn.states_of(rows)) for _ in range(2)]
        >>> learner = pgnn.EM(tolerance=1e-4)
        >>> model = ModelMixture(trees).fit(rows, learner=learner, seed=0, progress=False)
        >>> model.query("component", {"a": 1, "b": 1})["component"].probs.shape
        torch.Size([2])
    """

    is_normalized = True
    _detached = False

    def __init__(
        self,
        components: Sequence[Model],
        weights: Any = None,
        *,
        labels: Iterable[Hashable] | None = None,
        name: Hashable = "component",
    ) -> None:
        super().__init__()
        if not isinstance(components, list | tuple) or not components:
            raise ModelError(f"components must be a list of models, got {components!r}")
        for c in components:
            self._check_component(c)
        if len({id(c) for c in components}) < len(components):
            raise ModelError("a component is given twice", "create a separate model for each")
        declared = [c for c in components if c.is_declared]
        check_variables(declared, name)
        child = Variable(name, len(components) if labels is None else labels)
        if child.num_states != len(components):
            raise ModelError(f"{len(components)} components need as many labels, got {child}")
        self._weights = weights if isinstance(weights, Tabular) else Tabular(child, (), weights)
        if self._weights.child != child or self._weights.parents:
            raise ModelError(f"weights must be probabilities of {child}")
        self._components = nn.ModuleList(components)

    def _check_component(self, component: Any) -> None:
        """Check that a component is a model of rows."""
        if not isinstance(component, Model):
            raise ModelError(f"a component must be a model, got {type(component).__name__}")
        if isinstance(component, UnrollableModel):
            raise ModelError(
                f"{type(self).__name__} is for models of rows, and a {type(component).__name__} is "
                "one over time",
                "use SequenceMixture",
            )

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The component, and the variables of the models."""
        component = self._weights.child
        return MappingProxyType({component.name: component, **self.components[0].variables})

    @property
    def is_declared(self) -> bool:
        """Whether all states and shapes of the components are known."""
        return all(c.is_declared for c in self.components)

    @property
    def class_name(self) -> Hashable:
        """The name of the component variable."""
        return self._weights.child.name

    @property
    def weights(self) -> Conditional:
        """The probabilities of the components."""
        return self._weights

    @property
    def components(self) -> list[Any]:
        """The models."""
        return list(self._components)

    @property
    def input_names(self) -> Collection[Hashable] | None:
        """Names of the covariates of the components; None if one does not name its own."""
        names = [c.input_names for c in self.components]
        return None if None in names else dict.fromkeys(n for part in names for n in part)

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters of the components and of their weights."""
        inner: int = sum(c.num_free_parameters for c in self.components)
        return inner + len(self._components) - 1

    def settings(self) -> Settings:
        """Return the components and their weights."""
        return {
            "components": tuple(self.components),
            "weights": self._weights,
            "labels": self._weights.child.states,
            "name": self.class_name,
        }

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """The factors of all components, which are one given another component.

        Raises:
            Unsupported: If a component is an unnormalised field.
        """
        component = self._weights.child
        parts = [self._weights.factor(observed)]
        for k, c in enumerate(self.components):
            if not c.is_normalized:
                raise Unsupported(
                    "a mixture of fields has no factors",
                    "query(), sample() and log_prob() need none",
                )
            for f in c.factors(observed, inputs):
                table, axis = f.log_values, len(f.batch_shape)
                others = [torch.zeros_like(table)] * len(self._components)
                gated = torch.stack([*others[:k], table, *others[k + 1 :]], dim=axis)
                parts.append(Factor([component, *f.variables], gated))
        known = {n: x for n, x in (observed or {}).items() if n == component.name}
        return tuple(f.condition(known) if component.name in f.names else f for f in parts)

    @property
    def detached(self) -> bool:
        """Whether answers, including those of the components, are detached."""
        return self._detached

    @detached.setter
    def detached(self, plain: bool) -> None:
        self._detached = plain
        for c in self.components:
            c.detached = plain

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; the data tell what components did not declare."""
        with ExitStack() as stack:
            for c in self.components:
                if not c.is_declared:
                    stack.enter_context(c._declared_by(data, weights, inputs))
            check_variables(self.components, self.class_name)
            yield data, inputs

    def _learn(self, learn: Callable[..., None], data: Any, **settings: Any) -> None:
        """See :class:`LearningVerbs`; components share the history."""
        super()._learn(learn, data, **settings)
        for c in self.components:
            c.history = self.history

    def default_engine(self) -> Engine:
        """Return ``ByComponent()``."""
        from pgnn.inference.exact.by_component import ByComponent

        return ByComponent()

    def default_learner(self, data: Any) -> Learner:
        """Return ``EM()``."""
        from pgnn.inference.learning.em import EM

        return EM()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.components))})"


def check_variables(components: Sequence[Any], name: Hashable) -> None:
    """Check that components have the same variables, of which none has the mixture's name."""
    for c in components:
        if dict(c.variables) != dict(components[0].variables):
            raise ModelError(
                "components must be models of the same variables, with the same states in the "
                f"same order: {_differing(components[0], c)}"
            )
        if name in c.variables:
            raise ModelError(f"components have a variable {name!r}", "name the mixture's otherwise")


def _differing(first: Any, other: Any) -> str:
    """Return what tells the variables of two models apart."""
    known, found = first.variables, other.variables
    if set(known) != set(found):
        return f"{[*known]} and {[*found]}"
    return next(f"{known[n]} and {found[n]}" for n in known if known[n] != found[n])
