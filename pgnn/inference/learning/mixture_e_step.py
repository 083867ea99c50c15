"""The E-step of mixtures of models: responsibilities, and the E-steps of the components."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.abilities import Inputs, MixtureModel, MixtureOverTime
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.emission import kmeans
from pgnn.factors.sparse_rows import written_out
from pgnn.inference.component_rows import component_rows, joint_log_probs
from pgnn.inference.learning.e_step import EStep
from pgnn.inference.learning.expected_statistics import (
    ExpectedStatistics,
    StatisticsCollector,
    WeightedRows,
    learnable,
)
from pgnn.inference.learning.m_step import maximize
from pgnn.inference.learning.short_runs import start_by_short_runs
from pgnn.inference.learning.training_data import check_possible, read_rows, read_sequences

_SHARE = 0.1
"""How much of each row is spread over all components at a start."""


class MixtureEStep(EStep[Any]):
    r"""Responsibilities :math:`r_{nk} \propto \pi_k p_k(x_n)`, and expectations of the components.

    Each component learns from all rows, weighted by :math:`r_{nk}`, by its own E-step and M-step,
    so that its hidden variables and missing values are handled at the same time. Pieces of
    component ``k`` are called ``(k, name)``.

    Args:
        model: The mixture.
        parts: The E-steps of its components.
    """

    model: MixtureModel

    def __init__(self, model: Any, parts: Sequence[EStep[Any]]) -> None:
        super().__init__(model)
        self.parts = list(parts)
        self._class_conditional = learnable({model.class_name: model.weights})
        self._pieces: dict[Hashable, Conditional] = dict(self._class_conditional)
        for k, part in enumerate(self.parts):
            self._pieces |= {(k, n): c for n, c in part.pieces.items()}
        self._known: tuple[Any, Any] | None = None

    @property
    def pieces(self) -> Mapping[Hashable, Conditional]:
        """The weights, and all conditionals of the components."""
        return self._pieces

    @property
    def learns_other_parameters(self) -> bool:
        """Whether a component does."""
        return any(part.learns_other_parameters for part in self.parts)

    @property
    def states(self) -> Sequence[Hashable]:
        """The labels of the components."""
        return tuple(self.model.weights.child.states or ())

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Read rows, or sequences."""
        if isinstance(self.model, MixtureOverTime):
            return read_sequences(self.model, data, weights, inputs)
        return read_rows(self.model, data, weights, inputs)

    def prepare(self, observed: Any) -> None:
        """Choose the origins of the components, see :class:`EStep`."""
        known, _ = component_rows(self.model, observed)
        for part in self.parts:
            part.prepare(known)

    def expect(self, observed: Any) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`; equal rows are evaluated once."""
        known, classes = component_rows(self.model, self._distinct(observed))
        joint = self._joint(known, classes)
        log_z = joint.logsumexp(dim=1)
        check_possible(known, log_z)
        weights = torch.from_numpy(known.row_weights)
        share = (joint - log_z.nan_to_num(neginf=0.0)[:, None]).exp() * weights[:, None]
        expected = self._counted(known, share)
        return replace(expected, log_likelihood=float(known.weighted_sum(log_z)))

    def improve(
        self, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
    ) -> list[Hashable]:
        """Set the weights, and run the M-step of each component."""
        stuck = maximize(self._class_conditional, expected, priors)
        for k, part in enumerate(self.parts):
            improved = part.improve(
                replace(expected, sums=_of(k, expected.sums), rows=_of(k, expected.rows)),
                _of(k, priors),
            )
            stuck += [(k, n) for n in improved]
        return stuck

    def log_prior(self, priors: Mapping[Hashable, Any]) -> float:
        """Return the log prior, including those of the components."""
        inner = [part.log_prior(_of(k, priors)) for k, part in enumerate(self.parts)]
        log_density = super().log_prior(
            {n: p for n, p in priors.items() if n in self._class_conditional}
        )
        return log_density + sum(inner)

    def log_partition(self, observed: Any) -> Tensor:
        """Return ``(B,)`` log probabilities of the observations."""
        return self._joint(*component_rows(self.model, observed)).logsumexp(dim=1)

    def completed(self, observed: Any) -> Any:
        """Return rows, or sequences, with their most probable components, see :class:`EStep`.

        Hidden states of the components are not filled in, but summed out.
        """
        best = self._joint(*component_rows(self.model, observed)).argmax(dim=1)
        if not isinstance(observed, RowEvidence):
            return replace(observed, labels=best)
        codes = observed.codes.copy()
        codes[:, 0] = best.numpy()
        return replace(observed, codes=codes)

    def symmetric(self, observed: Any) -> bool:
        """Whether the components are identical or unset, or one has interchangeable states."""
        known, classes = component_rows(self.model, self._distinct(observed))
        unlabelled = classes is None and len(self.parts) > 1
        arbitrary = unlabelled and (self._is_unset or self._are_alike(known))
        return arbitrary or any(part.symmetric(known) for part in self.parts)

    def initialize(self, observed: Any, seed: int, at_random: bool) -> None:
        """Initialise each component by a cluster of the rows, with small weights of all others.

        Components of different kinds take the clusters with which short runs are best. If some rows
        are labelled with their component, by those instead, with small weights of the rest, so that
        no value of it is impossible.

        References:
            Nigam, McCallum, Thrun and Mitchell (2000), Text classification from labeled and
            unlabeled documents using EM, section 3.
        """
        distinct = self._distinct(observed)
        known, classes = component_rows(self.model, distinct)
        generator = torch.Generator().manual_seed(seed)
        size = len(self.parts)
        labels = self._clusters(known, generator, at_random) if classes is None else classes
        rest = torch.empty(known.num_rows, size, dtype=torch.float64)
        rest.exponential_(generator=generator)
        share, given = rest / rest.sum(1, keepdim=True), one_hot(labels.clamp_min(0), size).double()
        if classes is None:
            share = (1 - _SHARE) * given + _SHARE * share
        else:
            labelled = classes >= 0
            few = _SHARE * int(labelled.sum()) / max(1, int((~labelled).sum()))
            share = torch.where(labelled[:, None], given, min(few, 1.0) * share)
        alike = self._are_alike(known)
        for k, part in enumerate(self.parts):
            own = known if classes is None else _labelled(known, classes == k)
            part.initialize(own, seed + k, at_random or (k > 0 and own is known))
        if classes is None and not alike:
            start_by_short_runs(self, distinct, share, self._shared_out, generator)
        else:
            self.improve(self._shared_out(distinct, share), {})

    # --- helpers ------------------------------------------------------------------------------

    @property
    def _is_unset(self) -> bool:
        """Whether no component has learned, or been given, parameters that are learnable."""
        pieces = [c for part in self.parts for c in part.pieces.values()]
        return bool(pieces) and all(c.is_unset for c in pieces) and not self.learns_other_parameters

    def _are_alike(self, known: Any) -> bool:
        """Whether all components assign the same probabilities."""
        logs = torch.stack([part.log_partition(known) for part in self.parts], dim=1)
        return bool((logs - logs[:, :1]).nan_to_num(nan=0.0).abs().amax() <= 1e-12)

    def _joint(self, known: Any, classes: Tensor | None) -> Tensor:
        """``(B, K)`` joint log probabilities of the rows and each component."""
        with torch.no_grad():
            logs = [part.log_partition(known) for part in self.parts]
            return joint_log_probs(self.model, logs, classes)

    def _shared_out(self, observed: Any, share: Tensor) -> ExpectedStatistics:
        """The expectations of rows with shares ``(B, K)``, where they are possible."""
        known, _ = component_rows(self.model, observed)
        logs = torch.stack([part.log_partition(known) for part in self.parts], dim=1)
        possible = ~logs.isneginf() | logs.isneginf().all(dim=1, keepdim=True)
        kept = share * possible
        kept = torch.where(kept.sum(dim=1, keepdim=True) > 0, kept, possible.double())
        kept = kept / kept.sum(dim=1, keepdim=True) * share.sum(dim=1, keepdim=True)
        return self._counted(known, kept * torch.from_numpy(known.row_weights)[:, None])

    def _counted(self, known: Any, share: Tensor) -> ExpectedStatistics:
        """The expectations under weights ``(B, K)``."""
        collector = StatisticsCollector()
        for name, conditional in self._class_conditional.items():
            collector.add_counts(name, conditional, share.sum(dim=0), WeightedRows({}, {}, share))
        for k, part in enumerate(self.parts):
            expected = part.expect(
                replace(known, weights=np.ascontiguousarray(share[:, k].numpy()))
            )
            for name, sums in expected.sums.items():
                collector.add_sums((k, name), sums)
            for name, rows in expected.rows.items():
                collector.add_rows((k, name), rows)
        return collector.collected(0.0, float(share.sum()), share.sum(dim=0))

    def _distinct(self, observed: Any) -> Any:
        """The distinct rows; those of the last call are cached."""
        if not isinstance(observed, RowEvidence):
            return observed
        if self._known is None or self._known[0] is not observed:
            self._known = observed, observed.merged()
        return self._known[1]

    def _clusters(self, known: Any, generator: torch.Generator, at_random: bool) -> Tensor:
        """``(B,)`` a component for each row: clusters of rows, at random for sequences."""
        size = len(self.parts)
        if not isinstance(known, RowEvidence):
            return torch.randint(size, (known.num_rows,), generator=generator)
        features = _features(self.model, known)
        return kmeans(features, size, generator, 0 if at_random else 20)


def _features(model: MixtureModel, known: RowEvidence) -> Tensor:
    """``(B, D)`` rows as features; means replace missing values."""
    elements = model.components[0].elements
    codes = torch.from_numpy(known.codes).long()
    columns = [torch.zeros(len(codes), 1, dtype=torch.float64)]
    for e, card in enumerate(elements.card.tolist()):
        hot = one_hot(codes[:, e].clamp_min(0), card)[:, 1:].double()
        columns.append(hot.masked_fill((codes[:, e] < 0).unsqueeze(-1), torch.nan))
    for name, x in known.reals.items():
        columns.append(written_out(name, x).double().reshape(len(codes), -1))
    table = torch.cat(columns, dim=1)
    return torch.where(table.isnan(), table.nanmean(dim=0).nan_to_num(), table)


def _labelled(known: Any, own: Tensor) -> Any:
    """The rows of a component; all rows if it has none."""
    return known.take(own.nonzero()[:, 0].numpy()) if bool(own.any()) else known


def _of(k: int, named: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """The entries of one component, by its own names."""
    return {n[1]: x for n, x in named.items() if isinstance(n, tuple) and n[0] == k}
