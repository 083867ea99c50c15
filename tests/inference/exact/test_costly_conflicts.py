"""Conflicts whose search would take longer than the answer are not searched."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence
from pgnn.inference.exact import conflict


def equal_neighbours(size: int) -> pgnn.MarkovRandomField:
    table = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]).double()
    nodes = {n: pgnn.Variable(n, 2) for n in nx.grid_2d_graph(size, size)}
    edges = nx.grid_2d_graph(size, size).edges
    return pgnn.MarkovRandomField([pgnn.Factor([nodes[a], nodes[b]], table) for a, b in edges])


def test_only_cheap_conflicts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, evidence = equal_neighbours(4), {(0, 0): 0, (1, 2): 0, (3, 3): 1}
    with pytest.raises(ImpossibleEvidence, match="cannot occur together") as named:
        model.query([], evidence)
    assert len(named.value.conflict) == 2
    monkeypatch.setattr(conflict, "_AFFORDABLE", 10.0)
    with pytest.raises(ImpossibleEvidence, match="was not searched, since each step") as other:
        model.query([], evidence)
    assert other.value.conflict == {}
