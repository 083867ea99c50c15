"""Max-marginals: log probability of the best assignment with a variable in each state."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.errors import EvidenceError
from pgnn.inference.base_question import Names
from pgnn.inference.engine import Engine
from pgnn.inference.model_reader import reader_of
from pgnn.inference.question import targets_of


def max_marginals(
    model: FactorModel,
    engine: Engine,
    targets: Names | None,
    evidence: object,
    inputs: Inputs | None = None,
) -> dict[Hashable, Tensor]:
    """Return log max-marginals by name, see :meth:`pgnn.models.model.Model.max_marginals`.

    Each state of each target is added to the evidence, and the best assignment computed.

    Args:
        model: The model.
        engine: The engine that finds most probable states.
        targets: Names of discrete variables; all of them if None.
        evidence: One row.
        inputs: Covariates of one row.

    Raises:
        EvidenceError: If the evidence has several rows.
    """
    observed = reader_of(model).read(evidence).over(inputs)
    if observed.num_rows != 1:
        raise EvidenceError(
            f"max-marginals need exactly one row of evidence, got {observed.num_rows}"
        )
    target_set = targets_of(model, targets)
    card = model.elements.card[target_set.numbers]
    element = np.repeat(target_set.numbers, card)
    state = np.concatenate([np.zeros(0, np.int64), *map(np.arange, card)])
    rows = observed.take(np.zeros(len(element), dtype=np.int64))
    codes = rows.codes.copy()
    known = codes[np.arange(len(codes)), element]
    codes[np.arange(len(codes)), element] = state
    wide = {n: x.expand(len(codes), *x.shape[1:]) for n, x in (inputs or {}).items()}
    best = engine.most_probable(
        model, replace(rows, codes=codes, index=None), inputs=wide or None, errors="nan"
    )
    logs = best.log_prob.clone()
    for k in np.flatnonzero((known >= 0) & (known != state)).tolist():
        logs[k] = -np.inf  # another state was observed
    by_name, first = {}, 0
    for v in target_set.variables:
        width = v.num_elements * v.num_states
        by_name[v.name] = logs[first : first + width].reshape(*v.shape, v.num_states)
        first += width
    return by_name
