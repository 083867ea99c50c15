"""A browser, and a page about the Asia network."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pgnn
from pgnn.explorer import Explorer, ExplorerServer
from tests.explorer.browser import DRIVER, Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        port = next(
            int(told[1])
            for line in driver.stdout
            if (told := re.search(r"successfully on port (\d+)", line))
        )
        page = Browser(port)
        yield page
        page.close()
        driver.terminate()


@pytest.fixture(scope="session")
def model() -> pgnn.BayesianNetwork:
    return pgnn.read(Path(pgnn.__file__).parent / "networks" / "asia.bif")


@pytest.fixture(scope="session")
def asia_server(model: Any) -> Iterator[ExplorerServer]:
    with ExplorerServer(Explorer(model, "asia")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def page(browser: Browser, asia_server: ExplorerServer) -> Browser:
    browser.open("about:blank")
    browser.open(asia_server.address)
    browser.until("return document.body.dataset.answers")
    return browser
