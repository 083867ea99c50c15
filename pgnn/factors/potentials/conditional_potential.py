"""A conditional as a potential: a factor of a directed model without its directions."""

from __future__ import annotations

from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.groups.grouping import grouped
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.potential import Inputs, Potential


class ConditionalPotential(Potential):
    r"""A conditional's table, :math:`\phi(x, \mathrm{pa}) = p(x \mid \mathrm{pa})`.

    Args:
        conditional: A conditional of discrete variables; used, not copied.

    Raises:
        ModelError: If a variable is real.

    Example:
        >>> from pgnn.factors import Tabular, Variable
        >>> potential = ConditionalPotential(Tabular(Variable("rain", 2), (), [0.8, 0.2]))
        >>> potential.factors(Elements(potential.variables))[0].values
        tensor([0.8000, 0.2000], dtype=torch.float64)
    """

    def __init__(self, conditional: Conditional) -> None:
        super().__init__(conditional.scope, inputs=conditional.inputs)
        self.conditional = conditional

    def settings(self) -> Settings:
        """Return the conditional."""
        return {"conditional": self.conditional}

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group of the one table."""
        return grouped(self.factors(elements, inputs), elements)

    def factors(self, elements: Elements, inputs: Inputs | None = None) -> list[Factor]:
        """Return the table; with inputs one for each of their rows."""
        covariates = self._covariates(inputs) if self.inputs else None
        table = self.conditional.factor(None, covariates)
        return [Factor(table.variables, table.log_values, self.conditional.child.name)]

    @property
    def num_free_parameters(self) -> int:
        """As of the conditional."""
        return self.conditional.num_free_parameters
