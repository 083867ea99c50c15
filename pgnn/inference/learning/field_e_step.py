"""The E-step and M-step of Markov random fields."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.factor import Factor
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.engine import Engine
from pgnn.inference.exact.evaluated_model import EvaluatedModel
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.learning.e_step import EStep, completed_exactly
from pgnn.inference.learning.expected_statistics import ExpectedStatistics
from pgnn.inference.learning.likelihood_objective import dotted, linear
from pgnn.inference.learning.mean_ascent import MeanProblem, ascend
from pgnn.inference.learning.optimisation_problem import LearnableParameters
from pgnn.inference.learning.table_e_step import TableEStep, spread_along
from pgnn.inference.learning.training_data import check_possible, read_rows

_NOISE = 0.3
"""Standard deviation of the noise that breaks the symmetry of hidden states."""
_STEPS = 20
"""Number of L-BFGS iterations in an M-step."""
_ALL = "field"
"""Name of the statistics of all potentials, which are learned jointly."""


class FieldEStep(EStep[RowEvidence]):
    r"""Expectations of a field from rows with missing values.

    .. math:: \log p(e) = \log Z(e) - \log Z, \qquad
        E[N_f \mid e] = \frac{\partial \log Z(e)}{\partial \theta_f}

    The M-step increases :math:`\sum_f \langle N_f, \theta_f \rangle - N \log Z(\theta)` by L-BFGS;
    it is concave if log values are linear in the parameters, and couples all potentials by the
    normaliser.

    Args:
        model: An undirected model of discrete variables.
        engine: Engine with a differentiable log partition function; exact if not given.

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, section 20.3.3.
    """

    def __init__(self, model: Any, engine: Engine | None = None) -> None:
        super().__init__(model)
        self._engine = JunctionTree() if engine is None else engine
        self._merged: tuple[RowEvidence, RowEvidence] | None = None

    @property
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """Empty: potentials have no separate M-steps."""
        return {}

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The learnable parameters."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> RowEvidence:
        """Read rows, without row-wise tables."""
        observed = read_rows(self.model, data, weights, inputs)
        if observed.rowwise:
            raise Unsupported(
                "EM learns fields of discrete variables without inputs", "learn with Gradient()"
            )
        return observed

    def expect(self, observed: RowEvidence) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`; equal rows are evaluated once."""
        if self._merged is None or self._merged[0] is not observed:
            self._merged = observed, observed.merged()
        rows = self._merged[1]
        with torch.no_grad():
            groups = [linear(g) for g in self.model.factor_groups()]
        leaves = [g.numbers.detach().clone().requires_grad_() for g in groups]
        with torch.enable_grad():
            differentiable = [g.with_numbers(x) for g, x in zip(groups, leaves, strict=True)]
            log_z = self._engine.log_prob(GivenTables(self.model, differentiable), rows).reshape(-1)
            check_possible(rows, log_z, self.model)
            total = rows.weighted_sum(log_z.double())
            if not total.requires_grad:
                raise Unsupported(
                    f"the log evidence of {type(self._engine).__name__} is not differentiable",
                    "leave out engine=, or use BeliefPropagation()",
                )
            counts = torch.autograd.grad(total, leaves, materialize_grads=True)
        weight = float(rows.row_weights.sum())
        log_likelihood = float(total.detach()) - weight * float(self._log_normalizer().detach())
        sums = (*counts, torch.tensor(weight, dtype=torch.float64))
        return ExpectedStatistics(log_likelihood, weight, {_ALL: sums})

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Increase the expected log-likelihood, see :class:`EStep`."""
        *counts, weight = expected.sums[_ALL]
        shares = [c / weight for c in counts]

        def mean() -> Tensor:
            return dotted(self.model.factor_groups(), shares) - self._log_normalizer().double()

        problem = MeanProblem.of(self.model, mean, "the field")
        return [] if ascend(problem, _STEPS).moved else [_ALL]

    def log_partition(self, observed: RowEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        with torch.no_grad():
            log_z = self._engine.log_prob(self.model, observed).reshape(-1)
            return log_z - self._log_normalizer()

    def completed(self, observed: RowEvidence) -> RowEvidence:
        """Return rows with their most probable states, see :class:`EStep`."""
        return completed_exactly(self.model, observed)

    def symmetric(self, observed: RowEvidence) -> bool:
        """Whether a hidden element has interchangeable states."""
        return has_symmetric_element(self.model, observed)

    def initialize(self, observed: RowEvidence, seed: int, at_random: bool) -> None:
        """Initialise by noise on all parameters."""
        learnable = LearnableParameters(self.model)
        noise = np.random.default_rng(seed).normal(size=sum(learnable.sizes))
        learnable.assign(learnable.vector() + _NOISE * noise)

    def _log_normalizer(self) -> Tensor:
        return self._engine.log_prob(self.model, None).reshape(())


class GivenTables(EvaluatedModel):
    """A model with given factors.

    Args:
        model: The model with the variables and plans.
        groups: The factors, in groups or single ones.
    """

    def __init__(self, model: FactorModel, groups: Sequence[FactorGroup | Factor]) -> None:
        super().__init__(model)
        graph = FactorGraph(model.elements, groups)
        self._groups = graph.groups

    def cached_numbers(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Compute it: the model caches only results for its own parameters."""
        return make()


def has_symmetric_element(model: Any, rows: RowEvidence) -> bool:
    """Whether a hidden element has states that no table distinguishes."""
    hidden = np.flatnonzero(~(rows.codes >= 0).any(axis=0)).tolist()
    if not hidden:
        return False
    with torch.no_grad():
        factors = model.factors(rows.reals or None, rows.inputs or None)
    joint = [f for f in factors if len(f.names) > 1]
    for name in (model.elements.name(k) for k in hidden):
        spreads = [spread_along(f, name) for f in joint]
        if max((x for x in spreads if x is not None), default=1.0) <= TableEStep.SAME:
            return True
    return False
