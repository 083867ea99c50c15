"""Compiled code is forgotten when a kernel that it calls changes."""

import os
from pathlib import Path

import pytest

from pgnn.inference.kernels import staleness
from pgnn.inference.kernels.staleness import forget_stale

SOURCES = {
    "top": "from pgnn.inference.kernels.middle import f\n",
    "middle": "import numpy\nfrom pgnn.inference.kernels.low import (\n    g,\n)\n",
    "low": "x = 1\n",
    "other": "x = 1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Kernels written at second 10 and compiled at second 20."""
    (tmp_path / "__pycache__").mkdir()
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(source)
        os.utime(tmp_path / f"{name}.py", (10, 10))
        index = tmp_path / "__pycache__" / f"{name}.f-1.py311.nbi"
        index.write_text("")
        os.utime(index, (20, 20))
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("low", ["low", "middle", "top"]),
        ("middle", ["middle", "top"]),
        ("top", ["top"]),
        ("other", ["other"]),
    ],
)
def test_what_calls_a_changed_kernel_is_forgotten(
    folder: Path, changed: str, stale: list[str]
) -> None:
    assert forget_stale(folder) == []
    os.utime(folder / f"{changed}.py", (30, 30))
    assert forget_stale(folder) == stale
    left = {path.name.split(".")[0] for path in (folder / "__pycache__").iterdir()}
    assert left == SOURCES.keys() - set(stale)
    assert forget_stale(folder) == []


def test_a_folder_without_a_cache(tmp_path: Path) -> None:
    assert forget_stale(tmp_path) == []


def test_kernels_call_each_other_by_full_name() -> None:
    """The imports that are looked for are the only ones there are."""
    kernels = Path(staleness.__file__).parent
    for file in kernels.glob("*.py"):
        source = file.read_text()
        assert "import pgnn" not in source, file
        assert "from ." not in source, file
