"""The contract of every local conditional p(child | parents)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pgnn.errors import ModelError, Unsupported
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable


class Conditional(nn.Module):
    r"""A local conditional :math:`p(x \mid \mathrm{pa}(x))`, the piece a directed model is made of.

    A subclass implements :meth:`distribution`; from it this class derives the table over whatever
    was not observed, by evaluating the distribution on the grid of the unobserved discrete
    parents. Subclasses whose table is cheaper to write down directly override :meth:`factor`.

    Args:
        child: The variable that is distributed.
        parents: The variables it depends on, in the order of the table's axes.

    Raises:
        ModelError: If a variable occurs twice.
    """

    def __init__(self, child: Variable, parents: Sequence[Variable] = ()) -> None:
        super().__init__()
        self.child = child
        self.parents = tuple(parents)
        names = [v.name for v in self.scope]
        if len(set(names)) != len(names):
            raise ModelError(f"conditional of {child.name!r} names a variable twice: {names}")

    @property
    def scope(self) -> tuple[Variable, ...]:
        """Parents in order, then the child: the axes of the table."""
        return (*self.parents, self.child)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the full table, ``(K_pa1, ..., K_child)``; discrete scopes only."""
        return tuple(v.num_states for v in self.scope)

    @property
    def num_free_parameters(self) -> int:
        """Number of numbers that may be chosen freely."""
        return sum(p.numel() for p in self.parameters())

    @abstractmethod
    def distribution(
        self, parents: Mapping[Hashable, Tensor], inputs: Mapping[Hashable, Tensor] | None = None
    ) -> Distribution:
        """Return the child's distribution given its parents.

        Args:
            parents: State indices (int64) of discrete and values of real parents, of one common
                batch shape ``(*batch)`` or ``(*batch, *event)``.
            inputs: Covariates by name, batch shape leading.

        Returns:
            A torch distribution of batch shape ``(*batch)``.
        """

    def factor(
        self,
        observed: Mapping[Hashable, Tensor] | None = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
    ) -> Factor:
        r"""Return the log table over the variables that are not observed.

        Args:
            observed: Values of some variables, ``(B,)`` state indices or ``(B, *event)`` reals;
                names outside this conditional are ignored.
            inputs: Covariates by name, ``(B, ...)``.

        Returns:
            ``Factor`` over the unobserved scope (parents first, child last) with log
            probabilities; its batch shape is ``(B,)`` if anything observed or an input matters,
            else ``()``.

        Raises:
            Unsupported: If an unobserved variable is real, so that there is no table.

        Cost:
            One evaluation of :meth:`distribution` on ``B`` times the number of unobserved parent
            configurations.
        """
        seen = {v.name: observed[v.name] for v in self.scope if observed and v.name in observed}
        free = [v for v in self.scope if v.name not in seen]
        for v in free:
            if not v.is_discrete:
                raise Unsupported(
                    f"{v.name!r} is real and not observed, so the conditional of "
                    f"{self.child.name!r} has no table; observe it or use a sampling engine"
                )
        return Factor(free, self._grid_log_prob(seen, free, inputs))

    def _grid_log_prob(
        self,
        seen: Mapping[Hashable, Tensor],
        free: Sequence[Variable],
        inputs: Mapping[Hashable, Tensor] | None,
    ) -> Tensor:
        """Log probabilities ``(*batch, K_free...)``, flattening batch and grid into one axis."""
        grid = [v for v in free if v.name != self.child.name]
        shape = [v.num_states for v in grid]
        cells = math.prod(shape)
        batch = _batch_size(seen, inputs)
        rows = 1 if batch is None else batch
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        index = torch.arange(cells, device=device)
        values: dict[Hashable, Tensor] = {}
        for axis, v in enumerate(grid):
            inner = math.prod(shape[axis + 1 :])
            values[v.name] = ((index // inner) % shape[axis]).repeat(rows)
        for name, value in seen.items():
            values[name] = value.repeat_interleave(cells, dim=0)
        covariates = {k: x.repeat_interleave(cells, dim=0) for k, x in (inputs or {}).items()}
        child = self.child.name
        parents = {v.name: values[v.name] for v in self.parents}
        dist = self.distribution(parents, covariates or None)
        if child in seen:
            log_prob = dist.log_prob(values[child]).expand(rows * cells)
        else:
            states = torch.arange(self.child.num_states, device=device)
            log_prob = dist.log_prob(states.reshape(-1, 1)).expand(-1, rows * cells).t()
            shape = [*shape, self.child.num_states]
        return log_prob.reshape(shape if batch is None else [rows, *shape])


def _batch_size(*groups: Mapping[Hashable, Tensor] | None) -> int | None:
    for group in groups:
        for value in (group or {}).values():
            return int(value.shape[0])
    return None
