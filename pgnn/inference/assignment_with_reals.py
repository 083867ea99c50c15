"""Most probable values of real variables, together with the states of discrete ones."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.factors.variable import Variable
from pgnn.inference.assignment import Assignment, KBest


class AssignmentWithReals(Assignment):
    r"""States of discrete variables and values of real ones, :math:`\arg\max_{j, x} p(j, x, e)`.

    ``best["x"]`` of a real variable is a tensor ``(*shape)`` or ``(B, *shape)``, ``NaN`` where it
    has no value. ``log_prob`` is a log density.

    Args:
        reals: ``(B, *shape)`` values of the real variables by name.
        variables: The discrete variables.
        states: See :class:`~pgnn.inference.assignment.Assignment`.
        log_prob: ``(B,)`` log densities, evidence included.
        **rest: See :class:`~pgnn.inference.assignment.Assignment`.

    Example:
        >>> import torch
        >>> rain = Variable("rain", ["no", "yes"])
        >>> best = AssignmentWithReals({"height": torch.tensor([2.5])}, [rain], torch.tensor([[1]]),
        ...                            torch.tensor([-0.5]), batched=False)
        >>> best["rain"], best["height"]
        ('yes', tensor(2.5000))
    """

    def __init__(
        self,
        reals: Mapping[Hashable, Tensor],
        variables: Sequence[Variable],
        states: Tensor,
        log_prob: Tensor,
        **rest: Any,
    ) -> None:
        super().__init__(variables, states, log_prob, **rest)
        self.reals = dict(reals)

    def __getitem__(self, name: Hashable) -> Any:
        if isinstance(name, Hashable) and name in self.reals:
            return self.reals[name] if self.batched else self.reals[name][0]
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[Hashable]:
        yield from super().__iter__()
        yield from self.reals

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, Hashable) and name in self.reals)

    def __len__(self) -> int:
        return super().__len__() + len(self.reals)

    def frame(self, *, steps: bool = False) -> Any:
        """Return a data frame with one column per element and per component, see the base class.

        Args:
            steps: See :class:`Assignment`; for discrete variables only.
        """
        frame = super().frame(steps=steps)
        return frame if steps else _with_numbers(frame, self.reals)

    def table(self, row: int = 0) -> str:
        """Return one row as text."""
        lines = []
        for name, x in self.reals.items():
            numbers = np.array2string(x[row].numpy(force=True), precision=6, threshold=20)
            lines.append(f"{name}  " + numbers.replace("\n", "\n" + " " * (len(str(name)) + 2)))
        states = super().table(row)
        rest = states if self.variables else states.rpartition("\n")[2]  # its last line
        return "\n".join([*lines, rest])


class KBestWithReals(KBest):
    """The most probable states of discrete variables, with the best values of real ones given each.

    Args:
        reals: ``(B, k, *shape)`` values of the real variables by name.
        variables: The discrete variables.
        states: See :class:`~pgnn.inference.assignment.KBest`.
        log_prob: ``(B, k)`` log densities, in decreasing order.
        **rest: See :class:`~pgnn.inference.assignment.KBest`.
    """

    def __init__(
        self,
        reals: Mapping[Hashable, Tensor],
        variables: Sequence[Variable],
        states: Tensor,
        log_prob: Tensor,
        **rest: Any,
    ) -> None:
        super().__init__(variables, states, log_prob, **rest)
        self._reals = {n: x[:, : len(self)] for n, x in reals.items()}

    def frame(self) -> Any:
        """Return the data frame of the base class with additional columns for the real values."""
        return _with_numbers(super().frame(), {n: x.flatten(0, 1) for n, x in self._reals.items()})

    def _at(self, k: int) -> Assignment:
        return AssignmentWithReals(
            {n: x[:, k] for n, x in self._reals.items()},
            self.variables,
            self._states[:, k],
            self._log_prob[:, k],
            batched=self.batched,
            index=self._index,
        )


def _with_numbers(frame: Any, reals: Mapping[Hashable, Tensor]) -> Any:
    """Return the frame with a column for each component of each real variable."""
    for name, values in reals.items():
        numbers = values.detach().numpy(force=True)
        for place in np.ndindex(*numbers.shape[1:]):
            frame[(name, *place) if place else name] = numbers[(slice(None), *place)]
    return frame
