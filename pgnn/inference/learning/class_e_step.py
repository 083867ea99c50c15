"""Expected statistics of a class and its conditionally independent features."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import ClassModel
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.factors.finite import all_finite
from pgnn.factors.sparse_rows import is_sparse
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    StatisticsCollector,
    Values,
    WeightedRows,
)
from pgnn.inference.learning.table_e_step import NetworkEStep
from pgnn.inference.learning.training_data import check_possible

_NUMBERS = 2**20
"""Number of values of a chunk of rows, which fits into the cache."""


class Block(NamedTuple):
    """A block of rows.

    Attributes:
        observed: ``(n, ...)`` state indices (-1: not observed) and reals of the observations, by
            name.
        inputs: Covariates.
        weights: ``(n,)`` weight of each row.
        class_logs: ``(n, K)`` log-likelihoods of the classes; None if no evidence is soft.
    """

    observed: Values
    inputs: Values
    weights: Tensor
    class_logs: Tensor | None


class ClassEStep(NetworkEStep):
    r"""Expectations under a class model: posteriors of the class, and statistics of the features.

    .. math:: r_{nk} \propto p(k) \prod_i p(x_{ni} \mid k)

    An unobserved feature integrates to one and contributes no statistics. Rows with likelihoods of
    features are left to the base class.

    Cost:
        ``O(N K D)`` for features of ``D`` numbers, ``O(N K D^2)`` for full covariances.
    """

    model: ClassModel

    def expect(self, observed: RowEvidence) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`."""
        if self._has_soft_features(observed):
            return super().expect(observed)
        observed = self._distinct(observed)
        collector, total = StatisticsCollector(), 0.0
        occupancy: Tensor | None = None
        logs: list[Tensor] = []
        with torch.no_grad():
            for block in self._blocks(observed):
                joint = self._joint(block)
                log_z = joint.logsumexp(dim=1)
                logs.append(log_z)
                share = (joint - log_z.nan_to_num(neginf=0.0).unsqueeze(1)).exp_()
                share *= block.weights.to(share).unsqueeze(1)
                self._count(block, share, collector)
                counts = share.sum(dim=0)
                occupancy = counts if occupancy is None else occupancy + counts
            log_evidence = torch.cat(logs)
        check_possible(observed, log_evidence, self.model)
        log_evidence += torch.from_numpy(observed.soft_scale)
        total = float(observed.weighted_sum(log_evidence))
        return collector.collected(total, float(observed.row_weights.sum()), occupancy)

    def completed(self, observed: RowEvidence) -> RowEvidence:
        """Return rows with their most probable states, see :class:`EStep`."""
        column = int(self.model.elements.numbers(self.model.class_name))
        features = np.delete(observed.codes, column, axis=1)
        if (features < 0).any() or self._has_soft_features(observed):
            return super().completed(observed)
        with torch.no_grad():
            best = torch.cat([self._joint(b).argmax(dim=1) for b in self._blocks(observed)])
        codes = observed.codes.copy()
        codes[:, column] = best.numpy()
        return replace(observed, codes=codes)

    def log_partition(self, observed: RowEvidence) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        if self._has_soft_features(observed):
            return super().log_partition(observed)
        with torch.no_grad():
            logs = torch.cat([self._joint(b).logsumexp(dim=1) for b in self._blocks(observed)])
        return logs + torch.from_numpy(observed.soft_scale)

    @property
    def states(self) -> tuple[Hashable, ...]:
        """The states of the class."""
        return tuple(self.model.variables[self.model.class_name].states or ())

    # --- helpers ------------------------------------------------------------------------------

    def _has_soft_features(self, observed: RowEvidence) -> bool:
        """Whether some row has likelihoods of a feature."""
        if observed.soft is None:
            return False
        of_features = np.ones(observed.soft.shape[1], dtype=np.bool_)
        of_features[self._class_columns] = False
        return bool((observed.soft[:, of_features] != 1.0).any())

    @property
    def _class_columns(self) -> slice:
        """Columns of the states of the class among those of all elements."""
        number = int(self.model.elements.numbers(self.model.class_name))
        first, last = self.model.elements.offset[number : number + 2].tolist()
        return slice(first, last)

    def _blocks(self, observed: RowEvidence) -> Iterator[Block]:
        """Yield chunks of rows."""
        known: dict[Hashable, Tensor] = dict(observed.reals)
        codes = torch.from_numpy(observed.codes)
        for name, v in self.model.variables.items():
            if v.is_discrete:
                elements = torch.from_numpy(self.model.elements.numbers(name)).reshape(-1)
                x = codes[:, elements].long()
                if bool((x >= 0).any()):
                    known[name] = x.reshape(observed.num_rows, *v.shape)
        weights = torch.from_numpy(observed.row_weights)
        soft = observed.soft
        logs = None if soft is None else torch.from_numpy(soft[:, self._class_columns]).log()
        width = max((x[0].numel() for x in known.values()), default=1)
        step = max(1024, _NUMBERS // max(1, width))
        if any(is_sparse(x) for x in known.values()):
            step = max(1, observed.num_rows)
        for first in range(0, observed.num_rows, step):
            if step >= observed.num_rows:
                yield Block(known, observed.inputs, weights, logs)
                return
            rows = slice(first, first + step)
            yield Block(
                {n: x[rows] for n, x in known.items()},
                {n: x[rows] for n, x in observed.inputs.items()},
                weights[rows],
                None if logs is None else logs[rows],
            )

    def _joint(self, block: Block) -> Tensor:
        """``(n, K)`` joint log probabilities of each class and the observations."""
        name, rows = self.model.class_name, len(block.weights)
        piece = self.conditionals[name]
        covariates = {n: block.inputs[n] for n in piece.inputs if n in block.inputs}
        table = piece.factor(None, covariates or None).log_values.double()
        table = table.expand(rows, table.shape[-1])
        for feature, conditional in self.conditionals.items():
            if feature != name and feature in block.observed:
                table = table + self._log_density(conditional, block)
        if name in block.observed:
            states = block.observed[name]
            other = one_hot(states.clamp_min(0), table.shape[1]) == 0
            table = table.masked_fill(other & (states >= 0).unsqueeze(1), -torch.inf)
        if block.class_logs is not None:
            excluded = block.class_logs.isneginf()  # other than a sum, with infinite densities too
            table = (table + block.class_logs.to(table)).masked_fill(excluded, -torch.inf)
        return table

    def _log_density(self, conditional: Conditional, block: Block) -> Tensor:
        """``(n, K)`` log densities of a feature; zeros in rows that did not observe it."""
        x, unobserved = _filled(conditional, block.observed[conditional.child.name])
        inputs = {n: block.inputs[n] for n in conditional.inputs if n in block.inputs}
        table = conditional.factor({conditional.child.name: x}, inputs or None).log_values.double()
        return table if unobserved is None else table.masked_fill(unobserved.unsqueeze(1), 0.0)

    def _count(self, block: Block, share: Tensor, collector: StatisticsCollector) -> None:
        """Add the statistics of some rows."""
        for name, conditional in self.pieces.items():
            inputs = {n: block.inputs[n] for n in conditional.inputs if n in block.inputs}
            if name == self.model.class_name:
                rows = WeightedRows({}, inputs, share)
                collector.add_counts(name, conditional, share.sum(dim=0), rows)
            elif name in block.observed:
                x, unobserved = _filled(conditional, block.observed[name])
                w = share if unobserved is None else share.masked_fill(unobserved.unsqueeze(1), 0.0)
                if isinstance(conditional, ExponentialFamily) and not inputs:
                    collector.add_sums(name, conditional.statistics({name: x}, w))
                else:
                    collector.add_rows(name, WeightedRows({name: x}, inputs, w))


def _filled(conditional: Conditional, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return values with missing components replaced, and their rows; or the values themselves."""
    if conditional.integrates_missing or is_sparse(x):
        return x, None
    if conditional.child.is_discrete:
        hole = x < 0
        x = x.clamp_min(0)
    elif all_finite(x):
        return x, None
    else:
        hole = x.isnan()
        x = x.nan_to_num()
    rows = hole.reshape(len(x), -1).any(dim=1)
    return x, rows if bool(rows.any()) else None
