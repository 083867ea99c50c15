"""XMLBIF, the Bayesian Interchange Format in XML: networks of tables with named states."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from functools import partial
from xml.sax.saxutils import escape

from pgnn.errors import DataError
from pgnn.io.bif_structure import is_latent
from pgnn.io.description import Network, in_text
from pgnn.io.network_assembly import NetworkAssembly
from pgnn.io.source import Source
from pgnn.io.xml_tree import Element, parse_xml

_NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse_xmlbif(source: Source, normalise: bool = False) -> Network:
    """Read an XMLBIF text into a plain description.

    A ``TABLE`` runs through the child fastest and the first ``GIVEN`` slowest; ``PROBABILITY`` and
    ``VALUE`` of older files are read as ``DEFINITION`` and ``OUTCOME``; the property ``latent =
    yes`` is that of a variable that is never observed, and all others are skipped. Source: F. G.
    Cozman (1998), The Interchange Format for Bayesian Networks, XML-based version 0.3.

    Args:
        source: The text.
        normalise: Whether rows of tables are weights to be divided by their sums.

    Raises:
        DataError: With line and column, if it is malformed, or has decisions or utilities.
    """
    root, source = parse_xml(source)
    network = root.first("network")
    if root.tag.lower() != "bif" or network is None:
        raise source.error(root.offset, f"expected <BIF> with a <NETWORK>, got <{root.tag}>")
    assembly = NetworkAssembly(source, normalise)
    for element in network.all("variable"):
        kind = element.attributes.get("TYPE", "nature")
        name = _one(source, element, "name")
        if kind.lower() != "nature":
            raise source.error(
                element.offset, f"{name!r} is a {kind} node; networks of chance nodes are read"
            )
        states = [child.text.strip() for child in element.all("outcome", "value")]
        latent = any(is_latent(child.text) for child in element.all("property"))
        assembly.add_variable(name, states, element.offset, latent)
    for element in network.all("definition", "probability"):
        child = _one(source, element, "for")
        parents = [given.text.strip() for given in element.all("given")]
        table = element.first("table")
        if table is None:
            raise source.error(element.offset, f"expected a <TABLE> of {child!r}, got none")
        read = partial(assembly.numbers, table.text, table.text_offset, child=child)
        assembly.add_table(child, parents, element.offset, read)
    title = network.first("name")
    return assembly.network((title.text.strip() if title else "") or "unknown")


def format_xmlbif(network: Network) -> str:
    """Return the XMLBIF text of a described network.

    Raises:
        DataError: If two names become the same text, or a name holds what XML cannot.
    """
    return "\n".join(_lines(in_text(network))) + "\n"


def _one(source: Source, element: Element, tag: str) -> str:
    """The text of the only child of a name."""
    texts = [child.text.strip() for child in element.all(tag)]
    if len(texts) != 1 or not texts[0]:
        what = f"one <{tag.upper()}> in <{element.tag}>"
        raise source.error(element.offset, f"expected {what}, got {len(texts)}")
    return texts[0]


def _lines(network: Network) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<BIF VERSION="0.3">\n<NETWORK>'
    yield f"<NAME>{xml_text(network.name)}</NAME>"
    for name, states in network.states.items():
        yield f'<VARIABLE TYPE="nature">\n  <NAME>{xml_text(name)}</NAME>'
        yield from (f"  <OUTCOME>{xml_text(state)}</OUTCOME>" for state in states)
        if name in network.latents:
            yield "  <PROPERTY>latent = yes</PROPERTY>"
        yield "</VARIABLE>"
    for table in network.tables.values():
        yield f"<DEFINITION>\n  <FOR>{xml_text(table.child)}</FOR>"
        yield from (f"  <GIVEN>{xml_text(parent)}</GIVEN>" for parent in table.parents)
        numbers = " ".join(map(repr, table.values.ravel().tolist()))
        yield f"  <TABLE>{numbers}</TABLE>\n</DEFINITION>"
    yield "</NETWORK>\n</BIF>"


def xml_text(name: Hashable) -> str:
    """Return a name as text of an XML element.

    Raises:
        DataError: If it would not be read back: it is empty, begins or ends with blanks, or holds
            characters that XML has not.
    """
    text = str(name)
    if not text or text != text.strip() or _NO_XML.search(text):
        raise DataError(
            f"XML cannot hold the name {text!r}: it is empty, begins or ends with blanks, or has "
            "control characters",
            "rename it, or write a .bif file",
        )
    return escape(text)
