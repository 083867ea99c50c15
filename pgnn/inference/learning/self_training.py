"""Semi-supervised learning by pseudo-labels: self-training, co-training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.abilities import ClassModel, Inputs, NetworkModel
from pgnn.errors import DataError, ModelError, Unsupported, closest
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.learner import Learner
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.training_data import read_rows
from pgnn.limits import Interval, check_settings

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PseudoLabels(Learner):
    """Fits to labelled rows, labels the others by the fitted model, and fits again.

    Args:
        target: Name of the variable that is the label; the class of a model that has one, or its
            only discrete variable, if not given.
        learner: The learner; the model's default for complete rows if not given.
        threshold: Smallest probability at which a predicted label is used.
        rounds: Largest number of rounds.

    Raises:
        ModelError: If a setting is out of range.
    """

    target: Hashable = None
    learner: Learner | None = None
    threshold: float = 0.9
    rounds: int = 20

    def __post_init__(self) -> None:
        check_settings(self, threshold=Interval(0.0, 1.0), rounds=1)
        if self.learner is not None and not isinstance(self.learner, Learner):
            raise ModelError(
                f"learner must be one such as MaximumLikelihood(), got {self.learner!r}"
            )

    @abstractmethod
    def label(self, model: Any, observed: RowEvidence, column: int, name: Hashable) -> RowEvidence:
        """Return the rows to learn from in the next round.

        Args:
            model: The model fitted to the last rows.
            observed: All rows, with missing labels.
            column: Column of the label among the states.
            name: Name of the label.
        """

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
        """Fit a model; the record is in ``model.history``.

        Args:
            model: A directed network with a discrete label.
            data: Rows; the label is missing in some.
            weights: ``(N,)`` weight of each row.
            inputs: Covariates.
            seed: Random seed of the learner.
            progress: Of the learner.

        Raises:
            DataError: If no row has a label.
            ModelError: If the target is not a discrete variable of the model.
            Unsupported: If the model is not a directed network.
        """
        name = target_of(model, self.target)
        column = int(model.elements.numbers(name))
        trace: list[float] = []
        converged = False
        with fitting(model, self) as history:
            observed = read_rows(model, data, weights, inputs)
            labelled_rows = np.flatnonzero(observed.codes[:, column] >= 0)
            if not len(labelled_rows):
                raise DataError(f"no row has the label {name!r}, but some rows need one")
            rows = observed.take(labelled_rows)
            total = rows.row_weights.sum()
            while len(trace) < self.rounds and not converged:
                learner = model.default_learner(rows) if self.learner is None else self.learner
                learner.fit(model, rows, weights=rows.row_weights, inputs=rows.inputs or None,
                        seed=seed, progress=progress)  # fmt: skip
                labelled = self.label(model, observed, column, name)
                trace.append(float(labelled.row_weights.sum() - total))
                converged, rows = _same(rows, labelled), labelled
            history.update(
                observed.extent,
                labelled=len(labelled_rows),
                iterations=len(trace),
                converged=converged,
                trace={"pseudo_labels": trace},
            )


@dataclass(frozen=True)
class SelfTraining(PseudoLabels):
    """Semi-supervised learning from the model's own predictions for unlabelled rows.

    In each round, rows whose most probable label reaches the threshold are used with that label
    (hard); or every row is used with each label, weighted by its probability (soft), which is
    :class:`EM` for a generative model.

    Args:
        target: Name of the label; see :class:`PseudoLabels`.
        learner: The learner.
        threshold: Smallest probability of a hard label.
        rounds: Largest number of rounds.
        hard: Whether labels are hard.

    References:
        Yarowsky (1995), Unsupervised word sense disambiguation rivaling supervised methods. Scudder
        (1965), Probability of error of some adaptive pattern-recognition machines.

    Example:
        >>> from pgnn import Gaussian, NaiveBayes
        >>> rows = {"class": ["a", "b", None, None], "x": [0.0, 9.0, 1.0, 8.0]}
        >>> rows = {n: v * 2 for n, v in rows.items()}
        >>> model = NaiveBayes(["a", "b"], {"x": Gaussian})
        >>> model.fit(rows, learner=SelfTraining(threshold=0.5)).history["labelled"]
        4
    """

    hard: bool = True

    def label(self, model: Any, observed: RowEvidence, column: int, name: Hashable) -> RowEvidence:
        """See the base class."""
        open_rows = np.flatnonzero(observed.codes[:, column] < 0)
        labelled_rows = np.flatnonzero(observed.codes[:, column] >= 0)
        probs = predicted(model, observed.take(open_rows), name)
        if self.hard:
            sure = probs.max(axis=1, initial=0.0) >= self.threshold
            chosen = np.concatenate([labelled_rows, open_rows[sure]])
            labels = np.concatenate(
                [observed.codes[labelled_rows, column], probs[sure].argmax(axis=1)]
            )
            return with_labels(observed, chosen, labels, column)
        size = probs.shape[1]
        chosen = np.concatenate([labelled_rows, np.repeat(open_rows, size)])
        labels = np.concatenate(
            [observed.codes[labelled_rows, column], np.tile(np.arange(size), len(open_rows))]
        )
        return with_labels(
            observed, chosen, labels, column, np.append(np.ones(len(labelled_rows)), probs)
        )


@dataclass(frozen=True)
class CoTraining(PseudoLabels):
    """Co-training: two groups of features label rows for each other.

    Assumes that either group is sufficient to predict the label, and that the groups are
    independent given the label, so that confident predictions from one group are informative for
    the other. A row takes the label that a group predicts confidently; if several do, that of the
    most confident one.

    Args:
        target: Name of the label; see :class:`PseudoLabels`.
        learner: The learner.
        threshold: Smallest probability of a label predicted from one group.
        rounds: Largest number of rounds.
        views: Two or more lists of names of features.

    Raises:
        ModelError: If there are fewer than two views, or a feature is in two.

    References:
        Blum and Mitchell (1998), Combining labeled and unlabeled data with co-training.

    Example:
        >>> CoTraining(views=[["page"], ["links"]]).views
        (('page',), ('links',))
    """

    views: Sequence[Iterable[Hashable]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        views = tuple((v,) if isinstance(v, str) else tuple(v) for v in self.views)
        names = [n for v in views for n in v]
        if len(views) < 2 or not all(views) or len({*names}) < len(names):
            raise ModelError(
                f"views must be two or more lists of different features, got {self.views!r}"
            )
        object.__setattr__(self, "views", views)

    def label(self, model: Any, observed: RowEvidence, column: int, name: Hashable) -> RowEvidence:
        """See the base class."""
        for n in (n for v in self.views for n in v):
            if n not in model.variables:
                raise ModelError(
                    f"a view must contain features, got {n!r}{closest(n, model.variables)}"
                )
        open_rows = np.flatnonzero(observed.codes[:, column] < 0)
        labelled_rows = np.flatnonzero(observed.codes[:, column] >= 0)
        rows = observed.take(open_rows)
        best = np.zeros(len(open_rows))
        labels = np.zeros(len(open_rows), dtype=np.int64)
        for view in self.views:
            probs = predicted(model, _alone(model, rows, view), name)
            better = probs.max(axis=1, initial=0.0) > best
            best = np.where(better, probs.max(axis=1, initial=0.0), best)
            labels = np.where(better, probs.argmax(axis=1), labels) if len(probs) else labels
        sure = best >= self.threshold
        chosen = np.concatenate([labelled_rows, open_rows[sure]])
        return with_labels(
            observed,
            chosen,
            np.concatenate([observed.codes[labelled_rows, column], labels[sure]]),
            column,
        )


def target_of(model: Any, name: Hashable) -> Hashable:
    """Return the name of the label.

    Args:
        model: A directed network.
        name: The given name, or None.

    Raises:
        ModelError: If it is not a discrete variable, or not given although there are several.
        Unsupported: If the model is not a directed network.
    """
    if not isinstance(model, NetworkModel):
        raise Unsupported(f"labels need a directed network, not a {type(model).__name__}")
    discrete = [n for n, v in model.variables.items() if v.is_discrete and not v.shape]
    if name is None and isinstance(model, ClassModel):
        return model.class_name
    if name is None and len(discrete) == 1:
        return discrete[0]
    if name not in discrete:
        what = "target= is not given" if name is None else f"target= is {name!r}"
        raise ModelError(f"{what}, but must be one of the discrete variables {discrete}")
    return name


def predicted(model: Any, rows: RowEvidence, name: Hashable) -> Floats:
    """Return ``(N, K)`` probabilities of the states of an unobserved variable."""
    size = model.variables[name].num_states
    if not rows.num_rows:
        return np.zeros((0, size))
    with torch.no_grad():
        probs = model.query(name, rows, inputs=rows.inputs or None)[name].probs
    return np.asarray(probs.double().numpy(force=True))


def with_labels(
    observed: RowEvidence, rows: Rows, labels: Any, column: int, share: Floats | None = None
) -> RowEvidence:
    """Return some rows with other labels, with their weights multiplied by shares."""
    chosen_rows = observed.take(rows)
    codes = chosen_rows.codes.copy()
    codes[:, column] = labels
    counts = np.array(chosen_rows.row_weights) * (1.0 if share is None else share)
    names = tuple(dict.fromkeys(chosen_rows.names))
    labelled = replace(chosen_rows, codes=codes, weights=counts, names=names)
    return labelled if (counts > 0).all() else labelled.take(np.flatnonzero(counts))


def _alone(model: Any, rows: RowEvidence, names: Iterable[Hashable]) -> RowEvidence:
    """Return the rows restricted to the observations of some features."""
    kept = {*names}
    codes = rows.codes.copy()
    for n, v in model.variables.items():
        if v.is_discrete and n not in kept:
            codes[:, model.elements.numbers(n)] = -1
    reals = {n: x for n, x in rows.reals.items() if n in kept}
    return replace(rows, codes=codes, reals=reals, names=tuple(n for n in rows.names if n in kept))


def _same(a: RowEvidence, b: RowEvidence) -> bool:
    """Whether two sets of rows have the same labels and weights."""
    if a.codes.shape != b.codes.shape or not np.array_equal(a.codes, b.codes):
        return False
    return bool(np.abs(a.row_weights - b.row_weights).max(initial=0.0) <= 1e-9)
