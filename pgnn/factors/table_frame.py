"""Tables as data frames and as text, with the names of states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.variable import Variable

MAX_CELLS = 10**7
"""Most numbers of a data frame that is made of a table."""
ROWS = 24
"""Most rows that are printed."""
LINE = 100
"""Characters of a printed line; columns beyond it are put below."""


def table_frame(variables: Sequence[Variable], values: Tensor, *, across: bool) -> Any:
    """Return a data frame of a table.

    Args:
        variables: Discrete variables, one for each axis.
        values: ``(K1, ..., Kn)``, or ``(1, K1, ..., Kn)`` of one row.
        across: Whether the states of the last variable are columns.

    Returns:
        A frame with an index level for each variable; the last one's states as columns, or a column
        ``value``.

    Raises:
        EvidenceError: If there are several rows.
        ModelError: If the table is too large for a data frame.
    """
    import pandas as pd

    if values.dim() > len(variables):
        if len(values) != 1:
            raise EvidenceError(f"frame() takes inputs of one row, got {len(values)}")
        values = values[0]
    check_cells("table", values.numel())
    table = values.detach().cpu().numpy()
    index = rows_index(variables[:-1] if across else variables)
    if not across:
        return pd.DataFrame({"value": table.reshape(-1)}, index=index)
    columns = _labels(variables[-1])
    columns.name = variables[-1].name
    return pd.DataFrame(table.reshape(len(index), len(columns)), index=index, columns=columns)


def check_cells(what: str, number: int) -> None:
    """Check that a data frame of some numbers is not too large.

    Raises:
        ModelError: If it is.
    """
    if number > MAX_CELLS:
        raise ModelError(
            f"the {what} has {number:,} entries, at most {MAX_CELLS:,} are put in a data frame",
            "condition it, or look at its tensor",
        )


def rows_index(variables: Sequence[Variable]) -> Any:
    """Return an index with a row for each joint state of discrete variables."""
    import pandas as pd

    if not variables:
        return pd.RangeIndex(1)
    names = [v.name for v in variables]
    index = pd.MultiIndex.from_product([_labels(v) for v in variables], names=names)
    return index if len(names) > 1 else index.get_level_values(0)


def table_text(title: str, frame: Any) -> str:
    """Return a data frame of numbers as text under a title; long ones are truncated."""
    import pandas as pd

    num_omitted = len(frame) - ROWS
    shown = frame.iloc[:ROWS] if num_omitted > 0 else frame
    alone = isinstance(frame.index, pd.RangeIndex)
    text = shown.to_string(float_format=_number, index=not alone, line_width=LINE)
    omitted = f"\n... and {num_omitted:,} more rows: see .frame()" if num_omitted > 0 else ""
    return f"{title}\n{text}{omitted}"


def _labels(variable: Variable) -> Any:
    import pandas as pd

    return pd.Index(list(variable.states or ()), tupleize_cols=False)


def _number(x: float) -> str:
    """Four decimals; numbers that would be rounded to zero are shown as such."""
    return f"{x:.4g}" if 0.0 < abs(x) < 5e-5 or abs(x) >= 1e5 else f"{x:.4f}"
