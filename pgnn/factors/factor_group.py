"""Many factors of one shape, kept as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.elements import Elements
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]


class FactorGroup:
    r"""``F`` tables of ``n`` elements each, :math:`\prod_f \phi_f(x_{s_{f1}}, \dots, x_{s_{fn}})`.

    What a model over arrays is made of: a grid's couplings are one group. The elements at one
    place of the scopes all have the same number of states.

    Args:
        scopes: ``(F, n)`` numbers of elements, see :class:`~pgnn.factors.elements.Elements`.
        log_values: ``(*batch, F, K1, ..., Kn)`` log values, or ``(*batch, 1, K1, ..., Kn)`` if
            all factors share one table; ``-inf`` is legal.
        child: The place in the scopes over which every row of the tables sums to one, if there is
            one (see :class:`~pgnn.factors.factor.Factor`).

    Attributes:
        scopes: The scopes as an int64 array.
        numbers: The tensor that the tables are made of, here the tables themselves.

    Raises:
        ModelError: If the shapes do not agree.
    """

    def __init__(self, scopes: ArrayLike, log_values: Tensor, child: int | None = None) -> None:
        self.child = child
        self.scopes: Ints = np.asarray(scopes, dtype=np.int64)
        if self.scopes.ndim != 2:
            raise ModelError(f"scopes must have shape (F, n), got {self.scopes.shape}")
        self.numbers = log_values
        self._check()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_factors} factors over {self.arity} elements)"

    @property
    def num_factors(self) -> int:
        """Number of factors ``F``."""
        return int(self.scopes.shape[0])

    @property
    def arity(self) -> int:
        """Number of elements ``n`` of each factor."""
        return int(self.scopes.shape[1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``(B,)`` if the tables differ from row to row, else ``()``."""
        return tuple(self.log_values.shape[: self.log_values.dim() - self.arity - 1])

    @property
    def shared(self) -> bool:
        """Whether one table serves all factors."""
        return self.log_values.shape[-self.arity - 1] != self.num_factors or self.num_factors == 1

    @property
    def log_values(self) -> Tensor:
        """The tables, ``(*batch, F or 1, K1, ..., Kn)``."""
        return self.numbers

    def of_rows(self, rows: Ints) -> FactorGroup:
        """Return the group with the tables of some rows, if they differ from row to row."""
        if not self.batch_shape:
            return self
        return FactorGroup(self.scopes, self.numbers[torch.from_numpy(rows)], self.child)

    def factors(self, elements: Elements) -> list[Factor]:
        """Return each factor on its own, over the elements as variables."""
        return self.over(elements.singles)

    def over(self, variables: Sequence[Variable]) -> list[Factor]:
        """Return each factor on its own.

        Args:
            variables: Of the numbers in the scopes.
        """
        tables = self.log_values.expand(
            *self.batch_shape,
            self.num_factors,
            *self.log_values.shape[-self.arity :] if self.arity else (),
        )
        axis = len(self.batch_shape)
        # one tensor for all that share a table: engines notice it
        each = [tables.select(axis, 0)] * self.num_factors if self.shared else tables.unbind(axis)
        scopes = [[variables[e] for e in scope] for scope in self.scopes.tolist()]
        names = [None if self.child is None else s[self.child].name for s in scopes]
        return [Factor(s, t, n) for s, t, n in zip(scopes, each, names, strict=True)]

    def snapshot(self) -> FactorGroup:
        """Return the group with tables that are no parameters themselves, which may change."""
        if not self.numbers.is_leaf:
            return self
        return FactorGroup(self.scopes, self.log_values.clone(), self.child)

    def product(self) -> Factor:
        """Return the product of tables over nothing, as one."""
        copies = self.num_factors // max(self.log_values.shape[-1], 1)
        return Factor((), copies * self.log_values.sum(-1))

    def _check(self) -> None:
        axes = self.numbers.dim() - self.arity - 1
        if axes not in (0, 1) or self.numbers.shape[axes] not in (1, self.num_factors):
            raise ModelError(
                f"{self.num_factors} factors over {self.arity} elements need tables of shape "
                f"(F, K1, ..., Kn) or (B, F, K1, ..., Kn), got {tuple(self.numbers.shape)}"
            )


class PottsGroup(FactorGroup):
    r"""``F`` factors that ask only whether two elements agree: :math:`e^{J_f [x_s = x_t]}`.

    Engines need ``O(K)`` instead of ``O(K^2)`` steps for a message, and one number for a table.

    Args:
        scopes: ``(F, 2)`` numbers of elements.
        coupling: ``(*batch, F)`` or ``(*batch, 1)`` couplings J, in log units; ``-inf`` is legal.
        num_states: States of both elements.
    """

    def __init__(self, scopes: ArrayLike, coupling: Tensor, num_states: int) -> None:
        self.num_states = num_states
        super().__init__(scopes, coupling)

    @property
    def coupling(self) -> Tensor:
        """``(*batch, F or 1)`` log weights of agreement."""
        return self.numbers

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``(B,)`` if the couplings differ from row to row, else ``()``."""
        return tuple(self.numbers.shape[:-1])

    @property
    def shared(self) -> bool:
        """Whether one coupling serves all factors."""
        return self.numbers.shape[-1] != self.num_factors or self.num_factors == 1

    def of_rows(self, rows: Ints) -> PottsGroup:
        """Return the group with the couplings of some rows, if they differ from row to row."""
        if not self.batch_shape:
            return self
        return PottsGroup(self.scopes, self.numbers[torch.from_numpy(rows)], self.num_states)

    @property
    def log_values(self) -> Tensor:
        """The tables written down, ``(*batch, F or 1, K, K)``."""
        same = torch.eye(self.num_states, dtype=torch.bool, device=self.numbers.device)
        table = self.numbers[..., None, None]
        return torch.where(same, table, torch.zeros_like(table))

    def _check(self) -> None:
        axes = self.numbers.dim()
        if self.arity != 2:
            raise ModelError(f"a Potts factor is over two elements, got scopes of {self.arity}")
        if axes not in (1, 2) or self.numbers.shape[-1] not in (1, self.num_factors):
            raise ModelError(
                f"{self.num_factors} Potts factors need couplings of shape (F,) or (B, F), got "
                f"{tuple(self.numbers.shape)}"
            )


def grouped(factors: Iterable[Factor], elements: Elements) -> tuple[FactorGroup, ...]:
    """Gather factors over single elements into groups of one shape, in order of appearance."""
    number = {v.name: k for k, v in enumerate(elements.singles)}
    scopes: dict[tuple[object, ...], list[Sequence[int]]] = {}
    tables: dict[tuple[object, ...], list[Tensor]] = {}
    for f in factors:
        shape = tuple(v.num_states for v in f.variables)
        child = None if f.child is None else f.names.index(f.child)
        key = (shape, f.batch_shape, f.log_values.dtype, child)
        scopes.setdefault(key, []).append([number[n] for n in f.names])
        tables.setdefault(key, []).append(f.log_values)
    return tuple(
        FactorGroup(
            np.array(scopes[key], dtype=np.int64).reshape(len(held), -1),
            torch.stack(held, dim=1 if key[1] else 0),
            key[3],  # type: ignore[arg-type]
        )
        for key, held in tables.items()
    )
