"""Choosing the format; the small pieces under the readers."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn.errors import DataError
from pgnn.io import read, write
from pgnn.io.description import short_values
from pgnn.io.labels import decode, encode
from pgnn.io.source import Source

COIN = (
    "variable coin { type discrete [ 2 ] { heads, tails }; } probability ( coin ) { table .5 .5; }"
)
PAIR = "MARKOV 2 2 2 1 2 0 1 4 1 2 3 0"


@pytest.mark.parametrize("name", ["a.bif", "a.bif.gz", "a.uai", "A.UAI.GZ"])
def test_format_by_ending(tmp_path: Path, name: str) -> None:
    model = read(io.StringIO(COIN))
    write(model, tmp_path / name)
    again = read(str(tmp_path / name))
    labels = ("heads", "tails") if "bif" in name else (0, 1)
    assert [v.states for v in again.variables.values()] == [labels]


def test_streams_tell_by_their_first_word() -> None:
    assert list(read(io.BytesIO(COIN.encode())).variables) == ["coin"]
    assert set(read(io.StringIO(PAIR)).variables) == {0, 1}
    with pytest.raises(DataError, match="none of the formats 'bif', 'xmlbif', 'net', "):
        write(read(io.StringIO(COIN)), io.StringIO())
    out = io.StringIO()
    write(read(io.StringIO(COIN)), out, format="uai")
    assert out.getvalue().split() == ["BAYES", "1", "2", "1", "1", "0", "2", "0.5", "0.5"]


def test_given_format_wins(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text(PAIR)
    assert len(read(tmp_path / "model.txt", format="uai").variables) == 2
    with pytest.raises(DataError, match="expected 'network', 'variable' or 'probability'"):
        read(tmp_path / "model.txt", format="bif")
    with pytest.raises(DataError, match="unknown format 'xlm'; expected one of 'bif', 'xmlbif'"):
        read(tmp_path / "model.txt", format="xlm")
    (tmp_path / "model.txt").write_text("what is this")
    with pytest.raises(DataError, match=r"model.txt: expected a file ending of 'bif', 'xmlbif'"):
        read(tmp_path / "model.txt")


def test_saved_models_are_read_too(tmp_path: Path) -> None:
    model = read(io.StringIO(COIN))
    model.save(tmp_path / "coin.safetensors")
    assert read(tmp_path / "coin.safetensors").variables == model.variables


def test_positions() -> None:
    source = Source("ab\n\ncd", "f")
    assert [source.position(k) for k in range(7)] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (3, 1),
        (3, 2),
        (3, 3),
    ]


@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=20))
def test_short_values_keep_the_logs(values: list[float]) -> None:
    # Ten digits, as files have them, must come back as they were written.
    printed = np.array([float(f"{x:.10g}") for x in values])
    with np.errstate(divide="ignore"):
        logs = np.log(printed)
    logs[printed < 1e-300] = -math.inf
    found = short_values(torch.tensor(logs))
    np.testing.assert_allclose(found, np.exp(logs), rtol=1e-13)
    # log is not one to one near 1 only beyond ten digits; elsewhere numbers are identical.
    np.testing.assert_array_equal(found[logs > -600], printed[logs > -600])


def test_short_values_of_floats() -> None:
    logs = torch.tensor([0.1, 1 / 3]).log()
    assert short_values(logs)[0] == 0.1
    assert np.log(short_values(logs).astype(np.float32)).tolist() == logs.tolist()


labels = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@given(labels)
def test_labels_round_trip(label: object) -> None:
    import json

    again = decode(json.loads(json.dumps(encode(label))))
    assert again == label
    assert type(again) is type(label)


def test_what_is_missing_is_said_in_words(tmp_path: Path) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    for call in (
        lambda: pgnn.save("m.bif"),
        lambda: pgnn.save(model),
        lambda: pgnn.save(model, tmp_path / "m.bif"),
        lambda: pgnn.write("m.bif"),
        lambda: pgnn.write(model),
        lambda: pgnn.read(None),
        lambda: pgnn.load(None),
    ):
        with pytest.raises(DataError, match=r"(?s)got|checkpoint"):
            call()
    assert not (tmp_path / "m.bif").exists()


@pytest.mark.parametrize("ending", ["bif", "xmlbif", "net", "dsl", "xdsl", "uai", "fg"])
def test_no_variables_are_not_written(tmp_path: Path, ending: str) -> None:
    with pytest.raises(DataError, match="the model has no variables"):
        write(pgnn.BayesianNetwork([]), tmp_path / f"none.{ending}")
    assert not list(tmp_path.iterdir())
