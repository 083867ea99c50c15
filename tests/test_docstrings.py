"""Docstrings have sections that the reference can show: a name and a description for each item."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pgnn"
SOURCES = [p for p in sorted(PACKAGE.rglob("*.py")) if "kernels" not in p.parts]
ROOMS = sorted({str(p.parent.relative_to(PACKAGE)) for p in SOURCES})
SECTION = re.compile(r"(Args|Attributes|Raises):")
ITEM = re.compile(r"\*{0,2}\w[\w.]*(?:, \*{0,2}\w+)*: \S")
Described = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def items(docstring: str) -> Iterator[tuple[str, str]]:
    """The first lines of items of sections, each with the name of its section."""
    section = ""
    for line in inspect.cleandoc(docstring).splitlines():
        if found := SECTION.fullmatch(line):
            section = found[1]
        elif line and not line.startswith(" "):
            section = ""
        elif section and re.match(r" {4}\S", line):
            yield section, line.strip()


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    a = node.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
    return {arg.arg for arg in every}


def described(source: str) -> Iterator[tuple[Described, str, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Described):
            for section, item in items(ast.get_docstring(node, clean=False) or ""):
                yield node, section, item


def faults(source: str) -> list[str]:
    """Items without a name and a description, and arguments that a function does not have."""
    found = []
    for node, section, item in described(source):
        if not ITEM.match(item):
            found.append(f"{node.name}: {section}: {item}")
        elif section == "Args" and not isinstance(node, ast.ClassDef):
            names = [name.strip("* ") for name in item.partition(":")[0].split(",")]
            found += [f"{node.name}: no {n}" for n in names if n not in parameters(node)]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_items_have_names_and_descriptions(room: str) -> None:
    own = [p for p in SOURCES if p.parent == PACKAGE / room]
    found = {p.name: faults(p.read_text(encoding="utf-8")) for p in own}
    assert {name: each for name, each in found.items() if each} == {}


def test_lost_lines_are_found() -> None:
    lost = "def f(a):\n    '''Do.\n\n    Args:\n        a: One, which is\n        long.\n    '''"
    other = "def f(a):\n    '''Do.\n\n    Args:\n        b: One.\n    '''"
    assert faults(lost) == ["f: Args: long."]
    assert faults(other) == ["f: no b"]
    assert faults(lost.replace("        long", "            long")) == []
