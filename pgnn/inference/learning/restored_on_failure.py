"""A model that changes completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def restored_on_failure(model: Any) -> Iterator[None]:
    """Write the numbers of a model back if anything is raised inside, Ctrl-C too.

    Args:
        model: Whose parameters and buffers; a copy of them is held meanwhile.
    """
    before = _numbers(model)
    try:
        yield
    except BaseException:
        _write(model, before)
        raise


@contextmanager
def restored(model: Any) -> Iterator[None]:
    """Write the numbers of a model back in any case.

    Args:
        model: Whose parameters and buffers; a copy of them is held meanwhile.
    """
    before = _numbers(model)
    try:
        yield
    finally:
        _write(model, before)


def _numbers(model: Any) -> dict[str, Tensor]:
    return {n: x.clone() for n, x in model.state_dict().items()}


def _write(model: Any, numbers: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(numbers)
    except KeyboardInterrupt:  # a second one
        model.load_state_dict(numbers)
        raise
