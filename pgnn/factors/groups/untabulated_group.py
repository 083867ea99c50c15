"""Single factors whose tables are computed on demand."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.factors.variable import Variable


class UntabulatedGroup(FactorGroup):
    """A factor whose parameters stay where they are; its table is computed given the evidence.

    Args:
        scope: ``(n,)`` indices of the elements of its unobserved discrete variables.
        parameters: Tensors on which the factor depends, of which it takes dtype and device.
        values: Observed values on which it depends, ``(B, ...)`` each.
        rows: ``(B,)`` if the factor differs by row, else ``()``.
        child: See :class:`FactorGroup`.
    """

    written_down: ClassVar[bool] = False

    def __init__(
        self,
        scope: Sequence[int] | NDArray[np.int64],
        parameters: Iterable[Tensor],
        values: Iterable[Tensor],
        rows: Sequence[int],
        child: int | None = None,
    ) -> None:
        parameters = list(parameters)
        tracked = torch.is_grad_enabled() and any(x.requires_grad for x in (*parameters, *values))
        floating = (p for p in parameters if p.dtype.is_floating_point)
        reference = next(floating, torch.zeros(0, dtype=torch.float64))
        empty = torch.zeros((*rows, 1, 0), dtype=reference.dtype, device=reference.device)
        super().__init__(np.asarray(scope).reshape(1, -1), empty.requires_grad_(tracked), child)

    @property
    def number_axes(self) -> int:
        """See :class:`FactorGroup`: an empty axis with dtype, device and ``requires_grad``."""
        return 1

    @property
    def merge_key(self) -> tuple[object, ...]:
        """Unique: never merged with other groups."""
        return (id(self),)

    @property
    @abstractmethod
    def variables(self) -> tuple[Variable, ...]:
        """The variables of the scope."""

    @property
    def num_entries(self) -> int:
        """Number of entries of the table of a row."""
        return math.prod(v.num_states for v in self.variables)

    def for_kernels(self) -> FactorGroup:
        """Return the table; see the base class.

        Raises:
            Intractable: If it has too many entries.
        """
        return self.as_tables()
