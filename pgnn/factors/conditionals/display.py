"""Conditionals as text and as HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pgnn.factors.html import frame_table, preformatted, stacked, text_line
from pgnn.factors.table_frame import MAX_CELLS, table_text

if TYPE_CHECKING:
    from pgnn.factors.conditionals.conditional import Conditional


def conditional_text(conditional: Conditional) -> str:
    """Return the table as text if it is small and needs no inputs; otherwise the kind."""
    if not _has_small_table(conditional):
        return repr(conditional)
    heading = f"{_title(conditional)}, {type(conditional).__name__}"
    return table_text(heading, conditional.frame())


def conditional_html(conditional: Conditional) -> str:
    """Return the table as HTML."""
    if not _has_small_table(conditional):
        return stacked(preformatted(repr(conditional)))
    return stacked(text_line(_title(conditional)), frame_table(conditional.frame()))


def _title(conditional: Conditional) -> str:
    """The title, such as ``p(wet | rain)``."""
    name, parents = conditional.child.name, conditional.parents
    conditions = ", ".join(str(n) for n in (*(v.name for v in parents), *conditional.inputs))
    return f"p({name} | {conditions})" if conditions else f"p({name})"


def _has_small_table(conditional: Conditional) -> bool:
    plain = all(v.is_discrete and not v.shape for v in conditional.scope)
    return plain and not conditional.inputs and math.prod(conditional.shape) <= MAX_CELLS
