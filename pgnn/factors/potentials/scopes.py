"""Reading of the scopes of a potential."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ModelError, closest
from pgnn.factors.elements import Elements
from pgnn.factors.potentials.lattice import Lattice

Ints = NDArray[np.int64]


def read_scopes(elements: Elements, scopes: Any) -> Ints:
    """Return the scopes of a potential's factors.

    Args:
        elements: The elements of the potential's variables, in order.
        scopes: An integer array ``(F, n)`` of their indices; or tuples of element names (of a
            single array: indices); or a :class:`Lattice` of a single array; or
            ``None``: one factor over all variables, arrays element by element.

    Returns:
        ``(F, n)`` indices of elements.

    Raises:
        ModelError: If an element is unknown or occurs twice in a scope, or scopes differ in
            length or in the numbers of states.
    """
    if scopes is None and not elements.variables:
        raise ModelError("a potential needs at least one variable")
    numbers: Ints
    if scopes is None:
        numbers = elementwise(elements, range(len(elements.variables)))
    elif isinstance(scopes, Lattice):
        numbers = scopes.edges(array_shape(elements))[0]
    elif isinstance(scopes, np.ndarray | torch.Tensor):
        numbers = _numbers(elements, np.asarray(scopes))
    else:
        numbers = _named(elements, scopes)
    check_scopes(elements, numbers)
    return numbers


def array_shape(elements: Elements) -> tuple[int, ...]:
    """Return the shape of the only variable, an array.

    Raises:
        ModelError: If it is not an array, or there are others.
    """
    if len(elements.variables) != 1 or not elements.variables[0].shape:
        names = [v.name for v in elements.variables]
        raise ModelError(f"a lattice is over the cells of one array variable, got {names}")
    return elements.variables[0].shape


def elementwise(elements: Elements, variables: Iterable[int]) -> Ints:
    """Return one scope for each index of arrays of one shape; single variables are in all scopes.

    Raises:
        ModelError: If the shapes differ.
    """
    chosen = [elements.variables[k] for k in variables]
    try:
        numbers = np.broadcast_arrays(*(elements.numbers(v.name) for v in chosen))
    except ValueError:
        shapes = {v.name: v.shape for v in chosen}
        raise ModelError(
            f"arrays are joined element by element and need one shape, got {shapes}",
            "give the elements to join by scopes=",
        ) from None
    return np.stack([n.ravel() for n in numbers], axis=1)


def check_scopes(elements: Elements, scopes: Ints) -> None:
    """Check that no scope names an element twice and all have the same numbers of states.

    Raises:
        ModelError: If not.
    """
    check_distinct(elements, scopes)
    card = elements.card[scopes]
    if len(card) and (card != card[0]).any():
        row = int(np.argmax((card != card[0]).any(axis=1)))
        names = [elements.name(int(e)) for e in scopes[row]]
        raise ModelError(
            f"factors of one potential have the same numbers of states, but the first has "
            f"{card[0].tolist()} and the one over {names} has {card[row].tolist()}"
        )


def check_distinct(elements: Elements, scopes: Ints) -> None:
    """Check that no scope names an element twice.

    Raises:
        ModelError: Naming the element.
    """
    for a in range(scopes.shape[1]):
        for b in range(a):
            same = np.flatnonzero(scopes[:, a] == scopes[:, b])
            if len(same):
                name = elements.name(int(scopes[same[0], a]))
                raise ModelError(f"a potential joins {name!r} to itself", "remove that scope")


def _numbers(elements: Elements, numbers: NDArray[Any]) -> Ints:
    if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
        raise ModelError(
            f"scopes as an array are integers of shape (F, n), got {numbers.dtype} {numbers.shape}"
        )
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(elements):
        bad = numbers[(numbers < 0) | (numbers >= len(elements))][0]
        raise ModelError(f"element {bad} of a scope is out of range 0..{len(elements) - 1}")
    return numbers.astype(np.int64)


def _named(elements: Elements, scopes: Any) -> Ints:
    """Indices of scopes that are tuples of names or indices."""
    if isinstance(scopes, str) or not isinstance(scopes, Iterable):
        raise ModelError(f"scopes must be tuples of elements, got {scopes!r}")
    rows = [_members(scope) for scope in scopes]
    if len({len(r) for r in rows}) > 1:
        raise ModelError(
            f"scopes of one potential have one length, got {sorted({len(r) for r in rows})}"
        )
    width = len(rows[0]) if rows else 2
    indices = [_number(elements, name) for row in rows for name in row]
    return np.array(indices, dtype=np.int64).reshape(-1, width)


def _members(scope: Any) -> tuple[Any, ...]:
    if isinstance(scope, str) or not isinstance(scope, Iterable):
        raise ModelError(f"a scope is a tuple of elements, got {scope!r}")
    return tuple(scope)


def _number(elements: Elements, name: Any) -> int:
    element = elements.find(name)
    if element is None and len(elements.variables) == 1 and isinstance(name, tuple):
        element = elements.find((elements.variables[0].name, *name))
    if element is not None and element[1].ndim == 0:
        return int(element[1])
    if element is not None:
        raise ModelError(
            f"{name!r} is an array of shape {element[0].shape}; a scope names its elements, "
            f"such as {(name, *(0 for _ in element[0].shape))}"
        )
    if isinstance(name, int | np.integer) and 0 <= name < len(elements):
        return int(name)
    known: list[Hashable] = [v.name for v in elements.variables]
    raise ModelError(f"a scope names the unknown element {name!r}{closest(name, known)}")
