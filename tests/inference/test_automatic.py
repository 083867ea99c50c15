"""No engine named: exact where that fits, the right approximation elsewhere, and told so."""

import math

import networkx as nx
import numpy as np
import pytest
import torch
from torch.distributions import Normal

import pgnn
from pgnn import Automatic, Factor, MarkovRandomField, Variable
from pgnn.errors import Intractable
from pgnn.inference import automatic
from tests import oracle

SIDE = 60


def spins(side: int = SIDE, strength: float = 0.3) -> MarkovRandomField:
    rng = np.random.default_rng(0)
    coupling = rng.normal(0.0, strength, 2 * side * (side - 1))
    field = rng.normal(size=(side, side))
    return MarkovRandomField.grid((side, side), coupling=coupling, field=field, name="spin")


def rows_but(row: int) -> torch.Tensor:
    """Every spin up except one row of the grid, of which nothing was observed."""
    observed = torch.ones(SIDE, SIDE, dtype=torch.int64)
    observed[row] = -1
    return observed


@pytest.mark.parametrize("verb", ["query", "most_probable", "sample", "log_prob", "explain"])
def test_small_models_are_answered_exactly(verb) -> None:
    model, engine = spins(4), Automatic()
    exact = pgnn.JunctionTree()
    if verb == "query":
        found = model.query(engine=engine)
        assert (found.kind, found.engine) == ("exact", "JunctionTree")
        assert "reason" not in found.diagnostics
    elif verb == "most_probable":
        found = model.most_probable(engine=engine)
        assert float(found.log_prob) == float(model.most_probable(engine=exact).log_prob)
    elif verb == "sample":
        found = model.sample(5, seed=3)["spin"]
        assert np.array_equal(found, model.sample(5, seed=3, engine=exact)["spin"])
    elif verb == "log_prob":
        assert float(model.log_partition()) == float(model.log_partition(engine=exact))
    else:
        assert model.explain().engine == "JunctionTree"


def test_large_marginals_come_from_propagation() -> None:
    model = spins()
    found = model.query()
    assert (found.kind, found.engine) == ("estimate", "BeliefPropagation")
    assert "3,600 variables" in found.diagnostics["reason"]
    same = model.query(engine=pgnn.BeliefPropagation())
    assert torch.equal(found["spin"].probs, same["spin"].probs)
    told = model.explain()
    assert (told.engine, told.kind) == ("BeliefPropagation", "estimate")
    assert "because exact elimination of 3,600 variables" in told.reason


def test_evidence_can_make_large_models_easy() -> None:
    """One row of the grid is a chain."""
    found = spins().query(evidence={"spin": rows_but(7)})
    assert (found.kind, found.engine) == ("exact", "JunctionTree")
    assert spins().explain(None, {"spin": rows_but(7)}).engine == "JunctionTree"


def test_large_modes_come_with_a_bound() -> None:
    model = spins(strength=0.2)
    best = model.most_probable()
    assert best.engine == "DualDecomposition"
    assert float(best.log_prob) <= float(best.upper_bound) < float(best.log_prob) + 1e-3
    assert "3,600 variables" in best.diagnostics["reason"]
    with pytest.raises(Intractable):
        model.most_probable(k=2)


def test_slow_modes_come_from_a_short_search_that_proves_them() -> None:
    """An attractive field of two states, whose most probable states are a minimum cut."""
    rng, graph = np.random.default_rng(0), nx.grid_2d_graph(18, 18)
    field = {v: float(rng.normal()) for v in graph}
    coupling = {e: float(rng.gamma(1.0)) for e in graph.edges}
    potentials = [
        pgnn.TabularPotential([Variable(v, 2)], [1.0, math.exp(h)]) for v, h in field.items()
    ]
    potentials += [
        pgnn.TabularPotential([Variable(a, 2), Variable(b, 2)], np.exp([[c, 0.0], [0.0, c]]))
        for (a, b), c in coupling.items()
    ]
    best = MarkovRandomField(graph, potentials).most_probable(engine=Automatic(seed=0))
    assert best.engine == "DualDecomposition"
    assert "multiply-adds, and a bound proves" in best.diagnostics["reason"]
    network = nx.DiGraph()
    for (a, b), c in coupling.items():
        network.add_edge(a, b, capacity=c)
        network.add_edge(b, a, capacity=c)
    for v, h in field.items():
        network.add_edge(*((v, "zero") if h < 0 else ("one", v)), capacity=abs(h))
    cut = nx.minimum_cut_value(network, "one", "zero")
    top = sum(coupling.values()) + sum(h for h in field.values() if h > 0) - cut
    assert float(best.log_prob) == pytest.approx(top, abs=1e-9)
    assert float(best.upper_bound) == pytest.approx(top, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_short_searches_agree_with_enumeration(seed, monkeypatch) -> None:
    monkeypatch.setattr(automatic, "_SLOW", 0.0)
    rng = np.random.default_rng(seed)
    cards, tables = oracle.random_factors(rng, 6, 9, max_scope=3, zeros=0.2)
    variables = {n: Variable(n, k) for n, k in cards.items()}
    with np.errstate(divide="ignore"):
        factors = [
            Factor([variables[n] for n in scope], torch.from_numpy(np.log(table)))
            for scope, table in tables
        ]
    model = MarkovRandomField([Factor([v], torch.zeros(v.num_states)) for v in variables.values()]
                              + factors)  # fmt: skip
    joint = oracle.joint(cards, tables)
    _, top = oracle.mode(joint)
    best = model.most_probable(engine=Automatic(seed=0))
    assert float(best.log_prob) == pytest.approx(top, abs=1e-9)
    assert best.engine == "DualDecomposition"
    assert np.log(oracle.weight(joint, dict(best))) == pytest.approx(top, abs=1e-9)


def test_short_searches_that_prove_nothing_leave_the_answer_to_elimination(monkeypatch) -> None:
    monkeypatch.setattr(automatic, "_SLOW", 0.0)
    model, rows = spins(5, strength=2.0), {"spin": torch.full((2, 5, 5), -1)}
    assert model.most_probable(rows).engine == "DualDecomposition"
    bare = pgnn.DualDecomposition(max_iterations=1, search=None, progress=False)
    monkeypatch.setattr(pgnn.DualDecomposition, "brief", lambda seed: bare)
    best = model.most_probable(rows)  # without a warning
    assert best.engine == "JunctionTree"
    assert torch.equal(best.codes, model.most_probable(rows, engine=pgnn.JunctionTree()).codes)


def test_short_searches_leave_impossible_evidence_to_elimination(data_dir, monkeypatch) -> None:
    monkeypatch.setattr(automatic, "_SLOW", 0.0)
    with pytest.raises(pgnn.ImpossibleEvidence, match="lung=yes, either=no cannot"):
        pgnn.read(data_dir / "bn/asia.bif").most_probable({"lung": "yes", "either": "no"})


def test_large_marginal_modes_come_from_propagation() -> None:
    model = spins(strength=0.1)
    corner = [("spin", 0, k) for k in range(2)]
    found = model.most_probable(targets=corner)
    assert found.engine == "BeliefPropagation"
    assert {*found} == {*corner}


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_large_draws_come_from_chains() -> None:
    model = spins()
    drawn = model.sample(2, seed=1)["spin"]
    again = model.sample(2, seed=1)["spin"]
    assert drawn.shape == (2, SIDE, SIDE)
    assert np.array_equal(drawn, again)


def test_numbers_that_cannot_say_what_they_are_stay_exact() -> None:
    model = spins()
    with pytest.raises(Intractable, match=r"3,600 variables.*AnnealedImportanceSampling"):
        model.log_partition()
    with pytest.raises(Intractable, match="tree_reweighted"):
        model.log_prob({"spin": torch.ones(SIDE, SIDE, dtype=torch.int64)})
    assert math.isfinite(float(model.log_score({"spin": torch.ones(SIDE, SIDE).long()})))
    bound = model.log_partition(engine=pgnn.BeliefPropagation(tree_reweighted=True))
    assert float(bound) > float(model.log_partition(engine=pgnn.MeanField(seed=0)))


def test_budgets_decide() -> None:
    """The same model, allowed less memory or less work."""
    model = spins(8)
    assert model.query(engine=Automatic()).kind == "exact"
    small = model.query(engine=Automatic(max_bytes=2000))
    assert small.kind == "estimate"
    assert "of 2.0 KiB allowed" in small.diagnostics["reason"]
    slow = model.query(engine=Automatic(max_work=1000))
    assert slow.kind == "estimate"
    assert "multiply-adds for each row" in slow.diagnostics["reason"]


def test_work_counts_all_rows() -> None:
    model = spins(8)
    work = model.explain().multiply_adds or 0
    engine = Automatic(max_work=2.5 * work)
    observed = torch.full((3, 8, 8), -1)
    assert model.query(evidence={"spin": observed[:2]}, engine=engine).kind == "exact"
    assert model.query(evidence={"spin": observed}, engine=engine).kind == "estimate"


def test_large_tables_that_inputs_make() -> None:
    """Covariates of a large grid: not planned for, but answered."""
    pixel = Variable("pixel", 2, shape=(SIDE, SIDE))
    lattice = MarkovRandomField.grid((SIDE, SIDE), coupling=0.1, name="pixel").potentials

    class Shift(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.zeros_like(x), x], dim=-1)

    model = MarkovRandomField([*lattice, pgnn.NeuralPotential([pixel], Shift(), ["x"])])
    x = torch.linspace(-1, 1, SIDE * SIDE, dtype=torch.float64).reshape(1, SIDE, SIDE)
    found = model.query(inputs={"x": x})
    assert found.engine == "BeliefPropagation"
    assert bool((found["pixel"].probs[0, -1, :, 1] > 0.6).all())


def test_one_table_alone_is_no_obstacle() -> None:
    a = Variable("a", 3)
    model = MarkovRandomField([Factor([a], torch.tensor([0.0, 1.0, -math.inf]))])
    assert model.query().kind == "exact"


def test_unknown_reals_come_from_chains() -> None:
    """Posterior of a normal mean: normal around 1 with variance one half."""
    mean, y = Variable("mean"), Variable("y")
    model = pgnn.BayesianNetwork(
        [("mean", "y")],
        {
            "mean": pgnn.Distributional(mean, [], lambda: Normal(torch.zeros(()), torch.ones(()))),
            "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
        },
    )
    found = model.query("mean", {"y": 2.0}, engine=Automatic(seed=0))
    assert (found.engine, found.kind) == ("MCMC", "estimate")
    assert found.diagnostics["reason"] == (  # without advice, which was followed
        "'mean' has no states and is not observed, and 'y' depends on it: the sum over it has no "
        "table"
    )
    error = 5 * math.sqrt(0.5 / float(found.diagnostics["effective_sample_size"]["mean"]))
    assert float(found["mean"].mean) == pytest.approx(1.0, abs=error)
    told = model.explain("mean", {"y": 2.0})
    assert told.engine == "MCMC"
    assert "because 'mean' has no states" in told.reason
    assert model.sample(3, {"y": 2.0}, seed=0)["mean"].shape == (3,)
