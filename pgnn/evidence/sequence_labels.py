"""Labels of whole sequences, such as the component of a mixture that each of them is from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.frames import frame_columns, is_frame
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.wrappers import Codes, Observed
from pgnn.factors.variable import MISSING, Variable


def split_labels(variable: Variable, evidence: Any) -> tuple[Any, RowEvidence | None]:
    """Return evidence without the labels of sequences, and these.

    Args:
        variable: The variable of the labels, of which each sequence has one.
        evidence: Evidence in any form.

    Returns:
        The rest, and the labels; None if there are none.
    """
    if isinstance(evidence, Observed | Codes):
        rest, value = _popped(variable.name, evidence.values)
        if value is _NOTHING or variable.name in getattr(evidence, "ignore", ()):
            return evidence, None
        return replace(evidence, values=rest), _read(variable, replace(evidence, values=value))
    rest, value = _popped(variable.name, evidence)
    return (evidence, None) if value is _NOTHING else (rest, _read(variable, value))


def codes_of_labels(
    variable: Variable, labels: RowEvidence, rows: int, batched: bool
) -> Tensor | None:
    """Return ``(B,)`` states of the labels, -1 where not observed; None if none is.

    Args:
        variable: The variable of the labels.
        labels: What :func:`split_labels` returned.
        rows: Number of sequences.
        batched: Whether the sequences were given in rows.

    Raises:
        EvidenceError: If there are not as many labels as sequences.
    """
    codes = torch.from_numpy(labels.codes[:, 0]).long()
    if labels.batched and (len(codes) != rows or not batched):
        given = f"{rows} sequences" if batched else "a lone sequence"
        raise EvidenceError(
            f"{variable.name!r} is one label for each sequence, got {len(codes)} labels of {given}"
        )
    return codes.expand(rows) if bool((codes != MISSING).any()) else None


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
            f"sequence, has several: {[*dict.fromkeys(known)][:5]!r}",
            "give a list of frames",
        )
    return known[0] if known else None


def _read(variable: Variable, value: Any) -> RowEvidence:
    """Read the labels."""
    evidence: Any = {variable.name: value}
    if isinstance(value, Observed):
        plain = replace(value, values={variable.name: value.values}, lengths=None)
        evidence = replace(plain, ignore=frozenset())
    elif isinstance(value, Codes):
        evidence = Codes({variable.name: value.values})
    labels = EvidenceReader([variable]).read(evidence, states_only=True)
    if labels.soft is not None:
        raise Unsupported(f"evidence about {variable.name!r} must be its label, not likelihoods")
    return labels
