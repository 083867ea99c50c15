"""Constant factors, kept in arrays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.errors import ModelError
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.piece import Settings
from pgnn.factors.potentials.potential import Inputs, Potential
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]


class FactorTables(Potential):
    """Constant log tables of any scopes; those of one shape and type are one parameter.

    Args:
        factors: The tables; copied.

    Raises:
        ModelError: If factors disagree about a variable, there is no variable, or an entry is
            ``NaN`` or ``+inf``.

    Cost:
        Linear in the entries; thousands of tables are a few parameters.
    """

    def __init__(self, factors: Sequence[Factor]) -> None:
        variables = variables_of(factors)
        super().__init__(list(variables.values()), np.zeros((0, 0), dtype=np.int64))
        number = {name: k for k, name in enumerate(variables)}
        self.order: list[tuple[int, int]] = []
        places: dict[tuple[object, ...], int] = {}
        scopes: list[list[list[int]]] = []
        tables: list[list[Tensor]] = []
        for f in factors:
            key = (f.log_values.shape, f.batch_shape, f.log_values.dtype)
            k = places.setdefault(key, len(places))
            if k == len(tables):
                scopes.append([])
                tables.append([])
            self.order.append((k, len(tables[k])))
            scopes[k].append([number[v.name] for v in f.variables])
            tables[k].append(f.log_values.detach())
        self.scope_groups: list[Ints] = [np.array(s, dtype=np.int64) for s in scopes]
        rowwise = [bool(factors[s].batch_shape) for s in self._firsts()]
        self.tables = nn.ParameterList(
            nn.Parameter(torch.stack(held, dim=int(r)), requires_grad=False)
            for held, r in zip(tables, rowwise, strict=True)
        )
        for table in self.tables:
            if bool((table.isnan() | table.isposinf()).any()):
                raise ModelError("log tables hold finite numbers or -inf, got NaN or +inf")

    log_numbers = ("tables",)

    def settings(self) -> Settings:
        """Return the variables and the scopes of the tables; the tables are saved as parameters."""
        rowwise = [t.dim() > 1 + s.shape[1] for t, s in self._grouped()]
        return {
            "variables": self.variables,
            "scopes": tuple(self.scope_groups),
            "order": tuple(self.order),
            "rowwise": tuple(rowwise),
        }

    @classmethod
    def from_settings(cls, settings: Settings, numbers: Mapping[str, Tensor]) -> Self:
        """Make the factors in their order, with the variables in the saved order."""
        variables, scopes = settings["variables"], [s.tolist() for s in settings["scopes"]]
        tables = [
            numbers[f"tables.{k}"].unbind(int(rowwise))
            for k, rowwise in enumerate(settings["rowwise"])
        ]
        return cls(
            [
                Factor([variables[v] for v in scopes[k][place]], tables[k][place])
                for k, place in settings["order"]
            ]
        )

    def _grouped(self) -> list[tuple[Tensor, Ints]]:
        return list(zip(self.tables, self.scope_groups, strict=True))

    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return one group for each shape and type."""
        numbers = self.numbers(elements)
        return tuple(
            TableGroup(numbers[scopes].reshape(len(scopes), -1), table)
            for scopes, table in zip(self.scope_groups, self.tables, strict=True)
        )

    def factors(self, elements: Elements, inputs: Inputs | None = None) -> list[Factor]:
        """Return the factors in the order in which they were given."""
        factors = [g.snapshot().factors(elements) for g in self.groups(elements)]
        return [factors[k][place] for k, place in self.order]

    def scopes_in(self, elements: Elements) -> list[list[int]]:
        """Return the elements of a model that each factor joins."""
        numbers = self.numbers(elements)
        return [numbers[self.scope_groups[k][place]].tolist() for k, place in self.order]

    @property
    def num_factors(self) -> int:
        """Number of tables."""
        return len(self.order)

    @property
    def cliques(self) -> tuple[tuple[Hashable, ...], ...]:
        """The scopes of the tables, without empty ones."""
        names = [v.name for v in self.variables]
        scopes = [self.scope_groups[k][place].tolist() for k, place in self.order]
        return tuple(dict.fromkeys(tuple(names[v] for v in s) for s in scopes if s))

    @property
    def num_free_parameters(self) -> int:
        """Number of entries, less one for the scale of each table."""
        return sum(self.num_free(p) for p in self.tables)

    def num_free(self, parameter: Tensor) -> int:
        """See :attr:`num_free_parameters`."""
        return parameter.numel() - len(parameter)

    def _firsts(self) -> list[int]:
        """Number of the first factor of each group."""
        first: dict[int, int] = {}
        for f, (k, _) in enumerate(self.order):
            first.setdefault(k, f)
        return list(first.values())


def variables_of(factors: Sequence[Factor]) -> dict[Hashable, Variable]:
    """Return the variables of factors by name, in order of appearance.

    Raises:
        ModelError: If two factors disagree about one.
    """
    variables: dict[Hashable, Variable] = {}
    for f in factors:
        for v in f.variables:
            if variables.setdefault(v.name, v) != v:
                raise ModelError(f"potentials disagree: {variables[v.name]} and {v}")
    return variables
