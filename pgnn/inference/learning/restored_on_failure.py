"""Models that change completely or not at all, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pgnn.inference.history import History


@contextmanager
def fitting(model: Any, learner: Any) -> Iterator[History]:
    """Write down what a fit leaves behind; nothing, and the numbers as before, if it fails.

    Args:
        model: What is fitted; its history is replaced at the end.
        learner: What fits it.

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
        try:  # both or neither: nothing may be raised between the two
            _write(model, numbers)
        finally:
            model.history = before  # inner fits may have left theirs
        raise


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
