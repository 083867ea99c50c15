"""Texts of nested blocks, ``header { key = value; ... }``, as Hugin and GeNIe write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pgnn.io.scanner import STRING, Scanner, unquote, until
from pgnn.io.source import Source

_MAX_DEPTH = 64
_HEAD = re.compile(until("={};"), re.DOTALL)
_RAW = re.compile(until(";{}"), re.DOTALL)
_WORD = re.compile(rf'{STRING}|[^\s(),|"]++', re.DOTALL)


@dataclass(frozen=True)
class Value:
    """What stands between ``=`` and ``;``.

    Attributes:
        text: As written, blanks around it left out.
        offset: Its position.
    """

    text: str
    offset: int

    def words(self) -> list[str]:
        """Return the words between blanks, commas, bars and parentheses, without quotes."""
        return words_of(self.text)


@dataclass
class Block:
    """A block; its position is that of its header.

    Attributes:
        header: The text before its brace.
        offset: Position of the header.
        source: The text, for the positions of errors.
        values: All values of each key.
        blocks: The blocks in it, those that are values of a key included.
    """

    header: str
    offset: int
    source: Source
    values: dict[str, list[Value]] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def inside(self, header: str) -> Block:
        """Return the first block of a header; an empty one if there is none."""
        found = (block for block in self.blocks if block.header == header)
        return next(found, Block(header, self.offset, self.source))

    def words(self, key: str) -> list[str]:
        """Return the words of a value; none if there is none."""
        value = self.value(key)
        return value.words() if value else []

    def value(self, key: str) -> Value | None:
        """Return the value of a key.

        Raises:
            DataError: If there are two.
        """
        values = self.values.get(key, [])
        if len(values) > 1:
            raise self.source.error(values[1].offset, f"{key!r} has two values; keep one of them")
        return values[0] if values else None

    def properties(self) -> dict[str, str]:
        """Return all values as text without quotes."""
        return {key: unquote(values[0].text) for key, values in self.values.items()}


def parse_blocks(source: Source, text: str) -> Block:
    """Return a text as one block without a header.

    Args:
        source: Where the text is from.
        text: The text with blanks for comments.

    Raises:
        DataError: With line and column, if braces, ``=`` or ``;`` are missing.
    """
    return _BlockScanner(source, text).block("", 0, 0)


def words_of(text: str) -> list[str]:
    """Return the words between blanks, commas, bars and parentheses, without their quotes."""
    return [unquote(word) for word in _WORD.findall(text)]


class _BlockScanner(Scanner):
    def block(self, header: str, offset: int, depth: int) -> Block:
        """Read to the closing brace, or to the end if nothing was opened."""
        if depth > _MAX_DEPTH:
            raise self.source.error(offset, f"blocks are nested more than {_MAX_DEPTH} deep")
        block = Block(header, offset, self.source)
        while not (self.accept("}") if depth else self.at_end()):
            if self.accept(";"):
                continue
            head = self.expect(_HEAD, "a name").strip()
            start = self.start
            if not head:
                raise self.unexpected(start, "a name" + (" or '}'" if depth else ""))
            is_value = self.accept("=")
            if self.accept("{"):
                block.blocks.append(self.block(head, start, depth + 1))
            elif is_value:
                raw = self.expect(_RAW, f"the value of {head[:40]!r}")
                value = Value(raw.strip(), self.start)
                self._check_parentheses(value)
                self.expect(";", f"';' after the value of {head[:40]!r}")
                block.values.setdefault(head, []).append(value)
            else:
                raise self.unexpected(self.at, f"'=' or '{{' after {head[:40]!r}")
        return block

    def _check_parentheses(self, value: Value) -> None:
        plain = re.sub(STRING, "", value.text)
        if plain.count("(") != plain.count(")"):
            raise self.source.error(value.offset, "the parentheses of this value do not match")


def all_blocks(block: Block) -> Iterator[Block]:
    """Go through the blocks in a block, and those in them."""
    for inner in block.blocks:
        yield inner
        yield from all_blocks(inner)
