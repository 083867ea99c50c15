"""Imputation: missing cells of tables, filled by the most probable values or by draws."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from pgnn.abilities import Inputs, NetworkModel, ReconstructingModel, UnrollableModel, VectorModel
from pgnn.errors import DataError, EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.evidence.cell_names import CellNames
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.nameless_rows import nameless_rows
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.evidence.wrappers import observed
from pgnn.factors.variable import Variable
from pgnn.inference.engine import Engine
from pgnn.inference.known_values import known_values
from pgnn.limits import whole_number


def impute(
    model: Any,
    data: Any,
    *,
    draws: int | None = None,
    to: str | os.PathLike[str] | TextIO | None = None,
    ignore: Collection[Hashable] = (),
    inputs: Inputs | None = None,
    engine: Engine | None = None,
    seed: int | None = None,
) -> Any:
    """Impute the missing cells of a table; see :meth:`Model.impute`."""
    if isinstance(model, UnrollableModel):
        raise Unsupported("gaps of sequences are filled by smooth(), query() or sample()")
    array = ArrayRows.of(model, data)
    frame = read_table(model, data) if array is None else array.table
    rows = observed(frame, ignore=[n for n in ignore if n in frame.columns])
    count = None if draws is None else whole_number("draws", draws, 1)
    try:
        if count is None:
            tables: Any = _completed(model, frame, rows, inputs, engine)
        else:
            tables = _drawn(model, frame, rows, count, inputs=inputs, engine=engine, seed=seed)
    except ImpossibleEvidence as error:
        first = f" (first: row {error.rows[0]})" if error.rows else ""
        raise ImpossibleEvidence(
            f"{len(error.rows)} of {len(frame)} rows have probability zero{first}, so that they "
            "cannot be completed; remove them, or mark their wrong cells as missing",
            error.rows,
            error.conflict,
        ) from None
    if array is not None:
        tables = array.like(tables) if count is None else [array.like(t) for t in tables]
    if to is not None:
        _write(tables, to)
    return tables


class ArrayRows:
    """Rows of the array that a model is about, as a table of one column.

    Args:
        array: The array.
        rows: ``(N, *shape)`` its values, those that are missing ``NaN``.
        data: What they came as.
    """

    def __init__(self, array: Variable, rows: Any, data: Any) -> None:
        import pandas as pd

        self.array, self.data = array, data
        rows = rows.detach().numpy(force=True) if isinstance(rows, torch.Tensor) else rows
        self.table = pd.DataFrame({array.name: pd.Series([*np.asarray(rows)], dtype=object)})

    @classmethod
    def of(cls, model: Any, data: Any) -> ArrayRows | None:
        """Return rows of an array, or of a frame whose columns are its numbers; None if neither."""
        array = model.variables.get(model.vector) if isinstance(model, VectorModel) else None
        if array is None or not array.shape:
            return None
        if isinstance(data, np.ndarray | torch.Tensor):
            one = tuple(data.shape) == array.shape
            rows = nameless_rows(array, data[None] if one else data)
            if rows is None:
                raise DataError(
                    f"rows of {array.name!r} must have the shape (N, "
                    f"{', '.join(map(str, array.shape))}), got {tuple(data.shape)}"
                )
            return cls(array, rows, data)
        cells = CellNames(array, model.columns)
        if not is_frame(data) or is_partitioned(data):
            return None
        try:
            columns = columns_of(data)
        except EvidenceError as error:
            raise DataError(str(error)) from None
        foreign = bool(cells.names) or not any(n in model.variables for n in columns)
        rows = cells.rows(columns) if foreign and cells.are_all(columns) else None
        return None if rows is None else cls(array, rows, data)

    def like(self, table: Any) -> Any:
        """Return the numbers of a completed table in the form of the data."""
        import pandas as pd

        cells = [np.asarray(x, dtype=np.float64) for x in table[self.array.name]]
        values = np.stack(cells).reshape(len(cells), -1) if cells else np.zeros((0, 1))
        if isinstance(self.data, np.ndarray):
            return values.reshape(self.data.shape).astype(self.data.dtype)
        if isinstance(self.data, torch.Tensor):
            return torch.from_numpy(values).reshape(self.data.shape).to(self.data)
        frame = pd.DataFrame(dict(columns_of(self.data)))
        return pd.DataFrame(values, columns=frame.columns, index=getattr(self.data, "index", None))


def read_table(model: Any, data: Any) -> Any:
    """Return a table as a data frame of pandas.

    Args:
        model: The model of the columns; cells of variables with text labels are kept as text.
        data: A data frame, a mapping of columns, or the path or open stream of a CSV file.

    Raises:
        DataError: If the data is not a table.
    """
    import pandas as pd

    if isinstance(data, str | os.PathLike | io.IOBase):
        try:
            return _read_csv(model, data)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
            name = "a stream" if isinstance(data, io.IOBase) else Path(data).name
            raise DataError(f"{name}: expected a table of values: {error}") from None
    if isinstance(data, pd.DataFrame):
        return data
    if is_frame(data) or isinstance(data, Mapping | list):
        try:
            return pd.DataFrame({n: pd.Series(list(x)) for n, x in columns_of(data).items()})
        except (EvidenceError, TypeError, ValueError) as error:
            raise DataError(f"all columns of a table must have the same length: {error}") from None
    raise DataError(
        f"expected a data frame, a mapping of columns or the path of a CSV file, got "
        f"{type(data).__name__}"
    )


def _read_csv(model: Any, data: Any) -> Any:
    """Read a CSV file: empty cells are missing, text labels are not converted."""
    import pandas as pd

    text = {
        v.name: str
        for v in model.variables.values()
        if v.is_discrete and all(isinstance(s, str) for s in v.states or ())
    }
    rules: Any = {"dtype": text, "keep_default_na": False, "na_values": [""]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(data, index_col=False, **rules)
        except pd.errors.ParserWarning as warning:
            raise DataError(f"rows have more cells than there are columns: {warning}") from None


def _completed(
    model: Any, frame: Any, rows: Any, inputs: Inputs | None, engine: Engine | None
) -> Any:
    """The table with most probable states, and the means of real variables given these."""
    from pgnn.inference.question import reader_of

    evidence = reader_of(model).read(rows)
    states: dict[Hashable, Any] = {}
    discrete = [v.name for v in model.elements.variables]
    if len(model.elements) and bool((evidence.codes < 0).any()):
        # of the discrete variables only: the real variables are integrated out
        targets = None if all(v.is_discrete for v in model.variables.values()) else discrete
        best = model.most_probable(rows, targets, inputs=inputs, engine=engine)
        states = {
            v.name: _labels(v, best[v.name]) if v.shape else best.frame()[v.name].to_numpy()
            for v in model.elements.variables
            if v.name in frame.columns
        }
    reals = {}
    missing = [
        n
        for n, v in model.variables.items()
        if not v.is_discrete and _has_column(model, frame, n) and not evidence.knows(n)
    ]
    if missing and isinstance(model, ReconstructingModel):
        reals = {model.vector: model.reconstruct(rows)}
    elif missing:
        known = _with_states(frame, rows, states)
        reals = _means(model, missing, known, inputs, engine)
    numbers = {n: x.detach().double().numpy(force=True) for n, x in reals.items()}
    return _filled(model, frame, states, numbers)


def _means(
    model: Any, names: list[Hashable], rows: Any, inputs: Inputs | None, engine: Engine | None
) -> dict[Hashable, torch.Tensor]:
    """Means of real variables by name, in rows whose states are all known.

    For leaves that are not normal, the mean given the parents.
    """
    from pgnn.inference.question import reader_of

    leaves = [] if engine is not None else [n for n in names if _is_leaf(model, n)]
    others = [n for n in names if n not in leaves]
    with torch.no_grad():
        answer = model.query(others, rows, inputs=inputs, engine=engine) if others else {}
        means = {n: torch.as_tensor(answer[n].mean) for n in others}
        evidence = reader_of(model).read(rows)
        values = known_values(model, evidence)
        for name, x in means.items():
            observed_values = values.get(name, torch.full_like(x, torch.nan))
            values[name] = torch.where(observed_values.isnan(), x, observed_values)
        for name in leaves:
            conditional = model.conditionals[name]
            parents = {v.name: values[v.name] for v in conditional.parents}
            covariates = {n: x for n, x in (inputs or {}).items() if n in conditional.inputs}
            mean = conditional.distribution(parents, covariates or None).mean
            means[name] = mean.expand(evidence.num_rows, *conditional.child.shape)
    return means


def _is_leaf(model: Any, name: Hashable) -> bool:
    """Whether a variable is a leaf that is not normal."""
    if not isinstance(model, NetworkModel) or model.conditionals[name].is_linear_gaussian:
        return False
    return all(name not in (v.name for v in c.parents) for c in model.conditionals.values())


def _with_states(frame: Any, rows: Any, states: Mapping[Hashable, Any]) -> Any:
    """The rows with states filled in."""
    filled = frame.copy()
    for name, labels in states.items():
        filled[name] = labels
    return observed(filled, ignore=rows.ignore)


def _drawn(model: Any, frame: Any, rows: Any, count: int, **settings: Any) -> list[Any]:
    """One table for each draw."""
    drawn = model.sample(count, rows, **settings)
    if drawn.log_weights is not None:
        raise Unsupported(
            "this engine draws weighted samples, which cannot be written as "
            "tables: use another engine"
        )
    tables = []
    for k in range(count):
        states, numbers = {}, {}
        for v in drawn.variables:
            x = drawn[v.name][k]
            if not v.is_discrete:
                numbers[v.name] = x.double().numpy(force=True)
            elif v.name in frame.columns:
                states[v.name] = _labels(v, x)
        tables.append(_filled(model, frame, states, numbers))
    return tables


def _labels(variable: Variable, states: Any) -> Any:
    """Labels ``(N, *shape)`` of state indices, as numbers where the labels are numbers."""
    codes = torch.as_tensor(states).numpy(force=True)
    labels = np.array(variable.decode(codes), dtype=object).reshape(codes.shape)
    numbers = variable.shape and all(isinstance(s, int | float) for s in variable.states or ())
    return labels.astype(np.float64) if numbers else labels


def _filled(
    model: Any, frame: Any, states: Mapping[Hashable, Any], numbers: Mapping[Hashable, Any]
) -> Any:
    """The table with its missing cells filled."""
    import pandas as pd

    table = frame.copy()
    columns: dict[Hashable, Any] = dict(states)
    for name, x in numbers.items():
        if name in table.columns:
            columns[name] = x if x.ndim == 1 else _cells(table[name], x)
        if isinstance(model, VectorModel) and name == model.vector:
            columns |= {n: x[:, k] for k, n in enumerate(model.columns) if n in table.columns}
    for name, values in columns.items():
        hole = table[name].isna().to_numpy()
        if np.ndim(values[0] if len(values) else 0):  # vectors
            table[name] = pd.Series(list(values), index=table.index)
            continue
        if not hole.any():
            continue
        column = table[name]
        # integer columns became float columns for the missing cells
        if name in states and column.dtype.kind == "f":
            table[name] = pd.Series([*values], index=table.index, name=name).infer_objects()
            continue
        filled = column.astype(object).to_numpy(copy=True)
        filled[hole] = np.asarray(values, dtype=object)[hole]
        if isinstance(column.dtype, pd.CategoricalDtype):
            table[name] = pd.Categorical(filled, dtype=column.dtype)
        else:
            table[name] = pd.Series(filled, index=table.index, name=name).infer_objects()
    return table


def _cells(column: Any, x: Any) -> Any:
    """Vectors with their missing components replaced."""
    cells = np.empty(len(x), dtype=object)
    for k, (old, new) in enumerate(zip(column, x, strict=True)):
        observed = np.full(new.shape, np.nan) if np.ndim(old) == 0 else np.asarray(old, dtype=float)
        cells[k] = np.where(np.isnan(observed), new, observed)
    return cells


def _has_column(model: Any, frame: Any, name: Hashable) -> bool:
    """Whether a real variable or a component of it has a column."""
    if name in frame.columns:
        return True
    is_vector = isinstance(model, VectorModel) and name == model.vector
    return is_vector and any(n in frame.columns for n in model.columns)


def _write(tables: Any, to: str | os.PathLike[str] | TextIO) -> None:
    """Write one table or several, concatenated, as CSV."""
    import pandas as pd

    if isinstance(tables, list):
        tables = pd.concat(tables, keys=range(len(tables)), names=["draw"]).reset_index(level=0)
    tables.to_csv(to, index=False)
