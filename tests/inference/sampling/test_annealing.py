import json

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, NotConverged, Unsupported
from pgnn.inference.local_search import score, unsettled
from pgnn.inference.sampling.annealing import (
    Annealing,
    GeometricCooling,
    LinearCooling,
    LogarithmicCooling,
    temperatures_of,
)
from pgnn.inference.sampling.chain_starts import (
    most_likely_states,
    streams_of,
    temperature_range,
    walled,
)
from tests import oracle
from tests.inference.test_local_search import (
    CARD,
    all_states,
    field_of,
    random_graph,
)
from tests.zoo import ZOO

QUICK = Annealing(sweeps=200, chains=4, seed=0, progress=False)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("zeros", [0.0, 0.15])
def test_the_best_of_all_states_is_found(zeros: float, rows: int) -> None:
    every = all_states()
    for seed in range(5):
        graph = random_graph(seed, zeros, rows)
        field = field_of(graph, 3, seed)
        field[0, :2] = [-np.inf, 0.3]  # observed
        states, values, _ = QUICK.cool(graph, field)
        for r in range(3):
            best = score(graph, field, every, np.full(len(every), r)).max()
            np.testing.assert_allclose(values[r].max(), best, rtol=1e-12)
        assert (states[0, :, 0] == 1).all()


def test_chains_alone_find_it_too() -> None:
    """Without polishing, from the kernel's own account of what is best."""
    engine = Annealing(sweeps=400, chains=4, polish=False, seed=1, progress=False)
    every = all_states()
    for seed in range(3):
        graph = random_graph(seed)
        field = field_of(graph, 2, seed)
        _, values, _ = engine.cool(graph, field)
        for r in range(2):
            best = score(graph, field, every, np.full(len(every), r)).max()
            np.testing.assert_allclose(values[r].max(), best, rtol=1e-12)


@pytest.mark.parametrize(
    "schedule", [GeometricCooling(), LinearCooling(), LogarithmicCooling(), lambda t: 2.0 / (1 + t)]
)
def test_every_schedule_runs(schedule) -> None:
    graph = random_graph(2)
    field = field_of(graph, 1, 2)
    engine = Annealing(schedule, sweeps=300, chains=4, seed=0, progress=False)
    every = all_states()
    best = score(graph, field, every, np.zeros(len(every), int)).max()
    np.testing.assert_allclose(engine.cool(graph, field)[1].max(), best, rtol=1e-12)


def test_scale_does_not_matter() -> None:
    for scale in (1e-6, 1e6):
        graph = random_graph(4)
        scaled = type(graph)(
            graph.elements,
            tuple(type(g)(g.scopes, g.numbers * scale, *((3,) if hasattr(g, "coupling") else ()))
                  for g in graph.groups),
        )  # fmt: skip
        field = field_of(graph, 1, 0)
        plain, other = QUICK.cool(graph, field), QUICK.cool(scaled, field * scale)
        np.testing.assert_allclose(other[1].max(), plain[1].max() * scale, rtol=1e-9)


def test_a_constant_temperature_draws_from_the_model() -> None:
    """Chi-square of the chains' states after 60 sweeps at T = 1 against enumeration."""
    from pgnn.inference.loop import iterate
    from pgnn.inference.sampling.annealing import Cooled

    graph = random_graph(5)
    field = field_of(graph, 1, 5)
    engine = Annealing(lambda t: 1.0, sweeps=60, chains=4000, seed=3, progress=False)
    run = iterate(Cooled.prepare(engine, graph, field), 2, progress=False)
    states = run.state[1].states
    every = all_states()
    log_p = score(graph, field, every, np.zeros(len(every), int))
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    code = np.ravel_multi_index(tuple(states.T), CARD)
    counts = np.bincount(code, minlength=len(every)).astype(float)
    # states in groups of at least 20 expected
    group = np.floor(np.cumsum(p[np.argsort(-p)]) * 150).astype(int)
    expected = np.bincount(group, p[np.argsort(-p)]) * len(states)
    observed = np.bincount(group, counts[np.argsort(-p)])
    kept = expected >= 20
    chi2 = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    # mean k, standard deviation sqrt(2k): four of them
    assert chi2 < kept.sum() + 4 * np.sqrt(2 * kept.sum())


@pytest.mark.parametrize("name", sorted(ZOO))
def test_models_of_the_zoo(name: str) -> None:
    example = ZOO[name]
    model = example.make()
    if example.rowwise:
        evidence, options = example.batch(), example.covariates()
    else:
        evidence, options = example.batch(), {}
    found = model.most_probable(evidence, engine=QUICK, **options)
    for r, row in enumerate(example.rows):
        _, top = oracle.mode(example.joint(r, row))
        assert float(found.log_prob[r]) == pytest.approx(top, rel=1e-5, abs=1e-5)
    again = model.most_probable(evidence, engine=QUICK, **options)
    assert torch.equal(found.codes, again.codes)


def test_marginal_map_is_the_oracles() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = oracle.random_network(rng, "loop", 7)
        graph = (
            pgnn.BayesianNetwork(network.edges, network.probabilities, states=network.cards)
            if len(network.edges)
            else None
        )
        if graph is None or len(graph.variables) < 7:
            continue
        names = list(network.cards)
        targets, observed = names[:3], {names[4]: 0}
        joint = network.joint(observed)
        if oracle.evidence_probability(joint) == 0.0:
            continue
        _, top = oracle.marginal_map(joint, targets)
        found = graph.most_probable(observed, targets, engine=QUICK)
        assert float(found.log_prob) == pytest.approx(top, rel=1e-9)


def test_what_cannot_be_summed_out_is_refused() -> None:
    n = 40
    rng = np.random.default_rng(0)
    variables = [pgnn.Variable(k, 2) for k in range(n)]
    tables = [
        pgnn.Factor([variables[i], variables[j]], torch.from_numpy(rng.normal(size=(2, 2))))
        for i in range(n) for j in range(i)
    ]  # fmt: skip
    model = pgnn.MarkovRandomField(tables)
    with pytest.raises(Unsupported, match="maximise over more"):
        model.most_probable({}, [0, 1], engine=QUICK)


def test_impossible_and_unlucky_rows(monkeypatch) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.0, 1.0], "b": [[1.0, 0.0], [0.5, 0.5]]})
    with pytest.raises(ImpossibleEvidence):
        model.most_probable({"a": 0}, engine=QUICK)
    a, b = pgnn.Variable("a", 2), pgnn.Variable("b", 2)
    nothing = pgnn.MarkovRandomField(
        [pgnn.Factor([a, b], torch.full((2, 2), -torch.inf, dtype=torch.float64))]
    )
    with pytest.raises(ImpossibleEvidence):
        nothing.most_probable({}, engine=QUICK)
    # as if nothing could be proved
    unproven = "pgnn.inference.sampling.annealing.proven_impossible"
    monkeypatch.setattr(unproven, lambda question, doubted: np.zeros_like(doubted))
    with pytest.raises(EvidenceError, match="found no state of positive"):
        nothing.most_probable({}, engine=QUICK)
    with pytest.warns(NotConverged, match="no possible states"):
        found = nothing.most_probable({}, engine=QUICK, errors="nan")
    assert torch.isnan(found.log_prob)
    assert (found["a"], found["b"]) == (None, None)


def test_same_seed_same_answer_whatever_the_threads() -> None:
    graph = random_graph(6)
    field = field_of(graph, 3, 6)
    engine = Annealing(sweeps=20, chains=3, polish=False, seed=7, progress=False)
    first = engine.cool(graph, field)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = engine.cool(graph, field)
    finally:
        torch.set_num_threads(threads)
    assert (first[0] == again[0]).all()
    alone = engine.cool(graph, field[:1])
    assert (alone[0][0] == first[0][0]).all()
    assert (streams_of(1, 2, 3) != streams_of(2, 2, 3)).all()


def test_diagnostics_say_how_it_went() -> None:
    model = ZOO["sprinkler"].make()
    found = model.most_probable({"wet": [0, 1]}, engine=QUICK)
    assert found.diagnostics["sweeps"] == 200
    assert (found.diagnostics["chains_at_best"] >= 1).all()
    assert found.diagnostics["chains_at_best"].shape == (2,)
    assert ((found.diagnostics["acceptance"] > 0) & (found.diagnostics["acceptance"] < 1)).all()


def test_nothing_to_do() -> None:
    graph = random_graph(0)
    states, values, _ = QUICK.cool(graph, np.zeros((0, sum(CARD))))
    assert states.shape == (0, 4, len(CARD))
    assert values.shape == (0, 4)
    for wrong in ({"sweeps": 0}, {"chains": 0}):
        with pytest.raises(ModelError, match="must be at least 1"):
            Annealing(**wrong)


def test_starts() -> None:
    graph = random_graph(1)
    field = field_of(graph, 2, 0)
    field[1, :2] = [-np.inf, 1.0]
    field[0, 2:5] = [1.0, 2.0, 2.0]
    found = most_likely_states(graph.local_wiring, field)
    offset = graph.elements.offset
    for r in range(2):
        for v in range(len(CARD)):
            assert found[r, v] == field[r, offset[v] : offset[v + 1]].argmax()
    may = unsettled(graph, field)
    assert may[1].tolist() == [False, True, False, True, True, True, True, True]
    graph = random_graph(1, 0.3)
    tables = walled(graph, 7.0)
    assert np.isfinite(tables).all()
    assert (
        tables[~np.isfinite(graph.log_tables)].max()
        <= graph.log_tables[np.isfinite(graph.log_tables)].max() - 7.0
    )
    hot, cold = temperature_range(graph, field)
    assert 0 < cold < hot < 20


@pytest.mark.parametrize(
    "name", ["Grids_12", "Segmentation_13", "Alchemy_11", "CSP_12", "DBN_12", "ObjectDetection_11"]
)
def test_exact_optima_of_the_uai_instances(name: str, data_dir) -> None:
    known = json.loads((data_dir / "uai" / "reference_values.json").read_text())["instances"]
    model = pgnn.read(data_dir / "uai" / "pr_mar" / f"{name}.uai")
    found = model.most_probable({}, engine=Annealing(sweeps=3000, seed=0, progress=False))
    exact = known[f"pr_mar/{name}"]["log10_MAP_exact"]
    assert float(found.log_prob) / np.log(10) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("kind", [GeometricCooling, LinearCooling, LogarithmicCooling])
def test_schedules_fall_from_start_to_end(kind: type) -> None:
    found = kind(5.0, 0.5).temperatures(20)
    assert found.shape == (20,)
    np.testing.assert_allclose(found[[0, -1]], [5.0, 0.5])
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(kind().temperatures(7, 3.0, 0.2)[[0, -1]], [3.0, 0.2])
    np.testing.assert_allclose(kind(start=4.0).temperatures(7, 3.0, 0.2)[[0, -1]], [4.0, 0.2])
    assert kind(5.0, 0.5).temperatures(1).shape == (1,)
    for wrong in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ModelError, match="start must be positive"):
            kind(start=wrong)


def test_logarithmic_is_an_affine_image_of_the_inverse_logarithm() -> None:
    found = LogarithmicCooling(5.0, 0.5).temperatures(30)
    plain = 1.0 / np.log(2.0 + np.arange(30))
    slope = np.diff(found) / np.diff(plain)
    np.testing.assert_allclose(slope, slope[0])


def test_any_function_of_the_step_will_do() -> None:
    np.testing.assert_allclose(
        temperatures_of(lambda t: 1.0 / (1 + t), 3, 9.0, 9.0), [1, 0.5, 1 / 3]
    )
    with pytest.raises(ModelError, match="at step 2"):
        temperatures_of(lambda t: 2.0 - t, 4, 9.0, 9.0)
