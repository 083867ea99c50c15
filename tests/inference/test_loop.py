"""Progress of iterative methods, where it is shown."""

import sys
from types import SimpleNamespace

import pytest

from pgnn.inference.loop import progress_bar


def test_bars_are_shown_on_terminals_and_in_notebooks_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with progress_bar(3, "steps", True) as bar:
        assert bar.disable  # standard error of a test is no terminal
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with progress_bar(3, "steps", True) as bar:
        assert not bar.disable
    with progress_bar(3, "steps", False) as bar:
        assert bar.disable
