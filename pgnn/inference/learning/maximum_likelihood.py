"""Maximum likelihood from complete data: counts for tables, L-BFGS for other conditionals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import ClosedFormModel, DirectedModel, Inputs, SlicedModel, SolvableModel
from pgnn.errors import DataError, ModelError, Unsupported, closest
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.partitioned_frame import PartitionedFrame, is_partitioned
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.conditionals.parameter_prior import ParameterPrior
from pgnn.factors.conditionals.tabular import Prior, Tabular
from pgnn.inference.convergence import Convergence
from pgnn.inference.history import RUNNING
from pgnn.inference.learner import Learner
from pgnn.inference.learning.closed_form import fit_closed_form
from pgnn.inference.learning.complete_rows import fit_rows
from pgnn.inference.learning.complete_sequences import fit_slices
from pgnn.inference.learning.conditional_fit import fit_terms
from pgnn.inference.learning.e_steps import e_step_of
from pgnn.inference.learning.expected_statistics import Pieces, check_owners
from pgnn.inference.learning.given_values import contradiction
from pgnn.inference.learning.m_step import accepting
from pgnn.inference.learning.partitioned_e_step import fit_partitions
from pgnn.inference.learning.priors import K2, BDeu, Dirichlet, Laplace
from pgnn.inference.learning.restored_on_failure import fitting
from pgnn.inference.learning.running_statistics import learn_from_batch
from pgnn.inference.learning.solved_model import fit_solved, has_solution
from pgnn.inference.learning.statistics import Statistics
from pgnn.inference.learning.training_data import batches, check_complete, check_density
from pgnn.limits import check_settings

__all__ = ["BDeu", "Dirichlet", "K2", "Laplace", "MaximumLikelihood", "Prior"]


@dataclass(frozen=True)
class MaximumLikelihood(Learner):
    r"""Maximum likelihood from complete rows, optionally with a prior.

    For every learnable table, with :math:`N_{jk}` the (weighted) number of rows in which the
    parents are in configuration :math:`j` and the child in state :math:`k`,

    .. math:: \theta_{jk} = \frac{N_{jk} + \alpha_{jk}}{\sum_l (N_{jl} + \alpha_{jl})}.

    Without a prior this maximises the likelihood. The distribution of a parent configuration that
    no row has is then undetermined; it is set to uniform, and ``history["unseen"]`` has the number
    of these configurations for each table. Learnable conditionals of other kinds are fitted to the
    same rows, in closed form if they have one (Gaussian, Poisson, ...) and by L-BFGS otherwise
    (logistic, noisy-or, networks); the prior applies to tables, and to ``Bernoulli`` and
    ``Multinomial`` if all outcomes have the same pseudo-count.

    Previous values of tables are ignored, but for zeros that were declared, by ``mask=`` or in a
    given table that is made learnable: a prior does not affect them, and rows that need them are an
    error.

    Given tables are constants; ``model.requires_grad_()`` makes all parameters learnable.

    Args:
        prior: ``Laplace``, ``BDeu``, ``K2`` or ``Dirichlet`` for tables; a :class:`ParameterPrior`,
            such as :class:`NormalPrior`, for parameters of other conditionals; a mapping from names
            of children to priors; or None. With a prior of tables, ``model.history["posterior"]``
            has the pseudo-counts of the Dirichlet posteriors by name, for ``Dirichlet(...)`` in a
            later fit (if all variables are discrete).
        max_iterations: Largest number of L-BFGS iterations per conditional without a closed form.

    Raises:
        ModelError: If ``prior`` is invalid.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([], states={"coin": ["head", "tail"]})
        >>> MaximumLikelihood(Laplace()).fit(model, {"coin": ["head", "head", "tail"]})
        >>> model.conditionals["coin"].probs
        tensor([0.6000, 0.4000], dtype=torch.float64, grad_fn=<ExpBackward0>)

    References:
        Koller and Friedman (2009), Probabilistic Graphical Models, sections 17.2 and 17.4.
    """

    prior: Prior | ParameterPrior | Mapping[Hashable, Any] | None = None
    max_iterations: int = 500

    def __post_init__(self) -> None:
        check_settings(self, max_iterations=1)
        if self.prior is not None and not isinstance(self.prior, Prior | ParameterPrior | Mapping):
            raise ModelError(
                "prior must be Laplace(...), BDeu(...), K2(), Dirichlet(...) or None, one of "
                "parameters such as NormalPrior(...), or a mapping from names of variables to "
                f"such, got {self.prior!r}"
            )

    def fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Mapping[Hashable, Tensor] | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        """Fit the learnable conditionals; the record is in ``model.history``.

        Args:
            model: A directed model.
            data: DataFrame, mapping of columns or matrix of states (see
                :class:`~pgnn.evidence.evidence_reader.EvidenceReader`), or an iterable of such
                batches, which is iterated once; or a Dask frame of discrete variables, which is
                counted on its partitions.
            weights: ``(N,)`` weight of each row, or the name of a column.
            inputs: Covariates ``(N, ...)`` by name.
            seed: Not used.
            progress: Show a progress bar over the batches of an iterable.

        Raises:
            DataError: If a cell is missing (use EM), a column or label is invalid, there are no
                rows, or one has an entry that was declared to be zero. After an error the model is
                unchanged.
            ModelError: If nothing is learnable, or the prior does not fit the tables.
            Unsupported: If the model is not directed, or conditionals share learnable parameters.

        Warns:
            NotConverged: If an iterative fit of a conditional did not converge.

        Cost:
            One increment per row and table. An iterable needs the memory of one batch; models with
            learnable conditionals of real variables, arrays or inputs do not support iterables.
        """
        if is_partitioned(data) and not _is_counted(model):
            fit_partitions(model, self, data, weights=weights, inputs=inputs, priors=self._priors)
            return
        if isinstance(model, SlicedModel):
            fit_slices(model, self, data, weights=weights, inputs=inputs)
            return
        if isinstance(model, ClosedFormModel):
            fit_closed_form(model, self, data, weights)
            return
        if isinstance(model, SolvableModel) and has_solution(model, data):
            fit_solved(model, self, data, weights, seed)
            return
        parts = _sort_out(model)
        self._check_prior(parts.learned_tables, {n: model.conditionals[n] for n in parts.learned})
        if parts.rowwise:
            fit_rows(model, self, data, weights=weights, inputs=inputs)
            return
        with fitting(model, self) as history:
            statistics = _counted(model, parts, data, weights, progress)
            verdicts = self._fit_others(parts, statistics)
            others = sum(statistics.log_likelihood(name) for name in parts.others)
            history.update(
                rows=statistics.num_rows,
                weight=statistics.weight,
                log_likelihood=others + self._fit_tables(parts, statistics),
                converged=all(v.converged for v in verdicts),
                **self._history_entries(parts, statistics),
            )
        for verdict in verdicts:
            verdict.warn()

    def partial_fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> None:
        """Add the counts of one more batch; see :meth:`Model.partial_fit`.

        Raises:
            DataError: If a cell is missing (use EM).
            ModelError: If nothing is learnable, or the prior does not fit.
            Unsupported: If an earlier fit did not keep its counts.
        """
        if model.history and RUNNING not in model.history:
            raise Unsupported(
                "partial_fit() of MaximumLikelihood() adds to the counts of earlier rows, which "
                f"{str(model.history.get('learner', 'another learner')).split('(')[0]} did not "
                "keep",
                "start with partial_fit() on a model that has not been fitted",
            )
        learn_from_batch(
            model,
            self,
            e_step_of,
            data,
            weights=weights,
            inputs=inputs,
            seed=seed,
            decay=None,
            priors=lambda e_step: self._priors(e_step.pieces),
            check=check_complete,
        )

    def _priors(self, pieces: Pieces) -> dict[Hashable, Any]:
        """Return the priors of the conditionals, by name."""
        if isinstance(self.prior, Mapping):
            return {n: prior for n, prior in self.prior.items() if n in pieces}
        return {} if self.prior is None else accepting(pieces, self.prior)

    def _history_entries(self, parts: _Parts, statistics: Statistics) -> dict[str, Any]:
        """Configurations without rows; posterior pseudo-counts; counts for further batches."""
        tables, of_all = parts.learned_tables, statistics.counts
        counts = {n: of_all[n] for n in tables}
        unobserved = {n: int((x.sum(axis=-1) == 0).sum()) for n, x in counts.items()}
        entries: dict[str, Any] = {
            "unseen": {n: number for n, number in unobserved.items() if number}
        }
        priors = {n: self.prior_of(c) for n, c in tables.items()}
        posterior = {
            n: counts[n] + p.counts(tables[n]) * tables[n].possible().numpy(force=True)
            for n, p in priors.items()
            if p is not None
        }
        if posterior:
            entries["posterior"] = posterior
        if len(counts) == len(parts.learned):
            means = {n: (x / statistics.weight,) for n, x in counts.items()}
            entries[RUNNING] = {"batches": 1, "weight": statistics.weight, "sums": means}
        return entries

    def prior_of(self, conditional: Conditional) -> Any:
        """Return the prior of a conditional, or None."""
        if isinstance(self.prior, Mapping):
            return self.prior.get(conditional.child.name)
        if isinstance(self.prior, ParameterPrior):
            return self.prior if self.prior.applies(conditional) else None
        closed = isinstance(conditional, ExponentialFamily) and conditional.accepts(self.prior)
        return self.prior if closed or isinstance(conditional, Tabular) else None

    def _fit_tables(self, parts: _Parts, statistics: Statistics) -> float:
        """Fit the learnable tables, in place; return the log-likelihood of all of them."""
        total, counts = 0.0, statistics.counts
        for name, table in parts.tables.items():
            if name in parts.learned:
                sums = torch.from_numpy(counts[name]).to(table.logits.device, torch.float64)
                table.make_uninformative()  # zeros of an earlier fit are possible again
                table.maximize((sums,), self.prior_of(table))
            elif not table.parents:
                _check_given(table, counts[name])
            total += _log_likelihood(counts[name], table)
        return total

    def _fit_others(self, parts: _Parts, statistics: Statistics) -> list[Convergence]:
        """Fit the other learnable conditionals, in place; return concerns."""
        learned = {n: c for n, c in parts.others.items() if n in parts.learned}
        fits = {
            n: fit_terms([statistics.term(n)], self.prior_of(c), self.max_iterations)
            for n, c in learned.items()
        }
        return [fit.judge(n, self.max_iterations) for n, fit in fits.items()]

    def _check_prior(
        self, tables: Mapping[Hashable, Tabular], learned: Mapping[Hashable, Conditional]
    ) -> None:
        """Check that the prior is valid for all tables, before one of them changes."""
        if isinstance(self.prior, Mapping):
            for name in self.prior:
                if name not in learned:
                    raise ModelError(
                        f"a prior is given for {name!r}, which is not learnable"
                        f"{closest(name, learned)}"
                    )
        if isinstance(self.prior, Prior):
            smoothed = {n: c for n, c in learned.items() if self.prior_of(c) is not None}
            self.prior.check(smoothed | {**tables})
        for table in tables.values():
            prior = self.prior_of(table)
            if isinstance(prior, Prior):
                prior.counts(table)
            elif prior is not None:
                raise ModelError(
                    f"the table of {table.child.name!r} needs a prior such as Laplace(), got "
                    f"{prior!r}"
                )


@dataclass(frozen=True)
class _Parts:
    """Conditionals grouped by the way they are fitted.

    Attributes:
        learned: Names of the learnable conditionals.
        tables: Tables, learnable or constant.
        others: Other conditionals that can be scored on state codes.
        rowwise: Whether conditionals of real variables, arrays or inputs are learned.
    """

    learned: frozenset[Hashable]
    tables: dict[Hashable, Tabular]
    others: dict[Hashable, Conditional]
    rowwise: bool

    @property
    def learned_tables(self) -> dict[Hashable, Tabular]:
        """The learnable tables."""
        return {n: c for n, c in self.tables.items() if n in self.learned}


def _is_counted(model: Any) -> bool:
    """Whether all learnable conditionals are estimated from counts of discrete columns."""
    special = isinstance(model, SlicedModel | ClosedFormModel | SolvableModel)
    return not special and all(v.is_discrete and not v.shape for v in model.variables.values())


def _sort_out(model: Any) -> _Parts:
    """Group a model's conditionals.

    Raises:
        ModelError: If nothing is learnable.
        Unsupported: If the model is not directed, or parameters are shared.
    """
    check_density(model)
    if not isinstance(model, DirectedModel):
        raise Unsupported(
            "MaximumLikelihood counts for directed models with a conditional for every node; "
            f"{type(model).__name__} has none",
            "learn with Gradient() or PseudoLikelihood()",
        )
    learned = frozenset(n for n, c in model.conditionals.items() if _is_learnable(c))
    if not learned:
        raise ModelError(
            "the model has nothing to learn: tables that were given, or read from a file, are "
            "constants",
            "call model.requires_grad_() to make all of them learnable",
        )
    check_owners(model.conditionals)
    tables: dict[Hashable, Tabular] = {}
    others: dict[Hashable, Conditional] = {}
    rowwise = False
    for name, conditional in model.conditionals.items():
        if isinstance(conditional, Tabular):
            tables[name] = conditional
        elif not conditional.inputs and all(
            v.is_discrete and not v.shape for v in conditional.scope
        ):
            others[name] = conditional
        else:
            rowwise |= name in learned
    return _Parts(learned, tables, others, rowwise)


def _is_learnable(conditional: Conditional) -> bool:
    return any(p.requires_grad for p in conditional.parameters())


def _counted(model: Any, parts: _Parts, data: Any, weights: Any, progress: bool) -> Statistics:
    """Count rows batch by batch, or partition by partition."""
    if is_partitioned(data):
        count = partial(_counted_rows, model, parts, weights)
        counted: Statistics = PartitionedFrame(data).read(count).total()
        return counted
    statistics = Statistics(model.variables, parts.tables, parts.others)
    reader = EvidenceReader(tuple(model.variables.values()))
    names = [v.name for v in statistics.variables]
    for number, batch, batch_weights in batches(data, weights, progress):
        try:
            statistics.add(reader.columns(batch, names), batch_weights)
        except DataError as error:
            if number is None:
                raise
            raise DataError(f"batch {number}: {error.reason}", error.advice) from None
    statistics.check()
    return statistics


def _counted_rows(model: Any, parts: _Parts, weights: Any, rows: Any) -> Statistics:
    return _counted(model, parts, rows, weights, progress=False)


def _check_given(table: Tabular, counts: NDArray[Any]) -> None:
    """Check that rows have no value that was excluded, as by do()."""
    zero = table.logits.detach().isneginf().cpu().numpy() & (counts > 0)
    if zero.any():
        raise contradiction(table, [int(axis[0]) for axis in zero.nonzero()])


def _log_likelihood(counts: NDArray[Any], table: Tabular) -> float:
    """Return the log-likelihood of the counts under a table."""
    observed = counts > 0
    log_probs = table.log_probs.detach().double().numpy(force=True)
    return float((counts[observed] * log_probs[observed]).sum())
