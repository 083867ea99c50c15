"""Tables over named discrete variables, in log space."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, ModelError, closest
from pgnn.factors.variable import Variable


class Factor:
    r"""A non-negative table :math:`\phi(x_1, \dots, x_n)` over named variables, kept as logs.

    Args:
        variables: Discrete variables in the order of the table's last axes.
        log_values: ``(*batch, K1, ..., Kn)`` log values; ``-inf`` is legal, ``NaN`` and ``+inf``
            are not.

    Raises:
        ModelError: If a variable is real or occurs twice, or the shape does not fit.

    Example:
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> table = Factor([a, b], torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log())
        >>> table.marginalize(["a"]).values.tolist()
        [0.7, 1.3]
    """

    __slots__ = ("log_values", "variables")

    def __init__(self, variables: Sequence[Variable], log_values: Tensor) -> None:
        self.variables = tuple(variables)
        self.log_values = log_values
        names = self.names
        if len(set(names)) != len(names):
            raise ModelError(f"a factor names a variable twice: {list(names)}")
        shape = tuple(v.num_states for v in self.variables)
        if tuple(log_values.shape[log_values.dim() - len(shape) :]) != shape:
            raise ModelError(
                f"factor over {list(names)} needs last axes {shape}, got {tuple(log_values.shape)}"
            )

    @property
    def names(self) -> tuple[Hashable, ...]:
        """Names of the variables, in axis order."""
        return tuple(v.name for v in self.variables)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes of the table that are not variables."""
        return tuple(self.log_values.shape[: self.log_values.dim() - len(self.variables)])

    @property
    def values(self) -> Tensor:
        """The table in linear units, ``(*batch, K1, ..., Kn)``."""
        return self.log_values.exp()

    def product(self, *others: Factor) -> Factor:
        """Return the pointwise product over the union of the scopes (axes in order of arrival)."""
        scope = list(self.variables)
        for other in others:
            scope += [v for v in other.variables if v not in scope]
        total = self._aligned(scope)
        for other in others:
            total = total + other._aligned(scope)
        return Factor(scope, total.expand(*total.shape[: -len(scope)], *_shape(scope)))

    def marginalize(self, names: Iterable[Hashable]) -> Factor:
        r"""Return :math:`\sum_{x \in names} \phi`, the named variables summed out.

        Raises:
            EvidenceError: If a name is not in the scope.
        """
        axes, kept = self._split(names)
        return Factor(kept, _logsumexp(self.log_values, axes)) if axes else self

    def maximize(self, names: Iterable[Hashable]) -> Factor:
        """Return the maximum over the named variables."""
        axes, kept = self._split(names)
        return Factor(kept, self.log_values.amax(dim=axes)) if axes else self

    def condition(self, states: Mapping[Hashable, int | Tensor]) -> Factor:
        """Return the table at given states: an index, or ``(B,)`` indices, one for each row.

        Names outside the scope are ignored. A ``(B,)`` index makes the result batched.
        """
        table, scope = self.log_values, list(self.variables)
        for name, state in states.items():
            position = next((k for k, v in enumerate(scope) if v.name == name), None)
            if position is None:
                continue
            axis = table.dim() - len(scope) + position
            table = _take(table, axis, state, batched=table.dim() > len(scope))
            del scope[position]
        return Factor(scope, table)

    def normalize(self) -> Factor:
        """Return the factor scaled to sum to one in each row (all ``-inf`` rows stay)."""
        axes, _ = self._split(self.names)
        if not axes:
            return Factor((), torch.zeros_like(self.log_values))
        total = _logsumexp(self.log_values, axes, keepdim=True)
        return Factor(self.variables, self.log_values - total.masked_fill(total.isneginf(), 0.0))

    def __repr__(self) -> str:
        batch = f", batch={self.batch_shape}" if self.batch_shape else ""
        return f"Factor({', '.join(repr(n) for n in self.names)}{batch})"

    def _split(self, names: Iterable[Hashable]) -> tuple[list[int], list[Variable]]:
        gone = set(names)
        unknown = gone - set(self.names)
        if unknown:
            name = next(iter(unknown))
            raise EvidenceError(f"factor has no variable {name!r}{closest(name, self.names)}")
        first = self.log_values.dim() - len(self.variables)
        axes = [first + k for k, v in enumerate(self.variables) if v.name in gone]
        return axes, [v for v in self.variables if v.name not in gone]

    def _aligned(self, scope: Sequence[Variable]) -> Tensor:
        """The table with its axes in the order of ``scope``, size one where it has none."""
        first = self.log_values.dim() - len(self.variables)
        present = [v for v in scope if v in self.variables]
        order = [first + self.variables.index(v) for v in present]
        table = self.log_values.permute(*range(first), *order)
        sizes = [v.num_states if v in self.variables else 1 for v in scope]
        return table.reshape(*self.batch_shape, *sizes)


def _shape(scope: Sequence[Variable]) -> list[int]:
    return [v.num_states for v in scope]


def _logsumexp(table: Tensor, axes: Sequence[int], keepdim: bool = False) -> Tensor:
    """Log-sum-exp whose gradient stays finite where a whole slice is ``-inf``."""
    top = table.detach().amax(dim=list(axes), keepdim=True)
    top = top.masked_fill(top.isinf(), 0.0)
    total = (table - top).exp().sum(dim=list(axes), keepdim=True)
    empty = total == 0
    out = total.masked_fill(empty, 1.0).log() + top
    out = out.masked_fill(empty, float("-inf"))
    return out if keepdim else out.squeeze(list(axes))


def _take(table: Tensor, axis: int, state: int | Tensor, batched: bool) -> Tensor:
    if not isinstance(state, Tensor) or state.dim() == 0:
        return table.select(axis, int(state))
    if not batched:
        return table.movedim(axis, 0).index_select(0, state)
    rows = torch.arange(table.shape[0], device=table.device)
    return table.movedim(axis, 1)[rows, state]
