"""Random variables: a name, and either named states or a real shape."""

from __future__ import annotations

import math
import numbers
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice, product
from typing import Any

import numpy as np

from pgnn.errors import ChecksArguments, EvidenceError, Intractable, ModelError, Unsupported
from pgnn.factors.cells import cells_of, is_container, is_missing
from pgnn.factors.labels import MISSING, Labels
from pgnn.limits import human_bytes, human_count

__all__ = ["MISSING", "Variable"]


_BYTES_OF_A_LABEL = 150
MAX_STATES = 2**24
"""Most states of a variable."""


class Variable(metaclass=ChecksArguments):
    """A named random variable, discrete with labelled states or real with a shape.

    A discrete variable has states ``0 .. K-1``, each with a label. Values are read alike in every
    container: an integer or boolean is a *label* wherever the labels are numbers or spell them;
    otherwise an integer is an *index*, and a boolean one if the label there spells it, as "no" and
    "yes" do. A string is a label. ``None``, ``NaN``, ``pandas.NA``,
    masked cells and ``-1`` (where it is no label) mean "not observed".

    Args:
        name: Any hashable; unique within a model.
        states: Number of states, or their labels in order; ``None`` for a real variable.
        shape: Event shape of a real variable, or array shape of an array of discrete ones. An
            axis whose length is known with the data only has a name instead, as in ``("T",)``.

    Raises:
        ModelError: If there is no state, a label occurs twice, or an axis is not a length or name.

    Example:
        >>> rain = Variable("rain", ["no", "yes"])
        >>> rain.num_states, rain.index("yes"), rain.decode([1, 0])
        (2, 1, ('yes', 'no'))
    """

    __slots__ = ("labels", "name", "shape", "states")

    def __init__(
        self,
        name: Hashable,
        states: int | Iterable[Hashable] | None = None,
        shape: Sequence[int | str] = (),
    ) -> None:
        self.name = name
        self.shape: tuple[Any, ...] = _axes(name, shape)
        self.states = _labels(name, states)
        self.labels = Labels(name, self.states or ())

    @property
    def is_discrete(self) -> bool:
        """Whether the variable has states."""
        return self.states is not None

    @property
    def num_states(self) -> int:
        """Number of states.

        Raises:
            ModelError: If the variable is real.
        """
        if self.states is None:
            raise ModelError(f"variable {self.name!r} is real: it has no states")
        return len(self.states)

    @property
    def num_elements(self) -> int:
        """Number of cells of an array; 1 without a shape.

        Raises:
            Unsupported: If an axis has a name instead of a length.
        """
        if self.shape and any(isinstance(n, str) for n in self.shape):
            raise Unsupported(
                f"{self.name!r} has the shape {self.shape}: the length of a named axis is known "
                "only with the data; this needs an array whose lengths are all numbers"
            )
        return math.prod(self.shape)

    def element(self, *index: int) -> Variable:
        """Return one element of an array as a variable of its own, named ``(name, *index)``.

        Raises:
            EvidenceError: If the index does not fit the shape.
        """
        if not self.has_element(index):
            raise EvidenceError(
                f"{self.name!r} has the shape {self.shape} and no element {list(index)}"
            )
        return self._single((self.name, *map(int, index)))

    def position(self, index: Sequence[int]) -> int:
        """Return the index of an element in row-major order."""
        place = 0
        for i, n in zip(index, self.shape, strict=True):
            place = place * n + int(i)
        return place

    def elements(self) -> Iterator[Variable]:
        """Yield every element as a variable of its own; without a shape, the variable itself."""
        if not self.shape:
            yield self
        else:
            for index in product(*map(range, self.shape)):
                yield self._single((self.name, *index))

    def has_element(self, index: Sequence[object]) -> bool:
        """Whether an index is that of an element; any number is along a named axis."""
        return len(index) == len(self.shape) and all(
            isinstance(i, int | np.integer) and i >= 0 and (isinstance(n, str) or i < n)
            for i, n in zip(index, self.shape, strict=True)
        )

    def index(self, state: object) -> int:
        """Return the index of one state, given by label or index; -1 where it is missing.

        Raises:
            EvidenceError: If the variable has no such state.
        """
        return self.labels.index(state)

    def encode(self, values: Any) -> np.ndarray:
        """Convert values in any container to state indices, by the rule of :class:`Labels`.

        Args:
            values: Tensor, array, masked array, Series, Categorical or (nested) sequence.

        Returns:
            int32 array of the same shape; -1 where a value is missing.

        Raises:
            EvidenceError: If a value is not a state of this variable.
        """
        if not is_container(values, self.labels.codes):
            values = [values]
        return self.labels.column(cells_of(values, self.labels.codes)).take()

    def decode(self, indices: Any) -> tuple[Any, ...]:
        """Return the labels of a one-dimensional sequence of state indices (``None`` for -1)."""
        states = self.states or ()
        return tuple(None if k < 0 else states[k] for k in np.asarray(indices).ravel().tolist())

    def __repr__(self) -> str:
        if self.states is None:
            return f"Variable({self.name!r}, shape={self.shape})"
        shape = f", shape={self.shape}" if self.shape else ""
        return f"Variable({self.name!r}, {list(self.states)!r}{shape})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Variable)
            and self.name == other.name
            and self.states == other.states
            and self.shape == other.shape
        )

    def __hash__(self) -> int:
        return hash((self.name, self.states, self.shape))

    def _single(self, name: Hashable) -> Variable:
        """A variable of the same states without a shape; unchecked, since arrays may be large."""
        single = Variable.__new__(Variable)
        single.name, single.shape, single.states = name, (), self.states
        single.labels = self.labels
        return single


def check_variables(what: str, candidates: Iterable[Any]) -> tuple[Variable, ...]:
    """Check that all candidates are variables, and return them as a tuple.

    Args:
        what: Their name in messages.
        candidates: The arguments to check.

    Raises:
        ModelError: If one is not a variable.
    """
    if isinstance(candidates, Variable | str) or not isinstance(candidates, Iterable):
        raise ModelError(
            f"{what} must be a list of variables, got {candidates!r}{_by_name(candidates)}"
        )
    variables = tuple(candidates)
    for v in variables:
        if not isinstance(v, Variable):
            raise ModelError(
                f"{what} must be variables, such as pgnn.Variable('x', 2), got {v!r}{_by_name(v)}"
            )
    return variables


def _labels(name: Hashable, states: int | Iterable[Hashable] | None) -> tuple[Any, ...] | None:
    if states is None:
        return None
    if isinstance(states, str | bool) or not isinstance(states, numbers.Integral | Iterable):
        raise ModelError(f"states of {name!r} must be a number or a list of labels, got {states!r}")
    if isinstance(states, set | frozenset):
        raise ModelError(
            f"states of {name!r} must have an order", f"give a list instead of {states}"
        )
    if isinstance(states, numbers.Integral):
        states = range(int(states))
    if isinstance(states, range) and states[MAX_STATES:]:
        raise _too_many(name, (states[-1] - states[0]) // states.step + 1)
    labels = tuple(islice(states, MAX_STATES + 1))
    if len(labels) > MAX_STATES:
        raise _too_many(name, len(labels))
    try:
        distinct = len(set(labels))
    except (TypeError, ValueError):  # ValueError is that of a duration without a unit
        raise ModelError(f"states of {name!r} must be hashable labels, got {labels}") from None
    if not labels:
        raise ModelError(f"variable {name!r} has no states", "give at least one")
    missing = next((x for x in labels if x is not None and is_missing(x)), None)
    if missing is not None:
        raise ModelError(
            f"variable {name!r} has the label {missing!r}, which stands for a missing value",
            "call the state otherwise, such as 'none'",
        )
    if distinct != len(labels):
        observed: set[Hashable] = set()
        twice = next(label for label in labels if label in observed or observed.add(label))  # type: ignore[func-returns-value]
        raise ModelError(f"state {twice!r} of variable {name!r} occurs twice; labels must differ")
    return labels


def _too_many(name: Hashable, count: int) -> Intractable:
    return Intractable(
        f"{name!r} is to have {human_count(count)} states or more, whose labels would need "
        f"{human_bytes(_BYTES_OF_A_LABEL * count)}; at most {MAX_STATES:,} can be",
        "group them, or use a real variable",
    )


def _axes(name: Hashable, shape: Any) -> tuple[int | str, ...]:
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise ModelError(f"shape of {name!r} must list lengths, such as (28, 28), got {shape!r}")
    axes = tuple(shape)
    for n in axes:
        length = type(n) is not bool and isinstance(n, numbers.Integral) and int(n) >= 0
        if not length and not (isinstance(n, str) and n):
            raise ModelError(f"an axis of {name!r} must be a length or a name, got {n!r}")
    return tuple(n if isinstance(n, str) else int(n) for n in axes)


def _by_name(value: Any) -> str:
    """A hint for numbers or names that were given in place of variables."""
    try:
        numeric = np.asarray(value).dtype.kind in "fiu"
    except (TypeError, ValueError, RuntimeError):
        numeric = False
    return "; numbers are given by name, as in table=[0.5, 0.5] or mean=0.0" if numeric else ""
