"""Dual decomposition: bounds that hold and never rise, answers that are what they claim to be."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn import Factor, MarkovRandomField, Model, Variable
from pgnn.errors import EvidenceError, ImpossibleEvidence, NotConverged, Unsupported
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.inference.question import Question
from pgnn.inference.search.dual_bound import DualBound
from pgnn.inference.search.dual_decomposition import DualDecomposition
from pgnn.inference.search.neighbourhood_search import ConditionalSolver, NeighbourhoodSearch
from tests import oracle

SEEDS = st.integers(0, 2**31)
BARE = DualDecomposition(search=None, progress=False)
FULL = DualDecomposition(seed=0, progress=False)


class Field(Model):
    """A model that is nothing but groups of factors."""

    def __init__(self, variables: list[Variable], groups: list[FactorGroup]) -> None:
        super().__init__()
        self._variables = {v.name: v for v in variables}
        self._groups = tuple(groups)

    @property
    def variables(self):
        return self._variables

    def factors(self, observed=None, inputs=None):
        return tuple(f for g in self._groups for f in g.factors(self.elements))

    def factor_groups(self, observed=None, inputs=None):
        return self._groups


def markov(cards, tables) -> MarkovRandomField:
    variables = {n: Variable(n, k) for n, k in cards.items()}
    ones = [Factor([v], torch.zeros(v.num_states, dtype=torch.float64)) for v in variables.values()]
    with np.errstate(divide="ignore"):
        made = [
            Factor([variables[n] for n in scope], torch.from_numpy(np.log(table)))
            for scope, table in tables
        ]
    return MarkovRandomField([*ones, *made])


def random_model(seed: int, size: int = 7):
    rng = np.random.default_rng(seed)
    cards, tables = oracle.random_factors(rng, size, 2 * size, max_scope=4, zeros=0.2)
    return rng, cards, tables


def random_tree(seed: int, size: int = 7, ties: bool = False):
    rng = np.random.default_rng(seed)
    cards = {f"x{k}": int(rng.integers(1, 5)) for k in rng.permutation(size)}
    names = list(cards)
    order = rng.permutation(names).tolist()
    tables = []
    for k in range(1, size):
        scope = (order[int(rng.integers(k))], order[k])
        shape = [cards[n] for n in scope]
        values = np.exp(rng.integers(0, 3, shape)) if ties else rng.gamma(0.5, size=shape) + 1e-6
        tables.append((scope, values.astype(float)))
    return cards, tables


def score(tables, states) -> float:
    with np.errstate(divide="ignore"):
        return float(sum(np.log(t[tuple(states[n] for n in scope)]) for scope, t in tables))


def slow_dual(dual: DualBound) -> float:
    """The dual function of the first row, from its definition."""
    wiring, table = dual.graph.wiring, dual.tables[0]
    belief = dual.fields[0].copy()
    total = 0.0
    for f, first in enumerate(wiring.factor_ptr[:-1]):
        slots = range(first, wiring.factor_ptr[f + 1])
        scope = [wiring.slot_var[s] for s in slots]
        best = -np.inf
        for place, states in enumerate(itertools.product(*(range(wiring.card[v]) for v in scope))):
            entry = int(states[0] == states[1]) if wiring.kind[f] == 1 else place
            value = table[wiring.table[f] + entry]
            for slot, x in zip(slots, states, strict=True):
                value = value - dual.deltas[0, wiring.message[slot] + x]
            best = max(best, value)
        total += best
        for slot, v in zip(slots, scope, strict=True):
            for x in range(wiring.card[v]):
                column = wiring.offset[v] + x
                if np.isfinite(dual.fields[0, column]):
                    belief[column] += dual.deltas[0, wiring.message[slot] + x]
    for v in range(len(wiring.card)):
        total += belief[wiring.offset[v] : wiring.offset[v + 1]].max()
    return float(total)


# --- the bound ------------------------------------------------------------------------------------


@given(SEEDS)
def test_bound_holds_never_rises_and_is_the_dual_function(seed):
    _, cards, tables = random_model(seed)
    best = oracle.mode(oracle.joint(cards, tables))[1]
    question = Question.read(markov(cards, tables), None, None)
    dual = DualBound(question.graph, question.log_field())
    rows, before = np.arange(1), np.inf
    for _ in range(6):
        dual.sweep(rows, drop=False)
        assert dual.bounds[0] >= best - 1e-9
        assert dual.bounds[0] <= before
        assert slow_dual(dual) <= dual.bounds[0] + 1e-9
        before = dual.bounds[0]


@given(SEEDS)
def test_without_zeros_every_sweep_reports_the_dual_function(seed):
    rng = np.random.default_rng(seed)
    cards, tables = oracle.random_factors(rng, 6, 12, max_scope=4, zeros=0.0)
    question = Question.read(markov(cards, tables), None, None)
    dual = DualBound(question.graph, question.log_field())
    values = []
    for _ in range(6):
        dual.bounds[:] = np.inf
        dual.sweep(np.arange(1), drop=False)
        assert dual.bounds[0] == pytest.approx(slow_dual(dual), abs=1e-9)
        values.append(dual.bounds[0])
    assert np.all(np.diff(values) <= 1e-9)


@given(SEEDS, st.booleans())
def test_trees_are_solved_by_the_sweeps_alone(seed, ties):
    cards, tables = random_tree(seed, ties=ties)
    model = markov(cards, tables)
    best = oracle.mode(oracle.joint(cards, tables))[1]
    found = model.most_probable(engine=BARE)
    assert float(found.upper_bound) == pytest.approx(best, abs=1e-5)
    if not ties:  # with ties, what is read off in the elements' order need not fit together
        assert float(found.log_prob) == pytest.approx(best, abs=1e-5)
    polished = model.most_probable(engine=FULL)
    assert float(polished.log_prob) == pytest.approx(best, abs=1e-5)
    assert bool(polished.diagnostics["optimal"].all())


@given(SEEDS)
def test_states_are_dropped_only_if_no_better_assignment_has_them(seed):
    _, cards, tables = random_model(seed, 6)
    joint = oracle.joint(cards, tables)
    best, value = oracle.mode(joint)
    question = Question.read(markov(cards, tables), None, None)
    dual = DualBound(question.graph, question.log_field())
    for _ in range(30):
        dual.sweep(np.arange(1))
    kept = [
        all(np.isfinite(dual.fields[0, dual.graph.elements.offset[k] + x[n]])
            for k, n in enumerate(question.model.variables))
        for x, v in oracle.k_best(joint, 20) if v > value - 1e-12
    ]  # fmt: skip
    assert best
    assert all(kept)
    assert dual.bounds[0] >= value - 1e-8


# --- the answer -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@given(SEEDS)
def test_answers_are_what_they_claim(seed):
    rng, cards, tables = random_model(seed)
    model = markov(cards, tables)
    rows = oracle.random_evidence(rng, oracle.joint(cards, tables), 0.4, 4)
    evidence = {n: torch.tensor([row.get(n, -1) for row in rows]) for n in cards}
    for engine in (BARE, FULL):
        found = model.most_probable(evidence, engine=engine, errors="nan")
        for r, row in enumerate(rows):
            best = oracle.mode(oracle.joint(cards, tables, row))[1]
            assert float(found.upper_bound[r]) >= best - 1e-9
            if engine is BARE and bool(found.log_prob[r].isnan()):
                continue  # the sweeps may fail to find a possible one
            states = {n: int(found[n][r]) for n in cards}
            assert all(states[n] == k for n, k in row.items())
            assert float(found.log_prob[r]) == pytest.approx(score(tables, states), abs=1e-9)
            assert float(found.log_prob[r]) <= float(found.upper_bound[r])
            if found.diagnostics["optimal"][r]:
                assert float(found.log_prob[r]) == pytest.approx(best, abs=1e-5)
        if engine is FULL:
            assert found.diagnostics["optimal"].all()
            assert found.diagnostics["converged"].all()


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
@given(SEEDS)
def test_search_with_small_tables_keeps_the_score_right(seed):
    _, cards, tables = random_model(seed, 9)
    small = NeighbourhoodSearch(min_entries=8, max_entries=8, whole_entries=8, patience=2)
    engine = DualDecomposition(search=small, seed=1, progress=False, max_iterations=40)
    best = oracle.mode(oracle.joint(cards, tables))[1]
    found = markov(cards, tables).most_probable(engine=engine, errors="nan")
    again = markov(cards, tables).most_probable(engine=engine, errors="nan")
    assert torch.equal(found.codes, again.codes)
    if not bool(found.log_prob.isnan()):
        states = {n: int(found.codes[k]) for k, n in enumerate(found)}
        assert float(found.log_prob) == pytest.approx(score(tables, states), abs=1e-9)
        assert float(found.log_prob) <= best + 1e-9 <= float(found.upper_bound) + 2e-9


@given(SEEDS, st.floats(-3, 3))
def test_potts_groups_are_like_their_tables(seed, scale):
    rng = np.random.default_rng(seed)
    pixel = Variable("pixel", 3, shape=(3, 3))
    edges = [(3 * i + j, 3 * i + j + 1) for i in range(3) for j in range(2)]
    edges += [(3 * i + j, 3 * i + j + 3) for i in range(2) for j in range(3)]
    own = TableGroup(np.arange(9)[:, None], torch.from_numpy(rng.normal(size=(9, 3))))
    coupling = torch.from_numpy(scale * rng.random(len(edges)))
    potts = PottsGroup(edges, coupling, 3)
    plain = TableGroup(edges, potts.log_values)
    observed = {
        ("pixel", 0, 0): torch.tensor([-1, 2, -1, 1]),
        ("pixel", 1, 1): torch.tensor([-1, -1, 0, 1]),
    }
    traces = []
    for group in (potts, plain):
        question = Question.read(Field([pixel], [own, group]), observed, None)
        dual = DualBound(question.graph, question.log_field())
        for _ in range(6):
            dual.sweep(np.arange(4))
        traces.append((dual.bounds, dual.scores, dual.states))
    for a, b in zip(*traces, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
    model = Field([pixel], [own, potts])
    found = model.most_probable(observed, engine=FULL)
    exact = model.most_probable(observed)
    torch.testing.assert_close(found.log_prob, exact.log_prob)


def test_tables_of_each_row():
    rng = np.random.default_rng(0)
    x = Variable("x", 3, shape=(4,))
    tables = torch.from_numpy(rng.normal(size=(5, 3, 3, 3)))
    groups = [TableGroup([[0, 1], [1, 2], [2, 3]], tables)]
    model = Field([x], groups)
    question = Question.read(model, {("x", 0): torch.full((5,), -1)}, None)
    best = FULL.maximize(question, np.ones(4, dtype=np.bool_))
    for r in range(5):
        single = Field([x], [TableGroup(groups[0].scopes, tables[r])])
        alone = single.most_probable(engine=FULL)
        assert float(best.log_prob[r]) == pytest.approx(float(alone.log_prob))
        assert best.diagnostics["optimal"][r]


def test_soft_evidence_counts():
    cards, tables = random_tree(3)
    soft = {"x0": np.array([0.2, 0.9, 0.0, 0.4])[: cards["x0"]]}
    best = oracle.mode(oracle.joint(cards, tables, soft=soft))[1]
    found = markov(cards, tables).most_probable({"x0": torch.from_numpy(soft["x0"])}, engine=FULL)
    assert float(found.log_prob) == pytest.approx(best)
    assert float(found.upper_bound) == pytest.approx(best, abs=1e-5)


# --- edges ----------------------------------------------------------------------------------------


def test_no_rows():
    cards, tables = random_tree(1)
    none = {"x0": torch.zeros(0, dtype=torch.int64)}
    found = markov(cards, tables).most_probable(none, engine=FULL)
    assert found.codes.shape == (0, len(cards))
    assert found.upper_bound.shape == (0,)


def test_impossible_evidence_is_proved():
    equal = np.eye(2)
    model = markov({"a": 2, "b": 2, "c": 2}, [(("a", "b"), equal), (("b", "c"), equal)])
    with pytest.raises(ImpossibleEvidence):
        model.most_probable({"a": 0, "c": 1}, engine=BARE)
    rows = {"a": torch.tensor([0, 0]), "c": torch.tensor([1, 0])}
    found = model.most_probable(rows, engine=FULL, errors="nan")
    assert found.codes.tolist() == [[-1, -1, -1], [0, 0, 0]]
    assert found.log_prob.tolist() == [-np.inf, 0.0]
    assert found.diagnostics["gap"].tolist() == [0.0, 0.0]


def test_impossible_models_that_sweeps_do_not_see_through():
    unequal = 1.0 - np.eye(2)
    triangle = [(p, unequal) for p in (("a", "b"), ("b", "c"), ("a", "c"))]
    model = markov({"a": 2, "b": 2, "c": 2}, triangle)
    engine = DualDecomposition(5, search=None, progress=False)
    with pytest.raises(EvidenceError, match="found no state of positive probability in 1 rows"):
        model.most_probable(engine=engine)
    with pytest.warns(NotConverged, match="1 of 1 rows did not converge"):
        found = model.most_probable(engine=engine, errors="nan")
    assert bool(found.log_prob.isnan())
    assert found.codes.tolist() == [-1, -1, -1]
    with pytest.raises(ImpossibleEvidence):
        model.most_probable(engine=FULL)


def test_sums_are_refused():
    cards, tables = random_tree(2)
    model = markov(cards, tables)
    with pytest.raises(Unsupported, match="maximises"):
        model.most_probable(targets=["x0"], engine=FULL)
    rest = {n: 0 for n in cards if n != "x0"}
    assert set(model.most_probable(rest, targets=["x0"], engine=FULL)) == {"x0"}


def test_limit_is_not_convergence():
    rng = np.random.default_rng(0)
    cards = {f"x{k}": 2 for k in range(12)}
    pairs = list(itertools.combinations(cards, 2))
    tables = [(pair, np.exp(3 * rng.normal(size=(2, 2)))) for pair in pairs]
    engine = DualDecomposition(2, search=None, progress=False)
    with pytest.warns(NotConverged, match="max_iterations"):
        found = markov(cards, tables).most_probable(engine=engine)
    assert not found.diagnostics["converged"].any()
    assert found.diagnostics["iterations"] == 2
    assert len(found.diagnostics["history"]["upper_bound"]) == 2


@given(SEEDS)
def test_conditional_best_states_equal_enumeration(seed):
    rng, cards, tables = random_model(seed, 6)
    question = Question.read(markov(cards, tables), None, None)
    names = list(question.model.variables)
    best, _ = oracle.mode(oracle.joint(cards, tables))
    held = {n: best[n] for n in names if rng.random() < 0.5}
    given_states = np.array([held.get(n, -1) for n in names])
    found = ConditionalSolver(question.graph).solve(question.log_field()[0], 0, given_states)
    assert found is not None
    states = dict(zip(names, found.tolist(), strict=True))
    assert states.items() >= held.items()
    value = oracle.mode(oracle.joint(cards, tables, held))[1]
    assert score(tables, states) == pytest.approx(value)


# --- public instances -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Segmentation_12", "Grids_12", "Promedus_24", "Pedigree_12", "CSP_12"]
)
def test_public_instances_reach_the_optimum(data_dir, name):
    folder = data_dir / "uai"
    known = json.loads((folder / "reference_values.json").read_text())["instances"]
    model = pgnn.read(folder / "pr_mar" / f"{name}.uai")
    evidence = pgnn.read_evidence(folder / "pr_mar" / f"{name}.uai.evid")
    found = model.most_probable(evidence or None, engine=FULL)
    best = known[f"pr_mar/{name}"]["log10_MAP_exact"] * np.log(10)
    assert float(found.log_prob) == pytest.approx(best, abs=1e-6)
    assert float(found.upper_bound) >= best - 1e-6
