"""Fields in files: checkpoints of every kind of potential, UAI files, and what BIF says to them."""

import io
import json
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import pgnn
import pgnn.io.checkpoint as checkpoint
from pgnn import (
    DataError,
    Factor,
    Ising,
    Lattice,
    LogLinear,
    MarkovRandomField,
    Neural,
    NeuralPotential,
    NoisyOr,
    Potential,
    Potts,
    Sigmoid,
    Tabular,
    TabularPotential,
    Unsupported,
    Variable,
    load,
    save,
)
from pgnn.factors.groups.factor_group import TableGroup

RNG = np.random.default_rng(0)
X = Variable("x", 2, shape=(2, 3))
D = Variable("d", ["r", "g", "b"], shape=(4,))
A, B = Variable("a", ["no", "yes"]), Variable(7, 2)

POTENTIALS = {
    "lattice": lambda: Ising(
        X, RNG.normal(size=2), RNG.normal(size=(2, 3)), Lattice((True, False))
    ),
    "learnable": lambda: Ising(X, field=None, edges=Lattice(diagonals=True)),
    "edges": lambda: Ising(
        [X, A], RNG.normal(size=2), 0.0, [(("x", 0, 1), "a"), (("x", 1, 1), "a")]
    ),
    "potts": lambda: Potts(D, -math.inf, [0.1, -math.inf, 0.3]),
    "field": lambda: Potts(D, None, RNG.normal(size=(4, 3))),
    "table": lambda: TabularPotential([A, X.element(0, 1), D], [[[0, 1, 2]] * 2] * 2),
    "tables": lambda: TabularPotential(X, RNG.random((2, 3, 2))),
    "scopes": lambda: TabularPotential(X, scopes=[((0, 0), (1, 2)), ((0, 1), (1, 1))]),
    "features": lambda: LogLinear([A, B], {"f": lambda a, b: a == "yes", ("g", 1): lambda a, b: b}),
    "weights": lambda: LogLinear(X, torch.ones(1, 2, 2), [0.25], scopes=Lattice()),
    "factors": lambda: [
        Factor([B, A], torch.randn(2, 2)),
        Factor([B], torch.tensor([0.0, -math.inf]).double()),
        Factor([], torch.tensor(1.5).double()),
        Factor([A, B], torch.randn(2, 2)),
    ],
}  # fmt: skip


def same(one: MarkovRandomField, two: MarkovRandomField, **inputs: torch.Tensor) -> None:
    assert dict(one.variables) == dict(two.variables)
    assert list(one.variables) == list(two.variables)
    assert nx.utils.graphs_equal(nx.Graph(one.graph.edges), nx.Graph(two.graph.edges))
    assert [type(p) for p in one.potentials] == [type(p) for p in two.potentials]
    mine, theirs = dict(one.named_parameters()), dict(two.named_parameters())
    assert list(mine) == list(theirs)
    for name, p in mine.items():
        assert p.dtype == theirs[name].dtype
        assert p.requires_grad == theirs[name].requires_grad
        assert torch.equal(p, theirs[name])
    for f, g in zip(one.factors(None, inputs), two.factors(None, inputs), strict=True):
        assert f.variables == g.variables
        assert torch.equal(f.log_values, g.log_values)


@pytest.mark.parametrize("kind", POTENTIALS)
def test_potentials(kind: str, tmp_path: Path) -> None:
    made = POTENTIALS[kind]()
    model = MarkovRandomField([*(made if isinstance(made, list) else [made]), Ising(X, 0.5)])
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    same(model, again)
    for p, q in zip(model.potentials, again.potentials, strict=True):
        assert vars(p).get("lattice") == vars(q).get("lattice")
        assert vars(p).get("feature_names") == vars(q).get("feature_names")


def test_the_graph_is_kept(tmp_path: Path) -> None:
    graph = nx.Graph([("c", "b"), ("b", "a")])
    graph.add_node("alone")
    graph.add_node("array", shape=(2, 2))
    graph.add_edge("array", "a")
    model = MarkovRandomField(graph, {("b", "c"): [[1, 2], [3, 4]]}, dict.fromkeys(graph, 2))
    save(model, tmp_path / "m")
    same(model, load(tmp_path / "m"))
    assert list(load(tmp_path / "m").graph) == list(graph)


def test_networks_are_the_callers(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 12), nn.Unflatten(1, (4, 3)))

    model = MarkovRandomField(
        [
            NeuralPotential(D, network(), "u"),
            NeuralPotential(D, nn.Linear(3, 3), ["u"], edges=Lattice()),
            NeuralPotential([A, B], nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))), "u"),
            NeuralPotential(D, nn.Sequential(nn.Linear(3, 9), nn.Unflatten(1, (1, 3, 3))), "u",
                            scopes=[(0, 3)]),
        ]
    )  # fmt: skip
    save(model, tmp_path / "m")
    modules = {
        "d": [network(), nn.Linear(3, 3), model.potentials[3]],
        ("a", 7): nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))),
    }
    again = load(tmp_path / "m", modules)
    same(model, again, u=torch.randn(2, 3))
    assert again.potentials[3] is not model.potentials[3]
    assert len(modules["d"]) == 3
    with pytest.raises(DataError, match=r"'d' has a NeuralPotential.*pass modules="):
        load(tmp_path / "m")
    with pytest.raises(DataError, match=r"\('a', 7\) has a NeuralPotential"):
        load(tmp_path / "m", {"d": modules["d"]})
    with pytest.raises(DataError, match="'d', which has no potential"):
        load(tmp_path / "m", {**modules, "d": [*modules["d"], network()]})
    with pytest.raises(DataError, match="same architecture"):
        load(tmp_path / "m", {**modules, ("a", 7): nn.Linear(3, 4)})


class Own(Potential):
    """A kind that the library does not know."""

    def __init__(self, variables):
        super().__init__(variables)
        self.level = nn.Parameter(torch.ones(2).double())

    def groups(self, elements, inputs=None):
        return (TableGroup(self.placed(elements), self.level[None]),)


def test_own_kinds_are_the_callers(tmp_path: Path) -> None:
    model = MarkovRandomField([Own(A)])
    with torch.no_grad():
        model.potentials[0].level[1] = 5
    save(model, tmp_path / "m")
    same(model, load(tmp_path / "m", {"a": Own(A)}))
    for wrong in (nn.Linear(1, 1), Own(B), Ising(A)):
        with pytest.raises(DataError, match="Own"):
            load(tmp_path / "m", {"a": wrong})


def bayesian() -> pgnn.BayesianNetwork:
    a, b, c = (Variable(n, 2) for n in "abc")
    parts = [Tabular(a, (), [0.25, 0.75]), NoisyOr(b, [a]), Sigmoid(c, [a, b])]
    edges = [("a", "b"), ("a", "c"), ("b", "c")]
    return pgnn.BayesianNetwork(edges, {p.child.name: p for p in parts})


def test_networks_without_arrows(tmp_path: Path) -> None:
    field = MarkovRandomField.from_bayesian(bayesian())
    save(field, tmp_path / "m")
    same(field, load(tmp_path / "m"))
    a = Variable("a", 2)
    neural = pgnn.BayesianNetwork([], {"a": Neural(a, (), nn.Linear(3, 2), "u")})
    field = MarkovRandomField.from_bayesian(neural)
    save(field, tmp_path / "m")
    same(field, load(tmp_path / "m", {"a": nn.Linear(3, 2)}), u=torch.randn(2, 3))


def test_unknown_kinds(tmp_path: Path) -> None:
    save(MarkovRandomField([Ising(X)]), tmp_path / "m")
    structure, tensors = checkpoint._read(tmp_path / "m")
    text = json.dumps(structure).replace('"Ising"', '"Spin"')
    metadata = {"pgnn": text, "crc32": checkpoint._checksum(text, tensors)}
    save_file(tensors, tmp_path / "m", metadata)
    with pytest.raises(DataError, match="unknown kind 'Spin'"):
        load(tmp_path / "m")


# --- other formats ------------------------------------------------------------------------------


def test_uai_of_a_network_without_arrows(tmp_path: Path) -> None:
    directed = bayesian()
    pgnn.write(MarkovRandomField.from_bayesian(directed), tmp_path / "x.uai")
    again = pgnn.read(tmp_path / "x.uai")
    assert isinstance(again, MarkovRandomField)
    assert float(again.log_partition()) == pytest.approx(0, abs=1e-12)
    for k, n in enumerate("abc"):
        torch.testing.assert_close(again.query(k)[k].probs, directed.query(n)[n].probs.detach())


def test_uai_of_arrays(tmp_path: Path) -> None:
    model = MarkovRandomField(
        [Ising(X, 0.5, 0.1), Potts(D, 0.3), TabularPotential([A, X.element(1, 1)], np.eye(2) + 1)]
    )
    pgnn.write(model, tmp_path / "x.uai")
    again = pgnn.read(tmp_path / "x.uai")
    assert len(again.variables) == 11
    assert float(again.log_partition()) == pytest.approx(float(model.log_partition()), abs=1e-12)
    number = model.elements.numbers(("x", 1, 1))
    torch.testing.assert_close(
        again.query(int(number))[int(number)].probs, model.query("x")["x"].probs[1, 1]
    )
    pgnn.io.write_evidence({("x", 1, 1): 1, "a": "yes"}, tmp_path / "e", model)
    assert pgnn.read_evidence(tmp_path / "e") == {int(number): 1, 10: 1}
    with pytest.raises(pgnn.EvidenceError, match="is an array"):
        pgnn.io.write_evidence({"x": 1}, tmp_path / "e", model)


def test_uai_of_a_large_ising_field() -> None:
    model = MarkovRandomField.grid((40, 40), coupling=0.5)
    constant = model.factors()[-1]
    assert constant.log_values < -745
    text = io.StringIO()
    pgnn.write(model, text, "uai")
    again = pgnn.read(io.StringIO(text.getvalue()))
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 2, size=(3, 40, 40)))
    flat = codes.reshape(3, -1)
    torch.testing.assert_close(again.log_score(flat), model.log_score({"x": codes}))


def test_what_the_formats_refuse(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"holds Bayesian networks.*uai"):
        pgnn.write(MarkovRandomField.grid((2, 2)), tmp_path / "x.bif")
    model = MarkovRandomField([NeuralPotential(A, nn.Linear(3, 2), "u")])
    with pytest.raises(Unsupported, match="inputs 'u'"):
        pgnn.write(model, tmp_path / "x.uai")
    assert not list(tmp_path.iterdir())
