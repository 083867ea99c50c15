"""Generators for draws, and draws from torch's global generators that restore their state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch


def generator(seed: int | None) -> torch.Generator:
    """Return a new random generator; seeded by the system without a seed."""
    new_generator = torch.Generator()
    if seed is None:
        new_generator.seed()
    else:
        new_generator.manual_seed(seed)
    return new_generator


@contextlib.contextmanager
def private_randomness(seed: int | None) -> Iterator[None]:
    """Seed torch's global generators, and restore their state afterwards.

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
    """Restore the state of torch's global generators afterwards."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if _on_gpu() else []):
        yield


@contextlib.contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Run torch's global generator from the state of another one, which advances with it."""
    with kept_randomness():
        torch.default_generator.set_state(generator.get_state())
        yield
        generator.set_state(torch.default_generator.get_state())


def random_states() -> list[torch.Tensor]:
    """Return the states of torch's global generators: the CPU's, then those of GPUs in use."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if _on_gpu() else ())]


def set_random_states(states: Sequence[torch.Tensor]) -> None:
    """Go on from states that :func:`random_states` returned; of a GPU that is no more not."""
    torch.set_rng_state(states[0])
    if _on_gpu() and len(states) == 1 + torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states[1:])


def seeded_with(seed: int) -> None:
    """Seed torch's global generators."""
    # torch.manual_seed keeps a record of each call until a GPU is used
    torch.default_generator.manual_seed(seed)
    if _on_gpu():
        torch.cuda.manual_seed_all(seed)


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
