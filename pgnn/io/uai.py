"""UAI files: numbered variables and tables, directed (BAYES) or undirected (MARKOV)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from pgnn.abilities import DirectedModel
from pgnn.errors import Advice, AdvisedWarning, DataError, Unsupported, shortened
from pgnn.factors.conditionals.table_reader import ROW_TOLERANCE
from pgnn.factors.factor import Factor
from pgnn.factors.variable import MAX_STATES, Variable
from pgnn.io.description import (
    MAX_AXES,
    Network,
    Table,
    describe,
    find_cycle,
    path_text,
    short_values,
    to_bayesian_network,
)
from pgnn.io.source import PathOrFile, Source, write_text
from pgnn.io.tokens import Tokens
from pgnn.io.uai_dialect import (
    axes_of_pyagrum,
    is_bayes_of_pyagrum,
    parents_fastest_first,
    transposed,
)
from pgnn.limits import check_size, entries_of
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField

_BYTES_OF_A_STATE = 200  # its number, and its place in what labels are looked up in
_LARGE = 700.0
"""Logs beyond this are of numbers that are no doubles."""


@dataclass(frozen=True)
class NumberedTables:
    """The contents of a UAI file.

    Attributes:
        kind: ``"BAYES"`` or ``"MARKOV"``.
        num_states: Number of states of every variable.
        scopes: Variables of every table, in the order of its axes; of a BAYES file, child last.
        tables: Non-negative numbers of the shape of the scope.
    """

    kind: Literal["BAYES", "MARKOV"]
    num_states: tuple[int, ...]
    scopes: tuple[tuple[int, ...], ...]
    tables: tuple[np.ndarray, ...]


def read_uai(
    file: PathOrFile | Source, encoding: str = "utf-8", normalise: bool = False
) -> BayesianNetwork | MarkovRandomField:
    """Read a model from a UAI file.

    The names of variables and states are their indices ``0 .. n-1``. A MARKOV file becomes plain
    factors, with zeros as ``-inf``; a variable that occurs in no table gets a constant one. A BAYES
    file becomes a network in which the last variable of each table is the child. BAYES files with
    tables whose rows do not sum to one (after multiplication with evidence) are read as plain
    factors, with a warning. Two libraries write the axes in an order that differs from the format:
    pyAgrum, with the parents reversed in a BAYES file, recognised by a name in a comment after each
    scope, and in the order of a comment after each size in a MARKOV file; and pgmpy, recognised by
    rows that sum to one in that order only, with all axes reversed. Their files are read correctly,
    the latter with a warning.

    Args:
        file: Path (gzip is recognised by its content), open stream, or source.
        encoding: Encoding of the file.
        normalise: Whether rows of the tables of a BAYES file are weights to be divided by their
            sums, which makes it a network whatever they are.

    Raises:
        DataError: If anything is wrong, with line and column; also if the tables of a BAYES file
            do not make a network, because a variable has no table or two, or there is a cycle.
        OSError: If the file cannot be opened.
    """
    source = Source.read(file, encoding)
    tables = parse_uai(source)
    if tables.kind == "MARKOV":
        return to_markov_random_field(tables)
    if normalise:
        return to_bayesian_network(_to_network(_normalised(source, tables)))
    off = _row_errors(tables)
    worst = int(np.argmax(off))
    if off[worst] <= ROW_TOLERANCE:
        return to_bayesian_network(_to_network(tables))
    backward = replace(tables, tables=tuple(map(_all_backward, tables.tables)))
    if max(_row_errors(backward)) <= ROW_TOLERANCE:
        warnings.warn(
            f"{source.name}: rows sum to one only if the first variable of each table is the "
            "fastest, as pgmpy writes them: so they are read",
            stacklevel=2,
        )
        return to_bayesian_network(_to_network(backward))
    text = (
        f"{source.name}: rows of {sum(o > ROW_TOLERANCE for o in off)} tables do not sum to one, "
        f"those of table {worst} by up to {off[worst]:.3g}; this BAYES file is read as plain "
        "factors, as if it began with MARKOV"
    )
    advice = Advice("normalise=True divides them by their sums", "normalise")
    warnings.warn(AdvisedWarning(text, advice), stacklevel=2)
    return to_markov_random_field(tables)


def write_uai(model: BayesianNetwork | MarkovRandomField, file: PathOrFile) -> None:
    """Write a model of discrete variables to a UAI file, BAYES if directed and MARKOV otherwise.

    Names and labels are lost: variables and states are numbered in the order of
    ``model.variables``, arrays element by element, except that names which are the integers
    ``0 .. n-1`` are kept. Numbers are the shortest decimals that read back as the same logs.

    Args:
        model: The model.
        file: Path (compressed if it ends in ``.gz``) or open stream.

    Raises:
        DataError: If a number is out of the range of doubles.
        Unsupported: If a variable is real, or a conditional or potential needs inputs.
    """
    model.check()
    write_text(format_uai(number(model)), file)


def parse_uai(source: Source) -> NumberedTables:
    """Read a UAI text into plain tables.

    The format is that of the inference competitions of the conference on Uncertainty in
    Artificial Intelligence (2008 to 2014): kind, number of variables, their numbers of states,
    number of tables, the scopes, then each table's size and numbers, last variable fastest. A
    comment is the part of a line after ``#``.

    Raises:
        DataError: With line and column, if the syntax differs.
    """
    tokens = Tokens.without_comments(source)
    word = tokens.word("'BAYES' or 'MARKOV'")
    if word not in ("BAYES", "MARKOV"):
        raise tokens.error(0, f"expected 'BAYES' or 'MARKOV', got {word[:40]!r}")
    kind: Literal["BAYES", "MARKOV"] = "BAYES" if word == "BAYES" else "MARKOV"
    count_at = tokens.at
    count = tokens.integer("the number of variables", low=1)
    states = "the number of states of a variable"
    num_states = tokens.integers(count, states, low=1, high=MAX_STATES)
    total = sum(num_states)
    check_size(f"{source.name}: {total:,} states", total, each=_BYTES_OF_A_STATE)
    scopes: list[tuple[int, ...]] = []
    starts: list[int] = []
    lasts: list[int] = []
    for k in range(tokens.integer("the number of tables")):
        starts.append(tokens.at)
        scopes.append(_read_scope(tokens, k, count))
        lasts.append(tokens.at - 1)
    if kind == "BAYES":
        _check_directed(tokens, scopes, starts, count)
    sizes: list[int] = []
    tables: list[np.ndarray] = []
    for k, scope in enumerate(scopes):
        sizes.append(tokens.at)
        tables.append(_read_table(tokens, k, scope, num_states))
    tokens.end(f"after {len(tables)} tables")
    if kind == "BAYES" and is_bayes_of_pyagrum(tokens, lasts):
        tables = list(map(parents_fastest_first, tables))
    elif kind == "MARKOV" and (axes := axes_of_pyagrum(tokens, count_at, scopes, sizes)):
        tables = list(map(transposed, tables, axes, scopes))
    return NumberedTables(kind, tuple(num_states), tuple(scopes), tuple(tables))


def _normalised(source: Source, tables: NumberedTables) -> NumberedTables:
    """The same tables with rows that sum to one."""
    sums = [values.sum(axis=-1, keepdims=True) for values in tables.tables]
    for k, total in enumerate(sums):
        if not ((total > 0) & np.isfinite(total)).all():
            text = f"{source.name}: a row of table {k} sums to 0 or overflows: no distribution"
            raise DataError(text)
    divided = tuple(v / total for v, total in zip(tables.tables, sums, strict=True))
    return replace(tables, tables=divided)


def _row_errors(tables: NumberedTables) -> list[float]:
    """Largest error of the row sums of each table."""
    return [float(np.abs(values.sum(axis=-1) - 1).max()) for values in tables.tables]


def _all_backward(values: np.ndarray) -> np.ndarray:
    """The same numbers, with all axes reversed."""
    return values.reshape(values.shape[::-1]).transpose()


def format_uai(tables: NumberedTables) -> str:
    """Return the UAI text of numbered tables."""
    return "\n".join(_lines(tables)) + "\n"


def number(model: BayesianNetwork | MarkovRandomField) -> NumberedTables:
    """Return the tables of a model over numbered variables; see :func:`write_uai`.

    Raises:
        DataError: If a number is out of the range of doubles.
        Unsupported: If a variable is real or a conditional needs inputs.
    """
    numbers = numbering(model)
    states = {numbers[v.name]: v.num_states for v in _singles(model)}
    num_states = tuple(states[k] for k in range(len(states)))
    if isinstance(model, DirectedModel):
        network = describe(model)
        scopes = tuple((*t.parents, t.child) for t in network.tables.values())
        tables = tuple(t.values for t in network.tables.values())
        kind: Literal["BAYES", "MARKOV"] = "BAYES"
    else:
        if isinstance(model, MarkovRandomField) and model.input_names:
            raise Unsupported(
                f"potentials depend on the inputs {', '.join(map(repr, model.input_names))} and "
                "are no tables",
                Advice("save a checkpoint instead", "checkpoint"),
            )
        factors = _with_small_constants(model.factors())
        scopes = tuple(f.names for f in factors)
        tables = tuple(short_values(f.log_values) for f in factors)
        kind = "MARKOV"
    numbered = tuple(tuple(numbers[name] for name in scope) for scope in scopes)
    return NumberedTables(kind, num_states, numbered, tables)


def numbering(model: BayesianNetwork | MarkovRandomField) -> dict[Hashable, int]:
    """Return the index of each variable in a UAI file of this model.

    The elements of arrays are variables there, in row-major order.
    """
    names = [v.name for v in _singles(model)]
    numbers = [name for name in names if type(name) is int]
    if set(numbers) == set(range(len(names))):
        return {number: number for number in numbers}
    return {name: k for k, name in enumerate(names)}


def _singles(model: BayesianNetwork | MarkovRandomField) -> tuple[Variable, ...]:
    """The single variables of a file."""
    if all(v.is_discrete for v in model.variables.values()):
        return model.elements.singles
    return tuple(model.variables.values())


def _with_small_constants(factors: Sequence[Factor]) -> Sequence[Factor]:
    """Distribute a constant outside of the range of doubles over the tables."""
    constant = sum(float(f.log_values.detach()) for f in factors if not f.variables)
    tables = [f for f in factors if f.variables]
    if not tables or not _LARGE < abs(constant) < math.inf:
        return factors
    return [Factor(f.variables, f.log_values + constant / len(tables)) for f in tables]


def _read_scope(tokens: Tokens, k: int, count: int) -> tuple[int, ...]:
    size = tokens.integer(f"the number of variables of table {k}")
    start = tokens.at
    scope = tokens.integers(size, f"a variable of table {k}", high=count - 1)
    if len(set(scope)) < size:
        raise tokens.error(start, f"table {k} names a variable twice: {shortened(str(scope))}")
    return tuple(scope)


def _read_table(tokens: Tokens, k: int, scope: tuple[int, ...], states: list[int]) -> np.ndarray:
    shape = tuple(states[v] for v in scope)
    start = tokens.at
    size = tokens.integer(f"the number of entries of table {k}")
    if len(scope) > MAX_AXES:
        raise tokens.error(
            start, f"table {k} has {len(scope)} variables, at most {MAX_AXES} are read"
        )
    entries = entries_of(shape, most=max(size, 10**15))
    if size != entries:
        raise tokens.error(
            start, f"expected {entries} entries of table {k} over {scope}, got {size}"
        )
    return tokens.numbers(size, f"an entry of table {k}").reshape(shape)


def _check_directed(
    tokens: Tokens, scopes: Sequence[tuple[int, ...]], starts: Sequence[int], count: int
) -> None:
    """Check that each variable is the last one of one table, and that there is no cycle."""
    hint = "; a file of plain factors begins with MARKOV"
    tables: dict[int, int] = {}
    for k, scope in enumerate(scopes):
        if not scope or scope[-1] in tables:
            problem = f"variable {scope[-1]} is the last one of two tables" if scope else "no child"
            raise tokens.error(starts[k], f"table {k} of a BAYES file: {problem}{hint}")
        tables[scope[-1]] = k
    missing = next((v for v in range(count) if v not in tables), None)
    if missing is not None:
        raise tokens.error(tokens.at, f"variable {missing} is the last one of no table{hint}")
    cycle = find_cycle({v: scopes[k][:-1] for v, k in tables.items()})
    if cycle:
        path = path_text(cycle)
        raise tokens.error(starts[tables[cycle[0]]], f"expected no cycle, got {path}{hint}")


def _to_network(tables: NumberedTables) -> Network:
    states: dict[Hashable, tuple[int, ...]] = {
        k: tuple(range(n)) for k, n in enumerate(tables.num_states)
    }
    by_child = {
        scope[-1]: Table(scope[-1], scope[:-1], values)
        for scope, values in zip(tables.scopes, tables.tables, strict=True)
    }
    return Network("unknown", states, {k: by_child[k] for k in range(len(states))})


def to_markov_random_field(tables: NumberedTables) -> MarkovRandomField:
    """Return numbered tables as plain factors."""
    variables = [Variable(k, n) for k, n in enumerate(tables.num_states)]
    with np.errstate(divide="ignore"):
        factors = [
            Factor([variables[k] for k in scope], torch.as_tensor(np.log(values)))
            for scope, values in zip(tables.scopes, tables.tables, strict=True)
        ]
    lonely = set(range(len(variables))).difference(*tables.scopes)
    for k in sorted(lonely):
        factors.append(Factor([variables[k]], torch.zeros(tables.num_states[k]).double()))
    return MarkovRandomField(factors)


def _lines(tables: NumberedTables) -> Iterator[str]:
    yield tables.kind
    yield str(len(tables.num_states))
    yield " ".join(map(str, tables.num_states))
    yield str(len(tables.scopes))
    for scope in tables.scopes:
        yield " ".join(map(str, (len(scope), *scope)))
    for table in tables.tables:
        yield ""
        yield str(table.size)
        for row in table.reshape(-1, table.shape[-1] if table.shape else 1).tolist():
            yield " " + " ".join(map(repr, row))
