"""What Pyro programs are written with: numbers equal to Pyro's own, or a refusal with names."""

import contextlib
import warnings

import pyro
import pyro.contrib.autoname
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroParam, PyroSample
from pyro.ops.indexing import Vindex
from torch import nn

from pgnn import ExecutionSampling, Program
from pgnn.errors import Unsupported


def double(x):
    return torch.tensor(x, dtype=torch.float64)


PRIOR = double([0.2, 0.3, 0.5])
TABLE = double([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
DATA = double([0.3, -1.0, 2.0, 0.5])


def observed(x, value=1.5):
    pyro.sample("y", dist.Normal(x.double(), 1.0), obs=double(value))


def local():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    pyro.sample("y", dist.Normal(x.double(), 1.0), obs=DATA)


def factor():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    observed(x)
    pyro.factor("f", -(x.double() ** 2))


def factor_in_a_plate():
    with pyro.plate("data", 4):
        x = pyro.sample("x", dist.Categorical(PRIOR))
        pyro.factor("f", -x.double() * DATA)


def deterministic():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    row = pyro.deterministic("row", TABLE[x], event_dim=1)
    pyro.sample("z", dist.Categorical(row), obs=torch.tensor(1))


def delta_with_density():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    d = pyro.sample("d", dist.Delta(2.0 * x.double(), log_density=-x.double()))
    observed(d)


def delta_with_constant_density():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    observed(pyro.sample("d", dist.Delta(x.double(), log_density=double(-1.0))))


def unit():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    pyro.sample("u", dist.Unit(x.double()))
    observed(x)


def parameter():
    p = pyro.param("p", double([0.5, 0.2, 0.3]), constraint=dist.constraints.simplex)
    observed(pyro.sample("x", dist.Categorical(p)))


NET = nn.Linear(3, 3).double()


def module():
    net = pyro.module("net", NET)
    x = pyro.sample("x", dist.Categorical(PRIOR))
    logits = net(torch.eye(3, dtype=torch.float64)[x])
    pyro.sample("z", dist.Categorical(logits=logits), obs=torch.tensor(2))


class Sampling(PyroModule):
    def __init__(self):
        super().__init__()
        self.p = PyroParam(double([0.5, 0.2, 0.3]), constraint=dist.constraints.simplex)
        self.x = PyroSample(lambda self: dist.Categorical(self.p))

    def forward(self):
        observed(self.x)
        pyro.sample("w", dist.Normal(self.x.double(), 2.0), obs=double(0.5))


class Parts(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 2).double()
        self.x = PyroSample(dist.Categorical(PRIOR))

    def forward(self):
        logits = self.linear(torch.eye(3, dtype=torch.float64)[self.x])
        pyro.sample("z", dist.Categorical(logits=logits), obs=torch.tensor(1))


def nested_plates():
    a = pyro.sample("a", dist.Categorical(PRIOR))
    with pyro.plate("outer", 3, dim=-2):
        b = pyro.sample("b", dist.Categorical(TABLE[a]))
        with pyro.plate("inner", 4, dim=-1):
            c = pyro.sample("c", dist.Categorical(TABLE[b]))
            pyro.sample("y", dist.Normal(c.double(), 1.0), obs=DATA)


def stacked_plates():
    with pyro.plate_stack("stack", [2, 4]):
        local()


def plate_as_a_loop():
    a = pyro.sample("a", dist.Categorical(PRIOR))
    for k in pyro.plate("loop", 4):
        b = pyro.sample(f"b_{k}", dist.Categorical(TABLE[a]))
        pyro.sample(f"y_{k}", dist.Normal(b.double(), 1.0), obs=DATA[k])


def whole_subsample():
    with pyro.plate("data", 4, subsample_size=4) as rows:
        x = pyro.sample("x", dist.Categorical(PRIOR))
        pyro.sample("y", dist.Normal(x.double(), 1.0), obs=DATA[rows])


def subsample_of_a_whole_plate():
    with pyro.plate("data", 4):
        own = pyro.subsample(DATA, event_dim=0)
        x = pyro.sample("x", dist.Categorical(PRIOR))
        pyro.sample("y", dist.Normal(x.double(), 1.0), obs=own)


def event_dimensions():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    mean = x.double().unsqueeze(-1).expand((*x.shape, 4))
    pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=DATA)


MASK = torch.tensor([True, False, True, True])


def masked():
    with pyro.plate("data", 4), poutine.mask(mask=MASK):
        local()


def masked_likelihood():
    with pyro.plate("data", 4):
        x = pyro.sample("x", dist.Categorical(PRIOR))
        pyro.sample("y", dist.Normal(x.double(), 1.0).mask(MASK), obs=DATA)


def masked_latent():
    with pyro.plate("data", 4):
        x = pyro.sample("x", dist.Categorical(PRIOR).mask(MASK))
        pyro.sample("y", dist.Normal(x.double(), 1.0), obs=DATA)


def markov():
    x = 0
    for t in pyro.markov(range(6)):
        x = pyro.sample(f"x_{t}", dist.Categorical(TABLE[x]))
        pyro.sample(f"y_{t}", dist.Normal(x.double(), 1.0), obs=DATA[t % 4])


def markov_of_second_order():
    x = y = torch.tensor(0)
    table = torch.stack([TABLE, TABLE.roll(1, 0), TABLE.roll(1, 1)])
    for t in pyro.markov(range(5), history=2):
        x, y = y, pyro.sample(f"x_{t}", dist.Categorical(Vindex(table)[x, y]))
        pyro.sample(f"y_{t}", dist.Normal(y.double(), 1.0), obs=DATA[t % 4])


def annotated():
    x = pyro.sample("x", dist.Categorical(PRIOR), infer={"enumerate": "parallel"})
    z = pyro.sample("z", dist.Categorical(TABLE[x]), infer={"enumerate": "parallel"})
    observed(z)


def annotated_expand():
    with pyro.plate("data", 4):
        how = {"enumerate": "parallel", "expand": True}
        x = pyro.sample("x", dist.Categorical(PRIOR), infer=how)
        pyro.sample("y", dist.Normal(x.double(), 1.0), obs=DATA)


def indexed():
    with pyro.plate("data", 4):
        x = pyro.sample("x", dist.Categorical(PRIOR))
        z = pyro.sample("z", dist.Categorical(Vindex(TABLE)[x]))
        pyro.sample("y", dist.Normal(Vindex(TABLE)[x, z], 1.0), obs=DATA)


def mixed_in_the_likelihood():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    parts = dist.Normal(double([0.0, 1.0, 2.0]), 1.0)
    pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(TABLE[x]), parts), obs=double(0.4))


def hidden_markov_in_one_site():
    normal = dist.Normal(double([0.0, 1.0, 2.0]), 1.0)
    pyro.sample("y", dist.DiscreteHMM(PRIOR.log(), TABLE.log(), normal), obs=DATA)


def three():
    x = pyro.sample("x", dist.Categorical(PRIOR))
    z = pyro.sample("z", dist.Categorical(TABLE[x]))
    pyro.sample("w", dist.Categorical(TABLE[z]))


GIVEN = {"w": torch.tensor(1)}
CONDITIONED = poutine.condition(three, GIVEN)


def a_trace_inside():
    return poutine.trace(CONDITIONED).get_trace()


PROGRAMS = {
    "Sampling": Sampling(),
    "Parts": Parts(),
    "condition": CONDITIONED,
    "do": poutine.condition(poutine.do(three, {"z": torch.tensor(1)}), GIVEN),
    "do of a condition": poutine.do(CONDITIONED, {"z": torch.tensor(0)}),
    "config_enumerate": config_enumerate(CONDITIONED, default="parallel"),
    "scope": pyro.contrib.autoname.scope(CONDITIONED, prefix="inner"),
    "uncondition": poutine.uncondition(CONDITIONED),
    "seed": poutine.seed(CONDITIONED, rng_seed=0),
    **{
        f.__name__: f
        for f in (
            factor,
            factor_in_a_plate,
            deterministic,
            delta_with_density,
            delta_with_constant_density,
            unit,
            parameter,
            module,
            nested_plates,
            stacked_plates,
            plate_as_a_loop,
            whole_subsample,
            subsample_of_a_whole_plate,
            event_dimensions,
            masked,
            masked_likelihood,
            masked_latent,
            markov,
            markov_of_second_order,
            annotated,
            annotated_expand,
            indexed,
            mixed_in_the_likelihood,
            hidden_markov_in_one_site,
            a_trace_inside,
        )
    },
}


@contextlib.contextmanager
def quiet():
    """Pyro warns of sites that the empty guide has not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(autouse=True)
def nothing_global():
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())
    assert not [*pyro.get_param_store().keys()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_log_evidence_is_that_of_pyros_enumeration(name):
    model = PROGRAMS[name]
    program = Program(model)
    assert program.obstacle is None
    found = program.query([]).log_evidence
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope(), quiet():
        enumerated = config_enumerate(lambda: model(), default="parallel")
        loss = TraceEnum_ELBO(max_plate_nesting=2).loss(enumerated, lambda: None)
    assert abs(float(found.detach()) + loss) < 1e-9


# a latent site that is masked keeps its distribution, as in Pyro's enumeration
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "masked"])
def test_executions_score_as_pyros_traces_do(name):
    model = PROGRAMS[name]
    program = Program(model)
    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        trace = poutine.trace(model).get_trace()
        expected = trace.log_prob_sum()
    held = {}
    for site, node in trace.nodes.items():
        if site in program.variables:
            # every latent site here is Categorical, so values are state indices
            held[site] = node["value"].reshape(program.variables[site].shape)
    done = program.execute(held, 0)
    torch.testing.assert_close(done.log_weight, expected.detach().double())


def test_too_many_elements_made_one_are_refused():
    def program():
        b = pyro.sample("b", dist.Bernoulli(torch.full((40,), 0.5)).to_event(1))
        pyro.sample("y", dist.Normal(b.sum(-1), 1.0), obs=torch.tensor(0.4))

    with pytest.raises(Unsupported, match=r"'b' has 2 \*\* 40 joint states, .* in a plate"):
        Program(program)


def test_values_observed_in_part_of_a_plate():
    def program():
        with pyro.plate("data", 4):
            x = pyro.sample("x", dist.Categorical(PRIOR))
            pyro.sample("y", dist.Normal(x.double(), 1.0), obs=DATA, obs_mask=MASK)

    joint = PRIOR.log() + dist.Normal(double([0.0, 1.0, 2.0]), 1.0).log_prob(DATA[:, None])
    expected = joint.logsumexp(-1)[MASK].sum()
    torch.testing.assert_close(Program(program).query([]).log_evidence, expected)


def test_lifted_parameters_and_other_reparameterisations():
    def coin():
        p = pyro.param("p", double(0.3))
        observed(pyro.sample("x", dist.Bernoulli(p)))

    lifted = Program(lambda: poutine.lift(coin, prior={"p": dist.Beta(double(2), double(3))})())
    p = double([0.2, 0.7])
    both = torch.stack([1 - p, p], -1).log() + dist.Normal(double([0.0, 1.0]), 1.0).log_prob(
        double(1.5)
    )
    expected = dist.Beta(double(2), double(3)).log_prob(p) + both.logsumexp(-1)
    torch.testing.assert_close(lifted.log_density({"p": p}), expected)

    def normal():
        pyro.sample("x", dist.Normal(double(1.0), double(2.0)))

    moved = Program(lambda: poutine.reparam(normal, {"x": LocScaleReparam(0.0)})())
    found = moved.log_density({"x_decentered": p})
    torch.testing.assert_close(found, dist.Normal(double(0.0), double(1.0)).log_prob(p))


# --- what is refused, and where -----------------------------------------------------------------


def test_scaled_observations_are_powers_of_their_likelihood():
    def program():
        x = pyro.sample("x", dist.Categorical(PRIOR))
        with pyro.plate("data", 4, subsample=torch.tensor([1, 3])) as rows:
            pyro.sample("y", dist.Normal(x.double(), 1.0), obs=DATA[rows])

    found = Program(program).query([]).log_evidence
    likelihood = dist.Normal(double([0.0, 1.0, 2.0]), 1.0).log_prob(DATA[[1, 3], None])
    expected = (PRIOR.log() + 2.0 * likelihood.sum(0)).logsumexp(-1)
    torch.testing.assert_close(found, expected)


def test_scaled_reals_cannot_be_drawn():
    def program():
        with poutine.scale(scale=3.0):
            x = pyro.sample("x", dist.Normal(double(0.0), double(1.0)))
        observed(x)

    found = Program(program)
    with pytest.raises(Unsupported, match="'x' is latent and scaled"):
        found.query([], engine=ExecutionSampling(10, seed=0, progress=False))
    x = double([0.4, -1.0])
    normal = dist.Normal(double(0.0), double(1.0))
    expected = 3.0 * normal.log_prob(x) + normal.log_prob(1.5 - x)
    torch.testing.assert_close(found.log_density({"x": x}), expected)


def test_hidden_sites_are_noticed():
    found = Program(poutine.block(three, hide=["z"]))
    assert "'w'" in found.obstacle
