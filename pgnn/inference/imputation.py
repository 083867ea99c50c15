"""Imputation: missing cells of tables, filled by the most probable values or by draws."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Hashable, Mapping
from dataclasses import replace
from typing import Any, TextIO

import numpy as np
import torch

from pgnn.abilities import (
    Inputs,
    MixtureModel,
    NetworkModel,
    ReconstructingModel,
    UnrollableModel,
    VectorModel,
)
from pgnn.errors import DataError, EvidenceError, ImpossibleEvidence, Unsupported
from pgnn.evidence.cell_names import CellNames
from pgnn.evidence.csv_table import csv_table
from pgnn.evidence.frames import are_rows, columns_of, is_frame, plain_column
from pgnn.evidence.nameless_rows import nameless_rows, stacked_rows
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.variable import Variable
from pgnn.inference.answer_frames import plain_index
from pgnn.inference.component_rows import component_rows
from pgnn.inference.engine import Engine
from pgnn.inference.known_values import known_values
from pgnn.inference.real_elements import element_of
from pgnn.inference.table_with_holes import TableWithHoles
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
        raise Unsupported(
            "impute() fills gaps of rows, not of sequences", "use smooth(), query() or sample()"
        )
    array = ArrayRows.of(model, data)
    frame = read_table(model, data) if array is None else array.table
    count = None if draws is None else whole_number("draws", draws, 1)
    table = TableWithHoles(model, frame, [n for n in ignore if n in frame.columns])
    try:
        if count is None:
            tables: Any = _completed(table, inputs, engine)
        else:
            tables = _drawn(table, count, inputs=inputs, engine=engine, seed=seed)
    except ImpossibleEvidence as error:
        first = f" (first: row {error.rows[0]})" if error.rows else ""
        raise ImpossibleEvidence(
            f"{len(error.rows)} of {len(frame)} rows have probability zero{first}, so that they "
            "cannot be completed",
            error.rows,
            error.conflict,
            advice="remove them, or mark their wrong cells as missing",
        ) from None
    if array is not None:
        tables = array.like(tables) if count is None else [array.like(t) for t in tables]
    if to is not None:
        _write(tables, to)
    return tables


class ArrayRows:
    """Rows of the array of a model, as a table with one column.

    Args:
        array: The array.
        rows: ``(N, *shape)`` values, ``NaN`` where missing.
        data: The data as passed by the caller.
    """

    def __init__(self, array: Variable, rows: Any, data: Any) -> None:
        import pandas as pd

        self.array, self.data = array, data
        self.table = pd.DataFrame({array.name: plain_column(rows, {})})

    @classmethod
    def of(cls, model: Any, data: Any) -> ArrayRows | None:
        """Return rows of an array, or of a frame of its elements; None for other data."""
        array = model.variables.get(model.vector) if isinstance(model, VectorModel) else None
        if array is None or not array.shape:
            return None
        if isinstance(data, list | tuple) and not are_rows(data):
            data = stacked_rows(data)
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
            raise DataError(error.reason, error.advice) from None
        foreign = bool(cells.names) or not any(n in model.variables for n in columns)
        rows = cells.rows(columns) if foreign and cells.are_all(columns) else None
        return None if rows is None else cls(array, rows, data)

    def like(self, table: Any) -> Any:
        """Return the values of a completed table in the form of the data."""
        import pandas as pd

        cells = [np.asarray(x, dtype=np.float64) for x in table[self.array.name]]
        values = np.stack(cells) if cells else np.zeros((0, *self.array.shape))
        values = values.reshape(len(cells), self.array.num_elements)
        if isinstance(self.data, np.ndarray):
            exact = self.array.is_discrete or self.data.dtype.kind == "f"
            return values.reshape(self.data.shape).astype(self.data.dtype if exact else np.float64)
        if isinstance(self.data, torch.Tensor):
            return torch.from_numpy(values).reshape(self.data.shape).to(self.data)
        names = plain_index([*columns_of(self.data)])
        if self.array.is_discrete and (values == values.astype(np.int64)).all():
            values = values.astype(np.int64)
        return pd.DataFrame(values, columns=names, index=getattr(self.data, "index", None))


def read_table(model: Any, data: Any) -> Any:
    """Return a table as a data frame of pandas.

    Args:
        model: The model of the columns; cells of variables with text labels are kept as text.
        data: A data frame, a mapping of columns or of the values of one row, or the path or open
            stream of a CSV file.

    Raises:
        DataError: If the data is not a table.
    """
    import pandas as pd

    if isinstance(data, str | os.PathLike | io.IOBase):
        return csv_table(data, model.variables)
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, Mapping) and _is_one_row(model, data):
        return _table_of_one_row(data)
    if is_frame(data) or isinstance(data, Mapping | list):
        try:
            return _table_of(model, columns_of(data))
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None
        except (TypeError, ValueError) as error:
            raise DataError(f"all columns of a table must have the same length: {error}") from None
    raise DataError(
        f"expected a data frame, a mapping of columns or the path of a CSV file, got "
        f"{type(data).__name__}"
    )


def _is_one_row(model: Any, data: Mapping[Hashable, Any]) -> bool:
    """Whether a mapping has a single value of each variable, not a column."""
    if is_frame(data) or not data:
        return False
    for name, value in data.items():
        array = element_of(model.variables, name)
        v = model.variables.get(name) if array is None else array
        if v is None or hasattr(value, "to_numpy"):  # a series of pandas or polars is a column
            return False
        try:
            if np.ndim(value) != (len(v.shape) if array is None else 0):
                return False
        except (TypeError, ValueError, RuntimeError):  # such as rows of different lengths
            return False
    return True


def _table_of_one_row(data: Mapping[Hashable, Any]) -> Any:
    """Return a data frame of pandas with one row."""
    import pandas as pd

    columns = {}
    for name, value in data.items():
        cell = np.empty(1, dtype=object)
        cell[0] = value
        columns[name] = pd.Series(cell).infer_objects()
    return pd.DataFrame(columns)


def _table_of(model: Any, columns: Mapping[Hashable, Any]) -> Any:
    """Return the columns as a data frame of pandas with plain cells."""
    import pandas as pd

    known = {n: v.labels.codes for n, v in model.variables.items() if v.is_discrete}
    series = {n: plain_column(x, known.get(n, {})) for n, x in columns.items()}
    if len({len(x) for x in series.values()}) > 1:
        raise ValueError(str({n: len(x) for n, x in series.items()}))
    return pd.DataFrame(series)


def _completed(table: TableWithHoles, inputs: Inputs | None, engine: Engine | None) -> Any:
    """Return the table with most probable states, and the means of real variables given these."""
    model, evidence = table.model, table.evidence
    states: dict[Hashable, Any] = {}
    if len(model.elements) and bool((evidence.codes < 0).any()):
        # of the discrete variables only: the real variables are integrated out
        discrete = [v.name for v in model.elements.variables]
        targets = None if all(v.is_discrete for v in model.variables.values()) else discrete
        best = model.most_probable(evidence, targets, inputs=inputs, engine=engine)
        states = {n: torch.as_tensor(best[n]).numpy(force=True) for n in discrete}
    holes = table.has_holes(discrete=False)
    reals = {n: evidence.reals[n] for n in holes if evidence.fully_observes(n)}  # constants
    missing = [n for n in model.variables if n in holes and n not in reals]
    if missing and isinstance(model, ReconstructingModel):
        reals[model.vector] = model.reconstruct(evidence)
    elif missing:
        known = table.with_states(states)
        known = _with_components(model, known, states)
        reals |= _means(model, missing, known, inputs, engine)
    numbers = {n: x.detach().double().numpy(force=True) for n, x in reals.items()}
    return table.filled(states, numbers)


def _with_components(model: Any, known: RowEvidence, states: Mapping[Hashable, Any]) -> RowEvidence:
    """Return evidence with the components of a mixture, nested ones too, which have no column."""
    codes, parts = known.codes.copy(), [model]
    while parts:
        part = parts.pop()
        if isinstance(part, MixtureModel):
            parts += part.components
            if part.class_name in states:
                number = int(model.elements.numbers(part.class_name))
                codes[:, number] = states[part.class_name]
    return replace(known, codes=codes)


def _means(
    model: Any,
    names: list[Hashable],
    evidence: RowEvidence,
    inputs: Inputs | None,
    engine: Engine | None,
) -> dict[Hashable, torch.Tensor]:
    """Return means of real variables by name, in rows whose states are all known.

    For leaves that are not normal, the mean given the parents; in a mixture of models the mean
    under the component of the row.
    """
    if isinstance(model, MixtureModel):
        return _means_by_component(model, names, evidence, inputs, engine)
    leaves = [] if engine is not None else [n for n in names if _is_leaf(model, n)]
    others = [n for n in names if n not in leaves]
    with torch.no_grad():
        answer = model.query(others, evidence, inputs=inputs, engine=engine) if others else {}
        shapes = {n: (evidence.num_rows, *model.variables[n].shape) for n in others}
        means = {n: torch.as_tensor(answer[n].mean).reshape(shapes[n]) for n in others}
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


def _means_by_component(
    model: MixtureModel,
    names: list[Hashable],
    evidence: RowEvidence,
    inputs: Inputs | None,
    engine: Engine | None,
) -> dict[Hashable, torch.Tensor]:
    """Return the means of real variables under the component of each row, which is known."""
    mixture: Any = model
    inner = None if engine == mixture.default_engine() else engine  # components have their own
    each, classes = component_rows(model, evidence).each, evidence.codes[:, 0]
    shapes = {n: (evidence.num_rows, *model.variables[n].shape) for n in names}
    means = {n: torch.zeros(shape, dtype=torch.float64) for n, shape in shapes.items()}
    for k, component in enumerate(model.components):
        rows = np.flatnonzero(classes == k)
        part = each[k].take(rows)
        missing = [n for n in names if not part.fully_observes(n)]
        if len(rows) and missing:
            own = component.own_inputs(inputs) or {}
            covariates = {n: torch.as_tensor(x)[rows] for n, x in own.items()} or None
            found = _means(component, missing, part, covariates, inner)
            for name, x in found.items():
                means[name][rows] = x.detach().double().reshape(len(rows), *means[name].shape[1:])
    return means


def _is_leaf(model: Any, name: Hashable) -> bool:
    """Whether a variable is a leaf that is not normal."""
    if not isinstance(model, NetworkModel) or model.conditionals[name].is_linear_gaussian:
        return False
    return all(name not in (v.name for v in c.parents) for c in model.conditionals.values())


def _drawn(table: TableWithHoles, count: int, **settings: Any) -> list[Any]:
    """One table for each draw."""
    drawn = table.model.sample(count, table.evidence, **settings)
    if drawn.log_weights is not None:
        raise Unsupported(
            "this engine draws weighted samples, which cannot be written as tables",
            "use another engine, such as Gibbs()",
        )
    tables = []
    for k in range(count):
        values = {v: drawn[v.name][k].detach().reshape(-1, *v.shape) for v in drawn.variables}
        states = {v.name: x.numpy(force=True) for v, x in values.items() if v.is_discrete}
        numbers = {
            v.name: x.double().numpy(force=True) for v, x in values.items() if not v.is_discrete
        }
        tables.append(table.filled(states, numbers))
    return tables


def _write(tables: Any, to: str | os.PathLike[str] | TextIO) -> None:
    """Write one table or several, concatenated, as CSV."""
    import pandas as pd

    if isinstance(tables, list):
        tables = pd.concat(tables, keys=range(len(tables)), names=["draw"]).reset_index(level=0)
    tables.to_csv(to, index=False)
