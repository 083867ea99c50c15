"""Models, evidence and engines that arguments of the command line name."""

from __future__ import annotations

import argparse
import ast
import math
import sys
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgnn.evidence.spelled_names import SpelledNames
    from pgnn.factors.variable import Variable

_PACKED = (".gz", ".bz2", ".xz", ".zip")
"""Endings of what pandas packs as it writes."""


def read_model(path: str, normalise: bool = False) -> Any:
    """Return the model in a file, or in standard input if the path is ``-``.

    Raises:
        DataError: If it is none.
    """
    import pgnn

    if path != "-":
        return pgnn.read(path, normalise=normalise)
    if sys.stdin is None:
        raise pgnn.DataError("standard input is closed", "name a file instead")
    return pgnn.read(sys.stdin.buffer, normalise=normalise)


def engine_of(text: str | None) -> Any:
    """Return the engine that a text names; None if there is no text.

    Raises:
        ModelError: If there is no such engine, or it has no such setting.
    """
    from pgnn.inference.engine import Engine

    return None if text is None else called(text, Engine, "engine")


def called(text: str, base: type, kind: str) -> Any:
    """Return an object of a public class from a text such as ``EM(prior=Laplace(1))``.

    Only names of public classes, numbers, text and truth values are read; nothing is evaluated.

    Args:
        text: Name of the class, perhaps with settings.
        base: What its class inherits from.
        kind: What messages call it.

    Raises:
        ModelError: If it is no such text.
    """
    from pgnn.errors import ModelError

    try:
        tree: ast.expr = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Call) and tree.args:
            raise ValueError("settings have names")
        return _built(tree, base, kind)
    except ModelError:  # a ValueError, too
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ModelError(
            f"expected {kind} NAME or NAME(setting=number, ...), got {text!r}"
        ) from None


def _built(tree: ast.expr, base: type, kind: str) -> Any:
    """An object of a public class, whose settings may be such objects.

    Raises:
        ValueError: If the expression is something else.
        ModelError: If there is no such class.
    """
    import pgnn
    from pgnn.errors import ModelError, closest

    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    if not isinstance(call.func, ast.Name) or any(k.arg is None for k in call.keywords):
        raise ValueError("not a name")
    classes = {n: getattr(pgnn, n) for n in pgnn.__all__ if isinstance(getattr(pgnn, n), type)}
    known = [n for n, found in classes.items() if issubclass(found, base)]
    if call.func.id not in known:
        hint = closest(call.func.id, known)
        if base is object and not hint.startswith("; did you mean"):  # not all public classes
            hint = "; expected a number, True, False, None, a text in quotes, or a public class"
        raise ModelError(f"unknown {kind} {call.func.id!r}{hint}")
    names = [k.arg for k in call.keywords]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"{kind} {call.func.id}: {name} is given twice", "give it once")
    settings = {k.arg: _setting(k.value, k.arg) for k in call.keywords if k.arg}
    return classes[call.func.id](*[_setting(x, kind) for x in call.args], **settings)


def _setting(tree: ast.expr, name: str) -> Any:
    is_object = isinstance(tree, ast.Name | ast.Call)
    return _built(tree, object, name) if is_object else ast.literal_eval(tree)


def evidence_of(model: Any, options: argparse.Namespace) -> dict[Any, Any]:
    """Return the evidence of a UAI file and of the options ``-e``."""
    from pgnn.errors import EvidenceError
    from pgnn.evidence.spelled_names import SpelledNames

    evidence, names = {}, SpelledNames(model.variables)
    if options.sample is not None and options.evidence_file is None:
        raise EvidenceError(
            "--evidence-row is that of an evidence file", "give --evidence-file, too"
        )
    if options.evidence_file is not None:
        evidence = _numbered_evidence(model, options.evidence_file, options.sample)
    for text in options.evidence:
        name, state = split_finding(text, names)
        variable = named(name, names)
        known, label = variable.name, _value(state, variable)
        if evidence.setdefault(known, label) != label:
            raise EvidenceError(
                f"{name!r} was observed as {str(evidence[known])!r} and as {state!r}"
            )
    return evidence


def _value(text: str, variable: Any) -> Any:
    """The state, the weights of states, or the number, that a text is."""
    from pgnn.errors import EvidenceError

    if variable.is_discrete:
        weights = _weights(text, variable)
        if weights:
            return weights
        return lookup(text, variable.states, "state", f" of {str(variable.name)!r}")
    with suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise EvidenceError(f"{str(variable.name)!r} takes a finite number, got {text!r}")


def _weights(text: str, variable: Any) -> dict[Any, float]:
    """Soft evidence such as ``yes:0.8,no:0.2``, by state; nothing if the text is no such list."""
    from pgnn.errors import EvidenceError

    labels = {str(label): label for label in variable.states}
    parts = [part.strip().rpartition(":") for part in text.split(",")]
    if text in labels or not any(label in labels for label, _, _ in parts):
        return {}
    weights: dict[Any, float] = {}
    for label, _, weight in parts:
        state = lookup(label, variable.states, "state", f" of {str(variable.name)!r}")
        if state in weights:
            raise EvidenceError(
                f"{text!r} has two weights for {label!r}", "give one for each state"
            )
        try:
            weights[state] = float(weight)
        except ValueError:
            return {}
    return weights


def _numbered_evidence(model: Any, path: str, sample: int | None) -> dict[Any, Any]:
    from pgnn.errors import EvidenceError
    from pgnn.io.uai import numbering
    from pgnn.io.uai_evidence import read_evidence

    names = {number: name for name, number in numbering(model).items()}
    evidence = {}
    for number, state in read_evidence(path, sample).items():
        if number not in names:
            raise EvidenceError(f"{path}: variable {number} of {len(names)}, numbered from 0")
        labels = model.variables[names[number]].states
        if state >= len(labels):
            raise EvidenceError(f"{path}: state {state} of variable {number} with {len(labels)}")
        evidence[names[number]] = labels[state]
    return evidence


def split_finding(text: str, names: Container[str]) -> tuple[str, str]:
    """Split ``NAME=STATE`` where NAME is a variable, for names and states may contain ``=``."""
    cuts = [k for k, letter in enumerate(text) if letter == "=" and text[:k] in names]
    cut = cuts[0] if cuts else text.index("=", 1)
    return text[:cut], text[cut + 1 :]


def check_ignored(ignored: Iterable[str], columns: Iterable[Any], file: str) -> None:
    """Check the columns that ``--ignore`` names.

    Raises:
        DataError: If the table has no such column.
    """
    from pgnn.errors import DataError, closest

    names = [str(column) for column in columns]
    for name in ignored:
        if name not in names:
            raise DataError(f"--ignore {name!r}: {file} has no such column{closest(name, names)}")


def check_output(
    path: str | None,
    endings: Sequence[str] = (),
    source: str | None = None,
    *,
    packed: bool = False,
    addresses: bool = False,
) -> None:
    """Check where an answer is to be written, before it is computed.

    Args:
        path: The file; None or ``-`` for a stream.
        endings: Those of the formats that can be written, the first one of files without an ending;
            any if not given.
        source: The file that is read.
        packed: Whether the format may be packed, so that the file ends in ``.csv.gz``, say.
        addresses: Whether ``s3://bucket/rows.csv`` can be written, of which only the ending is
            checked.

    Raises:
        DataError: If the folder of the file does not exist, the path is a folder or the file that
            is read, or its ending is that of another format.
    """
    from pgnn.errors import DataError

    if path in (None, "-"):
        return
    file = Path(str(path))
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    packing = suffixes.pop() if packed and suffixes and suffixes[-1] in _PACKED else ""
    ending = suffixes[-1] if suffixes else ""
    if endings and ending and ending.lstrip(".") not in endings:
        known = " or ".join(f".{e}" for e in endings) + (" or .csv.gz" if packed else "")
        got = ending + packing
        raise DataError(f"--to {path}: expected a file that ends in {known}, got {got}")
    if addresses and "://" in str(path):
        return
    if source is not None and file.exists() and file.resolve() == Path(source).resolve():
        raise DataError(f"--to {path} names the file that is read", "name another one")
    if file.is_dir():
        raise DataError(f"--to {path}: expected a file, got a folder")
    if not file.absolute().parent.is_dir():
        raise DataError(f"--to {path}: there is no folder {str(file.parent)!r}", "create it first")


def named(text: str, names: SpelledNames) -> Variable:
    """Return the variable that a text names, or the element of an array.

    Raises:
        EvidenceError: If there is none.
    """
    from pgnn.evidence.unknown_variable import unknown_variable

    found = names.find(text)
    if found is None:
        raise unknown_variable(text, names.variables.values())
    return found


def targets_of(model: Any, options: argparse.Namespace) -> list[Any]:
    """Return the names of the targets; none if none are given.

    Raises:
        EvidenceError: If one is that of no variable.
    """
    from pgnn.evidence.spelled_names import SpelledNames

    names = SpelledNames(model.variables)
    return [named(name, names).name for name in options.target]


def lookup(text: str, known: Iterable[Any], kind: str, of: str = "") -> Any:
    """Return the element of ``known`` whose text is ``text``, such as 3 for ``"3"``."""
    from pgnn.errors import EvidenceError, closest

    known = list(known)
    for candidate in known:
        if str(candidate) == text:
            return candidate
    raise EvidenceError(f"unknown {kind} {text!r}{of}{closest(text, known)}")
