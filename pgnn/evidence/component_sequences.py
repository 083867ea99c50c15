"""Sequences with the component of a mixture that each of them is from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.frames import frame_columns, is_frame
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import Codes, Observed
from pgnn.factors.variable import MISSING, Variable


@dataclass(frozen=True, eq=False)
class ComponentSequences(SequenceEvidence):
    """Sequences of which some are labelled with the component of a mixture.

    Attributes:
        components: ``(B,)`` the component that each sequence is from; -1 where not observed.
    """

    components: Tensor = torch.zeros(0, dtype=torch.int64)  # noqa: RUF009 - never changed

    def take(self, rows: Any, steps: int | None = None) -> ComponentSequences:
        """Return some of the rows, see the base class."""
        return _labelled(super().take(rows, steps), self.components[torch.as_tensor(rows)])

    @classmethod
    def of_mixture(cls, component: Variable, model: Any, evidence: Any) -> SequenceEvidence:
        """Read evidence about a mixture of models over time.

        Args:
            component: The variable of the component, one label for each sequence.
            model: One of the models.
            evidence: Evidence, see :meth:`SequenceEvidence.read`, and possibly the component.

        Raises:
            EvidenceError: If there are not as many labels as sequences.
            Unsupported: If there are likelihoods of the component.
        """
        if isinstance(evidence, SequenceEvidence):
            return evidence
        rest, labels = split_component(component, evidence)
        return with_components(SequenceEvidence.of(model, rest), component, labels)


def split_component(component: Variable, evidence: Any) -> tuple[Any, RowEvidence | None]:
    """Return evidence without the labels of the components, and these.

    Args:
        component: The variable of the component.
        evidence: Evidence in any form.

    Returns:
        The rest, and the labels; None if there are none.
    """
    if isinstance(evidence, Observed | Codes):
        rest, value = _popped(component.name, evidence.values)
        if value is _NOTHING or component.name in getattr(evidence, "ignore", ()):
            return evidence, None
        return replace(evidence, values=rest), _read(component, replace(evidence, values=value))
    rest, value = _popped(component.name, evidence)
    return (evidence, None) if value is _NOTHING else (rest, _read(component, value))


def with_components(
    sequences: SequenceEvidence, component: Variable, labels: RowEvidence | None
) -> SequenceEvidence:
    """Return sequences with the labels of their components, if there are any.

    Args:
        sequences: The sequences.
        component: The variable of the component.
        labels: What :func:`split_component` returned.

    Raises:
        EvidenceError: If there are not as many labels as sequences.
    """
    if labels is None:
        return sequences
    codes = torch.from_numpy(labels.codes[:, 0]).long()
    if labels.batched and (len(codes) != sequences.num_rows or not sequences.batched):
        given = f"{sequences.num_rows} sequences" if sequences.batched else "a lone sequence"
        raise EvidenceError(
            f"{component.name!r} is one label for each sequence, got {len(codes)} labels of {given}"
        )
    codes = codes.expand(sequences.num_rows)
    return _labelled(sequences, codes) if bool((codes != MISSING).any()) else sequences


_NOTHING = object()


def _popped(name: Hashable, values: Any) -> tuple[Any, Any]:
    """Return evidence without a variable, and the values of it."""
    if isinstance(values, list | tuple) and values and all(map(is_frame, values)):
        parts = [_popped(name, f) for f in values]
        if not any(found is _NOTHING for _, found in parts):
            columns = [rest for rest, _ in parts]
            if all(c.keys() == columns[0].keys() for c in columns):
                return {n: [c[n] for c in columns] for n in columns[0]}, [x for _, x in parts]
        return values, _NOTHING
    if is_frame(values):
        columns_by_name = dict(frame_columns(values))
        if name not in columns_by_name:
            return values, _NOTHING
        return columns_by_name, _only_label(name, columns_by_name.pop(name))
    if isinstance(values, Mapping) and name in values:
        return {n: x for n, x in values.items() if n != name}, values[name]
    return values, _NOTHING


def _only_label(name: Hashable, column: Any) -> Any:
    """Return the label that all steps of a frame have."""
    labels = list(column)
    known = [x for x in labels if x is not None and x == x]
    if any(x != known[0] for x in known):
        raise EvidenceError(
            f"{name!r} is one label for each sequence, but a data frame, the steps of one "
            f"sequence, has several: {[*dict.fromkeys(known)][:5]!r}; give a list of frames"
        )
    return known[0] if known else None


def _read(component: Variable, value: Any) -> RowEvidence:
    """Read the labels."""
    evidence: Any = {component.name: value}
    if isinstance(value, Observed):
        plain = replace(value, values={component.name: value.values}, lengths=None)
        evidence = replace(plain, ignore=frozenset())
    elif isinstance(value, Codes):
        evidence = Codes({component.name: value.values})
    labels = EvidenceReader([component]).read(evidence, states_only=True)
    if labels.soft is not None:
        raise Unsupported("evidence about the component must be its label, not likelihoods")
    return labels


def _labelled(rows: SequenceEvidence, components: Tensor) -> ComponentSequences:
    parts = {f.name: getattr(rows, f.name) for f in fields(SequenceEvidence)}
    return ComponentSequences(**parts, components=components)
