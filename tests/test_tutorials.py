"""Tutorials run from the first cell to the last."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
RUN = """
import sys, nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        print(output["output_type"], *output.get("data", {}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("nbclient") and find_spec("ipykernel")), reason="needs pgnn[notebooks]"
)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_runs(path: Path) -> None:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    backend = "module://matplotlib_inline.backend_inline"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": backend}
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "error" not in ran.stdout.split()
    assert "image/png" in ran.stdout
    assert "text/html" in ran.stdout


def test_there_are_tutorials() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"diagnosis", "learning"}
