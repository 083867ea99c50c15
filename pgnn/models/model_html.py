"""HTML representation of models for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgnn.abilities import DirectedModel
from pgnn.errors import ModelError, counted
from pgnn.factors.html import Html, folded, html_table, name_text, stacked, text_line
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.factors.conditionals.conditional import Conditional
    from pgnn.models.model import Model

_VARIABLES, _TABLES, _STATES = 60, 30, 8


def model_html(model: Model) -> str:
    """Return the variables of a model, their states and parents, with collapsed tables."""
    name = type(model).__name__
    try:
        variables = [*model.variables.values()]
    except ModelError:  # states that are taken from data
        return stacked(text_line(f"{name}, not fitted, {counted(len(model.graph), 'variable')}"))
    directed = isinstance(model, DirectedModel)
    header = ["variable", "values", *(["parents", "table"] if directed else [])]
    shown = variables[:_VARIABLES]
    rows = [_row(model, v, has_table=k < _TABLES) for k, v in enumerate(shown)]
    free = counted(model.num_free_parameters, "free parameter")
    head = f"{name}, {counted(len(variables), 'variable')}, {free}"
    parts = [folded(head, html_table(rows, header), opened=True)]
    if len(variables) > _VARIABLES:
        parts.append(text_line(f"... and {len(variables) - _VARIABLES:,} more variables"))
    if directed and len(variables) > _TABLES:
        parts.append(text_line("the other tables: model.conditionals[name]"))
    return stacked(*parts)


def _row(model: Model, variable: Variable, *, has_table: bool) -> Sequence[object]:
    row: list[object] = [name_text(variable.name), _values(variable)]
    if isinstance(model, DirectedModel):
        conditional = model.conditionals[variable.name]
        row.append(", ".join(name_text(v.name) for v in conditional.parents))
        row.append(_table(conditional) if has_table else "")
    return row


def _values(variable: Variable) -> str:
    shape = " x ".join(map(str, variable.shape))
    if not variable.is_discrete:
        return f"real, {shape}" if shape else "real"
    states = [str(s) for s in (variable.states or ())[:_STATES]]
    more = variable.num_states - len(states)
    text = ", ".join([*states, *([f"... {more} more"] if more else [])])
    return f"{text}; {shape} cells" if shape else text


def _table(conditional: Conditional) -> Html:
    """Return a table that is folded under its name."""
    noun = "table" if all(v.is_discrete for v in conditional.scope) else "parameters"
    body = Html(conditional._repr_html_())
    return folded(f"{noun} of {name_text(conditional.child.name)}", body)
