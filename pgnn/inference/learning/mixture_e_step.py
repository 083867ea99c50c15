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
from pgnn.errors import Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.emission import kmeans
from pgnn.factors.sparse_rows import written_out
from pgnn.factors.variable import MISSING
from pgnn.inference.component_rows import (
    ComponentRows,
    component_rows,
    element_order,
    joint_log_probs,
)
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
    def takes_likelihoods(self) -> bool:  # type: ignore[override]
        """Whether the components do; those of the component itself are always possible."""
        return all(part.takes_likelihoods for part in self.parts)

    @property
    def states(self) -> Sequence[Hashable]:
        """The labels of the components."""
        return tuple(self.model.weights.child.states or ())

    def read(self, data: Any, weights: Any, inputs: Inputs | None) -> Any:
        """Read rows, or sequences."""
        if isinstance(self.model, MixtureOverTime):
            return read_sequences(self.model, data, weights, inputs)
        observed = read_rows(self.model, data, weights, inputs, soft=True)
        softly = component_rows(self.model, observed).each[0].soft is not None
        if softly and not self.takes_likelihoods:
            raise Unsupported(
                "likelihoods of variables other than the component are for mixtures of networks "
                "of tables",
                "give states, or networks as components",
            )
        return observed

    def prepare(self, observed: Any) -> None:
        """Choose the origins of the components, see :class:`EStep`."""
        for part, known in zip(self.parts, component_rows(self.model, observed).each, strict=True):
            part.prepare(known)

    def expect(self, observed: Any) -> ExpectedStatistics:
        """Return expected statistics, see :class:`EStep`; equal rows are evaluated once."""
        observed = self._distinct(observed)
        rows = component_rows(self.model, observed)
        joint = self._joint(rows)
        log_z = joint.logsumexp(dim=1)
        check_possible(observed, log_z)
        weights = torch.from_numpy(observed.row_weights)
        share = (joint - log_z.nan_to_num(neginf=0.0)[:, None]).exp() * weights[:, None]
        expected = self._counted(rows, share)
        total = float(observed.weighted_sum(log_z + _scale(observed)))
        return replace(expected, log_likelihood=total)

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
        joint = self._joint(component_rows(self.model, observed))
        return joint.logsumexp(dim=1) + _scale(observed)

    def completed(self, observed: Any) -> Any:
        """Return rows, or sequences, with the most probable components and their states.

        See :class:`EStep`. Component and states are those that are most probable together.
        """
        rows = component_rows(self.model, observed)
        filled = [
            part.completed(x) if _has_unknown_states(part.model, x) else x
            for part, x in zip(self.parts, rows.each, strict=True)
        ]
        best = self._joint(replace(rows, each=filled)).argmax(dim=1)
        if isinstance(observed, SequenceEvidence):
            return _with_paths(observed, filled, best)
        codes = observed.codes.copy()
        codes[:, 0] = best.numpy()
        for k, x in enumerate(filled):
            own = np.flatnonzero(codes[:, 0] == k)
            codes[own[:, None], element_order(self.model, k) + 1] = x.codes[own]
        return replace(observed, codes=codes)

    def symmetric(self, observed: Any) -> bool:
        """Whether the components are identical or unset, or one has interchangeable states."""
        rows = component_rows(self.model, self._distinct(observed))
        unlabelled = not _are_told_apart(rows) and len(self.parts) > 1
        arbitrary = unlabelled and (self._is_unset or self._are_alike(rows))
        pairs = zip(self.parts, rows.each, strict=True)
        return arbitrary or any(part.symmetric(known) for part, known in pairs)

    def initialize(self, observed: Any, seed: int, at_random: bool) -> None:
        """Initialise each component by a cluster of the rows, with small weights of all others.

        Components of different kinds take the clusters with which short runs are best. If some rows
        are labelled with their component, or its likelihoods, by those instead, with small weights
        of the rest, so that no value of it is impossible.

        References:
            Nigam, McCallum, Thrun and Mitchell (2000), Text classification from labeled and
            unlabeled documents using EM, section 3.
        """
        distinct = self._distinct(observed)
        rows = component_rows(self.model, distinct)
        generator = torch.Generator().manual_seed(seed)
        size, told_apart = len(self.parts), _are_told_apart(rows)
        known = rows.label_logs if told_apart else None
        if known is None:
            labels = self._clusters(rows.each[0], generator, at_random)
        rest = torch.empty(rows.num_rows, size, dtype=torch.float64)
        rest.exponential_(generator=generator)
        share = rest / rest.sum(1, keepdim=True)
        if known is None:
            share = (1 - _SHARE) * one_hot(labels, size).double() + _SHARE * share
        else:
            labelled = (known != known[:, :1]).any(dim=1)
            few = _SHARE * int(labelled.sum()) / max(1, int((~labelled).sum()))
            share = torch.where(labelled[:, None], known.softmax(dim=1), min(few, 1.0) * share)
        alike = self._are_alike(rows)
        for k, (part, each) in enumerate(zip(self.parts, rows.each, strict=True)):
            own = each if known is None else _labelled(each, labelled & (known.argmax(dim=1) == k))
            part.initialize(own, seed + k, at_random or (k > 0 and own is each))
        if known is None and not alike:
            start_by_short_runs(self, distinct, share, self._shared_out, generator)
        else:
            self.improve(self._shared_out(distinct, share), {})

    # --- helpers ------------------------------------------------------------------------------

    @property
    def _is_unset(self) -> bool:
        """Whether no component has learned, or been given, parameters that are learnable."""
        pieces = [c for part in self.parts for c in part.pieces.values()]
        return bool(pieces) and all(c.is_unset for c in pieces) and not self.learns_other_parameters

    def _are_alike(self, rows: ComponentRows) -> bool:
        """Whether all components assign the same probabilities."""
        logs = torch.stack(self._logs(rows), dim=1)
        return bool((logs - logs[:, :1]).nan_to_num(nan=0.0).abs().amax() <= 1e-12)

    def _logs(self, rows: ComponentRows) -> list[Tensor]:
        """``(B,)`` log probabilities of the rows under each component."""
        return [part.log_partition(x) for part, x in zip(self.parts, rows.each, strict=True)]

    def _joint(self, rows: ComponentRows) -> Tensor:
        """``(B, K)`` joint log probabilities of the rows and each component."""
        with torch.no_grad():
            return joint_log_probs(self.model, self._logs(rows), rows.label_logs)

    def _shared_out(self, observed: Any, share: Tensor) -> ExpectedStatistics:
        """The expectations of rows with shares ``(B, K)``, where they are possible."""
        rows = component_rows(self.model, observed)
        logs = torch.stack(self._logs(rows), dim=1)
        possible = ~logs.isneginf() | logs.isneginf().all(dim=1, keepdim=True)
        kept = share * possible
        kept = torch.where(kept.sum(dim=1, keepdim=True) > 0, kept, possible.double())
        kept = kept / kept.sum(dim=1, keepdim=True) * share.sum(dim=1, keepdim=True)
        return self._counted(rows, kept * torch.from_numpy(observed.row_weights)[:, None])

    def _counted(self, rows: ComponentRows, share: Tensor) -> ExpectedStatistics:
        """The expectations under weights ``(B, K)``."""
        collector = StatisticsCollector()
        for name, conditional in self._class_conditional.items():
            collector.add_counts(name, conditional, share.sum(dim=0), WeightedRows({}, {}, share))
        for k, (part, known) in enumerate(zip(self.parts, rows.each, strict=True)):
            expected = part.expect(
                replace(known, weights=np.ascontiguousarray(share[:, k].numpy()))
            )
            for name, sums in expected.sums.items():
                collector.add_sums((k, name), sums)
            for name, values in expected.rows.items():
                collector.add_rows((k, name), values)
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


def _has_unknown_states(component: Any, known: Any) -> bool:
    """Whether some discrete variable of a component was not observed everywhere."""
    if isinstance(known, RowEvidence):
        return bool((known.codes < 0).any())
    variables = component.variables.items()
    return any(v.is_discrete and not known.is_known(n) for n, v in variables)


def _with_paths(
    observed: SequenceEvidence, filled: Sequence[SequenceEvidence], best: Tensor
) -> SequenceEvidence:
    """Return sequences with the given components, and with the states that these filled in."""
    codes = dict(observed.codes)
    for name in dict.fromkeys(n for x in filled for n in x.codes):
        unknown = torch.full(observed.inside.shape, MISSING)
        each = torch.stack([x.codes.get(name, unknown) for x in filled])
        codes[name] = each[best, torch.arange(len(best))]
    return replace(observed, labels=best, codes=codes)


def _are_told_apart(rows: ComponentRows) -> bool:
    """Whether labels, or likelihoods that differ between rows, tell some components apart."""
    logs = rows.label_logs
    if logs is None:
        return False
    return bool(logs.isneginf().any() | ((logs - logs[:, :1]) != (logs - logs[:, :1])[:1]).any())


def _scale(observed: Any) -> Tensor | float:
    """``(B,)`` logs of the scales removed from likelihoods of rows."""
    return torch.from_numpy(observed.soft_scale) if isinstance(observed, RowEvidence) else 0.0


def _labelled(known: Any, own: Tensor) -> Any:
    """The rows of a component; all rows if it has none."""
    return known.take(own.nonzero()[:, 0].numpy()) if bool(own.any()) else known


def _of(k: int, named: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """The entries of one component, by its own names."""
    return {n[1]: x for n, x in named.items() if isinstance(n, tuple) and n[0] == k}
