"""Labels of states, and the rule by which values in all containers are read as states."""

from __future__ import annotations

import datetime
import math
import numbers
import re
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Advice, EvidenceError, closest
from pgnn.factors.cells import Cells, is_date, is_missing

MISSING = -1
"""The state index of a missing value."""
LARGE = 2**53
"""From here on floating point numbers are not exact integers."""

Codes = NDArray[np.int32]

_SPELLED = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_TRUTH = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "positive", "present"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "negative", "absent"), False),
}
_SKIP = "pgnn.observed(data, unknown='missing') takes values that are no states for not observed"
_FEW = 256
_NOT_OBSERVED = {"nan", "na", "n/a", "null", "none", "missing", "?", ""}
"""Most cells that are looked up without pandas."""


class Column(NamedTuple):
    """State codes of a column, computed when they are taken.

    Attributes:
        raw: Integers.
        lookup: State of each raw integer, the last entry that of -1; None where these are states.
    """

    raw: NDArray[np.integer[Any]]
    lookup: Codes | None = None

    def take(self, rows: slice | None = None, out: Codes | None = None) -> Codes:
        """Return the int32 codes of all or some rows, written to ``out`` if given."""
        raw = self.raw if rows is None else self.raw[rows]
        if self.lookup is not None:
            return np.take(self.lookup, raw, out=out, mode="wrap")
        if out is None:
            return raw.astype(np.int32)
        out[...] = raw
        return out


class Labels:
    """The labels of the states of a variable, by which values are read.

    An integer or boolean is a *label* where a label equals it, or where the labels are numbers or
    spell them (``"1"``, ``"2"``); only otherwise is an integer an *index*. A boolean is one if the
    label spells it, as "no" and "yes" do. A string is
    a label, or spells one that is a number. ``None``, ``NaN``, ``NA``, masked cells and -1 (where
    it is no label) are missing.

    Args:
        name: Name of the variable.
        labels: Its labels, all different.
    """

    __slots__ = ("_dates", "_direct", "_numbers", "codes", "labels", "name")

    def __init__(self, name: Hashable, labels: tuple[Any, ...]) -> None:
        self.name, self.labels = name, labels
        self.codes = {label: k for k, label in enumerate(labels)}
        self._numbers: dict[Any, int] | None = None
        self._dates: dict[Any, int] | None = None
        self._direct: bool | None = None

    @property
    def numbers(self) -> dict[Any, int]:
        """States by the numbers that their labels are or spell; empty if there are none."""
        if self._numbers is None:
            by_number: dict[Any, int] = {}
            for k, label in enumerate(self.labels):
                number = _number(label)
                if number is not None:
                    by_number.setdefault(number, k)
            self._numbers = by_number
        return self._numbers

    @property
    def dates(self) -> dict[Any, int]:
        """States by the dates and durations of pandas that their labels are."""
        if self._dates is None:
            known = ((_date(label), k) for k, label in enumerate(self.labels) if is_date(label))
            self._dates = {date: k for date, k in known if date is not None}
        return self._dates

    @property
    def are_large(self) -> bool:
        """Whether a label is an integer, or spells one, that floating point numbers may miss."""
        written = (_number(x) if isinstance(x, str) and len(x) > 15 else x for x in self.labels)
        return any(isinstance(x, int | np.integer) and abs(int(x)) >= LARGE for x in written)

    @property
    def direct(self) -> bool:
        """Whether integers are indices of states."""
        if self._direct is None:
            truth = any(isinstance(x, bool | np.bool_) for x in self.labels)
            self._direct = (not self.numbers and not truth) or all(
                self.codes.get(k, self.numbers.get(k)) == k for k in range(len(self.labels))
            )
        return self._direct

    def index(self, value: Any) -> int:
        """Return the state of one value, -1 where it is missing.

        Raises:
            EvidenceError: If there is no such state, or the value is ambiguous.
        """
        try:
            code = self.codes.get(value)
        except (TypeError, ValueError):  # not hashable
            code = None
        if code is not None:
            return self._exact(value, code)
        if isinstance(value, np.ndarray) or hasattr(value, "detach"):
            if value.ndim:
                raise EvidenceError(f"{self.name!r} has no state {value!r}")
            return self.index(value[()] if isinstance(value, np.ndarray) else value.item())
        if is_missing(value):
            return MISSING
        if is_date(value):
            code = self.dates.get(_date(value))
            if code is None:
                raise self._unknown(value)
            return code
        if isinstance(value, bool | np.bool_):
            return self._of_truth(bool(value))
        if isinstance(value, numbers.Real):
            return self._of_number(value)
        if isinstance(value, str) and self.numbers:
            code = self.numbers.get(_number(value))
            if code is not None:
                return code
        raise self._unknown(value)

    def column(self, cells: Cells, *, ignore_unknown: bool = False) -> Column:
        """Return the state codes of many values.

        Args:
            cells: The values.
            ignore_unknown: Whether values that are not states count as missing.

        Raises:
            EvidenceError: If one is not a state; it names the first row and the number of others.
        """
        values, missing = cells.values, cells.missing
        kind = values.dtype.kind
        if cells.categories is not None:
            raw, distinct = values, cells.categories
        elif kind in "iuf" and self.direct:
            return self._indices(values, missing, ignore_unknown)
        elif kind == "b":
            raw, distinct = values.astype(np.int8), [False, True]
        else:
            raw, distinct = self._factorize(values)
        if missing is not None:
            raw = np.where(missing, MISSING, raw)
        lookup = np.full(len(distinct) + 1, MISSING, dtype=np.int32)
        unknown: dict[int, EvidenceError] = {}
        for k, value in enumerate(distinct):
            try:
                lookup[k] = self.index(value)
            except EvidenceError as error:
                unknown[k] = error
        if unknown and not ignore_unknown:
            bad = np.isin(raw, list(unknown))
            if bad.any():
                raise self._wrong_cell(bad, unknown[int(raw[bad][0])])
        if np.array_equal(lookup[:-1], np.arange(len(distinct))):
            return Column(raw)
        return Column(raw, lookup)

    def check_indices(self, values: NDArray[Any]) -> Codes:
        """Check state indices, -1 or ``NaN`` where missing.

        Raises:
            EvidenceError: If one is not an index of a state.
        """
        return self._indices(values, None, False).raw.astype(np.int32)

    def could_be(self, cells: Cells) -> bool:
        """Whether numbers could be states, perhaps rounded, or missing."""
        try:
            self.column(cells)
        except EvidenceError:
            return self.are_large and bool((np.abs(cells.values) >= LARGE).any())
        return True

    def _indices(
        self, values: NDArray[Any], missing: NDArray[np.bool_] | None, ignore_unknown: bool
    ) -> Column:
        """Numbers that are indices."""
        unobserved = np.int64(MISSING)
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), unobserved, values)
        if missing is not None:
            values = np.where(missing, unobserved, values)
        if values.size and (values.min() < MISSING or values.max() >= len(self.labels)):
            bad = (values < MISSING) | (values >= len(self.labels))
            if not ignore_unknown:
                raise self._wrong_cell(bad, self._no_index(values[bad][0]))
            values = np.where(bad, unobserved, values)
        if values.dtype.kind == "f":
            bad = values != np.floor(values)
            if bad.any():
                error = EvidenceError(
                    f"no state {values[bad][0]:g}; evidence for {self.name!r} must be state "
                    "indices, got fractional numbers",
                    f"a likelihood needs shape ({len(self.labels)},) or (B, {len(self.labels)}), "
                    "or pgnn.likelihood(...)",
                )
                raise self._wrong_cell(bad, error)
            values = values.astype(np.int32)
        return Column(values)

    def _of_truth(self, value: bool) -> int:
        """The state of a boolean that is not a label itself."""
        if any(isinstance(x, bool | np.bool_) for x in self.labels):
            raise self._unknown(value)
        spelled = {x.lower(): k for k, x in enumerate(self.labels) if isinstance(x, str)}
        code = spelled.get(str(value).lower(), self.numbers.get(value))
        if code is not None:
            return code
        if self.numbers or int(value) >= len(self.labels):
            raise self._unknown(value)
        spelled_truth = _TRUTH.get(str(self.labels[int(value)]).lower())
        if spelled_truth is None:  # a column of booleans would be learned, perhaps the wrong way
            known = ", ".join(repr(label) for label in self.labels[:2])
            raise EvidenceError(
                f"{value} for {self.name!r} is none of its states {known}",
                f"give the label, or pgnn.codes({int(value)})",
            )
        if spelled_truth != value:
            meant = next((x for x in spelled if _TRUTH.get(x) == value), str(value).lower())
            raise EvidenceError(
                f"{value} for {self.name!r} could be the label {meant!r} or the state index "
                f"{int(value)}, {self.labels[int(value)]!r}",
                f"give the label, or pgnn.codes({int(value)})",
            )
        return int(value)

    def _of_number(self, value: Any) -> int:
        """The state of a number that is not a label itself."""
        code = self.numbers.get(value)
        if code is not None:
            return self._exact(value, code)
        if value == MISSING:
            return MISSING
        if self.numbers or not math.isfinite(value) or value != int(value):
            raise self._unknown(value)
        index = int(value)
        if not 0 <= index < len(self.labels):
            raise self._no_index(index)
        return index

    def _exact(self, value: Any, code: int) -> int:
        """The state of a value, if it is no rounded number."""
        rounded = isinstance(value, float | np.floating) and abs(float(value)) >= LARGE
        if rounded and not isinstance(self.labels[code], float | np.floating):
            raise EvidenceError(
                f"{value!r} for {self.name!r} may be another label than {self.labels[code]!r}: "
                "floating point numbers, which columns of integers become where cells are "
                "missing, are exact below 2**53 only",
                "give integers (in pandas dtype='Int64') or text",
            )
        return code

    def _no_index(self, index: Any) -> EvidenceError:
        return EvidenceError(
            f"variable {self.name!r} has no state {index:g}"
            f"{closest(f'{index:g}', self.labels).rstrip('?')}; state index {index:g} of "
            f"{self.name!r} is out of range 0..{len(self.labels) - 1} (-1 means missing)"
        )

    def _factorize(self, values: NDArray[Any]) -> tuple[NDArray[np.integer[Any]], list[Any]]:
        """Codes of the values, -1 where missing, and the distinct values."""
        flat = values.ravel()
        if flat.size > _FEW:
            import pandas as pd

            kind = {"U": object, "S": object}.get(flat.dtype.kind, flat.dtype)
            flat = flat.astype(np.float32 if kind == np.float16 else kind, copy=False)
            try:
                raw, distinct = pd.factorize(flat)
                return raw.reshape(values.shape), distinct.tolist()
            except (TypeError, ValueError):  # some are not hashable, and are named below
                pass
        known: dict[Any, int] = {}
        numbered = np.full(flat.shape, MISSING, dtype=np.int64)
        for k, value in enumerate(flat.tolist()):
            if is_missing(value):
                continue
            try:
                numbered[k] = known.setdefault(value, len(known))
            except (TypeError, ValueError):
                bad = np.arange(flat.size).reshape(values.shape) == k
                raise self._wrong_cell(bad, self._unknown(value)) from None
        return numbered.reshape(values.shape), [*known]

    def _unknown(self, value: Any) -> EvidenceError:
        hint = closest(value, self.labels)
        advice = ""
        if isinstance(value, int | np.integer) and 0 <= value < len(self.labels):
            hint, text = hint.rstrip("?"), f"or pgnn.codes({int(value)}) for the index of a state"
            advice = Advice(text, "codes")
        if isinstance(value, str) and value.strip().lower() in _NOT_OBSERVED:
            text = "a value that was not observed is None or NaN, in a file an empty cell"
            advice = Advice(text, "unknown")
        return EvidenceError(f"variable {self.name!r} has no state {value!r}{hint}", advice)

    def _wrong_cell(self, bad: NDArray[np.bool_], error: EvidenceError) -> EvidenceError:
        at = np.unravel_index(int(bad.argmax()), bad.shape)
        return WrongCell(self.name, tuple(map(int, at)), error, int(bad.sum()) - 1)


class WrongCell(EvidenceError):
    """A value in a column that is not a state.

    Args:
        name: Name of the variable.
        at: Its position in the column: a row, and the indices of an array.
        error: That about the value alone.
        more: Number of other invalid cells.
    """

    def __init__(
        self, name: Hashable, at: tuple[int, ...], error: EvidenceError, more: int
    ) -> None:
        self.name, self.at, self.error, self.more = name, at, error, more
        where = at[0] if len(at) == 1 else at
        super().__init__(*self._told(f"column {name!r}, row {where}", "rows"))

    def over_time(self, row: int | None, step: int | None, *rest: int) -> EvidenceError:
        """Return the error for a value at a step of a row; None for a single value."""
        where = [f"row {row}"] if row is not None else []
        where += [f"step {step}"] if step is not None else []
        where += [f"element {rest}"] if rest else []
        return EvidenceError(*self._told(f"{self.name!r}, {', '.join(where)}", "steps"))

    def _told(self, where: str, places: str) -> tuple[str, Advice]:
        """Reason and advice."""
        suffix = f" ({self.more} more {places} have unknown labels)" if self.more else ""
        advice = f"{self.error.advice}; {_SKIP}" if self.error.advice else _SKIP
        return f"{where}: {self.error.reason}{suffix}", Advice(advice, "unknown")


def _number(label: Any) -> Any:
    """The number that a label is or spells."""
    if isinstance(label, numbers.Real):
        return None if isinstance(label, bool) else label  # type: ignore[unreachable]
    if isinstance(label, str) and _SPELLED.fullmatch(label.strip()):
        text = label.strip()
        return float(text) if any(c in text for c in ".eE") else int(text)
    return None


def _date(value: Any) -> Any:
    """A date or duration as one of pandas; None if it is out of their range."""
    import pandas as pd

    duration = isinstance(value, datetime.timedelta | np.timedelta64)
    try:
        return pd.Timedelta(value) if duration else pd.Timestamp(value)
    except (ValueError, OverflowError):
        return None
