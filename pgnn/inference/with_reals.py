"""Posteriors of real and discrete variables."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

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
        """The frame of a batch, one row for each row of evidence."""
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
            str((name, *i)) if i else name
            for name, v in self.reals.items()
            for i in np.ndindex(*v.shape)
        ]

    def __getitem__(self, name: Hashable) -> Any:
        if isinstance(name, Hashable) and name in self.reals:
            return self.marginal(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[Hashable]:
        yield from super().__iter__()
        yield from self.reals

    def __len__(self) -> int:
        return super().__len__() + len(self.reals)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, Hashable) and name in self.reals)

    def __str__(self) -> str:
        shown = self.reals and self.num_rows
        # rounding a small negative number would give a negative zero
        first = (self.summary().round(4) + 0.0).to_string(max_rows=100) if shown else ""
        return "\n".join(filter(None, [first, super().__str__()]))
