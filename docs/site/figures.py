"""Pictures of pages: what their snippets draw, under the snippets."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import torch

SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def draws(page: str) -> bool:
    """Whether a snippet of a page draws anything."""
    return any(".plot." in s or ".plot(" in s for s in SNIPPET.findall(page))


def figures(page: str) -> list[list[bytes]]:
    """Run the snippets of a page in order, and return the figures of each as SVG."""
    import matplotlib.pyplot as plt

    names: dict[str, Any] = {}
    drawn = []
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with resources.as_file(resources.files("pgnn") / "networks" / "asia.bif") as path:
            shutil.copy(path, Path(folder))
        for snippet in SNIPPET.findall(page):
            plt.close("all")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(snippet, "page", "exec"), names)
            drawn.append([_svg(plt.figure(number)) for number in plt.get_fignums()])
    plt.close("all")
    return drawn


def with_figures(page: str, names: dict[int, list[str]]) -> str:
    """Return a page with pictures, named by their files, under the snippets that draw them."""
    numbers = itertools.count()

    def with_pictures(snippet: re.Match[str]) -> str:
        pictures = [f"![what the snippet draws]({name})" for name in names.get(next(numbers), [])]
        return "\n\n".join([snippet[0], *pictures])

    return SNIPPET.sub(with_pictures, page)


def _svg(figure: Any) -> bytes:
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "pgnn"}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return stream.getvalue()
