"""Learning by a lower bound of the log-likelihood, with a recognition model beside the model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import constraints

from pgnn.abilities import AmortisedModel, Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.finite import has_nan
from pgnn.factors.support import inside_of, is_fixed, support_of
from pgnn.factors.units.recognised_layers import RecognisedLayers
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.enumerated_states import EnumeratedStates, supervision
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, by_row, make_generator
from pgnn.inference.continuous.objective import Elbo, Objective
from pgnn.inference.continuous.recognition_draws import observed_values
from pgnn.inference.continuous.unit_density import UnitDensity, begin_learning
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.batched_rows import BatchedRows
from pgnn.inference.learning.layered_rows import plain_rows
from pgnn.inference.learning.minibatches import MakeOptimizer, adam
from pgnn.inference.learning.optimisation_problem import (
    DrawingObjective,
    LearnableParameters,
    Mean,
    MeanObjective,
)
from pgnn.inference.learning.training_data import check_range, is_single, read_rows
from pgnn.limits import NOT_NEGATIVE, check_real

Floats = NDArray[np.float64]

_NOISE = 0.1
"""Standard deviation of what moves the components of a mixture apart."""
_ROWS = 512
"""Rows that are evaluated at once where no gradient is wanted; they stay in the cache."""


def small_adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return Adam with steps of 0.001."""
    return adam(parameters, 0.001)


@dataclass(frozen=True, kw_only=True)
class LowerBound(Ascent):
    r"""Maximises a mean lower bound over a model and its recognition model (auto-encoding).

    .. math:: \frac1N \sum_n E_{q(z \mid x_n)}[\log p(x_n, z) - \log q(z \mid x_n)]
        \le \frac1N \sum_n \log p(x_n)

    Draws of the latent variables are differentiated through. Discrete variables that a row does
    not observe are summed out, by their recognition where there is one. The hidden units of a
    :class:`~pgnn.SigmoidBeliefNetwork` are drawn, and the gradient is that of the score function:
    take ``ScoreFunction(1, baseline_units=100, normalise=True)``, or ``ImportanceWeighted`` with
    several draws.

    Args:
        bound: ``Elbo()``, also with the KL term written out, weighted, or with free bits;
            ``ImportanceWeighted(num_particles)``, ``Renyi`` or ``ScoreFunction``.
        supervision: What the log probabilities count that the recognition gives to observed
            states of discrete variables. Without this the labels that are there would not teach
            it.
        optimizer: As of every learner by gradients; Adam with steps of 0.001 if not given.
        batch_size: Rows for a step, where data comes at once.
        max_iterations: Passes over the rows.

    The other settings are those of every learner by gradients: ``scheduler``, ``l1``, ``l2``,
    ``max_norm``, ``validation``, ``patience``; see
    :class:`~pgnn.inference.learning.ascent.Ascent`. The history has the ``lower_bound``, summed
    over the rows.

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
        """Rows at once, or batches of any iterable such as a ``DataLoader``.

        Data may be a tuple of arrays, and a batch a list of them, the inputs last, in the order in
        which the model names them.
        """
        data = plain_rows(model, data)
        if is_single(data):
            return super().read_rows(model, data, weights, inputs)
        if isinstance(data, tuple):
            return _read_arrays(model, data, weights, inputs)
        if inputs or isinstance(weights, np.ndarray | Tensor | list):
            raise DataError("batches bring their inputs and weights with them: leave them out, or "
                            "give the name of the column of weights")  # fmt: skip
        if self.validation:
            raise DataError("validation sets rows apart, which takes all of them at once")
        return BatchedRows(
            lambda batch: _read_arrays(model, batch, weights), data, self.max_iterations
        )

    def check_rows(self, rows: Any, model: Any) -> None:
        """Refuse models without a recognition model, and rows that it cannot read.

        Raises:
            Unsupported: If the model has none.
            DataError: If a unit of a layer that is recognised from was not observed.
        """
        if isinstance(model, RecognisedLayers) and not isinstance(rows, BatchedRows):
            UnitDensity(model, rows)
        if isinstance(model, RecognisedLayers) and self.supervision:
            raise Unsupported(
                "supervision counts observed states of recognised variables, and the hidden units "
                f"of a {type(model).__name__} are never observed"
            )
        if not isinstance(model, AmortisedModel | RecognisedLayers):
            raise Unsupported(
                f"LowerBound() learns models with a recognition model, such as a VAE; of a "
                f"{type(model).__name__} learn with Variational(), EM() or Gradient()"
            )

    def break_symmetry(
        self, model: Any, rows: RowEvidence, learnable: LearnableParameters, seed: int | None
    ) -> None:
        """Move apart the components of priors that are mixtures, as nothing else would."""
        generator = make_generator(seed)
        if isinstance(model, RecognisedLayers):
            begin_learning(model, rows, generator)
            return
        for name in model.recognition:
            prior = model.conditionals[name]
            if isinstance(prior, ExponentialFamily) and prior.has_hidden_parts:
                with torch.no_grad():
                    for p in prior.parameters():
                        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                        p.add_(_NOISE * noise.to(p.device) if p.requires_grad else 0.0)

    def objective(self, model: Any, rows: Any, seed: int | None) -> MeanObjective:
        """Return the mean bound, see :meth:`Ascent.objective`.

        Raises:
            DataError: If a value is outside of the support of its distribution.
        """
        if isinstance(model, RecognisedLayers):
            return UnitBoundObjective(model, self, seed, True)
        if isinstance(rows, BatchedRows):
            return BoundObjective(model, self, seed, None)
        return BoundObjective(model, self, seed, _are_inside(model, rows))


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

    def __call__(self, rows: RowEvidence) -> Mean:
        """Return a function that returns the scalar mean of some rows.

        Raises:
            DataError: If a value of a batch is outside of the support of its distribution.
        """
        checked = _are_inside(self.model, rows) if self.checked is None else self.checked
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

    def go_on(self, random_state: Any) -> None:
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


class UnitBoundObjective(BoundObjective):
    """The mean bound of rows of visible units, whose hidden layers are drawn."""

    def _total(self, rows: RowEvidence, weights: Floats, checked: bool) -> Tensor:
        values = self._values(UnitDensity(self.model, rows))
        return (values * torch.from_numpy(weights)).sum()


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


def _are_inside(model: Any, rows: RowEvidence) -> bool:
    """Whether no row can be outside of the supports at any parameters.

    Raises:
        DataError: If a value is outside of the support of its distribution.
    """
    _check_range(model, rows)
    supports = _Supports(model, rows)
    refused = supports.refused()
    if refused is not None:
        raise DataError(refused)
    return supports.settle_it


def _check_range(model: Any, rows: RowEvidence) -> None:
    """Refuse values that a network cannot square in the type of its numbers."""
    types = [p.dtype for p in model.parameters() if p.is_floating_point()]
    for name, x in rows.reals.items():
        check_range(name, x, types)


class _Supports:
    """Where the observed real variables can be, at a draw of the latent ones.

    Args:
        model: With a recognition model.
        rows: What was observed.
    """

    def __init__(self, model: Any, rows: RowEvidence) -> None:
        self.rows = rows
        recognised = [n for n in model.recognition if model.variables[n].is_discrete]
        codes = np.delete(rows.codes, [int(model.elements.numbers(n)) for n in recognised], axis=1)
        self._states_known = not codes.size or codes.min() >= 0
        one = EnumeratedStates.of(model, rows.take(np.zeros(1, np.int64))).rows
        density = SummedDensity(model, one, one.inputs)
        problem = ModelAndGuide.of(density, None, ())
        self.by_name: dict[Hashable, Any] = {}
        # one row has no spread, by which batch normalisation would divide while it learns
        with torch.no_grad(), evaluated(model):
            drawn = problem.weighted(Elbo(), make_generator(0), draws=1).local
            values = observed_values(density) | ({} if drawn is None else by_row(drawn.values))
            for name in density.observed.reals:
                conditional = model.conditionals[name]
                names = [v.name for v in conditional.parents]
                if name not in density.latents and all(n in values for n in names):
                    parents = {n: values[n] for n in names}
                    distribution = conditional.distribution(parents, density.inputs or None)
                    self.by_name[name] = support_of(distribution)

    def refused(self) -> str | None:
        """Say which variable has values outside of its support; None if there is none."""
        for name, support in self.by_name.items():
            x = self.rows.reals[name]
            known = x[~x.isnan().flatten(start_dim=1).any(1)] if has_nan(x) else x
            parts = (inside_of(support, part) for part in torch.split(known, _ROWS))
            if any(inside is not None and not bool(inside.all()) for inside in parts):
                low, high = float(known.min()), float(known.max())
                grey = _bare(support) is constraints.boolean and low >= 0.0 and high <= 1.0
                return (
                    f"{name!r} has values from {low:g} to {high:g}, some of which are outside of "
                    f"the support of its distribution ({_bare(support)}); "
                    + (_GREYS if grey else "rescale them, or take another likelihood")
                )
        return None

    @property
    def settle_it(self) -> bool:
        """Whether no row can be outside at any parameters: supports are fixed, nothing missing."""
        rows = self.rows
        return (
            self._states_known
            and rows.soft is None
            and set(self.by_name) == set(rows.reals)
            and all(is_fixed(s) for s in self.by_name.values())
            and not any(has_nan(x) for x in rows.reals.values())
        )


_GREYS = (
    "BernoulliHead takes zeros and ones, and these are greys: take (x > 0.5) of them, or draw each "
    "with torch.bernoulli(x), or take another likelihood, such as pgnn.NormalHead"
)


def _bare(support: Any) -> Any:
    """The constraint of each number, as messages show it."""
    base = getattr(support, "base_constraint", None)
    return support if base is None else _bare(base)
