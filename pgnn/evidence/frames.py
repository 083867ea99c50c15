"""Columns of data frames of any library, of mappings, and of lists of rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from pgnn.errors import EvidenceError
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.factors.cells import is_missing


def is_frame(data: object) -> bool:
    """Whether an object is a data frame of any library."""
    return hasattr(data, "columns") and not isinstance(data, Mapping)


def frame_columns(frame: Any) -> Iterator[tuple[Hashable, Any]]:
    """Iterate over names and columns of a data frame of pandas, polars or another library.

    Raises:
        EvidenceError: If a column occurs twice, or the object is no data frame.
    """
    if is_partitioned(frame):
        raise EvidenceError(
            "a partitioned frame is accepted by query, most_probable and log_prob, and by fit with "
            "MaximumLikelihood() or EM(); for anything else pass frame.compute()"
        )
    if not hasattr(frame, "iloc"):
        import narwhals

        try:
            frame = narwhals.from_native(frame, eager_only=True)
        except TypeError:
            raise EvidenceError(f"a {type(frame).__name__} is no data frame") from None
        for name in frame.columns:
            yield name, frame[name].to_native()
        return
    columns = frame.columns
    if not columns.is_unique:
        twice = columns[columns.duplicated()][0]
        raise EvidenceError(f"column {twice!r} occurs twice in the data frame; keep one")
    for name, column in frame.items():
        yield (_without_padding(name) if columns.nlevels > 1 else name), column


def columns_of(data: Any) -> Mapping[Hashable, Any]:
    """Return the columns of a data frame, of a mapping, or of a list of rows, by name.

    Raises:
        EvidenceError: If the object has another type, or a frame has duplicate columns.
    """
    if isinstance(data, Mapping):
        return data
    if is_frame(data):
        return dict(frame_columns(data))
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        return {name: [row.get(name) for row in data] for name in names}
    raise EvidenceError(
        "expected a DataFrame, a mapping from names to columns, or an integer array or tensor "
        f"of shape (N, V), got {type(data).__name__}"
    )


def _without_padding(name: tuple[Any, ...]) -> Hashable:
    """Return a tuple without the padding that pandas adds to tuples of different lengths."""
    parts = [part for part in name if not is_missing(part)]
    parts = [int(x) if isinstance(x, float) and x.is_integer() else x for x in parts]
    return parts[0] if len(parts) == 1 else tuple(parts)
