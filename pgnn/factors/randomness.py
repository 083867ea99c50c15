"""Generators for draws, and draws from torch's own generators that leave these as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


def generator(seed: int | None) -> torch.Generator:
    """Return a random generator of its own; seeded from the machine without a seed."""
    new_generator = torch.Generator()
    if seed is None:
        new_generator.seed()
    else:
        new_generator.manual_seed(seed)
    return new_generator


@contextlib.contextmanager
def private_randomness(seed: int | None) -> Iterator[None]:
    """Let torch's own generators depend on a seed alone; afterwards they are as they were.

    Args:
        seed: The same seed gives the same draws; not reproducible if not given.

    Example:
        >>> before = torch.random.get_rng_state()
        >>> with private_randomness(0):
        ...     first = torch.rand(2)
        >>> with private_randomness(0):
        ...     print(torch.equal(first, torch.rand(2)))
        True
        >>> torch.equal(before, torch.random.get_rng_state())
        True
    """
    with kept_randomness():
        seeded_with(int(np.random.default_rng(seed).integers(2**62)) if seed is None else seed)
        yield


@contextlib.contextmanager
def kept_randomness() -> Iterator[None]:
    """Put torch's own generators back to where they were."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if _on_gpu() else []):
        yield


@contextlib.contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let torch's own generator go on from another, which goes on from there afterwards."""
    with kept_randomness():
        torch.default_generator.set_state(generator.get_state())
        yield
        generator.set_state(torch.default_generator.get_state())


def seeded_with(seed: int) -> None:
    """Seed torch's own generators."""
    # torch.manual_seed keeps a record of each call until a GPU is used
    torch.default_generator.manual_seed(seed)
    if _on_gpu():
        torch.cuda.manual_seed_all(seed)


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
