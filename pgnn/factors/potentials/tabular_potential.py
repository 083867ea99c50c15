"""Tables of non-negative numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pgnn.errors import Intractable, ModelError
from pgnn.factors.conditionals.checks import MAX_TABLE
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.piece import Settings, learnable_zeros
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.variable import Variable
from pgnn.limits import entries_of, human_count


class TabularPotential(Potential):
    r"""A table :math:`\phi(x_1, \dots, x_n) \ge 0`, kept as logs in float64.

    Args:
        variables: Discrete variables, the axes of the table in order. Arrays of one shape are
            joined element by element, all by the same table; a single variable beside them is
            joined to every element.
        table: Non-negative numbers ``(K1, ..., Kn)`` in linear (not log) units, not all of them
            zero, of any scale; or ``(*shape, K1, ..., Kn)``, a table for each element of arrays of
            that shape; ``(F, K1, ..., Kn)`` with ``scopes``; constant. If not given, a single
            learnable table that starts at ones.
        scopes: See :class:`Potential`.

    Raises:
        ModelError: If an entry is negative, infinite or ``NaN``, a table has no positive entry, or
            a shape does not fit.
        Intractable: If a table that was not given would have more than ``2**26`` entries.

    Example:
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> TabularPotential([a, b], [[1, 0], [2, 5]]).table
        tensor([[1.0000, 0.0000],
                [2.0000, 5.0000]], dtype=torch.float64)
    """

    def __init__(
        self, variables: Variable | Sequence[Variable], table: Any = None, scopes: Any = None
    ) -> None:
        super().__init__(variables, scopes)
        if not self.num_factors:
            raise ModelError("a table needs at least one scope")
        shape = tuple(v.num_states for v in self.axis_variables)
        if table is not None:
            self.log_table = nn.Parameter(self._read(table, shape), requires_grad=False)
            return
        entries = entries_of(shape, MAX_TABLE)
        if entries > MAX_TABLE:
            raise Intractable(
                f"a table over {len(shape)} variables such as {self.axis_variables[0].name!r} "
                f"has {human_count(entries)} entries or more, at most {MAX_TABLE:,} are made",
                "declare smaller cliques, such as the edges",
            )
        self.log_table = learnable_zeros("a table", (1, *shape))

    log_numbers = ("log_table",)

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make tables of the saved shape: one, or one for each scope."""
        return cls(**settings, table=torch.ones_like(numbers["log_table"]))

    @property
    def table(self) -> Tensor:
        """``(K1, ..., Kn)``, or ``(F, K1, ..., Kn)`` if factors differ; in linear units."""
        values = self.log_table.exp()
        return values[0] if len(values) == 1 else values

    @property
    def num_free_parameters(self) -> int:
        """Number of entries, less one for the scale of each table."""
        return self.num_free(self.log_table)

    def num_free(self, parameter: Tensor) -> int:
        """See :attr:`num_free_parameters`."""
        return parameter.numel() - len(parameter)

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group, its table shared or one for each scope."""
        return (TableGroup(self.placed(elements), self.log_table),)

    def _read(self, table: Any, shape: tuple[int, ...]) -> Tensor:
        what = f"table over {[v.name for v in self.axis_variables]}"
        values = read_numbers(what, table)
        lead = values.shape[: values.ndim - len(shape)]
        arrays = next((v.shape for v in self.variables if v.shape), ())
        if values.shape[len(lead) :] != shape or lead not in (
            (),
            (1,),
            (self.num_factors,),
            arrays,
        ):
            each = f" or {(self.num_factors, *shape)}" if self.num_factors > 1 else ""
            raise ModelError(f"{what} must have shape {shape}{each}, got {values.shape}")
        bad = ~np.isfinite(values) | (values < 0)
        if bad.any():
            where = tuple(int(k) for k in np.argwhere(bad)[0])
            raise ModelError(
                f"{what} must hold finite numbers not below zero (not logs), but entry {where} is "
                f"{values[where]:g}"
            )
        values = values.reshape(-1, *shape)
        lost = ~values.reshape(len(values), -1).any(axis=1)
        if lost.any():
            raise ModelError(
                f"{what} has no positive entry: every state would be impossible"
                + (f" (first: factor {int(lost.argmax())})" if len(values) > 1 else "")
            )
        if len(values) not in (1, self.num_factors):
            raise ModelError(f"{what}: {len(values)} tables for {self.num_factors} scopes")
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.log(values))
