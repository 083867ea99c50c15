"""The methods by which models learn: fit, and partial_fit for batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from pgnn.abilities import (
    DirectedModel,
    FactorModel,
    Inputs,
    LikelihoodModel,
    UnrollableModel,
)
from pgnn.errors import ArgumentError, DataError, EvidenceError, ModelError
from pgnn.evidence.frames import columns_of
from pgnn.evidence.nameless_rows import listed_rows
from pgnn.evidence.partitioned_frame import distinct_values, is_partitioned
from pgnn.factors.inference_mode import in_ordinary_mode
from pgnn.limits import check_seed
from pgnn.models.checked_module import CheckedModule

if TYPE_CHECKING:
    from pgnn.inference.history import History
    from pgnn.inference.learner import Learner


F = TypeVar("F", bound=Callable[..., Any])


def one_table(verb: F) -> F:
    """Raise an error with a hint for a separate target, as in scikit-learn's ``fit(X, y)``."""

    @wraps(verb)
    def checked(model: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 1 or "y" in kwargs:
            got = ", ".join(type(x).__name__ for x in (*args, *kwargs.values()))
            raise ArgumentError(
                f"{type(model).__name__}.{verb.__name__}() takes one table, in which the target is "
                f"a column like any other; got {got}",
                "use fit(frame), or fit({'x': X, 'target': y}) with the names of the model's "
                "variables",
            )
        unknown = [n for n in kwargs if n not in signature(verb).parameters]
        if unknown:
            called = f"{type(model).__name__}.{verb.__name__}()"
            hint = "; it is for models over time" if unknown[0] == "lengths" else ""
            raise ArgumentError(f"{called} has no argument {unknown[0]!r}{hint}")
        return verb(model, *args, **kwargs)

    return cast("F", checked)


class LearningVerbs(CheckedModule, FactorModel):
    """The learning methods of models.

    Attributes:
        history: Record of the last :meth:`fit`.
    """

    history: History

    @one_table
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
        """Fit the parameters to data; :attr:`history` has the record.

        Undeclared states, shapes, column names and attributes are taken from the data, if the model
        supports that.

        Args:
            data: DataFrame, mapping or tensor of rows; for a network of discrete variables with
                declared states also an iterable of such batches (others take them by
                :meth:`partial_fit`); for a model over time sequences, see
                :class:`~pgnn.evidence.sequence_evidence.SequenceEvidence`.
            learner: The learner; :meth:`default_learner` if not given.
            weights: ``(N,)`` weight of each row, or sequence, or the name of a column.
            inputs: Covariates by name.
            seed: Random seed.
            progress: Whether to show a progress bar.

        Returns:
            The model itself, which is unchanged if fitting fails. Answers of a fitted model are
            detached; they are differentiable again after ``model.requires_grad_()``.

        Raises:
            DataError: If the data is invalid, or too much is missing.
            ModelError: If the declaration is incomplete, and cannot be inferred from the data.
        """
        with self._declared_by(self._in_one_array(data), weights, inputs) as (rows, covariates):
            method = self._learner(learner, rows)
            settings: dict[str, Any] = {"weights": weights, "progress": progress}
            self._learn(method.fit, rows, inputs=covariates, seed=check_seed(seed), **settings)
        return self

    @one_table
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

        With ``MaximumLikelihood()`` all batches have equal weight, as in one fit to all of them and
        to the rows of an earlier :meth:`fit` of tables. ``EM()`` takes one step for each batch and
        discounts earlier ones, and the rows of an earlier fit, by its ``decay``, since their
        expectations were computed with earlier parameters. ``ContrastiveDivergence()`` runs one
        pass over each batch, with persistent chains. Conditionals without sufficient statistics
        (logistic and softmax regressions, torch distributions, networks) store the log-likelihood
        of each batch to second order, at the parameters that follow from it and the earlier ones;
        this is accurate if batches have many rows and are alike, so shuffle sorted rows first. Of
        batches of a single class they keep the rows, up to 100,000 numbers, in the history and in
        files; a warning tells when more are forgotten. The log-likelihood of an earlier fit is kept
        if the conditional has at most 20 parameters; a warning names others. States that earlier
        batches did not have are learned from the rows that need them, whose log-likelihood before
        the step is minus infinity. An incomplete declaration is inferred from the first batch.

        Args:
            data: A batch, see :meth:`fit`.
            learner: The learner; :meth:`default_learner` if not given.
            weights: ``(N,)`` weight of each row.
            inputs: Covariates by name.
            seed: Random seed of the initial parameters, at the first batch.

        Returns:
            The model itself, which is unchanged after an error.

        Raises:
            Unsupported: If the learner needs all data at once, or a conditional without sufficient
                statistics has more than 1,000 parameters.
        """
        with self._declared_by(self._in_one_array(data), weights, inputs) as (rows, covariates):
            method = self._learner(learner, rows)
            settings: dict[str, Any] = {"weights": weights, "inputs": covariates}
            self._learn(method.partial_fit, rows, seed=check_seed(seed), **settings)
        return self

    @property
    def is_declared(self) -> bool:
        """Whether all states and shapes are known; otherwise data determine them."""
        return True

    @property
    def _row_shape(self) -> tuple[int, ...]:
        """Shape of a row without names, if it may have several axes."""
        return ()

    def _in_one_array(self, data: Any) -> Any:
        """Return a list of rows as one array; other data, and lists of sequences, unchanged."""
        if isinstance(self, UnrollableModel | LikelihoodModel):
            return data
        return listed_rows(data, self._row_shape)

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """Complete the declaration from data; undone after an error.

        Args:
            data: See :meth:`fit`.
            weights: See :meth:`fit`.
            inputs: See :meth:`fit`.

        Yields:
            Data and inputs in the form for learners.
        """
        yield data, inputs

    def _learner(self, learner: Learner | None, data: Any) -> Learner:
        from pgnn.inference.learner import Learner

        self._was_queried = True  # no warning that initial tables were never learned
        chosen = self.default_learner(data) if learner is None else learner
        if not isinstance(chosen, Learner):
            raise ModelError(f"learner must be one such as MaximumLikelihood(), got {learner!r}")
        return chosen

    def _learn(self, learn: Callable[..., None], data: Any, **settings: Any) -> None:
        """Run a learner, and detach answers afterwards.

        Raises:
            DataError: If the model does not depend on some of the inputs.
        """
        try:
            self.check_inputs(settings["inputs"])
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None
        self.refresh_parameters()
        was, self.detached, self._fitting = self.detached, False, True
        try:
            in_ordinary_mode(learn)(self, data, **settings)
            was = True
            if any(part.training for part in self.modules()):  # dropout only during learning
                self.eval()
        finally:
            self.detached, self._fitting = was, False

    def default_learner(self, data: Any) -> Learner:
        """Return the default learner.

        Maximum likelihood for directed models, gradient ascent for others.
        """
        from pgnn.inference.learning.gradient import Gradient
        from pgnn.inference.learning.maximum_likelihood import MaximumLikelihood

        return MaximumLikelihood() if isinstance(self, DirectedModel) else Gradient()

    def _columns(self, data: Any) -> Mapping[Hashable, Any]:
        """Return the columns of data by name; for partitioned data their distinct values."""
        return distinct_values(data) if is_partitioned(data) else columns_of(data)
