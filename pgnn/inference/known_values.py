"""Which variables are observed in all rows, and their values."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.inference.question import Question


def known_values(model: Any, observed: RowEvidence) -> dict[Hashable, Tensor]:
    """Return ``(N, *shape)`` values of the variables that are observed in all rows."""
    known = {n: x.to(torch.float64) for n, x in observed.reals.items() if not bool(x.isnan().all())}
    for v in model.elements.variables:
        codes = observed.codes[:, model.elements.numbers(v.name)].reshape(
            observed.num_rows, *v.shape
        )
        if (codes >= 0).all():
            known[v.name] = torch.from_numpy(codes.astype(np.int64))
    return known


def unknown_reals(question: Question) -> list[Hashable]:
    """Return the names of the real variables that are not completely observed."""
    variables, observed = question.model.variables, question.observed
    return [n for n, v in variables.items() if not v.is_discrete and not observed.fully_observes(n)]
