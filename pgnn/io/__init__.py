"""Reading and writing models, in a format chosen by the file's name."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from pgnn import factors, models, neural
from pgnn.abilities import FactorModel
from pgnn.errors import DataError
from pgnn.factors.piece import Restorable
from pgnn.io.bif import read_bif, write_bif
from pgnn.io.checkpoint import restored, save
from pgnn.io.crfsuite import MAGIC, read_crfsuite
from pgnn.io.pgmpy import from_pgmpy, to_pgmpy
from pgnn.io.source import (
    MAX_TEXT,
    PathOrFile,
    Source,
    begins_with,
    contents,
    ending_of,
    path_of,
)
from pgnn.io.uai import read_uai, write_uai
from pgnn.io.uai_evidence import read_evidence, read_query, write_evidence
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField

__all__ = [
    "read",
    "write",
    "load",
    "save",
    "read_bif",
    "write_bif",
    "read_uai",
    "write_uai",
    "read_evidence",
    "write_evidence",
    "read_query",
    "read_crfsuite",
    "from_pgmpy",
    "to_pgmpy",
]

_READERS: dict[str, Callable[..., BayesianNetwork | MarkovRandomField]] = {
    "bif": read_bif,
    "uai": read_uai,
}
_WRITERS: dict[str, Callable[..., None]] = {"bif": write_bif, "uai": write_uai}


def read(
    file: PathOrFile,
    format: str | None = None,
    encoding: str = "utf-8",
    max_bytes: int = MAX_TEXT,
) -> Any:
    """Read a model from a file.

    Args:
        file: Path ending in ``.bif`` or ``.uai``, perhaps followed by ``.gz``; a model of CRFsuite,
            which is known by its content; or an open stream, such as ``sys.stdin``.
        format: ``"bif"`` or ``"uai"``; chosen by the path's ending if not given, and by its first
            word for a stream.
        encoding: Encoding of the text.
        max_bytes: Largest size of the uncompressed text.

    Returns:
        A ``BayesianNetwork``, a ``MarkovRandomField`` or a ``ConditionalRandomField``.

    Raises:
        DataError: If the format is unknown or the file is malformed, with line and column.
        Intractable: If the text, a table, or the number of states is larger than allowed.
        OSError: If the file cannot be opened.
    """
    if format is None and isinstance(file, str | os.PathLike):
        if begins_with(path_of(file), MAGIC):
            return read_crfsuite(file, encoding, max_bytes)
    elif format is None:
        data, name = contents(file, max_bytes)
        if isinstance(data, bytes) and data.startswith(MAGIC):
            return read_crfsuite(io.BytesIO(data), encoding, max_bytes)
        source = Source.of(data, name, encoding)
        first = source.text.split(maxsplit=1)[:1]
        return read_uai(source) if first in (["MARKOV"], ["BAYES"]) else read_bif(source)
    return _READERS[_format(file, format)](Source.read(file, encoding, max_bytes))


def write(
    model: BayesianNetwork | MarkovRandomField,
    file: PathOrFile | None = None,
    format: str | None = None,
) -> None:
    """Write a model to a file.

    Args:
        model: The model.
        file: Path ending in ``.bif`` or ``.uai``, perhaps followed by ``.gz``; or an open stream.
        format: ``"bif"`` or ``"uai"``; needed for a stream.

    Raises:
        DataError: If the format is unknown, or cannot hold the model's names or numbers.
        Unsupported: If the format cannot hold this kind of model.
        OSError: If the file cannot be written.
    """
    if not isinstance(model, FactorModel):
        raise DataError(f"write() takes a model and a path, got {model!r} instead of a model")
    if file is None:
        raise DataError("write() takes a model and a path, got no path")
    _WRITERS[_format(file, format)](model, file)


def load(
    path: str | os.PathLike[str],
    modules: Mapping[Hashable, Any] | None = None,
    *,
    classes: Iterable[type[Restorable]] = (),
) -> Any:
    """Load a model that :func:`save` wrote, without executing any code from the file.

    Args:
        path: The file.
        modules: For each ``Neural`` conditional, by the name of its child, a network of the same
            architecture; for each ``NeuralPotential`` likewise, by the name of its variable or the
            tuple of their names, or a list of networks where several have these; or a complete
            conditional or potential, where its head or features, or the class itself, are your
            own code; that of a first step, in a model over time, by ``(name, "initial")``. They
            are copied, and the saved values are loaded into the copies.
        classes: Your own classes of models, conditionals, potentials and their parts, which define
            ``settings()``. Classes are found by their names in the file, here and in pgnn alone.

    Raises:
        DataError: If the file is no checkpoint, is damaged or of another version, or ``modules``
            misses one or has one that does not fit.
        OSError: If the file cannot be opened.
    """
    user_classes = tuple(classes)
    for kind in user_classes:
        if not isinstance(kind, type) or not issubclass(kind, Restorable):
            raise DataError(
                f"classes= takes classes of models, conditionals or potentials, got {kind!r}"
            )
    exported = [vars(room)[name] for room in (factors, models, neural) for name in room.__all__]
    known = [c for c in exported if isinstance(c, type) and issubclass(c, Restorable)]
    model = restored(path, [*known, *user_classes], modules)
    return model.eval()  # as a fitted one: dropout is of learning alone


def _format(file: PathOrFile, format: str | None) -> str:
    known = ", ".join(f"'{k}'" for k in _READERS)
    if format is not None and (not isinstance(format, str) or format not in _READERS):
        raise DataError(f"unknown format {format!r}; expected one of {known}")
    if format is not None:
        return format
    if not isinstance(file, str | os.PathLike):
        raise DataError(f"an open stream has no file ending; pass format= as one of {known}")
    name = path_of(file).name
    ending = ending_of(name)
    if ending not in _READERS:
        got = f"'.{ending}'" if ending else "none"
        raise DataError(
            f"{name}: expected a file ending of {known} (or these with .gz), got {got}; rename "
            "it or pass format=; checkpoints are for pgnn.load"
        )
    return ending
