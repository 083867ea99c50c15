"""The exact engine as people call it: names of targets, plans told, gradients, real variables."""

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pgnn
from pgnn import EvidenceError, Intractable, JunctionTree, Neural, Unsupported, Variable
from pgnn.factors import NormalHead
from tests import oracle
from tests.zoo import ZOO

SEEDS = st.integers(0, 2**31)


def network(seed: int, kind: str = "loop", learnable: bool = False) -> tuple[Any, oracle.Network]:
    """A random network; learnable ones start at the same tables, without zeros."""
    rng = np.random.default_rng(seed)
    found = oracle.random_network(rng, kind, zeros=0.0 if learnable else 0.15)
    graph = nx.DiGraph()
    graph.add_nodes_from((n, {"states": k}) for n, k in found.cards.items())
    graph.add_edges_from(found.edges)
    model = pgnn.BayesianNetwork(graph, None if learnable else found.probabilities)
    if learnable:
        for name, conditional in model.conditionals.items():
            conditional.set_probs(found.probabilities[name])
    return model, found


# --- against enumeration ------------------------------------------------------------------------


@given(SEEDS, st.sampled_from(oracle.KINDS), st.sampled_from([0.0, 0.3, 1.0]))
def test_random_networks(seed: int, kind: str, share: float) -> None:
    model, found = network(seed, kind)
    rng = np.random.default_rng(seed)
    rows = oracle.random_evidence(rng, found.joint(), share, 5)
    batch = {n: torch.tensor([row.get(n, -1) for row in rows]) for n in found.cards}
    posterior = model.query(None, batch)
    best = model.most_probable(batch)
    for r, row in enumerate(rows):
        joint = found.joint(row)
        assert float(posterior.log_evidence[r]) == pytest.approx(
            oracle.log_evidence(joint), abs=1e-9
        )
        for n, p in posterior.items():
            np.testing.assert_allclose(p.probs[r], oracle.marginal(joint, [n]), atol=1e-9)
        assert float(best.log_prob[r]) == pytest.approx(oracle.mode(joint)[1], abs=1e-9)


# --- what may be asked --------------------------------------------------------------------------


def test_targets_in_every_form() -> None:
    model = ZOO["odd_names"].make()
    pair, seven, xy, text = ("a", 0), 7, frozenset("xy"), "7"
    for targets, expected in (
        (pair, [pair]),
        ([pair], [pair]),
        (seven, [seven]),
        (xy, [xy]),
        (text, [text]),
        ((text, pair), [text, pair]),
        ({seven: None, pair: None}, [seven, pair]),
        (None, [pair, seven, xy, text]),
        ([], []),
    ):
        assert list(model.query(targets)) == expected
    assert list(model.query(n for n in (xy, seven))) == [xy, seven]
    assert list(model.most_probable({}, pair)) == [pair]
    assert list(model.most_probable({}, [text, pair])) == [text, pair]
    with pytest.raises(EvidenceError, match="unknown variable 'x'"):
        model.query("x")
    with pytest.raises(EvidenceError, match="twice"):
        model.query([seven, seven])


def test_labels_and_indices() -> None:
    model = ZOO["odd_names"].make()
    by_label = model.query(None, {7: 3, ("a", 0): ("high", 2), frozenset("xy"): True, "7": 1})
    by_index = model.query(
        None, {7: pgnn.codes(0), ("a", 0): 1, frozenset("xy"): torch.tensor(1), "7": 1}
    )
    assert by_label.log_evidence == by_index.log_evidence
    assert model.most_probable({7: 3})[7] == 3
    with pytest.raises(EvidenceError, match="no state 0"):
        model.query(None, {7: 0})


def test_some_findings_in_rows_and_some_for_all() -> None:
    model = ZOO["sprinkler"].make()
    mixed = model.query("rain", {"wet": "yes", "cloudy": torch.tensor([0, 1, -1])})
    for row, cloudy in enumerate(("no", "yes", None)):
        alone = model.query("rain", {"wet": "yes", "cloudy": cloudy})
        np.testing.assert_allclose(mixed["rain"].probs[row], alone["rain"].probs, atol=1e-12)


def test_soft_evidence_is_as_a_child_would_be() -> None:
    model = ZOO["sprinkler"].make()
    soft = model.query("rain", {"wet": torch.tensor([0.2, 0.6])})
    yes, no = (model.query("rain", {"wet": state}) for state in ("yes", "no"))
    weights = torch.stack([0.2 * no.log_evidence.exp(), 0.6 * yes.log_evidence.exp()])
    assert float(soft.log_evidence.exp()) == pytest.approx(float(weights.sum()))
    mixed = (weights[0] * no["rain"].probs + weights[1] * yes["rain"].probs) / weights.sum()
    np.testing.assert_allclose(soft["rain"].probs, mixed, atol=1e-12)
    certain = model.query("rain", {"wet": pgnn.likelihood([0.0, 1.0])})
    np.testing.assert_allclose(certain["rain"].probs, yes["rain"].probs, atol=1e-12)


# --- plans --------------------------------------------------------------------------------------


def test_explanations_tell_the_plan() -> None:
    model = ZOO["structural_zeros"].make()
    told = model.explain("a", {"b": torch.ones(10_000, dtype=torch.int64)})
    assert (told.engine, told.kind) == ("JunctionTree", "exact")
    assert told.num_variables == 5
    assert told.num_pruned == 3
    assert (told.num_sliced, told.num_eliminated, told.treewidth) == (1, 1, 0)
    assert told.budget_bytes == 2**32
    assert "multiply-adds" in str(told)
    whole = model.explain()
    assert (whole.num_eliminated, whole.num_pruned) == (5, 0)
    assert (whole.treewidth, whole.largest_table) == (2, 8)


def clique(size: int) -> pgnn.MarkovRandomField:
    variables = [Variable(k, 2) for k in range(size)]
    return pgnn.MarkovRandomField(
        pgnn.Factor([variables[a], variables[b]], torch.zeros(2, 2).double())
        for b in range(size)
        for a in range(b)
    )


def test_too_large_questions() -> None:
    model = clique(60)
    engine = JunctionTree()
    told = model.explain(engine=engine)
    assert not told.fits
    assert told.treewidth == 59
    assert told.alternatives
    assert "over the budget" in str(told)
    for verb in (
        lambda: model.query(engine=engine),
        lambda: model.query([], engine=engine),
        lambda: model.most_probable(engine=engine),
        lambda: model.sample(engine=engine),
        lambda: model.log_partition(engine=engine),
        lambda: model.compile()(torch.full((60,), -1)),
    ):
        with pytest.raises(Intractable, match=r"treewidth 59.*1\.15e\+18 entries.*4\.0 GiB"):
            verb()
    observed = dict.fromkeys(range(50), 0)
    assert model.explain(None, observed).fits
    assert float(model.query([], observed).log_evidence) == pytest.approx(10 * math.log(2))
    with pytest.raises(Intractable, match="joint of 40 variables"):
        model.query([], observed).joint(*range(40))


def test_budgets_are_the_engines() -> None:
    model = clique(16)
    small = JunctionTree(max_bytes=2**14)
    with pytest.raises(Intractable, match=r"16\.0 KiB"):
        model.query(engine=small)
    assert not model.explain(engine=small).fits
    needed = model.explain().memory_bytes
    fits = model.query([], engine=JunctionTree(max_bytes=needed))
    assert float(fits.log_evidence) == pytest.approx(16 * math.log(2))


# --- gradients ----------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from(["tree", "loop", "disconnected"]))
def test_the_gradient_of_log_evidence_is_expected_counts(seed: int, kind: str) -> None:
    model, found = network(seed, kind, learnable=True)
    rng = np.random.default_rng(seed)
    rows = oracle.random_evidence(rng, found.joint(), 0.4, 4)
    batch = {n: torch.tensor([row.get(n, -1) for row in rows]) for n in found.cards}
    weights = torch.from_numpy(rng.normal(size=4))
    (model.log_prob(batch) * weights).sum().backward()
    for name, conditional in model.conditionals.items():
        scope = (*found.parents[name], name)
        counts = sum(
            float(w) * oracle.marginal(found.joint(row), scope)
            for w, row in zip(weights, rows, strict=True)
        )
        # of the logits: each row's counts less what the row's own probabilities expect
        expected = counts - found.probabilities[name] * counts.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(conditional.logits.grad, expected, atol=1e-9)


def _numeric(model: Any, parameter: Tensor, value: Any, step: float = 1e-5) -> np.ndarray:
    """Central differences."""
    flat = parameter.data.view(-1)
    out = np.empty(flat.numel())
    for k in range(flat.numel()):
        kept = float(flat[k])
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[k] = kept + sign * step
            ends.append(float(value().detach()))
        with torch.no_grad():
            parameter.view(-1)[k] = kept
        out[k] = (ends[0] - ends[1]) / (2 * step)
    return out.reshape(parameter.shape)


@pytest.mark.parametrize("what", ["evidence", "marginal", "joint", "complete", "soft"])
def test_gradients_by_differences(what: str) -> None:
    model, found = network(11, "loop", learnable=True)
    names = list(found.cards)
    row = {names[1]: 0, names[4]: 1 % found.cards[names[4]]}
    full = {n: torch.zeros(2, dtype=torch.int64) for n in names}
    soft = {names[2]: torch.rand(found.cards[names[2]], generator=torch.Generator().manual_seed(0),
                                 dtype=torch.float64) + 0.1}  # fmt: skip
    values = {
        "evidence": lambda: model.query([], row).log_evidence,
        "marginal": lambda: model.query(names[0], row)[names[0]].probs[0],
        "joint": lambda: model.query([], row).joint(names[0], names[5]).values[0, 0],
        "complete": lambda: model.log_prob(full).sum(),
        "soft": lambda: model.query([], {**row, **soft}).log_evidence,
    }
    value = values[what]
    value().backward()
    for parameter in model.parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        np.testing.assert_allclose(grad, _numeric(model, parameter, value), atol=1e-7)


def test_gradients_of_soft_evidence() -> None:
    model = ZOO["sprinkler"].make()
    likelihood = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)

    def value() -> Tensor:
        posterior = model.query("rain", {"wet": likelihood, "cloudy": "no"})
        return posterior.log_evidence + posterior["rain"].probs[1] ** 2

    value().backward()
    np.testing.assert_allclose(likelihood.grad, _numeric(model, likelihood, value), atol=1e-7)


def test_second_derivatives() -> None:
    model = pgnn.BayesianNetwork([("a", "b"), ("b", "c")], None, {"a": 2, "b": 2, "c": 2})
    names = list(model.conditionals)

    def value(*logits: Tensor) -> Tensor:
        parameters = dict(zip(model.state_dict(), logits, strict=True))
        codes = torch.tensor([[-1, -1, 1], [0, -1, 0]])
        return torch.func.functional_call(model, parameters, (codes,)).sum()

    generator = torch.Generator().manual_seed(0)
    start = tuple(
        torch.randn(model.conditionals[n].logits.shape, generator=generator, dtype=torch.float64)
        .requires_grad_()
        for n in names
    )  # fmt: skip
    assert torch.autograd.gradcheck(value, start)
    assert torch.autograd.gradgradcheck(value, start)


def test_learning_by_gradient_raises_the_likelihood() -> None:
    """The hidden cause of two observed effects, by a few steps of gradient ascent."""
    model = pgnn.BayesianNetwork([("h", "x"), ("h", "y")], None, {"h": 2, "x": 2, "y": 2})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p += torch.randn(p.shape, generator=generator)
    x = torch.randint(0, 2, (100,), generator=generator)
    data = {"x": x, "y": x}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = -model.log_prob(data).mean()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0]
    assert history[-1] == pytest.approx(math.log(2), abs=0.1)


# --- real variables and networks ----------------------------------------------------------------


def mixture() -> pgnn.BayesianNetwork:
    """A class, a real number that depends on it, and a label that depends on it."""
    kind, x = Variable("kind", ["low", "high"]), Variable("x")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0, 2.0]]))
        module.bias.zero_()
    return pgnn.BayesianNetwork(
        [("kind", "x"), ("kind", "label")],
        {
            "kind": pgnn.Tabular(kind, (), [0.3, 0.7]),
            "x": Neural(x, [kind], module, head=NormalHead((), scale=0.5)),
            "label": [[0.9, 0.1], [0.2, 0.8]],
        },
    )


def _density(x: float, mean: float) -> float:
    return math.exp(-0.5 * ((x - mean) / 0.5) ** 2) / (0.5 * math.sqrt(2 * math.pi))


def test_real_findings() -> None:
    model = mixture()
    for x in (-1.2, 0.4, 2.5):
        weights = np.array([0.3 * _density(x, -1.0), 0.7 * _density(x, 2.0)])
        posterior = model.query(None, {"x": x})
        assert float(posterior.log_evidence.detach()) == pytest.approx(math.log(weights.sum()))
        np.testing.assert_allclose(posterior["kind"].probs.detach(), weights / weights.sum())
    unobserved = model.query("label")["label"].probs
    np.testing.assert_allclose(unobserved.detach(), [0.3 * 0.9 + 0.7 * 0.2, 0.3 * 0.1 + 0.7 * 0.8])


def test_real_findings_in_some_rows() -> None:
    model = mixture()
    x = torch.tensor([0.4, math.nan, 2.5], dtype=torch.float64)
    mixed = model.query(None, {"x": x, "label": torch.tensor([-1, 1, 0])})
    for row, evidence in enumerate(({"x": 0.4}, {"label": 1}, {"x": 2.5, "label": 0})):
        alone = model.query(None, evidence)
        case = mixed["kind"].probs[row], alone["kind"].probs
        np.testing.assert_allclose(*(p.detach() for p in case), atol=1e-12)
        logs = mixed.log_evidence[row], alone.log_evidence
        np.testing.assert_allclose(*(z.detach() for z in logs), atol=1e-12)
    logs = model.log_prob({"x": x})
    logs.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_real_draws() -> None:
    model, n = mixture(), 20_000
    samples = model.sample(n, seed=0)
    x, kind = samples["x"].numpy(), samples["kind"].numpy()
    assert samples["x"].shape == (n,)
    for k, mean in ((0, -1.0), (1, 2.0)):
        mine = x[kind == k]
        # the mean of m normal draws is off by more than five standard errors once in 2 million
        assert abs(mine.mean() - mean) < 5 * 0.5 / math.sqrt(len(mine))
        assert abs(mine.std() - 0.5) < 5 * 0.5 / math.sqrt(2 * len(mine))
    assert torch.equal(samples["x"], model.sample(n, seed=0)["x"])
    given_x = model.sample(50, {"x": 2.2}, seed=1)
    assert (given_x["x"] == 2.2).all()
    assert (given_x["kind"] == 1).all()


def test_networks_learn_through_the_posterior() -> None:
    model = mixture()
    data = {"x": torch.tensor([-1.0, 1.9, 2.1], dtype=torch.float64),
            "label": torch.tensor([0, 1, -1])}  # fmt: skip
    model.log_prob(data).sum().backward()
    weight = model.conditionals["x"].module.weight
    numeric = _numeric(model, weight, lambda: model.log_prob(data).sum())
    np.testing.assert_allclose(weight.grad, numeric, atol=1e-6)


def test_real_parents_must_be_observed() -> None:
    age = Variable("age")
    model = pgnn.BayesianNetwork(
        [("age", "ill")],
        {
            "age": Neural(age, [], torch.nn.Linear(1, 1), ["one"], NormalHead((), scale=1.0)),
            "ill": pgnn.Softmax(Variable("ill", 2), [age], weight=[[0.0, 1.0]], bias=[0.0, 0.0]),
        },
    )
    one, exact = {"one": torch.ones(1, 1)}, JunctionTree()
    with pytest.raises(Unsupported, match="'age' has no states and is not observed"):
        model.query("ill", inputs=one, engine=exact)
    two = {"one": torch.ones(2, 1)}
    with pytest.raises(Unsupported, match="'age' has no states and is missing in some rows"):
        model.query("ill", {"age": [1.0, math.nan]}, inputs=two, engine=exact)
    p = model.query("ill", {"age": [1.0]}, inputs=one)["ill"].probs[0]
    np.testing.assert_allclose(p.detach(), [1 / (1 + math.e), math.e / (1 + math.e)], rtol=1e-6)


def test_inputs_make_a_batch() -> None:
    example = ZOO["softmax_inputs"]
    model, inputs = example.make(), dict(example.inputs)
    posterior = model.query("y", {"a": 1}, inputs=inputs)
    for r in range(6):
        expected = oracle.marginal(example.joint(r, {"a": 1}), ["y"])
        np.testing.assert_allclose(posterior["y"].probs[r], expected, atol=1e-9)
    with pytest.raises(EvidenceError, match=r"'u'.*6 rows"):
        model.query("y", {"a": torch.tensor([0, 1])}, inputs=inputs)
    with pytest.raises(EvidenceError, match=r"'u'.*inputs="):
        model.query("y", {"a": 1})


# --- orders that somebody chose -------------------------------------------------------------------


def test_any_order_gives_the_same_answers_and_costs_what_it_costs():
    rng = np.random.default_rng(0)
    names, edges = (
        "abcdef",
        [("a", "c"), ("b", "c"), ("c", "d"), ("c", "e"), ("d", "f"), ("e", "f")],
    )
    model = pgnn.BayesianNetwork(edges, states={n: 2 + k % 2 for k, n in enumerate(names)})
    model.fit(model.sample(200, seed=0).frame(), progress=False)
    observed = [{"f": 1}, {"a": 0}, {}]
    exact, best = model.query(None, observed), model.most_probable(observed, ["a", "d"])
    for _ in range(5):
        engine = pgnn.JunctionTree(order=[str(n) for n in rng.permutation(list(names))])
        found = model.query(None, observed, engine=engine)
        torch.testing.assert_close(found.log_evidence, exact.log_evidence)
        for n in names:
            torch.testing.assert_close(found[n].probs, exact[n].probs)
        again = model.most_probable(observed, ["a", "d"], engine=engine)
        torch.testing.assert_close(again.log_prob, best.log_prob)
    star = pgnn.BayesianNetwork([("h", f"x{k}") for k in range(6)], states={"h": 3} | {
        f"x{k}": 3 for k in range(6)})  # fmt: skip
    leaves = [f"x{k}" for k in range(6)]
    costs = [
        star.explain(leaves, engine=pgnn.JunctionTree(order=order)).memory_bytes
        for order in ([*leaves, "h"], ["h", *leaves])
    ]
    assert costs[1] > 10 * costs[0]


@pytest.mark.parametrize(
    ("order", "text"),
    [(["a"], "'b' is missing"), (["a", "b", "a"], "'a' twice"), (["a", "q"], "'q', which is no"),
     ("ab", "a list of names"), (3, "a list of names")],
)  # fmt: skip
def test_an_order_names_every_variable_once(order, text):
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": [[0.9, 0.1], [0.2, 0.8]]})
    with pytest.raises(pgnn.errors.ModelError, match=text):
        model.query(None, engine=pgnn.JunctionTree(order=order))
