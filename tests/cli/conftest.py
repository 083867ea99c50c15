"""What the tests of the commands share."""

import shutil
from importlib import resources
from pathlib import Path

import pytest


@pytest.fixture
def asia(tmp_path: Path) -> Path:
    """A copy of the packaged network."""
    with resources.as_file(resources.files("pgnn") / "networks" / "asia.bif") as path:
        return Path(shutil.copy(path, tmp_path / "asia.bif"))
