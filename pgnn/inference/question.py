"""What a question is about: names as numbers of elements, data as evidence."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.abilities import DirectedModel
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.elements import Elements
from pgnn.factors.variable import Variable
from pgnn.inference.engine import FactorModel, Names

Ints = NDArray[np.int64]


def reader_of(model: FactorModel) -> EvidenceReader:
    """Return what reads evidence about a model's variables, made once."""
    reader: EvidenceReader = model.cached(
        "evidence reader",
        lambda: EvidenceReader(tuple(model.variables.values()), model.elements, _in_part(model)),
    )
    return reader


def _in_part(model: Any) -> list[Hashable]:
    """Real variables whose conditionals integrate out what is missing of a vector."""
    if not isinstance(model, DirectedModel):
        return []
    return [n for n, c in model.conditionals.items() if c.integrates_missing]


def listed(names: Names) -> list[Hashable]:
    """Return a single name, or several, as a list."""
    if isinstance(names, (str, bytes, int)) or not isinstance(names, Iterable):
        return [names]
    return list(names)


class Targets(NamedTuple):
    """What is asked for.

    Attributes:
        variables: The named variables; an element of an array is one of its own.
        numbers: Their elements' numbers, in this order.
    """

    variables: tuple[Variable, ...]
    numbers: Ints

    def mask(self, elements: Elements) -> NDArray[np.bool_]:
        """Return ``(E,)`` which elements are asked for."""
        asked = np.zeros(len(elements), dtype=np.bool_)
        asked[self.numbers] = True
        return asked

    def columns(self, elements: Elements) -> Ints:
        """Return where the targets' states stand where all elements' states stand side by side."""
        return _spread(elements.offset[self.numbers], elements.card[self.numbers])

    def reordered(self, elements: Elements) -> Ints | None:
        """Return where they stand among the targets' states sorted by number; None if sorted."""
        if not (self.numbers[1:] < self.numbers[:-1]).any():
            return None
        order = np.argsort(self.numbers)
        sizes = elements.card[self.numbers]
        first = np.empty_like(sizes)
        first[order] = np.cumsum(sizes[order]) - sizes[order]
        return _spread(first, sizes)


def _spread(first: Ints, sizes: Ints) -> Ints:
    """``first[k], first[k] + 1, ...`` of ``sizes[k]`` columns, for each ``k``."""
    ends = np.cumsum(sizes)
    step = np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    return np.asarray(step + np.repeat(first - (ends - sizes), sizes))


def targets_of(model: FactorModel, names: Names | None) -> Targets:
    """Return the named discrete variables or elements of arrays, all variables for None.

    Raises:
        EvidenceError: If a name is unknown or there twice.
        Unsupported: If a variable is real.
    """
    elements = model.elements
    if names is None:
        return Targets(elements.variables, np.arange(len(elements), dtype=np.int64))
    whole = elements.find(names)
    if whole is not None:
        return Targets((whole[0],), whole[1].ravel())
    found = [_found(model, name) for name in listed(names)]
    numbers = np.concatenate([np.zeros(0, np.int64), *(n.ravel() for _, n in found)])
    targets = Targets(tuple(v for v, _ in found), numbers)
    if np.count_nonzero(targets.mask(elements)) < len(numbers):
        values, counts = np.unique(numbers, return_counts=True)
        raise EvidenceError(f"{elements.name(int(values[counts > 1][0]))!r} is named twice")
    return targets


def scope_of(model: FactorModel, names: Iterable[Hashable]) -> list[int]:
    """Return the numbers of what a joint table is over: variables without a shape, and elements.

    Raises:
        EvidenceError: If a name is unknown, there twice, or that of an array.
        Unsupported: If a variable is real.
    """
    scope = targets_of(model, list(names))
    for v in scope.variables:
        if v.shape:
            element = (v.name, *[0] * len(v.shape))
            raise EvidenceError(f"{v.name!r} is an array; name elements of it, as in {element}")
    return [int(e) for e in scope.numbers]


def _found(model: FactorModel, name: object) -> tuple[Variable, Ints]:
    if not isinstance(name, Hashable):
        raise EvidenceError(f"expected the name of a variable, or a list of names, got {name}")
    found = model.elements.find(name)
    if found is None:
        if name in model.variables:
            raise Unsupported(f"{name!r} is real; engines answer about discrete variables")
        raise unknown_variable(name, model.variables.values())
    return found


def check_errors(errors: str) -> None:
    """Check what is to be done about impossible rows.

    Raises:
        EvidenceError: If it is neither ``"raise"`` nor ``"nan"``.
    """
    if errors not in ("raise", "nan"):
        raise EvidenceError(f"errors must be 'raise' or 'nan', got {errors!r}")
