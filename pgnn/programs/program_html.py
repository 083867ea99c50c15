"""HTML representation of programs for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgnn.errors import counted
from pgnn.factors.html import Html, escaped, folded, html_table, stacked, text_line

if TYPE_CHECKING:
    from pgnn.programs.program import Program
    from pgnn.programs.sites import ProgramSite

_SITES, _STATES = 60, 8


def program_html(program: Program) -> str:
    """Return the sites of a program: their values, plates, and the sites they depend on."""
    sites = program.sites
    shown = [*sites.values()][:_SITES]
    plates = {name for site in sites.values() for name in site.plates}
    counts = [counted(len(sites), "site"), counted(len(plates), "plate")]
    counts += [counted(program.num_free_parameters, "free parameter")]
    header = ("site", "values", "plates", "depends on")
    table = html_table([_row(site) for site in shown], header)
    parts = [folded(f"{type(program).__name__}, {', '.join(counts)}", table, opened=True)]
    if len(sites) > _SITES:
        parts.append(text_line(f"... and {len(sites) - _SITES:,} more sites: see .sites"))
    if program.obstacle is not None:
        parts.append(text_line(f"no tables, queries execute the program: {program.obstacle}"))
    return stacked(*parts)


def _row(site: ProgramSite) -> list[object]:
    name = escaped(site.name)
    return [
        Html(f"{name} <i>observed</i>" if site.observed else name),
        _values(site),
        ", ".join(f"{plate}: {size:,}" for plate, size in site.plates.items()),
        ", ".join(site.parents),
    ]


def _values(site: ProgramSite) -> str:
    """Return the values of one cell of the plates."""
    variable = site.variable
    if variable is None:
        return "data"
    shape = " x ".join(map(str, variable.shape[len(site.plates) :]))
    text = "real"
    if variable.is_discrete:
        states = [str(s) for s in (variable.states or ())[:_STATES]]
        more = variable.num_states - len(states)
        text = ", ".join([*states, *([f"... {more} more"] if more else [])])
    return f"{text}; {shape} cells" if shape else text
