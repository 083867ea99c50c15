"""Tables for many rows of real values, from one run of the program that torch maps over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.programs.program_layout import Layout
from pgnn.programs.program_tables import SiteTable

Tables = Mapping[str, SiteTable]
Run = Callable[[Mapping[str, Tensor]], Tables]


def shaped(layout: Layout, reals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``(B, *sizes, *event)`` values in the shapes that the program has them, row by row."""
    return {n: x.reshape([len(x), *layout.sites[n].value.shape]) for n, x in reals.items()}


def tables_in_rows(run: Run, layout: Layout, reals: Mapping[str, Tensor]) -> Tables:
    """Return the table of each site, with a first axis for rows where it depends on the reals.

    Args:
        run: Makes the tables for one row.
        layout: Of the sites.
        reals: Values of real sites, as :func:`shaped` returns them.
    """
    number = next(len(x) for x in reals.values())
    if number == 0:
        drawn = {n: layout.sites[n].value for n in reals}
        return {
            n: SiteTable(t.scope, t.log_values.expand(0, *t.log_values.shape), t.shared)
            for n, t in run(drawn).items()
        }
    try:
        return _mapped(run, reals)
    except (ModelError, RuntimeError):  # some operation that torch cannot map
        return _looped(run, reals, number)


def _mapped(run: Run, reals: Mapping[str, Tensor]) -> Tables:
    """One run for all rows; what does not depend on the reals is not repeated."""
    alike: dict[str, SiteTable] = {}
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
