"""The verbs by which models learn: all data at once, or batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from pgnn.abilities import DirectedModel, FactorModel, Inputs
from pgnn.errors import DataError, EvidenceError, ModelError
from pgnn.evidence.frames import columns_of
from pgnn.evidence.partitioned_frame import distinct_values, is_partitioned
from pgnn.factors.inference_mode import outside_inference_mode
from pgnn.limits import check_seed
from pgnn.models.checked_module import CheckedModule

if TYPE_CHECKING:
    from pgnn.inference.history import History
    from pgnn.inference.learner import Learner


class LearningVerbs(CheckedModule, FactorModel):
    """The verbs that learn from data.

    Attributes:
        history: Report of the last :meth:`fit`.
    """

    history: History

    def fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> Self:
        """Fit the parameters to data; :attr:`history` has a report.

        Where the model allows it, what was not declared is found in the data: states, shapes,
        names of columns, attributes.

        Args:
            data: DataFrame, mapping or tensor of rows, or an iterator of such batches; of a model
                over time sequences, see :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
            learner: That of :meth:`default_learner` if not given.
            weights: ``(N,)`` weight of each row, or sequence, or the name of a column.
            inputs: Covariates by name.
            seed: Random seed.
            progress: Whether to show a progress bar.

        Returns:
            The model itself; unchanged if fitting fails. Answers of a fitted model are detached:
            they are differentiable again after ``model.requires_grad_()``.

        Raises:
            DataError: If the data is wrong, or too little was observed.
            ModelError: If something was not declared, and the data does not tell it.
        """
        with self._declared_by(data, weights, inputs) as (rows, covariates):
            method = self._learner(learner, rows)
            settings: dict[str, Any] = {"weights": weights, "progress": progress}
            self._learn(method.fit, rows, inputs=covariates, seed=check_seed(seed), **settings)
        return self

    def partial_fit(
        self,
        data: Any,
        *,
        learner: Learner | None = None,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> Self:
        """Learn from one more batch; statistics of earlier batches are kept in the history.

        With the learner of complete rows, ``MaximumLikelihood()``, all batches have equal weight,
        as in one fit to all of them and to the rows of an earlier :meth:`fit` of tables. ``EM()``
        takes one step for each batch and discounts earlier ones by its ``decay``, since their
        expectations were computed with earlier parameters. ``ContrastiveDivergence()`` makes one
        pass over each batch, and its chains go on. The likelihood of logistic and softmax
        conditionals has no sufficient statistics: batches are added up to its quadratic
        approximation. What is not declared is found in the first batch.

        Args:
            data: A batch, as for :meth:`fit`.
            learner: That of :meth:`default_learner` if not given.
            weights: ``(N,)`` weight of each row.
            inputs: Covariates by name.
            seed: Random seed of the initial parameters, at the first batch.

        Returns:
            The model itself; unchanged if that fails.

        Raises:
            Unsupported: If the learner takes all data at once.
        """
        with self._declared_by(data, weights, inputs) as (rows, covariates):
            method = self._learner(learner, rows)
            settings: dict[str, Any] = {"weights": weights, "inputs": covariates}
            self._learn(method.partial_fit, rows, seed=check_seed(seed), **settings)
        return self

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """Have data tell what was not declared; undone if anything is raised.

        Args:
            data: As for :meth:`fit`.
            weights: Likewise.
            inputs: Likewise.

        Yields:
            Data and inputs as learners take them.
        """
        yield data, inputs

    def _learner(self, learner: Learner | None, data: Any) -> Learner:
        from pgnn.inference.learner import Learner

        self._asked = True  # no warning that initial tables were never learned
        chosen = self.default_learner(data) if learner is None else learner
        if not isinstance(chosen, Learner):
            raise ModelError(f"learner must be one such as MaximumLikelihood(), got {learner!r}")
        return chosen

    def _learn(self, learn: Callable[..., None], data: Any, **settings: Any) -> None:
        """Change the parameters by a learner, and detach answers afterwards.

        Raises:
            DataError: If the model does not depend on some of the inputs.
        """
        try:
            self.check_inputs(settings["inputs"])
        except EvidenceError as error:
            raise DataError(str(error)) from None
        self.refresh_parameters()
        was, self.detached, self._fitting = self.detached, False, True
        try:
            outside_inference_mode(learn)(self, data, **settings)
            was = True
            if any(part.training for part in self.modules()):  # dropout is of learning alone
                self.eval()
        finally:
            self.detached, self._fitting = was, False

    def default_learner(self, data: Any) -> Learner:
        """Return the learner if none is given.

        Maximum likelihood for directed models, by counting; gradient ascent for others.
        """
        from pgnn.inference.learning.gradient import Gradient
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood() if isinstance(self, DirectedModel) else Gradient()

    def _columns(self, data: Any) -> Mapping[Hashable, Any]:
        """The columns of data by name; of data in partitions their distinct values."""
        return distinct_values(data) if is_partitioned(data) else columns_of(data)
