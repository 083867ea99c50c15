import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Factor, Variable
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, NotConverged, Unsupported
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.inference.diagnostics import BatchSums
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.question import Question
from pgnn.inference.sampling.cpu_gibbs import CpuChains, TemperedTables
from pgnn.inference.sampling.gibbs import Gibbs
from pgnn.inference.sampling.torch_gibbs import TorchChains
from tests.zoo import ZOO

MANY = 10**6
ROWS = 3


class Everything:
    """A field with every feature, and its joint tables written down by hand.

    Elements: ``a`` (2 states), ``b`` (3), a (2, 2) array ``x`` (3), ``one`` (1), ``lonely`` (2).
    """

    def __init__(self, seed=0, zeros=True, soft=True):
        rng = np.random.default_rng(seed)
        a, b, one, lonely = 0, 1, 6, 7
        x = [2, 3, 4, 5]
        self.elements = Elements(
            [Variable("a", 2), Variable("b", 3), Variable("x", 3, (2, 2)), Variable("one", 1),
             Variable("lonely", 2)]
        )  # fmt: skip
        self.card = [2, 3, 3, 3, 3, 3, 1, 2]
        rowwise = rng.normal(size=(ROWS, 1, 2, 3))
        shared = rng.normal(size=(1, 3, 3))
        high = rng.normal(size=(2, 2, 3, 1, 3))
        coupling = np.array([0.7, -1.2, 0.4])
        fields, own = rng.normal(size=(1, 3)), rng.normal(size=(ROWS, 1, 2))
        if zeros:
            shared[0, 0, 2] = rowwise[1, 0, 1, 1] = high[0, 1, 0, 0, 2] = -np.inf
            coupling[1] = -np.inf
            own[0, 0, 1] = -np.inf
        edges, links = [(2, 3), (3, 5), (4, 5)], [(2, 4), (3, 1), (1, 5)]
        tops = [(a, x[0], one, x[3]), (lonely, x[1], one, b)]
        tensor = torch.from_numpy
        self.groups = (
            TableGroup([(a, b)], tensor(rowwise)),
            TableGroup(links, tensor(shared)),
            TableGroup(tops, tensor(high)),
            PottsGroup(edges, tensor(coupling), 3),
            TableGroup([[e] for e in x], tensor(fields)),
            TableGroup([[lonely]], tensor(own)),
        )
        eye = np.eye(3, dtype=bool)
        self.tables = [
            [
                ((a, b), rowwise[r, 0]),
                *((s, shared[0]) for s in links),
                *zip(tops, high, strict=True),
                *((s, np.where(eye, j, 0.0)) for s, j in zip(edges, coupling, strict=True)),
                *(((e,), fields[0]) for e in x),
                ((lonely,), own[r, 0]),
            ]
            for r in range(ROWS)
        ]
        self.codes = np.array(
            [[-1] * 8, [-1, 0, -1, 2, -1, -1, -1, -1], [1, -1, -1, -1, 0, -1, 0, 1]], np.int32
        )
        self.soft = None
        if soft:
            self.soft = np.ones((ROWS, 20))
            self.soft[:, 8:11] = rng.random((ROWS, 3)) + 0.1
        self.question = Question(
            None,
            FactorGraph(self.elements, self.groups),
            RowEvidence(self.codes, True, self.soft, np.zeros(ROWS)),
        )

    def joint(self, r, temperature=1.0, observed=True):
        """Normalised joint table of a row."""
        total = np.zeros(self.card)
        soft = [] if self.soft is None else [((3,), np.log(self.soft[r, 8:11]))]
        for scope, table in [*self.tables[r], *soft]:
            order = np.argsort(scope)
            shape = np.ones(8, dtype=int)
            shape[np.array(scope)] = np.array(self.card)[list(scope)]
            total = total + table.transpose(order).reshape(shape)
        weights = np.exp((total - total.max()) / temperature)
        if observed:
            for e, state in enumerate(self.codes[r]):
                if state >= 0:
                    keep = np.zeros(self.card[e])
                    keep[state] = 1.0
                    weights = weights * keep.reshape([-1 if k == e else 1 for k in range(8)])
        return weights / weights.sum()

    def marginals(self, r):
        joint = self.joint(r)
        axes = range(8)
        return np.concatenate([joint.sum(axis=tuple(k for k in axes if k != e)) for e in axes])

    def conditional(self, r, states, e, temperature=1.0):
        """Full conditional of one element, evidence on it left out."""
        joint = self.joint(r, temperature, observed=False)
        row = joint[tuple(slice(None) if k == e else int(s) for k, s in enumerate(states))]
        return row / row.sum() if row.sum() > 0 else np.zeros(len(row))


def started(model, kind=CpuChains, temperatures=(1.0,), seed=0, **options):
    count = ROWS * len(temperatures)
    seeds = np.random.default_rng(seed).integers(0, 2**63, count, dtype=np.uint64)
    tables = TemperedTables(model.question, temperatures, (0, ROWS))
    if kind is CpuChains:
        options = {"visits": MANY, **options}
    chains = kind(tables, seeds, **options)
    assert (chains.start() == 0).all()
    return chains


# --- full conditionals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [(CpuChains, {}), (CpuChains, {"largest_table": 10}), (CpuChains, {"largest_table": 0}),
     (TorchChains, {})],
    ids=["tabulated", "some", "multiplied", "torch"],
)  # fmt: skip
@pytest.mark.parametrize("zeros", [False, True])
def test_full_conditionals_are_those_of_the_joint(kind, options, zeros):
    model = Everything(zeros=zeros)
    temperatures = (1.0, 2.5)
    chains = started(model, kind, temperatures, **options)
    if kind is CpuChains:
        tabulated = chains._program.tabulated
        expected = {10: 0 < tabulated.sum() < 8, 0: not tabulated.any()}
        assert expected.get(options.get("largest_table"), tabulated.all())
    offset = model.elements.offset
    for _ in range(10):
        chains.run(1)
        states, found = np.asarray(chains.states), chains.conditionals()
        for q, e in itertools.product(range(len(states)), range(8)):
            if model.codes[q // 2, e] >= 0 and kind is TorchChains:
                continue
            exact = model.conditional(q // 2, states[q], e, temperatures[q % 2])
            np.testing.assert_allclose(found[q, offset[e] : offset[e + 1]], exact, atol=1e-12)


@pytest.mark.parametrize("largest", [0, 100])
def test_soft_evidence_by_row_and_temperatures_by_chain(largest):
    """Fields differ from row to row, tables do not, both by temperature."""
    model = pgnn.MarkovRandomField.grid((2, 2), 3, coupling=0.7)
    soft = torch.from_numpy(np.random.default_rng(0).random((2, 2, 2, 3)) + 0.1)
    question, seeds = Question.read(model, {"x": soft}, None), np.arange(6).astype(np.uint64)
    together = CpuChains(TemperedTables(question, (1.0, 0.5, 1.0), (0, 2)), seeds, MANY, largest)
    together.states[:] = np.random.default_rng(1).integers(0, 3, (6, 4))
    found = together.conditionals()
    for q, (r, t) in enumerate(itertools.product(range(2), (1.0, 0.5, 1.0))):
        alone = Question.read(model, {"x": soft[r : r + 1]}, None)
        single = CpuChains(TemperedTables(alone, (t,)), seeds[:1], MANY, largest)
        single.states[:] = together.states[q]
        np.testing.assert_allclose(found[q], single.conditionals()[0], atol=1e-14)


def test_alike_elements_share_one_table():
    model = pgnn.MarkovRandomField.grid((20, 20), coupling=0.3)
    chains = CpuChains(TemperedTables(Question.read(model, {}, None)), np.ones(1, np.uint64), MANY)
    # corners, sides, the inside; which neighbour comes first makes some more
    assert chains._program.tabulated.all()
    assert len(np.unique(chains._program.table)) <= 9
    field = np.random.default_rng(0).normal(size=(20, 20))
    model = pgnn.MarkovRandomField.grid((20, 20), coupling=0.3, field=field)
    chains = CpuChains(TemperedTables(Question.read(model, {}, None)), np.ones(1, np.uint64), MANY)
    assert len(np.unique(chains._program.table)) == 400


@pytest.mark.parametrize("strength", [50.0, 400.0, 5000.0])
def test_factors_that_contradict_each_other_strongly(strength):
    """Linear weights are all below the smallest double; the logarithms decide."""
    elements = Elements([Variable("x", 2), Variable("y", 2, (2,))])
    table = torch.tensor([[[0.0, 0.0], [-strength, 0.0]], [[0.0, -strength - 1.0], [0.0, 0.0]]])
    graph = FactorGraph(elements, (TableGroup([(0, 1), (0, 2)], table.double()),))
    question = Question(
        None, graph, RowEvidence(np.full((1, 3), -1, np.int32), True, None, np.zeros(1))
    )
    for largest in (0, 100):
        chains = CpuChains(TemperedTables(question), np.ones(1, np.uint64), MANY, largest)
        chains.states[:] = [0, 0, 1]
        np.testing.assert_allclose(
            chains.conditionals()[0, :2], [1 / (1 + math.e), math.e / (1 + math.e)], rtol=1e-9
        )


# --- draws and marginals ------------------------------------------------------------------------


def chi_square_bound(df):
    """Mean plus six standard deviations of a chi-square; its upper tail there is below 1e-6."""
    return df + 6 * math.sqrt(2 * df) + 12


@pytest.mark.parametrize("kind", [CpuChains, TorchChains])
def test_draws_have_the_joint_distribution(kind):
    # One draw of each of many chains: the draws are independent, and 60 sweeps of this field
    # leave no trace of where a chain began (the tables are mild).
    model = Everything(seed=1, zeros=False)
    num = 4000
    chains = started(model, kind, (1.0,) * num)
    chains.run(60)
    states = np.asarray(chains.states).astype(np.int64).reshape(ROWS, num, 8)
    for r in range(ROWS):
        joint = model.joint(r).ravel()
        counts = np.bincount(np.ravel_multi_index(states[r].T, model.card), minlength=len(joint))
        assert counts[joint == 0].sum() == 0
        order = np.argsort(-joint)
        cells = np.flatnonzero(joint[order] * num >= 5)
        expected = np.append(joint[order][cells], 1 - joint[order][cells].sum()) * num
        observed = np.append(counts[order][cells], num - counts[order][cells].sum())
        kept = expected > 1e-6 * num
        statistic = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
        assert statistic < chi_square_bound(kept.sum() - 1)


@pytest.mark.parametrize("kind", [CpuChains, TorchChains])
def test_marginals_within_their_standard_errors(kind):
    model = Everything(seed=2)
    kept = 16 if kind is TorchChains else 400
    chains = started(model, kind, (1.0,) * 32)
    chains.run(100)
    sums = BatchSums(ROWS, 32, 20)
    for k in range(8):
        sums.add(k // 4, kept, *chains.collect(kept, 1))
    free = np.repeat((model.codes < 0) & (np.array(model.card) > 1), model.card, axis=1)
    exact = np.stack([model.marginals(r) for r in range(ROWS)])
    error = np.abs(sums.mean() - exact)[free]
    # 256 batch means: five of their standard errors; exact zeros are met to the bit
    assert (error <= 5 * sums.standard_error()[free] + 1e-12).all()
    assert (sums.mean()[free][exact[free] == 0] == 0).all()
    assert error.max() < (0.05 if kind is TorchChains else 0.02)


@pytest.mark.parametrize("example", ZOO.values(), ids=str)
def test_zoo_within_the_standard_error(example):
    model = example.make()
    engine = Gibbs(chains=8, samples=1600, burn_in=100, seed=3, max_r_hat=1.2)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConverged)
        answer = model.query(
            evidence=example.batch(), inputs=example.covariates().get("inputs"), engine=engine
        )
    told = answer.diagnostics["standard_error"]
    # some rows of structural zeros can't be left one element at a time, and say so
    converged = answer.diagnostics["converged"].tolist()
    assert sum(converged) >= (5 if example.name == "structural_zeros" else 6)
    for r, row in enumerate(example.rows):
        if not converged[r]:
            continue
        joint = example.joint(r, row)
        for name in example.cards:
            axes = tuple(k for k, n in enumerate(joint.names) if n != name)
            exact = joint.table.sum(axis=axes) / joint.table.sum()
            bound = 6 * told[name][r].numpy().max() + 1e-6
            assert np.abs(answer[name].probs[r].numpy() - exact).max() < bound
    assert answer.log_evidence.isnan().all()


def test_temperature_flattens():
    model = pgnn.MarkovRandomField([Factor([Variable("a", 2), Variable("b", 2)], _pair(2.0))])
    draws = model.sample(
        8000, engine=Gibbs(chains=2, temperature=[1.0, 4.0], seed=0, burn_in=50, thin=10)
    )
    same = (draws["a"] == draws["b"]).double().reshape(-1, 2).mean(dim=0)
    # P(a = b) = e^{2/T} / (1 + e^{2/T}); draws ten sweeps apart are nearly independent, the
    # correlation after one sweep being (tanh 1)^2 = 0.58, after ten 0.004
    for found, t in zip(same.tolist(), (1.0, 4.0), strict=True):
        exact = math.exp(2 / t) / (1 + math.exp(2 / t))
        assert abs(found - exact) < 5 * math.sqrt(exact * (1 - exact) / 4000 * 1.01)
    with pytest.raises(Unsupported, match="single temperature"):
        model.query(engine=Gibbs(chains=2, temperature=[1.0, 4.0]))
    hot = model.query("a", {"b": 1}, engine=Gibbs(temperature=4.0, seed=0))
    assert hot["a"].probs[1] == pytest.approx(math.exp(0.5) / (1 + math.exp(0.5)))


def _pair(j):
    return torch.tensor([[j, 0.0], [0.0, j]], dtype=torch.float64)


# --- starts, and chains that do not mix ---------------------------------------------------------


def exclusive_or(noise=0.0):
    """Two coins and their exclusive or; observed, it ties the coins together."""
    table = np.zeros((2, 2, 2))
    for a, b in np.ndindex(2, 2):
        table[a, b] = [1 - noise, noise] if a == b else [noise, 1 - noise]
    return pgnn.BayesianNetwork(
        [("a", "c"), ("b", "c")], {"a": [0.5, 0.5], "b": [0.5, 0.5], "c": table}
    )


def test_chains_that_cannot_leave_are_reported():
    with pytest.warns(NotConverged, match="did not mix: R-hat is up to inf"):
        answer = exclusive_or().query("a", {"c": 0}, engine=Gibbs(chains=8, seed=0))
    assert answer.diagnostics["r_hat"].tolist() == [math.inf]
    assert not answer.diagnostics["converged"].any()
    assert answer.diagnostics["effective_sample_size"][0] < 10
    with pytest.warns(NotConverged):
        exclusive_or(1e-5).query("a", {"c": 0}, engine=Gibbs(chains=8, seed=0))


def test_chains_that_mix_are_not():
    answer = exclusive_or(0.4).query("a", {"c": 0}, engine=Gibbs(seed=0))
    assert answer.diagnostics["converged"].all()
    assert answer.diagnostics["sweeps"] == 2500


def queens(n):
    """``n`` queens, one a row, none attacking another: nearly all states are impossible."""
    variables = [Variable(k, n) for k in range(n)]
    factors = []
    for i, j in itertools.combinations(range(n), 2):
        p, q = np.indices((n, n))
        hit = (p == q) | (np.abs(p - q) == j - i)
        factors.append(
            Factor([variables[i], variables[j]], torch.from_numpy(np.where(hit, -np.inf, 0.0)))
        )
    return pgnn.MarkovRandomField(factors)


def chains_of(model, evidence=None, count=4, rows=1):
    question = Question.read(model, evidence or {}, None)
    seeds = np.arange(1, count * rows + 1).astype(np.uint64)
    return question, CpuChains(TemperedTables(question, (1.0,) * count, (0, rows)), seeds, MANY)


def test_the_search_finds_and_proves():
    question, chains = chains_of(queens(8))
    assert chains.start().tolist() == [0]
    assert question.graph.log_score(chains.states.astype(np.int32)).isfinite().all()
    assert len(np.unique(chains.states, axis=0)) > 1
    # three queens do not fit on a board of three by three
    assert chains_of(queens(3))[1].start().tolist() == [2]
    assert chains_of(queens(8), {0: [0, 0, -1], 1: [1, 4, -1]}, 2, 3)[1].start().tolist() == [
        2,
        0,
        0,
    ]


def test_penalties_find_what_the_search_gave_up():
    question, chains = chains_of(queens(5))
    outcome = np.array([0, 1, 1, 1])
    before = chains.states[0].copy()
    chains._settle(outcome)
    assert outcome.tolist() == [0, 0, 0, 0]
    assert (chains.states[0] == before).all()
    assert question.graph.log_score(chains.states[1:].astype(np.int32)).isfinite().all()


def test_no_start_is_an_error(monkeypatch):
    monkeypatch.setattr(CpuChains, "_search", lambda self, ptr, budget: np.ones(4, dtype=np.int64))
    unproven = "pgnn.inference.sampling.gibbs.proven_impossible"
    monkeypatch.setattr(unproven, lambda question, doubted: np.zeros_like(doubted))
    for ask in (queens(4).query, queens(4).sample):
        with pytest.raises(EvidenceError, match="no state of positive probability"):
            ask(engine=Gibbs())
    with pytest.warns(NotConverged, match="no state of positive probability"):
        answer = queens(4).query(engine=Gibbs(samples=4, burn_in=0), errors="nan")
    assert all(bool(p.probs.isnan().all()) for p in answer.values())


@pytest.mark.parametrize("name", [n for n, e in ZOO.items() if e.impossible])
def test_impossible_rows(name):
    example = ZOO[name]
    model, engine = example.make(), Gibbs(samples=64, burn_in=10, seed=0, max_r_hat=math.inf)
    rows = [example.rows[0], example.impossible, *example.rows[2:]]
    asked = {"evidence": example.batch(rows), **example.covariates()}
    with torch.no_grad():
        with pytest.raises(ImpossibleEvidence) as caught:
            model.query(engine=engine, **asked)
        answer = model.query(engine=engine, errors="nan", **asked)
        with pytest.raises(ImpossibleEvidence) as refused:
            model.sample(3, engine=engine, **asked)
    assert refused.value.rows == (1,)
    assert caught.value.rows == (1,)
    for n in answer:
        assert answer[n].probs[1].isnan().all()
        assert not answer[n].probs[[0, 2]].isnan().any()
    assert answer.log_evidence[1] == -math.inf


def test_without_numba_penalties_find_the_start(monkeypatch):
    monkeypatch.setattr("pgnn.inference.sampling.torch_gibbs.has_numba", lambda: False)
    monkeypatch.setattr("pgnn.inference.sampling.gibbs.has_numba", lambda: False)
    model = Everything(seed=4)
    chains = started(model, TorchChains, (1.0,) * 4)
    scores = model.question.graph.log_score
    for c in range(4):
        assert scores(chains.states.reshape(ROWS, 4, 8)[:, c].numpy()).isfinite().all()
    answer = ZOO["sprinkler"].make().query("rain", engine=Gibbs(seed=0, samples=800))
    assert answer["rain"].probs.sum() == pytest.approx(1.0)
    with pytest.raises(ImpossibleEvidence):
        queens(3).query(engine=Gibbs())


# --- the engine ---------------------------------------------------------------------------------


def test_a_seed_is_an_answer_whatever_the_threads_and_blocks(monkeypatch):
    model = pgnn.MarkovRandomField.grid((3, 4), 3, coupling=0.4)
    observed = np.full((5, 3, 4), -1)
    observed[1, 0, 0], observed[2, :, 1], observed[3] = 2, 1, 0
    evidence = {"x": torch.from_numpy(observed)}

    def ask(seed):
        engine = Gibbs(seed=seed, samples=32, burn_in=8, max_r_hat=math.inf)
        draws = model.sample(7, evidence, engine=engine)
        return model.query(evidence=evidence, engine=engine)["x"].probs, draws["x"]

    first = ask(1)
    state = np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002
    monkeypatch.setattr("pgnn.inference.threads.LITTLE", 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr("pgnn.inference.sampling.gibbs._ROOM", 2 * 8 * 4 * 36)
    second, other = ask(1), ask(2)
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (first[0] != other[0]).any()
    assert state == (np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())  # noqa: NPY002
    assert first[0].shape == (5, 3, 4, 3)
    assert first[1].shape == (7, 5, 3, 4)
    fixed = torch.from_numpy(observed >= 0)
    assert (first[1][:, fixed] == torch.from_numpy(observed)[fixed]).all()
    assert (first[0][fixed].max(dim=-1).values == 1.0).all()


def test_seed_of_the_call_goes_first():
    model = ZOO["sprinkler"].make()
    one, two = (model.sample(20, engine=Gibbs(seed=s), seed=5)["rain"] for s in (1, 2))
    assert (one == two).all()
    assert len({tuple(model.sample(50, engine=Gibbs())["rain"].tolist()) for _ in range(3)}) > 1


def test_nothing_to_do():
    model = ZOO["sprinkler"].make()
    engine = Gibbs(seed=0)
    complete = {"cloudy": "no", "rain": "no", "sprinkler": "yes", "wet": "yes"}
    answer = model.query(evidence=complete, engine=engine)
    assert answer["rain"].probs.tolist() == [1.0, 0.0]
    assert answer.diagnostics["converged"].all()
    empty = model.query(evidence={"rain": torch.zeros(0, dtype=torch.int64)}, engine=engine)
    assert empty["wet"].probs.shape == (0, 2)
    assert model.sample(0, engine=engine)["rain"].shape == (0,)
    assert len(model.query([], engine=engine)) == 0


def test_log_prob_is_for_complete_rows():
    model = ZOO["sprinkler"].make()
    complete = {"cloudy": "no", "rain": "no", "sprinkler": "yes", "wet": "yes"}
    found = model.log_prob(complete, engine=Gibbs())
    assert float(found) == pytest.approx(float(model.log_prob(complete)))
    with pytest.raises(Unsupported, match=r"rows must be complete; use JunctionTree\(\)"):
        model.log_prob({"rain": "no"}, engine=Gibbs())
    with pytest.raises(Unsupported, match="does not maximise"):
        model.most_probable(engine=Gibbs())


@pytest.mark.parametrize(
    "wrong",
    [{"chains": 0}, {"burn_in": -1}, {"samples": 3}, {"thin": 0}, {"temperature": 0.0},
     {"temperature": [1.0, 2.0]}, {"temperature": [1.0, 2.0, -1.0, 1.0]}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range(wrong):
    with pytest.raises(ModelError, match=next(iter(wrong))):
        Gibbs(**wrong)


def test_explain_says_what_it_does():
    text = str(ZOO["sprinkler"].make().explain("rain", {"wet": "yes"}, engine=Gibbs(chains=3)))
    assert "3 chains" in text
