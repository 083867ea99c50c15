"""Steps of the page: what each one shows, and how it is undone, linked to and refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pgnn
from pgnn.explorer import Explorer, ExplorerServer
from tests.explorer.browser import ANSWERED, CLICK, READ, Browser, click, needs_browser, written

pytestmark = needs_browser

TEXT = "return document.getElementById(arguments[0]).textContent"
CHIPS = "return [...document.querySelectorAll('.chip .link')].map((c) => c.textContent)"
SLOWLY = """
const [fetched, path] = [window.fetch, arguments[0]];
window.fetch = async (...of) => {
  const reply = await fetched(...of);
  if (of[0] === path) await new Promise((done) => setTimeout(done, 400));
  return reply;
};
"""
CHOOSE = """
[...document.querySelectorAll('.card h2 button')].find(
  (b) => b.textContent === arguments[0]).click()
"""
SHIFT, CTRL = "\ue008", "\ue009"


def answered(page: Browser, act: Callable[[], object]) -> None:
    count = page.run("return document.body.dataset.answers")
    act()
    page.until(ANSWERED, count)


def chord(page: Browser, *keys: str) -> None:
    down = [{"type": "keyDown", "value": k} for k in keys]
    up = [{"type": "keyUp", "value": k} for k in reversed(keys)]
    page._send("/actions", {"actions": [{"type": "key", "id": "keys", "actions": down + up}]})


def compare(page: Browser, value: str) -> None:
    page.run(
        "const c = document.getElementById('compare'); c.value = arguments[0];"
        "c.dispatchEvent(new Event('change'))",
        value,
    )


def test_fields_show_probabilities_relative_to_log_z(browser: Browser) -> None:
    a, b, c = (pgnn.Variable(n, ["no", "yes"]) for n in "abc")
    pair = [[10.0, 10.0], [10.0, 30.0]]
    potentials = [pgnn.TabularPotential([x, y], pair) for x, y in ((a, b), (b, c))]
    field = pgnn.MarkovRandomField(potentials)
    with ExplorerServer(Explorer(field)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open("about:blank")
        browser.open(server.address)
        browser.until("return document.body.dataset.answers")
        log_z = float(field.log_partition())
        assert browser.run(TEXT, "figures") == f"exact (JunctionTree); log Z = {log_z:.6f}"
        click(browser, "b yes")
        known = float(field.query([], {"b": "yes"}).log_evidence)
        p = float(field.query("b")["b"].probs[1])
        assert browser.run(TEXT, "figures") == (
            f"exact (JunctionTree); log Z(evidence) = {known:.6f}; "
            f"log P(evidence) = {known - log_z:.6f}, probability {p:.4f}"
        )
        assert f"log probability of the evidence {known - log_z:.3f}" in browser.run(TEXT, "spoken")
        browser.run("document.getElementById('explain').click()")
        browser.until("return document.querySelectorAll('.state.best').length === 3")
        best = float(field.log_prob(dict.fromkeys("abc", "yes")))
        assert browser.run(TEXT, "figures").endswith(f"explanation) = {best:.6f}")
        browser.run(CHOOSE, "b")
        assert browser.run(TEXT, "relatives") == "neighbours: a, c"
        server.shutdown()


def test_changes_are_against_the_last_step_or_no_evidence(page: Browser, model: Any) -> None:
    click(page, "smoke yes")
    click(page, "xray yes")
    assert page.run(TEXT, "changes").startswith("changed most by the last step either: ")
    compare(page, "start")
    prior, now = model.query(), model.query(None, {"smoke": "yes", "xray": "yes"})
    distance = {
        n: float((now[n].probs - prior[n].probs).abs().sum())
        for n in model.variables
        if n not in ("smoke", "xray")
    }
    most = sorted(distance, key=lambda n: -distance[n])
    first, second = most[:2]
    shown = [f"{100 * float(p[first].probs[0]):.1f}%" for p in (prior, now)]
    changes = page.run(TEXT, "changes")
    assert changes.startswith(f"changed most against no evidence {first}: yes {' → '.join(shown)}")
    assert second in changes
    ticks = "return document.querySelector('.card[data-variable=\"0\"] .tick').style.left"
    assert page.run(ticks) == "calc(1% - 0.02px)"


def test_only_visible_changes_are_listed(page: Browser) -> None:
    page.run(CHOOSE, "smoke")
    answered(page, lambda: page.run(
        "const i = document.querySelector('aside input[type=number]');"
        "i.value = 99.99; i.dispatchEvent(new Event('change'))"
    ))  # fmt: skip
    assert page.run(CHIPS) == ["smoke = soft evidence"]
    assert page.run(TEXT, "changes") == "no visible change by the last step"
    assert page.run("return document.querySelector('.card.most')") is None


def test_quick_undos_lose_no_case(page: Browser, model: Any) -> None:
    for label in ("asia yes", "smoke yes", "xray yes"):
        click(page, label)
    twice = "const b = document.getElementById(arguments[0]); b.click(); b.click()"
    answered(page, lambda: page.run(twice, "undo"))
    assert page.run(READ) == written(model, {"asia": "yes"})
    answered(page, lambda: page.run(twice, "redo"))
    assert page.run(CHIPS) == ["asia = yes", "smoke = yes", "xray = yes"]
    page.run("window.fetched = fetch; window.fetch = async () => { throw new Error('gone'); }")
    page.run("document.getElementById('undo').click()")
    page.until("return document.getElementById('error').textContent === 'gone'")
    page.run("window.fetch = fetched")
    answered(page, lambda: page.run("document.getElementById('undo').click()"))
    assert page.run(CHIPS) == ["asia = yes", "smoke = yes"]
    assert not page.run("return document.getElementById('redo').disabled")


def test_explanations_of_earlier_cases_are_not_painted(page: Browser) -> None:
    page.run("document.getElementById('explain').click()")
    page.until("return document.querySelectorAll('.state.best').length === 8")
    page.run(SLOWLY, "/api/explanation")
    click(page, "lung yes")
    assert page.run("return document.querySelectorAll('.state.best').length") == 0
    assert "explanation" not in page.run(TEXT, "figures")
    page.run("document.getElementById('explain').click()")  # off, before the reply
    page.run("setTimeout(() => { document.body.dataset.late = 1; }, 800)")
    page.until("return document.body.dataset.late")
    assert page.run("return document.querySelectorAll('.state.best').length") == 0


def test_keys_undo_steps_of_sliders(page: Browser, model: Any) -> None:
    click(page, "asia yes")
    page.run(CHOOSE, "smoke")
    page.run("document.querySelector('aside input[type=range]').focus()")
    for _ in range(3):
        answered(page, lambda: page.keys("\ue012"))  # arrow left
    assert page.run(CHIPS) == ["asia = yes", "smoke = soft evidence"]
    answered(page, lambda: chord(page, CTRL, "z"))
    assert page.run(READ) == written(model, {"asia": "yes"})
    answered(page, lambda: chord(page, CTRL, SHIFT, "Z"))
    assert page.run(CHIPS) == ["asia = yes", "smoke = soft evidence"]
    page.run("document.getElementById('find').focus()")
    page.keys("q")
    chord(page, CTRL, "z")
    assert page.run("return document.getElementById('find').value") == ""
    assert page.run(CHIPS) == ["asia = yes", "smoke = soft evidence"]


def test_addresses_name_findings(page: Browser, model: Any) -> None:
    click(page, "smoke yes")
    click(page, "xray yes")
    assert page.run("return location.hash") == "#smoke=yes&xray=yes"
    answered(page, lambda: page.run("history.back()"))
    assert page.run(READ) == written(model, {"smoke": "yes"})
    answered(page, lambda: page.run("location.hash = '#xray=yes:0.9,no:0.2&tub=no'"))
    evidence = {"xray": {"yes": 0.9, "no": 0.2}, "tub": "no"}
    assert page.run(READ) == written(model, evidence)
    for wrong, told in (
        ("xrya=yes", "the link names xrya, which is no variable of this model"),
        ("xray=ja", "the link names ja, which is no state of xray"),
        ("changes=[[", "the link cannot be read"),
    ):
        page.run("location.hash = arguments[0]", f"#{wrong}")
        page.until("return document.getElementById('error').textContent === arguments[0]", told)
    assert page.run(READ) == written(model, evidence)


def test_rejected_findings_say_what_excludes_them(page: Browser) -> None:
    for label in ("tub no", "lung no", "asia no"):
        click(page, label)
    page.run(CLICK, "either yes")
    page.until("return !document.getElementById('error').hidden")
    assert page.run(TEXT, "error") == (
        "either = yes was not added: it is impossible given tub = no, lung = no"
    )
    marked = "return [...document.querySelectorAll('.chip.clash .link')].map((c) => c.textContent)"
    assert page.run(marked) == ["tub = no", "lung = no"]
    click(page, "smoke yes")
    assert page.run(marked) == []


def test_saved_cases_have_findings_of_states_only(page: Browser) -> None:
    answered(page, lambda: page.run("location.hash = '#xray=yes:0.9,no:0.2'"))
    page.run("document.getElementById('save').click()")
    assert "not saved, because a row of a CSV file has no soft evidence" in page.run(TEXT, "error")
    assert page.run("return document.getElementById('download').disabled")
    page.run("document.getElementById('clear').click()")
    page.until("return document.querySelectorAll('.chip').length === 0")
    click(page, "xray yes")
    page.run("document.getElementById('save').click()")
    assert page.run(TEXT, "download") == "Download cases (1)"


def test_cards_are_shown_before_the_first_answer(browser: Browser, model: Any) -> None:
    explorer, proceed = Explorer(model), threading.Event()
    answer = explorer.answer

    def late(message: Any) -> dict[str, Any]:
        assert proceed.wait(60)
        return answer(message)

    explorer.answer = late  # type: ignore[method-assign]
    with ExplorerServer(explorer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open("about:blank")
        browser.open(server.address)
        browser.until("return document.querySelectorAll('.card').length === 8")
        assert {*browser.run(READ).values()} == {"..."}
        work = explorer.cost({})["work"]
        cost = f"computing the first answer (exact, JunctionTree) by about {work} multiply-adds ..."
        browser.until(
            "return document.getElementById('figures').textContent === arguments[0]", cost
        )
        proceed.set()
        browser.until("return document.body.dataset.answers")
        assert browser.run(READ) == written(model, {})
        server.shutdown()


def test_relatives_lead_from_variable_to_variable(page: Browser) -> None:
    page.run(CHOOSE, "either")
    assert page.run(TEXT, "relatives") == "parents: lung, tubchildren: xray, dysp"
    page.run("document.querySelectorAll('#relatives button')[3].click()")
    assert page.run(TEXT, "chosen") == "dysp"
    assert page.run("return document.querySelector('.card.chosen h2 button').textContent") == "dysp"


def test_the_mouse_moves_a_graph(page: Browser) -> None:
    page.run("for (let k = 0; k < 6; k++) document.getElementById('larger').click()")
    start = page.run(
        "const m = document.getElementById('main'); return [m.scrollLeft, m.scrollTop]"
    )
    x, y = page.run(
        "const r = document.getElementById('main').getBoundingClientRect();"
        "return [Math.round(r.left + 4), Math.round(r.top + 300)]"
    )
    moves = [
        {"type": "pointerMove", "x": x, "y": y, "duration": 0},
        {"type": "pointerDown", "button": 0},
        {"type": "pointerMove", "x": x, "y": y - 120, "duration": 50},
        {"type": "pointerUp", "button": 0},
    ]
    pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
    page._send("/actions", {"actions": [pointer | {"actions": moves}]})
    page.until("return document.getElementById('main').scrollTop === arguments[0]", start[1] + 120)


def test_matches_and_the_chosen_card_stand_out(page: Browser) -> None:
    page.run(CHOOSE, "dysp")
    page.run(
        "const f = document.getElementById('find');"
        "f.value = 'lung'; f.dispatchEvent(new Event('input'))"
    )
    names = "return [...document.querySelectorAll(arguments[0])].map((c) => c.ariaLabel[0])"
    assert page.run(names, ".card.hit") == ["l"]
    opacity = (
        "return [...document.querySelectorAll('.card')].filter("
        "(c) => getComputedStyle(c).opacity === '1').map((c) => c.ariaLabel.split(';')[0])"
    )
    assert sorted(page.run(opacity)) == ["dysp", "lung"]


def test_narrow_windows_start_with_a_list_and_a_menu(page: Browser) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    command = "Emulation.setDeviceMetricsOverride"
    page._send("/goog/cdp/execute", {"cmd": command, "params": size})
    try:
        page.run("location.reload()")
        page.until("return document.querySelectorAll('#list .card').length === 8")
        page.until("return document.body.dataset.answers")
        is_shown = "return document.getElementById(arguments[0]).offsetHeight > 0"
        assert [page.run(is_shown, name) for name in ("undo", "save", "compare")] == [1, 0, 0]
        page.run("document.getElementById('menu').click()")
        assert [page.run(is_shown, name) for name in ("undo", "save", "compare")] == [1, 1, 1]
        page.run("document.getElementById('view').click()")
        assert page.run("const m = document.getElementById('main'); return m.scrollWidth <= 390")
        click(page, "xray yes")
        shown = (
            "return [...document.querySelectorAll('#changes .link')].filter((l) => l.offsetHeight)"
        )
        assert page.run(shown + ".length") == 3
    finally:
        clear = {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}}
        page._send("/goog/cdp/execute", clear)
