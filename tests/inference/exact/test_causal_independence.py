"""Gates of many causes: closed forms, the table written out, and verbs that never see the parts."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence, Intractable, Unsupported
from pgnn.factors import Factor, NoisyAnd, NoisyMax, NoisyMin, NoisyOr, Sigmoid, Softmax, Variable
from tests import oracle

PRIOR, STRENGTH, LEAK = 0.05, 0.3, 0.01


def star(n: int, kind: Any = NoisyOr, **options: Any) -> pgnn.BayesianNetwork:
    """One child of many independent binary parents."""
    parents = [f"p{k}" for k in range(n)]
    given: dict[Any, Any] = {p: [1 - PRIOR, PRIOR] for p in parents}
    given["o"] = lambda v, pa: kind(v, pa, **options)
    return pgnn.BayesianNetwork([(p, "o") for p in parents], given, states={"o": 2})


def many(n: int) -> pgnn.BayesianNetwork:
    return star(n, strengths=[STRENGTH] * n, leak=LEAK)


@pytest.mark.parametrize("n", [3, 40, 400])
def test_a_noisy_or_has_its_closed_form(n: int) -> None:
    model = many(n)
    nothing = {f"p{k}": 0 for k in range(n)}
    np.testing.assert_allclose(model.query("p0")["p0"].probs, [0.95, 0.05], rtol=1e-12)
    np.testing.assert_allclose(model.query("o", nothing)["o"].probs, [0.99, 0.01], rtol=1e-12)
    row = math.log(LEAK) + n * math.log(1 - PRIOR)
    np.testing.assert_allclose(model.log_prob(nothing | {"o": 1}), row, rtol=1e-12)
    absent = (1 - LEAK) * (1 - PRIOR * STRENGTH) ** n
    np.testing.assert_allclose(model.query("o")["o"].probs[0], absent, rtol=1e-10)
    found = model.query("p0", {"o": 1})
    expected = PRIOR * (1 - absent / (1 - PRIOR * STRENGTH) * (1 - STRENGTH)) / (1 - absent)
    np.testing.assert_allclose(found["p0"].probs[1], expected, rtol=1e-10)
    np.testing.assert_allclose(found.log_evidence, math.log1p(-absent), rtol=1e-10)
    free = model.query("p0", {"o": 0})["p0"].probs[1]
    both = np.array([1 - PRIOR, PRIOR * (1 - STRENGTH)])
    np.testing.assert_allclose(free, (both / both.sum())[1], rtol=1e-12)


def test_the_cost_is_that_of_a_chain() -> None:
    told = many(40).explain("p0", {"o": 1})
    assert told.fits
    assert told.treewidth == 2


def test_absent_findings_join_nothing() -> None:
    """Thirty findings of all of 40 causes: out of reach if present, a product if absent."""
    rng = np.random.default_rng(0)
    causes, findings = [f"p{k}" for k in range(40)], [f"o{k}" for k in range(30)]
    strengths = rng.random((30, 40)) * 0.3
    given: dict[Any, Any] = {c: [1 - PRIOR, PRIOR] for c in causes}
    for own, name in zip(strengths, findings, strict=True):
        given[name] = lambda v, pa, own=own: NoisyOr(v, pa, own, leak=LEAK)
    model = pgnn.BayesianNetwork(
        [(c, f) for f in findings for c in causes], given, states=dict.fromkeys(findings, 2)
    )
    absent = dict.fromkeys(findings, 0)
    found = model.query("p0", absent | {"o3": 1}, engine=pgnn.JunctionTree())
    kept = np.prod(np.delete(1 - strengths, 3, axis=0), axis=0)
    rest = PRIOR * kept / (1 - PRIOR + PRIOR * kept)  # given the absent ones alone
    none = (1 - LEAK) * np.prod(1 - rest * strengths[3])
    other = none / (1 - rest[0] * strengths[3, 0]) * (1 - strengths[3, 0])
    np.testing.assert_allclose(found["p0"].probs[1], rest[0] * (1 - other) / (1 - none), rtol=1e-9)
    assert found.kind == "exact"
    assert not model.explain("p0", dict.fromkeys(findings, 1), engine=pgnn.JunctionTree()).fits


def test_nobody_sees_the_parts() -> None:
    model = many(20)
    names = [f"p{k}" for k in range(20)] + ["o"]
    assert sorted(model.variables) == sorted(names)
    assert sorted(model.query(evidence={"p3": 1})) == sorted(names)
    assert sorted(
        model.query(evidence={"o": [0, 1]}).frame().columns.get_level_values(0)
    ) == sorted(n for n in names for _ in range(2))
    drawn = model.sample(5, {"p1": 1}, seed=0)
    assert sorted(v.name for v in drawn.variables) == sorted(names)
    assert sorted(model.sample(5, seed=0).frame().columns) == sorted(names)
    best = model.most_probable({"p0": 1, **{f"p{k}": 0 for k in range(5, 20)}})
    assert sorted(best) == sorted(names)


def written_out(gate: Any) -> pgnn.BayesianNetwork:
    """The same network with the gate's table, and without."""
    parents = gate.parents
    rng = np.random.default_rng(3)
    given: dict[Any, Any] = {v.name: oracle.random_table(rng, [], v.num_states) for v in parents}
    edges = [(v.name, gate.child.name) for v in parents]
    table = pgnn.Tabular(gate.child, parents, gate.factor().values.detach().numpy())
    return (
        pgnn.BayesianNetwork(edges, {**given, gate.child.name: gate}),
        pgnn.BayesianNetwork(edges, {**given, gate.child.name: table}),
    )


def gate(kind: Any, size: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    sizes = [2] * 7 if kind in (NoisyOr, NoisyAnd) else [2, 3, 2, 3, 1, 2]
    parents = [Variable(f"x{k}", s) for k, s in enumerate(sizes)]
    child = Variable("y", size)
    if kind in (NoisyOr, NoisyAnd):
        strengths = rng.random(7)
        strengths[2], strengths[4] = 1.0, 0.0
        return kind(child, parents, strengths, leak=0.1)
    effects = [oracle.random_table(rng, [s - 1], size, zeros=0.2) for s in sizes]
    return kind(child, parents, effects, leak=oracle.random_table(rng, [], size))


KINDS = [(NoisyOr, 2), (NoisyAnd, 2), (NoisyMax, 3), (NoisyMin, 4)]


@pytest.mark.parametrize("ranks", [None, [5, 1, 4, 0, 3, 2, 6]])
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_decompositions_multiply_to_the_table(
    kind: Any, size: int, ranks: list[int] | None
) -> None:
    own = gate(kind, size, 0)
    parts = own.decomposition(None if ranks is None else ranks[: len(own.parents)])
    if ranks is not None:
        assert parts.factors[1].variables[1] == own.parents[3]
    product = parts.factors[0].product(*parts.factors[1:])
    summed = product.marginalize([v.name for v in parts.hidden])
    table = Factor(own.scope, own.factor().log_values)
    aligned = summed.product(Factor(own.scope, torch.zeros_like(table.log_values)))
    order = [aligned.names.index(n) for n in table.names]
    np.testing.assert_allclose(aligned.values.permute(order), table.values, atol=1e-14)


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_all_verbs_agree_with_the_table(kind: Any, size: int) -> None:
    own, plain = written_out(gate(kind, size, 1))
    rng = np.random.default_rng(2)
    names = [*own.variables]
    cards = [v.num_states for v in own.variables.values()]
    rows = np.stack([rng.integers(0, k, 12) for k in cards], axis=1)
    observed = np.where(rng.random(rows.shape) < 0.4, rows, -1)
    observed[0], observed[1, names.index("y")], observed[2, names.index("y")] = -1, 0, size - 1
    evidence = pgnn.codes({n: torch.tensor(observed[:, k]) for k, n in enumerate(names)})
    one, two = own.query(None, evidence, errors="nan"), plain.query(None, evidence, errors="nan")
    np.testing.assert_allclose(one.log_evidence, two.log_evidence, atol=1e-10)
    for n in names:
        np.testing.assert_allclose(one[n].probs, two[n].probs, atol=1e-10)
    joints = (answer.joint("x0", "y", "x3").values for answer in (one, two))
    np.testing.assert_allclose(*joints, atol=1e-10)
    np.testing.assert_allclose(own.log_prob(evidence), plain.log_prob(evidence), atol=1e-10)
    for targets in (None, ["x0", "y"]):
        best, expected = (m.most_probable(evidence, targets, errors="nan") for m in (own, plain))
        np.testing.assert_allclose(best.log_prob, expected.log_prob, atol=1e-10)
    few = {"y": 1}
    ten, other = own.most_probable(few, k=10), plain.most_probable(few, k=10)
    np.testing.assert_allclose([a.log_prob for a in ten], [a.log_prob for a in other], atol=1e-10)
    asked, known = own.compile("x0", ["y"]), plain.compile("x0", ["y"])
    codes = torch.arange(size)[:, None]
    np.testing.assert_allclose(asked(codes).marginals, known(codes).marginals, atol=1e-10)
    any_row = own.compile("x0"), plain.compile("x0")
    for row in observed[3:6]:
        found = [q(torch.tensor(row)).log_evidence for q in any_row]
        np.testing.assert_allclose(*found, atol=1e-10)
    forced = [m.do({"x1": 1}).query("y")["y"].probs for m in (own, plain)]
    np.testing.assert_allclose(*forced, atol=1e-10)
    soft = {"y": pgnn.likelihood(np.linspace(0.2, 0.9, size))}
    softly = [m.query("x0", soft) for m in (own, plain)]
    np.testing.assert_allclose(*(s["x0"].probs for s in softly), atol=1e-10)
    np.testing.assert_allclose(*(s.log_evidence for s in softly), atol=1e-10)


def test_impossible_findings_are_named() -> None:
    model = star(9, strengths=[0.5] * 9)
    with pytest.raises(ImpossibleEvidence) as error:
        model.query("p0", {"o": 1, **{f"p{k}": 0 for k in range(9)}})
    assert error.value.conflict == {"o": 1, **{f"p{k}": 0 for k in range(9)}}
    assert "HiddenName" not in str(error.value)


def test_draws_follow_the_posterior() -> None:
    model = many(30)
    n = 4000
    for evidence in (None, {"o": 1}):
        drawn = model.sample(n, evidence, seed=1).frame()
        exact = model.query(evidence=evidence)
        for name in ("p0", "p29", "o"):
            p = float(exact[name].probs[1])
            error = 5 * math.sqrt(p * (1 - p) / n) + 1e-12
            assert abs((drawn[name] == 1).mean() - p) < error


def test_gradients_are_those_of_the_table() -> None:
    parents = [Variable(f"x{k}", 2) for k in range(7)]
    found = []
    for threshold in (True, False):
        torch.manual_seed(0)
        own = NoisyOr(Variable("y", 2), parents, leak=None)
        with torch.no_grad():
            for p in own.parameters():
                p.add_(torch.randn_like(p))
        edges = [(v.name, "y") for v in parents]
        given: dict[Any, Any] = {v.name: [0.7, 0.3] for v in parents}
        model = pgnn.BayesianNetwork(edges, {**given, "y": own})
        rows = {"y": torch.tensor([0, 1, 1, -1]), "x0": torch.tensor([1, 0, -1, 1])}
        if threshold:
            value = model.log_prob(pgnn.codes(rows)).sum()
        else:
            table = own.factor()
            prior = torch.tensor([0.7, 0.3], dtype=torch.float64).log()
            roots = [Factor([v], prior) for v in parents]
            joint = table.product(*roots)
            parts = [{"y": 0, "x0": 1}, {"y": 1, "x0": 0}, {"y": 1}, {"x0": 1}]
            value = sum(
                (lambda f: f.marginalize(f.names).log_values)(joint.condition(p)) for p in parts
            )
        value.backward()
        grads = [p.grad.clone() for p in own.parameters()]
        found.append((float(value.detach()), grads))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-10)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_expectation_maximisation_learns_strengths() -> None:
    truth = star(8, strengths=np.linspace(0.2, 0.9, 8), leak=0.1)
    rows = truth.sample(3000, seed=3).frame()
    rng = np.random.default_rng(0)
    holes = rows.astype(float).mask(rng.random(rows.shape) < 0.2)
    model = star(8, leak=None)
    learner = pgnn.EM(max_iterations=30)
    with torch.no_grad():
        before = float(model.log_prob(holes).sum())
    model.fit(holes, learner=learner, seed=0, progress=False)
    history = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(history) > -1e-9 * abs(history[-1])).all()
    assert float(model.log_prob(holes).sum()) > before + 10


def test_rows_of_a_thousand_parents_are_scored_without_tables() -> None:
    rng = np.random.default_rng(0)
    for kind, options in (
        (NoisyOr, {"strengths": [STRENGTH] * 1000, "leak": LEAK}),
        (Sigmoid, {"weight": rng.normal(size=1000) * 0.1, "bias": 0.3}),
        (Softmax, {"weight": rng.normal(size=(1000, 2)) * 0.1, "bias": [0.1, 0.2]}),
    ):
        model = star(1000, kind, **options)
        rows = model.sample(20, seed=0)
        x = rows.frame()
        found = model.log_prob(x)
        on = x[[f"p{k}" for k in range(1000)]].to_numpy().astype(float)
        prior = np.log(np.where(on == 1, PRIOR, 1 - PRIOR)).sum(axis=1)
        if kind is NoisyOr:
            zero = math.log1p(-LEAK) + on.sum(axis=1) * math.log(1 - STRENGTH)
            own = np.where(x["o"] == 1, np.log(-np.expm1(zero)), zero)
        else:
            weight = np.asarray(options["weight"])
            if weight.ndim == 2:
                gap = 0.1 + on @ (weight[:, 1] - weight[:, 0])
            else:
                gap = options["bias"] + on @ weight
            own = -np.logaddexp(0.0, np.where(x["o"] == 1, -gap, gap))
        np.testing.assert_allclose(found, prior + own, rtol=1e-9)


def test_logistic_gates_are_answered_where_enough_is_observed() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=30)
    model = star(30, Sigmoid, weight=weight, bias=-0.5)
    observed = {f"p{k}": int(k % 2) for k in range(3, 30)}
    small = pgnn.BayesianNetwork(
        [(f"p{k}", "o") for k in range(3)],
        {
            **{p: [1 - PRIOR, PRIOR] for p in ("p0", "p1", "p2")},
            "o": lambda v, pa: Sigmoid(v, pa, weight[:3], -0.5 + weight[3:][::2].sum()),
        },
        states={"o": 2},
    )
    for evidence in ({}, {"o": 1}):
        one, two = model.query("p0", observed | evidence), small.query("p0", evidence)
        np.testing.assert_allclose(one["p0"].probs, two["p0"].probs, atol=1e-12)
        assert one.kind == "exact"
    best, known = model.most_probable(observed | {"o": 1}), small.most_probable({"o": 1})
    assert [best[n] for n in ("p0", "p1", "p2")] == [known[n] for n in ("p0", "p1", "p2")]
    with pytest.raises(Intractable, match=r"use Gibbs\(\) or ImportanceSampling\(\)"):
        model.query("p0", {"o": 1}, engine=pgnn.JunctionTree())


@pytest.mark.parametrize(
    "engine",
    [
        pgnn.ImportanceSampling(20_000, seed=0),
        pgnn.Gibbs(chains=4, burn_in=20, samples=100, seed=0, progress=False),
    ],
)
def test_sampling_engines_need_no_table(engine: Any) -> None:
    model = star(40, Sigmoid, weight=[1.0] * 40, bias=-4.0)
    found = model.query(["p0", "p1"], {"o": 1}, engine=engine)
    # by symmetry the number of present parents is all that matters
    k = np.arange(41)
    weight = np.array([math.comb(40, j) * PRIOR**j * (1 - PRIOR) ** (40 - j) for j in k])
    weight = weight / (1 + np.exp(4.0 - k))
    expected = (weight * k / 40).sum() / weight.sum()
    assert abs(float(found["p0"].probs[1]) - expected) < 0.02


def test_other_engines_answer_about_gates_of_many() -> None:
    model = many(24)
    evidence = {"o": 1, "p5": 0}
    exact = model.query(["p0", "p1"], evidence)
    for engine in (
        pgnn.BeliefPropagation(progress=False),
        pgnn.ImportanceSampling(20_000, seed=0, progress=False),
    ):
        found = model.query(["p0", "p1"], evidence, engine=engine)
        assert abs(float(found.log_evidence - exact.log_evidence)) < 0.05
        assert abs(float(found["p0"].probs[1] - exact["p0"].probs[1])) < 0.02
    annealed = pgnn.AnnealedImportanceSampling(chains=400, temperatures=200, seed=0)
    found = model.query("p0", evidence, engine=annealed)
    error = 5 * float(found.diagnostics["standard_error"][0])
    assert abs(float(found.log_evidence - exact.log_evidence)) < error
    bound = model.query("p0", evidence, engine=pgnn.MeanField(seed=0, progress=False))
    assert float(bound.log_evidence) <= float(exact.log_evidence) + 1e-9
    with pytest.raises(Unsupported, match="BranchAndBound"):
        model.most_probable(evidence, engine=pgnn.DualDecomposition())


def test_checkpoints_keep_all_gates(tmp_path: Any) -> None:
    for k, (kind, size) in enumerate(KINDS):
        model, _ = written_out(gate(kind, size, 5))
        model.save(tmp_path / f"{k}")
        loaded = pgnn.load(tmp_path / f"{k}")
        assert type(loaded.conditionals["y"]) is kind
        np.testing.assert_allclose(loaded.query("x0", {"y": 1})["x0"].probs,
                                   model.query("x0", {"y": 1})["x0"].probs)  # fmt: skip


def test_strengths_of_a_noisy_and() -> None:
    own = NoisyAnd(Variable("y", 2), [Variable("a", 2), Variable("b", 2)], [0.9, 0.25], leak=0.1)
    np.testing.assert_allclose(own.strengths, [0.9, 0.25], rtol=1e-12)
    table = own.factor().values
    for a in range(2):
        for b in range(2):
            on = 0.9 * 0.1 ** (1 - a) * 0.75 ** (1 - b)
            np.testing.assert_allclose(table[a, b], [1 - on, on], rtol=1e-12)
    assert own.num_free_parameters == 3
    assert NoisyAnd(Variable("y", 2), [Variable("a", 2)], [0.5]).num_free_parameters == 1
