"""NET, the text format of Hugin: networks of tables with named states."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import numpy as np

from pgnn.io.blocks import Block, all_blocks, parse_blocks, words_of
from pgnn.io.description import Network, in_text
from pgnn.io.identifiers import restored, spellings
from pgnn.io.network_assembly import NetworkAssembly
from pgnn.io.scanner import quote, without_comments
from pgnn.io.source import Source

_KINDS = ("node", "potential", "net", "class")
_WORDS = re.compile(r"[A-Za-z]+")


def parse_net(source: Source, normalise: bool = False) -> Network:
    """Read a NET text into a plain description.

    Discrete chance nodes are read, in a class too. ``data`` runs through the child fastest and the
    first parent slowest, with parentheses or without. Names are those of the nodes, not their
    labels, but where pgnn wrote another one. Source: Hugin Expert, The Hugin Development
    Environment, NET language.

    Args:
        source: The text.
        normalise: Whether rows of tables are weights to be divided by their sums; Hugin itself
            does so.

    Raises:
        DataError: With line and column, if it is malformed, or has continuous nodes, decisions,
            utilities, functions, or instances of classes.
    """
    plain = Source(without_comments(source, "%[^\n]*+"), source.name)
    root = parse_blocks(plain, plain.text)
    blocks = list(all_blocks(root))
    for block in blocks:
        _check_kind(plain, block)
    assembly = NetworkAssembly(plain, normalise)
    names: dict[str, str] = {}
    for block in blocks:
        if _kind(block)[-1:] == ["node"]:
            identifier, states = _name(block), block.words("states")
            names[identifier], labels, latent = restored(identifier, states, block.properties())
            assembly.add_variable(names[identifier], labels, block.offset, latent)
    for block in blocks:
        if _kind(block) == ["potential"]:
            _add_table(assembly, block, names)
    return assembly.network()


def format_net(network: Network) -> str:
    """Return the NET text of a described network.

    Names that are no identifiers are written as such, and as labels and properties as they are.

    Raises:
        DataError: If two names become the same text.
    """
    return "\n".join(_lines(in_text(network))) + "\n"


def _kind(block: Block) -> list[str]:
    """The words of a header before the name: ``discrete node``."""
    head = block.header.partition("(")[0].split()
    return head if head in (["net"], ["potential"]) else head[:-1]


def _name(block: Block) -> str:
    return words_of(block.header)[-1]


def _check_kind(source: Source, block: Block) -> None:
    kind = _kind(block)
    if kind[-1:] == ["node"] and kind[0] in ("node", "discrete") and len(kind) <= 2:
        return
    if len(kind) == 1 and kind[0] in _KINDS:
        return
    what = " ".join(block.header.split())[:60]
    raise source.error(
        block.offset, f"expected a discrete chance node or a potential, got {what!r}"
    )


def _add_table(assembly: NetworkAssembly, block: Block, names: dict[str, str]) -> None:
    source = assembly.source
    head, _, tail = block.header.partition("(")[2].rpartition(")")[0].partition("|")
    children = words_of(head)
    if len(children) != 1:
        raise source.error(
            block.offset,
            f"expected 'potential (CHILD | PARENT ...)', got {block.header[:60]!r}; a .uai file of "
            "plain factors holds potentials over several variables",
        )
    child = names.get(children[0], children[0])
    parents = [names.get(parent, parent) for parent in words_of(tail)]
    data = block.value("data")
    if data is None:
        other = "it is given by an expression" if "model_data" in block.values else "it has no data"
        raise source.error(block.offset, f"cannot read the table of {child!r}: {other}")
    read = partial(assembly.numbers, data.text, data.offset, child=child)
    assembly.add_table(child, parents, block.offset, read)


def _lines(network: Network) -> Iterator[str]:
    written = spellings(network, any_states=True)
    yield "net\n{\n}"
    for spelling in written.values():
        yield f"node {spelling.name}\n{{"
        yield f"  states = ( {' '.join(map(quote, spelling.states))} );"
        for key, value in spelling.properties.items():
            yield f"  {key} = {quote(value)};"
        yield "}"
    for table in network.tables.values():
        parents = " ".join(written[str(parent)].name for parent in table.parents)
        scope = (
            f"{written[str(table.child)].name} | {parents}"
            if parents
            else (written[str(table.child)].name)
        )
        yield f"potential ( {scope} )\n{{\n  data = {_nested(table.values)};\n}}"


def _nested(values: np.ndarray) -> str:
    """Numbers with a pair of parentheses around each axis."""
    if values.ndim == 1:
        return f"( {' '.join(map(repr, values.tolist()))} )"
    return f"( {' '.join(map(_nested, values))} )"
