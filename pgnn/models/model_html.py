"""HTML representation of models for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pgnn.abilities import DirectedModel
from pgnn.errors import ModelError, counted
from pgnn.factors.html import Html, folded, html_table, stacked, text_line
from pgnn.factors.variable import Variable

if TYPE_CHECKING:
    from pgnn.models.model import Model

_VARIABLES, _TABLES, _STATES = 60, 30, 8


def model_html(model: Model) -> str:
    """Return the variables of a model, their states and parents, with collapsed tables."""
    name = type(model).__name__
    try:
        variables = [*model.variables.values()]
    except ModelError:  # states that are taken from data
        return stacked(text_line(f"{name}, not fitted, {counted(len(model.graph), 'variable')}"))
    header = ["variable", "values", *(["parents"] if isinstance(model, DirectedModel) else [])]
    rows = [_row(model, variable) for variable in variables[:_VARIABLES]]
    free = counted(model.num_free_parameters, "free parameter")
    head = f"{name}, {counted(len(variables), 'variable')}, {free}"
    parts = [folded(head, html_table(rows, header), opened=True)]
    if len(variables) > _VARIABLES:
        parts.append(text_line(f"... and {len(variables) - _VARIABLES:,} more variables"))
    return stacked(*parts, *_tables(model))


def _row(model: Model, variable: Variable) -> Sequence[object]:
    row = [variable.name, _values(variable)]
    if isinstance(model, DirectedModel):
        row.append(", ".join(str(v.name) for v in model.conditionals[variable.name].parents))
    return row


def _values(variable: Variable) -> str:
    shape = " x ".join(map(str, variable.shape))
    if not variable.is_discrete:
        return f"real, {shape}" if shape else "real"
    states = [str(s) for s in (variable.states or ())[:_STATES]]
    more = variable.num_states - len(states)
    text = ", ".join([*states, *([f"... {more} more"] if more else [])])
    return f"{text}; {shape} cells" if shape else text


def _tables(model: Model) -> Iterator[Html]:
    if not isinstance(model, DirectedModel):
        return
    for conditional in [*model.conditionals.values()][:_TABLES]:
        noun = "table" if all(v.is_discrete for v in conditional.scope) else "parameters"
        yield folded(f"{noun} of {conditional.child.name}", Html(conditional._repr_html_()))
    if len(model.conditionals) > _TABLES:
        yield text_line("the other tables: model.conditionals[name]")
