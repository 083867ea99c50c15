"""Context managers that restore a model after an error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pgnn.inference.history import History


@contextmanager
def fitting(model: Any, learner: Any) -> Iterator[History]:
    """Record a fit in the history; after an error restore the parameters.

    Args:
        model: The model; its history is replaced at the end.
        learner: The learner.

    Yields:
        The new history, to which figures are to be added.
    """
    begin, numbers = time.perf_counter(), _numbers(model)
    before, history = model.history, History(learner=repr(learner))
    try:
        yield history
        history.setdefault("seconds", time.perf_counter() - begin)
        model.history = history
    except BaseException:
        try:  # no error may occur between the two
            _write(model, numbers)
        finally:
            model.history = before  # inner fits may have written their own
        raise


@contextmanager
def restored_on_failure(model: Any) -> Iterator[None]:
    """Restore the parameters of a model after an error or an interrupt.

    Args:
        model: The model, whose parameters and buffers are copied.
    """
    before = _numbers(model)
    try:
        yield
    except BaseException:
        _write(model, before)
        raise


@contextmanager
def restored(model: Any) -> Iterator[None]:
    """Restore the parameters of a model in any case.

    Args:
        model: The model, whose parameters and buffers are copied.
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
    except KeyboardInterrupt:  # a second interrupt
        model.load_state_dict(numbers)
        raise
