"""Exceptions that pgnn raises; every message says what was expected, what came and what to do."""

from __future__ import annotations

import difflib
import inspect
import itertools
from abc import ABCMeta
from collections.abc import Hashable, Iterable, Mapping, Set
from importlib.util import find_spec
from typing import Any, Self

_LONGEST, _MOST = 100, 3000
"""Characters of a name, and names, that are compared with a mistyped one."""


class Advice(str):
    """Advice about an argument, which an interface without Python gives in its own words.

    Args:
        text: The advice, about arguments of functions.
        setting: What it is about, such as ``"ignore"``.
        values: Values of the argument, such as names of columns.

    Example:
        >>> advice = Advice("pass normalise=True", "normalise")
        >>> advice, advice.setting
        ('pass normalise=True', 'normalise')
    """

    setting: str
    values: tuple[object, ...]

    def __new__(cls, text: str, setting: str, values: Iterable[object] = ()) -> Self:
        """Return the text, with what it is about."""
        result = super().__new__(cls, text)
        result.setting, result.values = setting, tuple(values)
        return result

    def __getnewargs__(self) -> tuple[str, str, tuple[object, ...]]:  # type: ignore[override]
        return str(self), self.setting, self.values


class PgnnError(Exception):
    """Base class of every error that pgnn raises on purpose.

    Args:
        reason: What was expected and what came.
        advice: What to do; a sentence of its own if it starts with a capital letter.

    Attributes:
        reason: The message without the advice.
        advice: The advice; empty if there is none, or if it is not told apart.

    Example:
        >>> error = PgnnError("'time; h' is real", "use MCMC()")
        >>> str(error), error.reason, error.advice
        ("'time; h' is real; use MCMC()", "'time; h' is real", 'use MCMC()')
    """

    def __init__(self, reason: object = "", advice: str = "") -> None:
        joint = ". " if advice[:1].isupper() else "; "
        joint = " " if str(reason).endswith("?") else joint
        super().__init__(f"{reason}{joint}{advice}" if advice else reason)
        self.reason = str(reason)
        self.advice = advice

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class ModelError(PgnnError, ValueError):
    """A model is declared wrongly: a cycle, a shape, a row that does not sum to one."""


class ArgumentError(ModelError, TypeError):
    """A required argument of a model, an engine or a part of a model is missing."""


class EvidenceError(PgnnError, ValueError):
    """Evidence or a target names an unknown variable or state, or has the wrong shape."""


class ImpossibleEvidence(EvidenceError):
    """The evidence has probability zero under the model.

    Attributes:
        rows: Indices of the impossible rows of the batch.
        steps: For sequences, the first step of each of these rows at which the evidence up to
            that step has probability zero.
        conflict: A minimal subset of the first impossible row's findings that cannot occur
            together (variable name to state label); dropping any one of them makes it possible.
    """

    def __init__(
        self,
        reason: str,
        rows: tuple[int, ...] = (),
        conflict: Mapping[Any, Any] | None = None,
        *,
        steps: tuple[int, ...] = (),
        advice: str = "",
    ) -> None:
        super().__init__(reason, advice)
        self.rows = rows
        self.steps = steps
        self.conflict = dict(conflict or {})


class Intractable(PgnnError, RuntimeError):
    """An exact answer would cost more than the budget allows; raised before memory is touched."""


class Unsupported(PgnnError, TypeError):
    """The model or engine cannot answer this kind of question; the message names one that can."""


class DataError(PgnnError, ValueError):
    """A file or a data set is malformed.

    Attributes:
        line: Line of the file (from 1), where known.
        column: Column of that line (from 1), where known.
    """

    def __init__(
        self,
        reason: object = "",
        advice: str = "",
        *,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(reason, advice)
        self.line = line
        self.column = column


def located(error: PgnnError, where: str) -> PgnnError:
    """Return an error with the place where it occurred before its reason.

    Example:
        >>> str(located(DataError("no state 'maybe'", "correct it"), "rows.csv"))
        "rows.csv: no state 'maybe'; correct it"
    """
    same = _restored(type(error), error.args, error.__dict__)
    same.reason = f"{where}: {error.reason}"
    same.args = (str(PgnnError(same.reason, error.advice)),)
    return same


def _restored(kind: Any, args: tuple[Any, ...], state: Mapping[str, Any]) -> PgnnError:
    """An error that was pickled; its class may be created from other arguments."""
    error: PgnnError = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class AdvisedWarning(UserWarning):
    """A warning that tells its advice apart, as :class:`PgnnError` does."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(str(PgnnError(reason, advice)))
        self.reason, self.advice = reason, advice


class NotConverged(AdvisedWarning):
    """An iterative method stopped at its limit before it met its tolerance.

    Attributes:
        method: Name of the class of the engine or learner whose settings the advice names; empty
            if it is about none.
    """

    def __init__(self, reason: str, advice: str = "", method: str = "") -> None:
        super().__init__(reason, advice)
        self.method = method


def overflowing(names: Iterable[Hashable]) -> DataError:
    """Return the error for values whose sums, or sums of squares, overflow."""
    shown = ", ".join(map(repr, names))
    return DataError(
        f"values of {shown} are so large that sums over the rows overflow",
        "take other units, which divides them by a power of ten, or leave wrong rows out",
    )


def closest(name: object, known: Iterable[object]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known names nearest to a mistyped one.

    Args:
        name: What the caller wrote.
        known: Names that exist.

    Returns:
        A phrase to append to an error message; where nothing is near, the first few known names,
        those of a set in alphabetical order, or that there is none.
    """
    if isinstance(known, Set):
        known = sorted(known, key=str)
    names = {str(k): k for k in known}
    text = str(name)
    # comparing takes time quadratic in the length, for each of the names
    similar = [n for n in names if abs(len(n) - len(text)) <= 0.6 * max(len(n), len(text))]
    few = itertools.islice((n for n in similar if len(n) <= _LONGEST), _MOST)
    near = difflib.get_close_matches(text, few, n=3) if len(text) <= _LONGEST else []
    if near:
        return "; did you mean " + " or ".join(repr(names[n]) for n in near) + "?"
    if not names:
        return "; there is none"
    shown = ", ".join(short_repr(k) for k in itertools.islice(names.values(), 8))
    return f"; known: {shown}{', ...' if len(names) > 8 else ''}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is one.

    Example:
        >>> counted(1, "variable"), counted(1200, "row")
        ('1 variable', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, most: int = 200) -> str:
    """Return the beginning of a text that may be very long.

    Example:
        >>> shortened("no, yes", 4)
        'no, ...'
    """
    return text if len(text) <= most else f"{text[:most]}..."


def short_repr(value: object, most: int = 200) -> str:
    """Return the representation of a value in one line, cut where it is long, for messages.

    Example:
        >>> short_repr([1, 2, 3], 4)
        '[1, ...'
    """
    return shortened(" ".join(repr(value).split()), most)


def require(module: str, extra: str, what: str) -> None:
    """Check that an optional library is installed.

    Args:
        module: Name of its module.
        extra: The extra of this package that installs it.
        what: The features that need it, in the plural.

    Raises:
        Unsupported: If it is not installed.
    """
    if find_spec(module) is None:
        raise Unsupported(
            f"{what} need {module}, which is not installed",
            Advice(f"python -m pip install 'pgnn[{extra}]'", "install"),
        )


class ChecksArguments(ABCMeta):
    """Metaclass whose constructor errors name the missing and unknown arguments.

    Attributes:
        arguments_hint: Advice that is appended to these messages.
    """

    arguments_hint: str = ""

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=[*signature.parameters.values()][1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Create an instance.

        Raises:
            ArgumentError: If an argument is missing or unknown, or there are too many.
        """
        try:
            return super().__call__(*args, **kwargs)
        except TypeError as error:
            message = None if isinstance(error, PgnnError) else _wrong_arguments(cls, args, kwargs)
            if message is None:
                raise
            raise ArgumentError(message) from None


def _wrong_arguments(cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return a message about missing, unknown or surplus arguments; None if there are none."""
    signature = cls.__signature__
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        text = str(error)
    else:
        return None
    known, name = signature.parameters, cls.__name__
    unknown = [n for n in kwargs if n not in known]
    if unknown:
        return f"{name} has no argument {unknown[0]!r}{closest(unknown[0], known)}"
    return f"{name}: {text}; it takes {name}({', '.join(known)}){cls.arguments_hint}"
