"""Puts a network together from the variables and tables of a file, and checks them."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pgnn.errors import Advice, DataError, closest, shortened
from pgnn.factors.conditionals.table_reader import ROW_TOLERANCE
from pgnn.io.description import MAX_AXES, Network, Table, find_cycle, path_text
from pgnn.io.number_words import NotANumber, read_numbers
from pgnn.io.source import Source
from pgnn.limits import check_size, entries_of

MAX_CELLS = 2**26
"""Most numbers of one table that are read."""
_BYTES_OF_A_CELL = 24  # in the table that was read, the copy that is checked, and the model
_PUNCTUATION = str.maketrans("(),", "   ")
_WORD = re.compile(r"[^\s(),<>]++")

Shape = tuple[int, ...]
ReadValues = Callable[[Shape], np.ndarray]
"""Reads a table of a shape, parents in order and the child last."""


@dataclass(frozen=True)
class _Variable:
    states: tuple[str, ...]
    offset: int
    latent: bool


@dataclass(frozen=True)
class _Declared:
    child: str
    parents: tuple[str, ...]
    offset: int
    values: ReadValues
    name_offsets: Mapping[str, int]


class NetworkAssembly:
    """Collects what a reader finds in a file, in any order; sizes are checked before numbers.

    Args:
        source: The text with blanks for comments, for the positions of errors.
        normalise: Whether rows are weights, each to be divided by its sum.

    Example:
        >>> text = Source("coin heads tails 0.5 0.5", "coin.txt")
        >>> assembly = NetworkAssembly(text)
        >>> assembly.add_variable("coin", ["heads", "tails"], 0)
        >>> assembly.add_table("coin", [], 17, lambda s: assembly.numbers("0.5 0.5", 17, s, "coin"))
        >>> assembly.network("coins").tables["coin"].values
        array([0.5, 0.5])
    """

    def __init__(self, source: Source, normalise: bool = False) -> None:
        self.source = source
        self.normalise = normalise
        self._variables: dict[str, _Variable] = {}
        self._tables: dict[str, _Declared] = {}

    def add_variable(
        self, name: str, states: Sequence[str], offset: int, latent: bool = False
    ) -> None:
        """Declare a variable.

        Raises:
            DataError: If it was declared before, or has no states or one of them twice.
        """
        if name in self._variables:
            raise self.source.error(offset, f"variable {name!r} is declared twice")
        if not states:
            raise self.source.error(offset, f"variable {name!r} has no states")
        if len(set(states)) < len(states):
            raise self.source.error(offset, f"{name!r} has the state {_twice(states)!r} twice")
        self._variables[name] = _Variable(tuple(states), offset, latent)

    def add_table(
        self,
        child: str,
        parents: Sequence[str],
        offset: int,
        values: ReadValues,
        name_offsets: Mapping[str, int] | None = None,
    ) -> None:
        """Declare the table of a variable; its numbers are read when all sizes are known.

        Args:
            child: Its variable.
            parents: In the order of the axes.
            offset: Of the table.
            values: Reads the numbers.
            name_offsets: Where child and parents are named, if not at the table's beginning.

        Raises:
            DataError: If the variable has one, or a parent occurs twice.
        """
        if child in self._tables:
            raise self.source.error(offset, f"variable {child!r} has two tables")
        if len(set(parents)) < len(parents):
            twice = _twice(parents)
            raise self.source.error(offset, f"{twice!r} is twice a parent of {child!r}")
        self._tables[child] = _Declared(child, tuple(parents), offset, values, name_offsets or {})

    def states(self, name: str) -> tuple[str, ...]:
        """Return the states of a declared variable."""
        return self._variables[name].states

    def network(self, name: str = "unknown") -> Network:
        """Read the numbers and return the network.

        Raises:
            DataError: If a variable has no table or a table no variable, there is a cycle, a row
                does not sum to one, or whatever the tables' readers raise.
            Intractable: If all tables together are too large.
        """
        shapes = {t.child: self._shape(t) for t in self._tables.values()}
        if not self._variables:
            raise self.source.error(len(self.source.text), "expected a variable, got none")
        check_size(
            f"{self.source.name}: all tables together",
            sum(map(math.prod, shapes.values())),
            each=_BYTES_OF_A_CELL,
        )
        for child, variable in self._variables.items():
            if child not in self._tables:
                raise self.source.error(variable.offset, f"variable {child!r} has no table")
        cycle = find_cycle({t.child: t.parents for t in self._tables.values()})
        if cycle:
            offset = self._tables[cycle[0]].offset
            message = f"expected a network without cycles, got {path_text(cycle)}"
            raise self.source.error(offset, message)
        tables: dict[Hashable, Table] = {
            child: self._table(self._tables[child], shapes[child]) for child in self._variables
        }
        states: dict[Hashable, tuple[str, ...]] = {n: v.states for n, v in self._variables.items()}
        latents = tuple(n for n, v in self._variables.items() if v.latent)
        return Network(name, states, tables, latents)

    def numbers(self, text: str, offset: int, shape: Shape, child: str) -> np.ndarray:
        """Return numbers between blanks, commas and parentheses as an array, last axis fastest.

        Raises:
            DataError: If they are too many or too few, or one is none.
        """
        words = text.translate(_PUNCTUATION).split()
        size = math.prod(shape)
        if len(words) != size:
            raise self.source.error(
                offset, f"expected {size} numbers for {child!r}, got {len(words)}"
            )
        try:
            return read_numbers(words).reshape(shape)
        except NotANumber as error:
            raise self.source.error(
                self._offset_of_word(offset, error.index),
                f"expected a number not below 0, got {words[error.index][:40]!r}",
            ) from None

    def one_state_each(
        self, words: Sequence[str], offset: int, shape: Shape, child: str
    ) -> np.ndarray:
        """Return the table of a function: for each row the name of the state that it has.

        Raises:
            DataError: If they are too many or too few, or one is no state.
        """
        states = {state: k for k, state in enumerate(self.states(child))}
        rows = math.prod(shape[:-1])
        if len(words) != rows:
            raise self.source.error(
                offset, f"expected {rows} states for {child!r}, got {len(words)}"
            )
        for word in words:
            if word not in states:
                hint = closest(word, states)
                raise self.source.error(offset, f"{child!r} has no state {word!r}{hint}")
        table = np.zeros((rows, shape[-1]))
        table[np.arange(rows), [states[word] for word in words]] = 1.0
        return table.reshape(shape)

    def _shape(self, table: _Declared) -> Shape:
        for name in (*table.parents, table.child):
            if name not in self._variables:
                hint = closest(name, self._variables)
                offset = table.name_offsets.get(name, table.offset)
                raise self.source.error(offset, f"variable {name!r} is not declared{hint}")
        shape = [len(self._variables[n].states) for n in (*table.parents, table.child)]
        if len(shape) > MAX_AXES or entries_of(shape, MAX_CELLS) > MAX_CELLS:
            raise self.source.error(
                table.offset,
                f"the table of {table.child!r} given {len(table.parents)} parents is too large: at "
                f"most {MAX_CELLS:,} cells and {MAX_AXES - 1} parents are read",
            )
        return tuple(shape)

    def _table(self, declared: _Declared, shape: Shape) -> Table:
        values = declared.values(shape)
        sums = values.sum(axis=-1)
        wrong = np.abs(sums - 1) > ROW_TOLERANCE
        if self.normalise:
            wrong = ~((sums > 0) & np.isfinite(sums))
        if wrong.any():
            where = np.argwhere(wrong)[0].tolist()
            raise self._wrong_sum(declared, where, float(sums[tuple(where)]))
        if self.normalise:
            values = values / sums[..., None]
        line, _ = self.source.position(declared.offset)
        origin = f"{self.source.name}:{line}"
        return Table(declared.child, declared.parents, values, origin)

    def _wrong_sum(self, declared: _Declared, where: Iterable[int], total: float) -> DataError:
        labels = [self.states(p)[k] for p, k in zip(declared.parents, where, strict=True)]
        row = f"row ({shortened(', '.join(labels))}) of " if labels else "the table of "
        row += repr(declared.child)
        if self.normalise:
            return self.source.error(declared.offset, f"{row} sums to {total:g}: no distribution")
        return self.source.error(
            declared.offset,
            f"expected {row} to sum to 1, got {total:.10g}, {total - 1:+.3g} off",
            NORMALISE,
        )

    def _offset_of_word(self, offset: int, index: int) -> int:
        words = _WORD.finditer(self.source.text, offset)
        match = next(itertools.islice(words, index, None), None)
        return match.start() if match else offset


NORMALISE = Advice("normalise=True divides each row by its sum", "normalise")
"""What to do about rows that do not sum to one."""


def _twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)
