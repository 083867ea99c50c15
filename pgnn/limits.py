"""Numbers that a caller or a file can make large, checked before memory or time is spent."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from pgnn.errors import DataError, EvidenceError, Intractable, ModelError, PgnnError

MAX_BYTES = 2**32
"""Memory that an answer may take where the engine has no limit of its own."""
MAX_STEPS = 2**40
"""Elementary steps of a method that does not stop early: hours, on any machine."""
MAX_COUNT = 2**63 - 1
"""Largest setting and seed: kernels and generators of random numbers take no larger ones."""
MAX_SIZE = 10**100
"""Largest number of anything that is asked for."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """The real numbers that a setting may be.

    Args:
        low: Least of them.
        high: Greatest of them.
        open_low: Whether ``low`` itself is left out.
        open_high: Whether ``high`` itself is left out.

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
    """Check all fields of a frozen dataclass that are declared as numbers or as truth values.

    Fields are taken for what their annotations say: ``int``, ``float`` or ``bool``, perhaps
    ``| None``. Whole numbers of other types, such as NumPy's, become Python's own.

    Args:
        settings: The object, in its ``__post_init__``.
        bounds: By the name of a field the least whole number, 0 if not given; or the interval of
            real numbers, all but ``NaN`` if not given.

    Raises:
        ModelError: If a value is of another type or out of its bounds.
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
            raise ModelError(f"{field.name} must be True or False, got {value!r}")


def whole_number(
    name: str,
    value: Any,
    least: int = 0,
    error: type[PgnnError] = EvidenceError,
    most: int = MAX_SIZE,
) -> int:
    """Return an argument as an integer.

    Args:
        name: What messages call it.
        value: What came.
        least: The smallest that makes sense.
        error: Class of the error that is raised.
        most: The largest; sizes that depend on it are checked separately.

    Raises:
        EvidenceError: Or the given error: if it is no whole number, smaller or larger.

    Example:
        >>> whole_number("k", 3, least=1)
        3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise error(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        bound = f"be at least {least}" if least else "not be negative"
        raise error(f"{name} must {bound}, got {number}")
    if number > most:
        raise error(f"{name} must be at most {two_digits(most)}, got {two_digits(number)}")
    return number


def check_real(
    name: str, value: Any, interval: Interval, error: type[PgnnError] = ModelError
) -> None:
    """Check that an argument is a real number of an interval.

    Args:
        name: What messages call it.
        value: What came.
        interval: Where it must lie.
        error: Class of the error that is raised.

    Raises:
        ModelError: Or the given error: if it is no number, ``NaN``, or outside.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise error(f"{name} must be a number, got {value!r}")
    if float(value) not in interval:
        raise error(f"{name} must be {interval}, got {value}")


def check_callable(name: str, value: Any, example: str) -> None:
    """Check that a setting is a function, or not given.

    Args:
        name: What messages call it.
        value: What came; None is not given.
        example: What could be given.

    Raises:
        ModelError: If it is no function.
    """
    if value is not None and not callable(value):
        raise ModelError(f"{name} must be a function such as {example}, got {value!r}")


def check_seed(seed: Any) -> int | None:
    """Return a seed; None stands for draws that differ from call to call.

    Raises:
        EvidenceError: If it is neither None nor a whole number of at least zero.
    """
    return None if seed is None else whole_number("seed", seed, most=MAX_COUNT)


def check_size(
    what: str, entries: float, max_bytes: float = MAX_BYTES, advice: str = "", each: int = 8
) -> None:
    """Check what an array would take.

    Args:
        what: What it would hold, for the message.
        entries: How many numbers.
        max_bytes: The limit.
        advice: What to do instead.
        each: Bytes of one number.

    Raises:
        Intractable: If it is more than that.
    """
    if entries * each > max_bytes:
        raise Intractable(
            f"{what} would need {human_bytes(entries * each)}; the budget is "
            f"{human_bytes(max_bytes)}" + (f". {advice}" if advice else "")
        )


def check_work(what: str, steps: float, advice: str = "") -> None:
    """Check how many elementary steps a method takes that does not stop early.

    Args:
        what: What it would do, for the message.
        steps: Visits of an element, evaluations of a density, or the like.
        advice: What to do instead.

    Raises:
        Intractable: If that would take hours or more.
    """
    if steps > MAX_STEPS:
        raise Intractable(
            f"{what} would take {two_digits(steps)} elementary steps; at most "
            f"{two_digits(MAX_STEPS)}, which are some hours, are begun"
            + (f". {advice}" if advice else "")
        )


def entries_of(sizes: Iterable[int], most: int = MAX_BYTES // 8) -> int:
    """Return how many entries a table has; some number above ``most`` if there are more.

    The product of very many sizes is a number of millions of digits: it is not computed.

    Args:
        sizes: Sizes of the axes, all positive.
        most: Beyond this the exact number does not matter.

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
    """Return a count as people say it.

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
    """Return a size in bytes in binary units.

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
    """Return two digits and a power of ten, of integers too large for a float as well."""
    if count == math.inf:
        return "more than 1.8e+308"
    exponent = math.floor(math.log10(count))
    digits = f"{10 ** (math.log10(count) - exponent):.1f}"
    return f"1.0e+{exponent + 1}" if digits == "10.0" else f"{digits}e+{exponent}"


def check_apart(file: str, columns: Sequence[str]) -> None:
    """Check that no two columns of a file have the same name.

    Raises:
        DataError: If two have.
    """
    twice = next((name for k, name in enumerate(columns) if name in columns[:k]), None)
    if twice is not None:
        raise DataError(f"{file}: two columns have the name {twice!r}; rename or remove one")
