"""The base class of potentials, non-negative local functions of an undirected model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import Advice, EvidenceError, ModelError, closest
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.piece import Piece, Settings, taken
from pgnn.factors.potentials.scopes import check_distinct, read_scopes
from pgnn.factors.variable import Variable, check_variables

Ints = NDArray[np.int64]
Inputs = Mapping[Hashable, Tensor]


class Potential(Piece):
    r"""Factors :math:`\prod_f \phi(x_{s_f})` of one kind, the piece an undirected model is made of.

    A subclass implements :meth:`groups`. Given parameters are constants (``requires_grad=False``);
    others are learnable and start at :math:`\log \phi = 0`. Call ``requires_grad_()`` to learn
    given parameters too.

    Args:
        variables: Discrete variables: single ones, arrays, or elements of arrays
            (``array.element(3, 4)``).
        scopes: Elements of each factor: an integer array ``(F, n)`` of indices, counted over the
            variables in order and arrays in row-major order; or tuples of element names
            (of a single array: indices); or a :class:`~pgnn.factors.potentials.lattice.Lattice`. If
            not given, one factor over all variables, arrays element by element.
        inputs: Names of the covariates that the potential depends on; they are never modelled.

    Attributes:
        variables: The variables as they were declared.
        scopes: ``(F, n)`` indices of the potential's own elements.

    Raises:
        ModelError: If a variable is real or occurs twice, or a scope is wrong.
    """

    noun = "potential"

    def __init__(
        self,
        variables: Variable | Sequence[Variable],
        scopes: Any = None,
        inputs: Hashable | Iterable[Hashable] = (),
    ) -> None:
        super().__init__()
        self.variables = _checked(variables)
        self.inputs: tuple[Hashable, ...] = _listed(inputs)
        self.own_elements = Elements(self.variables)
        self.scopes = read_scopes(self.own_elements, scopes)
        self._placed: tuple[Elements, Ints, Ints] | None = None

    def settings(self) -> Settings:
        """Return variables and scopes; a subclass adds its other constructor arguments."""
        return taken(type(self), {"variables": self.variables, "scopes": self.scopes})

    @property
    def scope(self) -> tuple[Variable, ...]:
        """The variables as they were declared."""
        return self.variables

    @property
    def key(self) -> Hashable:
        """The name of the variable, or the tuple of their names."""
        names = tuple(v.name for v in self.variables)
        return names[0] if len(names) == 1 else names

    @abstractmethod
    def groups(self, elements: Elements, inputs: Inputs | None = None) -> tuple[FactorGroup, ...]:
        """Return the factors as groups over a model's elements.

        Args:
            elements: The elements of all variables of the model.
            inputs: Covariates by name, ``(B, ...)``; others than the potential's are ignored.

        Raises:
            EvidenceError: If an input is missing.
        """

    def read_inputs(self, inputs: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return the potential's own covariates in numbers, if they may come as other things.

        Args:
            inputs: As they came, by name.

        Raises:
            EvidenceError: If they do not fit.
        """
        return {}

    def factors(self, elements: Elements, inputs: Inputs | None = None) -> list[Factor]:
        """Return each factor separately, over single elements as variables.

        The tables are copies, which do not change with the parameters.
        """
        return [f for g in self.groups(elements, inputs) for f in g.snapshot().factors(elements)]

    @property
    def num_factors(self) -> int:
        """Number of scopes ``F``."""
        return int(self.scopes.shape[0])

    @property
    def axis_variables(self) -> tuple[Variable, ...]:
        """The variables of the axes of a table, those of the first scope."""
        first = self.scopes[0] if self.num_factors else ()
        return tuple(self.variables[k] for k in self._owner[first])

    @property
    def cliques(self) -> tuple[tuple[Hashable, ...], ...]:
        """Names of the declared variables that share a factor, each set once."""
        names = [v.name for v in self.variables]
        if len(names) == 1:
            return ((names[0],),)
        # np.unique over the rows of a million edges would dominate the run time
        rows = np.unique(self._owner[self.scopes], axis=0)
        return tuple(dict.fromkeys(tuple(dict.fromkeys(names[k] for k in r)) for r in rows))

    @property
    def num_free_parameters(self) -> int:
        """Number of free parameters."""
        return sum(p.numel() for p in self.parameters())

    def numbers(self, elements: Elements) -> Ints:
        """Return ``(E,)`` indices of the potential's own elements in a model."""
        return self._place(elements)[0]

    def placed(self, elements: Elements) -> Ints:
        """Return :attr:`scopes` as ``(F, n)`` indices of a model's elements."""
        return self._place(elements)[1]

    def scopes_in(self, elements: Elements) -> list[list[int]]:
        """Return the elements of a model that each factor joins."""
        joined: list[list[int]] = self.placed(elements).tolist()
        return joined

    def extra_repr(self) -> str:
        """Text between the brackets of ``repr``."""
        names = ", ".join(repr(v.name) for v in self.variables[:8])
        return names + (", ..." if len(self.variables) > 8 else "")

    def _place(self, elements: Elements) -> tuple[Ints, Ints]:
        """Indices and scopes in a model, cached for the last model."""
        if self._placed is None or self._placed[0] is not elements:
            parts = [elements.numbers(v.name).ravel() for v in self.variables]
            numbers = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
            scopes = numbers[self.scopes]
            check_distinct(elements, scopes)
            self._placed = (elements, numbers, scopes)
        return self._placed[1], self._placed[2]

    @property
    def _owner(self) -> Ints:
        """``(E,)`` index of the variable of each element."""
        sizes = [int(np.prod(v.shape, dtype=np.int64)) for v in self.variables]
        return np.repeat(np.arange(len(sizes)), sizes)

    def _covariates(self, inputs: Inputs | None) -> dict[Hashable, Tensor]:
        """The potential's own inputs; all have the same number of rows."""
        available = dict(inputs or {})
        covariates = {}
        for name in self.inputs:
            if name not in available:
                hint = closest(name, available) if available else ""
                raise EvidenceError(
                    f"the potential of {_label(self.variables)} needs the input {name!r}",
                    Advice(f"pass it in inputs={{{name!r}: ...}}{hint}", "inputs"),
                )
            covariates[name] = torch.as_tensor(available[name])
        return covariates


def listed_variables(variables: Variable | Sequence[Variable]) -> tuple[Variable, ...]:
    """Return the variables of a potential, given one or several.

    Raises:
        ModelError: If one is no variable.
    """
    sequence = [variables] if isinstance(variables, Variable) else variables
    return check_variables("the variables of a potential", sequence)


def _checked(variables: Variable | Sequence[Variable]) -> tuple[Variable, ...]:
    listed = listed_variables(variables)
    for v in listed:
        if not v.is_discrete:
            raise ModelError(
                f"{v.name!r} is real; potentials are over discrete variables, with states"
            )
    names = [v.name for v in listed]
    if len(set(names)) < len(names):
        twice = next(n for k, n in enumerate(names) if n in names[:k])
        raise ModelError(f"a potential names the variable {twice!r} twice")
    return listed


def _listed(inputs: Hashable | Iterable[Hashable]) -> tuple[Hashable, ...]:
    if isinstance(inputs, str) or not isinstance(inputs, Iterable):
        return (inputs,)
    return tuple(inputs)


def _label(variables: Sequence[Variable]) -> str:
    return ", ".join(repr(v.name) for v in variables[:4]) + (", ..." if len(variables) > 4 else "")
