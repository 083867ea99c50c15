"""Annotations of evidence: values are indices or likelihoods, columns are ignored."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.factors.cells import unmasked
from pgnn.factors.time_steps import AXIS


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """Values that are state indices, whatever the labels; made by :func:`codes`."""

    values: Any


@dataclass(frozen=True, eq=False, slots=True)
class Likelihood:
    """Values that are likelihoods of the states; made by :func:`likelihood`."""

    values: Any


class CodedMapping(Mapping[Hashable, Any]):
    """A mapping whose tensors hold state indices of discrete variables, such as samples."""


def codes(values: Any) -> Codes:
    """Declare that integers are state indices, even if the labels of variables are numbers.

    Args:
        values: An index or a container of indices, -1 where not observed; or complete evidence, a
            mapping, data frame or matrix of indices.

    Example:
        >>> import pgnn
        >>> model = pgnn.BayesianNetwork([], states={"dice": [1, 2, 3]})
        >>> model.log_prob({"dice": pgnn.codes([0, 2])}).shape
        torch.Size([2])
    """
    return Codes(values)


def likelihood(values: Any, *more: Any) -> Likelihood:
    """Declare that numbers are likelihoods of the states of a variable (soft evidence).

    Args:
        values: ``(K,)`` or ``(B, K)`` (with the shape of an array before ``K``), not negative; or
            a mapping from each label to its weight. Labels of a Series, and columns of a frame, are
            heeded where they are states.
        more: Further findings about the same variable, in the same form, conditionally independent
            given its state; their likelihoods are multiplied.

    Raises:
        EvidenceError: If only some of several findings are mappings, or they have different labels.

    Example:
        >>> likelihood([0.2, 0.8], [0.5, 0.25]).values
        array([0.1, 0.2])
    """
    if not more:
        return Likelihood(values)
    findings = [values, *more]
    if not any(isinstance(x, Mapping) for x in findings):
        return Likelihood(_product(findings))
    if not all(isinstance(x, Mapping) and x.keys() == values.keys() for x in findings):
        raise EvidenceError(
            "several findings about one variable must all be numbers, or all mappings from the "
            f"same labels to weights, got {findings!r}"
        )
    return Likelihood({label: _product([x[label] for x in findings]) for label in values})


def _product(findings: list[Any]) -> Any:
    """Return the product of likelihoods; missing ones count as one."""
    if all(hasattr(x, "reindex") for x in findings):  # Series, or frames, by their labels
        first, *others = (x.fillna(1.0) for x in findings)
        return math.prod((_alike(first, x) for x in others), start=first)
    if any(isinstance(x, Tensor) for x in findings):
        tensors = [torch.as_tensor(x).double() for x in findings]
        return math.prod(x.masked_fill(x.isnan(), 1.0) for x in tensors)
    arrays = [np.asarray(unmasked(x), dtype=np.float64) for x in findings]
    return math.prod(np.where(np.isnan(x), 1.0, x) for x in arrays)


def _alike(first: Any, other: Any) -> Any:
    """Return a Series, or a frame, with its labels in the order of another's."""
    last = "columns" if hasattr(first, "columns") else "index"
    labels, more = getattr(first, last), getattr(other, last)
    if first.ndim != other.ndim or len(labels) != len(more) or set(labels) != set(more):
        raise EvidenceError(
            "several findings about one variable must have the same labels, got "
            f"{[*labels][:8]!r} and {[*more][:8]!r}"
        )
    ordered = other[labels] if last == "columns" else other.reindex(labels)
    return ordered if last == "index" else ordered.to_numpy()


@dataclass(frozen=True, eq=False, slots=True)
class Observed:
    """Evidence or data with options for reading it; made by :func:`observed`."""

    values: Any
    ignore: frozenset[Hashable] = frozenset()
    ignore_unknown: bool = False
    lengths: Any = None


def with_lengths(evidence: Any, lengths: Any) -> Any:
    """Return evidence of concatenated sequences with the given lengths, if any.

    Args:
        evidence: Evidence in any form.
        lengths: ``(B,)`` lengths; None if the evidence has lengths.

    Raises:
        EvidenceError: If the evidence also has lengths.
    """
    if lengths is None:
        return evidence
    if isinstance(evidence, Observed):
        has_lengths, result = evidence.lengths is not None, replace(evidence, lengths=lengths)
    else:
        has_lengths, result = False, observed(evidence, lengths=lengths)
    if has_lengths or (isinstance(result.values, Mapping) and AXIS in result.values):
        raise EvidenceError("lengths= is given twice, as an argument and in the evidence")
    return result


def observed(
    values: Any,
    *,
    ignore: Collection[Hashable] = (),
    unknown: str = "error",
    lengths: Any = None,
) -> Observed:
    """Attach options for reading to evidence or data; all verbs accept the result.

    Args:
        values: Evidence or data in any form.
        ignore: Names of columns to ignore.
        unknown: Handling of labels that are no states: ``"error"``, or ``"missing"`` to treat them
            as not observed.
        lengths: ``(B,)`` lengths of concatenated sequences.

    Raises:
        EvidenceError: If ``unknown`` is another value.

    Example:
        >>> import pgnn
        >>> model = pgnn.BayesianNetwork([], states={"wet": ["no", "yes"]})
        >>> rows = {"id": [7, 8], "wet": ["yes", "soaked"]}
        >>> model.log_prob(observed(rows, ignore=["id"], unknown="missing")).exp().tolist()
        [0.5, 1.0]
    """
    if unknown not in ("error", "missing"):
        raise EvidenceError(f"unknown must be 'error' or 'missing', got {unknown!r}")
    names = [ignore] if isinstance(ignore, str) else ignore
    return Observed(values, frozenset(names), unknown == "missing", lengths)
