"""DSL, the text format of GeNIe and SMILE: networks of tables with named states."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pgnn.io.blocks import Block, Value, parse_blocks
from pgnn.io.description import Network, in_text, parents_first
from pgnn.io.identifiers import restored, spellings
from pgnn.io.network_assembly import NetworkAssembly, ReadValues
from pgnn.io.noisy_max import NoisyMaxReader
from pgnn.io.scanner import c_comments_blank, quote
from pgnn.io.source import Source

_TYPES = ("CPT", "TRUTHTABLE", "NOISY_MAX")


def parse_dsl(source: Source, normalise: bool = False) -> Network:
    """Read a DSL text into a plain description.

    Nodes of the types ``CPT``, ``TRUTHTABLE`` and ``NOISY_MAX`` are read; a table runs through the
    child fastest and the first parent slowest, and that of a noisy-max is written down. Names are
    the identifiers of nodes and states, but where pgnn wrote others into the properties of a
    node. Source: BayesFusion, SMILE Programmer's Manual.

    Args:
        source: The text.
        normalise: Whether rows of tables are weights to be divided by their sums.

    Raises:
        DataError: With line and column, if it is malformed, or has nodes of other types.
    """
    plain = Source(c_comments_blank(source), source.name)
    root = parse_blocks(plain, plain.text)
    nodes = [node for net in root.blocks for node in _nodes(net)]
    assembly = NetworkAssembly(plain, normalise)
    names: dict[str, str] = {}
    for node in nodes:
        identifier = _identifier(plain, node)
        states = node.inside("DEFINITION").words("NAMESTATES")
        properties = node.inside("USER_PROPERTIES").properties()
        names[identifier], labels, latent = restored(identifier, states, properties)
        assembly.add_variable(names[identifier], labels, node.offset, latent)
    for node in nodes:
        child = names[_identifier(plain, node)]
        parents = [names.get(parent, parent) for parent in node.words("PARENTS")]
        assembly.add_table(child, parents, node.offset, _values(assembly, node, child))
    net = next((block.header.split() for block in root.blocks), [])
    return assembly.network(net[1] if len(net) > 1 else "unknown")


def format_dsl(network: Network) -> str:
    """Return the DSL text of a described network.

    Names that are no identifiers are written as such, and in properties as they are.

    Raises:
        DataError: If two names become the same text.
    """
    return "\n".join(_lines(in_text(network))) + "\n"


def _nodes(block: Block) -> Iterator[Block]:
    """The nodes of a network and of its submodels; other blocks, of costs say, name them too."""
    for inner in block.blocks:
        kind = inner.header.split()[:1]
        if kind == ["node"]:
            yield inner
        elif kind == ["submodel"]:
            yield from _nodes(inner)


def _identifier(source: Source, node: Block) -> str:
    words = node.header.split()
    if len(words) != 2:
        raise source.error(node.offset, f"expected 'node NAME {{', got {node.header[:40]!r}")
    kind = (node.value("TYPE") or Value("CPT", 0)).text
    if kind not in _TYPES:
        raise source.error(
            node.offset, f"{words[1]!r} is of the type {kind[:40]}; {', '.join(_TYPES)} are read"
        )
    return words[1]


def _values(assembly: NetworkAssembly, node: Block, child: str) -> ReadValues:
    definition = node.inside("DEFINITION")
    numbers, states = definition.value("PROBABILITIES"), definition.value("RESULTINGSTATES")
    if numbers is not None and (kind := node.value("TYPE")) and kind.text == "NOISY_MAX":
        order = definition.value("STRENGTHS") or Value("", numbers.offset)
        return NoisyMaxReader(
            assembly, child, numbers.text, numbers.offset, order.words(), order.offset
        )
    if numbers is not None:
        return partial(assembly.numbers, numbers.text, numbers.offset, child=child)
    if states is None:
        raise assembly.source.error(node.offset, f"expected PROBABILITIES of {child!r}, got none")
    # a function names its states as they are written, not as they were restored
    written = zip(definition.words("NAMESTATES"), assembly.states(child), strict=True)
    names = dict(written)
    words = [names.get(word, word) for word in states.words()]
    return partial(assembly.one_state_each, words, states.offset, child=child)


def _lines(network: Network) -> Iterator[str]:
    written = spellings(network)
    yield "net pgnn\n{"
    for table in parents_first(network):
        spelling = written[str(table.child)]
        parents = ", ".join(written[str(parent)].name for parent in table.parents)
        yield f" node {spelling.name}\n {{\n  TYPE = CPT;"
        title = quote(str(table.child))
        yield f"  HEADER = {{ ID = {spelling.name}; NAME = {title}; }};"
        if spelling.properties:
            pairs = [f"{key} = {quote(value)};" for key, value in spelling.properties.items()]
            yield f"  USER_PROPERTIES = {{ {' '.join(pairs)} }};"
        numbers = ", ".join(map(repr, table.values.ravel().tolist()))
        yield f"  PARENTS = ({parents});\n  DEFINITION =\n  {{"
        yield f"   NAMESTATES = ({', '.join(spelling.states)});"
        yield f"   PROBABILITIES = ({numbers});\n  }};\n }};"
    yield "};"
