"""Mistakes: the score of the best states minus that of the true states, row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ChainModel
from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.engine import Engine
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.voters import Voters
from pgnn.limits import check_size

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """The size of an update.

    Attributes:
        cost: Additional score of each wrong state in the search for the best states.
        most: Largest size of an update; None if all have size one.
    """

    cost: float = 0.0
    most: float | None = None

    def size(self, loss: float, square: float) -> float:
        """Return the size of an update with squared norm ``square``."""
        if self.most is None:
            return 1.0
        return min(self.most, loss / square) if square > 0.0 else 0.0


class Mistakes(ABC):
    """Updates parameters after each row whose best states differ from the true ones."""

    @abstractmethod
    def correct(self, order: Ints, rule: Rule) -> tuple[Floats, Ints]:
        """Pass over rows; return ``(B,)`` losses, and the number of wrong states.

        Raises:
            DataError: If true states are impossible.
        """

    @abstractmethod
    def finish(self, averaged: bool) -> None:
        """Set the parameters to the last ones, or to the average."""


class GradientMistakes(Mistakes):
    r"""Mistakes whose updates are gradients of :math:`s(y) - s(\hat y)`, for any score.

    Args:
        learnable: The parameters.
        weights: ``(B,)`` weights of the rows.
    """

    def __init__(self, learnable: LearnableParameters, weights: Floats) -> None:
        self.learnable, self.weights = learnable, weights
        self.theta = learnable.vector()
        self.total, self.count = np.zeros_like(self.theta), 0.0
        self._voters: list[Floats] = [self.theta]
        self._votes: list[float] = [0.0]
        self.keeps_voters = False

    @abstractmethod
    def look(self, row: int, cost: float) -> tuple[Tensor, int]:
        """Return the score of the true states minus that of the best ones, and the number wrong.

        Args:
            row: Index of the row.
            cost: Additional score of each wrong state in the search for the best states.
        """

    def correct(self, order: Ints, rule: Rule) -> tuple[Floats, Ints]:
        """Pass over rows, see the base class."""
        losses, wrong = np.zeros(len(self.weights)), np.zeros(len(self.weights), dtype=np.int64)
        for row in order.tolist():
            with torch.enable_grad():
                ahead, wrong[row] = self.look(row, rule.cost)
            self.count += 1.0
            if not wrong[row]:
                self._votes[-1] += 1.0
                continue
            losses[row] = rule.cost * wrong[row] - float(ahead.detach())
            if not np.isfinite(losses[row]):
                raise impossible(row)
            self.learnable.clear()
            if ahead.requires_grad:
                ahead.backward()  # type: ignore[no-untyped-call]
            step = self.learnable.gradient()
            step *= self.weights[row] * rule.size(losses[row], float(step @ step))
            self.theta = self.theta + step
            self.total += (self.count - 1.0) * step
            self.learnable.assign(self.theta)
            if self.keeps_voters:
                check_size(f"{len(self._votes):,} voters", 8 * len(self._votes) * step.size)
                self._voters.append(self.theta)
                self._votes.append(1.0)
        self.learnable.clear()
        return losses, wrong

    @property
    def voters(self) -> Voters:
        """All parameter vectors, with the number of rows that each survived."""
        return Voters(np.stack(self._voters), np.array(self._votes))

    def finish(self, averaged: bool) -> None:
        """Set the final parameters, see the base class."""
        if averaged and self.count:
            self.learnable.assign(self.theta - self.total / self.count)


class RowMistakes(GradientMistakes):
    """Mistakes about rows of a model of factors.

    Args:
        learnable: The parameters.
        model: The model.
        rows: The rows.
        targets: Variables to predict from the others; all discrete ones if None.
        engine: Engine that finds the best states.
    """

    def __init__(
        self,
        learnable: LearnableParameters,
        model: Any,
        rows: RowEvidence,
        targets: Sequence[Hashable] | None,
        engine: Engine,
    ) -> None:
        super().__init__(learnable, rows.row_weights)
        self.model, self.rows, self.engine = model, rows, engine
        elements = model.elements
        self.names = [v.name for v in elements.variables] if targets is None else [*targets]
        numbers = [elements.numbers(n).reshape(-1) for n in self.names]
        self.places = np.concatenate([np.zeros(0, dtype=np.int64), *numbers])
        self.columns = np.concatenate([elements.offset[:-1], elements.offset[-1:]])

    def look(self, row: int, cost: float) -> tuple[Tensor, int]:
        """Return the difference of scores, see the base class."""
        observed = self.rows.take(np.array([row]))
        right = observed.codes
        unlabelled = right.copy()
        unlabelled[:, self.places] = -1
        soft = self._costs(right[0], cost) if cost else None
        question = replace(observed, codes=unlabelled, soft=soft, inputs={})
        with torch.no_grad():
            answer = self.engine.most_probable(
                self.model, question, self.names, inputs=observed.inputs or None
            )
        best = right.copy()
        best[:, self.places] = torch.as_tensor(answer.codes).reshape(1, -1).numpy(force=True)
        groups = self.model.factor_groups(observed.reals or None, observed.inputs or None)
        graph = FactorGraph(self.model.elements, groups)
        ahead = graph.log_score(right) - graph.log_score(best)
        return ahead[0], int((best != right).sum())

    def _costs(self, right: Any, cost: float) -> Floats:
        """``(1, S)`` likelihoods that increase the score of wrong states."""
        likelihoods = np.ones(int(self.columns[-1]))
        for place in self.places:
            likelihoods[self.columns[place] + right[place]] = np.exp(-cost)
        return likelihoods[None]


class SequenceMistakes(GradientMistakes):
    """Mistakes about the states of chains.

    Args:
        learnable: The parameters.
        model: An unnormalised chain of states given inputs.
        rows: Sequences with all states observed.
    """

    def __init__(
        self, learnable: LearnableParameters, model: ChainModel, rows: SequenceEvidence
    ) -> None:
        super().__init__(learnable, rows.row_weights)
        self.model, self.rows, self.name = model, rows, model.state.name

    def look(self, row: int, cost: float) -> tuple[Tensor, int]:
        """Return the difference of scores, see the base class."""
        observed = self.rows.take(np.array([row]))
        right = observed.codes[self.name]
        k = self.model.state.num_states
        soft = torch.full((1, observed.steps, k), 1.0, dtype=torch.float64)
        soft.scatter_(2, right.clamp_min(0).unsqueeze(-1), float(np.exp(-cost)))
        unlabelled = replace(observed, codes={}, soft={self.name: soft} if cost else {})
        with torch.no_grad():
            best = self.model.chain(unlabelled, observed.inputs or None, best=True).best()[0]
        wrong = int((best != right)[observed.inside].sum())
        if not wrong:
            return torch.zeros(()), 0
        scores = [
            self.model.chain(replace(observed, codes={self.name: z}), observed.inputs or None)
            for z in (right, best)
        ]
        return (scores[0].log_partition() - scores[1].log_partition())[0], wrong


def impossible(row: int) -> DataError:
    """Return the error for a row whose true states are impossible."""
    return DataError(
        f"the states of row {row} are impossible under the current parameters (excluded by a "
        "table or a mask)",
        "check the data, or allow them",
    )
