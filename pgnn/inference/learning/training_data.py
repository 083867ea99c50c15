"""Training data: evidence with weights and inputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.abilities import DirectedModel, FactorModel, ImplicitModel, Inputs, PairedModel
from pgnn.errors import (
    AdvisedWarning,
    DataError,
    EvidenceError,
    Unsupported,
    closest,
    overflowing,
)
from pgnn.evidence.covariates import read_covariates
from pgnn.evidence.frames import batches_hint, columns_of, is_frame
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.evidence.wrappers import Codes, Observed
from pgnn.factors.cells import dense, is_container, unmasked
from pgnn.factors.finite import has_nan, is_all_nan
from pgnn.factors.sparse_rows import is_scipy_sparse, stored
from pgnn.factors.variable import MISSING
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.learning.needed_zeros import needed_zero
from pgnn.inference.loop import progress_bar
from pgnn.inference.model_reader import reader_of

Floats = NDArray[np.float64]

_LEAST_WEIGHT = 1e-100
"""Smallest total weight of rows."""


def read_rows(
    model: FactorModel,
    data: Any,
    weights: Any = None,
    inputs: Inputs | None = None,
    *,
    soft: bool = False,
) -> RowEvidence:
    """Read rows in any form of evidence.

    Args:
        model: The model of the variables.
        data: Data frame, mapping, matrix with a column for each element, or array ``(N, *shape)``
            of a single variable; or the result of an earlier call.
        weights: ``(N,)`` weight of each row, or the name of a column.
        inputs: ``(N, ...)`` covariates by name.
        soft: Whether likelihoods of states are allowed (soft evidence).

    Returns:
        The rows, of positive total weight.

    Raises:
        DataError: If the data has no rows, a state or shape is invalid, or it is not a single data
            set.
    """
    check_density(model)
    if not is_single(data):
        raise DataError(
            "expected a DataFrame, a mapping of columns or an array of state indices, all "
            f"rows at once, got {type(data).__name__}{batches_hint(data)}"
        )
    data, weights = _take_weights(data, weights)
    try:
        inputs = read_covariates(model.read_inputs(inputs or {}))
        observed = reader_of(model).read(data, states_only=True).over(inputs)
    except EvidenceError as error:
        raise DataError(error.reason, error.advice) from None
    if observed.soft is not None and not soft:
        raise DataError(
            "data must be states, not likelihoods (floats)",
            "EM() learns networks and mixtures from likelihoods",
        )
    counts = _counts(weights, observed.num_rows)
    observed = replace(observed, weights=counts, inputs=dict(inputs or {}))
    return observed if (counts > 0).all() else observed.take(np.flatnonzero(counts))


def read_sequences(
    model: Any, data: Any, weights: Any = None, inputs: Inputs | None = None
) -> SequenceEvidence:
    """Read sequences in any form of evidence over time.

    Args:
        model: A model over time.
        data: Sequences.
        weights: ``(N,)`` weights of the sequences.
        inputs: ``(N, T, ...)`` covariates by name.

    Raises:
        DataError: If the data is empty or invalid.
    """
    try:
        if isinstance(model, PairedModel):
            sequences = model.read(data, inputs)
            return replace(sequences, weights=_counts(weights, sequences.num_rows))
        observed = SequenceEvidence.of(model, data, inputs)
        covariates = model.covariates(inputs, observed)
    except EvidenceError as error:
        raise DataError(error.reason, error.advice) from None
    if not int(observed.lengths.sum()):
        raise DataError("there are no steps to learn from")
    return replace(observed, weights=_counts(weights, observed.num_rows), inputs=covariates)


def filled_in(observed: SequenceEvidence, best: Assignment | KBest) -> SequenceEvidence:
    """Return sequences in which some variables have given states.

    Args:
        observed: The sequences.
        best: States of discrete variables at all steps.
    """
    codes, first = dict(observed.codes), 0
    states = torch.as_tensor(best.codes).reshape(observed.num_rows, -1).long()
    for v in best.variables:
        part = states[:, first : first + observed.steps]
        codes[v.name] = part.masked_fill(~observed.inside, MISSING)
        first += observed.steps
    return replace(observed, codes=codes)


def check_density(model: Any) -> None:
    """Check that the model has a density.

    Raises:
        Unsupported: If the model is implicit.
    """
    if isinstance(model, ImplicitModel):
        raise Unsupported(
            f"a {type(model).__name__} has no density to maximise", "use Adversarial()"
        )


def check_observed(observed: RowEvidence | SequenceEvidence) -> None:
    """Check that some cell is observed.

    Raises:
        DataError: If every cell is missing.
    """
    codes = [observed.codes] if isinstance(observed, RowEvidence) else [*observed.codes.values()]
    has_values = any(bool((x >= 0).any()) for x in codes)
    has_values = has_values or any(not is_all_nan(x) for x in observed.reals.values())
    has_values = has_values or bool(
        observed.soft if isinstance(observed, SequenceEvidence) else observed.soft is not None
    )
    if isinstance(observed, SequenceEvidence) and not has_values and not observed.lengths.any():
        raise DataError(
            f"the data has no steps ({observed.num_rows} sequences, all of them empty): there is "
            "nothing to learn from"
        )
    if not has_values:
        raise DataError("every cell of the data is missing: there is nothing to learn from")


def check_squares(observed: RowEvidence | SequenceEvidence, names: Iterable[Hashable]) -> None:
    """Check that sums of squares over the rows are finite.

    Args:
        observed: The rows, or sequences.
        names: The real variables whose squares are needed, such as those of Gaussians.

    Raises:
        DataError: If values are so large that their squares overflow.
    """
    named = set(names)
    values = {n: x.detach() for n, x in observed.reals.items() if n in named}
    large = [n for n, x in values.items() if _overflows(stored(x))]
    if large:
        raise overflowing(large)


def check_range(name: Hashable, values: Tensor, types: Iterable[torch.dtype]) -> None:
    """Check that the squares of values do not overflow in the types of the parameters.

    Args:
        name: Name of the variable.
        values: Its values, ``NaN`` where missing.
        types: Floating-point types of the parameters.

    Raises:
        DataError: If a value is too large for a type.
    """
    known = values[~values.isnan()] if has_nan(values) else values
    largest = max(map(abs, map(float, known.aminmax()))) if known.numel() else 0.0
    for dtype in types:
        if largest > torch.finfo(dtype).max ** 0.5:
            raise DataError(
                f"{name!r} has values as large as {largest:g}, whose squares overflow in {dtype}",
                "rescale them, such as by their standard deviation",
            )


def _overflows(x: torch.Tensor) -> bool:
    return bool(x.double().square().nansum().isinf())


def check_complete(model: Any, observed: RowEvidence | SequenceEvidence) -> None:
    """Check that no values are missing.

    Raises:
        DataError: If values are missing.
    """
    for name, v in model.variables.items():
        if not v.is_discrete:
            known = observed.fully_observes(name)
        elif isinstance(observed, SequenceEvidence):
            known = observed.is_known(name)
        else:
            known = bool((observed.codes[:, model.elements.numbers(name).reshape(-1)] >= 0).all())
        if not known:
            raise DataError(
                f"{name!r} has missing values. Maximum likelihood needs complete rows",
                "learn with EM(), if the model can sum it out, or drop or fill those rows",
            )


def unobserved_warning(model: FactorModel, observed: Any) -> AdvisedWarning | None:
    """Return a warning about variables that the data cannot inform; None if there are none.

    A variable needs to be observed, or to have observed descendants.

    Args:
        model: The model.
        observed: The rows.
    """
    if (
        not isinstance(model, DirectedModel)
        or not isinstance(observed, RowEvidence)
        or observed.soft is not None
    ):
        return None
    elements = reader_of(model).elements
    observed_elements = np.asarray((observed.codes >= 0).any(axis=0))
    known = {n for n, x in observed.reals.items() if not is_all_nan(x)}
    unknown: list[Hashable] = []
    for name in reversed(model.order):
        conditional, v = model.conditionals[name], model.variables[name]
        if name in known or (v.is_discrete and observed_elements[elements.numbers(name)].any()):
            known |= {name, *(p.name for p in conditional.parents)}
        elif any(p.requires_grad for p in conditional.parameters()):
            unknown.append(name)
    if not unknown:
        return None
    names = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
    return AdvisedWarning(
        f"no values of {names} or of descendants were observed: the conditional is unchanged",
        "leave out the variable, or give its parameters",
    )


def check_possible(
    observed: RowEvidence | SequenceEvidence, log_z: Tensor, model: Any = None
) -> None:
    """Check that every row of positive weight is possible.

    Args:
        observed: The rows, or sequences.
        log_z: ``(B,)`` log probabilities of the rows.
        model: The model, whose declared zeros the message names.

    Raises:
        DataError: If a row is impossible.
    """
    counting = torch.from_numpy(observed.row_weights).to(log_z.device) > 0
    lost = (log_z.isneginf() & counting).nonzero()[:, 0].tolist()
    if lost:
        what = "sequences" if isinstance(observed, SequenceEvidence) else "rows"
        where = (
            f"{len(lost)} of {len(log_z)} {what} have probability zero under the current "
            f"parameters (first: {lost[0]})"
        )
        zero = needed_zero(model, observed.take(np.array(lost)))
        if zero is not None:
            raise DataError(f"{where}: {zero.reason}", zero.advice)
        raise DataError(where, "use other initial parameters, or a prior")


def _counts(weights: Any, rows: int) -> Floats:
    """Return the weights of the rows, not all zero."""
    if not rows:
        raise DataError("data has no rows")
    counts = np.ones(rows) if weights is None else check_weights(weights, rows)
    if not counts.sum() > 0:
        raise DataError("the weights are all zero")
    if counts.sum() < _LEAST_WEIGHT:
        raise DataError(
            f"the weights sum to {counts.sum():g}, of which products round to zero",
            "divide all of them by the largest",
        )
    return counts


def batches(data: Any, weights: Any, progress: bool) -> Iterator[tuple[int | None, Any, Any]]:
    """Iterate over batch number (None for a single data set), batch and its weights.

    Args:
        data: One data set, or an iterable of them.
        weights: ``(N,)`` array (for one data set), or the name of a column.
        progress: Show a progress bar over an iterable.

    Raises:
        DataError: If ``data`` has another type, or weights do not match it.
    """
    if is_single(data):
        yield None, *_take_weights(data, weights)
        return
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise DataError(
            "expected a DataFrame, a mapping of columns, a matrix of indices or an iterable of "
            f"such batches, got {type(data).__name__}"
        )
    if weights is not None and not _is_name(weights):
        raise DataError(
            "weights of an iterable of batches must be the name of a column that every batch has, "
            f"got {type(weights).__name__}"
        )
    for number, batch in _shown(data, progress):
        if not is_single(batch):
            raise DataError(
                f"batch {number} must be a DataFrame, a mapping of columns or a matrix of "
                f"indices, got {type(batch).__name__}"
            )
        yield number, *_take_weights(batch, weights)


def _shown(data: Iterable[Any], progress: bool) -> Iterator[tuple[int, Any]]:
    """Yield numbered batches, with a progress bar."""
    with progress_bar(None, "counting", progress, " batches") as bar:
        for number, batch in enumerate(data):
            yield number, batch
            bar.update()


def is_single(data: Any) -> bool:
    """Whether an object is a single data set and not an iterable of batches."""
    known = (Tensor, np.ndarray, Mapping, Observed, Codes, RowEvidence)
    return isinstance(data, known) or is_frame(data) or _are_rows(data) or is_scipy_sparse(data)


def _are_rows(data: Any) -> bool:
    """Whether data is a list of mappings for single rows, not for batches."""
    if not isinstance(data, list) or not data or not isinstance(data[0], Mapping):
        return False
    return bool(data[0]) and not any(is_container(x, {}) for x in data[0].values())


def _is_name(weights: Any) -> bool:
    return isinstance(weights, str) or (
        isinstance(weights, Hashable) and not hasattr(weights, "__iter__")
    )


def _take_weights(data: Any, weights: Any) -> tuple[Any, Any]:
    """Extract the column of weights, if given by name."""
    if weights is None or not _is_name(weights):
        return data, weights
    if isinstance(data, torch.Tensor | np.ndarray):
        raise DataError("a matrix of indices has no column of weights", "pass them as an array")
    if isinstance(data, Observed | Codes):
        rest, taken = _take_weights(data.values, weights)
        return replace(data, values=rest), taken
    columns = dict(columns_of(data))
    if weights not in columns:
        raise DataError(f"data has no column {weights!r} of weights{closest(weights, columns)}")
    taken = columns.pop(weights)
    return columns, taken


def check_weights(weights: Any, num_rows: int) -> Floats:
    """Return the weights of rows as an array.

    Raises:
        DataError: If the shape is wrong, or a weight is negative or not finite.
    """
    if isinstance(weights, torch.Tensor):
        weights = dense(weights.detach()).numpy(force=True)
    try:
        array = np.asarray(unmasked(weights), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"weights must be numbers: {error}") from None
    if array.shape != (num_rows,):
        raise DataError(f"weights must have shape ({num_rows},), got {array.shape}")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"weights must be finite and not negative, row {row} has {array[row]}")
    # torch does not support negative strides
    return array if array.flags.writeable else array.copy()
