"""Learning from complete data: counting for tables, L-BFGS for other conditionals."""

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
from pgnn.inference.history import RUNNING
from pgnn.inference.learner import Learner
from pgnn.inference.learning.closed_form import fit_closed_form
from pgnn.inference.learning.complete_rows import fit_rows
from pgnn.inference.learning.complete_sequences import fit_slices
from pgnn.inference.learning.conditional_fit import fit_conditional
from pgnn.inference.learning.e_steps import e_step_of
from pgnn.inference.learning.expected_statistics import Pieces, check_owners
from pgnn.inference.learning.m_step import accepting
from pgnn.inference.learning.partitioned_e_step import fit_partitions
from pgnn.inference.learning.penalised_fit import fit_penalised
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
    r"""Relative frequencies of complete rows, smoothed by a Dirichlet prior if there is one.

    For every learnable table, with :math:`N_{jk}` the (weighted) number of rows in which the
    parents are in configuration :math:`j` and the child in state :math:`k`,

    .. math:: \theta_{jk} = \frac{N_{jk} + \alpha_{jk}}{\sum_l (N_{jl} + \alpha_{jl})}.

    Without a prior this maximises the likelihood. A parent configuration that no row has then
    leaves its row of the table free; it becomes uniform, and ``history["unseen"]`` tells for each
    table how many such rows there were. Learnable conditionals of other kinds are fitted to the
    same rows, in closed form where they have one (Gaussian, Poisson, ...) and by L-BFGS otherwise
    (logistic, noisy-or, networks); the prior applies to tables, and to ``Bernoulli`` and
    ``Multinomial`` if it gives each outcome the same pseudo-count.

    Tables are learned anew, whatever they were before. Over time zeros of a table are structural: a
    prior adds nothing to them, and they stay zero until something is counted for them.

    Tables that were given are constants and stay: ``model.requires_grad_()`` makes everything
    learnable.

    Args:
        prior: ``Laplace``, ``BDeu``, ``K2`` or ``Dirichlet``; none for plain frequencies. A
            :class:`ParameterPrior`, such as :class:`NormalPrior`, of parameters of other kinds. Or
            by name of the child, any that its conditional takes. With one of tables,
            ``model.history["posterior"]`` has the pseudo-counts of the tables' Dirichlet posteriors
            by name, for ``Dirichlet(...)`` in a next fit (where all variables are discrete).
        max_iterations: Most L-BFGS iterations for each conditional that is no table.

    Raises:
        ModelError: If ``prior`` is no prior.

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
                batches, which is read once and never held; or a Dask frame of discrete variables,
                which is counted where its partitions are.
            weights: ``(N,)`` weight of each row, or the name of a column.
            inputs: Covariates ``(N, ...)`` by name, of conditionals that depend on some.
            seed: Not used: nothing is random.
            progress: Show a progress bar over the batches of an iterable.

        Raises:
            DataError: If a cell is missing (use EM), a column or label is wrong, or there are no
                rows. The model stays as it was, whatever is raised.
            ModelError: If nothing is learnable, or the prior does not fit the tables.
            Unsupported: If the model is not directed, or conditionals share learnable parameters.

        Cost:
            One increment for each row and table. An iterable needs the memory of one batch; models
            with learnable conditionals of real variables, arrays or inputs take no iterable.
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
            total = self._fit_others(parts, statistics) + self._fit_tables(parts, statistics)
            told = {"rows": statistics.num_rows, "weight": statistics.weight}
            history.update(told, log_likelihood=total, **self._told(parts, statistics))

    def partial_fit(
        self,
        model: Any,
        data: Any,
        *,
        weights: Any = None,
        inputs: Inputs | None = None,
        seed: int | None = None,
    ) -> None:
        """Count one batch more, all of them alike; see :meth:`Model.partial_fit`.

        Raises:
            DataError: If a cell is missing (use EM).
            ModelError: If nothing is learnable, or the prior does not fit.
            Unsupported: If an earlier fit did not keep what its rows told.
        """
        if model.history and RUNNING not in model.history:
            raise Unsupported(
                "partial_fit() of MaximumLikelihood() goes on from what earlier rows told, which "
                f"{str(model.history.get('learner', 'another learner')).split('(')[0]} did not "
                "keep: begin with partial_fit(), on a model that was not fitted yet"
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
        """The priors of the conditionals that they apply to, by name."""
        if isinstance(self.prior, Mapping):
            return {n: prior for n, prior in self.prior.items() if n in pieces}
        return {} if self.prior is None else accepting(pieces, self.prior)

    def _told(self, parts: _Parts, statistics: Statistics) -> dict[str, Any]:
        """What was never counted; pseudo-counts of posteriors; and sums for further batches."""
        tables, of_all = parts.learned_tables, statistics.counts
        counts = {n: of_all[n] for n in tables}
        unobserved = {n: int((x.sum(axis=-1) == 0).sum()) for n, x in counts.items()}
        told: dict[str, Any] = {"unseen": {n: number for n, number in unobserved.items() if number}}
        priors = {n: self.prior_of(c) for n, c in tables.items()}
        posterior = {n: counts[n] + p.counts(tables[n]) for n, p in priors.items() if p is not None}
        if posterior:
            told["posterior"] = posterior
        if len(counts) == len(parts.learned):
            means = {n: (x / statistics.weight,) for n, x in counts.items()}
            told[RUNNING] = {"batches": 1, "weight": statistics.weight, "sums": means}
        return told

    def prior_of(self, conditional: Conditional) -> Any:
        """Return the prior that applies to a conditional; None without one."""
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
                with torch.no_grad():
                    table.logits.zero_()  # what an earlier fit made zero is possible again
                table.maximize((sums,), self.prior_of(table))
            total += _log_likelihood(counts[name], table)
        return total

    def _fit_others(self, parts: _Parts, statistics: Statistics) -> float:
        """Fit those that are no tables, if learnable, in place; return what all of them say."""
        total = 0.0
        for name, conditional in parts.others.items():
            term = statistics.term(name)
            if name in parts.learned:
                prior = self.prior_of(conditional)
                if prior is None:
                    fit_conditional(term, self.max_iterations)
                else:
                    fit_penalised([term], prior, self.max_iterations)
            with torch.no_grad():
                total += float(term.value())
        return total

    def _check_prior(
        self, tables: Mapping[Hashable, Tabular], learned: Mapping[Hashable, Conditional]
    ) -> None:
        """Check that the prior fits all tables, before one of them changes."""
        if isinstance(self.prior, Mapping):
            for name in self.prior:
                if name not in learned:
                    raise ModelError(
                        f"a prior is given for {name!r}, which is nothing to learn"
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
                    f"the table of {table.child.name!r} takes a prior such as Laplace(), got "
                    f"{prior!r}"
                )


@dataclass(frozen=True)
class _Parts:
    """Conditionals by what is done with them.

    Attributes:
        learned: Names of those that are learnable.
        tables: Tables, learnable or constant.
        others: Other conditionals that can be scored on state codes.
        rowwise: Whether others still, of real variables, arrays or inputs, are learned.
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
    """Whether what the model learns is counted in discrete columns."""
    special = isinstance(model, SlicedModel | ClosedFormModel | SolvableModel)
    return not special and all(v.is_discrete and not v.shape for v in model.variables.values())


def _sort_out(model: Any) -> _Parts:
    """Split a model's conditionals.

    Raises:
        ModelError: If nothing is learnable.
        Unsupported: If the model is not directed, or parameters are shared.
    """
    check_density(model)
    if not isinstance(model, DirectedModel):
        raise Unsupported(
            "MaximumLikelihood counts for directed models with a conditional at every node; "
            f"{type(model).__name__} has none: learn with Gradient() or PseudoLikelihood()"
        )
    learned = frozenset(n for n, c in model.conditionals.items() if _is_learnable(c))
    if not learned:
        raise ModelError(
            "the model has nothing to learn: tables that were given, or read from a file, are "
            "constants; call model.requires_grad_() to make all of them learnable"
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
    """Count rows, batch by batch, or partition by partition where they are."""
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
            raise DataError(f"batch {number}: {error}") from None
    statistics.check()
    return statistics


def _counted_rows(model: Any, parts: _Parts, weights: Any, rows: Any) -> Statistics:
    return _counted(model, parts, rows, weights, progress=False)


def _log_likelihood(counts: NDArray[Any], table: Tabular) -> float:
    """Log-likelihood of the counts under a table."""
    observed = counts > 0
    log_probs = table.log_probs.detach().double().numpy(force=True)
    return float((counts[observed] * log_probs[observed]).sum())
