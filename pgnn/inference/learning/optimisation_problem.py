"""What is maximised when a model is fitted by ascent: rows, value, penalties, where to stop."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pgnn.abilities import FactorModel
from pgnn.errors import ModelError, closest
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.learning.batched_rows import BatchedRows

Mean = Callable[[], Tensor]


class MeanObjective(Protocol):
    """A function of a model's parameters that is a mean over rows.

    Attributes:
        figure: What its sum over rows is called in a history; none if the value means nothing.
    """

    figure: str | None

    def __call__(self, rows: Any) -> Mean:
        """Return a function that returns the mean of some rows, ``()``, differentiable."""


class DrawingObjective(ABC):
    """An objective that draws anew at each evaluation."""

    @abstractmethod
    def random_state(self) -> Any:
        """Return where its random numbers are, as a tensor or numbers."""

    @abstractmethod
    def go_on(self, random_state: Any) -> None:
        """Go on with the random numbers that come after these."""


@dataclass(frozen=True, eq=False)
class OptimisationProblem:
    r"""Maximise :math:`f(\theta) - \sum_k (l_{1k} |\theta_k| + \tfrac12 l_{2k} \theta_k^2)`.

    Attributes:
        learnable: The parameters.
        rows: What :math:`f` is the mean of.
        objective: The function.
        l1: Strengths for each parameter.
        l2: Strengths for each parameter.
        tolerance: Largest derivative of the penalised value at a maximum; the method's own if none.
        record: Is told of every iteration.
        has_saddles: Whether the gradient may vanish elsewhere than at a maximum, as where something
            was not observed.
    """

    learnable: LearnableParameters
    rows: RowEvidence | SequenceEvidence | BatchedRows
    objective: MeanObjective
    l1: list[float]
    l2: list[float]
    tolerance: float | None
    record: FitRecord
    has_saddles: bool = False

    @cached_property
    def whole(self) -> Mean:
        """What returns the mean of all rows."""
        return self.objective(self.rows)

    def figures(self, value: float, penalty: float, gradient_norm: float) -> dict[str, float]:
        """What an iteration reports: the mean over rows, the penalties, the largest derivative."""
        figures = {"gradient_norm": gradient_norm}
        name = self.objective.figure
        return (
            figures
            if name is None
            else {"objective": value - penalty, f"mean_{name}": value, **figures}
        )


Floats = NDArray[np.float64]
Penalty = float | Mapping[Hashable, float]


class LearnableParameters:
    """The learnable parameters of a model, also as one flat vector of their finite entries.

    Entries that are not finite (``-inf`` of a structural zero) stay as they are.

    Args:
        model: Any module.

    Attributes:
        model: The module.
        precision: Of the coarsest among them, relatively.

    Raises:
        ModelError: If nothing is learnable.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise ModelError(
                "the model has nothing to learn: numbers that were given, or read from a file, are "
                "constants; call model.requires_grad_() to make all of them learnable"
            )
        self.names = [n for n, _ in named]
        self.parameters: list[Tensor] = [p for _, p in named]
        finite = [torch.isfinite(p.detach()) for p in self.parameters]
        self.sizes = [int(f.sum()) for f in finite]
        self._free = [None if bool(f.all()) else f for f in finite]
        self.precision = max(float(torch.finfo(p.dtype).eps) for p in self.parameters)
        if isinstance(model, FactorModel):
            model.detached = False  # who learns asks for gradients
        self.model = model
        self._before = {n: t.detach().clone() for n, t in model.state_dict().items()}

    def rates(self, what: str, strength: Penalty) -> list[float]:
        """Return the strength of a penalty for each parameter.

        Args:
            what: What messages call it.
            strength: One strength for all, or by the name of the parameter; none for the others.

        Raises:
            ModelError: If a name is unknown, or a strength negative or not finite.
        """
        if isinstance(strength, Mapping):
            for name in strength:
                if name not in self.names:
                    raise ModelError(
                        f"{what} names {name!r}, which is no learnable parameter"
                        f"{closest(name, self.names)}"
                    )
            strengths = [float(strength.get(n, 0.0)) for n in self.names]
        else:
            strengths = [float(strength)] * len(self.names)
        if not all(math.isfinite(r) and r >= 0 for r in strengths):
            raise ModelError(f"{what} must be finite and not negative, got {strength}")
        return strengths

    def spread(self, rates: list[float]) -> Floats:
        """Return one strength for each entry of the flat vector."""
        return np.repeat(np.array(rates), self.sizes)

    def vector(self) -> Floats:
        """Return the finite entries."""
        return self._flat(self.parameters)

    def gradient(self) -> Floats:
        """Return the derivatives by the finite entries, zero where there is none."""
        return self._flat(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        )

    def name_of(self, entry: int) -> str:
        """Return the name of the parameter that an entry of the flat vector belongs to."""
        return self.names[int(np.searchsorted(np.cumsum(self.sizes), entry, side="right"))]

    def assign(self, vector: Floats) -> None:
        """Write the finite entries."""
        parts = np.split(vector, np.cumsum(self.sizes)[:-1])
        with torch.no_grad():
            for p, free, part in zip(self.parameters, self._free, parts, strict=True):
                if free is None:
                    p.copy_(torch.from_numpy(part).reshape(p.shape))
                else:
                    p[free] = torch.from_numpy(part).to(p)

    def clear(self) -> None:
        """Forget the derivatives."""
        for p in self.parameters:
            p.grad = None

    def saved(self) -> dict[str, Any]:
        """Return a copy of all that the model's numbers are, constants and buffers too."""
        return {n: t.detach().clone() for n, t in self.model.state_dict().items()}

    def restore(self, saved: Mapping[str, Any] | None = None) -> None:
        """Write a copy back; that of the beginning if none is given."""
        held = self._before if saved is None else saved
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                tensor.copy_(held[name])

    def _flat(self, tensors: list[Tensor]) -> Floats:
        parts = [
            t.detach().reshape(-1) if f is None else t.detach()[f]
            for t, f in zip(tensors, self._free, strict=True)
        ]
        return torch.cat([p.to("cpu", torch.float64) for p in parts]).numpy()


class FitRecord:
    """Keeps figures of each iteration, and the parameters that were best on held-out rows.

    Args:
        learnable: Whose parameters.
        validate: Value on held-out rows; none if no rows are held out.
        patience: Iterations without a better value after which to stop; 0 for never.
        look: Further figures by name.

    Attributes:
        trace: A list for each figure.
        iterations: Iterations done.
        stopped: Whether it was stopped early.
    """

    def __init__(
        self,
        learnable: LearnableParameters,
        validate: Callable[[], float] | None,
        patience: int,
        look: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._learnable, self._validate, self._patience = learnable, validate, patience
        self._look = look
        self.trace: dict[str, list[float]] = {}
        self.iterations = 0
        self.stopped = False
        self._begin = time.perf_counter()
        self._best, self._since = -math.inf, 0
        self._saved: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock time since the beginning."""
        return time.perf_counter() - self._begin

    def add(self, figures: Mapping[str, float]) -> bool:
        """Record an iteration that ended at the present parameters; tell whether to stop."""
        self.iterations += 1
        return self.note(figures)

    def note(self, figures: Mapping[str, float]) -> bool:
        """Record the present parameters, where an iteration ended or the first one begins."""
        figures = {**figures, **self._look(), "seconds": self.seconds}
        if self._validate is not None:
            value = self._validate()
            figures["validation"] = value
            self._since += 1
            if value > self._best:
                self._best, self._since = value, 0
                self._saved = self._learnable.saved()
            self.stopped = 0 < self._patience <= self._since
        for name, value in figures.items():
            self.trace.setdefault(name, []).append(float(value))
        return self.stopped

    def snapshot(self) -> dict[str, Any]:
        """Return what :meth:`resume` takes."""
        return {
            "trace": {name: list(values) for name, values in self.trace.items()},
            "iterations": self.iterations,
            "seconds": self.seconds,
            "best": self._best,
            "since": self._since,
            "saved": self._saved,
        }

    def resume(self, before: Mapping[str, Any]) -> None:
        """Go on from where a record of the same fit was."""
        self.trace, self.iterations = dict(before["trace"]), before["iterations"]
        self._begin = time.perf_counter() - before["seconds"]
        self._best, self._since, self._saved = before["best"], before["since"], before["saved"]

    def finish(self) -> None:
        """Go back to the parameters that were best on held-out rows, if there are such."""
        if self._saved is not None:
            self._learnable.restore(self._saved)
