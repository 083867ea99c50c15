"""Names in any script: no boxes where the machine has a font, no warnings otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager, get_font

import pgnn
from pgnn.plot import canvas, fonts
from tests.plot.test_network import overlaps, words

RAIN = "\U000102a0"
"""A letter of Carian, which no font of Matplotlib has."""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """The fonts that other tests found are forgotten, and those of this one."""
    installed = list(fontManager.ttflist)
    _forget()
    yield
    fontManager.ttflist[:] = installed
    _forget()


def _forget() -> None:
    fonts._FOUND.clear()
    for cached in (fonts._font_of, fonts._paths_of, fonts._weights_of, canvas.text_width):
        cached.cache_clear()


def install(folder: Path, family: str, letters: str) -> None:
    """Build a font with a square for each letter, and register it."""
    names = [".notdef", *(f"g{k}" for k in range(len(letters)))]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"g{k}" for k, c in enumerate(letters)})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    path = folder / f"{family}.ttf"
    builder.save(path)
    fontManager.addfont(path)


def model(state: str) -> pgnn.BayesianNetwork:
    tables: dict[Any, Any] = {"sky": [0.3, 0.7], "wet": [[0.9, 0.1], [0.2, 0.8]]}
    return pgnn.BayesianNetwork(
        [("sky", "wet")], tables, states={"sky": [state, "dry"], "wet": ["no", state]}
    )


def test_a_font_that_has_the_letter_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "Carian", RAIN)
    ax = pgnn.plot.network(model(RAIN), evidence={"wet": RAIN})
    ax.figure.canvas.draw()  # warnings are errors
    drawn = [t for t in ax.texts if t.get_text() == RAIN]
    assert len(drawn) == 2
    assert all(t.get_fontfamily()[-1] == "Carian" for t in drawn)
    assert overlaps(ax) == []
    assert not caplog.records  # the font is not bold
    width = canvas.text_width(RAIN, 10.0)
    assert width == pytest.approx(8.0, abs=0.5)


def test_without_a_font_the_letter_is_spelled() -> None:
    ax = pgnn.plot.network(model(RAIN), evidence={"wet": RAIN})
    ax.figure.canvas.draw()
    assert words(ax).count("\\U000102a0") == 2
    assert overlaps(ax) == []


@pytest.mark.parametrize("name", ["βροχή", "мокро", "نعم", "größer", "😀"])
def test_letters_of_the_default_font_stay(name: str) -> None:
    ax = pgnn.plot.network(model(name), evidence={"wet": name})
    ax.figure.canvas.draw()
    assert words(ax).count(name) == 2
    assert fonts.families_of(name) == plt.rcParams["font.family"]


@pytest.mark.parametrize("is_installed", [False, True])
def test_labels_of_axes(tmp_path: Path, is_installed: bool) -> None:
    if is_installed:
        install(tmp_path, "Carian", RAIN)
    shown = RAIN if is_installed else "\\U000102a0"
    table = pgnn.plot.table(model(RAIN).conditionals["wet"])
    chain = pgnn.HiddenMarkovModel([RAIN, "dry"], {"x": 2}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]])
    smoothed = pgnn.plot.states(chain.smooth({"x": [0, 1, 0]}))
    transitions = pgnn.plot.transitions(chain)
    for ax in (table, smoothed, transitions):
        ax.figure.canvas.draw()
    labels = [t.get_text() for t in (*table.get_xticklabels(), *table.get_yticklabels())]
    assert labels == ["no", shown, shown, "dry"]
    assert [t.get_text() for t in smoothed.get_legend().get_texts()] == [shown, "dry"]
    assert [t.get_text() for t in transitions.get_xticklabels()] == [shown, "dry"]


def test_boxes_for_every_letter_are_no_font() -> None:
    every = [e for e in fontManager.ttflist if "Last Resort" in e.name]
    assert not every or get_font(every[0].fname).get_char_index(ord(RAIN))
    assert not any("Last Resort" in family for family, _ in fonts._installed())
    assert "DejaVu Sans" in [family for family, _ in fonts._installed()]
