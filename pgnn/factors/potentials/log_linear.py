"""Log-linear potentials: weighted features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.errors import Intractable, ModelError
from pgnn.factors.conditionals.checks import MAX_TABLE
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.variable import Variable


class LogLinear(Potential):
    r"""Features of a scope's states, :math:`\log \phi(x) = \sum_d w_d f_d(x)`.

    The gradient of a row's log probability by :math:`w_d` is the observed count of feature ``d``
    less the expected one, :math:`\sum_s f_d(x_s) - E \sum_s f_d(X_s)`, so that fitted models
    reproduce the observed averages (maximum entropy). Features are evaluated once, when declared.

    Args:
        variables: Discrete variables.
        features: Numbers ``(D, K1, ..., Kn)``; or a mapping of names to functions of the ``n``
            states' labels that return a number (or truth value); or one such function, which may
            return several values.
        weights: ``(D,)``, constants; without them learnable, starting at zero.
        scopes: See :class:`Potential`; all scopes share the weights.

    Raises:
        ModelError: If a feature is not finite or numbers of features do not agree.
        Intractable: If a scope has more than ``2**26`` joint states.

    References:
        Della Pietra, Della Pietra and Lafferty (1997), Inducing features of random
        fields, section 2.

    Example:
        >>> a, b = Variable("a", ["no", "yes"]), Variable("b", ["no", "yes"])
        >>> model = LogLinear([a, b], {"same": lambda a, b: a == b}, weights=[0.5])
        >>> model.factors(Elements([a, b]))[0].log_values
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]], dtype=torch.float64)
    """

    features: Tensor

    def __init__(
        self,
        variables: Variable | Sequence[Variable],
        features: Any,
        weights: Any = None,
        scopes: Any = None,
    ) -> None:
        super().__init__(variables, scopes)
        if not self.num_factors:
            raise ModelError("features need at least one scope")
        scope = self.axis_variables
        named = isinstance(features, Mapping)
        if named and not features:
            raise ModelError("a log-linear potential needs at least one feature")
        values = _tabulate(scope, features)
        names = tuple(features) if named else tuple(range(len(values)))
        self.feature_names: tuple[Hashable, ...] = names
        self.register_buffer("features", torch.from_numpy(values))
        self.weights = _weights(weights, len(values))

    def settings(self) -> Settings:
        """Return the variables, the scopes and the names of the features."""
        return super().settings() | {"feature_names": self.feature_names}

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make features of their values; the functions are not saved."""
        names = settings.pop("feature_names")
        potential = cls(features=numbers["features"], weights=numbers["weights"], **settings)
        potential.feature_names = names
        return potential

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group, its table shared by all scopes."""
        table = torch.tensordot(self.weights, self.features, dims=1)
        return (TableGroup(self.placed(elements), table[None]),)


def _weights(weights: Any, number: int) -> nn.Parameter:
    if weights is None:
        return nn.Parameter(torch.zeros(number, dtype=torch.float64))
    values = read_numbers("weights of LogLinear", weights)
    if values.shape != (number,):
        raise ModelError(f"{number} features need weights ({number},), got {values.shape}")
    if not np.isfinite(values).all():
        raise ModelError(
            "weights of LogLinear must be finite", "forbid states with a table of zeros"
        )
    return nn.Parameter(torch.from_numpy(values), requires_grad=False)


def _tabulate(scope: Sequence[Variable], features: Any) -> NDArray[np.float64]:
    """``(D, K1, ..., Kn)`` values of the features."""
    shape = tuple(v.num_states for v in scope)
    if math.prod(shape) > MAX_TABLE:
        raise Intractable(
            f"features over {len(shape)} variables have {math.prod(shape):,} joint states, at most "
            f"{MAX_TABLE:,} are written down",
            "use smaller scopes",
        )
    if isinstance(features, Mapping):
        values = np.stack([_evaluate(scope, f, name)[0] for name, f in features.items()])
    elif callable(features):
        values = _evaluate(scope, features)
    else:
        values = read_numbers("features", features)
    if values.ndim != len(shape) + 1 or values.shape[1:] != shape or not len(values):
        expected = ", ".join(map(str, ("D", *shape)))
        raise ModelError(f"features must have shape ({expected}), got {values.shape}")
    if not np.isfinite(values).all():
        raise ModelError("features must be finite", "forbid states with a table of zeros")
    return values


def _evaluate(
    scope: Sequence[Variable], feature: Any, name: Hashable = None
) -> NDArray[np.float64]:
    """A function's values at all labels of the states, ``(D, K1, ..., Kn)``."""
    what = "the features" if name is None else f"feature {name!r}"
    if not callable(feature):
        raise ModelError(f"{what} must be a function of the states' labels, got {feature!r}")
    rows = [feature(*labels) for labels in itertools.product(*(v.states or () for v in scope))]
    values = read_numbers(what, rows)
    if values.ndim > (2 if name is None else 1):
        raise ModelError(f"{what} must return one number, got shape {values.shape[1:]}")
    return np.moveaxis(
        values.reshape(*(v.num_states for v in scope), values.size // len(rows)), -1, 0
    ).copy()
