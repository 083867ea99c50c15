"""Reads the structure of a BIF text: blocks, names, states, and the positions of the numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pgnn.errors import DataError, shortened
from pgnn.io.source import Source

STRING = r'"(?:[^"\\]|\\.)*+"'
SPACE = re.compile(r"\s*+")


def until(marks: str) -> str:
    """Return a pattern for text up to one of some marks, ignoring marks in double quotes."""
    plain = f'[^{marks}"]*+'
    return f"{plain}(?:{STRING}{plain})*+"


PROPERTY = re.compile(rf"\s*+property\b{until(';{}')};", re.DOTALL)

# an unclosed quote extends to the end, so that its contents are scanned once
_COMMENT = re.compile(rf"{STRING}|\".*|//[^\n]*+|/\*.*?\*/|/\*", re.DOTALL)
_TOKEN = re.compile(rf'{STRING}|[^\s{{}}();,|\[\]"]++|.', re.DOTALL)
_WORD = re.compile(rf'{STRING}|[^\s{{}}();,|"]++', re.DOTALL)
_HEADER = re.compile(until("{}();"), re.DOTALL)
_KEYWORD = re.compile(r"(?:network|variable|probability)\b")
_ENTRY = re.compile(r"(?:type|property)\b")
_LATENT = re.compile(r'\s*"?latent"?\s*=?\s*"?(?:yes|true)"?\s*', re.IGNORECASE)
"""The property of a variable that is never observed."""
_UNTIL_SEMICOLON = re.compile(until(";{}"), re.DOTALL)
_UNTIL_BRACE = re.compile(until("{}"), re.DOTALL)
_ITEM = re.compile(rf'(?:{STRING}|[^,"])++', re.DOTALL)


@dataclass(frozen=True)
class Declaration:
    """A ``variable`` block: its states in order with their indices, and whether it is latent."""

    states: tuple[str, ...]
    offset: int
    index: dict[str, int]
    latent: bool = False


@dataclass(frozen=True)
class Block:
    """A ``probability`` block; its numbers are ``text[start:end]``, not yet parsed."""

    child: str
    parents: tuple[str, ...]
    offset: int
    start: int
    end: int
    name_offsets: dict[str, int] = field(default_factory=dict)


class Structure:
    """The blocks of a BIF text.

    Args:
        source: The text.

    Raises:
        DataError: With line and column, if the text has another structure.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = _blank_comments(source)
        self.name = "unknown"
        self.variables: dict[str, Declaration] = {}
        self.blocks: dict[str, Block] = {}
        self._at = 0
        readers = {
            "network": self._read_network,
            "variable": self._read_variable,
            "probability": self._read_probability,
        }
        while not self._at_end():
            readers[self._expect(_KEYWORD, "'network', 'variable' or 'probability'")]()
        if not self.variables:
            raise source.error(len(self.text), "expected a variable, got the end of the file")

    def unexpected(self, offset: int, what: str) -> DataError:
        """Return an error that quotes the text at an offset and states what was expected."""
        offset = self.skip_space(offset)
        token = _TOKEN.match(self.text, offset)
        got = repr(token.group()[:40]) if token else "the end of the file"
        hint = " (its closing quote is missing)" if token and token.group() == '"' else ""
        return self.source.error(offset, f"expected {what}, got {got}{hint}")

    def skip_space(self, offset: int) -> int:
        """Return the offset of the next character that is not blank."""
        match = SPACE.match(self.text, offset)
        return match.end() if match else offset

    def _read_network(self) -> None:
        name = self._expect(_HEADER, "the name of the network").strip()
        self.name = unquote(name) or self.name
        self._expect("{", "'{' opening the network block")
        while not self._accept("}"):
            self._expect("property\\b", "'property' or '}' in the network block")
            self._skip_property()

    def _read_variable(self) -> None:
        name = unquote(self._expect(_WORD, "the name of the variable"))
        offset = self._last
        if name in self.variables:
            raise self.source.error(offset, f"variable {name!r} is declared twice")
        self._expect("{", f"'{{' opening variable {name!r}")
        states: tuple[str, ...] | None = None
        latent = False
        while not self._accept("}"):
            if self._expect(_ENTRY, f"'type', 'property' or '}}' in {name!r}") == "property":
                latent |= bool(_LATENT.fullmatch(self._skip_property()))
            elif states is not None:
                raise self.source.error(self._last, f"variable {name!r} has two types")
            else:
                states = self._read_states(name)
        if states is None:
            example = "type discrete [ 2 ] { no, yes };"
            raise self.source.error(offset, f"variable {name!r} has no type; add '{example}'")
        index = {label: k for k, label in enumerate(states)}
        self.variables[name] = Declaration(states, offset, index, latent)

    def _read_states(self, name: str) -> tuple[str, ...]:
        self._expect(r"discrete\b", f"'discrete' as the type of {name!r}")
        self._expect(r"\[", "'[' and the number of states")
        count = int(self._expect(r"[0-9]{1,9}", "the number of states"))
        self._expect(r"\]", "']' after the number of states")
        self._expect("{", f"'{{' opening the states of {name!r}")
        states = split_names(self._expect(_UNTIL_BRACE, "the names of the states"), count)
        start = self._last
        self._expect("}", f"'}}' closing the states of {name!r}")
        if len(states) != count or not states:
            raise self.source.error(
                start,
                f"expected {count} states of {name!r}, got {len(states)}: "
                f"{shortened(', '.join(states))} "
                "(a name that holds a comma needs double quotes)",
            )
        if len(set(states)) < count:
            raise self.source.error(start, f"{name!r} has the state {_repeated(states)!r} twice")
        self._expect(";", f"';' after the states of {name!r}")
        return tuple(states)

    def _read_probability(self) -> None:
        self._expect(r"\(", "'(' and the names of child and parents")
        header = self._expect(_HEADER, "the names of child and parents")
        offset = self._last
        names = [(unquote(m.group()), offset + m.start()) for m in _WORD.finditer(header)]
        self._expect(r"\)", "')' after the names of child and parents")
        bars = re.sub(STRING, "", header).count("|")
        if not names or bars > 1:
            raise self.source.error(offset, "expected '( child | parent, ... )' after probability")
        child, *parents = [name for name, _ in names]
        if child in self.blocks:
            raise self.source.error(offset, f"variable {child!r} has two probability blocks")
        if len(set(parents)) < len(parents):
            twice = _repeated(parents)
            raise self.source.error(offset, f"{twice!r} is twice a parent of {child!r}")
        self._expect("{", f"'{{' opening the table of {child!r}")
        start = self._at
        self._expect(_UNTIL_BRACE, f"the table of {child!r}")
        end = self._at
        self._expect("}", f"'}}' closing the table of {child!r}")
        self.blocks[child] = Block(child, tuple(parents), offset, start, end, dict(names))

    def _skip_property(self) -> str:
        text = self._expect(_UNTIL_SEMICOLON, "a property")
        self._expect(";", "';' after the property")
        return text

    def _at_end(self) -> bool:
        self._at = self.skip_space(self._at)
        return self._at == len(self.text)

    def _accept(self, mark: str) -> bool:
        self._at = self.skip_space(self._at)
        matches = self.text.startswith(mark, self._at)
        self._at += len(mark) if matches else 0
        return matches

    def _expect(self, pattern: str | re.Pattern[str], what: str) -> str:
        """Skip blanks and match the pattern, or raise an error that quotes the text."""
        self._last = self.skip_space(self._at)
        match = re.compile(pattern).match(self.text, self._last)
        if match is None:
            raise self.unexpected(self._last, what)
        self._at = match.end()
        return match.group()


def split_names(text: str, count: int) -> list[str]:
    """Split names at commas or, if that does not give as many as expected, at blanks too."""
    if '"' not in text:
        parts = [part.strip() for part in text.split(",")]
        return parts if len(parts) == count and all(parts) else text.replace(",", " ").split()
    items = [item.strip() for item in _ITEM.findall(text)]
    clean = all(re.fullmatch(rf'{STRING}|[^"]+', item, re.DOTALL) for item in items)
    return [unquote(n) for n in (items if clean and len(items) == count else _WORD.findall(text))]


def unquote(name: str) -> str:
    r"""Return a name without its double quotes and the backslashes in ``\"`` and ``\\``."""
    if len(name) < 2 or not name.startswith('"'):
        return name
    return re.sub(r'\\(["\\])', r"\1", name[1:-1])


def _repeated(names: Sequence[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)


def _blank_comments(source: Source) -> str:
    """Overwrite comments with blanks, so that every offset keeps its line and column."""
    text = source.text
    if "//" not in text and "/*" not in text:
        return text

    def blank(match: re.Match[str]) -> str:
        comment = match.group()
        if comment.startswith('"'):
            return comment
        if comment == "/*":
            raise source.error(match.start(), "this comment has no end; expected '*/'")
        return re.sub(r"[^\n]", " ", comment)

    return _COMMENT.sub(blank, text)
