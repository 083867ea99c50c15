"""Models of CRFsuite: linear conditional random fields, read from its binary files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pgnn.errors import DataError
from pgnn.io.source import CRFSUITE, MAX_TEXT, PathOrFile, contents
from pgnn.models.conditional_random_field import ConditionalRandomField
from pgnn.models.scores.attribute_scores import AttributeScores

_STATE, _TRANSITION = 0, 1
_FEATURE = np.dtype([("kind", "<u4"), ("source", "<u4"), ("label", "<u4"), ("weight", "<f8")])


class _Header(NamedTuple):
    """Counts, and offsets of the sections of the file."""

    features: int
    labels: int
    attributes: int
    at_features: int
    at_labels: int
    at_attributes: int


def read_crfsuite(
    file: PathOrFile, encoding: str = "utf-8", max_bytes: int = MAX_TEXT
) -> ConditionalRandomField:
    """Read a model that CRFsuite has learned.

    Its attributes are the input ``"attributes"``; pairs of attributes and labels, and transitions,
    that have no weight in the file score zero. The numbers are constants.

    Args:
        file: Path (gzip is recognised by its content), or open stream of bytes.
        encoding: Of labels and attributes.
        max_bytes: Bytes, unpacked, that are read at most.

    Raises:
        DataError: If the file is no such model, or is damaged.
        Intractable: If it is larger than allowed.
        OSError: If it cannot be opened.

    References:
        Okazaki (2007), CRFsuite: a fast implementation of conditional random fields.
    """
    data, name = contents(file, max_bytes)
    if isinstance(data, str):
        raise DataError(f"{name}: a model of CRFsuite is bytes", "open the stream with mode 'rb'")
    header = _header(data, name)
    labels = _names(data, header.at_labels, header.labels, encoding, "labels")
    attributes = _names(data, header.at_attributes, header.attributes, encoding, "attributes")
    features = _features(data, header)
    k, state = len(labels), features[features["kind"] == _STATE]
    moves = features[features["kind"] == _TRANSITION]
    if len(state) + len(moves) < len(features):
        raise _damaged("a feature is neither of a state nor of a transition")
    _check(state["source"], len(attributes), "an attribute")
    for numbers in (state["label"], moves["source"], moves["label"]):
        _check(numbers, k, "a label")
    transitions = np.zeros((k, k))
    transitions[moves["source"], moves["label"]] = moves["weight"]
    order = np.lexsort((state["label"], state["source"]))
    pairs = np.stack([state["source"], state["label"]])[:, order].astype(np.int64)
    scores = AttributeScores.of_weights(attributes, pairs, state["weight"][order].copy(), k)
    return ConditionalRandomField(labels, scores, transitions).requires_grad_(False)


def _header(data: bytes, name: str) -> _Header:
    if data[:4] != CRFSUITE or len(data) < 48:
        raise DataError(f"{name} is no model of CRFsuite: it does not begin with {CRFSUITE!r}")
    size, kind, version = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8, 12))
    if kind != int.from_bytes(b"FOMC", "little") or version != 100:
        raise DataError(
            f"{name} is a model of CRFsuite of the kind {data[8:12]!r}, version {version}; first "
            "order chains ('FOMC') of version 100 are read"
        )
    if size > len(data):
        raise _damaged(f"it should have {size:,} bytes, there are {len(data):,}")
    return _Header(*np.frombuffer(data, "<u4", 6, 16).tolist())


def _features(data: bytes, header: _Header) -> Any:
    """Kind, source, label and weight of each feature."""
    if data[header.at_features : header.at_features + 4] != b"FEAT":
        raise _damaged("there are no features where they should begin")
    (number,) = _integers(data, header.at_features + 8, 1)
    begin = header.at_features + 12
    if begin + number * _FEATURE.itemsize > len(data):
        raise _damaged(f"it ends before the last of its {number:,} features")
    features = np.frombuffer(data, _FEATURE, number, begin)
    if not np.isfinite(features["weight"]).all():
        raise _damaged("a weight is not finite")
    return features


def _names(data: bytes, begin: int, number: int, encoding: str, what: str) -> list[str]:
    """Names in the order of their numbers: a constant database with places by number."""
    if data[begin : begin + 4] != b"CQDB":
        raise _damaged(f"there are no {what} where they should begin")
    held, at_places = _integers(data, begin + 16, 2)
    if not number or held < number:
        raise _damaged(f"there should be {number:,} {what}, {held:,} are listed")
    names = []
    for place in _integers(data, begin + at_places, number):
        at = begin + place
        (length,) = _integers(data, at + 4, 1)
        if not place or not length or at + 8 + length > len(data):
            raise _damaged(f"one of its {what} lies outside")
        try:
            names.append(data[at + 8 : at + 7 + length].decode(encoding))
        except UnicodeDecodeError as error:
            raise DataError(f"{what} are not written in {encoding}: {error}") from None
    return names


def _integers(data: bytes, begin: int, number: int) -> list[int]:
    if begin + 4 * number > len(data):
        raise _damaged("it ends too early")
    numbers: list[int] = np.frombuffer(data, "<u4", number, begin).tolist()
    return numbers


def _check(numbers: Any, most: int, what: str) -> None:
    if len(numbers) and int(numbers.max()) >= most:
        raise _damaged(f"a feature speaks of {what} that there is not")


def _damaged(why: str) -> DataError:
    return DataError(f"the model of CRFsuite is damaged: {why}", "copy the file again")
