"""Conditionals as text and as HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pgnn.errors import Unsupported
from pgnn.factors.html import frame_table, name_text, preformatted, stacked, text_line
from pgnn.factors.table_frame import MAX_CELLS, table_frame, table_text

if TYPE_CHECKING:
    from pgnn.factors.conditionals.conditional import Conditional

Values = Mapping[Hashable, Tensor]
COLUMNS = 40
"""Most columns of parameters that are printed."""


@torch.no_grad()
def conditional_frame(conditional: Conditional, inputs: Values | None = None) -> Any:
    """Return the table of probabilities, or that of the parameters, as a data frame."""
    if _is_plain(conditional):
        return table_frame(conditional.scope, conditional.factor(None, inputs).values, across=True)
    parameters = conditional.parameter_table()
    if parameters is not None:
        return parameters.frame()
    kind, name = type(conditional).__name__, conditional.child.name
    real = next(v.name for v in conditional.scope if not v.is_discrete or v.shape)
    raise Unsupported(
        f"the {kind} conditional of {name!r} has no table, since {real!r} is not a single "
        "discrete variable",
        "see its named_parameters(), or distribution() at given values",
    )


def conditional_text(conditional: Conditional) -> str:
    """Return the table as text if it is small and needs no inputs; otherwise the kind."""
    frame = _small_frame(conditional)
    if frame is None:
        return repr(conditional)
    return table_text(f"{_title(conditional)}, {conditional.kind_name}", frame)


def conditional_html(conditional: Conditional) -> str:
    """Return the table as HTML."""
    frame = _small_frame(conditional)
    if frame is None:
        return stacked(preformatted(repr(conditional)))
    return stacked(text_line(_title(conditional, name_text)), frame_table(frame))


def _title(conditional: Conditional, write: Callable[[object], str] = str) -> str:
    """The title, such as ``p(wet | rain)``."""
    name, parents = conditional.child.name, conditional.parents
    conditions = ", ".join(write(n) for n in (*(v.name for v in parents), *conditional.inputs))
    return f"p({write(name)} | {conditions})" if conditions else f"p({write(name)})"


def _is_plain(conditional: Conditional) -> bool:
    return all(v.is_discrete and not v.shape for v in conditional.scope)


@torch.no_grad()
def _small_frame(conditional: Conditional) -> Any:
    """The data frame, None without a small one."""
    if _is_plain(conditional):
        small = not conditional.inputs and math.prod(conditional.shape) <= MAX_CELLS
        return conditional.frame() if small else None
    if conditional.is_unset:
        return None
    parameters = conditional.parameter_table()
    small = parameters is not None and parameters.num_columns <= COLUMNS
    return conditional.frame() if small else None
