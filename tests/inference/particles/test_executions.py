"""Weighted and enumerated executions against closed forms and enumeration."""

import itertools
import math
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence, Intractable, NotConverged, PgnnError, Unsupported
from pgnn.inference.particles.executions import independent
from pgnn.inference.question import Question
from tests.zoo import ZOO


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def counted():
    n = pyro.sample("n", dist.Poisson(double(4.0)))
    pyro.sample("y", dist.Normal(n, double(1.0)))


def summed():
    with pyro.plate("three", 3):
        z = pyro.sample("z", dist.Bernoulli(double([0.2, 0.5, 0.6])))
    pyro.sample("x", dist.Normal(z.sum(-1), double(1.0)))


def branching():
    """A real site on one branch, several coins on the other."""
    if pyro.sample("way", dist.Bernoulli(double(0.3))):
        mean = pyro.sample("height", dist.Normal(double(2.0), double(0.5)))
    else:
        mean = sum(pyro.sample(f"coin_{k}", dist.Bernoulli(double(0.5))) for k in range(2))
    pyro.sample("observed", dist.Normal(mean, double(1.0)))


def normal(x, mean, variance):
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def exact_branching(observed):
    """Evidence, p(way), p(coin_0 | there), E[height | there]."""
    up = 0.3 * normal(observed, 2.0, 1.25)
    coins = {
        c: 0.7 / 4 * normal(observed, sum(c), 1.0) for c in itertools.product((0, 1), repeat=2)
    }
    down = sum(coins.values())
    first = sum(p for c, p in coins.items() if c[0]) / down
    return up + down, up / (up + down), first, 2.0 + (observed - 2.0) * 0.25 / 1.25


SMALL = pgnn.ExecutionSampling(20_000, seed=0, progress=False)


@pytest.mark.parametrize(
    "engine",
    [None, SMALL, pgnn.SequentialMonteCarlo(20_000, seed=0, progress=False)],
    ids=["default", "executions", "particles"],
)
def test_counts_without_bound(engine):
    posterior = pgnn.Program(counted).query("n", {"y": [5.0, 2.0]}, engine=engine)
    grid = np.arange(60)
    prior = np.array([math.exp(k * math.log(4) - 4 - math.lgamma(k + 1)) for k in grid])
    for row, y in enumerate((5.0, 2.0)):
        joint = prior * np.array([normal(y, k, 1.0) for k in grid])
        mean, z = (joint * grid).sum() / joint.sum(), joint.sum()
        found = posterior["n"]
        assert abs(found.mean[row] - mean) < 5 * found.standard_error[row]
        spread = posterior.diagnostics["log_evidence_standard_error"][row]
        assert abs(posterior.log_evidence[row] - math.log(z)) < 5 * spread
        assert found.standard_error[row] < 0.05
    assert posterior.kind == "estimate"
    if engine is None:
        assert posterior.engine == "ExecutionSampling"
        assert "MCMC() cannot" in posterior.diagnostics["reason"]


def test_standard_errors_are_what_answers_spread_by():
    program = pgnn.Program(counted)
    runs = []
    for seed in range(60):
        found = program.query("n", {"y": 5.0}, engine=pgnn.ExecutionSampling(400, seed, False))
        told = found.diagnostics["log_evidence_standard_error"][0]
        runs.append([found["n"].mean, found.log_evidence, found["n"].standard_error, told])
    runs = np.array(runs, dtype=np.float64)
    # the standard deviation of 60 normal numbers is known to 9 per cent
    assert np.allclose(runs[:, :2].std(axis=0) / runs[:, 2:].mean(axis=0), 1.0, atol=4.5 * 0.095)


def test_a_site_that_sums_over_a_plate():
    program = pgnn.Program(summed)
    posterior = program.query("z", {"x": [2.2, 0.0]})
    assert (posterior.kind, posterior.engine) == ("exact", "ExecutionEnumeration")
    probs = np.array([0.2, 0.5, 0.6])
    for row, x in enumerate((2.2, 0.0)):
        weights = {
            z: np.prod(np.where(z, probs, 1 - probs)) * normal(x, sum(z), 1.0)
            for z in itertools.product((0, 1), repeat=3)
        }
        total = sum(weights.values())
        assert float(posterior.log_evidence[row]) == pytest.approx(math.log(total), abs=1e-9)
        for k in range(3):
            on = sum(w for z, w in weights.items() if z[k]) / total
            assert float(posterior["z"].probs[row, k, 1]) == pytest.approx(on, abs=1e-9)
        best = max(weights, key=weights.get)
        answer = program.most_probable({"x": x})
        assert tuple(answer["z"].tolist()) == best
        assert float(answer.log_prob) == pytest.approx(math.log(weights[best]), abs=1e-9)
        ranked = sorted(weights.values(), reverse=True)[:3]
        assert program.most_probable({"x": x}, k=3).log_prob.exp().tolist() == pytest.approx(ranked)
    assert float(posterior.log_evidence[0]) == pytest.approx(-1.421077, abs=1e-6)
    assert float(program.log_prob({"x": [2.2]})) == pytest.approx(-1.421077, abs=1e-6)
    draws = program.sample(4000, {"x": 2.2}, seed=0)["z"].double().mean(0)
    assert (draws - posterior["z"].probs[0, :, 1]).abs().max() < 5 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize("observed", [{"wet": "yes"}, {}, {"wet": "no", "cloudy": "yes"}])
def test_enumeration_of_a_network_with_zeros(observed):
    """Side by side, and one by one since the program looks at a value."""
    network = ZOO["sprinkler"].make()
    plain = network.program()

    def looking():
        return {n: x.item() for n, x in plain().items()}

    codes = {n: network.variables[n].states.index(state) for n, state in observed.items()}
    asked = observed
    for program, observed in ((pgnn.Program(plain), asked), (pgnn.Program(looking), codes)):
        found = program.query(None, observed, engine=pgnn.ExecutionEnumeration())
        exact = network.query(None, asked)
        for name in network.variables:
            assert torch.allclose(found[name].probs, exact[name].probs, atol=1e-9)
        assert torch.allclose(found.log_evidence, exact.log_evidence, atol=1e-9)
        best = program.most_probable(observed, engine=pgnn.ExecutionEnumeration())
        assert torch.allclose(best.log_prob, network.most_probable(asked).log_prob, atol=1e-9)
        drawn = program.most_probable(observed, engine=pgnn.ExecutionSampling(300, 0, False))
        assert torch.allclose(drawn.log_prob, best.log_prob, atol=1e-9)


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_control_flow_with_real_sites_on_a_branch():
    program = pgnn.Program(branching)
    z, way, coin, height = exact_branching(1.4)
    engine = pgnn.ExecutionSampling(800, seed=1, progress=False)
    found = program.query(["way", "coin_0", "height"], {"observed": 1.4}, engine=engine)
    told = found.diagnostics
    for name, p in (("way", way), ("coin_0", coin)):
        error = told["standard_error"][name][1]
        assert abs(found[name].probs[1] - p) < 5 * error < 0.3
    assert abs(found["height"].mean - height) < 5 * found["height"].standard_error < 0.4
    assert abs(found.log_evidence - math.log(z)) < 5 * told["log_evidence_standard_error"][0]
    # something depends on a real site, so that nothing is enumerated
    with pytest.raises(Unsupported, match="latent real site"):
        program.query("way", {"observed": 1.4}, engine=pgnn.ExecutionEnumeration())
    assert program.query("way", {"observed": 1.4}).engine == "ExecutionSampling"
    best = program.most_probable({"observed": 1.4}, engine=engine)
    assert set(best) >= {"way", "height"}
    assert float(best.log_prob) <= math.log(0.7 / 4 * normal(1.4, 1.0, 1.0)) + 1e-9 or best["way"]
    likeliest = program.most_probable({"observed": 1.4}, ["way"], engine=engine)
    assert likeliest["way"] == 0
    assert float(likeliest.log_prob) == pytest.approx(math.log(z * (1 - way)), abs=0.2)


def test_soft_evidence_and_impossible_evidence():
    program = pgnn.Program(summed)
    likely = {"z": torch.tensor([[0.9, 0.2], [0.5, 0.5], [0.1, 0.7]])}
    exact = program.query("z", {"x": 1.0, **likely})
    found = program.query("z", {"x": 1.0, **likely}, engine=SMALL)
    error = found.diagnostics["standard_error"]["z"]
    assert ((found["z"].probs - exact["z"].probs).abs() < 5 * error + 1e-9).all()

    def certain():
        x = pyro.sample("x", dist.Bernoulli(double(0.5)))
        pyro.sample("y", dist.Bernoulli(x if x else double(0.0)))

    for engine in (None, SMALL):
        with pytest.raises(ImpossibleEvidence):
            pgnn.Program(certain).query("x", {"x": 0, "y": 1}, engine=engine)
        lost = pgnn.Program(certain).query("x", {"x": 0, "y": 1}, errors="nan", engine=engine)
        assert float(lost.log_evidence) == -math.inf
        assert bool(lost["x"].probs.isnan().all())


def test_few_draws_say_so():
    with pytest.warns(NotConverged, match="equivalent to .* too few for a reliable"):
        pgnn.Program(counted).query("n", {"y": 30.0}, engine=pgnn.ExecutionSampling(500, 0, False))


def test_executions_side_by_side_and_one_by_one():
    """The same program told twice, once with a look at a value that changes nothing."""

    def looking():
        float(pyro.sample("n", dist.Poisson(double(4.0))))
        counted_again()

    def counted_again():
        pyro.sample("y", dist.Normal(double(0.0), double(1.0)))

    for program, together in ((counted, True), (summed, True), (looking, False)):
        made = pgnn.Program(program)
        runs = independent(Question.read(made), 20, 0, engine="", progress=False)
        assert runs[0].together is together


def test_uneven_shapes_are_refused_by_name():
    def ragged():
        n = int(pyro.sample("n", dist.Poisson(double(2.0)))) + 1
        with pyro.plate("several", n):
            pyro.sample("x", dist.Normal(double(0.0), double(1.0)))

    program = pgnn.Program(ragged)
    engine = pgnn.ExecutionSampling(100, 0, False)
    assert abs(program.query("n", engine=engine)["n"].mean - 2.0) < 1.0
    with pytest.raises(Unsupported, match="shape of 'x' differs"):
        program.query("x", engine=engine)


def test_too_many_choices():
    def many():
        with pyro.plate("many", 40):
            z = pyro.sample("z", dist.Bernoulli(double(0.5)))
        pyro.sample("x", dist.Normal(z.sum(-1), double(1.0)))

    program = pgnn.Program(many)
    with pytest.raises(Intractable, match=r"combinations.*ExecutionSampling"):
        program.query("z", {"x": 20.0}, engine=pgnn.ExecutionEnumeration())
    assert program.query("z", {"x": 20.0}).engine == "ExecutionSampling"


ADVICE = re.compile(r"(?:engine=)?(?:pgnn\.)?([A-Z]\w+)\(\)")


def circles(program, verb):
    """Engines advised by errors that refuse for no other reason than the one who advised them."""
    found, ahead, asked = [], [("default", None)], {}
    while ahead:
        name, engine = ahead.pop()
        try:
            verb(program, engine)
            asked[name] = None
            continue
        except PgnnError as error:
            asked[name] = str(error)
        for other in ADVICE.findall(asked[name]):
            known = getattr(pgnn, other, None)
            if not (isinstance(known, type) and issubclass(known, pgnn.Engine)):
                continue
            if other not in asked and other not in [n for n, _ in ahead]:
                ahead.append((other, known()))
            elif asked.get(other) is not None and asked[other] == asked[name] and other != name:
                found.append((name, other))
    if all(reason is not None for reason in asked.values()):
        found.append(("nobody answers", tuple(asked)))
    return found


VERBS = {
    "query": lambda p, e: p.query(evidence={}, engine=e),
    "log_prob": lambda p, e: p.log_prob({[*p.variables][-1]: [1.0]}, engine=e),
    "sample": lambda p, e: p.sample(2, engine=e, seed=0),
    "most_probable": lambda p, e: p.most_probable(engine=e),
}


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("program", [counted, summed, branching], ids=lambda p: p.__name__)
def test_advice_leads_to_an_answer(program, verb):
    assert circles(pgnn.Program(program), VERBS[verb]) == []
