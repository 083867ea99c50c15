"""Tables over named discrete variables, in log space."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ChecksArguments, EvidenceError, ModelError, closest
from pgnn.factors.logspace import logsumexp
from pgnn.factors.variable import Variable, check_variables


class Factor(metaclass=ChecksArguments):
    r"""A non-negative table :math:`\phi(x_1, \dots, x_n)` over named variables, kept as logs.

    Args:
        variables: Discrete variables in the order of the table's last axes.
        log_values: ``(*batch, K1, ..., Kn)`` log values; ``-inf`` is legal, ``NaN`` and ``+inf``
            are not.
        child: Name of a variable over which every row of the table sums to one, if there is one
            (a conditional's table); engines may then leave out factors that sum to one.

    Raises:
        ModelError: If a variable is real or occurs twice, or the shape does not fit.

    Example:
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> table = Factor([a, b], torch.tensor([[0.25, 0.75], [0.5, 0.5]]).double().log())
        >>> table.marginalize(["a"]).values
        tensor([0.7500, 1.2500], dtype=torch.float64)
    """

    __slots__ = ("child", "log_values", "variables")

    def __init__(
        self,
        variables: Sequence[Variable],
        log_values: Tensor,
        child: Hashable | None = None,
    ) -> None:
        self.variables = tuple(variables)
        if not isinstance(log_values, Tensor):
            raise ModelError(
                f"a factor needs a tensor of log values, got {type(log_values).__name__}",
                "write torch.tensor(...).log(), or give a table of numbers to TabularPotential",
            )
        check_variables("the scope of a factor", self.variables)
        self.log_values = log_values
        self.child = child
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
        """Return the pointwise product over the union of the scopes, in order of appearance."""
        scope = list(self.variables)
        for other in others:
            scope += [v for v in other.variables if v not in scope]
        total = self._aligned(scope)
        for other in others:
            total = total + other._aligned(scope)
        batch = total.shape[: total.dim() - len(scope)]
        return Factor(scope, total.expand([*batch, *_shape(scope)]))

    def marginalize(self, names: Iterable[Hashable]) -> Factor:
        r"""Return :math:`\sum_{x \in names} \phi`, the named variables summed out.

        Raises:
            EvidenceError: If a name is not in the scope.
        """
        axes, kept = self._split(names)
        return Factor(kept, logsumexp(self.log_values, axes)) if axes else self

    def maximize(self, names: Iterable[Hashable]) -> Factor:
        """Return the maximum over the named variables; one of tied entries gets the gradient.

        Raises:
            EvidenceError: If a name is not in the scope.
        """
        axes, kept = self._split(names)
        if not axes:
            return self
        remaining = [axis for axis in range(self.log_values.dim()) if axis not in axes]
        table = self.log_values.permute([*remaining, *axes]).flatten(start_dim=len(remaining))
        return Factor(kept, table.max(dim=-1).values)

    def condition(self, states: Mapping[Hashable, int | Tensor]) -> Factor:
        """Return the table at given states: an index, or ``(B,)`` indices, one for each row.

        Names outside the scope are ignored. A ``(B,)`` index makes the result batched; a table
        that is batched already is read row by row.

        Raises:
            EvidenceError: If a state is not an integer index of its variable.
        """
        table, scope = self.log_values, list(self.variables)
        rows: dict[Hashable, Tensor] = {}
        for v in self.variables:
            if v.name not in states:
                continue
            index = check_states(v, states[v.name])
            if index.dim():
                rows[v.name] = index
                continue
            table = table.select(table.dim() - len(scope) + scope.index(v), int(index))
            scope.remove(v)
        return Factor([v for v in scope if v.name not in rows], _gather(table, scope, rows))

    def normalize(self) -> Factor:
        """Return the factor scaled to sum to one in each row (all ``-inf`` rows stay)."""
        axes, _ = self._split(self.names)
        total = logsumexp(self.log_values, axes, keepdim=True) if axes else self.log_values
        return Factor(self.variables, self.log_values - total.masked_fill(total.isneginf(), 0.0))

    def entropy(self) -> Tensor:
        r"""Return the entropy :math:`-\sum_x p(x) \log p(x)` in nats, ``(*batch)``.

        Of the table scaled to sum to one, :math:`p = \phi / \sum \phi`.
        """
        return self.cross_entropy(self)

    def cross_entropy(self, other: Factor) -> Tensor:
        r"""Return :math:`-\sum_x p(x) \log q(x)` in nats, ``(*batch)``; ``inf`` where q is zero.

        Args:
            other: A table :math:`q` over the same variables; both are scaled to sum to one.

        Raises:
            EvidenceError: If it is over other variables.
        """
        p, q = self.normalize(), other.normalize()._over(self.variables)
        axes, _ = self._split(self.names)
        terms = p.values * q.log_values
        terms = terms.masked_fill(p.log_values.isneginf().expand_as(terms), 0.0)
        return -terms.sum(axes) if axes else -terms

    def kl_divergence(self, other: Factor) -> Tensor:
        r"""Return :math:`\sum_x p(x) \log \frac{p(x)}{q(x)}` in nats, ``(*batch)``.

        Args:
            other: A table :math:`q` over the same variables; both are scaled to sum to one.

        Raises:
            EvidenceError: If it is over other variables.

        Example:
            >>> a = Variable("a", 2)
            >>> p, q = (Factor([a], torch.tensor(x).log()) for x in ([0.5, 0.5], [0.25, 0.75]))
            >>> p.kl_divergence(q)
            tensor(0.1438)
        """
        return self.cross_entropy(other) - self.entropy()

    def mutual_information(self, names: Iterable[Hashable]) -> Tensor:
        """Return the mutual information of some variables and the others, in nats, ``(*batch)``.

        Args:
            names: Names of some variables; the others are the remaining variables of the factor.

        Raises:
            EvidenceError: If a name is not in the scope.
        """
        joint = self.normalize()
        first = set(names)
        second = [n for n in self.names if n not in first]
        apart = joint.marginalize(first).entropy() + joint.marginalize(second).entropy()
        return apart - joint.entropy()

    def frame(self) -> Any:
        """Return a data frame with a row for each joint state and a column ``value``.

        Raises:
            ModelError: If it has rows of a batch, or is too large.
        """
        if self.batch_shape:
            raise ModelError(f"{self!r} has a table for each row", "make a frame of one of them")
        from pgnn.factors.table_frame import table_frame

        return table_frame(self.variables, self.values, across=False)

    def __str__(self) -> str:
        from pgnn.factors.table_frame import MAX_CELLS, table_text

        if self.batch_shape or not 0 < self.log_values.numel() <= MAX_CELLS:
            return repr(self)
        return table_text(repr(self), self.frame())

    def __repr__(self) -> str:
        batch = f", batch={self.batch_shape}" if self.batch_shape else ""
        return f"Factor({', '.join(repr(n) for n in self.names)}{batch})"

    def _over(self, variables: Sequence[Variable]) -> Factor:
        """The factor with its axes in the order of some variables, which are those of its scope."""
        if set(variables) != set(self.variables):
            raise EvidenceError(
                f"expected a factor over {[v.name for v in variables]}, got one over "
                f"{list(self.names)}"
            )
        first = self.log_values.dim() - len(self.variables)
        order = [first + self.variables.index(v) for v in variables]
        return Factor(variables, self.log_values.permute([*range(first), *order]))

    def _split(self, names: Iterable[Hashable]) -> tuple[list[int], list[Variable]]:
        removed = set(names)
        unknown = removed - set(self.names)
        if unknown:
            name = next(iter(unknown))
            raise EvidenceError(f"factor has no variable {name!r}{closest(name, self.names)}")
        first = self.log_values.dim() - len(self.variables)
        axes = [first + k for k, v in enumerate(self.variables) if v.name in removed]
        return axes, [v for v in self.variables if v.name not in removed]

    def _aligned(self, scope: Sequence[Variable]) -> Tensor:
        """The table with its axes in the order of ``scope``, size one where it has none."""
        first = self.log_values.dim() - len(self.variables)
        present = [v for v in scope if v in self.variables]
        order = [first + self.variables.index(v) for v in present]
        table = self.log_values.permute([*range(first), *order])
        sizes = [v.num_states if v in self.variables else 1 for v in scope]
        return table.reshape([*self.batch_shape, *sizes])


def _shape(scope: Sequence[Variable]) -> list[int]:
    return [v.num_states for v in scope]


def check_states(variable: Variable, states: int | Tensor) -> Tensor:
    """Return state indices as int64.

    Raises:
        EvidenceError: If they are not integers, or one is out of range; -1 is not a state.
    """
    index = torch.as_tensor(states)
    name, last = variable.name, variable.num_states - 1
    if index.is_floating_point() or index.is_complex():
        raise EvidenceError(f"states of {name!r} must be integer indices, got {index.dtype}")
    bad = (index < 0) | (index > last)
    if bool(bad.any()):
        raise EvidenceError(
            f"state index {index[bad][0].item()} of {name!r} is out of range 0..{last}",
            "leave a variable out where it was not observed",
        )
    return index.long()


def _gather(table: Tensor, scope: Sequence[Variable], rows: Mapping[Hashable, Tensor]) -> Tensor:
    """Select all row-wise indices at once, so that no intermediate tensor exceeds the result."""
    if not rows:
        return table
    first = table.dim() - len(scope)
    observed = [first + k for k, v in enumerate(scope) if v.name in rows]
    free = [first + k for k, v in enumerate(scope) if v.name not in rows]
    index = [rows[v.name].to(table.device) for v in scope if v.name in rows]
    if first:
        index.insert(0, torch.arange(table.shape[0], device=table.device))
    return table.permute([*range(first), *observed, *free])[tuple(index)]
