"""Finds the structural zero that makes complete rows impossible, for messages."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import NetworkModel, SlicedModel
from pgnn.errors import DataError
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.time_steps import has_lag, without_lag
from pgnn.inference.learning.given_values import contradiction


def needed_zero(model: Any, observed: Any) -> DataError | None:
    """Return the error that names the entry, declared to be zero, that some rows need.

    Args:
        model: The model; others than directed ones of tables have no such entries.
        observed: Rows, or sequences; a family with an unobserved variable is passed over.

    Returns:
        The error; None if no family alone explains that a row is impossible.

    Cost:
        One lookup per row and table with structural zeros.
    """
    for table, values in _families(model, observed):
        zeros = table.structural_zeros()
        if zeros is None or any(v.name not in values for v in table.scope):
            continue
        codes = torch.stack([values[v.name].reshape(-1).long() for v in table.scope])
        codes = codes[:, (codes >= 0).all(dim=0)].to(zeros.device)
        needed = codes[:, zeros[tuple(codes)]]
        if needed.shape[1]:
            return table.needed_zero(tuple(needed[:, 0].tolist()))
    if isinstance(observed, RowEvidence) and isinstance(model, NetworkModel):
        return _needed_root(model, observed)
    return None


def _needed_root(model: NetworkModel, observed: RowEvidence) -> DataError | None:
    """Return the error of rows that contradict a value that was given, as by do()."""
    for name, conditional in model.conditionals.items():
        if conditional.constant is not None and name in observed.reals:
            x = observed.reals[name]
            if bool((~x.isnan() & (x != conditional.constant.to(x))).any()):
                return contradiction(conditional)
        elif isinstance(conditional, Tabular) and not conditional.parents:
            codes = torch.from_numpy(observed.codes[:, int(model.elements.numbers(name))])
            needed = codes[codes >= 0]
            needed = needed[conditional.logits.detach().cpu()[needed].isneginf()]
            if len(needed) and not conditional.logits.requires_grad:
                return contradiction(conditional, [int(needed[0])])
    return None


def _families(model: Any, observed: Any) -> Iterator[tuple[Tabular, Mapping[Hashable, Tensor]]]:
    """Tables with the observed states of their variables."""
    if isinstance(observed, RowEvidence) and isinstance(model, NetworkModel):
        codes = torch.from_numpy(observed.codes)
        for table in _tables(model.conditionals):
            numbers = {v.name: int(model.elements.numbers(v.name)) for v in table.scope}
            yield table, {name: codes[:, number] for name, number in numbers.items()}
    elif isinstance(observed, SequenceEvidence) and isinstance(model, SlicedModel):
        if not model.is_stepwise:
            return
        for table in _tables(model.conditionals):
            name = table.child.name
            later = model.first(name) is not table
            yield table, _of_steps(table, observed, 1 if later else 0, observed.steps)
            if later:
                yield from (
                    (first, _of_steps(first, observed, 0, 1))
                    for first in _tables({name: model.first(name)})
                )


def _tables(conditionals: Mapping[Hashable, Conditional]) -> Iterator[Tabular]:
    """The tables with structural zeros that are learned."""
    for conditional in conditionals.values():
        if isinstance(conditional, Tabular) and conditional.logits.requires_grad:
            yield conditional


def _of_steps(
    table: Tabular, observed: SequenceEvidence, first: int, last: int
) -> dict[Hashable, Tensor]:
    """Return ``(B, steps)`` states of the observed variables of a table."""
    values = {}
    for v in table.scope:
        codes, late = observed.codes.get(without_lag(v.name)), int(has_lag(v.name))
        if codes is not None:
            inside = observed.inside[:, first:last].to(codes.device)
            values[v.name] = codes[:, first - late : last - late].masked_fill(~inside, -1)
    return values
