"""A table whose missing cells are found by the reader of evidence, and filled in."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.evidence.frames import frame_columns
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.wrappers import observed
from pgnn.factors.variable import Variable
from pgnn.inference.model_reader import reader_of

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class TableColumn:
    """A column of a table.

    Attributes:
        position: Its position in the table.
        variable: The variable that it belongs to.
        place: Index of the element that it holds; None if it holds the variable as a whole.
    """

    position: int
    variable: Variable
    place: tuple[int, ...] | None


class TableWithHoles:
    """A table, and which of its cells are missing by the rule for evidence.

    Args:
        model: The model of the columns.
        frame: A data frame of pandas.
        ignore: Columns that are not variables.

    Attributes:
        frame: The data frame.
        evidence: Its cells as arrays; codes -1 and numbers ``NaN`` are missing. Real variables
            that have only one value are never missing.
        columns: Its columns without those that are ignored.

    Raises:
        EvidenceError: If a column is not a variable, or a value not a state.

    Example:
        >>> import pandas, pgnn
        >>> model = pgnn.BayesianNetwork([], {"wet": [0.2, 0.8]}, states={"wet": ["no", "yes"]})
        >>> table = TableWithHoles(model, pandas.DataFrame({"wet": ["no", None]}))
        >>> table.filled({"wet": np.array([0, 1])}, {})["wet"].tolist()
        ['no', 'yes']
    """

    def __init__(self, model: Any, frame: Any, ignore: Collection[Hashable] = ()) -> None:
        reader = reader_of(model)
        self.model, self.frame = model, frame
        self._given = reader.read_given(observed(frame, ignore=ignore))
        self.evidence: RowEvidence = reader.read(self._given)
        names = [name for name, _ in frame_columns(frame)]
        known = [k for k, name in enumerate(names) if name not in ignore]
        places = reader.places([names[k] for k in known])
        self.columns = [self._column(k, places[names[k]]) for k in known]

    def has_holes(self, *, discrete: bool) -> set[Hashable]:
        """Return the names of the discrete or real variables with a missing cell in the table."""
        return {
            c.variable.name
            for c in self.columns
            if c.variable.is_discrete == discrete and self._holes(c).any()
        }

    def with_states(self, states: Mapping[Hashable, Any]) -> RowEvidence:
        """Return the evidence with missing states filled in where they have a column.

        Args:
            states: ``(N, *shape)`` state indices by name of the variable.
        """
        codes = self.evidence.codes.copy()
        for c in self.columns:
            if c.variable.name in states:
                numbers = self._numbers(c).reshape(-1)
                new = self._part(c, states[c.variable.name]).reshape(len(codes), -1)
                hole = self._holes(c).reshape(len(codes), -1)
                codes[:, numbers] = np.where(hole, new, codes[:, numbers])
        known = {*self.evidence.names, *(c.variable.name for c in self.columns if len(codes))}
        names = [v.name for v in self.model.elements.variables if v.name in known]
        return replace(self.evidence, codes=codes, names=(*names, *self.evidence.reals))

    def filled(self, states: Mapping[Hashable, Any], numbers: Mapping[Hashable, Any]) -> Any:
        """Return the table with its missing cells filled.

        Args:
            states: ``(N, *shape)`` state indices of discrete variables by name.
            numbers: ``(N, *shape)`` values of real variables by name.
        """
        import pandas as pd

        columns = [self.frame.iloc[:, k] for k in range(self.frame.shape[1])]
        for c in self.columns:
            new = (states if c.variable.is_discrete else numbers).get(c.variable.name)
            hole = self._holes(c)
            if new is None or not hole.any():
                continue
            new, old = self._part(c, np.asarray(new)), columns[c.position]
            if not c.variable.is_discrete:
                cells = _with_numbers(old, self._real(c), new, hole)
            else:
                codes = self.evidence.codes[:, self._numbers(c)]
                cells = _with_labels(c.variable, old, np.where(hole, new, codes), hole)
            columns[c.position] = pd.Series(cells, index=self.frame.index)
        table = pd.concat(columns, axis=1) if columns else self.frame.copy()
        table.columns = self.frame.columns
        return table

    def _column(self, position: int, name: Hashable) -> TableColumn:
        variables = self.model.variables
        if name in variables:
            return TableColumn(position, variables[name], None)
        place: Any = name[1:] if isinstance(name, tuple) else ()
        return TableColumn(position, variables[name[0]], place)  # type: ignore[index]

    def _numbers(self, column: TableColumn) -> Any:
        """Return the indices of the elements that are in a column, in their shape."""
        numbers = self.model.elements.numbers(column.variable.name)
        return numbers if column.place is None else np.asarray(numbers[column.place])

    def _part(self, column: TableColumn, values: Any) -> Any:
        """Return the part of ``(N, *shape)`` values that a column holds."""
        return values if column.place is None else values[:, *column.place]

    def _real(self, column: TableColumn) -> Any:
        """Return the numbers of a column, ``NaN`` where missing."""
        v, rows = column.variable, self.evidence.num_rows
        known = self._given.reals.get(v.name)
        if known is None:
            return self._part(column, np.full((rows, *v.shape), np.nan))
        return self._part(column, known.detach().to_dense().double().numpy(force=True))

    def _holes(self, column: TableColumn) -> Mask:
        """``(N,)``, or ``(N, *shape)`` for arrays in cells: which values are missing."""
        if not column.variable.is_discrete:
            return np.asarray(np.isnan(self._real(column)))
        numbers = self._numbers(column)
        missing = self.evidence.codes[:, numbers] < 0
        if self.evidence.soft is not None:  # a likelihood is a finding, too
            offset = self.model.elements.offset
            for place in np.ndindex(numbers.shape):
                k = int(numbers[place])
                soft = self.evidence.soft[:, offset[k] : offset[k + 1]]
                missing[:, *place] &= (soft == 1.0).all(axis=1)
        return np.asarray(missing)


def label_array(variable: Variable, codes: Any) -> NDArray[Any]:
    """Return the labels of state indices as objects, in their shape."""
    states = variable.states or ()
    table = np.empty(len(states) + 1, dtype=object)  # the last one for -1
    for k, label in enumerate(states):
        table[k] = label
    return np.asarray(table[codes])


def _with_numbers(column: Any, known: Any, new: Any, hole: Mask) -> Any:
    """Return the cells of a real variable, with observed cells unchanged."""
    cells = _objects(column)
    if hole.ndim == 1:
        cells[hole] = new[hole]
        return _plain(cells)
    whole = np.where(hole, new, known)
    for k in np.flatnonzero(hole.reshape(len(hole), -1).any(axis=1)).tolist():
        cells[k] = whole[k]
    return cells


def _with_labels(variable: Variable, column: Any, codes: Any, hole: Mask) -> Any:
    """Return the cells of a discrete variable, with observed labels unchanged."""
    import pandas as pd

    labels, cells = label_array(variable, codes), _objects(column)
    if hole.ndim > 1:
        numeric = all(isinstance(s, int | float) for s in variable.states or ())
        labels = labels.astype(np.float64) if numeric else labels
        for k in np.flatnonzero(hole.reshape(len(hole), -1).any(axis=1)).tolist():
            cells[k] = labels[k]
        return cells
    # integer columns became float columns because of missing cells; an index is not a label
    floats = column.dtype.kind == "f"
    if (floats or not _are_labels(variable, cells[~hole])) and bool((codes >= 0).all()):
        return _plain(labels)
    cells[hole] = labels[hole]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return _plain(cells)
    known = column.dtype.categories
    more = [x for x in dict.fromkeys(cells[hole].tolist()) if x not in known]
    return pd.Categorical(cells, [*known, *more], ordered=column.dtype.ordered)


def _are_labels(variable: Variable, cells: Any) -> bool:
    """Whether all cells are labels of states themselves, not their indices."""
    known = {(label, isinstance(label, bool)) for label in variable.states or ()}
    try:
        return {(x, isinstance(x, bool)) for x in cells.tolist()} <= known
    except TypeError:  # such as likelihoods
        return False


def _objects(column: Any) -> NDArray[Any]:
    cells = np.empty(len(column), dtype=object)
    for k, x in enumerate(column.astype(object).tolist()):
        cells[k] = x
    return cells


def _plain(cells: Any) -> Any:
    import pandas as pd

    return pd.Series(cells, dtype=object).infer_objects().array
