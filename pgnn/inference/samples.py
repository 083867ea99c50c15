"""Samples from a model, as tensors or as a data frame of labels."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, counted
from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.evidence.wrappers import CodedMapping
from pgnn.factors.variable import Variable
from pgnn.inference.answer_columns import AnswerColumns
from pgnn.inference.answer_frames import (
    at_a_step,
    by_step,
    label_frame,
    nested_index,
    num_steps_of,
    plain_index,
    row_index,
    step_index,
)


class Samples(CodedMapping):
    """``n`` samples of every variable, for each row of evidence if the evidence is a batch.

    A mapping from a discrete variable to ``(n,)`` or ``(n, B)`` int64 state indices, from an array
    of variables to ``(n, *shape)`` or ``(n, B, *shape)``, and from a real variable to ``(n,
    *event)`` or ``(n, B, *event)`` values. Samples can therefore be used as evidence or data.
    ``len`` counts variables, as for every mapping; :attr:`num_samples` is ``n``.

    Args:
        variables: The sampled variables, in the order of the columns of a data frame.
        codes: ``(n, E)`` or ``(n, B, E)`` int64 state indices of the elements of the discrete
            variables, in order; -1 in rows that have no answer.
        reals: Values of the real variables, by name.
        batched: Whether the evidence came in rows.
        index: The data frame's index, if the evidence was one.
        log_weights: ``(n,)`` or ``(n, B)`` log weights, if the samples are weighted (importance
            sampling): an average is then ``(w * f).sum(0) / w.sum(0)`` with ``w =
            log_weights.exp()``.

    Raises:
        EvidenceError: If the shapes do not fit the variables.

    Example:
        >>> import torch
        >>> rain, wet = Variable("rain", ["no", "yes"]), Variable("wet", ["no", "yes"])
        >>> samples = Samples([rain, wet], torch.tensor([[0, 0], [1, 1], [0, 1]]))
        >>> samples["wet"]
        tensor([0, 1, 1])
        >>> print(samples.frame())
          rain  wet
        0   no   no
        1  yes  yes
        2   no  yes
    """

    __hash__ = object.__hash__

    def __init__(
        self,
        variables: Sequence[Variable],
        codes: Tensor,
        reals: Mapping[Hashable, Tensor] | None = None,
        *,
        batched: bool = False,
        index: Any = None,
        log_weights: Tensor | None = None,
    ) -> None:
        self.variables = tuple(variables)
        self.discrete = tuple(v for v in self.variables if v.is_discrete)
        self.codes = codes
        self.batched = batched
        self._reals = dict(reals or {})
        self.log_weights = log_weights
        self._index = index
        self._check()

    @property
    def num_samples(self) -> int:
        """Number of samples ``n`` (for each row of evidence)."""
        return int(self.codes.shape[0])

    def frame(self, *, steps: bool = False) -> Any:
        """Return a data frame with one column per variable; labels are ordered like the states.

        Args:
            steps: Whether each position along the first axis of the arrays (time, in models over
                time) has its own row: index ``(sample, step)``, for a batch ``(sample, row,
                step)``.

        Returns:
            One row per sample; for a batch with index ``(sample, row)``. Each element of an array
            of discrete variables has a column, such as ``("pixel", 3, 4)``; cells of a real
            variable with a shape are arrays. Weighted samples have a column ``log_weight``.

        Raises:
            EvidenceError: With ``steps``, if the variables do not share a first axis.
        """
        import pandas as pd

        if steps:
            return self._with_steps().frame()
        flat = self.codes.flatten(end_dim=-2)
        index = None
        if self.batched:
            n, rows = self.codes.shape[:2]
            index = nested_index(pd.RangeIndex(n, name="sample"), row_index(self._index, rows))
        frame = label_frame(self.discrete, flat, index)
        if len(self.discrete) < len(self.variables):
            frame = self._with_reals(frame)
        if self.log_weights is not None:
            frame["log_weight"] = self.log_weights.detach().cpu().reshape(-1).numpy()
        return frame

    def _with_steps(self) -> Samples:
        """Return the samples with one row per step."""
        import pandas as pd

        size, variables = num_steps_of(self.variables), at_a_step(self.variables)
        lead = self.codes.shape[:-1]
        rows = int(lead[1]) if self.batched else 1
        steps = [by_step(self[v.name], v, size, len(lead)) for v in self.discrete]
        parts = [x.reshape(*lead, size, -1) for x in steps]
        codes = torch.cat([self.codes.new_zeros((*lead, size, 0)), *parts], dim=-1)
        shape = (self.num_samples, rows * size)
        reals = {}
        for v in (v for v in self.variables if not v.is_discrete):
            x = by_step(self[v.name], v, size, len(lead))
            reals[v.name] = x.reshape(*shape, *x.shape[len(lead) + 1 :])
        weights = self.log_weights
        if weights is not None:
            weights = weights.unsqueeze(-1).expand(*lead, size).reshape(shape)
        index = pd.RangeIndex(size, name="step")
        if self.batched:
            index = step_index(size, rows, self._index)
        codes = codes.reshape(*shape, codes.shape[-1])
        return Samples(variables, codes, reals, batched=True, index=index, log_weights=weights)

    def _with_reals(self, frame: Any) -> Any:
        """Return the columns of all variables, in order."""
        import pandas as pd

        columns, names, column = [], [], 0
        for v in self.variables:
            element_names = [single.name for single in v.elements()] if v.is_discrete else [v.name]
            names += element_names
            if v.is_discrete:
                columns += [frame.iloc[:, column + k] for k in range(len(element_names))]
                column += len(element_names)
            else:
                columns.append(pd.Series(self._cells(v), index=frame.index))
        table = pd.concat(columns, axis=1)
        table.columns = plain_index(names)
        return table

    def __getitem__(self, name: Hashable) -> Tensor:
        if isinstance(name, Hashable) and name in self._reals:
            return self._reals[name]
        if isinstance(name, tuple) and self._has_element(name):
            return self._reals[name[0]][(slice(None),) * (self.codes.dim() - 1) + name[1:]]
        if name not in self._columns:
            raise unknown_variable(name, self.variables, "variable of these samples")
        return self._columns.cut(self.codes, name)

    def __iter__(self) -> Iterator[Hashable]:
        return iter([v.name for v in self.variables])

    def __contains__(self, name: object) -> bool:
        known = name in self._columns or (isinstance(name, Hashable) and name in self._reals)
        return known or (isinstance(name, tuple) and self._has_element(name))

    def __len__(self) -> int:
        return len(self.variables)

    def __eq__(self, other: object) -> bool:
        return self is other

    def first(self, n: int) -> Samples:
        """Return the first samples."""
        reals = {name: x[:n] for name, x in self._reals.items()}
        weights = None if self.log_weights is None else self.log_weights[:n]
        return Samples(
            self.variables,
            self.codes[:n],
            reals,
            batched=self.batched,
            index=self._index,
            log_weights=weights,
        )

    def without(self, names: Collection[Hashable]) -> Samples:
        """Return the samples of all variables but some real ones."""
        return Samples(
            [v for v in self.variables if v.is_discrete or v.name not in names],
            self.codes,
            {name: x for name, x in self._reals.items() if name not in names},
            batched=self.batched,
            index=self._index,
            log_weights=self.log_weights,
        )

    def _repr_html_(self) -> str:
        from pgnn.inference.answer_html import samples_html

        return samples_html(self)

    def __repr__(self) -> str:
        rows = f" for each of {counted(int(self.codes.shape[1]), 'row')}" if self.batched else ""
        weighted = "" if self.log_weights is None else ", weighted"
        return f"<Samples: {self.num_samples} of {counted(len(self), 'variable')}{rows}{weighted}>"

    @cached_property
    def _columns(self) -> AnswerColumns:
        return AnswerColumns(self.discrete, "these samples")

    def _has_element(self, name: tuple[Any, ...]) -> bool:
        """Whether a tuple names an element of a real variable."""
        whole = (
            next((v for v in self.variables if v.name == name[0]), None) if len(name) > 1 else None
        )
        return whole is not None and whole.name in self._reals and whole.has_element(name[1:])

    def _cells(self, variable: Variable) -> Any:
        values = self._reals[variable.name].detach().cpu()
        flat = values.reshape(-1, *variable.shape).numpy()
        return list(flat) if variable.shape else flat

    def _check(self) -> None:
        lead = tuple(self.codes.shape[:-1])
        axes = 2 if self.batched else 1
        width = sum(v.num_elements for v in self.discrete)
        if len(lead) != axes or self.codes.shape[-1] != width:
            expected = f"(n, B, {width})" if self.batched else f"(n, {width})"
            raise EvidenceError(
                f"codes of samples of {len(self.discrete)} discrete variables must have shape "
                f"{expected}, got {tuple(self.codes.shape)}"
            )
        if self.log_weights is not None and tuple(self.log_weights.shape) != lead:
            raise EvidenceError(
                f"log weights must have shape {lead}, got {tuple(self.log_weights.shape)}"
            )
        for v in self.variables:
            if v.is_discrete:
                continue
            shape = tuple(self._reals[v.name].shape) if v.name in self._reals else None
            if shape != (*lead, *v.shape):
                raise EvidenceError(
                    f"samples of real variable {v.name!r} must have shape {(*lead, *v.shape)}, got "
                    f"{shape}"
                )
