"""The mean log-likelihood of rows as a function of a model's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import Inputs, LikelihoodModel
from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.engine import Engine
from pgnn.inference.exact.evaluated_model import EvaluatedModel
from pgnn.inference.factor_graph import Codes, FactorGraph, Floats
from pgnn.inference.learning.fit_context import parts_in_mode
from pgnn.inference.learning.optimisation_problem import DrawingObjective, Mean
from pgnn.inference.question import Question

_ENTRIES = 2**22
"""Largest number of elements and factors of rows that are looked up at once."""


class LikelihoodObjective:
    r"""Mean of :math:`\log \tilde p(x_n) - \log Z`, missing cells summed out by an engine.

    Complete rows are summarised by the counts of all table entries, computed once. Directed models
    are normalised, without :math:`Z`.

    Args:
        model: A model with factors over discrete variables.
        engine: Engine with a differentiable log evidence.
    """

    figure: str | None = "log_likelihood"

    def __init__(self, model: Any, engine: Engine) -> None:
        self.model, self.engine = model, engine
        self.normalized = model.is_normalized

    def __call__(self, rows: RowEvidence) -> Mean:
        """Return a function that returns the scalar mean of some rows."""
        if rows.reals and not self.normalized:
            raise Unsupported("an undirected model of real variables has no known normaliser")
        rows = rows.merged()
        full = rows.complete
        parts: list[tuple[float, Mean]] = []
        for which in (full, ~full):
            if which.any():
                batch = rows.take(np.flatnonzero(which))
                share = float(batch.row_weights.sum() / rows.row_weights.sum())
                parts.append(
                    (share, self._rowwise(batch) if rows.rowwise else self._shared_tables(batch))
                )

        def mean() -> Tensor:
            total = torch.stack([share * part() for share, part in parts]).sum()
            if self.normalized or rows.rowwise:
                return total
            return total - self._evidence(self.model, None, rows)

        return mean

    def _shared_tables(self, rows: RowEvidence) -> Mean:
        """Return the mean log score of rows with shared tables, without log Z."""
        if not rows.complete.all():
            return lambda: self._evidence(self.model, rows, rows)
        groups = self.model.factor_groups()
        counts = counted(FactorGraph(self.model.elements, groups), rows.codes, rows.row_weights)
        shares = [c / rows.row_weights.sum() for c in counts]
        return lambda: dotted(self.model.factor_groups(), shares)

    def _rowwise(self, rows: RowEvidence) -> Mean:
        """Return the mean log-likelihood of rows with row-wise tables."""
        complete = bool(rows.complete.all())

        def mean() -> Tensor:
            model = self.model if self.normalized else EvaluatedModel(self.model)
            if complete:
                total = _mean(_graph(model, rows).log_score(rows.codes), rows)
            else:
                total = self._evidence(model, rows, rows)
            return total if self.normalized else total - self._evidence(model, None, rows)

        return mean

    def _evidence(self, model: Any, observed: RowEvidence | None, rows: RowEvidence) -> Tensor:
        """Return the mean log evidence; without evidence the log partition function."""
        log_z = self.engine.log_prob(model, observed, inputs=rows.inputs or None)
        if torch.is_grad_enabled() and not log_z.requires_grad:
            raise Unsupported(
                f"the log evidence of {type(self.engine).__name__} is not differentiable",
                "learn with JunctionTree(), BeliefPropagation() or a sampling engine such as "
                "Gibbs()",
            )
        return _mean(log_z, rows)


class SampledObjective(LikelihoodObjective, DrawingObjective):
    r"""An objective whose gradient is that of the log-likelihood, estimated by samples.

    .. math:: \nabla \frac{1}{N} \sum_n \log p(x_n) \approx
        \hat E_{\text{data}} \nabla \log \tilde p(x) - \hat E_{\text{draws}} \nabla \log \tilde p(x)

    Its value, the difference of the averages, is not meaningful.

    Args:
        model: See :class:`LikelihoodObjective`.
        engine: Sampling engine.
        num_samples: Number of samples per gradient (at least one for each row with missing cells).
        seed: Random seed of the samples, which are new for each gradient.
    """

    figure: str | None = None

    def __init__(self, model: Any, engine: Engine, num_samples: int, seed: int | None) -> None:
        super().__init__(model, engine)
        self.num_samples = num_samples
        self._random = np.random.default_rng(seed)

    def random_state(self) -> Any:
        """See :class:`DrawingObjective`."""
        return self._random.bit_generator.state

    def resume(self, random_state: Any) -> None:
        """See :class:`DrawingObjective`."""
        self._random.bit_generator.state = random_state

    def _evidence(self, model: Any, observed: RowEvidence | None, rows: RowEvidence) -> Tensor:
        """Return the mean log score of samples, given the evidence if any."""
        inputs = rows.inputs or None
        batched = observed is not None or inputs is not None
        number = -(-self.num_samples // rows.num_rows) if batched else self.num_samples
        seed = int(self._random.integers(2**31))
        with torch.no_grad():
            drawn = self.engine.sample(model, number, observed, inputs=inputs, seed=seed)
        if drawn.log_weights is not None:
            raise Unsupported(
                f"draws of {type(self.engine).__name__} are weighted",
                "learn with Gibbs() or JunctionTree()",
            )
        codes = drawn.codes.cpu().numpy().astype(np.int32)
        if rows.rowwise:
            graph = _graph(model, rows)
            return torch.stack([_mean(graph.log_score(c), rows) for c in codes]).mean()
        counts = codes.reshape(-1, codes.shape[-1])
        weights = np.tile(rows.row_weights, number) if batched else np.ones(number)
        groups = self.model.factor_groups()
        drawn_counts = counted(FactorGraph(self.model.elements, groups), counts, weights)
        return dotted(groups, [c / weights.sum() for c in drawn_counts])


def only_draws(engine: Engine, model: Any, rows: RowEvidence) -> bool:
    """Whether an engine samples from a model but has no log partition function.

    Raises:
        Unsupported: If it supports neither; the message is that of the log partition function.
    """
    holes = np.flatnonzero(~np.asarray(rows.complete))
    one = rows.take(holes[:1] if len(holes) else np.zeros(1, dtype=np.int64))
    # with real variables there is no sum over all: query one of the rows
    observed_row: RowEvidence | None = one if model.is_normalized else None
    try:
        with parts_in_mode(model, train=False), torch.no_grad():
            log_z = engine.log_prob(model, observed_row, inputs=one.inputs or None)
    except Unsupported:
        if not _draws(engine, model, observed_row, one.inputs or None):
            raise
        return True
    return bool(log_z.isnan().any())


def _draws(
    engine: Engine, model: Any, observed_row: RowEvidence | None, inputs: Inputs | None
) -> bool:
    """Whether an engine samples from a model."""
    try:
        with parts_in_mode(model, train=False), torch.no_grad():
            engine.sample(model, 1, observed_row, inputs=inputs, seed=0)
    except Unsupported:
        return False
    return True


def counted(graph: FactorGraph, codes: Codes, weights: Floats) -> list[Tensor]:
    """Return the weighted counts of the parameters of each group in complete rows.

    The log score is linear in the parameters, with these counts as its gradient.

    Args:
        graph: Groups of factors, none of them row-wise.
        codes: ``(N, E)`` states, none missing.
        weights: ``(N,)`` weight of each row.

    Returns:
        Counts, shaped like the parameters of each group; like its tables if it is not linear.
    """
    groups = [linear(g) for g in graph.groups]
    leaves = [torch.zeros_like(g.numbers, requires_grad=True) for g in groups]
    blank = [g.with_numbers(n) for g, n in zip(groups, leaves, strict=True)]
    counts = [torch.zeros_like(n) for n in leaves]
    if not leaves:
        return counts
    step = max(1, _ENTRIES // (len(graph.elements) + graph.num_interactions + 1))
    for first in range(0, len(codes), step):
        with torch.enable_grad():
            part = FactorGraph(graph.elements, tuple(blank))
            scores = part.log_score(codes[first : first + step])
            total = (scores * torch.from_numpy(weights[first : first + step]).to(scores)).sum()
        for n, more in zip(
            counts, torch.autograd.grad(total, leaves, materialize_grads=True), strict=True
        ):
            n += more
    return counts


def dotted(groups: Sequence[FactorGroup], counts: Sequence[Tensor]) -> Tensor:
    """Return the sum of parameters times counts; with zero counts they may be infinite."""
    total = torch.zeros((), dtype=torch.float64)
    for g, c in zip((linear(g) for g in groups), counts, strict=True):
        kept = g.numbers.masked_fill(c == 0, 0.0)
        total = total.to(kept.device) + (kept.double() * c).sum()
    return total


def linear(g: FactorGroup) -> FactorGroup:
    """Return a group whose log values are linear in its parameters."""
    return g if g.is_linear else g.as_tables()


def _graph(model: Any, rows: RowEvidence) -> FactorGraph:
    return Question.read(model, rows, rows.inputs or None).graph


def _mean(values: Tensor, rows: RowEvidence) -> Tensor:
    """Return the weighted mean of ``(N,)`` values, or of a shared value."""
    if not values.dim():
        return values
    return (values.double() * rows.shares(values.double())).sum()


class SequenceObjective:
    r"""Mean of :math:`\log p(x_n)` over sequences, with states summed out.

    Args:
        model: A model over time.
        engine: Engine that sums out states; the model's default if not given.
    """

    figure: str | None = "log_likelihood"

    def __init__(self, model: Any, engine: Engine | None) -> None:
        self.model, self.engine = model, engine

    def __call__(self, rows: SequenceEvidence) -> Mean:
        """Return a function that returns the scalar mean of some sequences."""
        if isinstance(self.model, LikelihoodModel) and self.engine is None:
            log_probs = self.model.log_likelihood(rows)
        else:
            log_probs = partial(self._by_engine, rows)
        return lambda: rows.weighted_sum(log_probs().double()) / float(rows.row_weights.sum())

    def _by_engine(self, rows: SequenceEvidence) -> Tensor:
        log_z: Tensor = self.model.log_prob(rows, inputs=rows.inputs or None, engine=self.engine)
        if torch.is_grad_enabled() and not log_z.requires_grad:
            raise Unsupported(
                f"the log evidence of {type(self.engine).__name__} is not differentiable",
                "leave out engine=",
            )
        return log_z
