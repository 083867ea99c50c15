"""The same conditional over variables of other names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from torch import Tensor
from torch.distributions import Distribution

from pgnn.factors.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable


class Renamed(Conditional):
    """A conditional whose variables and inputs go by other names; the parameters are shared.

    One emission of a model over time serves every step: as a conditional of ``("x", 3)`` given
    ``("state", 3)``, say.

    Args:
        conditional: Whose parameters are used.
        names: New names by old ones; what is not mentioned keeps its own.

    Raises:
        ModelError: If two variables get one name.

    Example:
        >>> import torch
        >>> from pgnn.factors.tabular import Tabular
        >>> rain, wet = Variable("rain", 2), Variable("wet", 2)
        >>> today = Tabular(wet, [rain], [[0.9, 0.1], [0.2, 0.8]])
        >>> tomorrow = Renamed(today, {"rain": ("rain", 1), "wet": ("wet", 1)})
        >>> tomorrow.factor({("wet", 1): torch.tensor([1])}).log_values.exp()
        tensor([[0.1000, 0.8000]], dtype=torch.float64)
    """

    def __init__(self, conditional: Conditional, names: Mapping[Hashable, Hashable]) -> None:
        old = [*(v.name for v in conditional.scope), *conditional.inputs]
        self_names = {n: names.get(n, n) for n in old}
        super().__init__(
            _named(conditional.child, self_names),
            [_named(v, self_names) for v in conditional.parents],
            [self_names[n] for n in conditional.inputs],
        )
        self.conditional = conditional
        self._old = {new: name for name, new in self_names.items()}

    @property
    def num_free_parameters(self) -> int:
        """Those of the conditional."""
        return self.conditional.num_free_parameters

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """See the conditional itself."""
        return self.conditional.distribution(self._back(parents), self._back(inputs or {}) or None)

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """See the conditional itself."""
        found = self.conditional.factor(
            self._back(observed or {}), self._back(inputs or {}) or None
        )
        new = {self._old[v.name]: v for v in self.scope}
        child = None if found.child is None else self.child.name
        return Factor([new[n] for n in found.names], found.log_values, child)

    def _back(self, values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """What concerns this conditional, by its old names."""
        return {self._old[n]: x for n, x in values.items() if n in self._old}


def _named(variable: Variable, names: Mapping[Hashable, Hashable]) -> Variable:
    return Variable(names[variable.name], variable.states, variable.shape)
