"""The reader of evidence about a model, and its check of variables that were set to values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pgnn.abilities import (
    DirectedModel,
    ExecutableModel,
    FactorModel,
    GaussianFieldModel,
    MixtureModel,
    VariableModel,
    VectorModel,
)
from pgnn.errors import EvidenceError, ImpossibleEvidence, short_repr
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.units.unit_layers import UnitModel


def reader_of(model: FactorModel) -> EvidenceReader:
    """Return the cached reader of evidence about a model's variables."""
    reader: EvidenceReader = model.cached(
        "evidence reader",
        lambda: EvidenceReader(
            tuple(model.variables.values()),
            model.elements,
            _in_part(model),
            *_vector_of(model),
            constants=model.constants,
        ),
    )
    return reader


def check_constants(constants: Mapping[Hashable, Tensor], observed: RowEvidence) -> None:
    """Check that real variables with only one value are not observed with another.

    Args:
        constants: ``(*shape)`` values by name.
        observed: The evidence, which includes them.

    Raises:
        ImpossibleEvidence: If one is; the message names it and both values.
    """
    for name, value in constants.items():
        x = observed.reals[name].detach()
        rows = (x != value).reshape(len(x), -1).any(dim=1).nonzero()[:, 0].tolist()
        if rows:
            where = f" in {len(rows)} of {len(x)} rows, first row {rows[0]}" * observed.batched
            fixed, seen = short_repr(value.tolist()), short_repr(x[rows[0]].tolist())
            raise ImpossibleEvidence(
                f"the evidence is impossible: {name!r} is set to {fixed}, but observed as "
                f"{seen}{where}",
                tuple(rows),
                {name: x[rows[0]].tolist()},
                advice=(
                    f"remove it from the evidence, or use model.do([{name!r}]) for another "
                    "value in each row"
                ),
            )


def no_posterior(model: VariableModel, name: Hashable) -> EvidenceError:
    """Return the error for a real target that is observed, or set to a value, in every row."""
    value = model.constants.get(name[0] if isinstance(name, tuple) else name)
    value = model.constants.get(name, value)
    known = "real and observed" if value is None else f"set to {short_repr(value.tolist())}"
    return EvidenceError(
        f"{name!r} is {known}, so it has no posterior", "remove it from the targets"
    )


def _vector_of(model: Any) -> tuple[Hashable, Sequence[Hashable]]:
    """Return the vector variable that a bare matrix belongs to, and the names of its columns."""
    return (model.vector, model.columns) if isinstance(model, VectorModel) else (None, ())


def _in_part(model: Any) -> dict[Hashable, int]:
    """Return partially observable real variables and their numbers of event axes."""
    if isinstance(model, ExecutableModel):
        return model.event_axes
    if isinstance(model, GaussianFieldModel):
        return {model.vector: 0}
    if isinstance(model, UnitModel):
        return {n: 0 for n, v in model.layers().variables.items() if not v.is_discrete}
    if isinstance(model, MixtureModel) and not isinstance(model, DirectedModel):
        first, *others = (_in_part(c) for c in model.components)
        return {n: axes for n, axes in first.items() if all(n in x for x in others)}
    if not isinstance(model, DirectedModel):
        return {}
    set_to_values = model.constants
    pieces = model.conditionals.items()
    return {n: 0 for n, c in pieces if c.integrates_missing or n in set_to_values}
