"""Checks of the variables and values of conditionals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pgnn.errors import EvidenceError, Intractable, ModelError, Unsupported, closest
from pgnn.factors.factor import check_states
from pgnn.factors.variable import Variable, check_variables

MAX_TABLE = 2**26
"""Most entries that one row's table may have (half a gigabyte in float64)."""


def check_tabulated(child: Variable, free: Sequence[Variable]) -> None:
    """Check that a conditional has a table over some variables.

    Raises:
        Unsupported: If a variable is real or an array.
        Intractable: If the table would be too large.
    """
    for v in free:
        if not v.is_discrete or v.shape:
            kind = "an array" if v.is_discrete else "real"
            raise Unsupported(
                f"{v.name!r} is {kind} and not observed, so the conditional of {child.name!r} has "
                "no table",
                "observe it or use a sampling engine",
            )
    entries = math.prod(v.num_states for v in free)
    if entries > MAX_TABLE:
        raise Intractable(
            f"the table of {child.name!r} over its {len(free)} unobserved variables has "
            f"{in_words(entries)} entries, at most {MAX_TABLE:,} are tabulated",
            "observe more of its parents or use a sampling engine",
        )


def check_no_arrays(variables: Iterable[Variable], advice: str) -> None:
    """Check that no variable is an array of states.

    Raises:
        ModelError: If one is.
    """
    for v in variables:
        if v.is_discrete and v.shape:
            raise ModelError(
                f"{v.name!r} is an array of states, {advice}: a real array takes zeros and ones "
                "with pgnn.BernoulliHead, and a network may read states as an input"
            )


def check_rows(child: Variable, *groups: Mapping[Hashable, Tensor]) -> None:
    """Check that all values have as many rows as the first one.

    Raises:
        EvidenceError: If the first axes differ, or a value has no axis.
    """
    values = {name: x for group in groups for name, x in group.items()}
    for name, x in values.items():
        if not x.dim():
            raise EvidenceError(f"{name!r} needs a first axis for rows, shape (B, ...), got ()")
    rows = {name: int(x.shape[0]) for name, x in values.items()}
    if len(set(rows.values())) > 1:
        raise EvidenceError(
            f"conditional of {child.name!r} needs the same number of rows everywhere, got "
            + ", ".join(f"{n} of {name!r}" for name, n in rows.items())
        )


def select_values(
    child: Variable,
    names: Iterable[Hashable],
    parent_values: Mapping[Hashable, Tensor],
    kind: str,
    argument: str,
) -> dict[Hashable, Tensor]:
    """Select the values that a conditional needs.

    Raises:
        EvidenceError: If one is missing.
    """
    values = {}
    for name in names:
        if name not in parent_values:
            hint = closest(name, parent_values) if parent_values else ""
            raise EvidenceError(
                f"conditional of {child.name!r} needs a value of its {kind} {name!r}",
                f"pass it in {argument}={{{name!r}: ...}}{hint}",
            )
        values[name] = torch.as_tensor(parent_values[name])
    return values


def moved(values: Mapping[Hashable, Tensor], device: torch.device) -> dict[Hashable, Tensor]:
    """Return the values on a device."""
    return {name: x.to(device) for name, x in values.items()}


def require_table(child: Variable, parents: Sequence[Variable], kind: str) -> None:
    """Check that a conditional for finite tables has only scalar discrete variables.

    Raises:
        ModelError: If one is real or an array.
    """
    check_variables("the child of a conditional", [child])
    for v in (*check_variables(f"parents of {child.name!r}", parents), child):
        if not v.is_discrete or v.shape:
            what = f"an array of shape {v.shape}" if v.is_discrete else "real"
            raise ModelError(
                f"{kind} conditional of {child.name!r} needs discrete variables, but {v.name!r} "
                f"is {what}",
                "use Softmax, LinearGaussian or Neural",
            )


def in_words(number: int) -> str:
    """Return a number as text for messages, however large it is."""
    return f"{number:,}" if number < 10**15 else f"10^{number.bit_length() * 0.30103:.0f}"


def checked(variable: Variable, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an observed value: state indices, or real values of a dtype.

    Raises:
        EvidenceError: If its shape is wrong, or an index is out of range.
    """
    name = variable.name
    value = torch.as_tensor(value)
    shape = tuple(value.shape)
    if len(shape) != len(variable.shape) + 1 or not _fits(shape[1:], variable.shape):
        expected = ", ".join(["B", *(str(n) for n in variable.shape)])
        raise EvidenceError(f"{name!r} must be observed with shape ({expected}), got {shape}")
    if not variable.is_discrete:
        return value.to(dtype)
    return check_states(variable, value)


def _fits(shape: Sequence[int], declared: Sequence[object]) -> bool:
    """Whether a shape is the declared one; a named axis may have any length."""
    return all(isinstance(n, str) or n == m for m, n in zip(shape, declared, strict=True))
