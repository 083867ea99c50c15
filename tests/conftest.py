"""What all tests share: the data folder, hypothesis' settings, one thread, kernels at once."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Kernels answer from the first question on, in the processes that tests start, too.
os.environ["PGNN_COMPILE"] = "now"

# Compiled kernels make a first example slow, so no example is timed.
settings.register_profile(
    "pgnn", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", settings.get_profile("pgnn"), derandomize=True, database=None, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "pgnn")


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> None:
    """Keep torch on one thread: the tables of the tests are too small to share out."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Close what a test has drawn: many open figures are a warning."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the public networks: ``PGNN_DATA``, or ``../shared/data`` beside the checkout."""
    given = os.environ.get("PGNN_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set PGNN_DATA to one")
    return folder
