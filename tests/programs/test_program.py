"""Pyro programs as models: against the graphs that they came from, enumeration, and Pyro itself."""

import copy
import gc
import itertools
import math
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

import pgnn
from pgnn import BayesianNetwork, ExecutionSampling, Program
from pgnn.errors import Intractable, ModelError, Unsupported
from tests.zoo import ZOO, Example

DIRECTED = [e for e in ZOO.values() if isinstance(e.make(), BayesianNetwork) and e.observes_reals]
WITHOUT_INPUTS = [e for e in DIRECTED if not e.inputs]


@pytest.fixture(autouse=True)
def nothing_global():
    """No program may leave parameters or random state behind."""
    before = torch.random.get_rng_state(), dict(pyro.get_param_store().get_state()["params"])
    yield
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert dict(pyro.get_param_store().get_state()["params"]) == before[1]


def close(got, expected, tolerance=1e-9):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def enumerated_log_evidence(program):
    """What Pyro's own enumeration says; the guide is empty."""
    model = config_enumerate(lambda: program(), default="parallel")
    with torch.random.fork_rng(devices=[]):
        return double(-TraceEnum_ELBO(max_plate_nesting=2).loss(model, lambda: None))


# --- graph -> program -> graph ------------------------------------------------------------------


@pytest.mark.parametrize("example", WITHOUT_INPUTS, ids=str)
def test_a_graph_and_its_program_answer_alike(example: Example):
    model = example.make()
    program = Program(model.program())
    assert program.obstacle is None
    assert list(program.variables.items()) == list(model.variables.items())
    names = {n: s.variable.name for n, s in program.sites.items()}
    edges = {(names[a], names[b]) for a, b in program.graph.edges}
    assert edges == set(model.graph.edges)
    rows = example.batch()
    one, other = model.query(None, rows), program.query(None, rows)
    close(one.log_evidence, other.log_evidence)
    for name in one:
        close(one[name].probs, other[name].probs)
    best, again = model.most_probable(rows), program.most_probable(rows)
    close(best.log_prob, again.log_prob)
    close(model.log_prob(rows), program.log_prob(rows))


@pytest.mark.parametrize("example", [e for e in DIRECTED if e.inputs], ids=str)
def test_inputs_put_the_sites_in_a_plate_of_rows(example: Example):
    model = example.make()
    program = Program(model.program(example.inputs))
    rows = example.batch()
    one, other = model.query(None, rows, **example.covariates()), program.query(None, rows)
    close(one.log_evidence.sum(), other.log_evidence)
    for name in one:
        close(one[name].probs, other[name].probs)


def test_sites_are_named_by_the_variables():
    program = ZOO["odd_names"].make().program()
    assert program.sites == {
        ("a", 0): "('a', 0)",
        7: "7'",
        frozenset("xy"): str(frozenset("xy")),
        "7": "7",
    }
    with torch.random.fork_rng(devices=[]):
        nodes = poutine.trace(program).get_trace().nodes
    assert set(nodes) >= set(program.sites.values())


@pytest.mark.parametrize("name", ["sprinkler", "sigmoid", "noisy_max", "softmax", "neural"])
def test_pyro_enumerates_and_conditions_the_program(name: str):
    example = ZOO[name]
    model = example.make()
    for row in example.rows:
        data = {n: torch.tensor(k) for n, k in row.items()}
        held = poutine.condition(model.program(), data)
        found = enumerated_log_evidence(held) if len(row) < len(example.cards) else None
        if found is None:
            found = poutine.trace(held).get_trace().log_prob_sum()
        states = {n: torch.tensor([k]) for n, k in row.items()}
        expected = model.log_prob(states)[0] if states else torch.zeros(()).double()
        close(found, expected)


def test_rows_are_conditioned_on_in_a_plate():
    model = ZOO["neural"].make()
    codes = {
        "a": torch.tensor([0, 1, 2]),
        "b": torch.tensor([3, 0, 1]),
        "c": torch.tensor([1, 0, 1]),
    }
    trace = poutine.trace(poutine.condition(model.program(), codes)).get_trace(rows=3)
    trace.compute_log_prob()
    total = sum(site["log_prob"] for n, site in trace.nodes.items() if n in codes)
    close(total, model.log_prob(codes))


def test_a_program_of_a_graph_shares_its_parameters():
    model = ZOO["learnable"].make()
    program = Program(model.program())
    assert {id(p) for p in program.parameters()} == {id(p) for p in model.parameters()}
    before = program.query("c")["c"].probs.detach().clone()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
    after = program.query("c")["c"].probs
    close(after, model.query("c")["c"].probs)
    assert not torch.allclose(before, after)


# --- programs -----------------------------------------------------------------------------------


def chain(steps, table, start):
    x = pyro.sample("x_0", dist.Categorical(start))
    for t in range(1, steps):
        x = pyro.sample(f"x_{t}", dist.Categorical(table[x]))


def test_a_program_of_three_hundred_sites_needs_few_dimensions():
    rng = torch.Generator().manual_seed(0)
    table, start = torch.rand(3, 3, generator=rng).double(), torch.rand(3, generator=rng).double()
    table, start = table / table.sum(-1, keepdim=True), start / start.sum()
    program = Program(chain, args=(300, table, start))
    assert len(set(program._source.layout.dims.values())) == 2
    expected = start @ torch.linalg.matrix_power(table, 299)
    close(program.query("x_299")["x_299"].probs, expected)
    assert program.explain().treewidth == 1


def random_program(seed, count=7):
    """Sites with up to three random parents; some are observed, some see an or."""
    rng = np.random.default_rng(seed)
    cards = rng.integers(1, 4, count)
    parents = [
        sorted(rng.choice(k, min(k, int(rng.integers(0, 4))), replace=False)) for k in range(count)
    ]
    tables = [
        torch.from_numpy(rng.dirichlet(np.ones(cards[k]), size=tuple(cards[p] for p in parents[k])))
        for k in range(count)
    ]
    observed = {
        k: torch.tensor(int(rng.integers(cards[k]))) for k in range(count) if rng.random() < 0.3
    }

    def program():
        values = []
        for k in range(count):
            own = tables[k][tuple(values[p] for p in parents[k])] if parents[k] else tables[k]
            values.append(pyro.sample(f"v{k}", dist.Categorical(own), obs=observed.get(k)))
        return torch.stack(values)  # of shapes that do not fit when all states are given at once

    def joint():
        total = torch.ones([int(c) for c in cards], dtype=torch.float64)
        for k in range(count):
            shape = [int(cards[j]) if j in (*parents[k], k) else 1 for j in range(count)]
            total = total * tables[k].reshape(shape)
        for k, state in observed.items():
            keep = torch.zeros(int(cards[k])).double()
            keep[state] = 1.0
            total = total * keep.reshape([-1 if j == k else 1 for j in range(count)])
        return total

    return program, joint(), observed


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_are_enumerated(seed):
    program, joint, observed = random_program(seed)
    posterior = Program(program).query()
    close(posterior.log_evidence, joint.sum().log())
    for k in range(joint.dim()):
        if k not in observed:
            rest = [j for j in range(joint.dim()) if j != k]
            close(posterior[f"v{k}"].probs, joint.sum(rest) / joint.sum())


@pytest.mark.parametrize("seed", range(12))
def test_draws_come_from_the_posterior(seed):
    program, joint, observed = random_program(seed)
    samples = Program(program).sample(4000, seed=seed)
    for k in range(joint.dim()):
        if k not in observed:
            p = joint.sum([j for j in range(joint.dim()) if j != k]) / joint.sum()
            found = torch.bincount(samples[f"v{k}"], minlength=len(p)) / 4000
            # five standard deviations of a share
            assert (found - p).abs().max() < 5 * 0.5 / math.sqrt(4000)


def mixture(data, weights, locs):
    with pyro.plate("data", len(data)):
        z = pyro.sample("z", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(locs[z], 0.5), obs=data)


def test_a_plate_is_an_array_of_variables():
    rng = torch.Generator().manual_seed(1)
    data = torch.randn(1000, generator=rng, dtype=torch.float64)
    weights, locs = double([0.2, 0.5, 0.3]), double([-1.0, 0.0, 2.0])
    program = Program(mixture, args=(data, weights, locs))
    assert program.variables["z"] == pgnn.Variable("z", 3, (1000,))
    prior, density = program.factor_groups()
    assert prior.shared
    assert (prior.num_factors, density.num_factors) == (1000, 1000)
    posterior = program.query()
    joint = weights.log() + dist.Normal(locs, 0.5).log_prob(data[:, None])
    close(posterior["z"].probs, joint.softmax(-1))
    close(posterior.log_evidence, joint.logsumexp(-1).sum())
    half = program.query(["z"], {("z", 0): 2})
    assert half["z"].probs[0, 2] == 1.0


def nested(sizes, data):
    outer, inner = sizes
    start = double([0.4, 0.6])
    table = double([[0.9, 0.1], [0.3, 0.7]])
    with pyro.plate("outer", outer, dim=-2):
        a = pyro.sample("a", dist.Bernoulli(start[1]))
        with pyro.plate("inner", inner, dim=-1):
            b = pyro.sample("b", dist.Categorical(table[a.long()]))
            pyro.sample("x", dist.Bernoulli(double([0.2, 0.7])[b]), obs=data)


def test_nested_plates():
    data = double([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    program = Program(nested, args=((2, 3), data))
    assert program.variables["a"].shape == (2,)
    assert program.variables["b"].shape == (2, 3)
    close(program.query([]).log_evidence, enumerated_log_evidence(program.program()))
    table, on = double([[0.9, 0.1], [0.3, 0.7]]), double([0.2, 0.7])
    likelihood = torch.where(data[..., None] == 1, on, 1 - on)
    given_a = (likelihood @ table.T).prod(1) * double([0.4, 0.6])
    close(program.query()["a"].probs, given_a / given_a.sum(-1, keepdim=True))


def test_other_finite_distributions():
    def program():
        n = pyro.sample("n", dist.Binomial(3, double(0.4)))
        hot = pyro.sample("hot", dist.OneHotCategorical(double([0.2, 0.3, 0.5])))
        p = torch.sigmoid(n - hot @ double([0.0, 1.0, 2.0]))
        pyro.sample("y", dist.Bernoulli(p), obs=double(1.0))

    found = Program(program)
    assert [v.num_states for v in found.variables.values()] == [4, 3]
    table = torch.zeros(4, 3).double()
    for n, k in itertools.product(range(4), range(3)):
        prior = math.comb(3, n) * 0.4**n * 0.6 ** (3 - n) * [0.2, 0.3, 0.5][k]
        table[n, k] = prior / (1 + math.exp(-(n - k)))
    close(found.query().log_evidence, table.sum().log())
    close(found.query()["n"].probs, table.sum(1) / table.sum())


def test_zeros_stay_zeros():
    def program():
        a = pyro.sample("a", dist.Categorical(double([0.5, 0.5])))
        pyro.sample("b", dist.Categorical(double([[1.0, 0.0], [0.0, 1.0]])[a]))
        pyro.sample("c", dist.Bernoulli(double([0.0, 1.0])[a]))

    found = Program(program)
    assert (
        found.log_prob({"a": torch.tensor([0, 1]), "b": torch.tensor([1, 1])}).tolist()[0]
        == -math.inf
    )
    with pytest.raises(pgnn.ImpossibleEvidence):
        found.query("a", {"b": 0, "c": 1})


def test_masks_scales_factors_and_deterministic_sites():
    def program():
        x = pyro.sample("x", dist.Categorical(double([0.2, 0.8])))
        y = pyro.deterministic("y", double([1.0, 3.0])[x])
        with poutine.scale(scale=2.0):
            pyro.sample("o", dist.Normal(y, 1.0), obs=double(2.5))
        with poutine.mask(mask=torch.tensor(False)):
            pyro.sample("p", dist.Normal(y, 1.0), obs=double(9.0))
        pyro.factor("f", -y)

    found = Program(program)
    assert list(found.variables) == ["x"]
    y = double([1.0, 3.0])
    expected = double([0.2, 0.8]).log() + 2 * dist.Normal(y, 1.0).log_prob(double(2.5)) - y
    close(found.query().log_evidence, expected.logsumexp(0))


def test_masked_sites_are_absent():
    def program():
        with pyro.plate("data", 2), poutine.mask(mask=torch.tensor([True, False])):
            x = pyro.sample("x", dist.Categorical(double([0.2, 0.8])))
            pyro.sample("y", dist.Bernoulli(double([0.3, 0.6])[x]), obs=double([1.0, 1.0]))

    found = Program(program).query()
    close(found.log_evidence, double(0.2 * 0.3 + 0.8 * 0.6).log())
    close(found.log_evidence, enumerated_log_evidence(program))


# --- real sites ---------------------------------------------------------------------------------


def mixed():
    loc = pyro.sample("loc", dist.Normal(double(0.0), double(2.0)))
    with pyro.plate("data", 3):
        z = pyro.sample("z", dist.Categorical(double([0.3, 0.7])))
        pyro.sample("x", dist.Normal(torch.stack([-loc, loc])[z], double(1.0)))


def mixed_density(loc, x):
    log_joint = double([0.3, 0.7]).log() + dist.Normal(torch.stack([-loc, loc]), 1.0).log_prob(
        x[:, None]
    )
    return dist.Normal(double(0.0), double(2.0)).log_prob(loc) + log_joint.logsumexp(-1).sum()


def test_real_sites_are_evidence():
    program = Program(mixed)
    x = double([[0.5, -1.0, 2.0], [1.0, 1.0, -3.0]])
    loc = double([0.7, -1.5])
    found = program.query(["z"], {"loc": loc, "x": x})
    expected = torch.stack([mixed_density(a, b) for a, b in zip(loc, x, strict=True)])
    close(found.log_evidence, expected)
    assert found["z"].probs.shape == (2, 3, 2)
    alone = program.query(["z"], {"loc": 0.7, "x": x[0]})
    close(alone["z"].probs, found["z"].probs[0])
    close(program.log_prob({"loc": loc, "x": x}), expected)


def test_log_density_is_differentiable():
    program = Program(mixed)
    x = double([[0.5, -1.0, 2.0], [1.0, 1.0, -3.0], [0.1, 0.2, 0.3]])
    loc = double([0.7, -1.5, 0.2]).requires_grad_()
    found = program.log_density({"loc": loc}, {"x": x})
    (gradient,) = torch.autograd.grad(found.sum(), loc)
    again = loc.detach().clone().requires_grad_()
    expected = torch.stack([mixed_density(a, b) for a, b in zip(again, x, strict=True)])
    close(found, expected)
    close(gradient, torch.autograd.grad(expected.sum(), again)[0])
    one = program.log_density({"loc": loc[:1]}, {"x": x[0]})
    close(one, expected[:1])


def test_unobserved_real_sites_are_named():
    program = Program(mixed)
    close(program.query(["z"], {"loc": 0.3})["z"].probs, double([[0.3, 0.7]]).expand(3, 2))
    with pytest.raises(
        Unsupported, match=r"'loc' has no states and is not observed, and 'x' depends"
    ):
        program.query(["z"], {"x": double([0.1, 0.2, 0.3])}, engine=pgnn.JunctionTree())


# --- parameters ---------------------------------------------------------------------------------


class Coin(pyro.nn.PyroModule):
    def __init__(self):
        super().__init__()
        self.bias = pyro.nn.PyroParam(double(0.5), constraint=dist.constraints.unit_interval)
        self.linear = nn.Linear(1, 2).double()

    def forward(self, flips):
        x = pyro.sample("x", dist.Bernoulli(self.bias))
        with pyro.plate("flips", len(flips)):
            logits = self.linear(x.unsqueeze(-1))
            p = torch.softmax(logits, -1)[..., 1]
            pyro.sample("flip", dist.Bernoulli(p), obs=flips)


def coins(flips):
    p = pyro.param("p", lambda: double([0.3, 0.6]), constraint=dist.constraints.unit_interval)
    x = pyro.sample("x", dist.Bernoulli(double(0.5)))
    with pyro.plate("flips", len(flips)):
        pyro.sample("flip", dist.Bernoulli(p[x.long()]), obs=flips)


@pytest.mark.parametrize("make", [Coin, lambda: coins], ids=["module", "function"])
def test_parameters_live_in_the_model_and_are_learnt(make):
    flips = double([1.0] * 9 + [0.0])
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    program = Program(make(), args=(flips,))
    torch.random.set_rng_state(torch_state)
    names = {n for n, _ in program.named_parameters()}
    assert names
    before = program.query([]).log_evidence.detach()
    program.fit(progress=False)
    after = program.query([]).log_evidence.detach()
    assert after > before + 0.1
    assert {n for n, _ in program.named_parameters()} == names
    best = 9 * math.log(0.9) + math.log(0.1)
    assert after <= best + 1e-9
    if make is not Coin:
        state = program.state_dict()
        other = Program(make(), args=(flips,))
        other.load_state_dict(state)
        close(other.query([]).log_evidence.detach(), after)


def test_parameters_start_from_pyros_store():
    pyro.clear_param_store()
    with pyro.get_param_store().scope():
        pyro.param("p", double([0.9, 0.2]), constraint=dist.constraints.unit_interval)
        program = Program(coins, args=(double([1.0]),))
    assert [*program.params] == ["p"]
    close(program.params["p"].detach(), double([0.9, 0.2]))
    close(program.query([]).log_evidence.exp(), double(0.55))


def test_data_is_watched_and_replaced():
    flips = double([1.0, 0.0])
    program = Program(coins, args=(flips,))
    with torch.no_grad():
        first = program.query([]).log_evidence
        flips[1] = 1.0
        second = program.query([]).log_evidence
    assert first != second
    other = program.with_arguments(double([1.0, 1.0]))
    close(other.query([]).log_evidence.detach(), second)
    assert {id(p) for p in other.parameters()} == {id(p) for p in program.parameters()}


def test_changed_data_takes_the_place_of_the_old_in_what_is_kept():
    flips = double([1.0, 0.0])
    program = Program(coins, args=(flips,))
    sizes, found = set(), []
    with torch.no_grad():
        for k in range(20):
            flips[1] = float(k % 2)
            found.append(float(program.query([]).log_evidence))
            sizes.add(len(program._cache))
    assert len(sizes) == 1
    assert found == found[:2] * 10
    assert found[0] != found[1]


# --- control flow -------------------------------------------------------------------------------


def branching():
    x = pyro.sample("x", dist.Bernoulli(double(0.3)))
    y = pyro.sample("y", dist.Categorical(double([0.2, 0.3, 0.5]))) if x else torch.tensor(0)
    pyro.sample("z", dist.Bernoulli(double([0.1, 0.5, 0.9])[y]))


@pytest.mark.parametrize(
    "read",
    [bool, int, float, lambda x: x.item(), lambda x: range(x.long()), lambda x: [1, 2][x.long()]],
    ids=["bool", "int", "float", "item", "range", "index"],
)
def test_reading_a_latent_value_is_noticed(read):
    def program():
        read(pyro.sample("x", dist.Bernoulli(double(0.3))))

    found = Program(program)
    assert "'x'" in found.obstacle
    with pytest.raises(Unsupported, match=r"control flow .* value of 'x'"):
        found.query(engine=pgnn.JunctionTree())


def test_control_flow_is_answered_by_executions():
    program = Program(branching)
    assert list(program.variables) == ["x", "y", "z"]
    posterior = program.query("x", {"z": 1}, engine=ExecutionSampling(600, seed=0, progress=False))
    on = 0.3 * (0.2 * 0.1 + 0.3 * 0.5 + 0.5 * 0.9)
    expected = on / (on + 0.7 * 0.1)
    assert posterior.kind == "estimate"
    # five standard errors: by the delta method sd(w (1[x] - p)) / E w = 0.47 for one draw
    assert abs(float(posterior["x"].probs[1]) - expected) < 5 * 0.47 / math.sqrt(600)
    assert abs(float(posterior.log_evidence.exp()) - (on + 0.07)) < 5 * 0.4 / math.sqrt(600)


def test_the_default_engine_tells_why_there_are_no_tables():
    program = Program(branching)
    posterior = program.query("x")
    assert posterior.engine == "ExecutionEnumeration"
    assert "'x'" in posterior.diagnostics["reason"]
    assert "'x'" in program.explain().reason


def test_same_seed_same_answer():
    program = Program(branching)
    engine = ExecutionSampling(50, seed=3, progress=False)
    one, other = program.query("x", engine=engine), program.query("x", engine=engine)
    assert torch.equal(one["x"].probs, other["x"].probs)
    draws = program.sample(20, {"z": [0, 1]}, engine=engine)
    assert draws.codes.shape == (20, 2, 3)
    assert draws.log_weights.shape == (20, 2)
    assert bool((draws["z"] == torch.tensor([0, 1])).all())


def test_what_tracking_misses_is_found_by_running():
    def hidden():
        x = pyro.sample("x", dist.Bernoulli(double(0.5)))
        y = double([0.1, 0.9])[
            torch.as_tensor(np.asarray(x.detach().as_subclass(torch.Tensor))).long()
        ]
        pyro.sample("y", dist.Bernoulli(y))

    found = Program(hidden)
    assert "'y'" in found.obstacle


def test_coupled_elements_of_a_plate_are_noticed():
    def rolled():
        with pyro.plate("data", 4):
            x = pyro.sample("x", dist.Categorical(double([0.3, 0.3, 0.4])))
            pyro.sample("y", dist.Bernoulli(double([0.1, 0.5, 0.9])[x.roll(1, -1)]))

    assert "'y'" in Program(rolled).obstacle

    def summed():
        with pyro.plate("data", 4):
            x = pyro.sample("x", dist.Bernoulli(double(0.3)))
        pyro.sample("total", dist.Normal(x.sum(), 1.0), obs=double(2.0))

    found = Program(summed)
    assert "'total'" in found.obstacle
    assert "plate 'data' of size 4" in found.obstacle


# --- bad input ----------------------------------------------------------------------------------


def test_a_site_twice():
    def program():
        for _ in range(2):
            pyro.sample("x", dist.Bernoulli(double(0.5)))

    with pytest.raises(ModelError, match="'x' occurs twice"):
        Program(program)


def test_a_shape_that_does_not_fit_a_plate():
    def program():
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Bernoulli(torch.full((3,), 0.5)))

    with pytest.raises(
        ModelError,
        match=r"'x' does not fit plate 'data': .* the plate has size 5, .* size 3 .*\(3,\).*\(5,\)",
    ):
        Program(program)

    def observed():
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Bernoulli(double(0.5)), obs=torch.zeros(3))

    with pytest.raises(ModelError, match=r"'x' in plate 'data' of size 5: .*\(3,\).*\(5,\)"):
        Program(observed)

    def crossed():
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Normal(double(0.0), 1.0), obs=torch.zeros(5, 1).double())

    with pytest.raises(ModelError, match=r"'x': .*\(5, 1\).*\(5,\).* broadcast to \(5, 5\)"):
        Program(crossed)

    def rows_and_columns():
        with pyro.plate("rows", 4, dim=-2), pyro.plate("columns", 3, dim=-1):
            pyro.sample("x", dist.Normal(torch.zeros(3, 4), 1.0))

    told = r"'x' does not fit plate 'columns': .* .* size 3, .* size 4 .*\(3, 4\).*\(3,\)"
    with pytest.raises(ModelError, match=told):
        Program(rows_and_columns)

    def vectors():
        with pyro.plate("data", 5):
            normal = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
            pyro.sample("x", normal, obs=torch.zeros(5, 3))

    with pytest.raises(
        ModelError, match=r"'x' in plate 'data' of size 5: .*\(5, 3\).*\(5,\).*\(2,\)"
    ):
        Program(vectors)


def test_plates_that_collide_are_named():
    def program():
        with pyro.plate("data", 5, dim=-1), pyro.plate("more", 4, dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ModelError, match='"more" and "data", collide'):
        Program(program)


def test_a_guide_whose_plate_has_another_size():
    def model():
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    def guide():
        with pyro.plate("data", 4):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(
        ModelError,
        match=r"'x' has shape \(5,\) in the model \(plate 'data' of size 5\) but \(4,\) in the "
        r"guide \(plate 'data' of size 4\)",
    ):
        Program(model, guide)


def test_a_guide_that_misses_a_site():
    part = Program(
        mixed, guide=lambda: pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    )
    with pytest.raises(ModelError, match="the guide has no site 'loc'"):
        part.query([], engine=pgnn.Variational(progress=False))

    def guide():
        a = pyro.param("a", double(0.0))
        pyro.sample("loc", dist.Normal(a, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("x", dist.Normal(a, 1.0))

    assert len([*Program(mixed, guide=guide).parameters()]) == 1

    def more(**infer):
        guide()
        pyro.sample("more", dist.Normal(double(0.0), 1.0), infer=infer)

    Program(mixed, guide=lambda: more(is_auxiliary=True))
    with pytest.raises(
        ModelError, match=r"the guide has site .more., which the model does not have"
    ):
        Program(mixed, guide=more)

    def wide():
        pyro.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", 3):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(
        ModelError, match=r"'loc' has shape \(\) in the model .* \(2,\) in the guide"
    ):
        Program(mixed, guide=wide)


def test_a_table_that_is_too_large():
    def program():
        xs = [pyro.sample(f"x_{k}", dist.Bernoulli(double(0.5))) for k in range(30)]
        pyro.sample("y", dist.Normal(sum(xs), 1.0), obs=double(3.0))

    with pytest.raises(Intractable, match=r"'y' over its 30 discrete parents 'x_0'"):
        Program(program)


def test_errors_of_the_program_name_the_site():
    def program():
        pyro.sample("x", dist.Bernoulli(double(0.5)))
        raise KeyError("oops")

    with pytest.raises(ModelError, match="after site 'x': KeyError"):
        Program(program)


def test_a_subsampled_plate_shows_all_of_its_rows():
    def program():
        with pyro.plate("data", 10, subsample_size=3):
            pyro.sample("x", dist.Bernoulli(double(0.5)))

    assert Program(program).variables["x"].shape == (10,)


def test_inputs_are_refused():
    with pytest.raises(Unsupported, match="arguments"):
        Program(branching).factors(None, {"u": torch.zeros(3)})


# --- beside other ways to the same number -------------------------------------------------------


def test_a_loop_is_a_hidden_markov_model():
    rng = np.random.default_rng(0)
    initial, transition = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), size=4)
    emission = rng.dirichlet(np.ones(3), size=4)
    data = torch.from_numpy(rng.integers(3, size=200))
    tables = [torch.from_numpy(x) for x in (initial, transition, emission)]

    def loop():
        x = None
        for t in range(len(data)):
            x = pyro.sample(f"x_{t}", dist.Categorical(tables[0] if x is None else tables[1][x]))
            pyro.sample(f"y_{t}", dist.Categorical(tables[2][x]), obs=data[t])

    posterior = Program(loop).query()
    model = pgnn.HiddenMarkovModel(4, {"symbol": emission}, initial, transition)
    smoothed = model.smooth({"symbol": data})
    close(posterior.log_evidence, smoothed.log_evidence)
    close(torch.stack([posterior[f"x_{t}"].probs for t in range(200)]), smoothed["state"].probs)
    best, path = Program(loop).most_probable(), model.decode({"symbol": data})
    close(best.log_prob, path.log_prob)


def tree(data):
    root = pyro.sample("root", dist.Categorical(double([0.2, 0.3, 0.5])))
    table = double([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    left = pyro.sample("left", dist.Categorical(table[root]))
    with pyro.plate("data", len(data)):
        leaf = pyro.sample("leaf", dist.Categorical(table[root]))
        score = double([-1.0, 0.0, 1.0])
        pyro.sample("x", dist.Normal(score[leaf] + 0.1 * score[left], 1.0), obs=data)


def two_plates(data):
    a = pyro.sample("a", dist.Bernoulli(double(0.3)))
    with pyro.plate("rows", data.shape[0], dim=-2):
        b = pyro.sample("b", dist.Bernoulli(double([0.2, 0.9])[a.long()]))
    with pyro.plate("columns", data.shape[1], dim=-1):
        c = pyro.sample("c", dist.Bernoulli(double([0.4, 0.7])[a.long()]))
    del c
    with (
        pyro.plate("rows_again", data.shape[0], dim=-2),
        pyro.plate("cells", data.shape[1], dim=-1),
    ):
        pyro.sample("x", dist.Normal(a, 1.0), obs=data)
    del b


@pytest.mark.parametrize(
    ("program", "data"),
    [(tree, double([0.3, -2.0, 1.0, 0.5])), (two_plates, double([[0.3, 1.0], [0.1, -1.0]]))],
)
def test_pyros_enumeration_gives_the_same_log_evidence(program, data):
    found = Program(program, args=(data,))
    close(found.query().log_evidence, enumerated_log_evidence(found.program()))


def test_rows_of_evidence_teach_a_program():
    def coin():
        p = pyro.param("p", double([0.5, 0.5]), constraint=dist.constraints.simplex)
        q = pyro.param("q", double([[0.5, 0.5], [0.4, 0.6]]), constraint=dist.constraints.simplex)
        x = pyro.sample("x", dist.Categorical(p))
        pyro.sample("y", dist.Categorical(q[x]))

    rows = {"x": torch.tensor([0, 0, 0, 1]), "y": torch.tensor([0, 0, 1, 1])}
    program = Program(coin).fit(rows, progress=False)
    close(program.query("x")["x"].probs.detach(), double([0.75, 0.25]), 1e-3)
    close(program.query("y", {"x": 0})["y"].probs.detach(), double([2 / 3, 1 / 3]), 1e-3)


def test_nothing_grows():
    program = Program(coins, args=(double([1.0, 0.0]),))

    def use():
        for _ in range(5):
            program.query([]).log_evidence.backward()
            with torch.no_grad():
                for p in program.parameters():
                    p.add_(0.01)
            program.execute({}, 0)
        gc.collect()
        tensors = [x for x in gc.get_objects() if type(x) in (torch.Tensor, nn.Parameter)]
        # where torch notes calls until a GPU is used
        return len(tensors), len(torch.cuda._queued_calls)

    use()
    once = use()
    assert use() == once


def test_evidence_on_arrays_and_elements_in_tables():
    program = Program(nested, args=((2, 3), double([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])))
    codes = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]])
    factors = program.factors({"b": codes, "a": torch.tensor([[0, 1], [1, 0]])})
    assert all(f.variables == () for f in factors)
    total = sum(f.log_values for f in factors)
    close(total, program.log_prob({"a": torch.tensor([[0, 1], [1, 0]]), "b": codes}))
    groups = program.factor_groups({"b": codes})
    assert {g.arity for g in groups} == {0, 1}


def test_copies_have_parameters_of_their_own():
    model = ZOO["learnable"].make()
    program = Program(model.program())
    for copied in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        close(copied.query("c")["c"].probs.detach(), double([0.5, 0.5]))
        with torch.no_grad():
            for p in copied.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
        assert not torch.allclose(copied.query("c")["c"].probs.detach(), double([0.5, 0.5]))
        close(program.query("c")["c"].probs.detach(), double([0.5, 0.5]))
    learnt = Program(coins, args=(double([1.0, 0.0]),))
    other = copy.deepcopy(learnt)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert learnt.query([]).log_evidence != other.query([]).log_evidence


@pytest.mark.parametrize(
    "engine",
    [
        pgnn.BeliefPropagation(),
        pgnn.Gibbs(seed=0, progress=False),
        pgnn.ImportanceSampling(20_000, seed=0, progress=False),
        ExecutionSampling(500, seed=0, progress=False),
    ],
    ids=lambda e: type(e).__name__,
)
def test_other_engines_answer_too(engine):
    program = Program(ZOO["sprinkler"].make().program())
    exact = program.query("rain", {"wet": "yes"})["rain"].probs
    found = program.query("rain", {"wet": "yes"}, engine=engine)["rain"].probs
    # five standard errors of the fewest draws, which are worth at least half
    assert (found - exact).abs().max() < 5 * 0.5 / math.sqrt(250)


def test_a_compiled_query_of_a_program():
    program = Program(ZOO["sprinkler"].make().program())
    asked = program.compile("rain", ["wet"])
    found = asked(torch.tensor([[0], [1]], dtype=torch.int32))
    assert found is not None
