"""Reading which elements of its variables a potential joins."""

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


def read_scopes(own: Elements, given: Any) -> Ints:
    """Return the scopes of a potential's factors.

    Args:
        own: The elements of the potential's variables, in order.
        given: An integer array ``(F, n)`` of their numbers; or tuples of element names (of a
            single array: indices, or numbers); or a :class:`Lattice` of a single array; or
            ``None``: one factor over all variables, arrays element by element.

    Returns:
        ``(F, n)`` numbers of elements.

    Raises:
        ModelError: If an element is unknown or occurs twice in a scope, or scopes differ in
            length or in the numbers of states.
    """
    if given is None and not own.variables:
        raise ModelError("a potential needs at least one variable")
    if given is None:
        scopes = elementwise(own, range(len(own.variables)))
    elif isinstance(given, Lattice):
        scopes = given.edges(array_shape(own))[0]
    elif isinstance(given, np.ndarray | torch.Tensor):
        scopes = _numbers(own, np.asarray(given))
    else:
        scopes = _named(own, given)
    check_scopes(own, scopes)
    return scopes


def array_shape(own: Elements) -> tuple[int, ...]:
    """Return the shape of the only variable.

    Raises:
        ModelError: If it is none, or there are others.
    """
    if len(own.variables) != 1 or not own.variables[0].shape:
        names = [v.name for v in own.variables]
        raise ModelError(f"a lattice is over the cells of one array variable, got {names}")
    return own.variables[0].shape


def elementwise(own: Elements, variables: Iterable[int]) -> Ints:
    """Return one scope for each place of arrays of one shape; a single variable is in all of them.

    Raises:
        ModelError: If the shapes differ.
    """
    chosen = [own.variables[k] for k in variables]
    try:
        numbers = np.broadcast_arrays(*(own.numbers(v.name) for v in chosen))
    except ValueError:
        shapes = {v.name: v.shape for v in chosen}
        raise ModelError(
            f"arrays are joined element by element and need one shape, got {shapes}; say with "
            "scopes= which elements to join"
        ) from None
    return np.stack([n.ravel() for n in numbers], axis=1)


def check_scopes(own: Elements, scopes: Ints) -> None:
    """Check that no scope names an element twice and all have the same numbers of states.

    Raises:
        ModelError: If not.
    """
    check_distinct(own, scopes)
    card = own.card[scopes]
    if len(card) and (card != card[0]).any():
        row = int(np.argmax((card != card[0]).any(axis=1)))
        names = [own.name(int(e)) for e in scopes[row]]
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
                raise ModelError(f"a potential joins {name!r} to itself; remove that scope")


def _numbers(own: Elements, given: NDArray[Any]) -> Ints:
    if given.ndim != 2 or given.dtype.kind not in "iu":
        raise ModelError(
            f"scopes as an array are integers of shape (F, n), got {given.dtype} {given.shape}"
        )
    if given.size and not 0 <= given.min() <= given.max() < len(own):
        bad = given[(given < 0) | (given >= len(own))][0]
        raise ModelError(f"element {bad} of a scope is out of range 0..{len(own) - 1}")
    return given.astype(np.int64)


def _named(own: Elements, given: Any) -> Ints:
    """Scopes as tuples of names, indices or numbers."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ModelError(f"scopes must be tuples of elements, got {given!r}")
    rows = [_members(scope) for scope in given]
    if len({len(r) for r in rows}) > 1:
        raise ModelError(
            f"scopes of one potential have one length, got {sorted({len(r) for r in rows})}"
        )
    width = len(rows[0]) if rows else 2
    found = [_number(own, name) for row in rows for name in row]
    return np.array(found, dtype=np.int64).reshape(-1, width)


def _members(scope: Any) -> tuple[Any, ...]:
    if isinstance(scope, str) or not isinstance(scope, Iterable):
        raise ModelError(f"a scope is a tuple of elements, got {scope!r}")
    return tuple(scope)


def _number(own: Elements, name: Any) -> int:
    found = own.find(name)
    if found is None and len(own.variables) == 1 and isinstance(name, tuple):
        found = own.find((own.variables[0].name, *name))
    if found is not None and found[1].ndim == 0:
        return int(found[1])
    if found is not None:
        raise ModelError(
            f"{name!r} is an array of shape {found[0].shape}; a scope names its elements, "
            f"such as {(name, *(0 for _ in found[0].shape))}"
        )
    if isinstance(name, int | np.integer) and 0 <= name < len(own):
        return int(name)
    known: list[Hashable] = [v.name for v in own.variables]
    raise ModelError(f"a scope names the unknown element {name!r}{closest(name, known)}")
