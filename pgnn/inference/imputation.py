"""Tables with holes, completed: by the most probable values, or by draws."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from pgnn.abilities import LatentFactorModel, UnrollableModel, VectorModel
from pgnn.errors import DataError, EvidenceError, Unsupported
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.wrappers import observed
from pgnn.inference.engine import Engine
from pgnn.limits import whole_number


def impute(
    model: Any,
    data: Any,
    *,
    draws: int | None = None,
    to: str | os.PathLike[str] | TextIO | None = None,
    ignore: Collection[Hashable] = (),
    engine: Engine | None = None,
    seed: int | None = None,
) -> Any:
    """Complete a table; see :meth:`Model.impute`."""
    if isinstance(model, UnrollableModel):
        raise Unsupported("gaps of sequences are filled by smooth(), query() or sample()")
    frame = _frame(data)
    rows = observed(frame, ignore=[n for n in ignore if n in frame.columns])
    if draws is None:
        made: Any = _completed(model, frame, rows, engine)
    else:
        count = whole_number("draws", draws, 1)
        made = _drawn(model, frame, rows, count, engine, seed)
    if to is not None:
        _write(made, to)
    return made


def _frame(data: Any) -> Any:
    """The table as a data frame of pandas."""
    import pandas as pd

    if isinstance(data, str | os.PathLike | io.IOBase):
        try:
            return pd.read_csv(data)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
            name = "a stream" if isinstance(data, io.IOBase) else Path(data).name
            raise DataError(f"{name}: expected a table of values: {error}") from None
    if isinstance(data, pd.DataFrame):
        return data
    if is_frame(data) or isinstance(data, Mapping | list):
        try:
            return pd.DataFrame({n: pd.Series(list(x)) for n, x in columns_of(data).items()})
        except (EvidenceError, TypeError, ValueError) as error:
            raise DataError(f"a table has a value for each row in each column: {error}") from None
    raise DataError(
        f"expected a data frame, a mapping of columns or the path of a CSV file, got "
        f"{type(data).__name__}"
    )


def _completed(model: Any, frame: Any, rows: Any, engine: Engine | None) -> Any:
    """Most probable states, then the means of reals given these."""
    from pgnn.inference.question import reader_of

    seen = reader_of(model).read(rows)
    states: dict[Hashable, Any] = {}
    discrete = [v.name for v in model.elements.variables]
    if len(model.elements) and bool((seen.codes < 0).any()):
        # alone: the real variables are summed out
        targets = None if all(v.is_discrete for v in model.variables.values()) else discrete
        best = model.most_probable(rows, targets, engine=engine)
        states = {n: best.frame()[n].to_numpy() for n in frame.columns if n in model.elements.first}
    reals = {}
    missing = [
        n
        for n, v in model.variables.items()
        if not v.is_discrete and _has_column(model, frame, n) and not seen.knows(n)
    ]
    if missing and isinstance(model, LatentFactorModel):
        reals = {model.vector: model.reconstruct(rows)}
    elif missing:
        known = _with_states(frame, rows, states)
        with torch.no_grad():
            answer = model.query(missing, known, engine=engine)
        reals = {n: torch.as_tensor(answer[n].mean) for n in missing}
    numbers = {n: x.detach().double().numpy(force=True) for n, x in reals.items()}
    return _filled(model, frame, states, numbers)


def _with_states(frame: Any, rows: Any, states: Mapping[Hashable, Any]) -> Any:
    """The rows with states filled in."""
    made = frame.copy()
    for name, labels in states.items():
        made[name] = labels
    return observed(made, ignore=rows.ignore)


def _drawn(
    model: Any, frame: Any, rows: Any, count: int, engine: Engine | None, seed: int | None
) -> list[Any]:
    """A table for each draw."""
    drawn = model.sample(count, rows, engine=engine, seed=seed)
    if drawn.log_weights is not None:
        raise Unsupported("draws that count differently complete no table: take another engine")
    tables = []
    for k in range(count):
        states, numbers = {}, {}
        for v in drawn.variables:
            x = drawn[v.name][k]
            if not v.is_discrete:
                numbers[v.name] = x.double().numpy(force=True)
            elif v.name in frame.columns:
                states[v.name] = np.array(v.decode(x.numpy(force=True)), dtype=object)
        tables.append(_filled(model, frame, states, numbers))
    return tables


def _filled(
    model: Any, frame: Any, states: Mapping[Hashable, Any], numbers: Mapping[Hashable, Any]
) -> Any:
    """The table with its holes filled."""
    import pandas as pd

    made = frame.copy()
    columns: dict[Hashable, Any] = dict(states)
    for name, x in numbers.items():
        if name in made.columns:
            columns[name] = x if x.ndim == 1 else _cells(made[name], x)
        if isinstance(model, VectorModel) and name == model.vector:
            columns |= {n: x[:, k] for k, n in enumerate(model.columns) if n in made.columns}
    for name, values in columns.items():
        hole = made[name].isna().to_numpy()
        if np.ndim(values[0] if len(values) else 0):  # vectors
            made[name] = pd.Series(list(values), index=made.index)
            continue
        if not hole.any():
            continue
        own = made[name]
        if name in states and own.dtype.kind == "f":  # whole numbers became real for their holes
            made[name] = pd.Series([*values], index=made.index, name=name).infer_objects()
            continue
        filled = own.astype(object).to_numpy(copy=True)
        filled[hole] = np.asarray(values, dtype=object)[hole]
        if isinstance(own.dtype, pd.CategoricalDtype):
            made[name] = pd.Categorical(filled, dtype=own.dtype)
        else:
            made[name] = pd.Series(filled, index=made.index, name=name).infer_objects()
    return made


def _cells(column: Any, x: Any) -> Any:
    """Vectors with only their missing numbers replaced."""
    made = np.empty(len(x), dtype=object)
    for k, (old, new) in enumerate(zip(column, x, strict=True)):
        own = np.full(new.shape, np.nan) if np.ndim(old) == 0 else np.asarray(old, dtype=float)
        made[k] = np.where(np.isnan(own), new, own)
    return made


def _has_column(model: Any, frame: Any, name: Hashable) -> bool:
    """Whether a real variable, or numbers of it, are columns."""
    if name in frame.columns:
        return True
    own = isinstance(model, VectorModel) and name == model.vector
    return own and any(n in frame.columns for n in model.columns)


def _write(made: Any, to: str | os.PathLike[str] | TextIO) -> None:
    """Write a table, or several one after the other, as CSV."""
    import pandas as pd

    if isinstance(made, list):
        made = pd.concat(made, keys=range(len(made)), names=["draw"]).reset_index(level=0)
    made.to_csv(to, index=False)
