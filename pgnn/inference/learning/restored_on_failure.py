"""A model that changes completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def restored_on_failure(model: Any) -> Iterator[None]:
    """Write the numbers of a model back if anything is raised inside, Ctrl-C too.

    Args:
        model: Whose parameters and buffers; a copy of them is held meanwhile.
    """
    before = {n: x.clone() for n, x in model.state_dict().items()}
    try:
        yield
    except BaseException:
        try:
            model.load_state_dict(before)
        except KeyboardInterrupt:  # a second one
            model.load_state_dict(before)
        raise
