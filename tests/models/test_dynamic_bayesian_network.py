"""Networks over time: declared on a graph, exact by their interface, estimated by projection."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import DataError, EvidenceError, ImpossibleEvidence, ModelError, Unsupported
from pgnn.factors.conditionals.heads import NormalHead
from tests.inference.time.sequence_cases import model_of, tables

EXACT = pgnn.JunctionTree()
EDGES = [(("rain", -1), "rain"), ("rain", "umbrella")]
NAMES = {"rain": ["no", "yes"], "umbrella": ["no", "yes"]}
TABLES = {"rain": [[0.7, 0.3], [0.3, 0.7]], "umbrella": [[0.8, 0.2], [0.1, 0.9]]}


def umbrella_world(**more) -> pgnn.DynamicBayesianNetwork:
    given = {"conditionals": TABLES, "initial": {"rain": [0.5, 0.5]}, "states": NAMES, **more}
    return pgnn.DynamicBayesianNetwork(EDGES, **given)


def table(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def tangled(seed: int = 0) -> pgnn.DynamicBayesianNetwork:
    """Two chains that touch; a hidden variable between two slices; observations of both kinds."""
    rng = np.random.default_rng(seed)
    edges = [
        (("a", -1), "a"),
        (("b", -1), "b"),
        (("a", -1), "b"),
        ("a", "h"),
        (("b", -1), "h"),
        ("h", "x"),
        ("b", "x"),
        ("a", "y"),
    ]
    return pgnn.DynamicBayesianNetwork(
        edges,
        {
            "a": table(rng, 2, 2),
            "b": table(rng, 3, 2, 3),
            "h": table(rng, 2, 3, 2),
            "x": table(rng, 2, 3, 3),
            "y": table(rng, 2, 2),
        },
        {"a": table(rng, 2), "b": table(rng, 3), "h": table(rng, 2, 2)},
    )


def factorial(chains: int = 3, seed: int = 0) -> pgnn.DynamicBayesianNetwork:
    """Chains on their own, observed together."""
    rng = np.random.default_rng(seed)
    names = [f"s{k}" for k in range(chains)]
    edges = [((n, -1), n) for n in names] + [(n, "x") for n in names]
    given = {n: table(rng, 2, 2) for n in names} | {"x": table(rng, *[2] * chains, 4)}
    return pgnn.DynamicBayesianNetwork(edges, given, {n: table(rng, 2) for n in names})


def evidence(kind: str) -> dict:
    rng = np.random.default_rng(5)
    return {
        "one": {"x": [0, 1, 2, 0]},
        "rows": {"x": [[0, 1, 2], [0, -1], []], "y": [[1, -1, 0], [1, 1], []]},
        "nothing": {"T": [3, 2]},
        "short": {"x": [1]},
        "mixed": {"h": [0, None, 1], "x": rng.random((3, 3)), ("a", 1): 1},
        "empty": {"x": np.zeros((0, 3), int)},
    }[kind]


KINDS = ["one", "rows", "nothing", "short", "mixed", "empty"]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_equal_the_unrolled_network(kind):
    model, observed = tangled(), evidence(kind)
    every = list(model.variables)
    pairs = [
        [verb(evidence=observed, targets=every, engine=e) for e in (None, EXACT)]
        for verb in (model.query, model.filter)
    ]
    pairs.append([model.predict(observed, 2, engine=e) for e in (None, EXACT)])
    for ours, theirs in pairs:
        assert (ours.kind, ours.engine) == ("exact", "InterfaceAlgorithm")
        for name in every:
            torch.testing.assert_close(
                ours.probs(name), theirs.probs(name), atol=1e-9, rtol=0, equal_nan=True
            )
    torch.testing.assert_close(pairs[0][0].log_evidence, pairs[0][1].log_evidence)
    torch.testing.assert_close(model.log_prob(observed), model.log_prob(observed, engine=EXACT))
    increments = pairs[1][0].diagnostics["log_increments"].sum(-1)
    torch.testing.assert_close(increments, model.log_prob(observed), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3])
def test_best_states_equal_the_unrolled_network(kind, k):
    model, observed = tangled(), evidence(kind)
    for targets in (None, ["a", "b", "h"], ["b", "a"]):
        ours = model.most_probable(observed, targets, k=k)
        if k > 1 and targets:  # a junction tree has the best marginal assignment alone
            assert ours.log_prob[..., 0].tolist() == pytest.approx(
                model.most_probable(observed, targets).log_prob.tolist(), abs=1e-9
            )
            continue
        theirs = model.most_probable(observed, targets, k=k, engine=EXACT)
        torch.testing.assert_close(ours.log_prob, theirs.log_prob, atol=1e-9, rtol=0)
        if k == 1:
            assert (ours.codes == theirs.codes).all()
            continue
        for r in range(len(ours)):  # where two score the same their order is chance
            again = model.log_prob({n: ours[r][n] for n in model.variables})
            if kind == "one" or (kind == "rows" and r == 0):
                torch.testing.assert_close(again, ours.log_prob[..., r], atol=1e-9, rtol=0)


def test_probabilities_equal_enumeration():
    model, steps, x = tangled(), 3, [2, 0, 1]
    numbers = {n: c.factor().log_values.exp().numpy() for n, c in model.conditionals.items()}
    first = {n: c.factor().log_values.exp().numpy() for n, c in model.initial.items()}
    total, best = 0.0, 0.0
    smooth = np.zeros((steps, 3))
    cells = [range(2), range(3), range(2), range(2)]
    slices = [*itertools.product(*cells)]
    for path in itertools.product(slices, repeat=steps):
        weight = 1.0
        for t, (a, b, h, y) in enumerate(path):
            if t == 0:
                weight *= first["a"][a] * first["b"][b] * first["h"][a, h]
            else:
                a0, b0 = path[t - 1][:2]
                weight *= numbers["a"][a0, a] * numbers["b"][b0, a0, b] * numbers["h"][a, b0, h]
            weight *= numbers["x"][h, b, x[t]] * numbers["y"][a, y]
        total, best = total + weight, max(best, weight)
        for t in range(steps):
            smooth[t, path[t][1]] += weight
    found = model.query("b", {"x": x})
    assert found.log_evidence.item() == pytest.approx(np.log(total), abs=1e-12)
    np.testing.assert_allclose(found["b"].probs, smooth / total, atol=1e-12)
    assert model.most_probable({"x": x}).log_prob.item() == pytest.approx(np.log(best), abs=1e-12)


def test_umbrella_world():
    # Russell & Norvig, Artificial Intelligence (3rd ed.), section 15.2
    model = umbrella_world()
    observed = {"umbrella": ["yes", "yes"]}
    np.testing.assert_allclose(
        model.filter(observed)["rain"].probs[:, 1], [0.818, 0.883], atol=1e-3
    )
    np.testing.assert_allclose(
        model.smooth(observed)["rain"].probs[:, 1], [0.883, 0.883], atol=1e-3
    )
    best = model.decode({"umbrella": ["yes", "yes", "no", "yes", "yes"]})
    assert best["rain"].tolist() == ["yes", "yes", "no", "yes", "yes"]
    after = model.predict({"umbrella": ["yes", "yes"]}, 20)
    assert after["rain"].probs[-1, 1].item() == pytest.approx(0.5, abs=1e-3)
    assert after["umbrella"].probs.shape == (20, 2)


def test_a_hidden_markov_model_is_the_simplest_case():
    given = tables(np.random.default_rng(3), 3, {"x": 4, "y": 2})
    hmm = model_of(given)
    model = pgnn.DynamicBayesianNetwork(
        [(("state", -1), "state"), ("state", "x"), ("state", "y")],
        {"state": given["transitions"], **given["emissions"]},
        {"state": given["initial"]},
    )
    observed = {"x": [[0, 3, -1, 2], [1]], "y": [[1, -1, -1, 0], [0]]}
    for ask in ("smooth", "filter", "decode", "predict", "query", "most_probable"):
        ours, theirs = getattr(model, ask)(evidence=observed), getattr(hmm, ask)(evidence=observed)
        own = hmm.smooth(observed, engine=pgnn.InterfaceAlgorithm())
        for name in theirs:
            if ask in ("decode", "most_probable"):
                assert (ours[name] == theirs[name]).all()
                torch.testing.assert_close(ours.log_prob, theirs.log_prob)
            else:
                torch.testing.assert_close(ours.probs(name), theirs.probs(name), equal_nan=True)
    torch.testing.assert_close(
        own.probs("state"), hmm.smooth(observed).probs("state"), equal_nan=True
    )
    torch.testing.assert_close(model.log_prob(observed), hmm.log_prob(observed))
    five = model.decode(observed, k=5), hmm.decode(observed, k=5)
    torch.testing.assert_close(five[0].log_prob, five[1].log_prob)


def test_draws_follow_the_posterior():
    model, observed, n = tangled(), evidence("mixed"), 20_000
    drawn, want = model.sample(n, observed, seed=0), model.query(evidence=observed)
    for name in model.variables:
        for t in range(3):
            share = np.bincount(drawn[name][:, t], minlength=want.probs(name).shape[-1]) / n
            # five standard errors of a share of n draws
            np.testing.assert_allclose(share, want.probs(name)[t], atol=2.5 / n**0.5)
    pairs = model.query(
        evidence=observed, engine=EXACT
    )  # what two slices have to do with each other
    both = ((drawn["b"][:, 0] == 1) & (drawn["h"][:, 1] == 1)).double().mean()
    joint = model.unroll(3)
    del pairs
    cells = {("h", 0): 0, ("h", 2): 1, ("a", 1): 1}
    cells |= {("x", t): torch.tensor(observed["x"][t]) for t in range(3)}
    exact = joint.query([("b", 0), ("h", 1)], cells).joint(("b", 0), ("h", 1)).values[1, 1]
    assert both.item() == pytest.approx(exact.item(), abs=2.5 / n**0.5)
    again = model.sample(n, observed, seed=0)
    assert torch.equal(again["x"], drawn["x"])


def test_draws_of_rows():
    model = tangled()
    drawn = model.sample(6, evidence("rows"), seed=1)
    assert drawn["h"].shape == (6, 3, 3)
    assert (drawn["h"][:, 1, 2] == -1).all()
    assert (drawn["x"][:, 0] == torch.tensor([0, 1, 2])).all()
    assert model.sample(0, {"T": 3})["x"].shape == (0, 3)
    with pytest.raises(EvidenceError, match="how many steps"):
        model.sample(3)


def test_factorial_chains():
    model = factorial()
    assert model.interface == ["s0", "s1", "s2"]
    assert model.hidden == ["s0", "s1", "s2"]
    rng = np.random.default_rng(1)
    observed = {"x": rng.integers(0, 4, (2, 5))}
    ours, theirs = (model.smooth(observed, engine=e) for e in (None, EXACT))
    for name in ours:
        torch.testing.assert_close(ours.probs(name), theirs.probs(name))
    best = [model.decode(observed, engine=e) for e in (None, EXACT)]
    torch.testing.assert_close(best[0].log_prob, best[1].log_prob)


def test_many_chains_are_unrolled():
    rng = np.random.default_rng(0)
    names = [f"s{k}" for k in range(11)]
    edges = [((n, -1), n) for n in names] + [(n, f"x{k}") for k, n in enumerate(names)]
    given = {n: table(rng, 2, 2) for n in names}
    given |= {f"x{k}": table(rng, 2, 2) for k in range(11)}
    model = pgnn.DynamicBayesianNetwork(edges, given, {n: table(rng, 2) for n in names})
    found = model.smooth({"x0": [0, 1, 1]})
    assert (found.engine, found.kind) == ("JunctionTree", "exact")
    alone = pgnn.HiddenMarkovModel(2, {"x0": given["x0"]}, model.initial["s0"].probs, given["s0"])
    torch.testing.assert_close(
        found.probs("s0"), alone.smooth({"x0": [0, 1, 1]}).probs("state"), atol=1e-9, rtol=0
    )
    apart = model.smooth({"x0": [0, 1, 1]}, engine=pgnn.BoyenKoller())
    assert apart.kind == "estimate"  # though nothing is lost where chains never meet
    torch.testing.assert_close(apart.probs("s0"), found.probs("s0"), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_projection_onto_one_cluster_is_exact(kind):
    model, observed, engine = tangled(), evidence(kind), pgnn.BoyenKoller([("b", "a")])
    every = list(model.variables)
    for verb in (model.filter, model.query):
        ours = verb(evidence=observed, targets=every, engine=engine)
        theirs = verb(evidence=observed, targets=every)
        assert ours.kind == "exact"
        for name in every:
            torch.testing.assert_close(
                ours.probs(name), theirs.probs(name), atol=1e-9, rtol=0, equal_nan=True
            )
        torch.testing.assert_close(ours.log_evidence, theirs.log_evidence, atol=1e-9, rtol=0)
    torch.testing.assert_close(model.log_prob(observed, engine=engine), model.log_prob(observed))
    ours, theirs = (model.predict(observed, 2, engine=e) for e in (engine, None))
    torch.testing.assert_close(ours.probs("x"), theirs.probs("x"), atol=1e-9, rtol=0)


def test_projection_errs_little_and_does_not_run_away():
    model, steps = factorial(seed=3), 60
    x = model.sample(1, {"T": steps}, seed=0)["x"][0]
    exact = model.filter({"x": x})
    errors = {}
    for clusters in ((), (("s0", "s1"),)):
        engine = pgnn.BoyenKoller(clusters)
        found = model.filter({"x": x}, engine=engine)
        assert found.kind == "estimate"
        gaps = [(found.probs(n) - exact.probs(n)).abs().amax(-1) for n in exact]
        errors[clusters] = torch.stack(gaps).amax(0)
    assert errors[()].max() < 0.1
    assert errors[()][40:].mean() < 2 * errors[()][10:40].mean() + 0.01
    assert errors[("s0", "s1"),].mean() <= errors[()].mean()
    smooth = model.smooth({"x": x}, engine=pgnn.BoyenKoller())
    assert (smooth.probs("s1") - model.smooth({"x": x}).probs("s1")).abs().max() < 0.1


def test_what_projection_refuses():
    model = tangled()
    with pytest.raises(ModelError, match="'h', on which the next slice does not depend"):
        model.filter({"x": [0]}, engine=pgnn.BoyenKoller([("a", "h")]))
    with pytest.raises(ModelError, match="'a' is named twice"):
        pgnn.BoyenKoller([("a", "b"), ("a",)])
    with pytest.raises(Unsupported, match="marginals only"):
        model.decode({"x": [0]}, engine=pgnn.BoyenKoller())
    with pytest.raises(Unsupported, match="marginals only"):
        model.sample(1, {"x": [0]}, engine=pgnn.BoyenKoller())
    assert model.explain("a", {"x": [0, 1]}, engine=pgnn.BoyenKoller()).kind == "estimate"
    assert model.explain("a", {"x": [0, 1]}).kind == "exact"


class Mixed:
    """Real and discrete variables, driven by inputs; one of each kind remembers itself."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        z, v = pgnn.Variable("z", 2), pgnn.Variable("v")
        before, past = pgnn.Variable(("z", -1), 2), pgnn.Variable(("v", -1))
        head = NormalHead()
        self.move = nn.Linear(4, 2).double()
        self.model = pgnn.DynamicBayesianNetwork(
            [(("z", -1), "z"), ("z", "v"), (("v", -1), "v"), ("z", "x"), ("v", "x")],
            {
                "z": pgnn.Neural(z, [before], self.move, inputs="u"),
                "v": pgnn.Neural(v, [z, past], nn.Linear(3, 2).double(), head=head),
                "x": pgnn.Neural(pgnn.Variable("x", 3), [z, v], nn.Linear(3, 3).double()),
            },
            {"v": pgnn.Neural(v, [z], nn.Linear(2, 2).double(), head=head)},
        )
        self.inputs = {"u": torch.randn(2, 4, 2, dtype=torch.float64)}
        self.observed = {
            "v": [[0.1, -0.4, 1.0, 0.2], [0.3, 0.2, -1.0]],
            "x": [[0, None, 2, 1], [1, 1, 0]],
        }


@torch.no_grad()
def test_reals_and_inputs():
    mixed = Mixed()
    model, observed, inputs = mixed.model, mixed.observed, mixed.inputs
    alone = {n: rows[0] for n, rows in observed.items()}
    own = {"u": inputs["u"][0]}
    ours, theirs = (model.query(evidence=alone, inputs=own, engine=e) for e in (None, EXACT))
    for name in ("z", "x"):
        torch.testing.assert_close(ours.probs(name), theirs.probs(name), atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.log_evidence, theirs.log_evidence)
    both = model.filter(observed, inputs=inputs)
    torch.testing.assert_close(
        both.probs("z")[0], model.filter(alone, inputs=own, engine=EXACT).probs("z")
    )
    torch.testing.assert_close(
        both.probs("z")[1, :3],
        model.filter(
            {n: rows[1] for n, rows in observed.items()}, inputs={"u": inputs["u"][1, :3]}
        ).probs("z"),
    )
    drawn = model.sample(5, {"T": 4}, inputs=own, seed=0)
    assert drawn["v"].shape == (5, 4)
    assert not drawn["v"].isnan().any()
    gap = {"v": [0.1, None, 0.3, 0.2], "x": [0, 1, 1, 1]}
    with pytest.raises(Unsupported, match="'v' is real and not observed"):
        model.query(evidence=gap, inputs=own, engine=pgnn.InterfaceAlgorithm())


def test_gradients_equal_the_unrolled_network():
    model = tangled().requires_grad_()
    observed = evidence("rows")
    slopes = []
    for engine in (None, EXACT, pgnn.BoyenKoller([("a", "b")])):
        total = model.log_prob(observed, engine=engine).sum()
        slopes.append(torch.autograd.grad(total, [*model.parameters()]))
    for ours, theirs, projected in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
        torch.testing.assert_close(projected, theirs, atol=1e-9, rtol=0)
    probs = model.smooth({"x": [0, 1]}).probs("a")
    (slope,) = torch.autograd.grad(probs[0, 0], model.conditionals["x"].logits)
    assert slope.abs().sum() > 0


def test_climbing_by_the_gradient():
    model = umbrella_world(conditionals=None, initial=None)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    observed = {"umbrella": umbrella_world().sample(5, {"T": 40}, seed=0)["umbrella"]}
    before = model.log_prob(observed).sum().item()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(30):
        optimizer.zero_grad()
        loss = -model.log_prob(observed).sum()
        loss.backward()
        optimizer.step()
    assert -loss.item() > before + 1


def test_counting():
    truth = tangled()
    data = truth.sample(40, {"T": 25}, seed=0)
    observed = {n: data[n] for n in truth.variables}
    model = tangled(1).requires_grad_().fit(observed)
    a, b = data["a"], data["b"]
    pairs = torch.zeros(2, 2).index_put(
        (a[:, :-1].flatten(), a[:, 1:].flatten()), torch.ones(40 * 24), accumulate=True
    )
    want = pairs / pairs.sum(1, keepdim=True)
    torch.testing.assert_close(model.conditionals["a"].probs.detach(), want.double())
    begun = torch.bincount(b[:, 0], minlength=3) / 40
    torch.testing.assert_close(model.initial["b"].probs.detach(), begun.double())
    y = torch.bincount(data["y"][a == 1], minlength=2).double()  # of all steps, the first too
    torch.testing.assert_close(model.conditionals["y"].probs[1].detach(), y / y.sum())
    assert model.history["log_likelihood"] > truth.log_prob(observed).sum().item()
    assert model.history["rows"] == 40
    half = tangled(1).requires_grad_().fit(observed, weights=[1.0] * 20 + [0.0] * 20)
    begun = torch.bincount(b[:20, 0], minlength=3) / 20
    torch.testing.assert_close(half.initial["b"].probs.detach(), begun.double())
    learner = pgnn.MaximumLikelihood(pgnn.Laplace(1.0))
    smoothed = tangled(1).requires_grad_().fit(observed, learner=learner)
    want = (pairs + 1) / (pairs + 1).sum(1, keepdim=True)
    torch.testing.assert_close(smoothed.conditionals["a"].probs.detach(), want.double())


def test_counting_the_states_of_a_hidden_markov_model():
    given = tables(np.random.default_rng(0), 2, {"x": 3})
    data = model_of(given).sample(30, {"T": 20}, seed=0)
    model = pgnn.HiddenMarkovModel(2, {"x": 3})
    model.fit({"state": data["state"], "x": data["x"]}, learner=pgnn.MaximumLikelihood())
    counts = torch.bincount(data["x"][data["state"] == 1], minlength=3).double()
    torch.testing.assert_close(model.emissions["x"].probs[1].detach(), counts / counts.sum())


def test_what_counting_refuses():
    model = tangled().requires_grad_()
    before = {n: x.clone() for n, x in model.state_dict().items()}
    count = pgnn.MaximumLikelihood()
    with pytest.raises(DataError, match=r"'b' was not observed; .*EM\(\)"):
        model.fit({"a": [[0, 1]]}, learner=count)
    full = {n: [[0, 1], [0, 0]] for n in model.variables}
    with pytest.raises(DataError, match=r"'h' was not observed in row 1 at step 0.*EM\(\)"):
        model.fit({**full, "h": [[0, 1], [None, 0]]}, learner=count)
    with pytest.raises(DataError, match="no steps"):
        model.fit({"a": [[]]})
    with pytest.raises(ModelError, match="requires_grad_"):
        tangled().fit(full)
    for n, x in model.state_dict().items():
        assert torch.equal(x, before[n])


def test_what_was_observed_chooses_the_learner():
    """Counting where nothing is hidden, expectation maximisation otherwise."""
    rows = {n: [[0, 1, 0], [1, 1]] for n in tangled().variables}
    model = tangled().requires_grad_().fit(rows, progress=False)
    assert model.history["learner"].startswith("MaximumLikelihood(")
    assert "iterations" not in model.history
    for gaps in ({**rows, "h": [[0, None, 0], [1, 1]]}, {"x": rows["x"]}):
        model = tangled().requires_grad_()
        before = model.log_prob(gaps).sum().item()
        model.fit(gaps, progress=False, seed=0)
        assert model.history["learner"].startswith("EM(")
        assert model.history["log_likelihood"] > before
        assert model.log_prob(gaps).sum().item() == pytest.approx(model.history["log_likelihood"])


def test_styles_of_declaration():
    want = umbrella_world().log_prob({"umbrella": ["yes", "no"]})
    numbered = [(("rain", 0), ("rain", 1)), (("rain", 0), ("umbrella", 0))]
    plain = pgnn.DynamicBayesianNetwork(numbered, TABLES, {"rain": [0.5, 0.5]}, NAMES)
    keyed = pgnn.DynamicBayesianNetwork(
        nx.DiGraph([*numbered, (("rain", 1), ("umbrella", 1))]),
        {
            ("rain", 0): [0.5, 0.5],
            ("rain", 1): TABLES["rain"],
            ("umbrella", 1): TABLES["umbrella"],
        },
        states={("rain", 0): NAMES["rain"], ("umbrella", 0): NAMES["umbrella"]},
    )
    graph = nx.DiGraph(EDGES)
    for name, states in NAMES.items():
        graph.nodes[name].update(states=states, conditional=TABLES[name])
    drawn = pgnn.DynamicBayesianNetwork(graph, initial={"rain": [0.5, 0.5]})
    for model in (plain, keyed, drawn):
        assert model.log_prob({"umbrella": ["yes", "no"]}).item() == pytest.approx(want.item())
    learnable = pgnn.DynamicBayesianNetwork(EDGES, states=NAMES)
    assert learnable.num_free_parameters == 2 + 2 + 1
    assert all(p.requires_grad for p in learnable.parameters())
    assert repr(learnable) == "DynamicBayesianNetwork(2 variables, 2 edges)"
    apart = pgnn.DynamicBayesianNetwork([("z", "x")], states={"z": 2, "x": 3})
    assert apart.interface == []
    found = apart.query(evidence={"x": [0, 1]})
    torch.testing.assert_close(found.probs("z"), torch.full((2, 2), 0.5).double())
    assert apart.sample(3, {"T": 2}, seed=0)["z"].shape == (3, 2)
    assert apart.sample(3, {"x": [[0, 1], [2]]}, seed=0)["z"].shape == (3, 2, 2)
    assert apart.most_probable({"x": [0, 1]})["z"].tolist() == [0, 0]


WRONG = [
    ({"graph": [*EDGES, ("umbrella", "rain")]}, "cycle"),
    ({"graph": [("rain", ("rain", -1))]}, r"edge 'rain' -> \('rain', -1\) goes back in time"),
    ({"graph": [(("rain", 1), ("rain", 0))]}, "goes back in time"),
    ({"graph": [*EDGES, (("rain", -2), "rain")]}, "store earlier values in"),
    ({"graph": [*EDGES, (("wind", -1), "rain")]}, r"\('wind', -1\) is not a variable"),
    ({"graph": nx.Graph([("rain", "umbrella")])}, "directed"),
    ({"states": {"rain": 2}}, "states of 'umbrella' are not known"),
    ({"states": {**NAMES, "wind": 2}, "graph": nx.DiGraph(EDGES)}, "states is given for 'wind'"),
    ({"conditionals": {"rian": [1.0]}, "graph": nx.DiGraph(EDGES)}, "'rian', which .*rain"),
    ({"initial": {"wind": [1.0]}}, "initial conditional is given for 'wind'"),
    ({"conditionals": {"rain": [0.5, 0.5]}}, "rain"),
    ({"initial": {"rain": [0.5, 0.6]}}, "sum to"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_declarations(given, message):
    with pytest.raises(ModelError, match=message):
        pgnn.DynamicBayesianNetwork(**{"graph": EDGES, "states": NAMES, **given})


def test_a_real_variable_must_say_how_it_begins():
    v = pgnn.Variable("v")
    emit = pgnn.Neural(
        v,
        [pgnn.Variable(("v", -1))],
        nn.Linear(1, 2),
        head=NormalHead(),
    )
    with pytest.raises(ModelError, match="give its initial conditional"):
        pgnn.DynamicBayesianNetwork([(("v", -1), "v")], {"v": emit})


def test_impossible_rows_and_wrong_questions():
    model = umbrella_world(
        conditionals={"rain": np.eye(2), "umbrella": np.eye(2)}, initial={"rain": [1.0, 0.0]}
    )
    observed = {"umbrella": [["no", "no"], ["no", "yes"]]}
    for verb in (model.query, model.filter, model.decode, model.most_probable):
        with pytest.raises(ImpossibleEvidence, match="1 of 2 rows"):
            verb(evidence=observed)
    for engine in (None, pgnn.BoyenKoller(), EXACT):
        found = model.filter(observed, errors="nan", engine=engine)
        assert found.probs("rain")[1].isnan().all()
        assert found.probs("rain")[0].tolist() == [[1, 0], [1, 0]]
    assert model.decode(observed, errors="nan")["rain"].tolist() == [[0, 0], [-1, -1]]
    assert model.log_prob(observed).tolist() == [0, -np.inf]
    with pytest.raises(Unsupported, match="'rain' would have to be summed out"):
        model.most_probable({"T": 2}, "umbrella")
    with pytest.raises(EvidenceError, match="'wind'"):
        model.query("wind", {"T": 2})
    with pytest.raises(Unsupported, match="unroll"):
        model.compile("rain")


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "network.safetensors"
    for model in (tangled(), factorial(), umbrella_world(conditionals=None)):
        model.save(path)
        again = pgnn.load(path)
        assert repr(again) == repr(model)
        name = "umbrella" if "umbrella" in model.variables else "x"
        observed = {name: [[0, 1, 1], [1]]}
        assert torch.equal(again.log_prob(observed), model.log_prob(observed))
        assert [p.requires_grad for p in again.parameters()] == [
            p.requires_grad for p in model.parameters()
        ]


def test_pgmpy_agrees():
    models = pytest.importorskip("pgmpy.models")
    discrete = pytest.importorskip("pgmpy.factors.discrete")
    inference = pytest.importorskip("pgmpy.inference")
    theirs = models.DynamicBayesianNetwork(
        [(("z", 0), ("x", 0)), (("w", 0), ("x", 0)), (("z", 0), ("z", 1)), (("w", 0), ("w", 1))]
    )
    rng = np.random.default_rng(0)

    def cpd(child, parents):
        values = rng.dirichlet(np.ones(2), size=2 ** len(parents)).T
        return discrete.TabularCPD(child, 2, values, parents or None, [2] * len(parents) or None)

    z, w, x = [[(n, t) for t in range(2)] for n in "zwx"]
    theirs.add_cpds(cpd(z[0], []), cpd(w[0], []), cpd(x[0], [z[0], w[0]]))
    theirs.add_cpds(cpd(z[1], [z[0]]), cpd(w[1], [w[0]]))
    bare = pgnn.from_pgmpy(theirs)
    theirs.initialize_initial_state()
    ours = pgnn.from_pgmpy(theirs)
    assert set(ours.initial) == {"z", "w"}
    observed = {"x": [0, 1, 1, 0]}
    assert ours.log_prob(observed).item() == pytest.approx(
        bare.log_prob(observed).item(), abs=1e-12
    )
    evidence = {("x", t): s for t, s in enumerate(observed["x"])}
    found = inference.DBNInference(theirs).forward_inference([("z", 3), ("w", 3)], evidence)
    filtered = ours.filter(observed)
    for name in ("z", "w"):
        want = found[name, 3].values
        np.testing.assert_allclose(filtered[name].probs[3], want, atol=1e-6)


def test_gaussians_of_two_slices():
    graph = nx.DiGraph([(("z", -1), "z"), ("z", "v"), (("z", -1), "v")])
    graph.nodes["z"]["states"], graph.nodes["v"]["shape"] = 2, (2,)
    gaussian = pgnn.factors.Gaussian
    model = pgnn.DynamicBayesianNetwork(graph, {"v": gaussian}, {"v": gaussian})
    rng = np.random.default_rng(0)
    z, v = rng.integers(0, 2, (30, 10)), rng.normal(size=(30, 10, 2))
    v[:, 1:] += 2 * z[:, :-1, None] + z[:, 1:, None]
    model.fit({"z": z, "v": v})
    emission = model.conditionals["v"]
    place = (z[:, 1:] == 1) & (z[:, :-1] == 0)
    by_name = {p.name: k for k, p in enumerate(emission.parents)}
    index = [0, 0]
    index[by_name["z"]], index[by_name["z", -1]] = 1, 0
    np.testing.assert_allclose(
        emission.mean.detach()[tuple(index)], v[:, 1:][place].mean(0), atol=1e-9
    )
    observed = v[0].copy()
    observed[3, 0] = np.nan  # in part
    observed[5] = np.nan  # as a whole
    with torch.no_grad():
        found = model.smooth({"v": observed})
        again = model.smooth({"v": observed}, engine=pgnn.BoyenKoller())
    torch.testing.assert_close(found.probs("z"), again.probs("z"))
    assert not found.probs("z").isnan().any()
    assert (found.probs("z").argmax(-1).numpy() == z[0]).mean() >= 0.7


def test_axes_of_a_table_are_in_the_order_of_the_arrows_into_the_later_step() -> None:
    later = [[[0.95, 0.05], [0.6, 0.4]], [[0.25, 0.75], [0.01, 0.99]]]  # a before, a, b
    arrows = [
        (("a", 0), ("b", 0)),
        (("a", 0), ("a", 1)),
        (("a", 0), ("b", 1)),
        (("a", 1), ("b", 1)),
    ]
    tables = {"a": [[0.9, 0.1], [0.4, 0.6]], "b": later}
    first = {"a": [0.3, 0.7], "b": [[0.8, 0.2], [0.1, 0.9]]}
    for edges in (arrows, arrows[1:] + arrows[:1]):
        model = pgnn.DynamicBayesianNetwork(edges, tables, initial=first, states={"a": 2, "b": 2})
        scored = model.log_prob({"a": [0, 1], "b": [0, 0]}).exp()
        torch.testing.assert_close(scored, torch.tensor(0.3 * 0.8 * 0.1 * 0.6).double())
