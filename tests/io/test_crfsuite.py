"""Models of CRFsuite, against a file that is written here by the published layout."""

import gzip
import io
import itertools
import math
import struct
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import DataError, Intractable

LABELS = ["O", "B-NP", "I-NP"]
ATTRIBUTES = ["w=the", "w=dog", "größe", "bias"]
STATE = {(0, 1): 1.5, (0, 2): -0.25, (1, 2): 2.0, (2, 0): 0.5, (3, 0): 0.1, (3, 1): -0.3}
MOVES = {(1, 2): 1.0, (2, 2): 0.5, (0, 1): -0.7}


def database(names: list[str]) -> bytes:
    """Names by number, as CRFsuite's constant database has them; no tables by name."""
    header, records, places = 24 + 256 * 8, b"", []
    for number, name in enumerate(names):
        key = name.encode() + b"\0"
        places.append(header + len(records))
        records += struct.pack("<II", number, len(key)) + key
    tables = b"\0" * 256 * 8
    backward = struct.pack(f"<{len(names)}I", *places)
    size = header + len(records) + len(backward)
    start = struct.pack("<4sIIIII", b"CQDB", size, 0, 0x62445371, len(names), header + len(records))
    return start + tables + records + backward


def written() -> bytes:
    features = [struct.pack("<IIId", 0, a, y, w) for (a, y), w in STATE.items()]
    features += [struct.pack("<IIId", 1, a, y, w) for (a, y), w in MOVES.items()]
    body = b"".join(features)
    feat = struct.pack("<4sII", b"FEAT", 12 + len(body), len(features)) + body
    labels, attributes = database(LABELS), database(ATTRIBUTES)
    at = [48, 48 + len(feat), 48 + len(feat) + len(labels)]
    size = at[2] + len(attributes)
    header = struct.pack("<4sI4sIIIIIIIII", b"lCRF", size, b"FOMC", 100, 0, 3, 4, *at, size, size)
    return header + feat + labels + attributes


SENTENCE = [["w=the", "bias", "unknown"], {"w=dog": 1.0, "größe": 0.5}, ["bias"]]


@pytest.mark.parametrize("name", ["model.crfsuite", "model", "model.gz"])
def test_a_field_with_the_weights_of_the_file(name: str, tmp_path: Any) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(written()) if name.endswith("gz") else written())
    field = pgnn.read(path)
    assert isinstance(field, pgnn.ConditionalRandomField)
    assert list(field.state.states) == LABELS
    scores = {}
    for labels in itertools.product(range(3), repeat=3):
        total = sum(MOVES.get(pair, 0.0) for pair in itertools.pairwise(labels))
        for step, y in zip(SENTENCE, labels, strict=True):
            values = step if isinstance(step, dict) else dict.fromkeys(step, 1.0)
            total += sum(
                x * STATE.get((ATTRIBUTES.index(a), y), 0.0)
                for a, x in values.items()
                if a in ATTRIBUTES
            )
        scores[labels] = total
    best = max(scores, key=scores.__getitem__)
    inputs = {"attributes": SENTENCE}
    assert field.decode(inputs=inputs)["label"].tolist() == [LABELS[k] for k in best]
    log_z = math.log(sum(map(math.exp, scores.values())))
    log_prob = field.log_prob([LABELS[k] for k in best], inputs=inputs)
    assert float(log_prob) == pytest.approx(scores[best] - log_z, abs=1e-12)
    assert not any(p.requires_grad for p in field.parameters())
    field.save(tmp_path / "kept")
    again = pgnn.load(tmp_path / "kept")
    torch.testing.assert_close(again.log_prob([LABELS[k] for k in best], inputs=inputs), log_prob)


def test_streams_and_other_formats() -> None:
    assert pgnn.read(io.BytesIO(written())).state.num_states == 3
    with pytest.raises(DataError, match="expected a file ending"):
        pgnn.read(__file__)
    with pytest.raises(DataError, match="mode 'rb'"):
        pgnn.io.read_crfsuite(io.StringIO("lCRF"))
    with pytest.raises(DataError, match="no model of CRFsuite"):
        pgnn.io.read_crfsuite(io.BytesIO(b"text"))
    with pytest.raises(Intractable, match="max_bytes"):
        pgnn.io.read_crfsuite(io.BytesIO(written()), max_bytes=100)


def test_damaged_files_are_refused() -> None:
    whole = written()
    for cut in range(4, len(whole), 101):
        with pytest.raises(DataError, match=r"damaged|begin"):
            pgnn.read(io.BytesIO(whole[:cut]))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        bent = bytearray(whole)
        bent[rng.integers(4, len(whole))] ^= 1 << rng.integers(8)
        try:
            pgnn.read(io.BytesIO(bytes(bent)))
        except DataError:
            refused += 1
    assert refused > 0
    for change, message in (
        (b"lCRF" + whole[4:8] + b"SOMC" + whole[12:], "first order"),
        (whole.replace(b"CQDB", b"cqdb", 1), "no labels"),
        (whole.replace(b"FEAT", b"feat", 1), "no features"),
        (whole.replace("größe".encode(), b"gr\xff\xff\xff\xffe"), "written in utf-8"),
    ):
        with pytest.raises(DataError, match=message):
            pgnn.read(io.BytesIO(change))
