"""Learning by a lower bound of the log-likelihood, with a recognition model beside the model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import AmortisedModel, Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.finite import has_nan
from pgnn.factors.support import inside_of, is_fixed, support_of
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, by_row, make_generator
from pgnn.inference.continuous.objective import Elbo, Objective
from pgnn.inference.continuous.recognition_draws import observed_values
from pgnn.inference.learning.ascent import Ascent
from pgnn.inference.learning.minibatches import MakeOptimizer
from pgnn.inference.learning.optimisation_problem import Mean, MeanObjective

_ROWS = 2048
"""Rows that are evaluated at once where no gradient is wanted."""


def small_adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return Adam with steps of 0.001."""
    return torch.optim.Adam(parameters, lr=0.001)


@dataclass(frozen=True, kw_only=True)
class LowerBound(Ascent):
    r"""Maximises a mean lower bound over a model and its recognition model (auto-encoding).

    .. math:: \frac1N \sum_n E_{q(z \mid x_n)}[\log p(x_n, z) - \log q(z \mid x_n)]
        \le \frac1N \sum_n \log p(x_n)

    Draws of the latent variables are differentiated through. Discrete variables that a row does
    not observe are summed out.

    Args:
        bound: ``Elbo()``, also with the KL term written out, weighted, or with free bits;
            ``ImportanceWeighted(num_particles)``, ``Renyi`` or ``ScoreFunction``.
        optimizer: As of every learner by gradients; Adam with steps of 0.001 if not given.
        batch_size: Rows for a step.
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
        (2016), Importance weighted autoencoders.

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
    optimizer: MakeOptimizer | None = small_adam
    batch_size: int | None = 128
    max_iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.bound, Objective):
            raise ModelError(f"bound must be one such as pgnn.Elbo(), got {self.bound!r}")
        if self.optimizer is None:
            raise ModelError("the bound is noisy, which takes an optimizer, such as "
                             "lambda p: torch.optim.Adam(p, lr=1e-3)")  # fmt: skip

    def check_rows(self, rows: RowEvidence, model: Any) -> None:
        """Refuse models without a recognition model, and values that cannot occur.

        Raises:
            Unsupported: If the model has none.
            DataError: If a value is outside of the support of its distribution.
        """
        if not isinstance(model, AmortisedModel):
            raise Unsupported(
                f"LowerBound() learns models with a recognition model, such as a VAE; of a "
                f"{type(model).__name__} learn with Variational(), EM() or Gradient()"
            )
        refused = _Supports(model, rows).refused()
        if refused is not None:
            raise DataError(refused)

    def objective(self, model: Any, rows: RowEvidence, seed: int | None) -> MeanObjective:
        """Return the mean bound, see :meth:`Ascent.objective`."""
        return BoundObjective(model, self.bound, seed, _Supports(model, rows).settle_it)


class BoundObjective:
    """The mean bound of rows, by new draws at each evaluation.

    Args:
        model: With a recognition model.
        bound: Of each row.
        seed: Of the draws.
        checked: Whether rows that are learned from are known to have nothing missing, and all
            values inside of the supports of their distributions.
    """

    figure: str | None = "lower_bound"

    def __init__(
        self, model: AmortisedModel, bound: Objective, seed: int | None, checked: bool = False
    ) -> None:
        self.model, self.bound, self.checked = model, bound, checked
        self._generator = make_generator(seed)

    def __call__(self, rows: RowEvidence) -> Mean:
        """Return a function that returns the mean of some rows, ``()``."""
        shares = torch.from_numpy(rows.row_weights / rows.row_weights.sum())

        def problem(checked: bool) -> ModelAndGuide:
            density = SummedDensity(self.model, rows, rows.inputs, checked=checked)
            return ModelAndGuide.of(density, None, (), shares)

        def mean() -> Tensor:
            if torch.is_grad_enabled():
                return self._total(problem(self.checked), None)
            whole, numbers = problem(False), torch.arange(rows.num_rows)
            parts = torch.split(numbers, _ROWS)
            return torch.stack([self._total(whole, part) for part in parts]).sum()

        return mean

    def _total(self, problem: ModelAndGuide, rows: Tensor | None) -> Tensor:
        """The sum over some rows of their shares."""
        draws = problem.weighted(self.bound, self._generator, rows)
        scale = 1.0 if rows is None else len(rows) / len(problem.active)
        return scale * problem.total(draws, self.bound)


class _Supports:
    """Where the observed real variables can be, at a draw of the latent ones.

    Args:
        model: With a recognition model.
        rows: What was observed.
    """

    def __init__(self, model: AmortisedModel, rows: RowEvidence) -> None:
        self.rows = rows
        density = SummedDensity(model, rows.take(np.zeros(1, np.int64)), _first(rows.inputs))
        problem = ModelAndGuide.of(density, None, ())
        self.by_name: dict[Hashable, Any] = {}
        with torch.no_grad():
            drawn = problem.weighted(Elbo(), make_generator(0), draws=1).local
            values = observed_values(density) | ({} if drawn is None else by_row(drawn.values))
            for name in density.seen.reals:
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
            inside = inside_of(support, known)
            if inside is not None and not bool(inside.all()):
                low, high = float(known.min()), float(known.max())
                return (
                    f"{name!r} has values from {low:g} to {high:g}, some of which are outside of "
                    f"the support of its distribution ({support}); rescale them, or take another "
                    "likelihood"
                )
        return None

    @property
    def settle_it(self) -> bool:
        """Whether no row can be outside at any parameters: supports are fixed, nothing missing."""
        rows = self.rows
        whole = not rows.codes.size or rows.codes.min() >= 0
        return (
            whole
            and rows.soft is None
            and set(self.by_name) == set(rows.reals)
            and all(is_fixed(s) for s in self.by_name.values())
            and not any(has_nan(x) for x in rows.reals.values())
        )


def _first(inputs: Inputs) -> dict[Hashable, Tensor]:
    return {name: torch.as_tensor(x)[:1] for name, x in inputs.items()}
