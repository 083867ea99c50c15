"""Reads the structure of a BIF text: blocks, names, states, and the positions of the numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pgnn.errors import shortened
from pgnn.io.scanner import STRING, Scanner, c_comments_blank, unquote, until
from pgnn.io.source import Source

PROPERTY = re.compile(rf"\s*+property\b{until(';{}')};", re.DOTALL)

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


class Structure(Scanner):
    """The blocks of a BIF text.

    Args:
        source: The text.

    Raises:
        DataError: With line and column, if the text has another structure.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source, c_comments_blank(source))
        self.name = "unknown"
        self.variables: dict[str, Declaration] = {}
        self.blocks: dict[str, Block] = {}
        readers = {
            "network": self._read_network,
            "variable": self._read_variable,
            "probability": self._read_probability,
        }
        while not self.at_end():
            readers[self.expect(_KEYWORD, "'network', 'variable' or 'probability'")]()
        if not self.variables:
            raise source.error(len(self.text), "expected a variable, got the end of the file")

    def _read_network(self) -> None:
        name = self.expect(_HEADER, "the name of the network").strip()
        self.name = unquote(name) or self.name
        self.expect("{", "'{' opening the network block")
        while not self.accept("}"):
            self.expect("property\\b", "'property' or '}' in the network block")
            self._skip_property()

    def _read_variable(self) -> None:
        name = unquote(self.expect(_WORD, "the name of the variable"))
        offset = self.start
        if name in self.variables:
            raise self.source.error(offset, f"variable {name!r} is declared twice")
        self.expect("{", f"'{{' opening variable {name!r}")
        states: tuple[str, ...] | None = None
        latent = False
        while not self.accept("}"):
            if self.expect(_ENTRY, f"'type', 'property' or '}}' in {name!r}") == "property":
                latent |= is_latent(self._skip_property())
            elif states is not None:
                raise self.source.error(self.start, f"variable {name!r} has two types")
            else:
                states = self._read_states(name)
        if states is None:
            example = "type discrete [ 2 ] { no, yes };"
            raise self.source.error(offset, f"variable {name!r} has no type; add '{example}'")
        index = {label: k for k, label in enumerate(states)}
        self.variables[name] = Declaration(states, offset, index, latent)

    def _read_states(self, name: str) -> tuple[str, ...]:
        self.expect(r"discrete\b", f"'discrete' as the type of {name!r}")
        self.expect(r"\[", "'[' and the number of states")
        count = int(self.expect(r"[0-9]{1,9}", "the number of states"))
        self.expect(r"\]", "']' after the number of states")
        self.expect("{", f"'{{' opening the states of {name!r}")
        states = split_names(self.expect(_UNTIL_BRACE, "the names of the states"), count)
        start = self.start
        self.expect("}", f"'}}' closing the states of {name!r}")
        if len(states) != count or not states:
            raise self.source.error(
                start,
                f"expected {count} states of {name!r}, got {len(states)}: "
                f"{shortened(', '.join(states))} "
                "(a name that holds a comma needs double quotes)",
            )
        if len(set(states)) < count:
            raise self.source.error(start, f"{name!r} has the state {_repeated(states)!r} twice")
        self.expect(";", f"';' after the states of {name!r}")
        return tuple(states)

    def _read_probability(self) -> None:
        self.expect(r"\(", "'(' and the names of child and parents")
        header = self.expect(_HEADER, "the names of child and parents")
        offset = self.start
        names = [(unquote(m.group()), offset + m.start()) for m in _WORD.finditer(header)]
        self.expect(r"\)", "')' after the names of child and parents")
        bars = re.sub(STRING, "", header).count("|")
        if not names or bars > 1:
            raise self.source.error(offset, "expected '( child | parent, ... )' after probability")
        child, *parents = [name for name, _ in names]
        if child in self.blocks:
            raise self.source.error(offset, f"variable {child!r} has two probability blocks")
        if len(set(parents)) < len(parents):
            twice = _repeated(parents)
            raise self.source.error(offset, f"{twice!r} is twice a parent of {child!r}")
        self.expect("{", f"'{{' opening the table of {child!r}")
        start = self.at
        self.expect(_UNTIL_BRACE, f"the table of {child!r}")
        end = self.at
        self.expect("}", f"'}}' closing the table of {child!r}")
        self.blocks[child] = Block(child, tuple(parents), offset, start, end, dict(names))

    def _skip_property(self) -> str:
        text = self.expect(_UNTIL_SEMICOLON, "a property")
        self.expect(";", "';' after the property")
        return text


def is_latent(text: str) -> bool:
    """Return whether the text of a property says that its variable is never observed."""
    return bool(_LATENT.fullmatch(text))


def split_names(text: str, count: int) -> list[str]:
    """Split names at commas or, if that does not give as many as expected, at blanks too."""
    if '"' not in text:
        parts = [part.strip() for part in text.split(",")]
        return parts if len(parts) == count and all(parts) else text.replace(",", " ").split()
    items = [item.strip() for item in _ITEM.findall(text)]
    clean = all(re.fullmatch(rf'{STRING}|[^"]+', item, re.DOTALL) for item in items)
    return [unquote(n) for n in (items if clean and len(items) == count else _WORD.findall(text))]


def _repeated(names: Sequence[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)
