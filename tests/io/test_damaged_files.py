"""Files and arguments that are none: every one is told apart by an error of pgnn, soon."""

import gzip
import io
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save as to_bytes

import pgnn
from pgnn.errors import DataError, Intractable, PgnnError
from pgnn.io import read_evidence, read_query, write_evidence
from pgnn.io.checkpoint import _checksum
from pgnn.io.source import Source
from tests.io.test_formats import EXAMPLES, FACTORS
from tests.zoo import ZOO

BIF = """network "dogs" { property author = "x"; }
// a comment, then a quoted name
variable "a b" { type discrete [ 2 ] { no, yes }; property p = q; }
variable c { type discrete [ 3 ] { 0, 1, "2;" }; }
probability ( "a b" ) { table 0.25, 0.75; }
probability ( c | "a b" ) { (no) 0.5, 0.25, 0.25; /* rest */ default 0.2 0.3 0.5; }
"""
UAI = "BAYES\n2\n2 3\n2\n1 0\n2 0 1\n\n2\n 0.25 0.75\n\n6\n 0.5 0.25 0.25\n 0.2 0.3 0.5\n"
FIELD = "MARKOV\n3\n2 2 3\n2\n2 0 1\n2 1 2\n\n4\n 1.0 2.0\n 3.0 4.0\n6\n 1 1 2\n 5 1 0.5\n"
EVIDENCE = "2\n1 0 1\n2 0 0 1 2\n"


def _damaged(data: bytes, seed: int, count: int) -> list[bytes]:
    """Cut off, flipped, doubled and shuffled pieces."""
    rng = np.random.default_rng(seed)
    made = [data[: int(rng.integers(len(data)))] for _ in range(count // 4)]
    marks = b'{}()[];,|"/*\\#_-+eE.0123456789 \n\x00\xff\xc3'
    while len(made) < count:
        broken = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(broken)))
            match int(rng.integers(4)):
                case 0:
                    broken[at] = int(rng.integers(256))
                case 1:
                    broken[at] = marks[int(rng.integers(len(marks)))]
                case 2:
                    broken[at:at] = broken[at : at + int(rng.integers(1, 30))]
                case _:
                    del broken[at : at + int(rng.integers(1, 10))]
        made.append(bytes(broken))
    return made


def _read_soon(read: Callable[[], Any]) -> bool:
    """Whether it was read; all errors must be those of pgnn."""
    begin, good = time.process_time(), True
    try:
        read()
    except PgnnError:
        good = False
    assert time.process_time() - begin < 5.0
    return good


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("text", [BIF, UAI, FIELD], ids=["bif", "uai", "field"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_damaged_models(text: str, pack: Callable[[bytes], bytes]) -> None:
    whole = pack(text.encode())
    assert _read_soon(lambda: pgnn.read(io.BytesIO(whole)))
    kept = 0
    for broken in _damaged(whole, 0, 400):
        for encoding in ("utf-8", "latin-1"):
            kept += _read_soon(lambda b=broken, e=encoding: pgnn.read(io.BytesIO(b), encoding=e))
    assert kept < 700


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["xmlbif", "net", "dsl", "xdsl", "fg"])
def test_damaged_networks(name: str) -> None:
    whole = {**EXAMPLES, "fg": FACTORS}[name].encode()
    size = len(pgnn.read(io.BytesIO(whole)).variables)
    kept = 0
    for broken in _damaged(whole, 4, 200):
        for format in (None, name):
            read = partial(pgnn.read, io.BytesIO(broken), format, "latin-1")
            kept += _read_soon(read)
    # a comment, a number or a name may change, and the file still be one
    assert kept < 250
    for cut in range(1, len(whole) - 20, 7):
        assert not _read_soon(lambda c=cut: _all_of(pgnn.read(io.BytesIO(whole[:c]), name), size))


def _all_of(model: Any, size: int) -> None:
    """Check that nothing of a model is missing."""
    if len(model.variables) < size:
        raise AssertionError("half a file was read")


def test_damaged_evidence() -> None:
    for broken in _damaged(EVIDENCE.encode(), 1, 300):
        _read_soon(lambda b=broken: read_evidence(io.BytesIO(b), 0))
        _read_soon(lambda b=broken: read_query(io.BytesIO(b)))


CHECKPOINTS = ["sprinkler", "coupled", "features"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_damaged_checkpoints(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    ZOO[name].make().save(path)
    whole = path.read_bytes()
    for broken in _damaged(whole, 2, 200):
        if broken == whole:
            continue
        path.write_bytes(broken)
        assert not _read_soon(lambda: pgnn.load(path))


def _mutated(held: Any, rng: np.random.Generator) -> Any:
    """A description in which one value was replaced by another kind of value."""
    wrong = [None, True, -1, 10**9, 10**30, 1.5, float("nan"), "x", [], {}, [[1]], {"tensor": "@9"},
             {"object": {}}, {"variable": 99}, {"map": [1]}, {"list": 3}]  # fmt: skip
    if isinstance(held, dict | list) and len(held) and rng.random() < 0.9:
        keys = [*held] if isinstance(held, dict) else [*range(len(held))]
        key = keys[int(rng.integers(len(keys)))]
        copy = dict(held) if isinstance(held, dict) else [*held]
        copy[key] = _mutated(copy[key], rng)
        return copy
    return wrong[int(rng.integers(len(wrong)))]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_of_another_hand(name: str, tmp_path: Path) -> None:
    """Descriptions that make no sense, with the right checksum."""
    path = tmp_path / "model.safetensors"
    ZOO[name].make().save(path)
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["pgnn"]
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    rng = np.random.default_rng(3)
    for _ in range(300):
        other = json.dumps(_mutated(json.loads(text), rng))
        path.write_bytes(to_bytes(tensors, {"pgnn": other, "crc32": _checksum(other, tensors)}))
        _read_soon(lambda: pgnn.load(path))
    for other in ("[" * 100_000, "1" * 10_000, "{", "[1]", '{"version": {}}', '{"version": 2}'):
        path.write_bytes(to_bytes(tensors, {"pgnn": other, "crc32": _checksum(other, tensors)}))
        assert not _read_soon(lambda: pgnn.load(path))


# --- large --------------------------------------------------------------------------------------

LARGE = {
    "states": "MARKOV 1 1000000000 0",
    "many states": "MARKOV 3000 " + "16000000 " * 3000 + " 0",
    "digits": "MARKOV 1 " + "9" * 5000 + " 0",
    "variables": "MARKOV 1000000000000 2",
    "axes of one": "MARKOV 70 " + "1 " * 70 + "1 70 " + " ".join(map(str, range(70))) + " 1 1.0",
    "a wide factor": "MARKOV 20000 " + "2 " * 20000 + "1 20000 "
    + " ".join(map(str, range(20000))) + " 4 1 1 1 1",
    "a factor over a million": "MARKOV 1000000 " + "2 " * 10**6 + "1 1000000 "
    + " ".join(map(str, range(10**6))) + " 4 1 1 1 1",
    "default": "".join(f"variable p{k} {{ type discrete [ 2 ] {{ a, b }}; }}\n" for k in range(40))
    + "variable c { type discrete [ 2 ] { a, b }; }\nprobability ( c | "
    + ", ".join(f"p{k}" for k in range(40)) + ") { default 0.5 0.5; }",
    "many parents": "".join(
        f"variable p{k} {{ type discrete [ 2 ] {{ a, b }}; }}\n" for k in range(10**5)
    ) + "variable c { type discrete [ 2 ] { a, b }; }\nprobability ( c | "
    + ", ".join(f"p{k}" for k in range(10**5)) + ") { default 0.5 0.5; }",
    "many defaults": "".join(
        f"variable p{k} {{ type discrete [ 8000 ] {{ {', '.join(map(str, range(8000)))} }}; }}\n"
        f"probability ( p{k} | q ) {{ default {' '.join(['0.000125'] * 8000)}; }}\n"
        for k in range(5)
    ) + f"variable q {{ type discrete [ 8000 ] {{ {', '.join(map(str, range(8000)))} }}; }}\n",
    "quotes": '// x\nvariable "' + '\\"' * 200_000,
    "two states of one name": "variable a { type discrete [ 100000 ] { "
    + ", ".join(map(str, range(99_999))) + ", 5 }; }",
    "a parent twice": "variable a { type discrete [ 1 ] { x }; }\nprobability ( a | "
    + ", ".join(f"p{k}" for k in range(10**5)) + ", p7 ) { table 1; }",
    "an unknown name": "".join(
        f"variable p{k} {{ type discrete [ 1 ] {{ x }}; }}\n" for k in range(20_000)
    ) + "probability ( q" + "7" * 5000 + " ) { table 1; }",
}  # fmt: skip


@pytest.mark.parametrize("what", LARGE)
def test_large_numbers_in_files(what: str) -> None:
    begin = time.process_time()
    with pytest.raises((DataError, Intractable)) as caught:
        pgnn.read(io.StringIO(LARGE[what]))
    assert len(str(caught.value)) < 2000
    assert time.process_time() - begin < 5.0


def test_files_that_are_large_once_unpacked(tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(2**24))
    for given in (io.BytesIO(zeros), tmp_path / "zeros.uai.gz"):
        if isinstance(given, Path):
            given.write_bytes(zeros)
        with pytest.raises(Intractable, match=r"more than 1\.0 MiB unpacked; pass max_bytes="):
            pgnn.read(given, "uai", max_bytes=2**20)
    plain = tmp_path / "long.uai"
    plain.write_text(FIELD + "\n" * 100)
    with pytest.raises(Intractable, match=r"long\.uai holds more than 100 B"):
        pgnn.read(plain, max_bytes=100)
    assert len(pgnn.read(plain, max_bytes=300).variables) == 3
    with pytest.raises(DataError, match="max_bytes must be at least 1"):
        pgnn.read(plain, max_bytes=0)


# --- what is no file ----------------------------------------------------------------------------


class _Odd:
    def read(self, size: int = -1) -> Any:
        return 3


def _closed() -> io.BytesIO:
    stream = io.BytesIO(BIF.encode())
    stream.close()
    return stream


def _latin() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(BIF.replace("dogs", "d\xf6gs").encode("latin-1")), "utf-8")


@pytest.mark.parametrize(
    "given",
    [None, 3, b"x", 1.5, [], {}, _Odd(), "a\0b.bif", "nothing", "", "x.doc"],
    ids=lambda x: "odd" if isinstance(x, _Odd) else repr(x),
)
def test_arguments_that_are_no_file(given: Any) -> None:
    network = ZOO["sprinkler"].make()
    calls: list[Callable[[], Any]] = [
        lambda: pgnn.read(given),
        lambda: pgnn.write(network, given),
        lambda: pgnn.write(given, "x.bif"),
        lambda: read_evidence(given) if not isinstance(given, str) else pgnn.read(given),
        lambda: pgnn.read(given, format=given),
    ]
    if not isinstance(given, str) or "\0" in given:
        calls += [
            lambda: pgnn.load(given),
            lambda: network.save(given),
            lambda: pgnn.save(network, given),
            lambda: pgnn.save(given, "x.safetensors"),
            lambda: write_evidence({0: 1}, given),
        ]
    for call in calls:
        with pytest.raises((PgnnError, FileNotFoundError, IsADirectoryError)):
            call()


def test_streams_that_cannot_be_read() -> None:
    for stream in (_closed(), _latin()):
        with pytest.raises(DataError, match="stream"):
            pgnn.read(stream)
    with pytest.raises(DataError, match="stream"):
        pgnn.write(ZOO["sprinkler"].make(), _closed(), "bif")
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii")
    names = pgnn.BayesianNetwork([], {"\xf6": [0.5, 0.5]}, states={"\xf6": 2})
    with pytest.raises(DataError, match="open it with encoding='utf-8'"):
        pgnn.write(names, narrow, "bif")


@pytest.mark.parametrize("encoding", ["klingon", "hex", 3, "utf-8\0"])
def test_unknown_encodings(encoding: Any) -> None:
    with pytest.raises(DataError, match="encoding"):
        Source.read(io.BytesIO(b"x"), encoding)


def test_each_kind_of_file_has_its_verb(tmp_path: Path) -> None:
    network = ZOO["sprinkler"].make()
    for name in ("m.bif", "m.uai.gz", "m.xdsl"):
        with pytest.raises(DataError, match=r"pgnn.write\(model, path\) writes"):
            network.save(tmp_path / name)
        with pytest.raises(DataError, match=r"pgnn.read\(path\) reads"):
            pgnn.load(tmp_path / name)
    with pytest.raises(DataError, match=r"model.save\(path\) writes checkpoints"):
        pgnn.write(network, tmp_path / "m.safetensors")


# --- files of other libraries -------------------------------------------------------------------


def _collider() -> pgnn.BayesianNetwork:
    rng = np.random.default_rng(7)
    cards = {"a": 2, "b": 3, "c": 3}
    tables = {
        "a": rng.dirichlet(np.ones(2)),
        "b": rng.dirichlet(np.ones(3)),
        "c": rng.dirichlet(np.ones(3), size=(2, 3)),
    }
    return pgnn.BayesianNetwork([("a", "c"), ("b", "c")], tables, states=cards)


def _same_distribution(found: pgnn.BayesianNetwork, want: pgnn.BayesianNetwork) -> None:
    """Compare marginals, whatever the numbers of the variables."""
    own = sorted(sorted(p.probs.tolist()) for p in found.query().values())
    np.testing.assert_allclose(
        np.concatenate(own),
        np.concatenate(sorted(sorted(p.probs.tolist()) for p in want.query().values())),
        atol=1e-6,
    )
