"""Context managers of a fit: modes of modules, seeds, warnings of engines."""

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
        forget: Whether to clear the model's caches afterwards if a mode was changed. That includes
            its plans; during a fit it caches no values that depend on the mode.
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
def fitting_parameters(model: Any, learner: Any) -> Iterator[tuple[LearnableParameters, History]]:
    """Yield the learnable parameters of a model; after an error the model is restored.

    Args:
        model: The model; its history is replaced at the end.
        learner: The learner.

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
    """Make draws from torch's global generators, such as dropout, depend only on a seed.

    Args:
        seed: Random seed; the draws differ from those of a generator with this seed. Afterwards the
            generators are restored.
    """
    with private_randomness(int(np.random.default_rng(seed).integers(2**31))):
        yield


@contextlib.contextmanager
def last_complaint() -> Iterator[list[Warning]]:
    """Keep only the last warning of an engine, instead of one for each iteration.

    Yields:
        A list with the last :class:`NotConverged`, if any.
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
    """An objective that keeps only the warnings of the last evaluation.

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

    def resume(self, random_state: Any) -> None:
        """See :class:`DrawingObjective`."""
        if isinstance(self.objective, DrawingObjective):
            self.objective.resume(random_state)

    def __call__(self, rows: Any) -> Mean:
        """Return a function that returns the mean of some rows."""
        mean = self.objective(rows)

        def fresh() -> Tensor:
            self.last.clear()
            return mean()

        return fresh
