"""Compiled code is removed when a kernel that it calls changes."""

import os
from pathlib import Path

import pytest

import pgnn
from pgnn.inference.kernels.cache import remove_stale

SOURCES = {
    "exact/kernels/top": "from pgnn.exact.kernels.middle import f\n",
    "exact/kernels/middle": "import numpy\nfrom pgnn.search.kernels.low import (\n    g,\n)\n",
    "search/kernels/low": "x = 1\n",
    "search/kernels/other": "x = 1\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Kernels written at second 10 and compiled at second 20."""
    folder = tmp_path / "pgnn"
    for name, source in SOURCES.items():
        file = folder / f"{name}.py"
        (file.parent / "__pycache__").mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        os.utime(file, (10, 10))
        index = file.parent / "__pycache__" / f"{file.stem}.f-1.py311.nbi"
        index.write_text("")
        os.utime(index, (20, 20))
    return folder


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("search/kernels/low", ["exact/kernels/middle", "exact/kernels/top", "search/kernels/low"]),
        ("exact/kernels/middle", ["exact/kernels/middle", "exact/kernels/top"]),
        ("exact/kernels/top", ["exact/kernels/top"]),
        ("search/kernels/other", ["search/kernels/other"]),
    ],
)
def test_what_calls_a_changed_kernel_is_removed(
    package: Path, changed: str, stale: list[str]
) -> None:
    assert remove_stale(package) == []
    os.utime(package / f"{changed}.py", (30, 30))
    assert remove_stale(package) == ["pgnn." + name.replace("/", ".") for name in stale]
    left = {path.name.split(".")[0] for path in package.rglob("*.nbi")}
    assert left == {name.split("/")[-1] for name in SOURCES.keys() - set(stale)}
    assert remove_stale(package) == []


def test_what_mentions_a_module_that_is_gone_is_removed(package: Path) -> None:
    index = package / "search/kernels/__pycache__/low.f-1.py311.nbi"
    index.write_bytes(b"pgnn.search.kernels.other pgnn.search.kernels.other.Class")
    assert remove_stale(package) == []
    index.write_bytes(b"pgnn.search.graph Class")
    assert remove_stale(package) == ["pgnn.search.kernels.low"]


def test_a_package_without_a_cache(tmp_path: Path) -> None:
    assert remove_stale(tmp_path) == []


def test_kernels_call_each_other_by_full_name() -> None:
    """The imports that are looked for are the only ones there are."""
    files = list(Path(pgnn.__file__).parent.rglob("kernels/*.py"))
    assert files
    for file in files:
        source = file.read_text()
        assert "import pgnn" not in source, file
        assert "from ." not in source, file
