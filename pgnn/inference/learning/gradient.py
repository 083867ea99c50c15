"""Maximum likelihood by gradient ascent on the log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from pgnn.abilities import (
    EmittingModel,
    ExecutableModel,
    Inputs,
    MixtureModel,
    NetworkModel,
    PairedModel,
    SlicedModel,
    UnrollableModel,
)
from pgnn.errors import ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.engine import Engine
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.e_steps import e_step_of
from pgnn.inference.learning.field_e_step import has_symmetric_element
from pgnn.inference.learning.likelihood_objective import (
    LikelihoodObjective,
    SampledObjective,
    SequenceObjective,
    only_draws,
)
from pgnn.inference.learning.optimisation_problem import LearnableParameters, MeanObjective
from pgnn.inference.learning.training_data import check_observed, read_sequences
from pgnn.inference.time.engine_over_time import hidden_reals

_NOISE = 0.1
"""Standard deviation of the noise that breaks the symmetry of hidden states of a field."""


@dataclass(frozen=True)
class Gradient(Ascent):
    r"""Maximises the mean log-likelihood, with optional penalties.

    .. math:: \frac{1}{N} \sum_n \log p(x_n) =
        \frac{1}{N} \sum_n \log \sum_{h} \tilde p(x_n, h) - \log Z

    where :math:`h` are the missing cells of a row. The gradient of :math:`\log Z` is the expected
    count of each table entry, so that at the maximum expected and observed counts agree. For models
    with inputs :math:`\log Z` depends on the row; directed models have :math:`\log Z = 0`, and
    learnable conditionals of any kind are fitted, with missing cells summed out. Models over time
    learn from sequences, with hidden states summed out.

    With a sampling engine (``Gibbs()``) expectations are averages over new samples in each step;
    this needs an ``optimizer`` with small steps, and the history has no log-likelihood.

    Args:
        engine: Engine that computes :math:`\log Z` and sums out missing cells: exact if not given;
            ``BeliefPropagation()`` for a differentiable approximation; or a sampling engine.
        num_samples: Number of samples per step of a sampling engine.

    The other settings are those of all gradient-based learners: ``optimizer``, ``scheduler``,
    ``batch_size``, ``l1``, ``l2``, ``max_norm``, ``max_iterations``, ``tolerance``,
    ``validation``, ``patience``, ``checkpoints``; see
    :class:`~pgnn.inference.learning.ascent.Ascent`.

    Raises:
        ModelError: If a setting is out of range, or a sampling engine has no optimizer.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, sections 20.2 to 20.4.

    Example:
        >>> from pgnn.models import MarkovRandomField
        >>> model = MarkovRandomField([("a", "b")], states={"a": 2, "b": 2})
        >>> model.fit({"a": [0, 0, 1, 1], "b": [0, 0, 1, 0]}, learner=Gradient())
        MarkovRandomField(2 variables, 1 potentials)
        >>> [round(p, 4) for p in model.query("b", {"a": 1})["b"].probs.tolist()]
        [0.5, 0.5]
    """

    engine: Engine | None = None
    num_samples: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine is not None and not isinstance(self.engine, Engine):
            raise ModelError(f"engine must be one such as pgnn.JunctionTree(), got {self.engine!r}")

    @classmethod
    def of_networks(cls, rate: float, passes: int) -> Self:
        """Return a learner with Adam, batches of 32 rows, and gradient clipping.

        Args:
            rate: Learning rate.
            passes: Number of passes over the rows.
        """
        return cls(
            optimizer=lambda p: torch.optim.Adam(p, lr=rate),
            batch_size=32,
            max_norm=1.0,
            max_iterations=passes,
        )

    def read_rows(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Return rows, or sequences of a model over time."""
        if isinstance(model, UnrollableModel | PairedModel):
            return read_sequences(model, data, weights, inputs)
        return super().read_rows(model, data, weights, inputs)

    def check_rows(self, rows: Any, model: Any) -> None:
        """Raise an error for rows without observations, except for programs."""
        if not isinstance(model, ExecutableModel):
            check_observed(rows)

    def break_symmetry(
        self, model: Any, rows: Any, learnable: LearnableParameters, seed: int | None
    ) -> None:
        """Initialise hidden states to differ if they are interchangeable, a saddle point otherwise.

        Directed models are initialised as for :class:`EM`, and distributions whose parameters were
        not given begin in the units of the data; others, and models over time with hidden
        real variables, by noise on all parameters.
        """
        number = int(np.random.default_rng(seed).integers(2**31))
        unknown = isinstance(model, SlicedModel) and hidden_reals(model, rows)
        if _has_e_step(model) and not unknown:
            e_step = e_step_of(model)
            with torch.no_grad():
                symmetric = bool(e_step.pieces) and e_step.symmetric(rows)
            if symmetric:
                e_step.initialize(rows, number, at_random=False)
            e_step.start_from_data(rows)
        elif unknown or (isinstance(rows, RowEvidence) and has_symmetric_element(model, rows)):
            noise = np.random.default_rng(number).normal(size=sum(learnable.sizes))
            learnable.assign(learnable.vector() + _NOISE * noise)

    def has_saddles(self, rows: Any) -> bool:
        """Whether values are missing, so that the log-likelihood may not be concave."""
        return isinstance(rows, SequenceEvidence) or not bool(rows.complete.all())

    def objective(self, model: Any, rows: Any, seed: int | None) -> MeanObjective:
        """Return the mean log-likelihood, see :meth:`Ascent.objective`."""
        if isinstance(rows, SequenceEvidence):
            return SequenceObjective(model, self.engine)
        engine = JunctionTree() if self.engine is None else self.engine
        directed = model.is_normalized and bool(rows.complete.all())
        if directed or not only_draws(engine, model, rows):
            return LikelihoodObjective(model, engine)
        if self.optimizer is None:
            raise ModelError(
                f"{type(engine).__name__} only draws samples: its gradients are noisy and need "
                "an optimizer with small steps, such as lambda p: torch.optim.Adam(p, lr=0.05)"
            )
        return SampledObjective(model, engine, self.num_samples, seed)


def _has_e_step(model: Any) -> bool:
    """Return whether a model can be initialised as for :class:`EM`."""
    if isinstance(model, MixtureModel):
        return all(map(_has_e_step, model.components))
    return isinstance(model, EmittingModel | SlicedModel | NetworkModel)
