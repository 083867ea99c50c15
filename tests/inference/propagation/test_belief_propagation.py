"""Belief propagation through the verbs of models, against enumeration and the exact engine."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Factor, MarkovRandomField, Variable
from pgnn.errors import ImpossibleEvidence, ModelError, NotConverged, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.grouping import grouped
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.belief_propagation import BeliefPropagation
from pgnn.inference.propagation.cpu_propagation import arc_consistent
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.schedules import Flooding, Residual, Sequential
from pgnn.inference.question import Question
from tests import oracle
from tests.inference.loopy_fields import LoopyField
from tests.inference.random_graphs import KINDS, RandomGraph
from tests.zoo import NUM_ROWS, ZOO

SCHEDULES = [Flooding(), Sequential(), Residual()]
EXACT = pgnn.JunctionTree()


def propagation(**settings: Any) -> BeliefPropagation:
    return BeliefPropagation(**{"progress": False, "tolerance": 1e-10, **settings})


def markov(cards: dict[str, int], tables: list[oracle.Table]) -> MarkovRandomField:
    """A field of tables in probability units; every variable has a factor of ones."""
    variables = {n: Variable(n, k) for n, k in cards.items()}
    ones = [Factor([v], torch.zeros(v.num_states or 0).double()) for v in variables.values()]
    with np.errstate(divide="ignore"):
        made = [
            Factor([variables[n] for n in scope], torch.from_numpy(np.log(table)))
            for scope, table in tables
        ]
    return MarkovRandomField([*ones, *made])


def tree(seed: int, size: int = 7, zeros: float = 0.2, ties: bool = False):
    """State counts and tables of a forest of factors over two to four variables."""
    rng = np.random.default_rng(seed)
    cards = {f"x{k}": int(rng.integers(1, 4)) for k in rng.permutation(size)}
    names = rng.permutation(list(cards)).tolist()
    tables: list[oracle.Table] = []
    placed, left = [names[0]], names[1:]
    while left:
        count = min(int(rng.integers(1, 4)), len(left))
        fresh, left = left[:count], left[count:]
        scope = rng.permutation([placed[int(rng.integers(len(placed)))], *fresh]).tolist()
        placed += fresh
        if rng.random() < 0.15:
            continue  # these stay apart
        shape = [cards[n] for n in scope]
        values = rng.integers(1, 3, shape).astype(float) if ties else rng.gamma(0.5, size=shape)
        values[rng.random(shape) < zeros] = 0.0
        values[tuple(0 for _ in shape)] = 2.0
        tables.append((scope, values))
    for n in names[::2]:
        tables.append(((n,), np.ones(cards[n]) if ties else rng.gamma(1.0, size=cards[n]) + 0.01))
    return cards, tables


def coded(rows: list[dict[str, int]], names: Any) -> dict[str, torch.Tensor]:
    return {n: torch.tensor([row.get(n, -1) for row in rows]) for n in names}


def rows_of(seed: int, cards, tables, count: int = 4) -> list[dict[str, int]]:
    """Possible evidence on none, some, other ones, all."""
    joint = oracle.joint(cards, tables)
    shares = (0.0, 0.3, 0.5, 1.0)
    return [
        oracle.random_evidence(np.random.default_rng([seed, r]), joint, shares[r % 4])
        for r in range(count)
    ]


def question_of(made: LoopyField) -> Question:
    """A loopy field with the evidence in its row-wise fields."""
    groups = (*made.graph.groups, *field_groups(made))
    observed = RowEvidence(
        np.full((made.rows, len(made.elements)), -1, np.int32), True, None, np.zeros(made.rows)
    )
    return Question(None, FactorGraph(made.elements, groups), observed)


def field_groups(made: LoopyField) -> list[FactorGroup]:
    offset = made.elements.offset
    return [
        TableGroup([[e]], made.log_field[:, None, offset[e] : offset[e + 1]])
        for e in range(len(made.elements))
    ]


def ising(shape=(3, 3), seed=0, strength=0.6, **options) -> MarkovRandomField:
    rng = np.random.default_rng(seed)
    count = 2 * shape[0] * shape[1] - sum(shape)
    return MarkovRandomField.grid(
        shape,
        coupling=torch.from_numpy(strength * rng.normal(size=count)),
        field=torch.from_numpy(0.5 * rng.normal(size=shape)),
        name="s",
        **options,
    )


# --- exact on trees -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_trees_are_exact(seed, temperature):
    cards, tables = tree(seed)
    model = markov(cards, tables)
    rows = rows_of(seed, cards, tables)
    engine = propagation(temperature=temperature, schedule=SCHEDULES[seed % 3])
    found = model.query(evidence=coded(rows, cards), engine=engine)
    assert found.kind == "exact"
    assert found.diagnostics["converged"].all()
    assert (found.diagnostics["iterations"] <= 2).all()
    raised = [(s, t ** (1 / temperature)) for s, t in tables]
    for r, row in enumerate(rows):
        joint = oracle.joint(cards, raised, row)
        want = temperature * oracle.log_evidence(joint)
        assert float(found.log_evidence[r]) == pytest.approx(want, abs=1e-10)
        for n in cards:
            got = found[n].probs[r].detach().numpy()
            np.testing.assert_allclose(got, oracle.marginal(joint, [n]), atol=1e-11)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ties", [False, True])
def test_best_states_of_trees_are_exact(seed, ties):
    cards, tables = tree(seed, ties=ties)
    model = markov(cards, tables)
    rows = rows_of(seed, cards, tables)
    found = model.most_probable(coded(rows, cards), engine=propagation())
    scores = model.query(evidence=coded(rows, cards), engine=propagation(temperature=0.0))
    for r, row in enumerate(rows):
        joint = oracle.joint(cards, tables, row)
        best = oracle.mode(joint)[1]
        states = {n: int(found[n][r]) for n in cards}
        assert np.log(oracle.weight(joint, states)) == pytest.approx(best, abs=1e-10)
        assert float(found.log_prob[r]) == pytest.approx(best, abs=1e-10)
        assert float(found.upper_bound[r]) == pytest.approx(best, abs=1e-10)
        assert float(scores.log_evidence[r]) == pytest.approx(best, abs=1e-10)
        for n in cards:
            axes = tuple(a for a, m in enumerate(joint.names) if m != n)
            want = joint.table.max(axis=axes)
            got = scores[n].probs[r].numpy()
            np.testing.assert_allclose(got, want / want.sum(), atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("soft", [False, True])
def test_random_graphs(kind, seed, soft):
    """Without loops exact; with loops marginals, and the right side of the exact value."""
    given = RandomGraph(seed, kind, soft=soft)
    elements = Elements(given.graph.variables)
    observed = RowEvidence(given.codes, True, given.likelihoods, np.zeros(given.rows))
    question = Question(
        Blank(), FactorGraph(elements, grouped(given.graph.factors, elements)), observed
    )
    found = propagation(max_iterations=500).infer(question)
    bound = propagation(tree_reweighted=True, max_iterations=30).infer(question)
    exact = given.log_evidence
    assert (bound.log_evidence.numpy() >= exact - 1e-9).all()
    offset = elements.offset[:-1]
    np.testing.assert_allclose(np.add.reduceat(found.marginals.numpy(), offset, 1), 1, rtol=1e-9)
    if PropagationPlan(question.graph).acyclic:
        np.testing.assert_allclose(found.log_evidence.numpy(), exact, atol=1e-10)
        np.testing.assert_allclose(found.marginals.numpy(), given.marginals(), atol=1e-11)
    else:
        assert found.kind == "estimate"


class Blank:
    """A model that remembers nothing."""

    def cached_numbers(self, key: Any, make: Any) -> Any:
        return make()


@pytest.mark.parametrize("name", sorted(ZOO))
def test_zoo(name):
    """Tables of every kind of model, row-wise ones included."""
    example = ZOO[name]
    model = example.make()
    options = {"evidence": example.batch(), **example.covariates()}
    soft = {**options, "evidence": {**example.batch(), **{n: torch.as_tensor(t) for n, t in
            example.soft.items()}}}  # fmt: skip
    for asked in (options, soft):
        exact = model.query(**asked, engine=EXACT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = model.query(**asked, engine=propagation())
            bound = model.query(**asked, engine=propagation(tree_reweighted=True))
            best = model.most_probable(**asked, engine=propagation())
        assert found.log_evidence.dtype == exact.log_evidence.dtype
        discrete = example.names  # alone: real variables are summed out
        top = model.most_probable(targets=discrete, **asked, engine=EXACT)
        tolerance = 10 * example.tolerance
        assert bool((bound.log_evidence >= exact.log_evidence - tolerance).all())
        assert bool((best.log_prob <= top.log_prob + tolerance).all())
        if found.kind == "exact":
            torch.testing.assert_close(
                found.log_evidence, exact.log_evidence, atol=tolerance, rtol=tolerance
            )
            torch.testing.assert_close(best.log_prob, top.log_prob, atol=tolerance, rtol=tolerance)
            for n in example.names:
                torch.testing.assert_close(
                    found[n].probs, exact[n].probs, atol=tolerance, rtol=tolerance
                )
    for r in range(NUM_ROWS):
        one = model.query(evidence=example.one(r), **example.covariates(r), engine=propagation())
        many = model.query(**options, engine=propagation())
        torch.testing.assert_close(one.log_evidence.reshape(()), many.log_evidence[r])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_loops_closed_by_evidence_are_exact(schedule):
    cards = dict.fromkeys("abcd", 3)
    rng = np.random.default_rng(0)
    scopes = ["ab", "bc", "cd", "da", "ac"]
    tables = [(tuple(s), rng.gamma(0.5, size=(3, 3)) + 0.01) for s in scopes]
    model = markov(cards, tables)
    for observed in ({"a": 1, "c": 0}, {"a": 2, "b": 0}):
        joint = oracle.joint(cards, tables, observed)
        found = model.query(evidence=observed, engine=propagation(schedule=schedule))
        assert found.diagnostics["converged"].all()
        assert (found.diagnostics["iterations"] <= 4).all()
        assert float(found.log_evidence) == pytest.approx(oracle.log_evidence(joint), abs=1e-10)
        for n in cards:
            np.testing.assert_allclose(found[n].probs, oracle.marginal(joint, [n]), atol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_arrays_potts_and_rowwise_tables(temperature):
    made = LoopyField(3, rows=3, zeros=0.2, observe=True, tree=True)
    found = propagation(temperature=temperature).infer(question_of(made))
    for row in range(3):
        table = made.joint(row).table
        want = np.log(table.max() if temperature == 0 else table.sum())
        assert float(found.log_evidence[row]) == pytest.approx(want, abs=1e-10)
        if temperature:
            parts = oracle.marginals(made.joint(row)).values()
            np.testing.assert_allclose(
                found.marginals[row], np.concatenate(list(parts)), atol=1e-11
            )


def test_array_evidence_and_answers():
    model = ising((2, 3), strength=1.0)
    observed = torch.full((4, 2, 3), -1)
    observed[1, 0] = torch.tensor([0, 1, 1])
    observed[2, :, 1] = 1
    observed[3] = 0
    found = model.query(evidence={"s": observed}, engine=propagation())
    exact = model.query(evidence={"s": observed}, engine=EXACT)
    assert found["s"].probs.shape == (4, 2, 3, 2)
    assert float((found["s"].probs - exact["s"].probs)[2:].abs().max()) < 1e-10
    assert float((found.log_evidence - exact.log_evidence)[2:].abs().max()) < 1e-10
    best = model.most_probable({"s": observed}, engine=propagation())
    torch.testing.assert_close(best["s"], model.most_probable({"s": observed}, engine=EXACT)["s"])


# --- numbers far apart ----------------------------------------------------------------------------


def chain(tables: list[np.ndarray]) -> MarkovRandomField:
    """A chain of log tables."""
    cards = [tables[0].shape[0], *(t.shape[1] for t in tables)]
    xs = [Variable(k, n) for k, n in enumerate(cards)]
    return MarkovRandomField(
        [Factor([xs[k], xs[k + 1]], torch.from_numpy(t)) for k, t in enumerate(tables)]
    )


@pytest.mark.parametrize("strength", [50.0, 150.0, 500.0, 1000.0])
@pytest.mark.parametrize("zeros", [0.0, 0.2])
def test_strong_couplings_on_trees(strength, zeros):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tables = [strength * rng.uniform(-1, 1, size=(3, 3)) for _ in range(8)]
        for t in tables:
            t[rng.random((3, 3)) < zeros] = -np.inf
            t[0, 0] = -strength
        model = chain(tables)
        found, exact = (model.query(engine=e) for e in (propagation(), EXACT))
        torch.testing.assert_close(found.log_evidence, exact.log_evidence, rtol=1e-12, atol=1e-9)
        for n in range(9):
            torch.testing.assert_close(found[n].probs, exact[n].probs, rtol=0, atol=1e-10)
        best = model.most_probable(engine=propagation())
        top = model.most_probable(engine=EXACT)
        torch.testing.assert_close(best.log_prob, top.log_prob)


def test_a_row_beyond_the_range_of_doubles_is_possible():
    """Twelve votes against a state that turns out to be the only one."""
    centre, leaves = Variable("c", 2), [Variable(k, 2) for k in range(12)]
    against = torch.tensor([[0.0, -90.0], [0.0, -90.0]]).double()
    far = Variable("far", 2)
    link = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]).double()
    model = MarkovRandomField(
        [*(Factor([leaf, centre], against) for leaf in leaves), Factor([centre, far], link)]
    )
    evidence = {"far": torch.tensor([0, 1, -1])}
    found = model.query(evidence=evidence, engine=propagation())
    want = 12 * np.log(2) + np.array([0.0, -1080.0, 0.0])
    np.testing.assert_allclose(found.log_evidence, want)
    assert found["c"].probs[:, 1].tolist() == pytest.approx([0, 1, 0])
    found["c"].probs.sum()  # finite
    bound = model.query(evidence=evidence, engine=propagation(tree_reweighted=True))
    np.testing.assert_allclose(bound.log_evidence, want)


def test_strong_couplings_in_loops():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        coupling = torch.from_numpy(rng.choice([-1000.0, 1000.0], size=4))
        model = MarkovRandomField.grid(
            (2, 2), coupling=coupling, field=torch.from_numpy(rng.normal(size=(2, 2)))
        )
        exact = model.query(engine=EXACT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            bound = model.query(engine=propagation(tree_reweighted=True, max_iterations=200))
        assert float(bound.log_evidence) >= float(exact.log_evidence) - 1e-6
        best = model.most_probable(engine=propagation())
        torch.testing.assert_close(best.log_prob, model.most_probable(engine=EXACT).log_prob)


def test_impossible_rows():
    cards, tables = {"a": 2, "b": 2, "c": 2}, []
    equal = np.array([[1.0, 0.0], [0.0, 2.0]])
    for scope in (("a", "b"), ("b", "c"), ("c", "a")):
        tables.append((scope, equal))
    model = markov(cards, tables)
    evidence = {"a": torch.tensor([0, 0, -1]), "b": torch.tensor([0, 1, -1])}
    with pytest.raises(ImpossibleEvidence, match="1 of 3") as caught:
        model.query(evidence=evidence, engine=propagation())
    assert caught.value.rows == (1,)
    found = model.query(evidence=evidence, engine=propagation(), errors="nan")
    assert np.isneginf(float(found.log_evidence[1]))
    assert bool(found["c"].probs[1].isnan().all())
    assert bool(found["c"].probs[[0, 2]].isfinite().all())
    assert float(found.log_evidence[0]) == pytest.approx(0.0, abs=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        best = model.most_probable(evidence, engine=propagation(), errors="nan")
    assert best["c"].tolist() == [0, -1, 1]
    assert np.isneginf(float(best.log_prob[1]))
    assert np.isneginf(model.log_prob({"a": 0, "b": 1, "c": 0}, engine=propagation()).item())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("reweighted", [False, True])
def test_messages_that_run_away_do_not_make_a_row_impossible(schedule, temperature, reweighted):
    """Zeros in loops let messages grow like powers of powers, beyond any range."""
    rng = np.random.default_rng(4)
    for _ in range(8):
        cards = {f"x{k}": 2 for k in range(10)}
        tables: list[oracle.Table] = []
        for _ in range(26):
            scope = rng.permutation(list(cards))[:3].tolist()
            clause = np.ones((2, 2, 2))
            clause[0, 0, 0] = 0.0
            clause[tuple(rng.integers(0, 2, 3))] = 0.0
            clause[1, 1, 1] = 1.0
            tables.append((scope, clause))
        tables.append((("x0",), np.array([1.0, 1e-30])))
        model = markov(cards, tables)
        engine = propagation(schedule=schedule, temperature=temperature, tree_reweighted=reweighted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = model.query(engine=engine)  # no ImpossibleEvidence
        value = float(found.log_evidence)
        assert not np.isneginf(value)
        if reweighted:
            table = oracle.joint(cards, tables).table
            assert value >= np.log(table.max() if temperature == 0 else table.sum()) - 1e-9
        elif np.isnan(value):
            assert not found.diagnostics["converged"].any()


def test_proofs_that_a_row_is_impossible():
    """Equality around a ring: what is ruled out here is ruled out there, after a few steps."""
    xs = [Variable(k, 3) for k in range(6)]
    same = torch.full((3, 3), -torch.inf).double().fill_diagonal_(0.0)
    ring = [Factor([xs[k - 1], xs[k]], same) for k in range(6)]
    model = MarkovRandomField(
        [*ring, Factor([xs[0]], torch.tensor([0.0, 0.0, -torch.inf]).double())]
    )
    evidence = {3: torch.tensor([0, 1, 2, -1])}
    for engine in (propagation(), propagation(temperature=0.0), propagation(schedule=Flooding())):
        found = model.query(evidence=evidence, engine=engine, errors="nan")
        assert found.log_evidence.isneginf().tolist() == [False, False, True, False]
        assert found[5].probs[:2].argmax(1).tolist() == [0, 1]
    question = Question.read(model, evidence, None)
    plan = PropagationPlan(question.graph)
    got = arc_consistent(plan, question.log_field(), np.arange(4))
    assert got.tolist() == [True, True, False, True]


def test_neither_tables_nor_evidence_are_changed():
    model = ising()
    before = [p.clone() for p in (*model.parameters(), *model.buffers())]
    soft = torch.rand(2, 3, 3, 2).double()
    kept = soft.clone()
    model.query(evidence={"s": soft}, engine=propagation(tree_reweighted=True))
    torch.testing.assert_close(soft, kept, rtol=0, atol=0)
    for a, b in zip(before, (*model.parameters(), *model.buffers()), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0, 0.0])
@pytest.mark.parametrize("iterations", [1, 2, 500])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_reweighted_values_are_upper_bounds(temperature, iterations, schedule):
    for seed in range(4):
        cards, tables = oracle.random_factors(np.random.default_rng(seed), 6, 9, max_scope=4)
        model = markov(cards, tables)
        rows = rows_of(seed, cards, tables)
        engine = propagation(
            temperature=temperature,
            tree_reweighted=True,
            max_iterations=iterations,
            schedule=schedule,
            num_forests=3,
            seed=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            found = model.query(evidence=coded(rows, cards), engine=engine)
        assert found.kind in ("upper bound", "exact")
        for r, row in enumerate(rows):
            table = oracle.joint(cards, tables, row).table
            if temperature:
                exact = temperature * np.log((table ** (1 / temperature)).sum())
            else:
                exact = np.log(table.max())
            assert float(found.log_evidence[r]) >= exact - 1e-9


def test_temperature_is_a_power_of_the_distribution():
    model = ising(strength=1.0)
    cold = model.query(engine=propagation(temperature=0.5))
    with torch.no_grad():
        doubled = MarkovRandomField(
            [Factor(f.variables, 2.0 * f.log_values) for f in model.factors()]
        )
    want = doubled.query(engine=propagation())
    for n in want:
        torch.testing.assert_close(want[n].probs, cold["s"].probs[n[1:]], rtol=0, atol=1e-8)
    torch.testing.assert_close(2 * cold.log_evidence, want.log_evidence)


# --- convergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rows_do_not_depend_on_their_neighbours(schedule):
    model = ising((3, 4), strength=0.9)
    rng = np.random.default_rng(0)
    observed = torch.from_numpy(rng.integers(-1, 2, size=(5, 3, 4)))
    observed[0] = -1
    engine = propagation(schedule=schedule, tolerance=1e-7)
    together = model.query(evidence={"s": observed}, engine=engine)
    for r in range(5):
        alone = model.query(evidence={"s": observed[r : r + 1]}, engine=engine)
        torch.testing.assert_close(alone["s"].probs[0], together["s"].probs[r], rtol=0, atol=0)
        for name in ("iterations", "residual", "converged"):
            assert alone.diagnostics[name][0] == together.diagnostics[name][r]
    assert len(set(together.diagnostics["iterations"].tolist())) > 1


def test_warning_names_the_rows_that_did_not_converge():
    model = ising(strength=1.0)
    observed = torch.full((3, 3, 3), -1)
    observed[1] = 1
    with pytest.warns(
        NotConverged, match=r"BeliefPropagation: 2 of 3 rows did not converge; raise"
    ):
        found = model.query(evidence={"s": observed}, engine=propagation(max_iterations=2))
    assert found.diagnostics["converged"].tolist() == [False, True, False]
    assert found.kind == "estimate"


def frustrated(strength: float) -> MarkovRandomField:
    """Five elements that all want to differ from each other."""
    xs = [Variable(k, 2) for k in range(5)]
    differ = torch.tensor([[-strength, strength], [strength, -strength]]).double()
    factors = [Factor([a, b], differ) for i, a in enumerate(xs) for b in xs[:i]]
    return MarkovRandomField([*factors, Factor([xs[0]], torch.tensor([0.0, 0.1]).double())])


def test_damping_grows_where_messages_oscillate():
    model = frustrated(0.8)
    with pytest.warns(NotConverged):
        found = model.query(engine=propagation(schedule=Flooding(), adaptive=False))
    assert float(found.diagnostics["residual"][0]) > 0.1
    found = model.query(engine=propagation(schedule=Flooding()))
    assert found.diagnostics["converged"].all()
    assert float(found.diagnostics["damping"][0]) >= 0.5
    history = found.diagnostics["history"]
    assert len(history) == int(found.diagnostics["iterations"][0])
    assert max(history[5:15]) > 0.1 > history[-1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_starts_take_fewer_iterations(schedule):
    model = ising((4, 4), strength=0.8)
    engine = propagation(schedule=schedule, tolerance=1e-8)
    first = model.query(engine=engine)
    again = model.query(engine=propagation(schedule=schedule, tolerance=1e-7, start=first))
    assert int(again.diagnostics["iterations"][0]) < int(first.diagnostics["iterations"][0]) // 2
    torch.testing.assert_close(again["s"].probs, first["s"].probs, rtol=0, atol=1e-6)
    # of other evidence, for many rows
    observed = torch.full((3, 4, 4), -1)
    observed[1:, 0, 0] = 1
    observed[2, 3, 3] = 0
    fresh = model.query(evidence={"s": observed}, engine=engine)
    for start in (first, fresh):
        warm = model.query(
            evidence={"s": observed}, engine=propagation(schedule=schedule, start=start)
        )
        torch.testing.assert_close(warm["s"].probs, fresh["s"].probs, rtol=0, atol=1e-6)
        assert int(warm.diagnostics["iterations"][0]) < int(fresh.diagnostics["iterations"][0])
    # after evidence that ruled states out
    warm = model.query(engine=propagation(schedule=schedule, start=model.query(
        evidence={"s": observed[2]}, engine=engine)))  # fmt: skip
    torch.testing.assert_close(warm["s"].probs, first["s"].probs, rtol=0, atol=1e-6)
    best = model.most_probable(engine=engine)
    again = model.most_probable(engine=propagation(schedule=schedule, start=best))
    torch.testing.assert_close(again["s"], best["s"])


def test_starts_that_do_not_fit():
    first = ising((4, 4)).query(engine=propagation())
    with pytest.raises(ModelError, match="same model"):
        ising((3, 3)).query(engine=propagation(start=first))
    two = ising((4, 4)).query(evidence={"s": torch.full((2, 4, 4), -1)}, engine=propagation())
    with pytest.raises(ModelError, match="2 rows"):
        ising((4, 4)).query(
            evidence={"s": torch.full((3, 4, 4), -1)}, engine=propagation(start=two)
        )
    with pytest.raises(ModelError, match="with stored messages"):
        propagation(start=ising().query(engine=EXACT))


def test_rows_in_pieces_give_the_same_answer(monkeypatch):
    model = ising((3, 3), strength=0.8)
    rng = np.random.default_rng(0)
    observed = {"s": torch.from_numpy(rng.integers(-1, 2, size=(7, 3, 3)))}
    start = model.query(evidence=observed, engine=propagation(max_iterations=3000))
    found = [model.query(evidence=observed, engine=propagation(start=start))]
    best = [model.most_probable(observed, engine=propagation())]
    monkeypatch.setattr("pgnn.inference.propagation.propagator.ROOM", 3000)
    found.append(model.query(evidence=observed, engine=propagation(start=start)))
    best.append(model.most_probable(observed, engine=propagation()))
    torch.testing.assert_close(found[0]["s"].probs, found[1]["s"].probs, rtol=0, atol=0)
    torch.testing.assert_close(best[0]["s"], best[1]["s"])
    assert "messages" not in found[1].diagnostics or "history" not in found[1].diagnostics


def test_threads_give_the_same_answer():
    model = ising((3, 4), strength=0.9)
    observed = {"s": torch.from_numpy(np.random.default_rng(0).integers(-1, 2, size=(5, 3, 4)))}
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            answer = model.query(evidence=observed, engine=propagation(tree_reweighted=True))
            found.append((answer["s"].probs, answer.log_evidence))
        finally:
            torch.set_num_threads(1)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_without_numba(monkeypatch):
    """In torch, in log space."""
    model = ising((3, 3), strength=0.7)
    cards, tables = tree(1)
    wooden = markov(cards, tables)
    asked = [(m, s) for m in (model, wooden) for s in ({}, {"tree_reweighted": True})]
    want = [m.query(engine=propagation(**s)) for m, s in asked]
    best = wooden.most_probable(engine=propagation())
    monkeypatch.setattr("pgnn.inference.propagation.propagator.has_numba", lambda: False)
    for (m, s), w in zip(asked, want, strict=True):
        got = m.query(engine=propagation(**s))
        torch.testing.assert_close(got.log_evidence, w.log_evidence, rtol=1e-6, atol=1e-6)
        assert got.kind == w.kind
    got = wooden.most_probable(engine=propagation())
    torch.testing.assert_close(got.log_prob, best.log_prob)


# --- odd questions --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("reweighted", [False, True])
def test_no_rows_and_no_targets(schedule, reweighted):
    engine = propagation(schedule=schedule, tree_reweighted=reweighted)
    model = ising((3, 3))
    none = {"s": torch.zeros((0, 3, 3), dtype=torch.int64)}
    found = model.query(evidence=none, engine=engine)
    assert found["s"].probs.shape == (0, 3, 3, 2)
    assert found.log_evidence.shape == (0,)
    best = model.most_probable(none, engine=engine)
    assert best["s"].shape == (0, 3, 3)
    found = model.query([], engine=engine)
    assert list(found) == []
    want = model.query(engine=engine)
    torch.testing.assert_close(found.log_evidence, want.log_evidence)


@pytest.mark.parametrize("reweighted", [False, True])
def test_variables_apart(reweighted):
    cards = {"a": 3, "b": 1, "c": 2}
    rng = np.random.default_rng(0)
    tables = [((n,), rng.random(k) + 0.1) for n, k in cards.items()]
    model = markov(cards, tables)
    engine = propagation(tree_reweighted=reweighted)
    found = model.query(evidence={"c": 1}, engine=engine)
    joint = oracle.joint(cards, tables, {"c": 1})
    assert found.kind == "exact"
    assert float(found.log_evidence) == pytest.approx(oracle.log_evidence(joint))
    for n in cards:
        np.testing.assert_allclose(found[n].probs, oracle.marginal(joint, [n]))
    best = model.most_probable({"c": 1}, engine=engine)
    assert best["a"] == int(tables[0][1].argmax())
    assert float(best.upper_bound) == pytest.approx(float(best.log_prob))


def test_closed_forms():
    """Two elements: p(1, 1) = e / (3 + e). A ring: the transfer matrix's eigenvalues."""
    a, b = Variable("a", 2), Variable("b", 2)
    pair = MarkovRandomField([Factor([a, b], torch.tensor([[0.0, 0.0], [0.0, 1.0]]).double())])
    found = pair.query(engine=propagation())
    assert float(found.log_evidence) == pytest.approx(np.log(3 + np.e))
    assert float(found["a"].probs[1]) == pytest.approx((1 + np.e) / (3 + np.e))
    # on a ring without fields messages stay uniform: the larger eigenvalue alone
    size, coupling = 6, 0.7
    xs = [Variable(k, 2) for k in range(size)]
    spin = coupling * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    ring = MarkovRandomField([Factor([xs[k - 1], xs[k]], spin) for k in range(size)])
    found = ring.query(engine=propagation())
    assert float(found.log_evidence) == pytest.approx(size * np.log(2 * np.cosh(coupling)))
    exact = np.log((2 * np.cosh(coupling)) ** size + (2 * np.sinh(coupling)) ** size)
    bound = ring.query(engine=propagation(tree_reweighted=True))
    assert float(bound.log_evidence) > exact > float(found.log_evidence)


def test_single_precision_answers():
    model = ising((3, 3)).float()
    found = model.query(engine=propagation())
    assert found["s"].probs.dtype == found.log_evidence.dtype == torch.float32
    assert model.most_probable(engine=propagation()).log_prob.dtype == torch.float32
    want = ising((3, 3)).query(engine=propagation())
    torch.testing.assert_close(found["s"].probs, want["s"].probs.float(), rtol=0, atol=1e-5)


def test_new_parameters_are_observed():
    model = ising((3, 3))
    before = model.query(engine=propagation())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
    after = model.query(engine=propagation())
    assert float((after.log_evidence - before.log_evidence).abs()) > 0.1
    fresh = ising((3, 3))
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(after.log_evidence, fresh.query(engine=propagation()).log_evidence)


def test_log_prob_of_incomplete_rows():
    model = ising((2, 3))
    observed = torch.tensor([[[0, 1, 1], [1, 0, 1]], [[0, -1, 1], [-1, -1, 1]]])
    exact, found = (model.log_prob({"s": observed}, engine=e) for e in (EXACT, propagation()))
    assert float(found[1]) == pytest.approx(float(exact[1]), abs=0.2)


def test_explain_says_what_it_does():
    for schedule in SCHEDULES:
        told = ising().explain(engine=propagation(schedule=schedule))
        assert type(schedule).__name__.lower() in told.reason
    told = ising().explain(engine=propagation(tree_reweighted=True))
    assert "upper bound" in told.reason


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"schedule": "flooding"}, "schedule"),
        ({"damping": 1.0}, "damping"),
        ({"damping": -0.1}, "damping"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"num_forests": 0}, "num_forests"),
        ({"tolerance": -1e-9}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_settings_out_of_range(settings, match):
    with pytest.raises(ModelError, match=match):
        propagation(**settings)


def test_what_it_cannot_do():
    model = ising()
    with pytest.raises(Unsupported, match="does not draw"):
        model.sample(3, engine=propagation())
    with pytest.raises(Unsupported, match="one best assignment"):
        model.most_probable(k=2, engine=propagation())
    with pytest.raises(Unsupported, match="compiled"):
        model.compile("s", [], engine=propagation())
