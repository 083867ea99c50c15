"""Dask data frames, whose rows lie in partitions on other processes or machines."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar

from pgnn.errors import DataError, PgnnError, located

T = TypeVar("T")
_BRANCHES = 8
"""Results that are added up by one task."""


def is_partitioned(data: object) -> bool:
    """Return whether an object is a partitioned data frame."""
    return hasattr(data, "map_partitions")


class Shipped:
    """A function that is sent to other processes and unpacked there once per thread.

    Caches of a model, such as its plans, thus persist between partitions; no two threads share a
    model. Changes that a call makes to the function's objects are not sent back.

    Args:
        function: Any function that cloudpickle can send.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        import cloudpickle

        self._bytes: bytes = cloudpickle.dumps(function)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return _unpacked(self._bytes, threading.get_ident())(*arguments)

    def __dask_tokenize__(self) -> bytes:
        return self._bytes


@lru_cache(maxsize=16)
def _unpacked(packed: bytes, thread: int) -> Callable[..., Any]:
    function: Callable[..., Any] = pickle.loads(packed)
    return function


@dataclass(frozen=True, eq=False)
class PartitionedFrame:
    """A Dask data frame; Dask recomputes the partitions of a lost process.

    Args:
        frame: The frame.
    """

    frame: Any

    def mapped(self, function: Callable[[Any], Any]) -> Any:
        """Return the lazy frame of a function's results for each partition.

        Args:
            function: Maps a pandas frame, which may be empty, to a pandas frame or series.
        """
        shipped = Shipped(function)
        return self.frame.map_partitions(shipped, meta=shipped(self.frame._meta))

    def read(self, function: Callable[[Any], T]) -> PartitionedRows:
        """Read each partition once and keep the results on its process.

        Args:
            function: Maps a nonempty pandas frame to the kept result.

        Raises:
            DataError: If no partition has rows.
        """
        dask = _dask()
        task = dask.delayed(_unless_empty(Shipped(function)), pure=False)
        kept = dask.persist(*[task(part) for part in self.frame.to_delayed()])
        sizes = dask.compute(*[dask.delayed(_is_something)(part) for part in kept])
        parts = [part for part, something in zip(kept, sizes, strict=True) if something]
        if not parts:
            raise DataError("data has no rows")
        return PartitionedRows(parts)


@dataclass(frozen=True)
class PartitionedRows:
    """Results kept for the partitions of a frame.

    Functions must not change a part, since tasks of a process that ended are repeated.

    Args:
        parts: Nonempty delayed values, kept by Dask.
    """

    parts: Sequence[Any]

    def computed(self, function: Callable[..., T], *arguments: Any) -> list[T]:
        """Return the results of a function for each part."""
        dask = _dask()
        task = dask.delayed(function, pure=False)
        return list(dask.compute(*[task(part, *arguments) for part in self.parts]))

    def total(self) -> Any:
        """Return the sum of the parts."""
        return self.summed(_same)

    def summed(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return the sum of a function over the parts, computed by their processes.

        Args:
            function: Maps a part and the arguments to a value that can be added.
            arguments: Further arguments, sent once to each part.
        """
        dask = _dask()
        task, add = dask.delayed(function, pure=False), dask.delayed(_sum, pure=False)
        values = [task(part, *arguments) for part in self.parts]
        while len(values) > 1:
            values = [add(values[k : k + _BRANCHES]) for k in range(0, len(values), _BRANCHES)]
        total: T = values[0].compute()
        return total


@contextmanager
def located_errors(rows: Any) -> Iterator[None]:
    """Say in errors which partition the rows are those of, since its rows are counted from 0.

    Args:
        rows: The pandas frame of a partition.
    """
    try:
        yield
    except PgnnError as error:
        if not len(rows):
            raise
        where = f"in the partition with the index {rows.index[0]!r} to {rows.index[-1]!r}"
        raise located(error, where) from None


def distinct_values(frame: Any) -> dict[Any, Any]:
    """Return the distinct values of each column of a partitioned frame, without missing ones."""
    import pandas as pd

    categories = {
        name: column.cat.categories
        for name, column in frame._meta.items()
        if isinstance(column.dtype, pd.CategoricalDtype)
    }
    if any("__UNKNOWN_CATEGORIES__" in labels for labels in categories.values()):
        raise DataError("categories differ by partition", "frame.categorize() makes them the same")
    values: dict[Any, Any] = PartitionedFrame(frame).read(_Distinct).total().columns
    return values | {n: pd.Series(pd.Categorical(c, c)) for n, c in categories.items()}


class _Distinct:
    """Distinct values of columns; addition is their union."""

    def __init__(self, frame: Any) -> None:
        self.columns = {name: column.drop_duplicates() for name, column in frame.items()}

    def __add__(self, other: _Distinct) -> _Distinct:
        import pandas as pd

        pairs = {n: [column, other.columns[n]] for n, column in self.columns.items()}
        return _Distinct({n: pd.concat(pair, ignore_index=True) for n, pair in pairs.items()})


def _dask() -> Any:
    """Import Dask, whose functions are untyped."""
    return import_module("dask")


def _same(thing: T) -> T:
    return thing


def _sum(values: Sequence[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _is_something(part: Any) -> bool:
    return part is not None


def _unless_empty(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(frame: Any) -> Any:
        if not len(frame):
            return None
        with located_errors(frame):
            return function(frame)

    return read
