"""Checkpoints: one file with a model's structure as JSON and its parameters as tensors.

Each piece returns its settings and is restored from them (:class:`~pgnn.factors.piece.Restorable`);
this file writes and reads settings as JSON, and does not depend on the kinds of pieces.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import FactorModel
from pgnn.errors import DataError, PgnnError
from pgnn.factors.piece import Restorable
from pgnn.io.checkpoint_version_1 import upgraded
from pgnn.io.endings import format_of_ending
from pgnn.io.settings import SettingsReader, SettingsWriter
from pgnn.io.source import draft_of, ending_of, path_of
from pgnn.models.column_names import ColumnNames

VERSION = 2
"""Version of the format; files of this one and of those before it are read."""

_WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError,
          AssertionError, MemoryError, PgnnError)  # fmt: skip


def save(model: FactorModel, path: str | os.PathLike[str] | None = None) -> None:
    """Save a model to one file, in the safetensors format.

    It holds names and labels with their types (text, integers, floats, booleans, ``None``,
    intervals of pandas and tuples of these), edges, kinds and settings of the pieces, all
    parameters exactly with their dtypes, which of them are constant, and the history of the fit.
    The code of networks and functions is not saved: of networks the parameters are, of functions
    that are features their values. An existing file is replaced when the new one is complete.

    Args:
        model: A model whose class defines ``settings()``.
        path: File, by custom ending in ``.safetensors``.

    Raises:
        DataError: If a name or label is of another type, or ``path`` is not a path.
        ModelError: If parameters are ``NaN``, or infinite where that is not allowed.
        Unsupported: If the model's class defines no settings.
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save as to_bytes

    if not isinstance(model, FactorModel) or not isinstance(model, Restorable):
        raise DataError(f"save() takes a model and a path, got {model!r} instead of a model")
    path = _path(path, "pgnn.write(model, path) writes")
    writer = SettingsWriter()
    structure = {"version": VERSION, "model": writer.object(model), "variables": writer.variables}
    structure["history"] = writer.history(model)
    held: Any = model
    if isinstance(held, ColumnNames):
        structure["columns"] = writer.value(held.columns)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "there is no such folder; create it first", str(path.parent)
        )
    text = json.dumps(structure)
    tensors = {key: x.detach().cpu().contiguous().clone() for key, x in writer.tensors.items()}
    data = to_bytes(tensors, {"pgnn": text, "crc32": _checksum(text, tensors)})
    draft = draft_of(path)
    try:
        draft.write_bytes(data)
        if draft != path:
            draft.replace(path)
    finally:
        if draft != path:
            draft.unlink(missing_ok=True)


def restored(
    path: str | os.PathLike[str],
    classes: Iterable[type[Restorable]],
    modules: Mapping[Hashable, Any] | None = None,
) -> Any:
    """Return the model that :func:`save` wrote; see :func:`pgnn.load`.

    Args:
        path: The file.
        classes: Classes that may be instantiated; no other code runs.
        modules: Modules of the caller.
    """
    path = _path(path, "pgnn.read(path) reads")
    structure, tensors = _read(path)
    try:
        if structure["version"] == 1:
            structure, tensors = upgraded(structure, tensors)
        reader = SettingsReader(structure["variables"], tensors, classes, dict(modules or {}))
        model: Any = reader.model(structure["model"])
        if not isinstance(model, FactorModel):
            raise DataError(f"expected a model, got {type(model).__name__}")
        held: Any = model
        held.history.update(reader.value(structure["history"]))
        held.detached = bool(held.history)
        if isinstance(held, ColumnNames):
            held.name_columns(reader.value(structure.get("columns", [])))
        return model
    except DataError as error:
        raise DataError(f"{path.name}: {error.reason}", error.advice) from error
    except RecursionError:
        raise DataError(f"{path.name}: expected a description of a model, but it is nested "
                        "too deeply: the file was not written by pgnn") from None  # fmt: skip
    except _WRONG as error:
        raise DataError(
            f"{path.name}: expected a description of a model, but {type(error).__name__}: {error}"
        ) from error


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins as those of :func:`save` do: a length, and an object of JSON."""
    try:
        with path.open("rb") as stream:
            begin = stream.read(9)
    except OSError:
        return False
    return len(begin) == 9 and begin[7:] == b"\0{"


def _path(path: Any, other: str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise DataError(
            f"expected the path of a file, got {path!r}",
            "save a model by model.save(path), and load it by pgnn.load(path)",
        )
    file = path_of(path)
    if format_of_ending(ending_of(file.name)) is not None:
        raise DataError(f"{file.name}: a checkpoint is a .safetensors file; {other} this format")
    return file


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeError) as error:
        raise DataError(
            f"{path.name}: expected a checkpoint, got a broken file: {error}"
        ) from error
    if "pgnn" not in metadata:
        raise DataError(f"{path.name}: expected a checkpoint of pgnn, got other safetensors")
    text = metadata["pgnn"]
    if metadata.get("crc32") != _checksum(text, tensors):
        raise DataError(f"{path.name}: the checksum differs: the file was damaged or edited")
    try:
        structure = dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: expected a description in JSON: {error}") from error
    if structure.get("version") not in range(1, VERSION + 1):
        raise DataError(
            f"{path.name}: expected version {VERSION} of the format, got "
            f"{structure.get('version')!r}",
            "load it with the version of pgnn that wrote it",
        )
    return structure, tensors


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    crc = zlib.crc32(text.encode())
    for key in sorted(tensors):
        header = f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}"
        crc = zlib.crc32(header.encode(), crc)
        if tensors[key].numel():
            crc = zlib.crc32(tensors[key].reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
