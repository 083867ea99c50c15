"""XDSL, the XML format of GeNIe and SMILE: networks of tables with named states."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from pgnn.io.description import Network, in_text, parents_backward, parents_first
from pgnn.io.identifiers import restored, spellings
from pgnn.io.network_assembly import NetworkAssembly, ReadValues, Shape
from pgnn.io.noisy_max import NoisyMaxReader
from pgnn.io.source import Source
from pgnn.io.xml_tree import Element, parse_xml
from pgnn.io.xmlbif import xml_text

_NODES = ("cpt", "deterministic", "noisymax")


def parse_xdsl(source: Source, normalise: bool = False) -> Network:
    """Read an XDSL text into a plain description.

    Nodes ``cpt``, ``deterministic`` and ``noisymax`` are read, in submodels too; a table runs
    through the child fastest and the first parent slowest, and that of a noisy-max is written
    down. Names are the identifiers of nodes and states, but where pgnn wrote others into the
    properties of a node. pyAgrum, which signs its files, writes the first parent fastest, and is
    read so. Source: BayesFusion, SMILE Programmer's Manual.

    Args:
        source: The text.
        normalise: Whether rows of tables are weights to be divided by their sums.

    Raises:
        DataError: With line and column, if it is malformed, or has nodes of other kinds.
    """
    root, source = parse_xml(source)
    nodes = root.first("nodes")
    if root.tag.lower() != "smile" or nodes is None:
        raise source.error(root.offset, f"expected <smile> with <nodes>, got <{root.tag}>")
    dynamic = root.first("dynamic")
    if dynamic is not None:
        raise source.error(dynamic.offset, "<dynamic> has edges between steps, which are not read")
    assembly = NetworkAssembly(source, normalise)
    names: dict[str, str] = {}
    elements = list(_nodes(nodes))
    backward = _is_of_agrum(root)
    for element in elements:
        identifier = _identifier(source, element)
        if element.tag.lower() not in _NODES:
            known = ", ".join(f"<{tag}>" for tag in _NODES)
            message = f"{identifier!r} is a <{element.tag}>; nodes {known} are read"
            raise source.error(element.offset, message)
        states = [_identifier(source, state) for state in element.all("state")]
        properties = {p.attributes.get("id", ""): p.text for p in element.all("property")}
        names[identifier], labels, latent = restored(identifier, states, properties)
        assembly.add_variable(names[identifier], labels, element.offset, latent)
    for element in elements:
        child = names[element.attributes["id"]]
        parents = [names.get(parent, parent) for parent in element.words("parents")]
        read = _values(assembly, source, element, child)
        if backward and element.tag.lower() != "noisymax":
            read = partial(_parents_backward, read)
        assembly.add_table(child, parents, element.offset, read)
    return assembly.network(root.attributes.get("id", "unknown"))


def format_xdsl(network: Network) -> str:
    """Return the XDSL text of a described network.

    Names that are no identifiers are written as such, and in properties as they are.

    Raises:
        DataError: If two names become the same text, or a name holds what XML cannot.
    """
    return "\n".join(_lines(in_text(network))) + "\n"


def _nodes(element: Element) -> Iterator[Element]:
    for child in element.children:
        if child.tag.lower() == "submodel":
            yield from _nodes(child)
        else:
            yield child


def _is_of_agrum(root: Element) -> bool:
    genie = [g for e in root.all("extensions") for g in e.all("genie")]
    return any(g.attributes.get("app", "").lower().startswith("agrum") for g in genie)


def _parents_backward(read: ReadValues, shape: Shape) -> np.ndarray:
    """A table that is written with the first parent fastest."""
    return parents_backward(read((*shape[-2::-1], shape[-1])))


def _identifier(source: Source, element: Element) -> str:
    identifier = element.attributes.get("id", "").strip()
    if not identifier:
        raise source.error(element.offset, f"expected <{element.tag} id=...>, got no id")
    return identifier


def _values(assembly: NetworkAssembly, source: Source, element: Element, child: str) -> ReadValues:
    if element.tag.lower() == "deterministic":
        states = element.words("resultingstates")
        written = [state.attributes["id"] for state in element.all("state")]
        # a function names its states as they are written, not as they were restored
        names = dict(zip(written, assembly.states(child), strict=True))
        read = assembly.one_state_each
        return partial(read, [names.get(s, s) for s in states], element.offset, child=child)
    noisy = element.tag.lower() == "noisymax"
    tag = "parameters" if noisy else "probabilities"
    table = element.first(tag)
    if table is None:
        raise source.error(element.offset, f"expected <{tag}> of {child!r}, got none")
    if noisy:
        order = element.first("strengths") or table
        words = element.words("strengths")
        return NoisyMaxReader(
            assembly, child, table.text, table.text_offset, words, order.text_offset
        )
    return partial(assembly.numbers, table.text, table.text_offset, child=child)


def _lines(network: Network) -> Iterator[str]:
    written = spellings(network)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<smile version="1.0" id="pgnn" numsamples="1000">\n<nodes>'
    for table in parents_first(network):
        spelling = written[str(table.child)]
        yield f'<cpt id="{spelling.name}">'
        yield from (f'  <state id="{state}" />' for state in spelling.states)
        parents = [written[str(parent)].name for parent in table.parents]
        if parents:
            yield f"  <parents>{' '.join(parents)}</parents>"
        numbers = " ".join(map(repr, table.values.ravel().tolist()))
        yield f"  <probabilities>{numbers}</probabilities>"
        for key, value in spelling.properties.items():
            yield f'  <property id="{key}">{xml_text(value)}</property>'
        yield "</cpt>"
    yield "</nodes>\n</smile>"
