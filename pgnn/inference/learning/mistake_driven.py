"""The base class of mistake-driven learners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pgnn.abilities import AttributeChainModel, ChainModel, Inputs, UnrollableModel
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.engine import Engine
from pgnn.inference.history import History
from pgnn.inference.learner import Learner
from pgnn.inference.learning.attribute_mistakes import AttributeMistakes
from pgnn.inference.learning.fit_context import parts_in_mode
from pgnn.inference.learning.mistakes import (
    GradientMistakes,
    Mistakes,
    RowMistakes,
    Rule,
    SequenceMistakes,
)
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.restored_on_failure import restored_on_failure
from pgnn.inference.learning.training_data import read_rows, read_sequences
from pgnn.inference.loop import Info, iterate
from pgnn.inference.numba_support import has_numba
from pgnn.limits import check_settings


@dataclass(frozen=True, kw_only=True)
class MistakeDriven(Learner):
    r"""Updates the parameters after each row whose best states differ from the true ones.

    .. math:: \theta \leftarrow \theta + \tau\, \nabla_\theta \big( s_\theta(y_n)
        - s_\theta(\hat y_n) \big), \qquad \hat y_n = \arg\max_y s_\theta(y)
        + c \sum_i [y_i \ne y_{ni}]

    where :math:`s` is the log score, so that the gradient is a difference of features for
    log-linear models.

    Args:
        averaged: Whether to keep the average of the parameters after each row instead of the last
            ones.
        max_iterations: Largest number of passes over the rows; learning ends after a pass without
            mistakes.
        targets: Variables to predict from the others; all discrete ones if not given.
        engine: Engine that finds the best states; that of ``model.most_probable`` if not given.

    Raises:
        ModelError: If a setting is out of range.
    """

    averaged: bool = True
    max_iterations: int = 10
    targets: Hashable | Sequence[Hashable] | None = None
    engine: Engine | None = None

    def __post_init__(self) -> None:
        check_settings(self, max_iterations=1)
        if self.engine is not None and not isinstance(self.engine, Engine):
            raise ModelError(f"engine must be one such as pgnn.JunctionTree(), got {self.engine!r}")

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The size of updates."""

    @property
    def keeps_voters(self) -> bool:
        """Whether all parameter vectors are kept."""
        return False

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
        """Pass over the rows in random order; ``model.history`` has the mistakes of each pass.

        Args:
            model: Any model with a log score, directed or not, or a chain of labels.
            data: Rows, or sequences, in which all targets are observed.
            weights: ``(N,)`` weight of each row's correction, or the name of a column.
            inputs: Covariates by name, ``(N, ...)``.
            seed: Random seed of the order.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If the data is invalid, lacks targets, or is impossible.
            ModelError: If nothing is learnable.
        """
        learnable = LearnableParameters(model)
        rows: Any = self._read(model, data, weights, inputs)
        with restored_on_failure(model), parts_in_mode(model, train=False):
            mistakes = self._mistakes(model, learnable, rows)
            if isinstance(mistakes, GradientMistakes):
                mistakes.keeps_voters = self.keeps_voters
            passes = self._passes(mistakes, rows.num_rows, seed)
            run = iterate(passes, self.max_iterations, progress=progress, label="passes")
            mistakes.finish(self.averaged)
            model.history = History(
                {
                    "learner": repr(self),
                    "rows": rows.num_rows,
                    "weight": float(rows.row_weights.sum()),
                    "iterations": run.iterations,
                    "converged": run.converged,
                    "seconds": run.seconds,
                    "trace": run.history,
                }
            )
            if isinstance(mistakes, GradientMistakes) and self.keeps_voters:
                model.history.voters = mistakes.voters

    def _passes(self, mistakes: Mistakes, rows: int, seed: int | None) -> Passes:
        return Passes(mistakes, self.rule, rows, seed)

    def _read(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        if not isinstance(model, UnrollableModel):
            return read_rows(model, data, weights, inputs)
        if not isinstance(model, ChainModel) or model.is_normalized:
            raise Unsupported(
                f"{type(self).__name__} learns labels of sequences given inputs, as in a "
                f"ConditionalRandomField; {type(model).__name__} has its own learner"
            )
        return read_sequences(model, data, weights, inputs)

    def _mistakes(self, model: Any, learnable: LearnableParameters, rows: Any) -> Mistakes:
        """Return the mistakes of rows or sequences."""
        if isinstance(rows, SequenceEvidence):
            if not rows.is_known(model.state.name):
                raise DataError(
                    f"some of {model.state.name!r} are missing: {type(self).__name__} needs all "
                    "labels",
                    "learn with Gradient(), which sums out missing values",
                )
            chain = None
            on_cpu = all(p.device.type == "cpu" for p in learnable.parameters)
            compiled = has_numba() and on_cpu and not self.keeps_voters
            if isinstance(model, AttributeChainModel) and compiled:
                chain = model.attribute_chain(rows)
            if chain is not None:
                return AttributeMistakes(model, chain, rows.row_weights)
            return SequenceMistakes(learnable, model, rows)
        return self._row_mistakes(model, learnable, rows)

    def _row_mistakes(
        self, model: Any, learnable: LearnableParameters, rows: RowEvidence
    ) -> RowMistakes:
        given: Any = self.targets
        several = given is None or (isinstance(given, Sequence) and not isinstance(given, str))
        targets = given if several else [given]
        engine = model.default_engine() if self.engine is None else self.engine
        mistakes = RowMistakes(learnable, model, rows, targets, engine)
        if (rows.codes[:, mistakes.places] < 0).any():
            raise DataError(
                f"some rows have no value of a target: {type(self).__name__} needs all targets",
                "learn with Gradient(), which sums out missing values",
            )
        return mistakes


class Passes:
    """One step is one pass over all rows.

    Args:
        mistakes: The mistakes.
        rule: The size of updates.
        rows: Number of rows.
        seed: Random seed of the order of the rows, which is new in each pass.
    """

    def __init__(self, mistakes: Mistakes, rule: Rule, rows: int, seed: int | None) -> None:
        self.mistakes, self.rule, self.rows = mistakes, rule, rows
        self._random = np.random.default_rng(seed)

    def init(self) -> int:
        """Return the number of completed passes."""
        return 0

    def step(self, state: int) -> tuple[int, Info]:
        """Run one pass."""
        with torch.no_grad():
            losses, wrong = self.mistakes.correct(self._random.permutation(self.rows), self.rule)
        figures = {"mistakes": float((wrong > 0).sum()), "loss": float(losses.mean())}
        left = wrong > 0 if self.rule.most is None else losses > _NOTHING
        return state + 1, Info(not left.any(), figures)


_NOTHING = 1e-9
"""Largest loss that is treated as zero if losses are expected to vanish."""
