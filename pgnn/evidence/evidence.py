"""What was seen, as arrays for the engines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What was seen in each of ``B`` rows, as arrays.

    Attributes:
        codes: ``(B, E)`` int32 state indices of the elements of the discrete variables, in order
            (without arrays, of the variables); -1 where one was not seen, or only softly.
        batched: Whether the findings came in rows. If not, ``B`` is 1 and answers have batch
            shape ``()``.
        soft: ``(B, S)`` likelihoods, the states of all elements side by side, each element's
            scaled to a largest entry of one; ones where there is none. ``None`` if no finding is
            soft.
        soft_scale: ``(B,)`` logarithms of the scales taken out of ``soft``, summed.
        soft_tensors: ``(B, *shape, K)`` unscaled likelihoods of the variables whose likelihoods
            came as tensors that want a gradient; ones where nothing was seen.
        reals: ``(B, *event)`` values of real variables; ``NaN`` where not seen.
        names: Variables that are seen in at least one row, arrays if one of their elements is:
            discrete ones in order, then real ones.
        index: The data frame's index, if the evidence was one.
    """

    codes: NDArray[np.int32]
    batched: bool
    soft: NDArray[np.float64] | None
    soft_scale: NDArray[np.float64]
    soft_tensors: Mapping[Hashable, Tensor] = field(default_factory=dict)
    reals: Mapping[Hashable, Tensor] = field(default_factory=dict)
    names: tuple[Hashable, ...] = ()
    index: Any = None

    @property
    def num_rows(self) -> int:
        """Number of rows ``B``; 1 if nothing was batched."""
        return int(self.codes.shape[0])

    def tiled(self, times: int) -> Evidence:
        """Return the rows so many times, one block after the other."""

        def own(x: Tensor) -> Tensor:
            once = len(x) == 1
            return x.expand(times, *x.shape[1:]) if once else x.repeat(times, *[1] * (x.dim() - 1))

        return replace(
            self,
            codes=np.tile(self.codes, (times, 1)),
            batched=True,
            soft=None if self.soft is None else np.tile(self.soft, (times, 1)),
            soft_scale=np.tile(self.soft_scale, times),
            soft_tensors={n: own(x) for n, x in self.soft_tensors.items()},
            reals={n: own(x) for n, x in self.reals.items()},
        )

    def soft_elements(self) -> Mapping[Hashable, Tensor]:
        """:attr:`soft_tensors` of each element on its own, ``(B, K)``, by its name."""
        single: dict[Hashable, Tensor] = {}
        for name, table in self.soft_tensors.items():
            if table.dim() == 2:
                single[name] = table
            else:
                for index in np.ndindex(*table.shape[1:-1]):
                    single[(name, *index)] = table[:, *index]
        return single


def over_inputs(seen: Evidence, inputs: Mapping[Hashable, Tensor] | None) -> Evidence:
    """Return evidence with a row for each row of the inputs.

    Findings that hold for all rows are repeated; inputs ``(B, ...)`` make the answer a batch.

    Raises:
        EvidenceError: If the evidence, or another input, has another number of rows.
    """
    first, rows = "the evidence", seen.num_rows if seen.batched else None
    for name, value in (inputs or {}).items():
        size = len(value) if np.ndim(value) else None
        if size is None or (rows is not None and size != rows):
            what = (
                "no first axis for rows" if size is None else f"{size} rows but {first} has {rows}"
            )
            raise EvidenceError(f"input {name!r} has {what}; give it the shape (B, ...)")
        first, rows = f"input {name!r}", size
    if rows is None or seen.batched:
        return seen
    return seen.tiled(rows)
