"""BIF, the Bayesian Interchange Format: networks of tables with named states."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Iterator, Mapping
from functools import partial

import numpy as np

from pgnn.io.bif_structure import Block, Structure
from pgnn.io.bif_tables import read_values
from pgnn.io.description import Network, Table, describe, in_text, to_bayesian_network
from pgnn.io.network_assembly import NetworkAssembly, Shape
from pgnn.io.scanner import quote
from pgnn.io.source import PathOrFile, Source, write_text
from pgnn.models.bayesian_network import BayesianNetwork

_NEEDS_QUOTES = re.compile(r'[\s,;{}()|\[\]"]|//|/\*')


def read_bif(
    file: PathOrFile | Source, encoding: str = "utf-8", normalise: bool = False
) -> BayesianNetwork:
    """Read a Bayesian network from a BIF file.

    Args:
        file: Path (gzip is recognised by its content), open stream, or source.
        encoding: Encoding of the file.
        normalise: Whether rows of tables are weights (percentages, counts) to be divided by their
            sums.

    Returns:
        A network of constant tables; names and states are strings, as written.

    Raises:
        DataError: If anything is wrong, with line and column; the accepted syntax is described at
            :func:`parse_bif`.
        OSError: If the file cannot be opened.
    """
    return to_bayesian_network(parse_bif(Source.read(file, encoding), normalise))


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


def parse_bif(source: Source, normalise: bool = False) -> Network:
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
    assembly = NetworkAssembly(source, normalise)
    for name, declared in structure.variables.items():
        assembly.add_variable(name, declared.states, declared.offset, declared.latent)
    for block in structure.blocks.values():
        assembly.add_table(
            block.child,
            block.parents,
            block.offset,
            partial(_values, structure, block, normalise),
            block.name_offsets,
        )
    return assembly.network(structure.name)


def _values(structure: Structure, block: Block, normalise: bool, _: Shape) -> np.ndarray:
    return read_values(structure, block, normalise)


def format_bif(network: Network) -> str:
    """Return the BIF text of a described network.

    Raises:
        DataError: If two names, or two states of a variable, become the same text.
    """
    network = in_text(network)
    states = {name: list(map(_quote, labels)) for name, labels in network.states.items()}
    parts = [f"network {_quote(network.name)} {{\n}}\n"]
    for name, labels in states.items():
        latent = "  property latent = yes;\n" if name in network.latents else ""
        parts.append(
            f"variable {_quote(name)} {{\n  type discrete [ {len(labels)} ] "
            f"{{ {', '.join(labels)} }};\n{latent}}}\n"
        )
    for table in network.tables.values():
        child, parents = _quote(table.child), ", ".join(map(_quote, table.parents))
        scope = f"{child} | {parents}" if parents else child
        parts += [f"probability ( {scope} ) {{\n", *_rows(table, states), "}\n"]
    return "".join(parts)


def _rows(table: Table, states: Mapping[Hashable, list[str]]) -> Iterator[str]:
    numbers = map(repr, table.values.ravel().tolist())
    if not table.parents:
        yield f"  table {', '.join(numbers)};\n"
        return
    size = table.values.shape[-1]
    for labels in itertools.product(*(states[p] for p in table.parents)):
        yield f"  ({', '.join(labels)}) {', '.join(itertools.islice(numbers, size))};\n"


def _quote(name: Hashable) -> str:
    text = str(name)
    return quote(text) if not text or _NEEDS_QUOTES.search(text) else text
