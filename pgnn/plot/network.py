"""Plots of the graph of a model, with marginals in the nodes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgnn.abilities import FactorModel, UnrollableModel, VariableModel
from pgnn.errors import ModelError
from pgnn.factors.html import name_text
from pgnn.graphs.checks import graph_of
from pgnn.graphs.layered_layout import Layout, layered_layout
from pgnn.inference.findings import Findings
from pgnn.inference.model_reader import reader_of
from pgnn.plot.canvas import Canvas
from pgnn.plot.captions import captioned, captions_of, write_captions
from pgnn.plot.cards import Bar, Card, Mark, draw_cards
from pgnn.plot.marginal_cards import (
    RowFindings,
    finding_lines,
    findings_of,
    marginal_cards,
    mark_of,
)
from pgnn.plot.part import Part

if TYPE_CHECKING:
    from pgnn.inference.posterior import Posterior

GAP = (16.0, 26.0)
_THICK = "thick: trails from findings to the target, the wider the stronger"


def network(
    model: Any,
    posterior: Posterior | None = None,
    *,
    evidence: Any = None,
    around: Hashable | Iterable[Hashable] | None = None,
    radius: int = 1,
    before: Posterior | None = None,
    row: int = 0,
    max_states: int = 6,
    highlighted: Mapping[frozenset[Hashable], float] | None = None,
    target: Hashable | None = None,
    ax: Any = None,
) -> Any:
    """Draw the graph of a model in layers, with marginals as bars in the nodes.

    An observed variable has a thick frame, the word "observed", and its state in bold. If previous
    marginals are given, they are shown as ticks on the bars, and the variable whose distribution
    changed most (in total variation) is marked. A line below says if probabilities are estimates.

    Args:
        model: A model whose graph is directed and acyclic, or undirected; or such a graph.
        posterior: Marginals of the variables; without it, and without evidence, only names are
            drawn.
        evidence: Evidence, as in a query; without a posterior, the model is queried with and
            without this evidence. By default the evidence of the posterior.
        around: A variable, or several: only those within ``radius`` edges of them are drawn, and
            dotted lines say how many edges lead out of the picture. By default all variables.
        radius: Largest number of edges, whatever their directions.
        before: Marginals to compare with.
        row: Row of a batch.
        max_states: Largest number of lines of a node; the last one sums the least probable states.
        highlighted: Strengths between zero and one of pairs of nodes whose edges are drawn thick.
        target: Name of a variable that is marked as the target of the highlighted edges.
        ax: Axes to draw on; by default, a new figure that fits the graph.

    Returns:
        The axes.

    Raises:
        ModelError: If there is no graph, it has a cycle, or does not have a node of ``around``.
        EvidenceError: If evidence is invalid, or the row does not exist.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> network(model, evidence={"b": 1})
        <Axes: >
    """
    part = Part.of(graph_of(model), around, radius)
    graph = part.graph
    findings = findings_of(posterior, row) if evidence is None else _findings(model, evidence, row)
    if posterior is None and evidence is not None:
        names = None if around is None else [n for n in model.variables if n in graph]
        posterior = model.query(names, evidence=evidence)
        before = model.query(names) if before is None else before
    cards: dict[Hashable, Card] = {
        node: Card(
            name_text(node),
            [*_shape_lines(model, node), *finding_lines(findings.get(node))],
            mark_of(node, findings, None),
        )
        for node in graph
    }
    if posterior is not None:
        names = [n for n in posterior if n in cards]
        cards |= marginal_cards(
            posterior, names, before=before, findings=findings, row=row, max_states=max_states
        )
    if target in cards:
        cards[target] = replace(cards[target], mark=Mark.TARGET)
    layout = part.padded(layered_layout(graph, {n: c.size for n, c in cards.items()}, gap=GAP))
    captions = captions_of(cards, posterior, row, "before the evidence")
    captions += part.captions(findings)
    captions += [_THICK] if highlighted else []
    canvas = Canvas(captioned(layout.size, captions), ax)
    canvas.curves(layout.routes.values(), arrows=graph.is_directed())
    _highlight(canvas, layout, highlighted or {})
    draw_cards(canvas, cards, layout)
    part.draw_ways_out(canvas, cards, layout)
    write_captions(canvas, captions, layout.size[1])
    return canvas.ax


def _shape_lines(model: Any, node: Hashable) -> list[Bar]:
    """Return the line with the size of an array; none if the states are taken from data."""
    try:
        variables = model.variables if isinstance(model, VariableModel) else {}
    except ModelError:
        return []
    shape = variables[node].shape if node in variables else ()
    return [Bar(f"{' x '.join(map(str, shape))} cells")] if shape else []


def _highlight(
    canvas: Canvas, layout: Layout, strengths: Mapping[frozenset[Hashable], float]
) -> None:
    """Draw thick lines under the highlighted edges."""
    for edge, route in layout.routes.items():
        strength = strengths.get(frozenset(edge), 0.0)
        if strength > 0.0:
            canvas.curves(
                [route],
                arrows=False,
                color=canvas.palette.trail,
                linewidths=canvas.scale * (3.0 + 4.0 * strength),
                zorder=0.5,
            )


def _findings(model: Any, evidence: Any, row: int) -> RowFindings:
    if evidence is None:
        return {}
    if isinstance(model, UnrollableModel) or not isinstance(model, FactorModel):
        return dict.fromkeys((n for n in evidence if n in model.variables), "a sequence")
    return Findings(reader_of(model).read(evidence), model.elements).of_row(row)
