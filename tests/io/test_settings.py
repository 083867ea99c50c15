"""Emissions in checkpoints: settings and numbers come back, constants stay constants."""

from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest
import torch

import pgnn
from pgnn.errors import DataError
from pgnn.factors import (
    Bernoulli,
    Conditional,
    Diagonal,
    Full,
    Gaussian,
    GaussianMixture,
    LinearGaussian,
    Multinomial,
    Poisson,
    Spherical,
    Tabular,
    Tied,
    Variable,
)

S, X, X3, U = Variable("s", 2), Variable("x"), Variable("x", shape=(3,)), Variable("u", shape=(2,))

MAKE: list[Callable[[], Conditional]] = [
    lambda: Gaussian(X, [S], [0.0, 5.0]),
    lambda: Gaussian(X3, [S], form=Tied(0.1)),
    lambda: Gaussian(X3, [S], form=Spherical(0.2)),
    lambda: GaussianMixture(X3, [S], 4, form=Diagonal(0.3)),
    lambda: LinearGaussian(X3, [S, U], form=Full(0.4)),
    lambda: Poisson(X3, [S], min_rate=0.5),
    lambda: Bernoulli(X3, [S], min_prob=0.25),
    lambda: Multinomial(X3, [S], draws=7),
]


def network(conditional: Conditional) -> pgnn.BayesianNetwork:
    parts: dict = {"s": Tabular(S, (), [0.5, 0.5]), "x": conditional}
    graph = nx.DiGraph([("s", "x")])
    if U in conditional.parents:
        graph.add_edge("u", "x")
        parts["u"] = Gaussian(U)
    return pgnn.BayesianNetwork(graph, parts)


@pytest.mark.parametrize("make", MAKE)
def test_emissions_come_back(make: Callable[[], Conditional], tmp_path: Path) -> None:
    conditional = make()
    values = {
        v.name: torch.rand(9, *v.shape, dtype=torch.float64).round()
        for v in conditional.scope
        if not v.is_discrete
    }
    conditional.initialize(values, 0)
    model = network(conditional)
    pgnn.save(model, tmp_path / "model.safetensors")
    loaded = pgnn.load(tmp_path / "model.safetensors").conditionals["x"]
    assert type(loaded) is type(conditional)
    for (key, p), q in zip(conditional.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(p, q), key
        assert p.requires_grad == q.requires_grad
    for name in ("form", "min_rate", "min_prob", "num_components", "draws", "centre"):
        found, expected = getattr(loaded, name, None), getattr(conditional, name, None)
        assert (
            torch.equal(found, expected)
            if name == "centre" and expected is not None
            else (found == expected)
        )
    assert torch.equal(loaded.factor(values).log_values, conditional.factor(values).log_values)


def test_a_form_of_ones_own_needs_the_conditional(tmp_path: Path) -> None:
    class Own(Diagonal):
        pass

    model = network(Gaussian(X3, [S], form=Own()))
    pgnn.save(model, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="Gaussian conditional, whose code is not in the file"):
        pgnn.load(tmp_path / "model.safetensors")
    given = Gaussian(X3, [S], form=Own())
    loaded = pgnn.load(tmp_path / "model.safetensors", {"x": given})
    assert isinstance(loaded.conditionals["x"].form, Own)
