"""Real variables that are set to a value."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution, Independent

from pgnn.errors import EvidenceError, short_repr
from pgnn.factors.cells import cells_of, is_container
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.heads import PointMass
from pgnn.factors.conditionals.parameter_table import ParameterTable
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable


class Constant(Conditional):
    """A real variable with all mass at one value, as after an intervention.

    Readers of evidence add the value, so that engines condition on it. A row that observes another
    value has probability zero; densities are relative to the point mass.

    Args:
        child: Real variable of known shape.
        value: Its value, of the variable's shape.

    Raises:
        EvidenceError: If the value has another shape, or is masked, no number or not finite.

    Example:
        >>> dose = Constant(Variable("dose"), 1.5)
        >>> dose.factor({"dose": torch.tensor([1.5, 2.0])}).log_values
        tensor([0., -inf], dtype=torch.float64)
    """

    value: Tensor

    def __init__(self, child: Variable, value: Any) -> None:
        super().__init__(child)
        number, name = _numbers(value), child.name
        if number is None or number.shape != child.shape or not np.isfinite(number).all():
            raise EvidenceError(
                f"do() sets {name!r} to one finite value of shape {child.shape}, got "
                f"{short_repr(value)}",
                f"for another value in each row use model.do([{name!r}]), which cuts the edges "
                f"into it, with {{{name!r}: ...}} as evidence",
            )
        self.register_buffer("value", torch.from_numpy(number))

    @property
    def constant(self) -> Tensor:
        """The value."""
        return self.value

    def settings(self) -> Settings:
        """Return the variable and its value."""
        return {"child": self.child, "value": self.value}

    def parameter_table(self) -> ParameterTable:
        """Return the value; see the base class."""
        return ParameterTable((), {"value": self.value})

    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the point mass."""
        point = PointMass(self.value)
        return Independent(point, self.value.dim()) if self.value.dim() else point

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        """Return zero for rows with the value, ``-inf`` for others.

        Raises:
            Unsupported: If it is not observed.
        """
        known = self._observed_part(observed)
        self._unobserved(known)  # raises if it is not observed
        x = known[self.child.name]
        # values may have been rounded to the type of a network
        other = (x != self.value.to(x)).reshape(len(x), -1).any(dim=1)
        return Factor((), torch.zeros(len(x)).to(self.value).masked_fill(other, -torch.inf))


def _numbers(value: Any) -> NDArray[np.float64] | None:
    """Return the numbers of a value of any kind; None if some are masked or no numbers."""
    try:
        whole = is_container(value, {})
        cells = cells_of(value if whole else [value], {})
        masked = cells.missing is not None and bool(cells.missing.any())
        if masked or cells.categories is not None or cells.values.dtype.kind not in "iuf":
            return None
        numbers = np.array(cells.values, dtype=np.float64)
    except (EvidenceError, TypeError, ValueError):  # such as lists of different lengths
        return None
    return numbers if whole else numbers.reshape(())
