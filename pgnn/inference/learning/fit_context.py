"""What surrounds a fit: modes of a model's parts, and what engines complain of."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from pgnn.errors import NotConverged
from pgnn.factors.randomness import private_randomness
from pgnn.inference.history import History
from pgnn.inference.learning.optimisation_problem import (
    DrawingObjective,
    LearnableParameters,
    Mean,
    MeanObjective,
)
from pgnn.inference.learning.restored_on_failure import fitting


@contextlib.contextmanager
def parts_in_mode(model: nn.Module, train: bool, forget: bool = True) -> Iterator[None]:
    """Put the parts of a model, not the model itself, into training or evaluation mode.

    Args:
        model: The model.
        train: Whether into training mode.
        forget: Have the model forget what it keeps afterwards, if a mode was another one. That
            costs it its plans; while it is fitted it keeps no numbers that depend on the mode.
    """
    before = [(m, m.training) for m in model.modules()]
    for child in model.children():
        child.train(train)
    try:
        yield
    finally:
        if any(m.training != mode for m, mode in before):
            if forget:
                model.train(model.training)
            for module, mode in before:
                module.training = mode


@contextlib.contextmanager
def learnt(model: Any, learner: Any) -> Iterator[tuple[LearnableParameters, History]]:
    """Have a learner change the learnable parameters of a model, or nothing if anything is raised.

    Args:
        model: What is fitted; its history is replaced at the end.
        learner: What fits it.

    Yields:
        The parameters, and the new history, to which figures are to be added.

    Raises:
        ModelError: If nothing is learnable.
    """
    learnable = LearnableParameters(model)
    with fitting(model, learner) as history:
        try:
            yield learnable, history
        finally:
            learnable.clear()


@contextlib.contextmanager
def own_randomness(seed: int | None) -> Iterator[None]:
    """Let what draws from torch's own generators, such as dropout, depend on a seed alone.

    Args:
        seed: The same seed, the same draws, others than those of a generator with this very seed;
            afterwards the generators are as they were.
    """
    with private_randomness(int(np.random.default_rng(seed).integers(2**31))):
        yield


@contextlib.contextmanager
def last_complaint() -> Iterator[list[Warning]]:
    """Keep what an engine warned of last, instead of showing it at each iteration.

    Yields:
        The last :class:`NotConverged`, if any; empty it to forget.
    """
    last: list[Warning] = []
    show = warnings.showwarning

    def keep(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, NotConverged) and isinstance(message, Warning):
            last[:] = [message]
        else:
            show(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", NotConverged)
        warnings.showwarning = keep
        yield last


class WatchedObjective(DrawingObjective):
    """An objective that forgets what engines complained of before the last evaluation.

    Args:
        objective: The objective.
        last: See :func:`last_complaint`.
    """

    def __init__(self, objective: MeanObjective, last: list[Warning]) -> None:
        self.objective, self.figure, self.last = objective, objective.figure, last

    def random_state(self) -> Any:
        """See :class:`DrawingObjective`; None of one that does not draw."""
        drawing = self.objective if isinstance(self.objective, DrawingObjective) else None
        return None if drawing is None else drawing.random_state()

    def go_on(self, random_state: Any) -> None:
        """See :class:`DrawingObjective`."""
        if isinstance(self.objective, DrawingObjective):
            self.objective.go_on(random_state)

    def __call__(self, rows: Any) -> Mean:
        """Return what returns the mean of some rows."""
        mean = self.objective(rows)

        def fresh() -> Tensor:
            self.last.clear()
            return mean()

        return fresh
