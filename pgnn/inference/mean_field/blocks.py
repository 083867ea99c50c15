"""Blocks of elements, and how factors lie to them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import ModelError
from pgnn.evidence.unknown_variable import UnknownVariable
from pgnn.factors.elements import Elements
from pgnn.inference.wiring import Wiring

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Slices:
    """Blocks that are the slices of an array of variables: the rows of a grid, say.

    Args:
        name: Of the array.
        axis: Each index along this axis is one block.
    """

    name: Hashable
    axis: int = 0


def in_blocks(elements: Elements, given: Iterable[Sequence[Hashable] | Slices]) -> list[Ints]:
    """Return the numbers of the elements of each block.

    Raises:
        EvidenceError: If a name is unknown (also a ``KeyError``).
        ModelError: If an element is in two blocks, or an array has no such axis.
    """
    blocks: list[Ints] = []
    for names in given:
        if isinstance(names, Slices):
            cells = _numbers(elements, names.name)
            if not -cells.ndim <= names.axis < cells.ndim:
                raise ModelError(f"{names.name!r} has the shape {cells.shape}, no {names.axis=}")
            blocks += [np.sort(part.ravel()) for part in np.moveaxis(cells, names.axis, 0)]
        elif isinstance(names, str):
            raise ModelError(f"a block is a list of names, got the string {names!r}")
        else:
            parts = [_numbers(elements, name).ravel() for name in names]
            blocks.append(np.sort(np.concatenate([np.zeros(0, np.int64), *parts])))
    blocks = [b for b in blocks if len(b)]
    count = np.bincount(np.concatenate([np.zeros(0, np.int64), *blocks]), minlength=1)
    if count.max() > 1:
        raise ModelError(f"{elements.name(int(count.argmax()))!r} is named twice in blocks")
    return blocks


def _numbers(elements: Elements, name: Hashable) -> Ints:
    found = elements.find(name)
    if found is None:
        raise UnknownVariable(name, (v.name for v in elements.variables))
    return found[1]


@dataclass(frozen=True, eq=False)
class Wide:
    """A factor that shares several elements with one block, and has others elsewhere.

    Args:
        factor: Its number.
        axes: Its axes in each block that it touches, by the number of the block.
    """

    factor: int
    axes: dict[int, list[int]]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Elements parted into blocks; those that are in none are single.

    Args:
        wiring: Of the graph.
        given: Numbers of the elements of each block.
    """

    wiring: Wiring
    given: list[Ints]

    @cached_property
    def block_of(self) -> Ints:
        """``(E,)`` number of each element's block; a number of its own if it is in none."""
        count = len(self.wiring.card)
        owner = len(self.given) + np.arange(count, dtype=np.int64)
        for b, elements in enumerate(self.given):
            owner[elements] = b
        return owner

    @cached_property
    def spans(self) -> Ints:
        """``(F,)`` 0: inside one block, 1: no two elements in one block, 2: anything else."""
        wiring = self.wiring
        kind = np.zeros(len(wiring.table), dtype=np.int64)
        arity = np.diff(wiring.scope_ptr)
        for n in np.unique(arity):
            which = np.flatnonzero(arity == n)
            scopes = wiring.scope_var[wiring.scope_ptr[which][:, None] + np.arange(n)]
            owners = np.sort(self.block_of[scopes], axis=1)
            apart = (np.diff(owners, axis=1) > 0).all(axis=1)
            kind[which] = np.where(owners[:, 0] == owners[:, -1], 0, np.where(apart, 1, 2))
        return kind

    @cached_property
    def wide(self) -> dict[int, list[Wide]]:
        """Factors of kind 2 by the blocks that they touch."""
        wiring = self.wiring
        found: dict[int, list[Wide]] = {}
        for f in np.flatnonzero(self.spans == 2).tolist():
            scope = wiring.scope_var[wiring.scope_ptr[f] : wiring.scope_ptr[f + 1]]
            axes: dict[int, list[int]] = {}
            for axis, owner in enumerate(self.block_of[scope].tolist()):
                axes.setdefault(owner, []).append(axis)
            for owner in axes:
                found.setdefault(owner, []).append(Wide(f, axes))
        return found

    @cached_property
    def members(self) -> dict[int, Ints]:
        """Elements of the blocks, and of single elements that touch a factor of kind 2."""
        members = dict(enumerate(self.given))
        for owner in self.wide:
            if owner not in members:
                members[owner] = np.array([owner - len(self.given)])
        return members

    @cached_property
    def singles(self) -> Ints:
        """The other elements."""
        rest = np.ones(len(self.block_of), dtype=np.bool_)
        for elements in self.members.values():
            rest[elements] = False
        return np.flatnonzero(rest)

    @cached_property
    def inner_factors(self) -> dict[int, list[int]]:
        """Factors inside each block."""
        wiring = self.wiring
        found: dict[int, list[int]] = {b: [] for b in self.members}
        for f in np.flatnonzero(self.spans == 0).tolist():
            found[int(self.block_of[wiring.scope_var[wiring.scope_ptr[f]]])].append(f)
        return found

    def columns(self, elements: Ints) -> Ints:
        """Return the columns of some elements' states."""
        wiring = self.wiring
        parts = [np.arange(wiring.offset[i], wiring.offset[i + 1]) for i in elements]
        return np.concatenate([np.zeros(0, np.int64), *parts])
