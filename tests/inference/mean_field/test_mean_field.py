"""Mean field against enumeration: bounds, ascent, stationary points, blocks, zeros."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Factor, MarkovRandomField, Variable
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, NotConverged
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.grouping import grouped
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.mean_field import coordinate_ascent
from pgnn.inference.mean_field.block_ascent import BlockAscent, Blocks, Slices, elements_of_blocks
from pgnn.inference.mean_field.coordinate_ascent import CoordinateAscent
from pgnn.inference.mean_field.mean_field import MeanField
from pgnn.inference.question import Question
from tests import oracle
from tests.inference.random_graphs import KINDS, RandomGraph

FIELDS = [(kind, seed) for kind in KINDS for seed in range(4)]


def quiet(**settings: Any) -> MeanField:
    return MeanField(**{"seed": 0, "progress": False, "tolerance": 1e-9, **settings})


def question_of(given: RandomGraph) -> Question:
    """The arrays of a random graph and its evidence."""
    elements = Elements(given.graph.variables)
    observed = RowEvidence(given.codes, True, given.likelihoods, np.zeros(given.rows))
    return Question(None, FactorGraph(elements, grouped(given.graph.factors, elements)), observed)


def over_groups(variables: list[Variable], groups: list[FactorGroup], codes: Any) -> Question:
    """The arrays of groups over arrays of variables."""
    codes = np.asarray(codes, dtype=np.int32)
    observed = RowEvidence(codes, True, None, np.zeros(len(codes)))
    return Question(None, FactorGraph(Elements(variables), tuple(groups)), observed)


def dense(question: Question, row: int) -> np.ndarray:
    """``(K1, ..., KE)`` log joint of a row with its evidence, written down from the groups."""
    graph = question.graph
    card, offset = graph.elements.card, graph.elements.offset
    total = np.zeros(card)
    field = question.log_field()[row]
    for i in range(len(card)):
        shape = [1] * len(card)
        shape[i] = card[i]
        total = total + field[offset[i] : offset[i + 1]].reshape(shape)
    for g in graph.groups:
        if g.arity == 1:
            continue
        tables = g.log_values.detach().numpy()
        tables = tables[row] if g.batch_shape else tables
        for f, scope in enumerate(g.scopes):
            table = tables[min(f, len(tables) - 1)]
            order = np.argsort(scope)
            shape = [card[i] if i in scope else 1 for i in range(len(card))]
            total = total + table.transpose(order).reshape(shape)
    return total


def log_z(question: Question) -> np.ndarray:
    rows = [dense(question, r) for r in range(question.num_rows)]
    with np.errstate(divide="ignore"):
        return np.array([np.log(np.exp(t - t.max()).sum()) + t.max() for t in rows])


def split(question: Question, q: np.ndarray) -> list[np.ndarray]:
    return np.split(q, question.graph.elements.offset[1:-1])


def product(parts: list[np.ndarray]) -> np.ndarray:
    out = np.ones(())
    for part in parts:
        out = out[..., None] * part
    return out


def free_energy(question: Question, row: int, q: np.ndarray) -> float:
    """The bound, by enumeration."""
    p = product(split(question, q))
    taken = p > 0
    return float((p[taken] * (dense(question, row)[taken] - np.log(p[taken]))).sum())


def best_response(question: Question, row: int, q: np.ndarray, i: int) -> np.ndarray:
    """The best distribution of element ``i`` given the others, by enumeration."""
    parts = split(question, q)
    parts[i] = np.ones_like(parts[i])
    weights = product(parts)
    score = np.where(weights > 0, np.where(weights > 0, dense(question, row), 0.0) * weights, 0.0)
    logits = score.sum(axis=tuple(a for a in range(weights.ndim) if a != i))
    w = np.exp(logits - logits.max())
    return np.asarray(w / w.sum())


@pytest.mark.parametrize(("kind", "seed"), FIELDS)
@pytest.mark.parametrize("soft", [False, True])
def test_the_bound_is_that_of_q_and_below_the_exact_value(kind, seed, soft) -> None:
    question = question_of(RandomGraph(seed, kind, soft=soft))
    found = quiet(restarts=2).infer(question)
    exact = log_z(question)
    assert found.kind == "lower bound"
    assert found.diagnostics["converged"].all()
    assert found.diagnostics["feasible"].all()
    for r in range(question.num_rows):
        q = found.marginals[r].numpy()
        np.testing.assert_allclose([p.sum() for p in split(question, q)], 1.0, atol=1e-12)
        bound = float(found.log_evidence[r])
        assert bound == pytest.approx(free_energy(question, r, q), rel=1e-10, abs=1e-10)
        assert bound <= exact[r] + 1e-10
        for i in range(len(split(question, q))):
            np.testing.assert_allclose(
                split(question, q)[i], best_response(question, r, q, i), atol=1e-7
            )


@pytest.mark.parametrize("kind", KINDS)
def test_every_sweep_is_its_twin_and_raises_the_bound(kind) -> None:
    """Each sweep equals one of NumPy's, one element after the other; no bound falls."""
    question = question_of(RandomGraph(11, kind, share=0.2))
    ascent, possible = CoordinateAscent(question, question.log_field(), 0.0).possible()
    assert possible.all()
    state = ascent.begin(ascent.start(np.random.default_rng(1), 1.0), ascent.all_rows)
    before = ascent.bounds(state.q)
    for _ in range(8):
        twin = state.q.copy()
        for r in range(question.num_rows):
            offset = question.graph.elements.offset
            for i in range(len(offset) - 1):
                twin[r, offset[i] : offset[i + 1]] = best_response(question, r, twin[r], i)
        state, _ = ascent.step(state)
        np.testing.assert_allclose(state.q, twin, atol=1e-12)
        after = ascent.bounds(state.q)
        assert (after >= before - 1e-10 * np.abs(before)).all()
        before = after


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_blocks_raise_the_bound_at_every_sweep(seed, size) -> None:
    """Tables of up to four elements over blocks of any size, rows with other evidence."""
    rng = np.random.default_rng(seed)
    cards, tables = oracle.random_factors(rng, 6, 9, max_scope=4, zeros=0.05)
    variables = {n: Variable(n, k) for n, k in cards.items()}
    with np.errstate(divide="ignore"):
        factors = [
            Factor([variables[n] for n in s], torch.from_numpy(np.log(t))) for s, t in tables
        ]
    elements = Elements(variables.values())
    joint = oracle.joint(cards, tables)
    drawn = oracle.random_evidence(rng, joint, 0.2, 3)
    codes = np.array([[row.get(n, -1) for n in cards] for row in drawn], dtype=np.int32)
    graph = FactorGraph(elements, grouped(factors, elements))
    question = Question(None, graph, RowEvidence(codes, True, None, np.zeros(3)))
    names = rng.permutation(list(cards))
    given = [names[k : k + size].tolist() for k in range(0, 6, size)]
    ascent, _ = CoordinateAscent(question, question.log_field(), 1e-9).possible()
    blocks = BlockAscent(ascent, Blocks(graph.wiring, elements_of_blocks(elements, given)))
    state = ascent.begin(ascent.start(rng, 1.0), ascent.all_rows)
    for _ in range(100):
        state, _ = ascent.step(state)
    alone = ascent.bounds(state.q)
    assert np.isfinite(alone).all()
    state = blocks.begin(state.q, ascent.all_rows)
    before = blocks.bounds(state.q)
    np.testing.assert_allclose(before, alone, rtol=1e-10, atol=1e-10)
    for _ in range(10):
        state, _ = blocks.step(state)
        after = blocks.bounds(state.q)
        assert (after >= before - 1e-10 * np.abs(before) - 1e-12).all()
        before = after
    exact = log_z(question)
    assert (before <= exact + 1e-9).all()
    if size == 6:
        np.testing.assert_allclose(before, exact, rtol=1e-9, atol=1e-9)
    if size == 1:
        np.testing.assert_allclose(before, alone, rtol=1e-6, atol=1e-6)


def test_the_bound_of_blocks_is_that_of_their_distribution() -> None:
    """A chain in two blocks: q written down, with the exact conditional inside each."""
    rng = np.random.default_rng(3)
    variables = [Variable(k, 2) for k in range(4)]
    tables = [torch.from_numpy(rng.normal(size=(2, 2))) for _ in range(3)]
    factors = [Factor(variables[k : k + 2], t) for k, t in enumerate(tables)]
    model = MarkovRandomField(factors)
    found = model.query(engine=quiet(blocks=[[0, 1], [2, 3]]))
    q = [found[k].probs.numpy() for k in range(4)]
    a, b, c = (t.numpy() for t in tables)
    left = np.exp(a + (b @ q[2])[None, :])
    right = np.exp(c + (q[1] @ b)[:, None])
    left, right = left / left.sum(), right / right.sum()
    np.testing.assert_allclose(left.sum(axis=1), q[0], atol=1e-8)
    np.testing.assert_allclose(right.sum(axis=0), q[3], atol=1e-8)
    bound = (left * (a - np.log(left))).sum() + (right * (c - np.log(right))).sum()
    bound += q[1] @ b @ q[2]
    assert float(found.log_evidence) == pytest.approx(bound, abs=1e-10)


def test_one_block_of_everything_is_exact() -> None:
    given = RandomGraph(5, "loop", soft=True)
    question = question_of(given)
    found = quiet(blocks=[given.names]).infer(question)
    np.testing.assert_allclose(found.log_evidence, given.log_evidence, atol=1e-9)
    np.testing.assert_allclose(found.marginals, given.marginals(), atol=1e-9)


@pytest.mark.parametrize("blocks", [None, [Slices("pixel")], [Slices("pixel", 1), ["label"]]])
def test_arrays_shared_tables_and_potts(blocks) -> None:
    rng = np.random.default_rng(0)
    variables = [Variable("pixel", 3, shape=(2, 3)), Variable("label", 2)]
    cells = np.arange(6).reshape(2, 3)
    across = np.stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()], axis=1)
    down = np.stack([cells[0], cells[1]], axis=1)
    groups = [
        PottsGroup(across, torch.tensor([0.7], dtype=torch.float64), 3),
        TableGroup(down, torch.from_numpy(rng.normal(size=(1, 3, 3)))),
        TableGroup(cells.reshape(-1, 1), torch.from_numpy(rng.normal(size=(6, 3)))),
        TableGroup([[6, 4]], torch.from_numpy(rng.normal(size=(1, 2, 3)))),
        TableGroup(np.zeros((1, 0)), torch.full((1,), 0.25, dtype=torch.float64)),
    ]
    codes = np.full((3, 7), -1)
    codes[1, [0, 3]], codes[2] = [2, 1], [0, 1, 2, 0, 1, 2, 1]
    question = over_groups(variables, groups, codes)
    found = quiet(blocks=blocks).infer(question)
    exact = log_z(question)
    assert (found.log_evidence.numpy() <= exact + 1e-10).all()
    assert float(found.log_evidence[2]) == pytest.approx(exact[2], abs=1e-10)
    if blocks is None:
        for r in range(3):
            q = found.marginals[r].numpy()
            bound = free_energy(question, r, q)
            assert float(found.log_evidence[r]) == pytest.approx(bound, abs=1e-10)
    else:
        alone = quiet().infer(question)
        assert (found.log_evidence >= alone.log_evidence - 1e-10).all()
        assert found.log_evidence[0] > alone.log_evidence[0] + 1e-3
    table = dense(question, 0)
    spelled = over_groups(
        variables, [TableGroup([range(7)], torch.from_numpy(table)[None])], codes[:1]
    )
    whole = quiet().infer(spelled)
    assert float(whole.log_evidence) <= exact[0] + 1e-10


def test_potts_is_its_table() -> None:
    rng = np.random.default_rng(1)
    scopes = [(0, 1), (1, 2), (2, 0)]
    coupling = torch.from_numpy(rng.normal(size=3))
    short = PottsGroup(scopes, coupling, 3)
    variables = [Variable("x", 3, shape=(3,))]
    fields = TableGroup([[0], [1], [2]], torch.from_numpy(rng.normal(size=(3, 3))))
    codes = [[-1, -1, -1], [2, -1, -1]]
    one = quiet().infer(over_groups(variables, [short, fields], codes))
    long = TableGroup(scopes, short.log_values)
    two = quiet().infer(over_groups(variables, [long, fields], codes))
    np.testing.assert_allclose(one.marginals, two.marginals, atol=1e-12)
    np.testing.assert_allclose(one.log_evidence, two.log_evidence, atol=1e-12)


@pytest.mark.parametrize("blocks", [None, [[0, 1], [2]]])
def test_tables_that_differ_from_row_to_row(blocks) -> None:
    rng = np.random.default_rng(2)
    variables = [Variable(k, 2) for k in range(3)]
    tables = torch.from_numpy(rng.normal(size=(4, 2, 2, 2)))
    codes = np.full((4, 3), -1)
    together = over_groups(variables, [TableGroup([(0, 1), (1, 2)], tables)], codes)
    found = quiet(blocks=blocks).infer(together)
    for r in range(4):
        alone = over_groups(variables, [TableGroup([(0, 1), (1, 2)], tables[r])], codes[:1])
        single = quiet(blocks=blocks).infer(alone)
        assert float(found.log_evidence[r]) == pytest.approx(float(single.log_evidence), abs=1e-10)
        np.testing.assert_allclose(found.marginals[r], single.marginals[0], atol=1e-7)


def test_without_couplings_the_answer_is_exact() -> None:
    given = RandomGraph(2, "isolated", soft=True)
    found = quiet().infer(question_of(given))
    np.testing.assert_allclose(found.log_evidence, given.log_evidence, atol=1e-10)
    np.testing.assert_allclose(found.marginals, given.marginals(), atol=1e-10)


def test_restarts_keep_the_best() -> None:
    """A frustrated field has many optima; each row keeps the best that was found for it."""
    rng = np.random.default_rng(3)
    pairs = np.array([(i, j) for i in range(8) for j in range(i)])
    couplings = torch.from_numpy(3 * rng.normal(size=(len(pairs), 2, 2)))
    question = over_groups(
        [Variable("x", 2, shape=(8,))], [TableGroup(pairs, couplings)], np.full((1, 8), -1)
    )
    bounds = [float(quiet(restarts=n).infer(question).log_evidence) for n in (1, 2, 4, 8, 16)]
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0] + 1e-3
    again = quiet(restarts=8).infer(question)
    assert float(again.log_evidence) == bounds[3]
    assert (again.marginals == quiet(restarts=8).infer(question).marginals).all()


def test_a_field_without_a_preference_takes_one_side() -> None:
    """The Ising grid below its critical temperature: q leaves the saddle, and as one region."""
    n = 12
    cells = np.arange(n * n).reshape(n, n)
    pairs = np.concatenate(
        [
            np.stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()], axis=1),
            np.stack([cells[:-1].ravel(), cells[1:].ravel()], axis=1),
        ]
    )
    coupling = torch.tensor([1.2], dtype=torch.float64)
    question = over_groups(
        [Variable("x", 2, shape=(n, n))], [PottsGroup(pairs, coupling, 2)], np.full((1, n * n), -1)
    )
    found = quiet().infer(question)
    likely = found.marginals.reshape(-1, 2).numpy()
    assert (likely.argmax(axis=1) == likely[0].argmax()).all()
    assert likely.max(axis=1).min() > 0.8
    assert float(found.log_evidence) > n * n * np.log(2) + len(pairs) * 0.6 + 1.0


# --- zeros ----------------------------------------------------------------------------------------


def test_a_permutation_is_found() -> None:
    """All different, one of 24 assignments: independent q can hold one alone, log 1 = 0."""
    pairs = [(i, j) for i in range(4) for j in range(i)]
    never = PottsGroup(pairs, torch.tensor([-np.inf], dtype=torch.float64), 4)
    codes = [[-1] * 4, [2, -1, -1, -1], [1, 1, -1, -1]]
    found = quiet().infer(over_groups([Variable("x", 4, shape=(4,))], [never], codes))
    assert found.log_evidence[:2].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found.log_evidence[2] == -np.inf
    assert found.marginals[2].isnan().all()
    states = found.marginals[:2].reshape(2, 4, 4).argmax(dim=-1)
    assert all(len(set(row)) == 4 for row in states.tolist())


def test_the_search_backs_out_of_wrong_choices() -> None:
    """x + y + z even, then odd: arc consistency sees nothing, the search proves it impossible."""
    parity = np.add.outer(np.add.outer(np.arange(2), np.arange(2)), np.arange(2)) % 2
    with np.errstate(divide="ignore"):
        odd, even = np.log(1.0 * parity), np.log(1.0 - parity)
    v = [Variable(k, 2) for k in range(3)]
    model = MarkovRandomField([Factor(v, torch.from_numpy(odd))])
    assert float(model.query(engine=quiet()).log_evidence) == pytest.approx(0.0, abs=1e-12)
    both = MarkovRandomField([Factor(v, torch.from_numpy(t)) for t in (odd, even)])
    with pytest.raises(ImpossibleEvidence):
        both.query(engine=quiet())
    assert float(both.query(engine=quiet(), errors="nan").log_evidence) == -np.inf


@pytest.mark.parametrize("seed", range(20))
def test_deterministic_networks_have_finite_bounds(seed) -> None:
    """Half of all entries zero, evidence drawn from the joint."""
    rng = np.random.default_rng(seed)
    network = oracle.random_network(rng, "dense", 8, zeros=0.6)
    joint = network.joint()
    graph = [(p, c) for p, c in network.edges]
    model = pgnn.BayesianNetwork(graph, network.probabilities, states=network.cards)
    row = oracle.random_evidence(rng, joint, 0.3)
    found = model.query(evidence=row, engine=quiet())
    assert -np.inf < float(found.log_evidence) <= oracle.log_evidence(network.joint(row)) + 1e-10


def test_zeros_made_harder_step_by_step_lead_to_better_bounds(monkeypatch) -> None:
    """Over 30 networks with many zeros, against one assignment that the search comes across."""
    gained = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        network = oracle.random_network(rng, "dense", 8, zeros=0.6)
        edges = [*network.edges]
        model = pgnn.BayesianNetwork(edges, network.probabilities, states=network.cards)
        row = oracle.random_evidence(rng, network.joint(), 0.3)
        bounds = []
        for steps in (coordinate_ascent._PENALTIES, ()):
            monkeypatch.setattr(coordinate_ascent, "_PENALTIES", steps)
            bounds.append(float(model.query(evidence=row, engine=quiet()).log_evidence))
            monkeypatch.undo()
        gained.append(bounds[0] - bounds[1])
    assert np.mean(gained) > 0.5


def test_what_was_not_found_is_not_called_impossible(monkeypatch) -> None:
    problem_size = 6
    pairs = [(i, j) for i in range(problem_size) for j in range(i)]
    never = PottsGroup(pairs, torch.tensor([-np.inf], dtype=torch.float64), problem_size)
    codes = [[-1] * problem_size]
    question = over_groups([Variable("x", problem_size, shape=(problem_size,))], [never], codes)
    engine = quiet()
    monkeypatch.setattr(CoordinateAscent, "start", lambda self, *_: self.init().q)
    monkeypatch.setattr(
        CoordinateAscent, "proven_impossible", lambda _, rows: np.zeros(len(rows), bool)
    )
    found = engine.infer(question)
    assert found.log_evidence.tolist() == [-np.inf]
    assert not found.diagnostics["feasible"].any()
    assert not found.marginals.isnan().any()
    with pytest.warns(NotConverged, match="no distribution of positive probability was found"):
        engine.check_rows(question, found.log_evidence, found.diagnostics, found.advice)


# --- as models call it ----------------------------------------------------------------------------


@pytest.fixture
def chain() -> MarkovRandomField:
    rng = np.random.default_rng(4)
    v = [Variable(f"v{k}", 3) for k in range(4)]
    return MarkovRandomField(
        Factor(v[k : k + 2], torch.from_numpy(rng.normal(size=(3, 3)))) for k in range(3)
    )


@pytest.mark.parametrize("blocks", [None, [["v0", "v1"]]])
def test_rows_are_independent(chain, blocks) -> None:
    codes = torch.tensor([0, -1, 2, -1, 1])
    many = chain.query(evidence={"v1": codes}, engine=quiet(blocks=blocks))
    assert (many.kind, many.engine) == ("lower bound", "MeanField")
    for r, code in enumerate(codes.tolist()):
        one = chain.query(evidence={} if code < 0 else {"v1": code}, engine=quiet(blocks=blocks))
        assert float(many.log_evidence[r]) == pytest.approx(float(one.log_evidence), abs=1e-10)
        for name in chain.variables:
            np.testing.assert_allclose(many[name].probs[r], one[name].probs, atol=1e-12)
        iterations = many.diagnostics["iterations"][r]
        assert int(iterations) == int(one.diagnostics["iterations"])
    assert len(set(many.diagnostics["iterations"].tolist())) > 1


@pytest.mark.parametrize("blocks", [None, [["v0", "v1"]]])
def test_no_rows_and_no_targets(chain, blocks) -> None:
    none = chain.query([], {"v0": torch.zeros(0, dtype=torch.int64)}, engine=quiet(blocks=blocks))
    assert none.log_evidence.shape == (0,)
    whole = chain.query([], {"v0": 1}, engine=quiet(blocks=blocks))
    assert list(whole) == []
    assert whole.log_evidence <= chain.query([], {"v0": 1}).log_evidence


def test_the_limit_is_not_called_converged(chain) -> None:
    with pytest.warns(NotConverged, match="1 of 1 rows did not converge"):
        found = chain.query(engine=quiet(max_iterations=1, tolerance=1e-15))
    assert not found.diagnostics["converged"].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chain.query(engine=quiet()).diagnostics["converged"].all()


def test_gradients_of_the_bound() -> None:
    """At a stationary point the bound's gradient is the expectation under q, by differences."""
    rng = np.random.default_rng(6)
    tables = torch.from_numpy(rng.normal(size=(2, 2, 3))).requires_grad_()
    alone = torch.from_numpy(rng.normal(size=(1, 2))).requires_grad_()
    coupling = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    variables = [Variable("a", 2), Variable("b", 3), Variable("c", 3), Variable("d", 2)]

    def bound(t: torch.Tensor, u: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        groups = [
            TableGroup([(0, 1), (3, 2)], t),
            TableGroup([[3]], u),
            PottsGroup([(1, 2)], j, 3),
        ]
        question = over_groups(variables, groups, [[-1, -1, -1, -1], [-1, 2, -1, -1]])
        return quiet(tolerance=1e-13).infer(question).log_evidence.sum()

    assert torch.autograd.gradcheck(bound, (tables, alone, coupling), atol=1e-5)


def test_bad_settings(chain) -> None:
    for wrong in ({"restarts": 0}, {"max_iterations": 0}, {"tolerance": -1.0}):
        with pytest.raises(ModelError, match=r"must (be at least 1|be finite and not negative)"):
            MeanField(**wrong)
    with pytest.raises(ModelError, match="'v1' is named twice"):
        chain.query(engine=quiet(blocks=[["v0", "v1"], ["v1"]]))
    with pytest.raises(EvidenceError, match="unknown variable 'w'"):
        chain.query(engine=quiet(blocks=[["w"]]))
    with pytest.raises(ModelError, match="a block must be a list of names"):
        chain.query(engine=quiet(blocks=["v0"]))
