"""Log densities of real variables, the discrete ones summed out exactly."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.evidence import Evidence
from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.model_solver import model_solver
from pgnn.inference.question import reader_of


def log_density(
    model: FactorModel,
    reals: Mapping[Hashable, Tensor],
    evidence: Any,
    inputs: Inputs | None = None,
) -> Tensor:
    r"""Return :math:`\log \sum_z p(z, r, e)`, differentiable in the reals and the parameters.

    Args:
        model: With tables once its real variables are known.
        reals: ``(B, *shape)`` values by name.
        evidence: One row or ``B`` rows of findings on other variables.
        inputs: Covariates by name, one row or ``B`` of them.

    Returns:
        ``(B,)`` log densities.

    Raises:
        EvidenceError: If a name is unknown, a shape wrong, or rows do not agree.
    """
    given = {n: _rows(model, n, x) for n, x in reals.items()}
    known = {n: torch.as_tensor(x) for n, x in (inputs or {}).items()}
    rows = {len(x) for x in [*given.values(), *(x for x in known.values() if len(x) != 1)]}
    seen = _over(reader_of(model).read(evidence), rows)
    both = {**seen.reals, **given}
    alike = {n: x.expand(seen.num_rows, *x.shape[1:]) for n, x in known.items()}
    return Differentiable(model_solver(model, both, alike), seen).log_evidence()


def _rows(model: FactorModel, name: Hashable, value: Tensor) -> Tensor:
    v = model.variables.get(name)
    if v is None or v.is_discrete:
        raise EvidenceError(f"{name!r} is no real variable of the model")
    x = torch.as_tensor(value)
    if tuple(x.shape[1:]) != v.shape or x.dim() != len(v.shape) + 1:
        shape = ", ".join(["B", *map(str, v.shape)])
        raise EvidenceError(f"{name!r} must have shape ({shape}), got {tuple(x.shape)}")
    return x


def _over(seen: Evidence, rows: set[int]) -> Evidence:
    """The evidence with a row for each row of the reals."""
    if seen.batched:
        rows = {*rows, seen.num_rows}
    if len(rows) > 1:
        raise EvidenceError(f"the reals and the evidence have different numbers of rows: {rows}")
    number = next(iter(rows), 1)
    if seen.num_rows == number:
        return seen
    return seen.tiled(number)
