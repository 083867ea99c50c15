"""Densities of rows of directed models without hidden discrete variables."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.abilities import ExecutableModel, Inputs, NetworkModel
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.finite import has_nan
from pgnn.inference.continuous.coordinates import Reals


def is_product(model: Any, observed: RowEvidence, latents: Collection[Hashable]) -> bool:
    """Return whether the density of rows is the product of the conditionals of the model.

    Args:
        model: Any model.
        observed: Rows of evidence.
        latents: Real variables that no row observes.
    """
    if not isinstance(model, NetworkModel) or isinstance(model, ExecutableModel):
        return False
    if observed.soft is not None or (observed.codes.size and observed.codes.min() < 0):
        return False
    return all(
        n in latents or model.conditionals[n].integrates_missing or not has_nan(x)
        for n, x in observed.reals.items()
    )


def log_product(
    model: Any,
    observed: RowEvidence,
    inputs: Inputs,
    reals: Reals,
    without: Collection[Hashable] = (),
    checked: bool = False,
) -> Tensor:
    r"""Return :math:`\sum_i \log p(x_i \mid x_{\mathrm{pa}(i)})` of rows, ``(N,)``.

    Args:
        model: A model with conditionals.
        observed: ``N`` rows of evidence.
        inputs: Covariates, ``(N, ...)``.
        reals: ``(N, *shape)`` values of the latent variables.
        without: Variables whose conditionals are omitted.
        checked: Whether the evidence is known to be complete and in its support.
    """
    rows = observed.num_rows
    values = {**observed.reals, **reals}
    for v in model.elements.variables:
        codes = observed.codes[:, model.elements.numbers(v.name).ravel()].astype(np.int64)
        values[v.name] = torch.from_numpy(codes).reshape(rows, *v.shape)
    total, conditionals = torch.zeros(rows, dtype=torch.float64), model.conditionals
    for name in model.order:
        if name in without:
            continue
        c = conditionals[name]
        if checked or name in reals:
            parents = {v.name: values[v.name] for v in c.parents}
            log_prob: Tensor = c.distribution(parents, inputs or None).log_prob(values[name])
        else:
            log_prob = c.factor(values, inputs or None).log_values
        total = total + log_prob.expand(rows)
    return total
