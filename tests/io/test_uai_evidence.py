"""UAI evidence and query files in all their dialects."""

import io
from pathlib import Path

import pytest

from pgnn.errors import DataError, EvidenceError
from pgnn.io import read_bif, read_evidence, read_query, write_evidence

DIALECTS = [
    ("", {}),
    ("0", {}),
    ("0\n", {}),
    ("1 0", {}),
    ("2 3 1 0 4", {3: 1, 0: 4}),
    ("1 6 0\r\n", {6: 0}),
    ("1\n1 0\n\n", {1: 0}),
    ("1\n2 3 1 0 4", {3: 1, 0: 4}),
    ("10\n" + "".join(f"{k} 0\n" for k in range(10)), dict.fromkeys(range(10), 0)),
]


@pytest.mark.parametrize(("text", "evidence"), DIALECTS)
def test_dialects(text: str, evidence: dict[int, int]) -> None:
    assert read_evidence(io.StringIO(text)) == evidence


def test_several_samples() -> None:
    text = "3\n1 5 1\n0\n2 1 0 2 1\n"
    with pytest.raises(DataError, match="holds 3 samples of evidence; pass sample=0 to 2"):
        read_evidence(io.StringIO(text))
    samples = [read_evidence(io.StringIO(text), sample=k) for k in range(3)]
    assert samples == [{5: 1}, {}, {1: 0, 2: 1}]
    with pytest.raises(DataError, match="not sample 3"):
        read_evidence(io.StringIO(text), sample=3)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("x", 1, "expected the number of observed variables"),
        ("2 1 0 1 1", 7, "variable 1 is observed twice"),
        ("1 0 -1", 5, "expected variable and state, an integer from 0 up, got '-1'"),
        ("2 1 0", 6, "expected"),
        ("0 3", 3, "expected the end of the file"),
    ],
)
def test_malformed(text: str, column: int, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_evidence(io.StringIO(text))
    assert words in str(caught.value)
    assert (caught.value.line, caught.value.column) == (1, column)


def test_query() -> None:
    assert read_query(io.StringIO("3 7 0 2\n")) == (7, 0, 2)
    with pytest.raises(DataError, match="expected 3 x a variable"):
        read_query(io.StringIO("3 7 0"))
    with pytest.raises(DataError, match="end of the file after the variables"):
        read_query(io.StringIO("1 7 0"))


def test_written_evidence_is_read_back(data_dir: Path, tmp_path: Path) -> None:
    write_evidence({4: 1, 0: 3}, tmp_path / "a.evid")
    assert read_evidence(tmp_path / "a.evid") == {4: 1, 0: 3}
    asia = read_bif(data_dir / "bn/asia.bif")
    write_evidence({"smoke": "no", "asia": "yes"}, tmp_path / "b.evid", model=asia)
    names = list(asia.variables)
    wanted = {names.index("smoke"): 1, names.index("asia"): 0}
    assert read_evidence(tmp_path / "b.evid") == wanted
    with pytest.raises(EvidenceError, match="'smok'; did you mean 'smoke'"):
        write_evidence({"smok": "no"}, tmp_path / "c.evid", model=asia)
    with pytest.raises(EvidenceError, match="only numbers, got 'smoke': 'no'; pass model="):
        write_evidence({"smoke": "no"}, tmp_path / "c.evid")
    assert not (tmp_path / "c.evid").exists()
