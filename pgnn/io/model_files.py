"""Reading and writing models, in a format chosen by the file's content or name."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from pgnn.abilities import FactorModel
from pgnn.errors import Advice, DataError
from pgnn.factors.piece import Restorable
from pgnn.io.checkpoint import is_checkpoint, restored
from pgnn.io.formats import FORMATS, Format, by_name, recognised
from pgnn.io.source import (
    CRFSUITE,
    MAX_TEXT,
    PathOrFile,
    Source,
    begins_with,
    contents,
    ending_of,
    path_of,
    write_text,
)
from pgnn.models.bayesian_network import BayesianNetwork
from pgnn.models.markov_random_field import MarkovRandomField

_logger = logging.getLogger("pgnn")
_NAMES = ", ".join(f"'{f.name}'" for f in FORMATS)


def read(
    file: PathOrFile,
    format: str | None = None,
    encoding: str | None = None,
    max_bytes: int = MAX_TEXT,
    *,
    normalise: bool = False,
) -> Any:
    """Read a model from a file, whose format is recognised by its content.

    Args:
        file: Path, or an open stream such as ``sys.stdin``; gzip is unpacked. Formats are BIF,
            XMLBIF, NET of Hugin, DSL and XDSL of GeNIe, UAI, FG of libDAI, models of CRFsuite, and
            what :func:`save` wrote.
        format: ``"bif"``, ``"xmlbif"``, ``"net"``, ``"dsl"``, ``"xdsl"``, ``"uai"`` or ``"fg"``; by
            content if not given, and by the path's ending where the content is like none.
        encoding: Encoding of the text; if not given that which an XML file declares, else UTF-8.
        max_bytes: Largest size of the uncompressed text.
        normalise: Whether the rows of conditional tables are weights (percentages, counts, rounded
            numbers), each to be divided by its sum; factors of fields stay as they are.

    Returns:
        A ``BayesianNetwork``, a ``MarkovRandomField``, a ``ConditionalRandomField``, or whatever
        was saved.

    Raises:
        DataError: If the format is unknown or the file is malformed, with line and column.
        Intractable: If the text, a table, or the number of states is larger than allowed.
        OSError: If the file cannot be opened.

    Example:
        >>> import io
        >>> coin = read(io.StringIO("BAYES 1 2 1 1 0 2 7 7"), normalise=True)
        >>> coin.conditionals[0].probs.tolist()
        [0.5, 0.5]
    """
    if isinstance(file, str | os.PathLike):
        if format is None and begins_with(path_of(file), CRFSUITE):
            return _read_crfsuite(file, encoding or "utf-8", max_bytes)
        if format is None and is_checkpoint(path_of(file)):
            return load(file)
    data, name = contents(file, max_bytes)
    if format is None and isinstance(data, bytes) and data.startswith(CRFSUITE):
        return _read_crfsuite(io.BytesIO(data), encoding or "utf-8", max_bytes)
    source = Source.of(data, name, encoding)
    kind = recognised(source.text) if format is None else None
    return (kind or format_of(file, format)).read(source, normalise)


def write(
    model: BayesianNetwork | MarkovRandomField,
    file: PathOrFile | None = None,
    format: str | None = None,
) -> None:
    """Write a model of discrete variables to a file.

    Every conditional and potential is written as its table, numbers as the shortest decimals that
    read back as the same logs. What the format does not hold (names, in UAI and FG files) is logged
    as a warning. A checkpoint (:func:`save`) keeps everything.

    Args:
        model: The model.
        file: Path ending in ``.bif``, ``.xmlbif``, ``.net``, ``.dsl``, ``.xdsl``, ``.uai`` or
            ``.fg``, perhaps followed by ``.gz``; or an open stream.
        format: One of these endings; needed for a stream.

    Raises:
        DataError: If the format is unknown, or cannot hold the model's names or numbers.
        Unsupported: If the format cannot hold this kind of model.
        OSError: If the file cannot be written.
    """
    if not isinstance(model, FactorModel):
        raise DataError(f"write() takes a model and a path, got {model!r} instead of a model")
    if file is None:
        raise DataError("write() takes a model and a path, got no path")
    kind = format_of(file, format)
    if not model.variables:
        raise DataError("the model has no variables, and files of models have at least one")
    model.check()
    write_text(kind.write(model), file)
    if lost := kind.losses(model):
        _logger.warning("a file of the format %s does not hold %s", kind.name, ", ".join(lost))


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
    from pgnn import factors, models, neural

    user_classes = tuple(classes)
    for kind in user_classes:
        if not isinstance(kind, type) or not issubclass(kind, Restorable):
            raise DataError(
                f"classes= takes classes of models, conditionals or potentials, got {kind!r}"
            )
    exported = [getattr(room, name) for room in (factors, models, neural) for name in room.__all__]
    known = [c for c in exported if isinstance(c, type) and issubclass(c, Restorable)]
    model = restored(path, [*known, *user_classes], modules)
    return model.eval()  # as a fitted one: dropout is of learning alone


def format_of(file: PathOrFile, format: str | None = None) -> Format:
    """Return the format in which a file is written.

    Args:
        file: Path with one of the known endings, or an open stream.
        format: Name of the format; needed for a stream.

    Raises:
        DataError: If the format or the ending is unknown.
    """
    if format is not None:
        kind = by_name(format) if isinstance(format, str) else None
        if kind is None:
            raise DataError(f"unknown format {format!r}; expected one of {_NAMES}")
        return kind
    if not isinstance(file, str | os.PathLike):
        advice = Advice("pass format= as one of them", "format", (_NAMES,))
        raise DataError(f"the stream is in none of the formats {_NAMES}", advice)
    name = path_of(file).name
    ending = ending_of(name)
    kind = by_name(ending)
    if kind is None:
        got = f"'.{ending}'" if ending else "none"
        raise DataError(
            f"{name}: expected a file ending of {_NAMES} (or these with .gz), got {got}",
            Advice("rename it or pass format=; model.save(path) writes checkpoints", "format"),
        )
    return kind


def _read_crfsuite(file: PathOrFile, encoding: str, max_bytes: int) -> Any:
    from pgnn.io.crfsuite import read_crfsuite

    return read_crfsuite(file, encoding, max_bytes)
