"""Optimisation problems of gradient-based learners: objective, penalties, tolerance."""

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
from pgnn.errors import DataError, ModelError, PgnnError, closest
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.data_start import StartsFromData
from pgnn.inference.learning.batched_rows import BatchedRows
from pgnn.inference.learning.needed_zeros import needed_zero

Floats = NDArray[np.float64]
Mean = Callable[[], Tensor]


class MeanObjective(Protocol):
    """An objective that is a mean over rows.

    Attributes:
        figure: Name of its sum over rows in the history; None if the value is not meaningful.
    """

    figure: str | None

    def __call__(self, rows: Any) -> Mean:
        """Return a function that returns the differentiable scalar mean of some rows."""


class DrawingObjective(ABC):
    """An objective that draws new samples in each evaluation."""

    @abstractmethod
    def random_state(self) -> Any:
        """Return the state of its random numbers, as a tensor or numbers."""

    @abstractmethod
    def resume(self, random_state: Any) -> None:
        """Continue from a state of random numbers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PenalizedMean(ABC):
    r"""Maximise :math:`f(\theta) - \sum_k (l_{1k} |\theta_k| + \tfrac12 l_{2k} \theta_k^2)`.

    Attributes:
        learnable: The parameters.
        l1: Strengths of the L1 penalty, for each parameter.
        l2: Strengths of the L2 penalty, for each parameter.
        tolerance: Largest absolute partial derivative that counts as zero; the method's default if
            None.
        record: Record of the iterations.
        has_saddles: Whether there may be stationary points that are not maxima, as with missing
            values.
    """

    learnable: LearnableParameters
    l1: list[float]
    l2: list[float]
    tolerance: float | None
    record: FitRecord
    has_saddles: bool = False

    @property
    @abstractmethod
    def whole(self) -> Mean:
        """A function that returns the mean :math:`f`."""

    def figures(self, value: float, penalty: float, gradient_norm: float) -> dict[str, float]:
        """The figures of an iteration: the penalised mean, and its largest partial derivative."""
        return {"objective": value - penalty, "gradient_norm": gradient_norm}

    @abstractmethod
    def check_start(self, value: float, gradient: Floats) -> None:
        """Check that the mean and its gradient are finite at the initial parameters.

        Raises:
            PgnnError: If one is not.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimisationProblem(PenalizedMean):
    """Maximise a penalised mean over rows.

    Attributes:
        rows: The rows over which :math:`f` is a mean.
        objective: The objective :math:`f`.
    """

    rows: RowEvidence | SequenceEvidence | BatchedRows
    objective: MeanObjective

    @cached_property
    def whole(self) -> Mean:
        """A function that returns the mean of all rows."""
        return self.objective(self.rows)

    def which_are_impossible(self) -> str:
        """Return which rows have no finite value, in words, found by halving."""
        some = "some of them are impossible"
        if isinstance(self.rows, BatchedRows):
            return some
        counted = np.flatnonzero(self.rows.row_weights > 0)
        begin, end = 0, len(counted)
        while end - begin > 1:
            middle = (begin + end) // 2
            good = self._is_finite(counted[begin:middle])
            begin, end = (middle, end) if good else (begin, middle)
        if begin == end or self._is_finite(counted[begin:end]):
            return some
        return f"row {counted[begin]}, and perhaps others after it, is impossible"

    def check_declared_zeros(self) -> None:
        """Check that no row needs an entry that was declared to be zero.

        Raises:
            DataError: If one does; the message names the entry.
        """
        zero = needed_zero(self.learnable.model, self.rows)
        if zero is not None:
            raise DataError(f"some rows have probability zero: {zero.reason}", zero.advice)

    def check_start(self, value: float, gradient: Floats) -> None:
        """Check the initial parameters, see :meth:`PenalizedMean.check_start`."""
        if not np.isfinite(value):
            self.check_declared_zeros()
            raise DataError(
                f"the rows have the value {value} under the initial parameters: "
                f"{self.which_are_impossible()} (a density or an entry of a table is zero there), "
                "or so large that the value overflows, or parameters are NaN"
            )
        if not np.isfinite(gradient).all():
            name = self.learnable.name_of(int(np.flatnonzero(~np.isfinite(gradient))[0]))
            raise PgnnError(
                f"the derivative with respect to {name!r} is not finite at the initial parameters, "
                "although the value is: an observation is at the edge of the support (such as 0 of "
                "a Gamma distribution)",
                "check the data, or use other initial parameters",
            )

    def _is_finite(self, rows: NDArray[np.int64]) -> bool:
        """Whether some rows have a finite mean."""
        with torch.no_grad():
            value = self.objective(self.rows.take(rows))()  # type: ignore[union-attr]
        return math.isfinite(float(value))

    def figures(self, value: float, penalty: float, gradient_norm: float) -> dict[str, float]:
        """The figures of an iteration, with the mean over rows if it is meaningful."""
        name = self.objective.figure
        if name is None:
            return {"gradient_norm": gradient_norm}
        figures = super().figures(value, penalty, gradient_norm)
        return {"objective": figures["objective"], f"mean_{name}": value, **figures}


Penalty = float | Mapping[Hashable, float]


class LearnableParameters:
    """The learnable parameters of a model, also as one flat vector of their finite entries.

    Entries that are not finite (``-inf`` of a structural zero) are not changed.

    Args:
        model: Any module.

    Attributes:
        model: The module.
        precision: Largest relative rounding error of the parameters.

    Raises:
        ModelError: If nothing is learnable.
    """

    def __init__(self, model: nn.Module) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if not any(True for _ in model.parameters()):
            raise ModelError(
                "the model has no parameters, so there is nothing to learn; those of a program "
                "are its pyro.param statements and modules",
                "for the posterior of latent variables, call query()",
            )
        if not named:
            raise ModelError(
                "the model has nothing to learn: parameters that were given, or read from a "
                "file, are constants",
                "call model.requires_grad_() to make all of them learnable",
            )
        self.names = [n for n, _ in named]
        self.parameters: list[Tensor] = [p for _, p in named]
        finite = [torch.isfinite(p.detach()) for p in self.parameters]
        self.sizes = [int(f.sum()) for f in finite]
        self._free = [None if bool(f.all()) else f for f in finite]
        self.precision = max(float(torch.finfo(p.dtype).eps) for p in self.parameters)
        if isinstance(model, FactorModel):
            model.detached = False  # learners need gradients
        self.model = model
        self._before = {n: t.detach().clone() for n, t in model.state_dict().items()}

    def rates(self, what: str, strength: Penalty) -> list[float]:
        """Return the strength of a penalty for each parameter.

        Args:
            what: Name of the penalty in messages.
            strength: One strength for all, or a mapping by name of the parameter; zero for the
                others.

        Raises:
            ModelError: If a name is unknown, or a strength negative or not finite.
        """
        if isinstance(strength, Mapping):
            for name in strength:
                if name not in self.names:
                    raise ModelError(
                        f"{what} names {name!r}, which is not a learnable parameter"
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
        """Return the gradient with respect to the finite entries, zero where there is none."""
        return self._flat(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        )

    def units(self) -> Floats:
        """Return the size of a step for each finite entry, see :meth:`StartsFromData.units`."""
        units: dict[Tensor, Tensor] = {}
        for module in self.model.modules():
            if isinstance(module, StartsFromData):
                units |= module.units()
        return self._flat([units.get(p, torch.ones_like(p)) for p in self.parameters])

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
        """Clear the gradients."""
        for p in self.parameters:
            p.grad = None

    def saved(self) -> dict[str, Any]:
        """Return a copy of the model's parameters, constants and buffers."""
        return {n: t.detach().clone() for n, t in self.model.state_dict().items()}

    def restore(self, saved: Mapping[str, Any] | None = None) -> None:
        """Restore a copy; the initial one if none is given."""
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
    """Records figures of each iteration, and the parameters that are best on held-out rows.

    Args:
        learnable: The learnable parameters.
        validate: Value on held-out rows; None if no rows are held out.
        patience: Number of iterations without improvement after which to stop; 0 for never.
        look: Additional figures by name.

    Attributes:
        trace: A list for each figure.
        iterations: Number of iterations.
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
        """Record an iteration that ended at the current parameters; return whether to stop."""
        self.iterations += 1
        return self.note(figures)

    def note(self, figures: Mapping[str, float]) -> bool:
        """Record the current parameters, initially or after an iteration."""
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
        """Return the state for :meth:`resume`."""
        return {
            "trace": {name: list(values) for name, values in self.trace.items()},
            "iterations": self.iterations,
            "seconds": self.seconds,
            "best": self._best,
            "since": self._since,
            "saved": self._saved,
        }

    def resume(self, before: Mapping[str, Any]) -> None:
        """Resume from a record of the same fit."""
        self.trace, self.iterations = dict(before["trace"]), before["iterations"]
        self._begin = time.perf_counter() - before["seconds"]
        self._best, self._since, self._saved = before["best"], before["since"], before["saved"]

    def finish(self) -> None:
        """Restore the parameters that were best on held-out rows, if any."""
        if self._saved is not None:
            self._learnable.restore(self._saved)
