"""The page in headless Chromium: clicks set evidence, what is read is what the library says."""

from __future__ import annotations

import itertools
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pgnn
from pgnn.explorer import Explorer, ExplorerServer
from pgnn.explorer import explorer as explorer_module
from tests.explorer.browser import ANSWERED, CLICK, READ, Browser, click, needs_browser, written

pytestmark = needs_browser


def test_clicks_set_evidence_and_every_marginal_is_the_librarys(page: Browser, model: Any) -> None:
    assert page.run(READ) == written(model, {})
    click(page, "smoke yes")
    click(page, "xray yes")
    evidence = {"smoke": "yes", "xray": "yes"}
    assert page.run(READ) == written(model, evidence)
    log_evidence = float(model.query([], evidence).log_evidence)
    figures = page.run("return document.getElementById('figures').textContent")
    assert f"{log_evidence:.6f}" in figures
    pressed = page.run(
        "return [...document.querySelectorAll('[aria-pressed=true].state')].map("
        "(b) => b.closest('.card').querySelector('h2 button').textContent)"
    )
    assert sorted(pressed) == ["smoke", "xray"]
    changed = page.run("return document.getElementById('changes').textContent")
    before, after = (model.query(None, e) for e in ({"smoke": "yes"}, evidence))
    distance = {
        n: float((after[n].probs - before[n].probs).abs().sum()) for n in model.variables
        if n not in evidence
    }  # fmt: skip
    most = max(distance, key=distance.__getitem__)
    assert changed.startswith(f"changed most by the last step {most}: ")
    shown = [f"{100 * float(p[most].probs[0]):.1f}%" for p in (before, after)]
    assert " → ".join(shown) in changed
    if "PGNN_SCREENSHOTS" in os.environ:
        page.screenshot(Path(os.environ["PGNN_SCREENSHOTS"]) / "explorer.png")
    page.run("document.getElementById('undo').click()")
    page.until("return document.querySelectorAll('[aria-pressed=true].state').length === 1")
    assert page.run(READ) == written(model, {"smoke": "yes"})


def test_keyboard_alone(page: Browser, model: Any) -> None:
    page.run(
        "[...document.querySelectorAll('.state')].find("
        "(b) => b.getAttribute('aria-label').startsWith('asia yes')).focus()"
    )
    count = page.run("return document.body.dataset.answers")
    page.keys("\ue007")  # Enter
    page.until(ANSWERED, count)
    assert page.run(READ) == written(model, {"asia": "yes"})
    spoken = page.run("return document.getElementById('spoken').textContent")
    assert spoken.startswith("asia observed yes. tub yes 1.0% to 5.0%. ")
    page.keys("\ue015")  # arrow down
    assert page.run("return document.activeElement.ariaLabel").startswith("asia no ")
    page.keys("\ue014")  # arrow right
    card = "return document.activeElement.closest('.card').ariaLabel"
    assert page.run(card) == "tub; parents asia; children either"
    page.keys("\ue007")
    page.until("return !document.getElementById('details').hidden")
    page.keys("\ue00c")  # Escape
    assert page.run("return document.getElementById('details').hidden")
    assert page.run(card).startswith("tub;")


def test_findings_are_listed_and_removed(page: Browser, model: Any) -> None:
    click(page, "smoke yes")
    assert (
        page.run("return document.getElementById('findings').textContent")
        == "1 finding smoke = yes×"
    )
    count = page.run("return document.body.dataset.answers")
    page.run("document.querySelector('.chip button:last-child').click()")
    page.until(ANSWERED, count)
    assert page.run(READ) == written(model, {})


def test_find_in_the_graph_goes_from_match_to_match(page: Browser) -> None:
    found = "return document.getElementById('found').textContent"
    page.run("document.getElementById('find').focus()")
    page.keys(*"yes")
    assert page.run(found) == "1 of 8"
    page.keys("\ue007")
    assert page.run(found) == "2 of 8"
    assert page.run("return document.getElementById('spoken').textContent") == "2 of 8: tub"
    page.keys(*"?")
    assert page.run(found) == "no match"


def test_tables_say_whose_states_and_which_rows_are_ruled_out(page: Browser) -> None:
    click(page, "smoke yes")
    page.run(
        "[...document.querySelectorAll('.card h2 button')].find("
        "(b) => b.textContent === 'lung').click()"
    )
    page.until("return document.querySelector('aside td input')")
    labels = page.run(
        "return [...document.querySelectorAll('aside td input')].map((i) => i.ariaLabel)"
    )
    assert labels[0] == "P(lung=yes | smoke=yes)"
    assert page.run("return document.querySelectorAll('aside .ruled-out').length") == 1
    page.run(
        "const i = document.querySelector('aside td input');"
        "i.value = 7; i.dispatchEvent(new Event('change'))"
    )
    assert page.run("return document.getElementById('error').textContent") == (
        "P(lung=yes | smoke=yes) lies between 0 and 1"
    )


def test_impossible_findings_are_told_and_not_kept(page: Browser, model: Any) -> None:
    click(page, "lung yes")
    page.run(CLICK, "either no")
    page.until("return !document.getElementById('error').hidden")
    assert page.run(READ) == written(model, {"lung": "yes"})


def test_explanation_soft_evidence_tables_and_links(page: Browser, model: Any) -> None:
    page.run("document.getElementById('explain').click()")
    page.until("return document.querySelectorAll('.state.best').length === 8")
    page.run(
        "[...document.querySelectorAll('.card h2 button')].find("
        "(b) => b.textContent === 'smoke').click()"
    )
    count = page.run("return document.body.dataset.answers")
    page.run(
        "const i = document.querySelector('aside input[type=range]');"
        "i.value = 25; i.dispatchEvent(new Event('change'))"
    )
    page.until(ANSWERED, count)
    soft = {"smoke": pgnn.likelihood([0.25, 1.0])}
    assert page.run(READ) == written(model, soft)
    page.until("return document.querySelector('aside td input')")
    count = page.run("return document.body.dataset.answers")
    page.run(
        "const i = document.querySelector('aside td input');"
        "i.value = 0.9; i.dispatchEvent(new Event('change'))"
    )
    page.until(ANSWERED, count)
    changed: Any = pgnn.sensitivity.with_entry(model, pgnn.sensitivity.Entry("smoke", "yes"), 0.9)
    assert page.run(READ) == written(changed, soft)
    link = page.run("return location.href")
    page.open("about:blank")
    page.open(link)
    page.until("return document.querySelectorAll('.card.soft').length === 1")
    assert page.run(READ) == written(changed, soft)
    assert "token" not in page.run("return document.documentElement.outerHTML")


def test_estimated_explanations_are_marked_and_searched_longer(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).normal(size=(15, 3, 3))
    pairs = itertools.combinations([pgnn.Variable(n, 3) for n in "abcdef"], 2)
    field = pgnn.MarkovRandomField(
        [pgnn.TabularPotential([*p], np.exp(v)) for p, v in zip(pairs, values, strict=True)]
    )
    monkeypatch.setattr(explorer_module, "_SOON", pgnn.JunctionTree(max_work=1))
    bare = pgnn.DualDecomposition(max_iterations=2, search=None, progress=False)
    monkeypatch.setattr(pgnn.DualDecomposition, "brief", lambda seed: bare)
    figures = "return document.getElementById('figures').textContent"
    with ExplorerServer(Explorer(field)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open("about:blank")
        browser.open(server.address)
        browser.until("return document.body.dataset.answers")
        browser.run("document.getElementById('explain').click()")
        browser.until("return document.querySelectorAll('.state.best').length === 6")
        assert re.search(r"log Z = .* \(best found; no other is more than", browser.run(figures))
        browser.run("document.querySelector('#figures button').click()")
        browser.until("return !document.querySelector('#figures button')")
        best = float(field.most_probable().log_prob - field.log_partition())
        assert browser.run(figures).endswith(f"log P(most probable explanation) = {best:.6f}")
        server.shutdown()


def test_list_view_finds_variables(page: Browser) -> None:
    page.run("document.getElementById('view').click()")
    page.run(
        "const f = document.getElementById('find');"
        "f.value = 'lun'; f.dispatchEvent(new Event('input'))"
    )
    names = (
        "return [...document.querySelectorAll('#list .card h2 button')].map((b) => b.textContent)"
    )
    assert page.run(names) == ["lung"]
    assert page.run("return document.querySelectorAll('[id]').length > 0")
    unnamed = page.run(
        "return [...document.querySelectorAll('button, input, select')].filter((e) =>"
        "!(e.ariaLabel || e.textContent.trim() || e.closest('label'))).length"
    )
    assert unnamed == 0
