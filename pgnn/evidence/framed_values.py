"""Frames in place of the values of one variable, and weights in the order of its states."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from pgnn.errors import EvidenceError, closest
from pgnn.evidence.frames import frame_columns, is_frame, matrix_of
from pgnn.factors.cells import is_unlabelled
from pgnn.factors.labels import MISSING
from pgnn.factors.variable import Variable


def plain_values(variable: Variable, values: Any, *, scalar: bool) -> Any:
    """Return the columns or matrices of frames, or of a list of them; all else as it is.

    A frame of one column is that column, where the variable is a single one; any other frame is a
    matrix. Columns named by the states of the variable come in the order of these.

    Args:
        variable: The variable.
        values: Its values in any form.
        scalar: Whether a value is a single number or state, without axes.

    Raises:
        EvidenceError: If only some of the columns are named by states.
    """
    if is_frame(values):
        return _plain(variable, values, scalar)
    if isinstance(values, list | tuple) and any(map(is_frame, values)):
        return [_plain(variable, x, scalar) if is_frame(x) else x for x in values]
    return values


def only_column(values: Any) -> Any:
    """Return the column of a frame that has one; all else as it is."""
    if not is_frame(values):
        return values
    columns = [column for _, column in frame_columns(values)]
    return columns[0] if len(columns) == 1 else values


def ordered_weights(variable: Variable, values: Any) -> Any:
    """Return a Series of a weight for each state in the order of the states; all else as it is.

    Raises:
        EvidenceError: If it has labels, and these are not the states.
    """
    if not hasattr(values, "iloc") or is_frame(values) or len(values) != variable.num_states:
        return values
    names = [] if is_unlabelled(values.index) else [*values.index]
    order = order_of(variable, names)
    if order is None and names:
        raise _other_labels(variable, names, names[0])
    return values.to_numpy() if order is None else values.to_numpy()[order]


def _plain(variable: Variable, frame: Any, scalar: bool) -> Any:
    column = only_column(frame) if scalar else frame
    if column is not frame:
        return column
    matrix = matrix_of(frame)
    if not variable.is_discrete or not scalar or matrix.shape[1] != variable.num_states:
        return matrix
    unlabelled = is_unlabelled(frame.columns)
    order = order_of(variable, [] if unlabelled else [name for name, _ in frame_columns(frame)])
    return matrix if order is None else matrix[:, order]


def order_of(variable: Variable, names: Sequence[Hashable]) -> list[int] | None:
    """Return the place of each state among labels; None where no label is a state.

    Raises:
        EvidenceError: If some are states and others are not, or a state occurs twice.
    """
    states = [_state(variable, name) for name in names]
    if sorted(states) == list(range(variable.num_states)):
        return [states.index(k) for k in range(variable.num_states)]
    if set(states) <= {MISSING}:
        return None
    wrong = names[states.index(MISSING)] if MISSING in states else names[-1]
    raise _other_labels(variable, names, wrong)


def _state(variable: Variable, name: Hashable) -> int:
    try:
        return variable.labels.index(name)
    except EvidenceError:
        return MISSING


def _other_labels(variable: Variable, names: Sequence[Hashable], wrong: Hashable) -> EvidenceError:
    return EvidenceError(
        f"weights of {variable.name!r} have the labels {list(names[:8])!r}, which are not its "
        f"states: got {wrong!r}{closest(wrong, variable.labels.codes)}",
        "give .to_numpy() for weights in the order of the states",
    )
