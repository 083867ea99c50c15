"""Posteriors of real and discrete variables."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.variable import Variable
from pgnn.inference.posterior import Posterior

QUANTILES = (0.05, 0.5, 0.95)
"""Levels of the quantiles in a summary."""


class WithReals(Posterior):
    """A posterior of real and discrete variables.

    ``posterior["tau"]`` of a real variable has ``mean``, ``std`` and methods such as ``quantile``.

    Attributes:
        reals: The real targets by name.
        statistic_names: Columns of the summary.
    """

    reals: dict[Hashable, Variable]
    _draws: Mapping[Hashable, Tensor]
    _single: frozenset[Hashable] = frozenset()
    statistic_names: ClassVar[tuple[str, ...]] = ("mean", "std", "5%", "50%", "95%")

    def take(self, whole: Posterior, kept: Sequence[Variable] | None = None) -> None:
        """Copy an answer about discrete variables.

        Args:
            whole: The answer.
            kept: The variables to keep; all if not given.
        """
        variables, probabilities = whole.variables, whole.numbers[0]
        if kept is not None:
            parts = [whole.probs(v.name).reshape(whole.num_rows, -1) for v in kept]
            none = torch.zeros(whole.num_rows, 0, dtype=torch.float64)
            variables, probabilities = tuple(kept), torch.cat([none, *parts], dim=1)
        Posterior.__init__(
            self,
            variables,
            probabilities,
            whole.numbers[1],
            batched=whole.batched,
            kind=whole.kind,
            engine=whole.engine,
            diagnostics=whole.diagnostics,
            joint=whole.joint_of,
            index=whole.index,
        )

    def marginal(self, name: Hashable) -> Any:
        """Return the posterior of a real variable."""
        raise NotImplementedError

    def with_elements(self, by_array: Mapping[Hashable, Sequence[Any]]) -> Self:
        """Return the posterior with elements of arrays in place of the arrays.

        Args:
            by_array: Names such as ``("y", 3)`` by the name of the array.
        """
        answer, reals = copy.copy(self), dict[Hashable, Variable]()
        for array_name, array in self.reals.items():
            if array_name not in by_array:
                reals[array_name] = array
            for name in by_array.get(array_name, ()):
                reals[name] = array.element(*name[1:])
                answer._take_element(name, array)
        answer.reals = reals
        answer._single = self._single.union(*by_array.values())
        return answer

    def about(self, names: Sequence[Hashable]) -> Self:
        """Return the posterior of some targets, or of elements of arrays; see the base class."""
        discrete = [n for n in names if Posterior.__contains__(self, n)]
        elements: dict[Hashable, list[Hashable]] = {}
        for name in names:
            if name not in self.reals and isinstance(name, tuple) and self._has_element(name):
                elements.setdefault(name[0], []).append(name)
        part = super().about(discrete).with_elements(elements)
        part.reals = {n: part.reals[n] for n in names if n in part.reals}
        return part

    def with_computed(
        self, variables: Sequence[Variable], values: Mapping[Hashable, Tensor]
    ) -> Self:
        """Return the posterior with values that are computed from each of its draws as targets.

        Args:
            variables: The computed values, as real variables.
            values: ``(n, B, *shape)`` their values, ``NaN`` where a draw has none.
        """
        answer = copy.copy(self)
        answer.reals = {**self.reals, **{v.name: v for v in variables}}
        answer._draws = {**self._draws, **values}
        return answer

    def in_order(self, names: Sequence[Hashable]) -> Self:
        """Return the posterior with its real targets in the given order."""
        answer = copy.copy(self)
        first = {n: self.reals[n] for n in names if n in self.reals}
        answer.reals = {**first, **self.reals}
        return answer

    def _take_element(self, name: Any, array: Variable) -> None:
        """Add an element of a target, by a new mapping: the old one belongs to the original."""
        part = self._draws[array.name][(..., *name[1:])]
        self._draws = {**self._draws, name: part}

    def to_the_power(self, power: float) -> Posterior:
        """Return the posterior unchanged: the power is already part of its density."""
        return self

    @property
    def index_of_numbers(self) -> Any:
        """The names of all components of all real variables, as the index of a data frame."""
        import pandas as pd

        return pd.Index(self._names_of_numbers(), dtype=object, name="variable")

    def frame(self, *, steps: bool = False) -> Any:
        """Return the marginals of all variables as a data frame.

        Args:
            steps: See :class:`Posterior`; for discrete variables only.

        Returns:
            For one row of evidence: the :meth:`summary` of real variables, one row per component;
            the frame of :class:`Posterior` for discrete variables; for both, one row per state or
            component with index ``(variable, state)``. For a batch: columns ``(variable, state)``,
            and ``(variable, statistic)`` for real variables.
        """
        import pandas as pd

        if steps or not self.reals:
            return super().frame(steps=steps)
        if self.batched:
            return self._batch_frame()
        summary = self.summary()
        if not self.variables:
            return summary
        states = pd.MultiIndex.from_arrays(
            [summary.index, pd.Index([""] * len(summary), dtype=object)],
            names=["variable", "state"],
        )
        return pd.concat([super().frame(), summary.set_axis(states, axis=0)])

    def _batch_frame(self) -> Any:
        """Return the frame of a batch, one row for each row of evidence."""
        import pandas as pd

        states = super().frame()
        parts = [self.summary(row).stack() for row in range(self.num_rows)]
        if not parts:
            return states
        reals = pd.DataFrame([p.to_numpy() for p in parts], index=states.index)
        reals.columns = pd.MultiIndex.from_tuples(list(parts[0].index), names=states.columns.names)
        return pd.concat([states, reals], axis=1) if self.variables else reals

    def summary(self, row: int = 0) -> Any:
        """Return a data frame with a row for each component of each real variable.

        Args:
            row: Index of a row of the evidence.

        Returns:
            A column for each of :attr:`statistic_names`.
        """
        import pandas as pd

        tables = [torch.zeros(0, len(self.statistic_names), dtype=torch.float64)]
        for name in self.reals:
            values = [x.detach().double().reshape(-1) for x in self._statistics(name, row)]
            tables.append(torch.stack(values, dim=1))
        numbers = torch.cat(tables).numpy(force=True) + 0.0  # zero has no sign
        return pd.DataFrame(
            numbers, index=self.index_of_numbers, columns=list(self.statistic_names)
        )

    def _statistics(self, name: Hashable, row: int) -> Sequence[Tensor]:
        """Return the statistics of a variable in a row of evidence, in its shape."""
        marginal = self.marginal(name)
        statistics = [marginal.mean, marginal.std, *marginal.quantile(QUANTILES)]
        return [x[row] for x in statistics] if self.batched else statistics

    def _names_of_numbers(self) -> list[Any]:
        """The name of each component of each real variable, with its index if there are several."""
        return [
            str((name, *i)) if i else str(name) if name in self._single else name
            for name, v in self.reals.items()
            for i in np.ndindex(*v.shape)
        ]

    def __getitem__(self, name: Hashable) -> Any:
        if isinstance(name, Hashable) and name in self.reals:
            return self.marginal(name)
        if isinstance(name, tuple) and self._has_element(name):
            return self.with_elements({name[0]: [name]}).marginal(name)
        if not super().__contains__(name):
            known = [*self.variables, *self.reals.values()]
            raise unknown_variable(name, known, "variable of this posterior")
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[Hashable]:
        yield from super().__iter__()
        yield from self.reals

    def __len__(self) -> int:
        return super().__len__() + len(self.reals)

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name) or (isinstance(name, Hashable) and name in self.reals):
            return True
        return isinstance(name, tuple) and self._has_element(name)

    def _has_element(self, name: tuple[Any, ...]) -> bool:
        """Whether a tuple names an element of a real target."""
        array = self.reals.get(name[0]) if len(name) > 1 else None
        return array is not None and array.has_element(name[1:])

    def __str__(self) -> str:
        shown = self.reals and self.num_rows
        # rounding a small negative number would give a negative zero
        first = (self.summary().round(4) + 0.0).to_string(max_rows=100) if shown else ""
        return "\n".join(filter(None, [first, super().__str__()]))
