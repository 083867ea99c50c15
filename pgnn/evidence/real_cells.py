"""Values observed in single cells of arrays of real variables."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.reading import read_real
from pgnn.factors.variable import Variable


def cell_of(name: Hashable, arrays: Mapping[Hashable, Variable]) -> tuple[int, ...] | None:
    """Return the index of a cell such as ``("y", 3)`` in array ``"y"``; None for other names."""
    if not isinstance(name, tuple) or len(name) < 2 or name in arrays:
        return None
    array = arrays.get(name[0])
    place = name[1:]
    if array is None or len(place) != len(array.shape):
        return None
    fits = all(
        isinstance(n, int) and isinstance(k, int) and 0 <= k < n
        for n, k in zip(array.shape, place, strict=True)
    )
    return place if fits else None


def joined_cells(
    findings: Iterable[tuple[Hashable, Any]], arrays: Mapping[Hashable, Variable]
) -> list[tuple[Hashable, Any]]:
    """Return findings with single cells joined into arrays, ``NaN`` in the other cells.

    Args:
        findings: Names and values.
        arrays: Real variables by name.

    Raises:
        EvidenceError: If an array is also given as a whole, or cells differ in their number of
            rows.

    Example:
        >>> joined_cells([(("y", 1), 2.0)], {"y": Variable("y", shape=(3,))})
        [('y', tensor([nan, 2., nan], dtype=torch.float64))]
    """
    rest: list[tuple[Hashable, Any]] = []
    cells: dict[Hashable, dict[tuple[int, ...], Tensor]] = {}
    for name, value in findings:
        place = cell_of(name, arrays)
        if place is None or not isinstance(name, tuple):
            rest.append((name, value))
            continue
        reading = read_real(Variable(name), value).real
        observed = (
            torch.full((), torch.nan, dtype=torch.float64) if reading is None else reading.double()
        )
        cells.setdefault(name[0], {})[place] = observed
    _check_apart([n for n, _ in rest], cells)
    return [*rest, *((n, _array(n, arrays[n], values)) for n, values in cells.items())]


def _check_apart(names: Collection[Hashable], cells: Mapping[Hashable, Any]) -> None:
    for name in names:
        if name in cells:
            raise EvidenceError(
                f"{name!r} is given as a whole, and cells of it again",
                "put all into one array, NaN where a cell was not observed",
            )


def _array(name: Hashable, variable: Variable, cells: Mapping[tuple[int, ...], Tensor]) -> Tensor:
    rows = {len(x) for x in cells.values() if x.dim()}
    if len(rows) > 1:
        raise EvidenceError(f"cells of {name!r} have different numbers of rows: {sorted(rows)}")
    lead = tuple(rows)
    shape = [int(n) for n in variable.shape]
    unobserved = torch.full(lead, torch.nan, dtype=torch.float64)
    columns = []
    for place in itertools.product(*map(range, shape)):
        x = cells.get(place)
        columns.append(unobserved if x is None else x.expand(lead))
    return torch.stack(columns, dim=-1).reshape([*lead, *shape])
