"""Checks of arguments, sizes and costs, made before memory or time is spent."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

from pgnn.errors import EvidenceError, Intractable, ModelError, PgnnError, short_repr

MAX_BYTES = 2**32
"""Largest memory of an answer if the engine has no limit."""
MAX_STEPS = 2**40
"""Largest number of elementary steps of a method without early stopping: hours on any machine."""
MAX_COUNT = 2**63 - 1
"""Largest setting and seed that kernels and random number generators accept."""
MAX_SIZE = 10**100
"""Largest requested number of draws, steps or other results."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """The interval of valid real values of a setting.

    Args:
        low: Lower end.
        high: Upper end.
        open_low: Whether ``low`` is excluded.
        open_high: Whether ``high`` is excluded.

    Example:
        >>> print(Interval(0.0, 1.0, open_high=True), 1.0 in Interval(0.0, 1.0, open_high=True))
        in [0, 1) False
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        known = {FINITE: "finite", NOT_NEGATIVE: "finite and not negative", POSITIVE: "positive"}
        first, last = "[("[self.open_low], "])"[self.open_high]
        return known.get(self, f"in {first}{self.low:g}, {self.high:g}{last}")


FINITE = Interval(open_low=True, open_high=True)
NOT_NEGATIVE = Interval(0.0, open_high=True)
POSITIVE = Interval(0.0, open_low=True, open_high=True)


def check_settings(settings: Any, **bounds: int | Interval) -> None:
    """Validate all numeric and boolean fields of a frozen dataclass.

    The types are those of the annotations: ``int``, ``float`` or ``bool``, with or without
    ``| None``. Integers of other types, such as NumPy's, are converted to ``int``.

    Args:
        settings: The object, in its ``__post_init__``.
        bounds: By name of a field, the smallest integer (0 by default), or the interval of real
            numbers (by default, all but ``NaN``).

    Raises:
        ModelError: If a value has another type or is out of bounds.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        annotation = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        words = {word.strip() for word in annotation.split("|")}
        if value is None and "None" in words:
            continue
        bound = bounds.get(field.name)
        if words - {"None"} == {"int"}:
            least = 0 if bound is None or isinstance(bound, Interval) else bound
            number = whole_number(field.name, value, least, ModelError, MAX_COUNT)
            object.__setattr__(settings, field.name, number)
        elif words - {"None"} == {"float"}:
            span = bound if isinstance(bound, Interval) else Interval()
            check_real(field.name, value, span)
        elif words - {"None"} == {"bool"} and not isinstance(value, bool):
            raise ModelError(f"{field.name} must be True or False, got {short_repr(value)}")


def whole_number(
    name: str,
    value: Any,
    least: int = 0,
    error: type[PgnnError] = EvidenceError,
    most: int = MAX_SIZE,
) -> int:
    """Return an argument as an integer.

    Args:
        name: Name in messages.
        value: The argument.
        least: Smallest valid value.
        error: Class of the error that is raised.
        most: Largest valid value; sizes that depend on it are checked separately.

    Raises:
        EvidenceError: Or the given error, if the value is not an integer or out of bounds.

    Example:
        >>> whole_number("k", 3, least=1)
        3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise error(f"{name} must be a whole number, got {short_repr(value)}") from None
    if number < least:
        bound = f"be at least {least}" if least else "not be negative"
        raise error(f"{name} must {bound}, got {number}")
    if number > most:
        raise error(f"{name} must be at most {two_digits(most)}, got {two_digits(number)}")
    return number


def check_real(
    name: str, value: Any, interval: Interval, error: type[PgnnError] = ModelError
) -> None:
    """Check that an argument is a real number in an interval.

    Args:
        name: Name in messages.
        value: The argument.
        interval: Valid values.
        error: Class of the error that is raised.

    Raises:
        ModelError: Or the given error, if the value is not a number, ``NaN``, or outside.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise error(f"{name} must be a number, got {short_repr(value)}")
    if float(value) not in interval:
        raise error(f"{name} must be {interval}, got {value}")


def check_callable(name: str, value: Any, example: str) -> None:
    """Check that a setting is a function or None.

    Args:
        name: Name in messages.
        value: The setting.
        example: A valid value, for the message.

    Raises:
        ModelError: If it is not a function.
    """
    if value is not None and not callable(value):
        raise ModelError(f"{name} must be a function such as {example}, got {short_repr(value)}")


def check_seed(seed: Any) -> int | None:
    """Validate a seed; None means that draws differ between calls.

    Raises:
        EvidenceError: If it is neither None nor a non-negative integer.
    """
    return None if seed is None else whole_number("seed", seed, most=MAX_COUNT)


def check_size(
    what: str, entries: float, max_bytes: float = MAX_BYTES, advice: str = "", each: int = 8
) -> None:
    """Check the memory of an array before it is allocated.

    Args:
        what: Description of the array, for the message.
        entries: Number of entries.
        max_bytes: Largest number of bytes.
        advice: Advice at the end of the message.
        each: Bytes of an entry.

    Raises:
        Intractable: If the array would be larger.
    """
    if entries * each > max_bytes:
        raise Intractable(
            f"{what} would need {human_bytes(entries * each)}; the budget is "
            f"{human_bytes(max_bytes)}",
            advice,
        )


def check_work(what: str, steps: float, advice: str = "") -> None:
    """Check the number of elementary steps of a method without early stopping.

    Args:
        what: Description of the work, for the message.
        steps: Number of visits of an element, evaluations of a density, or similar steps.
        advice: Advice at the end of the message.

    Raises:
        Intractable: If the work would take hours or more.
    """
    if steps > MAX_STEPS:
        raise Intractable(
            f"{what} would take {two_digits(steps)} elementary steps; at most "
            f"{two_digits(MAX_STEPS)}, which take some hours, are allowed",
            advice,
        )


def entries_of(sizes: Iterable[int], most: int = MAX_BYTES // 8) -> int:
    """Return the number of entries of a table, or some number above ``most`` if it is larger.

    The exact product of very many sizes, a number with millions of digits, is not computed.

    Args:
        sizes: Sizes of the axes, all positive.
        most: Largest number that is computed exactly.

    Example:
        >>> entries_of([2, 3]), entries_of([2] * 1_000_000, most=100)
        (6, 128)
    """
    entries = 1
    for size in sizes:
        entries *= size
        if entries > most:
            break
    return entries


def human_count(count: float) -> str:
    """Format a count with a unit such as million.

    Example:
        >>> human_count(950), human_count(1_234_567), human_count(10**17)
        ('950', '1.2 million', '1.0e+17')
    """
    if count < 10_000:
        return f"{int(count):,}"
    if count < 10**15:
        value = float(count)
        for unit in ("thousand", "million", "billion", "trillion"):
            value /= 1000.0
            if value < 999.95:
                return f"{value:.1f} {unit}"
    return two_digits(count)


def human_bytes(size: float) -> str:
    """Format a size in bytes with binary units.

    Example:
        >>> human_bytes(512), human_bytes(3_565_158), human_bytes(10**15)
        ('512 B', '3.4 MiB', '909.5 TiB')
    """
    if size < 1024:
        return f"{int(size)} B"
    if size < 1024**6:
        value = float(size)
        for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
            value /= 1024.0
            if value < 1023.95:
                return f"{value:.1f} {unit}"
    return f"{two_digits(size)} B"


def two_digits(count: float) -> str:
    """Format a number with two digits and a power of ten, also integers too large for a float."""
    if count == math.inf:
        return "more than 1.8e+308"
    exponent = math.floor(math.log10(count))
    digits = f"{10 ** (math.log10(count) - exponent):.1f}"
    return f"1.0e+{exponent + 1}" if digits == "10.0" else f"{digits}e+{exponent}"
