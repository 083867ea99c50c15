"""Conditionals with renamed variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from pgnn.errors import ModelError, closest
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.decomposition import Decomposition
from pgnn.factors.conditionals.exponential_family import ExponentialFamily, Statistics
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.conditionals.regression import Regression
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.factors.gaussians.component import HiddenIntegral


class Renamed(Conditional):
    """A conditional with renamed variables and inputs that shares its parameters.

    It lets one module serve several variables of a model, such as all steps of a sequence. For a
    conditional with closed-form statistics this is an ``ExponentialFamily`` too: statistics of
    several variables may be added and fitted jointly.

    Args:
        conditional: The conditional, which is not copied.
        names: Mapping from old to new names of variables and inputs; others are kept.

    Raises:
        ModelError: If an old name is unknown, or two new names are equal.

    Example:
        >>> from pgnn.factors import Tabular
        >>> state, x = Variable("state", 2), Variable("x", 2)
        >>> emission = Tabular(x, [state], [[0.75, 0.25], [0.5, 0.5]])
        >>> third = Renamed(emission, {"state": ("state", 3), "x": ("x", 3)})
        >>> third.factor()
        Factor(('state', 3), ('x', 3))
        >>> third.conditional is emission
        True
    """

    def __new__(cls, conditional: Any = None, *args: Any, **kwargs: Any) -> Renamed:
        """Choose the class by the abilities of the conditional."""
        if cls is Renamed and isinstance(conditional, ExponentialFamily):
            return super().__new__(RenamedFamily)
        return super().__new__(cls)

    def __init__(self, conditional: Conditional, names: Mapping[Hashable, Hashable]) -> None:
        known = [*(v.name for v in conditional.scope), *conditional.inputs]
        for name in names:
            if name not in known:
                raise ModelError(
                    f"the conditional of {conditional.child.name!r} has no {name!r} to rename"
                    f"{closest(name, known)}"
                )
        new = [names.get(name, name) for name in known]
        child = _rename(conditional.child, names)
        parents = [_rename(v, names) for v in conditional.parents]
        super().__init__(child, parents, [names.get(n, n) for n in conditional.inputs])
        self.conditional = conditional
        self.integrates_missing = conditional.integrates_missing
        self.is_table = conditional.is_table
        self.is_linear_gaussian = conditional.is_linear_gaussian
        self._old = dict(zip(new, known, strict=True))

    def settings(self) -> Settings:
        """Return the conditional and the new names."""
        names = {old: new for new, old in self._old.items() if new != old}
        return {"conditional": self.conditional, "names": names}

    def around(self, conditional: Conditional) -> Renamed:
        """Return another conditional of the same variables with the new names."""
        return Renamed(conditional, {old: new for new, old in self._old.items()})

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters of the conditional."""
        return self.conditional.num_free_parameters

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the conditional's distribution; see the base class."""
        return self.conditional.distribution(self._back(parents), self._back(inputs))

    def log_prob_rows(
        self,
        states: Tensor,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Tensor:
        """Return log probabilities of complete rows; see the base class."""
        return self.conditional.log_prob_rows(states, self._back(observed), self._back(inputs))

    @property
    def decomposes(self) -> bool:
        """See the base class; delegates to the conditional."""
        return self.conditional.decomposes

    def decomposition(self, ranks: Sequence[int] | None = None) -> Decomposition | None:
        """Return the conditional's small factors under the new names."""
        parts = self.conditional.decomposition(ranks)
        return None if parts is None else parts.renamed(dict(zip(
            (v.name for v in self.conditional.scope), self.scope, strict=True
        )))  # fmt: skip

    def regression(self) -> Regression:
        """Return the conditional's regression, which does not depend on names."""
        return self.conditional.regression()

    def parameter_table(self) -> ParameterTable | None:
        """Return the conditional's parameters under the new names."""
        table = self.conditional.parameter_table()
        if table is None or self.is_linear_gaussian:
            return super().parameter_table()
        by_old = {self._old[v.name]: v for v in self.scope}
        return ParameterTable([by_old.get(v.name, v) for v in table.rows], table.columns)

    def recorded_integral(self, integral: HiddenIntegral) -> Tensor:
        """See the base class; delegates to the conditional."""
        return self.conditional.recorded_integral(integral)

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return the conditional's table under the new names; see the base class."""
        factor = self.conditional.factor(self._back(observed), self._back(inputs))
        by_old = {self._old[v.name]: v for v in self.scope}
        child = None if factor.child is None else self.child.name
        return Factor([by_old[v.name] for v in factor.variables], factor.log_values, child)

    def _back(self, values: Mapping[Hashable, Tensor] | None) -> dict[Hashable, Tensor]:
        """Return values under the old names, without others."""
        return {old: values[new] for new, old in self._old.items() if values and new in values}


class RenamedFamily(Renamed, ExponentialFamily):
    """A renamed conditional of an exponential family; made by :class:`Renamed`."""

    conditional: ExponentialFamily

    def statistics(self, values: Mapping[Hashable, Tensor], weights: Tensor) -> Statistics:
        """Return the conditional's statistics of values under the new names."""
        return self.conditional.statistics(self._back(values), weights)

    def maximize(self, statistics: Statistics, prior: Any = None) -> None:
        """Fit the shared conditional."""
        self.conditional.maximize(statistics, prior)

    @property
    def has_hidden_parts(self) -> bool:  # type: ignore[override]
        """Whether the conditional has hidden parts."""
        return self.conditional.has_hidden_parts

    def prepare(self, values: Mapping[Hashable, Tensor]) -> None:
        """Let the conditional choose its origin."""
        self.conditional.prepare(self._back(values))

    def accepts(self, prior: Any) -> bool:
        """See the base class; delegates to the conditional."""
        return self.conditional.accepts(prior)

    def log_likelihood(
        self, statistics: Statistics, values: Mapping[Hashable, Tensor], weights: Tensor
    ) -> Tensor | None:
        """See the base class; delegates to the conditional."""
        return self.conditional.log_likelihood(statistics, self._back(values), weights)

    def add_noise(self, generator: torch.Generator) -> None:
        """Add noise to the parameters of the conditional."""
        self.conditional.add_noise(generator)

    def make_uninformative(self) -> None:
        """Reset the learned parameters of the conditional."""
        self.conditional.make_uninformative()

    def log_prior(self, prior: Any) -> Tensor:
        """See the base class; delegates to the conditional."""
        return self.conditional.log_prior(prior)

    def initialize(self, values: Mapping[Hashable, Tensor], seed: int | None = None) -> None:
        """Initialise the conditional."""
        self.conditional.initialize(self._back(values), seed)

    def initialize_at_random(self, values: Mapping[Hashable, Tensor], seed: int) -> None:
        """Initialise the conditional for a restart."""
        self.conditional.initialize_at_random(self._back(values), seed)


def bare(conditional: Conditional) -> Conditional:
    """Return the conditional inside a renamed one; others unchanged."""
    while isinstance(conditional, Renamed):
        conditional = conditional.conditional
    return conditional


def _rename(variable: Variable, names: Mapping[Hashable, Hashable]) -> Variable:
    new = names.get(variable.name, variable.name)
    return Variable(new, variable.states, variable.shape)
