"""The verbs by which models learn: all data at once, or batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pgnn.abilities import DirectedModel, FactorModel, Inputs
from pgnn.errors import ModelError
from pgnn.evidence.frames import columns_of
from pgnn.factors.inference_mode import outside_inference_mode
from pgnn.limits import check_seed
from pgnn.models.checked_module import CheckedModule

if TYPE_CHECKING:
    from pgnn.inference.history import History
    from pgnn.inference.learner import Learner


class LearningVerbs(CheckedModule, FactorModel):
    """What learns from data.

    Attributes:
        history: What the last :meth:`fit` reported.
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
        """Fit the parameters to data; :attr:`history` tells how it went.

        Args:
            data: DataFrame, mapping or tensor of rows, or an iterator of such batches; of a model
                over time sequences, see :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
            learner: That of :meth:`default_learner` if not given.
            weights: ``(N,)`` what each row, or sequence, counts, or the name of a column.
            inputs: Covariates by name.
            seed: Of whatever is random.
            progress: Show a progress bar.

        Returns:
            The model itself. If fitting fails, it is as it was before. A fitted model answers
            with plain numbers: gradients flow again after ``model.requires_grad_()``.
        """
        own = self._learner(learner, data)
        rest: dict[str, Any] = {"weights": weights, "inputs": inputs, "progress": progress}
        self._learn(own.fit, data, seed=check_seed(seed), **rest)
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
        """Go on learning from one batch more; what earlier batches told is kept in the history.

        With the learner of complete rows, ``MaximumLikelihood()``, all batches count alike, as if
        they came at once, and with the rows of an earlier :meth:`fit` of tables. ``EM()`` takes one
        step for each batch and forgets earlier ones by its ``decay``: what they were expected to
        tell was found with worse parameters. States, and shapes of vectors, that are not declared
        are those of the first batch.

        Args:
            data: A batch, as for :meth:`fit`.
            learner: That of :meth:`default_learner` if not given.
            weights: ``(N,)`` what each row counts.
            inputs: Covariates by name.
            seed: Of a start, at the first batch.

        Returns:
            The model itself. If that fails, it is as it was before.

        Raises:
            Unsupported: If the learner takes all data at once.
        """
        own = self._learner(learner, data)
        rest: dict[str, Any] = {"weights": weights, "inputs": inputs}
        self._learn(own.partial_fit, data, seed=check_seed(seed), **rest)
        return self

    def _learner(self, learner: Learner | None, data: Any) -> Learner:
        from pgnn.inference.learner import Learner

        self._asked = True  # tables that learning begins with are no answers
        own = self.default_learner(data) if learner is None else learner
        if not isinstance(own, Learner):
            raise ModelError(f"learner must be one such as MaximumLikelihood(), got {learner!r}")
        return own

    def _learn(self, learn: Callable[..., None], data: Any, **rest: Any) -> None:
        """Have parameters changed, and answer with plain numbers afterwards."""
        self.look_parameters_up()
        was, self.detached, self._fitting = self.detached, False, True
        try:
            outside_inference_mode(learn)(self, data, **rest)
            was = True
        finally:
            self.detached, self._fitting = was, False

    def default_learner(self, data: Any) -> Learner:
        """Return what learns from data where no learner is named.

        Maximum likelihood of directed models, which counts; the gradient of others.
        """
        from pgnn.inference.learning.gradient import Gradient
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood() if isinstance(self, DirectedModel) else Gradient()

    def _columns(self, data: Any) -> Mapping[Hashable, Any]:
        """The columns of data by name."""
        return columns_of(data)
