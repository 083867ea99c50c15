"""Data frames of answers about real and discrete variables with a row for each step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.inference.answer_frames import num_steps_of, step_index, within
from pgnn.inference.with_reals import WithReals


class RealsAtSteps(WithReals):
    """A posterior of real and discrete variables at every step."""

    @abstractmethod
    def _at_steps(self, name: Hashable) -> Sequence[Tensor]:
        """Return the statistics of a real variable, ``(T, *event)`` or ``(B, T, *event)`` each."""

    @property
    def num_steps(self) -> int:
        """Length of the first axis that all arrays share, real ones as well."""
        return num_steps_of([*self.variables, *self.reals.values()])

    def frame(self, *, steps: bool = False) -> Any:
        """Return the marginals of all variables as a data frame; see the base class.

        Args:
            steps: Whether to have a row for each step, with columns ``(variable, state)`` and
                ``(variable, statistic)`` of real ones.
        """
        if not steps or not self.reals:
            return super().frame(steps=steps)
        import pandas as pd

        columns: dict[tuple[Hashable, str], Any] = {}
        for name, v in self.reals.items():
            for statistic, x in zip(self.statistic_names, self._at_steps(name), strict=True):
                numbers = x.detach().reshape(-1, *v.shape[1:]).numpy(force=True)
                for place in np.ndindex(*v.shape[1:]):
                    single = str((name, *place)) if place else name
                    columns[single, statistic] = numbers[(slice(None), *place)]
        index = step_index(self.num_steps, self.num_rows if self.batched else None, self.index)
        reals = within(pd.DataFrame(columns, index=index), self.num_steps, self.lengths)
        return pd.concat([super().frame(steps=True), reals], axis=1) if self.variables else reals
