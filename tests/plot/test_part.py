"""Parts of large networks: what is near, and a mark where edges lead out of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import pytest

import pgnn
from pgnn.errors import ModelError
from tests.plot.test_network import overlaps, words


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    with plt.rc_context({"backend": "Agg"}):
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def asia() -> pgnn.BayesianNetwork:
    return pgnn.read(Path(pgnn.__file__).parent / "networks" / "asia.bif")


def test_only_what_is_near_is_drawn_and_edges_that_lead_out_are_counted(
    asia: pgnn.BayesianNetwork,
) -> None:
    ax = pgnn.plot.network(asia, around="lung")
    names = [w for w in words(ax) if w in asia.variables]
    assert names == ["smoke", "lung", "either"]
    # smoke -> bronc, tub -> either, either -> xray and dysp
    place = {t.get_text(): t.get_position() for t in ax.texts}
    numbers = sorted(t.get_text() for t in ax.texts if t.get_text().startswith("+"))
    assert numbers == ["+1", "+1", "+2"]
    assert place["+2"][1] > place["either"][1]
    assert "dotted: edges that lead out of the picture, with their number" in words(ax)
    assert overlaps(ax) == []
    everything = pgnn.plot.network(asia, around=["lung", "asia"], radius=8)
    assert sorted(words(everything)) == sorted(asia.variables)


def test_marginals_are_those_of_the_whole_network(asia: pgnn.BayesianNetwork) -> None:
    evidence = {"xray": "yes", "asia": "yes"}
    ax = pgnn.plot.network(asia, evidence=evidence, around="lung", radius=1)
    posterior = asia.query(["smoke", "lung", "either"], evidence)
    assert {f"{100 * posterior[n].probs[0]:.1f}%" for n in posterior} <= set(words(ax))
    assert "2 observed variables not in the picture" in words(ax)
    assert words(ax).count("changed most") == 1
    near = pgnn.plot.network(asia, evidence=evidence, around="either", radius=1)
    assert words(near).count("observed") == 1
    assert "1 observed variable not in the picture" in words(near)


def test_undirected_graphs_and_nodes_that_are_tuples() -> None:
    grid = nx.grid_2d_graph(5, 5)
    ax = pgnn.plot.network(grid, around=(2, 2))
    drawn = [w for w in words(ax) if w.startswith("(")]
    assert sorted(drawn) == ["(1, 2)", "(2, 1)", "(2, 2)", "(2, 3)", "(3, 2)"]
    assert [w for w in words(ax) if w.startswith("+")] == ["+3"] * 4


def test_a_part_of_a_large_network_is_readable(data_dir: Path) -> None:
    andes = pgnn.read(data_dir / "bn" / "andes.bif")
    ax = pgnn.plot.network(andes, evidence={"SNode_3": "true"}, around="GOAL_61", radius=2)
    assert overlaps(ax) == []
    assert max(ax.figure.get_size_inches()) < 12.0
    box = ax.get_window_extent()
    extents = [t.get_window_extent() for t in ax.texts]
    assert all(box.x0 <= e.x0 and e.x1 <= box.x1 and box.y0 <= e.y0 for e in extents)
    near = nx.ego_graph(andes.graph, "GOAL_61", 2, undirected=True)
    assert {w for w in words(ax) if w in andes.variables} == set(near)


def test_refusals(asia: pgnn.BayesianNetwork) -> None:
    with pytest.raises(ModelError, match="'lungs' is not in the graph; did you mean 'lung'"):
        pgnn.plot.network(asia, around="lungs")
    with pytest.raises(ModelError, match="radius"):
        pgnn.plot.network(asia, around="lung", radius=-1)
