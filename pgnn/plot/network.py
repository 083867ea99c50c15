"""Plots of the graph of a model, with marginals in the nodes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from pgnn.abilities import FactorModel, UnrollableModel
from pgnn.errors import EvidenceError
from pgnn.graphs.checks import graph_of
from pgnn.graphs.layered_layout import Layout, layered_layout
from pgnn.inference.model_reader import reader_of
from pgnn.plot.canvas import Canvas
from pgnn.plot.cards import Card, draw_cards
from pgnn.plot.marginal_cards import Findings, marginal_cards, mark_of, name_of

if TYPE_CHECKING:
    from pgnn.inference.posterior import Posterior

GAP = (16.0, 26.0)
_CAPTION = 14.0


def network(
    model: Any,
    posterior: Posterior | None = None,
    *,
    evidence: Any = None,
    before: Posterior | None = None,
    row: int = 0,
    max_states: int = 6,
    highlighted: Mapping[frozenset[Hashable], float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the graph of a model in layers, with marginals as bars in the nodes.

    An observed variable has a thick frame, the word "observed", and its state in bold. If previous
    marginals are given, they are shown as ticks on the bars, and the variable whose distribution
    changed most (in total variation) is marked.

    Args:
        model: A model whose graph is directed and acyclic, or undirected; or such a graph.
        posterior: Marginals of the variables; without it, and without evidence, only names are
            drawn.
        evidence: Evidence, as in a query; without a posterior, the model is queried with and
            without this evidence.
        before: Marginals to compare with.
        row: Row of a batch.
        max_states: Largest number of lines of a node; the last one sums the least probable states.
        highlighted: Strengths between zero and one of pairs of nodes whose edges are drawn thick.
        ax: Axes to draw on; by default, a new figure that fits the graph.

    Returns:
        The axes.

    Raises:
        ModelError: If there is no graph, or it has a cycle.
        EvidenceError: If evidence is invalid, or the row does not exist.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
        >>> network(model, evidence={"b": 1})
        <Axes: >
    """
    graph = graph_of(model)
    findings = _findings(model, evidence, row)
    if posterior is None and evidence is not None:
        posterior = model.query(evidence=evidence)
        before = model.query() if before is None else before
    cards: dict[Hashable, Card] = {
        node: Card(name_of(node), (), mark_of(node, findings, None)) for node in graph
    }
    if posterior is not None:
        names = [n for n in posterior if n in cards]
        cards |= marginal_cards(
            posterior, names, before=before, findings=findings, row=row, max_states=max_states
        )
    layout = layered_layout(graph, {n: c.size for n, c in cards.items()}, gap=GAP)
    width, height = layout.size
    compared = before is not None and posterior is not None
    canvas = Canvas((width, height + _CAPTION * compared), ax)
    canvas.curves(layout.routes.values(), arrows=graph.is_directed())
    _highlight(canvas, layout, highlighted or {})
    draw_cards(canvas, cards, layout)
    if compared:
        canvas.write(0.0, height + _CAPTION, "tick: before the evidence", 6.5, style="italic")
    return canvas.ax


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
                color=canvas.palette.changed,
                linewidths=canvas.scale * (1.5 + 5.0 * strength),
                zorder=0.5,
            )


def _findings(model: Any, evidence: Any, row: int) -> Findings:
    if evidence is None:
        return {}
    if isinstance(model, UnrollableModel) or not isinstance(model, FactorModel):
        return dict.fromkeys(n for n in evidence if n in model.variables)
    observed = reader_of(model).read(evidence)
    if not 0 <= row < observed.num_rows:
        raise EvidenceError(f"row must be below {observed.num_rows}, the number of rows, got {row}")
    findings: dict[Hashable, Any] = {}
    for name in observed.names:
        variable = model.variables[name]
        if not variable.is_discrete or variable.shape:
            findings[name] = None
            continue
        number = int(model.elements.numbers(name))
        code = int(observed.codes[row, number])
        first = int(model.elements.offset[number])
        if code >= 0:
            findings[name] = (variable.states or ())[code]
        elif observed.soft is not None:
            weights = observed.soft[row, first : first + variable.num_states]
            if (weights != 1.0).any():
                findings[name] = None
    return findings
