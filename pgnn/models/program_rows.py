"""Tables for many rows of real values, from one run of the program that torch maps over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.models.program_layout import Layout
from pgnn.models.program_tables import SiteTable

Tables = dict[str, SiteTable]
Run = Callable[[Mapping[str, Tensor]], Tables]


def tables_in_rows(run: Run, warm: Run, layout: Layout, reals: Mapping[str, Tensor]) -> Tables:
    """Return the table of each site, with a first axis for rows where it depends on the reals.

    Args:
        run: Makes the tables for one row.
        warm: Does so for a row outside of any map, and gets ready for more.
        layout: Of the sites.
        reals: ``(B, *sizes, *event)`` values of real sites.
    """
    shaped = {n: x.reshape([len(x), *layout.sites[n].value.shape]) for n, x in reals.items()}
    number = next(len(x) for x in shaped.values())
    if number == 0:
        drawn = {n: layout.sites[n].value for n in shaped}
        return {n: _repeated(t, 0) for n, t in run(drawn).items()}
    if number == 1:
        one = warm({n: x[0] for n, x in shaped.items()})
        return {n: _repeated(t, 1) if n in _touched(layout, reals) else t for n, t in one.items()}
    warm({n: x[0] for n, x in shaped.items()})
    try:
        return _mapped(run, shaped)
    except (ModelError, RuntimeError):  # some operation that torch cannot map
        return _looped(run, shaped, number)


def _mapped(run: Run, reals: Mapping[str, Tensor]) -> Tables:
    """One run for all rows; what does not depend on the reals is not repeated."""
    alike: Tables = {}
    scopes: dict[str, SiteTable] = {}

    def values(row: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, table in run(row).items():
            if torch._C._functorch.is_batchedtensor(table.log_values):
                found[name], scopes[name] = table.log_values, table
            else:
                alike[name] = table
        return found

    rows = torch.func.vmap(values, randomness="different")(dict(reals))
    varying = {n: SiteTable(scopes[n].scope, x, scopes[n].shared) for n, x in rows.items()}
    return {**alike, **varying}


def _looped(run: Run, reals: Mapping[str, Tensor], number: int) -> Tables:
    """A run for each row."""
    each = [run({n: x[k] for n, x in reals.items()}) for k in range(number)]
    return {
        n: SiteTable(t.scope, torch.stack([e[n].log_values for e in each]), t.shared)
        for n, t in each[0].items()
    }


def _repeated(table: SiteTable, rows: int) -> SiteTable:
    values = table.log_values
    return SiteTable(table.scope, values.expand(rows, *values.shape), table.shared)


def _touched(layout: Layout, reals: Mapping[str, Tensor]) -> set[str]:
    return {n for n, s in layout.sites.items() if n in reals or s.sources & set(reals)}
