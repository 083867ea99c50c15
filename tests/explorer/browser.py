"""What the tests in a browser share: a page that is driven, what is read from it and clicked."""

from __future__ import annotations

import base64
import json
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    DRIVER is None or shutil.which("chromium") is None,
    reason="needs the programs chromium and chromedriver",
)
PATIENCE = 60.0


class Browser:
    """A page, driven by the WebDriver protocol."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/session"
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1500,1000"],
            "binary": shutil.which("chromium"),
        }
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
        answer = self._send("", {"capabilities": capabilities})
        self._base += f"/{answer['sessionId']}"

    def _send(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        request = urllib.request.Request(
            self._base + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return json.load(reply)["value"]

    def open(self, address: str) -> None:
        self._send("/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._send("/execute/sync", {"script": script, "args": [*arguments]})

    def keys(self, *keys: str) -> None:
        actions = [{"type": kind, "value": k} for k in keys for kind in ("keyDown", "keyUp")]
        self._send("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def until(self, script: str, *arguments: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            value = self.run(script, *arguments)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("/screenshot", method="GET")))

    def close(self) -> None:
        self._send("", method="DELETE")


READ = """
const read = {};
for (const button of document.querySelectorAll(".state"))
  read[button.getAttribute("aria-label").split(" ").slice(0, 2).join(" ")] =
    button.querySelector(".number").textContent;
return read;
"""
CLICK = """
const [label, count] = [arguments[0], document.body.dataset.answers];
[...document.querySelectorAll(".state")].find(
  (b) => b.getAttribute("aria-label").startsWith(label + " ")).click();
return count;
"""
ANSWERED = "return document.body.dataset.answers !== arguments[0]"


def click(page: Browser, label: str) -> None:
    page.until(ANSWERED, page.run(CLICK, label))


def written(model: Any, evidence: dict[str, Any]) -> dict[str, str]:
    posterior = model.query([*model.variables], evidence)
    texts = {}
    for name, variable in model.variables.items():
        for state, p in zip(variable.states, posterior[name].probs.tolist(), strict=True):
            shown = f"{100 * p:.1f}%"
            shown = "<0.1%" if p < 0.0005 else ">99.9%" if p > 0.9995 else shown
            texts[f"{name} {state}"] = f"{100 * p:.0f}%" if p in (0.0, 1.0) else shown
    return texts
