"""Variational Bayes for tables, normal distributions and hidden states."""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import kl_divergence

from pgnn.abilities import ClassModel, Inputs, NetworkModel
from pgnn.errors import ModelError, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.normal_wishart import NormalWishart
from pgnn.factors.conditionals.tabular import Prior, Tabular
from pgnn.factors.factor import Factor
from pgnn.inference.exact.junction_tree import JunctionTree
from pgnn.inference.learner import Learner
from pgnn.inference.learning.conjugate_fit import LABEL, bounded, fit_conjugate, judge
from pgnn.inference.learning.field_e_step import GivenTables
from pgnn.inference.learning.priors import Laplace
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.table_e_step import NetworkEStep
from pgnn.inference.learning.training_data import check_possible, unobserved_warning
from pgnn.inference.loop import Info, iterate
from pgnn.limits import NOT_NEGATIVE, check_settings


@dataclass(frozen=True)
class VariationalBayes(Learner):
    r"""Approximates the posterior of all tables and hidden states by a product.

    .. math:: \log p(D) \ge \sum_n \log \sum_h \prod_f \tilde\theta_f(h, e_n)
        - \sum_j \mathrm{KL}\big(\mathrm{Dir}(a_j) \,\|\, \mathrm{Dir}(\alpha_j)\big), \qquad
        \tilde\theta_{jk} = e^{\psi(a_{jk}) - \psi(\sum_l a_{jl})}

    for rows :math:`j` of the tables, with pseudo-counts :math:`a = \alpha + E[N]`. For complete
    data the posterior is exact and the bound is :math:`\log p(D)`. Tables become the posterior
    means, with which queries about one further row return the posterior predictive distribution.

    Normal distributions, whose covariances are full, tied, diagonal or spherical, have
    normal-inverse-Wishart posteriors; learned values are their means and the inverses of their mean
    precisions. This supports classes with features, mixtures, networks, and models over time.
    Superfluous components lose their rows to others.

    ``model.history`` has ``lower_bound``, its parts ``expected`` (the sum over rows) and
    ``kl_divergence``, the ``trace``, and ``posterior``: the pseudo-counts of every table, by name.
    ``Dirichlet(model.history["posterior"])`` is the prior for a subsequent fit.

    Args:
        prior: Pseudo-counts, positive wherever a table is positive; or a mapping by name of the
            conditional, such as ``{"class": Laplace(0.1), "x": NormalWishart(...)}``. The default
            for normal distributions is a weak prior about mean and covariance of the data.
        max_iterations: Largest number of passes over the rows.
        tolerance: Relative gain of the bound at which to stop.

    Raises:
        ModelError: If a setting is out of range.

    References:
        Beal (2003), Variational algorithms for approximate Bayesian inference, chapters 3 to 5.
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.2.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
        >>> _ = model.fit({"a": [0, 1, None], "b": [0, 1, 1]}, learner=VariationalBayes())
        >>> round(float(model.history["posterior"]["b"].sum()), 6)
        7.0
    """

    prior: Any = field(default_factory=Laplace)
    max_iterations: int = 500
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        check_settings(self, max_iterations=1, tolerance=NOT_NEGATIVE)
        if not isinstance(self.prior, Prior | NormalWishart | Mapping):
            raise ModelError(f"prior must be one such as Laplace(), or by name, got {self.prior!r}")

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
        """Fit the tables of a network; the record is in ``model.history``.

        Args:
            model: A network, class, mixture or model over time, whose tables and normal
                distributions are learned.
            data: Rows, possibly incomplete, or sequences.
            weights: ``(B,)`` weight of each row.
            inputs: Must be None, since tables have no covariates.
            seed: Random seed of initial values when variables are hidden.
            progress: Whether to show a progress bar.

        Raises:
            DataError: If there are no observations, or a row is impossible.
            ModelError: If nothing is learnable, or the pseudo-count of a possible entry is zero.
            Unsupported: If other parameters than tables and normal distributions are learnable.

        Warns:
            NotConverged: If the limit was reached, or a variable was never observed.
        """
        if not _is_of_tables(model):
            fit_conjugate(
                model, self, data, weights=weights, inputs=inputs, seed=seed, progress=progress
            )
            return
        if not isinstance(self.prior, Prior):
            raise ModelError(
                f"the prior of a network of tables is one such as Laplace(), got {self.prior!r}"
            )
        with fitting(model, self) as history:
            trained = copy.deepcopy(model)
            e_step = NetworkEStep(trained)
            e_step.check()
            tables = _tables(e_step)
            self.prior.check(tables)
            observed = e_step.read(data, weights, inputs)
            if e_step.symmetric(observed):
                e_step.initialize(observed, int(np.random.default_rng(seed).integers(2**31)), False)
            method = _Passes(trained, tables, observed.merged(), self)
            run = iterate(method, self.max_iterations, progress=progress, label=LABEL)
            method.finish()
            for name, table in tables.items():
                posterior = method.posterior[name]
                table.set_mean((posterior,))
            model.load_state_dict(trained.state_dict())
            history.update(
                observed.extent,
                **bounded(method.expected, method.divergence, run),
                posterior={n: x.numpy() for n, x in method.posterior.items()},
            )
        judge(run, unobserved_warning(model, observed)).warn()


class _Passes:
    """Passes over rows, each an update of the posterior and then of the hidden states."""

    def __init__(
        self,
        model: Any,
        tables: Mapping[Hashable, Tabular],
        rows: RowEvidence,
        settings: VariationalBayes,
    ) -> None:
        self._model, self._tables, self._rows = model, tables, rows
        self._tolerance, self._bound = settings.tolerance, -math.inf
        self._prior = {n: _pseudo_counts(settings.prior, c) for n, c in tables.items()}
        self._logs = {n: c.log_probs.detach() for n, c in model.conditionals.items()}
        self.posterior: dict[Hashable, Tensor] = {}
        self.expected = self.divergence = 0.0

    def init(self) -> None:
        """Start from the tables of the model."""

    def step(self, state: None) -> tuple[None, Info]:
        """Compute expected counts under the current tables, update the posterior and the bound."""
        counts = self._expect()
        self.posterior = {n: self._prior[n] + counts[n] for n in self._tables}
        for name, a in self.posterior.items():
            self._logs[name] = (a.digamma() - a.sum(-1, keepdim=True).digamma()).masked_fill(
                a == 0, -math.inf
            )
        self.finish()
        bound, before = self.expected - self.divergence, self._bound
        self._bound = bound
        done = bound - before <= self._tolerance * max(abs(bound), 1.0)
        return None, Info(done, {"lower_bound": bound})

    def finish(self) -> None:
        """Evaluate the two parts of the bound at the current posterior."""
        with torch.no_grad():
            self.expected = float(self._total().detach())
        self.divergence = sum(
            _divergence(a, self._prior[name]) for name, a in self.posterior.items()
        )

    def _expect(self) -> dict[Hashable, Tensor]:
        """Return expected counts of all learnable tables."""
        leaves = {n: self._logs[n].clone().requires_grad_() for n in self._tables}
        self._logs |= leaves
        with torch.enable_grad():
            gradients = torch.autograd.grad(self._total(), [*leaves.values()])
        return dict(zip(leaves, (g.clamp_min(0.0) for g in gradients), strict=True))

    def _total(self) -> Tensor:
        """Return the weighted sum over rows of log sums under unnormalised tables."""
        pairs = self._model.conditionals.items()
        factors = [Factor(c.scope, self._logs[n]) for n, c in pairs]
        log_z = JunctionTree().log_prob(GivenTables(self._model, factors), self._rows).reshape(-1)
        check_possible(self._rows, log_z, self._model)
        return self._rows.weighted_sum(log_z)


def _is_of_tables(model: Any) -> bool:
    """Return whether a model is a directed network of tables."""
    network = isinstance(model, NetworkModel) and not isinstance(model, ClassModel)
    return network and all(isinstance(c, Tabular) for c in model.conditionals.values())


def _tables(e_step: NetworkEStep) -> dict[Hashable, Tabular]:
    """Return the learnable tables.

    Raises:
        Unsupported: If a learnable conditional is not a table.
    """
    for name, conditional in e_step.conditionals.items():
        if not isinstance(conditional, Tabular):
            raise Unsupported(
                f"VariationalBayes learns tables; {name!r} has a {type(conditional).__name__}",
                "take EM()",
            )
    return {n: c for n, c in e_step.pieces.items() if isinstance(c, Tabular)}


def _pseudo_counts(prior: Prior, table: Tabular) -> Tensor:
    """Return pseudo-counts of a table's possible entries, zero elsewhere.

    Raises:
        ModelError: If a pseudo-count is zero.
    """
    counts = torch.from_numpy(np.array(prior.counts(table), dtype=np.float64))
    possible = table.possible()
    if bool((counts[possible] <= 0).any()):
        raise ModelError(
            f"the prior of the table of {table.child.name!r} must have positive pseudo-counts for "
            "all possible entries"
        )
    return counts * possible


def _divergence(posterior: Tensor, prior: Tensor) -> float:
    """Return the Kullback-Leibler divergence of Dirichlet distributions, summed over the rows."""
    total = 0.0
    for a, b in zip(posterior.reshape(-1, posterior.shape[-1]), prior.reshape(-1, prior.shape[-1]),
                    strict=True):  # fmt: skip
        possible = b > 0
        if int(possible.sum()) > 1:
            pair = (DirichletDistribution(x[possible]) for x in (a, b))
            total += float(kl_divergence(*pair))
    return total
