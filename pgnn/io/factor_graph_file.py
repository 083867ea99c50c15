"""The factor graphs of libDAI: numbered variables, and tables in which zeros are left out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pgnn.io.description import MAX_AXES
from pgnn.io.network_assembly import MAX_CELLS
from pgnn.io.source import Source
from pgnn.io.tokens import Tokens
from pgnn.io.uai import NumberedTables
from pgnn.limits import check_size, entries_of

_BYTES_OF_A_CELL = 24


def parse_fg(source: Source) -> NumberedTables:
    """Read a text of libDAI into plain tables.

    The number of factors; then for each the number of its variables, their numbers, how many
    states each has, how many entries are not zero, and these entries with their indices, the
    first variable fastest. A comment is the part of a line after ``#``. Variables whose numbers
    do not occur have one state. Source: J. M. Mooij (2010), libDAI, JMLR 11.

    Raises:
        DataError: With line and column, if the syntax differs or factors disagree about states.
        Intractable: If the tables are too large.
    """
    tokens = Tokens.without_comments(source)
    num_states: dict[int, int] = {}
    scopes, tables = [], []
    total = 0
    for k in range(tokens.integer("the number of factors")):
        scope = _scope(tokens, k)
        shape = _states(tokens, k, scope, num_states)
        total += math.prod(shape)
        check_size(f"{source.name}: all tables together", total, each=_BYTES_OF_A_CELL)
        scopes.append(tuple(scope))
        tables.append(_entries(tokens, k, shape))
    tokens.end(f"after {len(tables)} factors")
    count = max(num_states, default=-1) + 1
    check_size(f"{source.name}: variables up to {count - 1}", count, each=2000)
    states = tuple(num_states.get(v, 1) for v in range(count))
    if not states:
        raise tokens.error(0, "expected a factor with variables, got none")
    return NumberedTables("MARKOV", states, tuple(scopes), tuple(tables))


def format_fg(tables: NumberedTables) -> str:
    """Return the text of libDAI of numbered tables; those of a directed network are factors too."""
    return "\n".join(_lines(tables)) + "\n"


def _scope(tokens: Tokens, k: int) -> list[int]:
    size = tokens.integer(f"the number of variables of factor {k}", high=MAX_AXES)
    start = tokens.at
    scope = tokens.integers(size, f"a variable of factor {k}")
    if len(set(scope)) < size:
        raise tokens.error(start, f"factor {k} names a variable twice: {scope}")
    return scope


def _states(tokens: Tokens, k: int, scope: list[int], known: dict[int, int]) -> tuple[int, ...]:
    start = tokens.at
    shape = tokens.integers(len(scope), f"the number of states of a variable of factor {k}", low=1)
    if entries_of(shape, MAX_CELLS) > MAX_CELLS:
        raise tokens.error(start, f"factor {k} has more than {MAX_CELLS:,} entries")
    for at, (variable, size) in enumerate(zip(scope, shape, strict=True)):
        if known.setdefault(variable, size) != size:
            raise tokens.error(
                start + at,
                f"variable {variable} has {size} states in factor {k} and {known[variable]} before",
            )
    return tuple(shape)


def _entries(tokens: Tokens, k: int, shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape)
    count = tokens.integer(f"the number of entries of factor {k} that are not 0", high=size)
    start = tokens.at
    indices, values = tokens.indexed_numbers(count, f"an entry of factor {k}", size - 1)
    if len(set(indices)) < count:
        raise tokens.error(start, f"factor {k} has an entry twice")
    flat = np.zeros(size)
    flat[indices] = values
    return np.ascontiguousarray(flat.reshape(shape[::-1]).transpose())


def _lines(tables: NumberedTables) -> Iterator[str]:
    yield str(len(tables.scopes))
    for scope, table in zip(tables.scopes, tables.tables, strict=True):
        flat = table.transpose().ravel()
        used = np.flatnonzero(flat)
        yield f"\n{len(scope)}"
        yield " ".join(map(str, scope))
        yield " ".join(map(str, table.shape))
        yield str(len(used))
        yield from (
            f"{k} {value!r}" for k, value in zip(used.tolist(), flat[used].tolist(), strict=True)
        )
