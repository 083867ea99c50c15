"""The mean lower bound of rows, as a function of the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import AmortisedModel
from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.enumerated_states import EnumeratedStates, supervision
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, make_generator
from pgnn.inference.continuous.observed_supports import are_inside
from pgnn.inference.learning.batched_rows import BatchedRows
from pgnn.inference.learning.optimisation_problem import DrawingObjective, Mean

if TYPE_CHECKING:
    from pgnn.inference.continuous.lower_bound import LowerBound

Floats = NDArray[np.float64]

_NOISE = 0.1
"""Standard deviation of what moves the components of a mixture apart."""
_ROWS = 512
"""Rows that are evaluated at once where no gradient is wanted; they stay in the cache."""


class BoundObjective(DrawingObjective):
    """The mean bound of rows, by new draws at each evaluation.

    Args:
        model: With a recognition model.
        learner: Its bound, and what observed states of recognised variables count.
        seed: Random seed of the samples.
        checked: Whether rows are known to have nothing missing, and all values inside of the
            supports of their distributions; None where each batch is checked when it is read.
    """

    def __init__(
        self,
        model: Any,
        learner: LowerBound,
        seed: int | None,
        checked: bool | None = False,
    ) -> None:
        self.model, self.learner, self.checked = model, learner, checked
        self.figure: str | None = "lower_bound"
        if learner.supervision:
            self.figure = "supervised_lower_bound"
        self._generator = make_generator(seed)
        self._variates = learner.bound.variates(int(self._generator.initial_seed() % 2**31))
        self._problem: ModelAndGuide | None = None

    @classmethod
    def of_rows(cls, model: Any, learner: LowerBound, seed: int | None, rows: Any) -> Self:
        """Return the objective of training rows, whose values are checked once if known.

        Raises:
            DataError: If a value is outside of the support of its distribution.
        """
        checked = None if isinstance(rows, BatchedRows) else are_inside(model, rows)
        return cls(model, learner, seed, checked)

    @classmethod
    def check(cls, model: Any, rows: Any, learner: LowerBound) -> None:
        """Refuse models and rows that the bound is not defined for.

        Raises:
            Unsupported: If the model has no recognition model.
        """
        if not isinstance(model, AmortisedModel):
            raise Unsupported(
                "LowerBound() learns models with a recognition model, such as a VAE",
                f"of a {type(model).__name__} learn with Variational(), EM() or Gradient()",
            )

    @classmethod
    def break_symmetry(cls, model: Any, rows: Any, generator: torch.Generator) -> None:
        """Move apart the components of priors that are mixtures, whose gradients are equal."""
        for name in model.recognition:
            prior = model.conditionals[name]
            if isinstance(prior, ExponentialFamily) and prior.has_hidden_parts:
                with torch.no_grad():
                    for p in prior.parameters():
                        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                        p.add_(_NOISE * noise.to(p.device) if p.requires_grad else 0.0)

    def __call__(self, rows: RowEvidence) -> Mean:
        """Return a function that returns the scalar mean of some rows.

        Raises:
            DataError: If a value of a batch is outside of the support of its distribution.
        """
        checked = are_inside(self.model, rows) if self.checked is None else self.checked
        weights = rows.row_weights / rows.row_weights.sum()

        def mean() -> Tensor:
            if torch.is_grad_enabled():
                return self._total(rows, weights, checked)
            parts = np.split(np.arange(rows.num_rows), range(_ROWS, rows.num_rows, _ROWS))
            totals = [self._total(rows.take(k), weights[k], checked) for k in parts]
            return torch.stack(totals).sum()

        return mean

    def random_state(self) -> Any:
        """See :class:`DrawingObjective`; with the baselines of score functions."""
        return {"draws": self._generator.get_state(), "variates": self._variates.snapshot()}

    def resume(self, random_state: Any) -> None:
        """See :class:`DrawingObjective`."""
        self._generator.set_state(random_state["draws"])
        self._variates.resume(random_state["variates"])

    def _total(self, rows: RowEvidence, weights: Floats, checked: bool) -> Tensor:
        """The weighted sum over rows."""
        known = EnumeratedStates.of(self.model, rows)
        density = SummedDensity(self.model, known.rows, known.rows.inputs, checked=checked)
        values = known.reduced(self._values(density))
        if self.learner.supervision:
            values = values + self.learner.supervision * supervision(self.model, rows)
        penalty = self.model.penalty(rows.reals, rows.inputs)
        if penalty is not None:
            values = values - penalty
        return (values * torch.from_numpy(weights)).sum()

    def _values(self, density: SummedDensity) -> Tensor:
        """The bound of each row, by new draws."""
        bound = self.learner.bound
        draws = self._on(density).weighted(bound, self._generator)
        return draws.values(bound, self._variates)

    def _on(self, density: SummedDensity) -> ModelAndGuide:
        """The density beside the recognition, which is the same for most batches."""
        problem = self._problem
        if problem is None or problem.density.latents != density.latents:
            self._problem = problem = ModelAndGuide.of(density, None, ())
        return problem.on(density)
