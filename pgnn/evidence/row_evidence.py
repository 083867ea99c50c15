"""Evidence as arrays for the engines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.evidence import Evidence
from pgnn.factors.finite import all_finite
from pgnn.factors.sparse_rows import taken

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class RowEvidence(Evidence):
    """Evidence in ``B`` rows as arrays, which questions, learners and samplers use.

    Attributes:
        codes: ``(B, E)`` int32 state indices of the elements of the discrete variables, in order
            (without arrays, of the variables); -1 if not observed or observed softly.
        batched: Whether the findings were given in rows. If not, ``B`` is 1 and answers have batch
            shape ``()``.
        soft: ``(B, S)`` likelihoods of the concatenated states of all elements, each scaled so that
            the largest entry is one; ones where there is none. ``None`` if no finding is soft.
        soft_scale: ``(B,)`` sum of the log scales removed from ``soft``.
        soft_tensors: ``(B, *shape, K)`` unscaled likelihoods of the variables whose likelihoods are
            tensors that require a gradient; ones where not observed.
        reals: ``(B, *event)`` values of real variables; ``NaN`` where not observed.
        names: Variables observed in at least one row (arrays: in at least one element), discrete
            ones in order, then real ones.
        index: Index of the data frame, if the evidence was one.
        weights: ``(B,)`` weight of each row in learning; ones if ``None``.
        inputs: ``(B, ...)`` covariates by name in learning.
        whole: Real variables known to have no missing elements.
    """

    codes: NDArray[np.int32]
    batched: bool
    soft: Floats | None
    soft_scale: Floats
    soft_tensors: Mapping[Hashable, Tensor] = field(default_factory=dict)
    reals: Mapping[Hashable, Tensor] = field(default_factory=dict)
    names: tuple[Hashable, ...] = ()
    index: Any = None
    weights: Floats | None = None
    inputs: Mapping[Hashable, Tensor] = field(default_factory=dict)
    whole: tuple[Hashable, ...] = ()

    def fully_observes(self, name: Hashable) -> bool:
        """Return whether a real variable is fully observed in every row."""
        return name in self.whole or (name in self.reals and all_finite(self.reals[name]))

    @property
    def num_rows(self) -> int:
        """Number of rows ``B``; 1 if not batched."""
        return int(self.codes.shape[0])

    @property
    def rowwise(self) -> bool:
        """Whether tables may depend on the row."""
        return bool(self.reals or self.inputs)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """``(B,)`` mask of rows without missing states."""
        return np.asarray((self.codes >= 0).all(axis=1))

    @property
    def requires_grad(self) -> bool:
        """Whether a value, or a likelihood, requires a gradient."""
        return bool(self.soft_tensors) or any(x.requires_grad for x in self.reals.values())

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows."""
        return not self.num_rows

    def check_rows(self) -> None:
        """Check that there are rows, for answers that are found row by row.

        Raises:
            EvidenceError: If there are none.
        """
        if not self.num_rows:
            raise EvidenceError(
                "expected evidence with at least one row, got none; unknown real numbers are found "
                "for each row, so that there is no answer"
            )

    def told_apart(self, offset: Ints) -> NDArray[np.bool_]:
        """Return ``(E,)`` whether states of elements are observed, or their likelihoods differ.

        Likelihoods that are the same in all rows do not tell rows apart.

        Args:
            offset: First columns of the states of each element, see :attr:`Elements.offset`.
        """
        known = np.asarray((self.codes >= 0).any(axis=0))
        if self.soft is not None:
            differs = (self.soft != self.soft[:1]).any(axis=0)
            known |= np.logical_or.reduceat(differs, offset[:-1])
        return known

    def take(self, rows: Ints) -> RowEvidence:
        """Return some of the rows."""
        index = torch.from_numpy(rows)

        def rows_of(values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
            return {n: taken(x, index) for n, x in values.items()}

        return replace(
            self,
            codes=np.ascontiguousarray(self.codes[rows]),
            batched=True,
            soft=None if self.soft is None else self.soft[rows],
            soft_scale=self.soft_scale[rows],
            soft_tensors=rows_of(self.soft_tensors),
            reals=rows_of(self.reals),
            index=None if self.index is None else self.index[rows],
            weights=None if self.weights is None else self.weights[rows],
            inputs=rows_of(self.inputs),
        )

    def merged(self) -> RowEvidence:
        """Return the distinct rows, each with the total weight of its duplicates."""
        if self.rowwise or self.soft is not None or self.num_rows == 1:
            return self
        codes, place = np.unique(self.codes, axis=0, return_inverse=True)
        weights = np.bincount(place.ravel(), self.row_weights, len(codes)).astype(np.float64)
        zeros = np.zeros(len(codes))
        return replace(self, codes=codes, soft_scale=zeros, weights=weights, index=None)

    def tiled(self, times: int) -> RowEvidence:
        """Return repeated rows, one block of all rows after the other."""

        def repeated(x: Tensor) -> Tensor:
            once = len(x) == 1
            return x.expand(times, *x.shape[1:]) if once else x.repeat(times, *[1] * (x.dim() - 1))

        return replace(
            self,
            codes=np.tile(self.codes, (times, 1)),
            batched=True,
            soft=None if self.soft is None else np.tile(self.soft, (times, 1)),
            soft_scale=np.tile(self.soft_scale, times),
            soft_tensors={n: repeated(x) for n, x in self.soft_tensors.items()},
            reals={n: repeated(x) for n, x in self.reals.items()},
            weights=None if self.weights is None else np.tile(self.weights, times),
            inputs={n: repeated(x) for n, x in self.inputs.items()},
        )

    def over(self, inputs: Mapping[Hashable, Tensor] | None) -> RowEvidence:
        """Return the evidence expanded to the rows of the inputs.

        Findings without rows are repeated; inputs ``(B, ...)`` turn the answer into a batch.

        Raises:
            EvidenceError: If numbers of rows of evidence and inputs disagree.
        """
        first, rows = "the evidence", self.num_rows if self.batched else None
        for name, value in (inputs or {}).items():
            size = len(value) if np.ndim(value) else None
            if size is None or (rows is not None and size != rows):
                what = (
                    "no first axis for rows"
                    if size is None
                    else f"{size} rows but {first} has {rows}"
                )
                raise EvidenceError(f"input {name!r} has {what}", "give it the shape (B, ...)")
            first, rows = f"input {name!r}", size
        return self if rows is None or self.batched else self.tiled(rows)

    def filled(self, constants: Mapping[Hashable, Tensor]) -> RowEvidence:
        """Return the evidence with values of real variables where they were not observed.

        Observed values that are a constant in single precision become the constant.

        Args:
            constants: ``(*event)`` by name.
        """
        if not constants:
            return self
        reals = dict(self.reals)
        for name, value in constants.items():
            known = self.reals.get(name)
            every = value.expand(self.num_rows, *value.shape)
            if known is None:
                reals[name] = every
                continue
            rounded = (known == value.float()) | (known.float() == value)
            same = known + (every - known).detach()  # passes gradients to what was observed
            reals[name] = torch.where(known.isnan(), every, torch.where(rounded, same, known))
        names = dict.fromkeys((*self.names, *constants))
        return replace(self, reals=reals, names=(*names,), whole=(*self.whole, *constants))

    def soft_elements(self) -> Mapping[Hashable, Tensor]:
        """Return :attr:`soft_tensors` of each element, ``(B, K)``, by its name."""
        single: dict[Hashable, Tensor] = {}
        for name, table in self.soft_tensors.items():
            if table.dim() == 2:
                single[name] = table
            else:
                for index in np.ndindex(*table.shape[1:-1]):
                    single[(name, *index)] = table[:, *index]
        return single
