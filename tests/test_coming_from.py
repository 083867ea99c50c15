"""Pages for users of other libraries: what they show of the peer and of pgnn gives the same."""

import contextlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "coming_from"
PAGES = {p.stem: p.read_text(encoding="utf-8") for p in sorted(FOLDER.glob("*.md"))}
MODULES = {"crfsuite": "pycrfsuite", "scikit-learn": "sklearn"}
"""Names of modules, where they are not that of the page."""

pytestmark = pytest.mark.filterwarnings("ignore")  # what peers warn of is their affair


class Row(NamedTuple):
    """A row of a page's table of equivalent calls."""

    page: str
    what: str
    peer: str
    call: str


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGES[page], re.M | re.S)


def rows() -> list[Row]:
    lines = [(page, ln) for page, text in PAGES.items() for ln in text.splitlines()]
    cells = [(page, re.split(r"(?<!\\)\|", ln.strip("|"))) for page, ln in lines if ln[:1] == "|"]
    plain = [(page, [c.strip().replace("\\|", "|") for c in each]) for page, each in cells]
    return [
        Row(page, what, peer.strip("`"), call.strip("`"))
        for page, (what, peer, call) in plain
        if what != "What" and not set(what) <= set("-")
    ]


@cache
def names_left_by(page: str, folder: Path) -> dict[str, Any]:
    """Run the snippets of a page; keep the answers of both libraries to its task."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        with contextlib.chdir(folder):
            exec(compile(block, page, "exec"), names)
        names["answers"] = [*names.get("answers", ()), names.pop("answer", None)]
    return names


def plain(answer: Any) -> Any:
    """An answer of any library as an array of numbers, labels by name, or what it is."""
    kind = type(answer).__name__
    if kind == "TabularCPD":  # the child comes first
        return np.moveaxis(np.asarray(answer.values), 0, -1)
    if kind in ("Tabular", "Marginal", "Categorical"):
        return plain(answer.probs)
    if kind == "Posterior":
        return plain(answer[answer.variables[0].name])
    if kind in ("Factor", "DiscreteFactor"):
        return plain(answer.values)
    if isinstance(answer, Mapping):
        return {str(name): int(state) for name, state in answer.items()}
    if isinstance(answer, list):
        return [plain(x) for x in answer]
    for read in ("toarray", "to_numpy"):
        if hasattr(answer, read):
            return np.asarray(getattr(answer, read)())
    return answer.detach().numpy() if hasattr(answer, "detach") else answer


def agree(theirs: Any, ours: Any) -> bool:
    theirs, ours = plain(theirs), plain(ours)
    if isinstance(theirs, dict):
        return {name: ours[name] for name in theirs} == theirs
    if np.asarray(theirs).dtype.kind not in "fiub":
        return bool(np.all(theirs == ours))
    theirs, ours = np.asarray(theirs, dtype=float), np.asarray(ours, dtype=float)
    return theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=1e-3, atol=1e-4)


def names_of(page: str, folder: Path) -> dict[str, Any]:
    pytest.importorskip(MODULES.get(page, page))
    return names_left_by(page, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.mark.parametrize("page", PAGES)
def test_the_task_of_the_peer_has_the_same_answer_in_no_more_lines(page: str, folder: Path) -> None:
    theirs, ours, *_ = names_of(page, folder)["answers"]
    assert agree(theirs, ours)
    lines = [block.strip().splitlines() for block in blocks(page)[:2]]
    assert [first for first, *_ in lines] == [f"# {page}", "# pgnn"]
    count = [sum(bool(ln.strip()) for ln in block) for block in lines]
    assert count[1] <= count[0]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.page}-{row.what}")
def test_equivalent_calls_have_the_same_answer(row: Row, folder: Path) -> None:
    names = names_of(row.page, folder)
    with contextlib.chdir(folder):
        ours = eval(row.call, names)
        assert ours is not None
        assert row.peer == "-" or agree(eval(row.peer, names), ours)
