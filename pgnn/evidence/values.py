"""Evidence on one variable: states, likelihoods or real values, in any container."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, short_repr
from pgnn.evidence.framed_values import ordered_weights, plain_values
from pgnn.evidence.reading import Floats, Reading, floats_of
from pgnn.evidence.wrappers import CodedMapping, Codes, Likelihood, Observed
from pgnn.factors.cells import Cells, cells_of, is_column, is_container, is_missing
from pgnn.factors.labels import MISSING, Column
from pgnn.factors.variable import Variable


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule for reading values.

    Attributes:
        coded: Whether integers are state indices.
        rows: Whether a vector has one value for each row and is therefore no likelihood.
        ignore_unknown: Whether labels that are no states count as missing.
    """

    coded: bool = False
    rows: bool = False
    ignore_unknown: bool = False


@dataclass(frozen=True, slots=True)
class RawEvidence:
    """Evidence without its wrappers, and the rule for reading it.

    Attributes:
        values: The unwrapped evidence.
        rule: Rule for reading its values.
        ignore: Names to leave out.
        lengths: Lengths of sequences, if given.
        tensors_coded: Whether tensors hold state indices.
    """

    values: Any
    rule: Rule = field(default_factory=Rule)
    ignore: frozenset[Hashable] = frozenset()
    lengths: Any = None
    tensors_coded: bool = False

    @classmethod
    def of(cls, evidence: Any, rows: bool = False) -> RawEvidence:
        """Unwrap :func:`pgnn.observed` and :func:`pgnn.codes`.

        Args:
            evidence: Evidence in any form.
            rows: Whether values are known to be rows, so that none is a likelihood.
        """
        ignore: frozenset[Hashable] = frozenset()
        rule, lengths = Rule(rows=rows), None
        if isinstance(evidence, Observed):
            ignore, lengths = evidence.ignore, evidence.lengths
            rule, evidence = Rule(False, rows, evidence.ignore_unknown), evidence.values
        if isinstance(evidence, Codes):
            rule, evidence = replace(rule, coded=True), evidence.values
        return cls(evidence, rule, ignore, lengths, isinstance(evidence, CodedMapping))

    def rule_of(self, values: Any) -> Rule:
        """Return the rule for reading the values of one variable."""
        coded = self.tensors_coded and isinstance(values, Tensor)
        return replace(self.rule, coded=True) if coded else self.rule


PLAIN = Rule()
_SCALARS = {str, int, float, bool, type(None)}


def read_discrete(variable: Variable, value: Any, rule: Rule = PLAIN) -> Reading:
    """Read evidence on a discrete variable, or on an array of them.

    Raises:
        EvidenceError: If a value is no state, a likelihood or a shape is wrong, or evidence is
            ambiguous.
    """
    labels = variable.labels
    if isinstance(value, Codes):
        value, rule = value.values, Rule(True, rule.rows, rule.ignore_unknown)
    if isinstance(value, Likelihood):
        return _read_likelihood(variable, _weights(variable, value.values))
    if isinstance(value, Mapping):
        return _read_likelihood(variable, _weights(variable, value))
    if type(value) not in _SCALARS:
        value = plain_values(variable, value, scalar=not variable.shape)
    if not is_container(value, labels.codes):
        return _single(variable, value, rule)
    column = is_column(value)
    if variable.shape and column:
        value = list(value)
    if _lists_mappings(value):
        return _read_likelihood(variable, _weights(variable, value))
    value = _stacked(value)
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        masked = isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value))
        one = value[()] if isinstance(value, np.ndarray) else value.item()
        return _single(variable, None if masked else one, rule)
    try:
        cells = cells_of(value, labels.codes)
    except EvidenceError as error:
        raise _wrong_shape(variable, str(error)) from None
    unobserved = cells.missing is not None and bool(cells.missing.all())
    floats = cells.values.dtype.kind == "f" and not rule.coded and not unobserved
    if floats and _is_likelihood(variable, value, cells, rule.rows or column):
        return _read_likelihood(variable, value)
    shape = cells.values.shape
    axes = len(variable.shape)
    if (
        variable.shape
        and len(shape) == 1
        and (unobserved or not shape[0])
        and shape != variable.shape
    ):
        shape = (len(cells.values), *variable.shape)  # nothing in place of whole arrays
        cells = Cells(np.zeros(shape, dtype=np.int8), np.ones(shape, dtype=np.bool_))
    if len(shape) - axes not in (0, 1) or shape[len(shape) - axes :] != variable.shape:
        raise _wrong_shape(variable, shape)
    if column and len(shape) == axes:
        raise _wrong_shape(variable, f"a column of {shape[0]} cells that are no arrays")
    if rule.coded and cells.categories is None:
        states = Column(labels.check_indices(whole_numbers(cells)))
    else:
        states = labels.column(cells, ignore_unknown=rule.ignore_unknown)
    return Reading(variable, shape[0] if len(shape) > axes else None, states)


def _single(variable: Variable, value: Any, rule: Rule) -> Reading:
    """Return one state for all rows, or a missing state."""
    labels = variable.labels
    if variable.shape:
        if not is_missing(value) and (value != MISSING or value in labels.codes):
            value = value.item() if isinstance(value, np.generic) else value
            raise EvidenceError(
                f"{variable.name!r} is an array of {variable.num_elements} variables: expected "
                f"states or likelihoods in the shape {variable.shape}, got {short_repr(value)} "
                "alone",
                "to observe it in every cell give an array filled with it, to observe it in one "
                f"cell name the cell, as in {(variable.name, *[0] * len(variable.shape))}",
            )
        unobserved = np.full(variable.shape, MISSING, dtype=np.int32)
        return Reading(variable, None, Column(unobserved))
    if rule.coded and not is_missing(value) and not isinstance(value, str):
        code = int(labels.check_indices(whole_numbers(Cells(np.array([value]))))[0])
    elif rule.ignore_unknown:
        code = int(labels.column(cells_of([value], labels.codes), ignore_unknown=True).take()[0])
    else:
        code = labels.index(value)
    return Reading(variable, None, Column(np.array(code, dtype=np.int32)))


def whole_numbers(cells: Cells) -> NDArray[Any]:
    """Return integer indices, -1 where missing."""
    values = cells.values
    if values.dtype == object:
        values = np.array([MISSING if is_missing(x) else x for x in values.ravel()])
        values = values.reshape(cells.values.shape)
    if values.dtype.kind not in "biuf":
        raise EvidenceError(f"codes are state indices, got {values.ravel()[0]!r}")
    values = values.astype(np.int64) if values.dtype.kind == "b" else values
    return values if cells.missing is None else np.where(cells.missing, np.int64(MISSING), values)


def _lists_mappings(value: Any) -> bool:
    if not isinstance(value, list | tuple) or set(map(type, value)) <= _SCALARS:
        return False
    return any(isinstance(x, Mapping) for x in value) and all(
        isinstance(x, Mapping) or is_missing(x) for x in value
    )


def _stacked(value: Any) -> Any:
    """Stack a list of float tensors, ``NaN`` where not observed, keeping gradients."""
    if not isinstance(value, list | tuple) or set(map(type, value)) <= _SCALARS:
        return value
    parts = [x for x in value if isinstance(x, Tensor) and x.is_floating_point() and x.dim()]
    if not parts or any(x.shape != parts[0].shape for x in parts):
        return value
    if len(parts) + sum(map(is_missing, value)) < len(value):
        return value
    return torch.stack(
        [torch.full_like(parts[0], torch.nan) if is_missing(x) else x for x in value]
    )


def _is_likelihood(variable: Variable, value: Any, cells: Cells, rows: bool) -> bool:
    """Return whether floats have the shape of likelihoods and could not be states.

    Raises:
        EvidenceError: If both readings are possible, or the shape fits neither.
    """
    shape, axes = cells.values.shape, len(variable.shape)
    as_states = len(shape) - axes in (0, 1) and shape[len(shape) - axes :] == variable.shape
    event = (*variable.shape, variable.num_states)
    as_weights = len(shape) - len(event) in (0, 1) and shape[-len(event) :] == event
    if isinstance(value, Tensor) and value.requires_grad:
        return True
    if rows and not variable.shape and len(shape) == 1:
        return False
    if not as_weights:
        if as_states and (variable.labels.could_be(cells) or not could_be_weights(cells.values)):
            return False
        return not as_states or (len(shape) == axes + 1 and not axes)
    if not as_states or not variable.labels.could_be(cells):
        return True
    if cells.missing is not None or not could_be_weights(cells.values):
        return False
    raise EvidenceError(both_readings(variable, cells.values))


def could_be_weights(values: NDArray[Any]) -> bool:
    """Return whether each vector along the last axis can be a likelihood, also if all ``NaN``."""
    with np.errstate(invalid="ignore"):
        top = values.max(axis=-1, initial=0.0)
        possible = (values >= 0).all(axis=-1) & (top > 0) & (top < np.inf)
    unobserved = np.isnan(values).all(axis=-1) & (values.ndim > 1)
    return bool((possible | unobserved).all())


def both_readings(variable: Variable, values: NDArray[Any]) -> str:
    """Return the error for floats that may be states or likelihoods, with both notations."""
    shown = np.array2string(values, separator=", ", threshold=8).replace("\n", "")
    integers = np.where(np.isnan(values), MISSING, np.floor(values)).astype(np.int64)
    whole = np.array2string(integers, separator=", ", threshold=8).replace("\n", "")
    known = values[~np.isnan(values)]
    one = f"integers, {whole}" if (known == np.floor(known)).all() else f"pandas.Series({shown})"
    states = "states of rows" if values.ndim > len(variable.shape) else "states"
    return (
        f"{shown} for {variable.name!r} may be {states} or likelihoods of its "
        f"{variable.num_states} states; write the former as {one}, the latter as "
        f"pgnn.likelihood({shown})"
    )


def _weights(variable: Variable, value: Any) -> Any:
    """Return likelihoods as a tensor or array; mappings in the order of the labels."""
    if isinstance(value, Mapping):
        weights: list[Any] = [None] * variable.num_states
        for label, weight in value.items():
            code = variable.index(label)
            if code == MISSING:
                raise EvidenceError(f"likelihood of {variable.name!r}: {label!r} is no state")
            weights[code] = weight
        absent = [x for x, w in zip(variable.states or (), weights, strict=True) if w is None]
        if absent:
            raise EvidenceError(
                f"likelihood of {variable.name!r} has no weight for {absent[0]!r}",
                "give every label one, 0 where it is impossible",
            )
        try:
            if any(isinstance(w, Tensor) for w in weights):
                return torch.stack([torch.as_tensor(w, dtype=torch.float64) for w in weights], -1)
            return np.stack([np.asarray(w, dtype=np.float64) for w in weights], axis=-1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise EvidenceError(
                f"likelihood of {variable.name!r} must be a number for each label: {error}"
            ) from None
    if _lists_mappings(value):
        unobserved = np.full(variable.num_states, np.nan)
        return np.stack([unobserved if is_missing(x) else _weights(variable, x) for x in value])
    if variable.shape:
        return plain_values(variable, value, scalar=False)
    return ordered_weights(variable, plain_values(variable, value, scalar=True))


def _read_likelihood(variable: Variable, value: Any) -> Reading:
    """Read a likelihood ``(*shape, K)`` or ``(B, *shape, K)``."""
    name, num_states = variable.name, variable.num_states
    tensor = value if isinstance(value, Tensor) else None
    try:
        table = floats_of(value)
        got = f"shape {table.shape}"
    except (TypeError, ValueError, EvidenceError):
        table, got = np.empty(()), "no table of numbers"
    event = (*variable.shape, num_states)
    axes = ", ".join(map(str, event))
    if table.ndim - len(event) not in (0, 1) or table.shape[-len(event) :] != event:
        raise EvidenceError(
            f"evidence for {name!r} given as floats is a likelihood of its {num_states} states: "
            f"expected shape ({axes}{',' * (len(event) == 1)}) or (B, {axes}), got {got}; states "
            "must be labels or integers"
        )
    table = table.astype(np.float64, copy=False)  # `floats_of` made it new
    rows = table.shape[0] if table.ndim > len(event) else None
    unobserved = np.asarray(np.isnan(_largest(table)))
    if unobserved.any():
        unobserved &= np.isnan(table).all(axis=-1)
        table[unobserved] = 1.0
    top = _check_likelihood(variable, table)
    if tensor is None or not (tensor.requires_grad and torch.is_grad_enabled()):
        tensor = None
    elif unobserved.any():
        blank = torch.as_tensor(unobserved, device=tensor.device)[..., None]
        tensor = tensor.masked_fill(blank, 1.0)
    cells = tuple(range(-len(variable.shape), 0))
    log_scale = np.log(top).sum(axis=cells) if cells else np.log(top)
    return Reading(
        variable, rows, likelihood=table / top[..., None], log_scale=log_scale, tensor=tensor
    )


def _check_likelihood(variable: Variable, table: Floats) -> Floats:
    """Check likelihoods and return the largest entry of each."""
    top = _largest(table)
    if not top.size or (table.min() >= 0 and top.min() > 0 and top.max() < np.inf):
        return top  # and so no entry is NaN
    wrong = np.asarray(~np.isfinite(table).all(axis=-1) | (table < 0).any(axis=-1))
    bad = wrong | (top == 0)
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        what = "finite and not negative" if wrong[at] else "positive for some state"
        row, cell = at[: len(at) - len(variable.shape)], at[len(at) - len(variable.shape) :]
        where = f" in row {row[0]}" if row else ""
        where += f" at {tuple(int(i) for i in cell)}" if cell else ""
        got = table[at].tolist()
        raise EvidenceError(f"likelihood of {variable.name!r} must be {what}, got {got}{where}")
    return top


def _largest(table: Floats) -> Floats:
    """Return maxima along the last axis, NaN if there is one, faster than NumPy on short axes."""
    top = table[..., 0].copy()
    for k in range(1, table.shape[-1]):
        np.maximum(top, table[..., k], out=top)
    return np.asarray(top)


def _wrong_shape(variable: Variable, got: object) -> EvidenceError:
    axes = ", ".join(map(str, variable.shape))
    num_states = variable.num_states
    if not variable.shape:
        return EvidenceError(
            f"evidence for {variable.name!r} has shape {got}; expected (B,) states, or a "
            f"likelihood ({num_states},) or (B, {num_states}) of floats"
        )
    one = f"({axes}{',' * (len(variable.shape) == 1)})"
    return EvidenceError(
        f"evidence for {variable.name!r} must have shape {one} or (B, {axes}) of states, or "
        f"({axes}, {num_states}) or (B, {axes}, {num_states}) of likelihoods, got {got}"
    )
