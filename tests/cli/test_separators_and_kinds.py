"""Tables that are not plain CSV: other separators, encodings, kinds of files, ragged lines."""

from pathlib import Path

import pandas as pd
import pytest

import pgnn
from tests.cli.commands import complaint, run

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
COMMANDS = {
    "predict": ["-t", "tub"],
    "impute": [],
    "fit": ["--to", "learned.bif", "--learner", "EM", "--seed", "0"],
}
TEXT = "smoke,lung,xray\nyes,yes,no\nno,,yes\n"


@pytest.fixture(params=COMMANDS)
def command(
    request: pytest.FixtureRequest, asia: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """A command that reads ``rows.csv``."""
    monkeypatch.chdir(tmp_path)
    return (request.param, "asia.bif", "rows.csv", *COMMANDS[request.param])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            TEXT.replace(",", ";").encode(),
            "expected columns separated by ',', got ';'; pass --separator ';'",
        ),
        (TEXT.encode("utf-16"), "expected a CSV file, got text in UTF-16; save it as UTF-8"),
        (TEXT.replace("yes", "é").encode("latin-1"), "expected text in UTF-8, got another"),
        (b"ARROW1\0\0\xff", "expected a CSV file, got an Arrow (Feather) file; write"),
        (b"PK\x03\x04\0\xff", "expected a CSV file, got an Excel workbook or a ZIP archive"),
        (b"smoke\0,lung\n", "expected a CSV file, got binary data"),
        (b"smoke,lung,xray\nyes,yes\nno,,yes\n", "line 2: expected 3 cells, one for each column"),
        (b"smoke,lung\nyes,yes\nno,,yes\n", "line 3: expected 2 cells, one for each column, got 3"),
    ],
)  # fmt: skip
def test_what_is_no_table(
    command: tuple[str, ...], content: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.csv").write_bytes(content)
    assert f"rows.csv: {told}" in complaint(capsys, *command)


@pytest.mark.parametrize(("character", "word"), [(";", ";"), ("\t", "tab"), ("\t", r"\t")])
def test_separators(
    command: tuple[str, ...], character: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.csv").write_text(TEXT)
    assert run(*command, "--to", "first.bif" if command[0] == "fit" else "first.csv") == 0
    Path("rows.csv").write_text(TEXT.replace(",", character))
    to = "second.bif" if command[0] == "fit" else "second.csv"
    assert run(*command, "--separator", word, "--to", to) == 0
    assert Path(to).read_text() == Path(to.replace("second", "first")).read_text()


def test_a_separator_is_one_character(asia: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("impute", asia, "rows.csv", "--separator", ";;")
    assert "expected one character or tab, got ';;'" in capsys.readouterr().err


def test_a_column_without_a_name(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.csv").write_text(",smoke,lung\n0,yes,no\n1,no,\n")  # with the index of a data frame
    told = complaint(capsys, *command)
    assert "column ''" in told
    assert "Unnamed" not in told
    assert "--ignore" in told
    assert run(*command, "--ignore", "") == 0
    capsys.readouterr()
    Path("rows.csv").write_text(",smoke,\n0,yes,no\n1,no,\n")
    assert "two columns have the name ''" in complaint(capsys, *command, "--ignore", "")


def test_imputed_tables_keep_a_column_without_a_name(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(",asia\na,no\nb,\n")
    assert run("impute", asia, tmp_path / "rows.csv", "--ignore", "") == 0
    assert capsys.readouterr().out.replace('""', "") == ",asia\na,no\nb,no\n"


def test_lines_in_quotes_are_counted(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text('id,asia,tub\n"a\nb",no,\nc,no\n')
    words = ("impute", asia, table, "--ignore", "id")
    assert "line 4: expected 3 cells" in complaint(capsys, *words)
    table.write_text('id,asia,tub\n"a\nb",no,\n\nc,no,no\n')
    assert run(*words) == 0


def test_pictures_of_an_unknown_kind(
    asia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = complaint(capsys, "plot", asia, "--to", tmp_path / "asia.foo")
    assert "expected a file that ends in .png or .svg or .pdf" in told
    assert "got .foo" in told


def test_elements_of_arrays_are_imputed_as_integers() -> None:
    pixels = pgnn.Variable("pixel", 2, shape=(2,))
    complete = pd.DataFrame({"a": [1, 0, 1], "b": [0, 1, 1]})
    learner = pgnn.ContrastiveDivergence(epochs=1)
    model = pgnn.RestrictedBoltzmannMachine(pixels, 1)
    model.fit(complete, learner=learner, seed=0, progress=False)
    completed = model.impute(complete.mask([[False, True], [False, False], [False, False]]))
    assert completed.dtypes.astype(str).tolist() == ["int64", "int64"]


def test_vector_pictures_have_text_and_a_title(asia: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("plot", asia, "-e", "smoke=yes", "--to", tmp_path / "net.svg") == 0
    drawn = (tmp_path / "net.svg").read_text()
    assert f"<title>{asia.name} given smoke=yes</title>" in drawn
    assert ">dysp</text>" in drawn


def test_a_part_of_a_network_is_drawn(asia: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["plot", asia, "--around", "asia", "--around", "xray", "--radius", "1"]
    assert run(*words, "--to", tmp_path / "net.svg") == 0
    drawn = (tmp_path / "net.svg").read_text()
    names = ("asia", "tub", "either", "xray", "lung", "smoke", "bronc", "dysp")
    assert [n for n in names if f">{n}</text>" in drawn] == ["asia", "tub", "either", "xray"]
