"""XML files as trees of elements with positions; entities of the file's own are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pgnn.errors import DataError
from pgnn.io.source import Source
from pgnn.limits import check_size

_BYTES_OF_AN_ELEMENT = 1000
_MAX_DEPTH = 64
# one without an end extends to the end, so that its contents are scanned once
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# its encoding is known by now; some files have blanks before it, which expat does not allow
_DECLARATION = re.compile(r"\s*+<\?xml\b.*?\?>", re.DOTALL)


@dataclass
class Element:
    """An element of an XML file.

    Attributes:
        tag: Its name.
        attributes: As written.
        offset: Position of its start.
        text: All text directly in it, without that of its children.
        text_offset: Position of the start of the text; that of the element if there is none.
        children: The elements in it.
    """

    tag: str
    attributes: dict[str, str]
    offset: int
    text: str = ""
    text_offset: int = 0
    children: list[Element] = field(default_factory=list)

    def all(self, *tags: str) -> Iterator[Element]:
        """Go through the children of some names, in whatever case they are written."""
        return (child for child in self.children if child.tag.lower() in tags)

    def first(self, *tags: str) -> Element | None:
        """Return the first child of some names."""
        return next(self.all(*tags), None)

    def words(self, *tags: str) -> list[str]:
        """Return the words in all children of some names."""
        return [word for child in self.all(*tags) for word in child.text.split()]


def parse_xml(source: Source) -> tuple[Element, Source]:
    """Return the root of an XML text, and the text with blanks for comments.

    A document type may declare elements and attributes. Entities beyond the five of XML are
    refused, so that no small file unfolds to a large one, and nothing outside of it is read.

    Raises:
        DataError: With line and column, if it is no XML, declares entities, or is nested too deep.
        Intractable: If the tree would not fit into memory.
    """
    check_size(f"{source.name}: elements", source.text.count("<"), each=_BYTES_OF_AN_ELEMENT)
    declaration = _DECLARATION.match(source.text)
    begin = declaration.end() if declaration else 0
    text = re.sub(r"[^\n]", " ", source.text[:begin]) + source.text[begin:]
    text = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    plain = Source(text, source.name)
    return _TreeBuilder(plain).root(), plain


class _TreeBuilder:
    """Listens to expat."""

    def __init__(self, source: Source) -> None:
        from xml.parsers import expat

        self.source = source
        self.data = source.text.encode("utf-8", "replace")
        self.stack: list[Element] = []
        self.texts: list[list[str]] = []
        self.top: Element | None = None
        self.known = (0, 0)  # a position in bytes, and the same in characters
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._refuse_entity
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.failure: type[Exception] = expat.ExpatError

    def root(self) -> Element:
        try:
            self.parser.Parse(self.data, True)
        except self.failure as error:
            raise self._error(f"this is no XML: {error}", self.parser.ErrorByteIndex) from None
        if self.top is None:
            raise self._error("expected an XML element", 0)
        return self.top

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        offset = self._offset()
        if len(self.stack) == _MAX_DEPTH:
            raise self.source.error(offset, f"elements are nested more than {_MAX_DEPTH} deep")
        element = Element(tag, attributes, offset, text_offset=offset)
        if self.stack:
            self.stack[-1].children.append(element)
        else:
            self.top = element
        self.stack.append(element)
        self.texts.append([])

    def _end(self, _: str) -> None:
        self.stack.pop().text = "".join(self.texts.pop())

    def _text(self, text: str) -> None:
        element = self.stack[-1]
        if element.text_offset == element.offset:
            # expat tells of gathered text when it is over, so its begin is that of the tag's end
            element.text_offset = self.source.text.find(">", element.offset) + 1
        self.texts[-1].append(text)

    def _refuse_entity(self, name: str, *_: Any) -> None:
        raise self._error(f"the file declares the entity {name!r}; write its text instead")

    def _offset(self) -> int:
        at = self.parser.CurrentByteIndex
        byte, character = self.known
        if at > byte:
            character += len(self.data[byte:at].decode("utf-8", "ignore"))
            self.known = (at, character)
        return character

    def _error(self, message: str, byte: int | None = None) -> DataError:
        at = self.parser.CurrentByteIndex if byte is None else byte
        return self.source.error(len(self.data[:at].decode("utf-8", "ignore")), message)
