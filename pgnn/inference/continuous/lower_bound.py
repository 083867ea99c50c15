"""Learning by a lower bound of the log-likelihood, jointly with a recognition model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.inference.continuous.bound_objective import BoundObjective
from pgnn.inference.continuous.model_and_guide import make_generator
from pgnn.inference.continuous.objective import Elbo, Objective
from pgnn.inference.continuous.unit_bound_objective import UnitBoundObjective
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.batched_rows import BatchedRows
from pgnn.inference.learning.layered_rows import plain_rows
from pgnn.inference.learning.minibatches import MakeOptimizer, adam
from pgnn.inference.learning.optimisation_problem import (
    LearnableParameters,
    MeanObjective,
)
from pgnn.inference.learning.training_data import is_single, read_rows
from pgnn.limits import NOT_NEGATIVE, check_real

Floats = NDArray[np.float64]


def small_adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return Adam with learning rate 0.001."""
    return adam(parameters, 0.001)


@dataclass(frozen=True, kw_only=True)
class LowerBound(Ascent):
    r"""Maximises a mean lower bound over a model and its recognition model (auto-encoding).

    .. math:: \frac1N \sum_n E_{q(z \mid x_n)}[\log p(x_n, z) - \log q(z \mid x_n)]
        \le \frac1N \sum_n \log p(x_n)

    Gradients with respect to draws of real latent variables are pathwise (reparameterised).
    Unobserved discrete variables are summed out, weighted by their recognition model where there is
    one. The hidden units of a :class:`~pgnn.SigmoidBeliefNetwork` are sampled with score-function
    gradients: use ``ScoreFunction(1, baseline_units=100, normalise=True)``, or
    ``ImportanceWeighted`` with several draws.

    Args:
        bound: ``Elbo()``, also with the KL term written out, weighted, or with free bits;
            ``ImportanceWeighted(num_particles)``, ``Renyi`` or ``ScoreFunction``.
        supervision: Weight of the recognition model's log probabilities of observed discrete
            states. With 0, observed labels do not train the recognition model.
        optimizer: Function from parameters to an optimiser; Adam with learning rate 0.001 by
            default.
        batch_size: Rows in a minibatch.
        max_iterations: Passes over the rows.

    The other settings are those of all gradient-based learners: ``scheduler``, ``l1``, ``l2``,
    ``max_norm``, ``validation``, ``patience``; see
    :class:`~pgnn.inference.learning.ascent.Ascent`. The history contains the ``lower_bound``, which
    is summed over the rows.

    Raises:
        ModelError: If a setting is out of range.

    Cost:
        A pass evaluates the networks once for each row and draw.

    References:
        Kingma and Welling (2014), Auto-encoding variational Bayes. Burda, Grosse and Salakhutdinov
        (2016), Importance weighted autoencoders. Kingma et al. (2014), Semi-supervised learning
        with deep generative models (``supervision``, its alpha). Mnih and Gregor (2014), Neural
        variational inference and learning in belief networks.

    Example:
        >>> from torch import nn
        >>> import pgnn
        >>> model = pgnn.VAE(nn.Linear(4, 4), nn.Linear(2, 4), pgnn.BernoulliHead((4,)), latent=2)
        >>> rows = torch.eye(4).repeat(8, 1)
        >>> learner = LowerBound(max_iterations=2, batch_size=16)
        >>> sorted(model.fit(rows, learner=learner, seed=0).history["trace"])
        ['gradient_norm', 'mean_lower_bound', 'objective', 'seconds']
    """

    bound: Objective = field(default_factory=Elbo)
    supervision: float = 0.0
    optimizer: MakeOptimizer | None = small_adam
    batch_size: int | None = 128
    max_iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("supervision", self.supervision, NOT_NEGATIVE)
        if not isinstance(self.bound, Objective):
            raise ModelError(f"bound must be one such as pgnn.Elbo(), got {self.bound!r}")
        if self.optimizer is None:
            raise ModelError("the bound is noisy, which takes an optimizer, such as "
                             "lambda p: torch.optim.Adam(p, lr=1e-3)")  # fmt: skip

    def read_rows(self, model: Any, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Return rows, or minibatches of any iterable such as a ``DataLoader``.

        Data may be a tuple of arrays, and a minibatch a list of arrays: first the data, then the
        inputs in the order of ``model.input_names``.
        """
        data = plain_rows(model, data)
        if is_single(data):
            return super().read_rows(model, data, weights, inputs)
        if isinstance(data, tuple):
            return _read_arrays(model, data, weights, inputs)
        if inputs or isinstance(weights, np.ndarray | Tensor | list):
            raise DataError(
                "minibatches contain their own inputs and weights",
                "omit inputs= and weights=, or give the name of the column of weights",
            )
        if self.validation:
            raise DataError("validation needs all rows in one array, but data is an iterable of "
                            "minibatches")  # fmt: skip
        return BatchedRows(
            lambda batch: _read_arrays(model, batch, weights), data, self.max_iterations
        )

    def check_rows(self, rows: Any, model: Any) -> None:
        """Refuse models without a recognition model, and rows that it cannot read.

        Raises:
            Unsupported: If the model has none.
            DataError: If a unit of a layer that is recognised from was not observed.
        """
        _objective_of(model).check(model, rows, self)

    def break_symmetry(
        self, model: Any, rows: Any, learnable: LearnableParameters, seed: int | None
    ) -> None:
        """Set initial parameters that no gradient would leave, see :class:`BoundObjective`."""
        _objective_of(model).break_symmetry(model, rows, make_generator(seed))

    def objective(self, model: Any, rows: Any, seed: int | None) -> MeanObjective:
        """Return the mean bound, see :meth:`Ascent.objective`.

        Raises:
            DataError: If a value is outside of the support of its distribution.
        """
        return _objective_of(model).of_rows(model, self, seed, rows)


def _objective_of(model: Any) -> type[BoundObjective]:
    return UnitBoundObjective if isinstance(model, RecognisedLayers) else BoundObjective


def _read_arrays(
    model: Any, data: Any, weights: Any = None, inputs: Inputs | None = None
) -> RowEvidence:
    """Rows; of a list of arrays the first is data, and the others are the model's inputs."""
    if isinstance(data, tuple | list) and all(isinstance(x, Tensor | np.ndarray) for x in data):
        names = [*model.input_names]
        if len(data) != 1 + len(names):
            raise DataError(
                f"got {len(data)} arrays, and a {type(model).__name__} takes one of data and then "
                f"the inputs {names}"
            )
        inputs = {**dict(zip(names, data[1:], strict=True)), **(inputs or {})}
        data = data[0]
    return read_rows(model, data, weights, inputs)
