"""Whether findings contradict what the model expects of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.engine import Engine
from pgnn.sensitivity.what_if import Floats, ranked, read_evidence


@dataclass(frozen=True)
class Conflict:
    r"""The conflict measure of evidence.

    Attributes:
        value: :math:`\sum_i \log p(e_i) - \log p(e)` in nats, a number, or ``(B,)`` of a batch; a
            positive one says that the findings are less probable together than they would be if
            they were independent.
        findings: A data frame: ``variable``, ``log_prob`` of the finding alone, and ``conflict`` of
            it with all others. For rows of evidence one below the other.
    """

    value: Any
    findings: Any


def conflict(model: Any, evidence: Any, *, engine: Engine | None = None) -> Conflict:
    r"""Return whether findings go together.

    Args:
        model: A model with tables.
        evidence: As in a query.
        engine: One that finds log evidence.

    Raises:
        EvidenceError: If evidence is wrong.
        ImpossibleEvidence: If a row has probability zero.

    Cost:
        For ``n`` variables with findings, queries of ``B (2 n + 1)`` rows.

    References:
        Jensen, Chamberlain, Nordahl and Jensen (1990), Analysis in HUGIN of data conflict.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.1, 0.9]]})
        >>> round(conflict(model, {"a": 0, "b": 1}).value, 4)
        1.6094
    """
    observed = read_evidence(model, evidence)
    names = [n for n in observed.names if model.variables[n].is_discrete]
    numbers = [int(model.elements.numbers(n)) for n in names]
    whole = log_evidence(model, observed, engine)
    base = 0.0 if model.is_normalized else log_evidence(model, _without_findings(observed), engine)
    alone = np.zeros((observed.num_rows, len(names)))
    rest = np.zeros_like(alone)
    for k, number in enumerate(numbers):
        alone[:, k] = log_evidence(model, only(model, observed, [number]), engine) - base
        others = [n for n in numbers if n != number]
        rest[:, k] = log_evidence(model, only(model, observed, others), engine) - base
    value = alone.sum(axis=1) - (whole - base)
    figures = {"log_prob": alone, "conflict": alone + rest - (whole - base)[:, None]}
    frame = ranked({"variable": names}, figures, observed, "conflict")
    return Conflict(value if observed.batched else float(value[0]), frame)


def only(model: Any, observed: RowEvidence, numbers: list[int]) -> RowEvidence:
    """Return evidence with the findings of some discrete variables, by their numbers."""
    kept = np.zeros(observed.codes.shape[1], dtype=bool)
    kept[numbers] = True
    soft = observed.soft
    if soft is not None:
        states = np.repeat(kept, model.elements.card)
        soft = np.where(states, soft, 1.0)
    names = tuple(model.elements.variables[k].name for k in sorted(numbers))
    changed: Mapping[str, Any] = {
        "codes": np.where(kept, observed.codes, -1).astype(np.int32),
        "soft": soft,
        "soft_tensors": {n: x for n, x in observed.soft_tensors.items() if n in names},
        "names": (*names, *observed.reals),
    }
    return replace(observed, **changed)


def log_evidence(model: Any, observed: RowEvidence, engine: Engine | None) -> Floats:
    """Return ``(B,)`` log evidence."""
    with torch.no_grad():
        posterior = model.query([], observed, engine=engine)
    numbers: Floats = posterior.log_evidence.double().numpy(force=True).reshape(-1)
    return numbers


def _without_findings(observed: RowEvidence) -> RowEvidence:
    return replace(
        observed, codes=np.full_like(observed.codes, -1), soft=None, soft_tensors={}, names=()
    )
