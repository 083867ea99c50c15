"""Reads the errors that the package raises: their advice is told apart from their reason.

Interfaces without Python give advice in their own words, or leave it out, which takes that it is
the argument ``advice`` of an error and no part of ``reason``.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pgnn.errors

PACKAGE = Path(__file__).resolve().parent.parent / "pgnn"
ERRORS = {
    name
    for name, kind in vars(pgnn.errors).items()
    if isinstance(kind, type) and issubclass(kind, pgnn.errors.PgnnError | Warning)
}
ADVICE = re.compile(
    r"(?:; |: |\. |\? )(?:(?i:use|pass|give|call|name|leave out|leave|omit|remove|rename|declare"
    r"|mark|drop|take|set|fit|learn|choose|raise|draw|check|add|keep|create|run|save|write|query"
    r"|rescale|repeat|impute|fill|pad)\b(?! of\b)|errors=|inputs=)"
)


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def advice_in_reasons(source: str) -> list[str]:
    """Reasons that say what to do, which is for ``advice``."""
    return [
        f"{call.lineno}: give advice= instead of {found.group()!r} in a reason"
        for call in _errors(parsed(source))
        for found in [ADVICE.search(_text(call.args[0]))]
        if found
    ]


def lost_advice(source: str) -> list[str]:
    """Errors that hold the whole message of another one, instead of its reason and advice."""
    return [
        f"{call.lineno}: give {handler.name}.reason and {handler.name}.advice"
        for handler in ast.walk(parsed(source))
        if isinstance(handler, ast.ExceptHandler) and handler.name and _names(handler.type)
        for call in _errors(handler)
        if {f"str({handler.name})", f"{{{handler.name}}}"} & _parts(call.args[0])
    ]


def _errors(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of errors and warnings of the package, with a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _names(node.func):
            yield node


def _names(node: ast.AST | None) -> bool:
    """Whether an expression is one of the errors, or names one among others."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(getattr(p, "attr", getattr(p, "id", None)) in ERRORS for p in parts)


def _text(node: ast.AST) -> str:
    """A text with ``{}`` in place of values, also of the branches of conditional expressions."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)}\n{_text(node.orelse)}"
    return f"{_text(node.left)}{_text(node.right)}" if isinstance(node, ast.BinOp) else "{}"


def _parts(node: ast.AST) -> set[str]:
    """The values that are formatted in a text, and the calls in it."""
    return {
        f"{{{ast.unparse(n.value)}}}" if isinstance(n, ast.FormattedValue) else ast.unparse(n)
        for n in ast.walk(node)
        if isinstance(n, ast.FormattedValue | ast.Call)
    }


@pytest.mark.parametrize("rule", [advice_in_reasons, lost_advice])
def test_advice_is_told_apart(rule) -> None:
    complaints = [
        f"{file.relative_to(PACKAGE)}:{complaint}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for complaint in rule(file.read_text(encoding="utf-8"))
    ]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (advice_in_reasons, "raise ModelError('x is real; use Gaussian')"),
        (advice_in_reasons, "raise pgnn.DataError(f'{x!r} is empty: leave it out')"),
        (advice_in_reasons, "warn(AdvisedWarning(f'rows sum to {x}. Pass normalise=True'))"),
        (advice_in_reasons, "ModelError('no state' + (f'; give {x}' if x else ''))"),
        (lost_advice, "try: f()\nexcept DataError as e: raise ModelError(f'x: {e}')"),
        (lost_advice, "try: f()\nexcept (OSError, DataError) as e: raise DataError(str(e))"),
    ],
)
def test_bad_snippets_are_caught(rule, source: str) -> None:
    assert len(rule(source)) == 1


def test_good_snippets_are_not() -> None:
    source = """
raise ModelError('x is real', 'use Gaussian')
raise ModelError('x must be a list, such as: names of columns; got 3')
raise ValueError('use Gaussian: give it')
try: f()
except DataError as e: raise DataError(f'x: {e.reason}', e.advice)
try: f()
except ValueError as e: raise DataError(f'x: {e}')
"""
    assert advice_in_reasons(source) == lost_advice(source) == []
