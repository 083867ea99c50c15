"""BIF, the Bayesian Interchange Format: networks of tables with named states."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterable, Iterator

from pgnn.errors import DataError
from pgnn.io.bif_structure import Block, Structure
from pgnn.io.bif_tables import read_table
from pgnn.io.description import (
    Network,
    Table,
    describe,
    find_cycle,
    path_text,
    to_bayesian_network,
)
from pgnn.io.source import PathOrFile, Source, write_text
from pgnn.limits import check_size, entries_of
from pgnn.models.bayesian_network import BayesianNetwork

_BYTES_OF_A_CELL = 24  # in the table that was read, the copy that is checked, and the model
_NEEDS_QUOTES = re.compile(r'[\s,;{}()|\[\]"]|//|/\*')


def read_bif(file: PathOrFile | Source, encoding: str = "utf-8") -> BayesianNetwork:
    """Read a Bayesian network from a BIF file.

    Args:
        file: Path (gzip is recognised by its content), open stream, or source.
        encoding: Encoding of the file.

    Returns:
        A network of constant tables; names and states are strings, as written.

    Raises:
        DataError: If anything is wrong, with line and column; the accepted syntax is described at
            :func:`parse_bif`.
        OSError: If the file cannot be opened.
    """
    return to_bayesian_network(parse_bif(Source.read(file, encoding)))


def write_bif(model: BayesianNetwork, file: PathOrFile, name: str = "unknown") -> None:
    """Write a Bayesian network of discrete variables to a BIF file.

    Every conditional is written as its table, whatever kind it is. Numbers are the shortest
    decimals that read back as the same log probabilities; names and states are put in double
    quotes only where they could not be read back otherwise. BIF has only text: a name or state
    that is not a string is converted by ``str()``, so the integer ``1`` is read back as ``"1"``. A
    checkpoint (:func:`pgnn.io.checkpoint.save`) keeps types and kinds.

    Args:
        model: The network.
        file: Path (compressed if it ends in ``.gz``) or open stream.
        name: Name of the network in the file.

    Raises:
        DataError: If two names or states become the same text.
        Unsupported: If the model has real variables or a conditional needs inputs.
    """
    model.check()
    write_text(format_bif(describe(model, name)), file)


def parse_bif(source: Source) -> Network:
    r"""Read a BIF text into a plain description.

    Blocks may come in any order and the ``network`` block may be missing; names may be bare or in
    double quotes (with ``\"`` and ``\\`` inside); ``//`` and ``/* */`` are comments; numbers and
    names are separated by commas or blanks; properties are skipped, but for
    ``latent = yes`` of a variable that is never observed. A ``table`` runs through the
    child slowest and the last parent fastest; a row ``(states of the parents)`` holds the child's
    probabilities; ``default`` stands for the rows that are not written. Source: F. G. Cozman
    (1998), The Interchange Format for Bayesian Networks, version 0.15.

    Raises:
        DataError: With line and column, if the syntax differs.

    Cost:
        One pass over the structure and one over the numbers: 0.2 s for 500,000 of them.
    """
    structure = Structure(source)
    check_size(
        f"{source.name}: all tables together",
        sum(_cells(structure, block) for block in structure.blocks.values()),
        each=_BYTES_OF_A_CELL,
    )
    tables: dict[Hashable, Table] = {}
    for name, declared in structure.variables.items():
        if name not in structure.blocks:
            raise source.error(
                declared.offset,
                f"variable {name!r} has no table; add 'probability ( {name} ) {{ table ...; }}'",
            )
        tables[name] = read_table(structure, structure.blocks[name])
    for name, block in structure.blocks.items():
        if name not in tables:
            read_table(structure, block)  # raises: its variable is not declared
    states: dict[Hashable, tuple[str, ...]] = {n: v.states for n, v in structure.variables.items()}
    latents = tuple(n for n, v in structure.variables.items() if v.latent)
    network = Network(structure.name, states, tables, latents)
    cycle = find_cycle({name: table.parents for name, table in tables.items()})
    if cycle:
        path = path_text(cycle)
        offset = structure.blocks[cycle[0]].offset
        raise source.error(offset, f"expected a network without cycles, got {path}")
    return network


def _cells(structure: Structure, block: Block) -> int:
    """Number of entries of a table, over those of its variables that are declared."""
    names = [n for n in (block.child, *block.parents) if n in structure.variables]
    return entries_of(len(structure.variables[n].states) for n in names)


def format_bif(network: Network) -> str:
    """Return the BIF text of a described network.

    Raises:
        DataError: If two names, or two states of a variable, become the same text.
    """
    texts = _distinct(network.states, "two variables")
    states = {
        name: list(_distinct(labels, f"two states of {name!r}").values())
        for name, labels in network.states.items()
    }
    parts = [f"network {_quote(network.name)} {{\n}}\n"]
    for name, labels in states.items():
        listed = ", ".join(labels)
        latent = "  property latent = yes;\n" if name in network.latents else ""
        parts.append(
            f"variable {texts[name]} {{\n  type discrete [ {len(labels)} ] {{ {listed} }};\n"
            f"{latent}}}\n"
        )
    for table in network.tables.values():
        scope = ", ".join(texts[p] for p in table.parents)
        scope = f"{texts[table.child]} | {scope}" if scope else texts[table.child]
        parts += [f"probability ( {scope} ) {{\n", *_rows(table, states), "}\n"]
    return "".join(parts)


def _rows(table: Table, states: dict[Hashable, list[str]]) -> Iterator[str]:
    numbers = map(repr, table.values.ravel().tolist())
    if not table.parents:
        yield f"  table {', '.join(numbers)};\n"
        return
    size = table.values.shape[-1]
    for labels in itertools.product(*(states[p] for p in table.parents)):
        yield f"  ({', '.join(labels)}) {', '.join(itertools.islice(numbers, size))};\n"


def _distinct(names: Iterable[Hashable], what: str) -> dict[Hashable, str]:
    texts: dict[Hashable, str] = {}
    observed: dict[str, Hashable] = {}
    for name in names:
        text = str(name)
        if text in observed:
            raise DataError(
                f"{what}, {observed[text]!r} and {name!r}, would both be written {text!r}"
            )
        observed[text] = name
        texts[name] = _quote(text)
    return texts


def _quote(name: str) -> str:
    if name and not _NEEDS_QUOTES.search(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
