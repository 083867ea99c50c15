"""Tables for many rows of real values, from one run of the program that torch maps over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.models.program_layout import Layout
from pgnn.models.program_parameters import ProgramParameters
from pgnn.models.program_tables import SiteTable, tables_of

Tables = dict[str, SiteTable]


def tables_in_rows(
    program: Callable[[], Any],
    layout: Layout,
    parameters: ProgramParameters,
    reals: Mapping[str, Tensor],
    skipped: set[str],
) -> Tables:
    """Return the table of each site, with a first axis for rows where it depends on the reals.

    Args:
        program: The program, its arguments bound.
        layout: Where states are laid out.
        parameters: Of the program.
        reals: ``(B, *sizes, *event)`` values of real sites.
        skipped: Sites whose tables are not wanted.
    """

    def of_row(row: Mapping[str, Tensor]) -> Tables:
        own = {n: x.reshape(layout.sites[n].value.shape) for n, x in row.items()}
        return tables_of(program, layout, parameters, own, skipped)

    number = next(len(x) for x in reals.values())
    if number == 0:
        drawn = {n: layout.sites[n].value for n in reals}
        return {n: _repeated(t, 0) for n, t in of_row(drawn).items()}
    if number == 1:
        one = of_row({n: x[0] for n, x in reals.items()})
        return {n: _repeated(t, 1) if n in _touched(layout, reals) else t for n, t in one.items()}
    try:
        return _mapped(of_row, reals)
    except ModelError:  # some operation that torch cannot map
        return _looped(of_row, reals, number)


def _mapped(
    of_row: Callable[[Mapping[str, Tensor]], Tables], reals: Mapping[str, Tensor]
) -> Tables:
    """One run for all rows; what does not depend on the reals is not repeated."""
    alike: Tables = {}
    scopes: dict[str, SiteTable] = {}

    def values(row: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, table in of_row(row).items():
            if torch._C._functorch.is_batchedtensor(table.log_values):
                found[name], scopes[name] = table.log_values, table
            else:
                alike[name] = table
        return found

    rows = torch.func.vmap(values, randomness="different")(dict(reals))
    varying = {n: SiteTable(scopes[n].scope, x, scopes[n].shared) for n, x in rows.items()}
    return {**alike, **varying}


def _looped(
    of_row: Callable[[Mapping[str, Tensor]], Tables], reals: Mapping[str, Tensor], number: int
) -> Tables:
    """A run for each row."""
    each = [of_row({n: x[k] for n, x in reals.items()}) for k in range(number)]
    return {
        n: SiteTable(t.scope, torch.stack([e[n].log_values for e in each]), t.shared)
        for n, t in each[0].items()
    }


def _repeated(table: SiteTable, rows: int) -> SiteTable:
    values = table.log_values
    return SiteTable(table.scope, values.expand(rows, *values.shape), table.shared)


def _touched(layout: Layout, reals: Mapping[str, Tensor]) -> set[str]:
    return {n for n, s in layout.sites.items() if n in reals or s.sources & set(reals)}
