"""The default learner of directed models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgnn.abilities import Inputs, SolvableModel
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.learner import Learner
from pgnn.inference.learning.em import EM
from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood
from pgnn.inference.learning.training_data import is_single, read_rows


@dataclass(frozen=True)
class MaximumLikelihoodOrEM(Learner):
    """:class:`MaximumLikelihood` for complete rows, :class:`EM` if values are missing.

    Args:
        prior: Prior for either learner.

    Example:
        >>> from pgnn import Gaussian, NaiveBayes
        >>> model = NaiveBayes(2, {"x": Gaussian})
        >>> _ = model.fit({"class": [0, 0, 1, 1], "x": [0.0, 2.0, 6.0, 8.0]}, progress=False)
        >>> model.history["learner"]
        'MaximumLikelihood(prior=None, max_iterations=500)'
    """

    prior: Any = None

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Read rows, and fit a model by the suitable learner; see :meth:`Learner.fit`."""
        rows, options = self._read(model, data, weights, inputs)
        self._suited_to(model, rows).fit(model, rows, seed=seed, progress=progress, **options)

    def partial_fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> None:
        """Continue learning from one more batch; see :meth:`Learner.partial_fit`."""
        rows, options = self._read(model, data, weights, inputs)
        self._suited_to(model, rows).partial_fit(model, rows, seed=seed, **options)

    def _read(
        self, model: Any, data: Any, weights: Any, inputs: Inputs | None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the rows with remaining arguments; an iterable of batches is not read."""
        if not is_single(data) or is_partitioned(data):
            return data, {"weights": weights, "inputs": inputs}
        rows = read_rows(model, data, weights, inputs, soft=True)
        return rows, {"weights": rows.row_weights, "inputs": rows.inputs or None}

    def _suited_to(self, model: Any, rows: Any) -> Learner:
        complete = not isinstance(rows, RowEvidence) or is_complete(model, rows)
        return MaximumLikelihood(self.prior) if complete else EM(self.prior)


def is_complete(model: Any, rows: RowEvidence) -> bool:
    """Whether all (for solvable models all observable) variables were observed in all rows."""
    names = model.observable if isinstance(model, SolvableModel) else model.variables
    reals = [n for n in names if not model.variables[n].is_discrete]
    complete = all(map(rows.fully_observes, reals))
    return complete and bool((rows.codes >= 0).all())
