"""What masks, scales, supports, NaN and ``to_event`` mean: numbers equal to Pyro's own."""

import itertools
import math
import warnings

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate

import pgnn
from pgnn import MCMC, Program, Variational
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError, Unsupported


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def enumerated(program, guide=lambda: None, plates=1):
    """Log evidence by Pyro's own enumeration."""
    with (
        torch.random.fork_rng(devices=[]),
        pyro.get_param_store().scope(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        model = config_enumerate(program, default="parallel")
        return -TraceEnum_ELBO(max_plate_nesting=plates).loss(model, guide)


# --- masked latents -------------------------------------------------------------------------------


def masked_parent():
    with poutine.mask(mask=torch.tensor(False)):
        z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
    table = double([[0.9, 0.1], [0.3, 0.7]])
    pyro.sample("x", dist.Categorical(table[z]), obs=torch.tensor(0))


def padded_at_the_start():
    with pyro.plate("rows", 2):
        z = torch.tensor(0)
        for k in range(3):
            there = torch.tensor([True, k > 0])
            with poutine.mask(mask=there):
                table = double([[0.7, 0.3], [0.4, 0.6]])
                z = pyro.sample(f"z_{k}", dist.Categorical(table[z]))
                means = double([-1.0, 1.0])[z]
                pyro.sample(f"x_{k}", dist.Normal(means, 1.0), obs=double([0.3, 0.8]))


CAPTURED = torch.tensor(
    [[1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]], dtype=torch.float64
)


def captured_and_recaptured(phi=0.7, rho=0.4):
    """Cormack, Jolly and Seber: animals are masked before their first capture."""
    with pyro.plate("animals", len(CAPTURED), dim=-1):
        z = torch.ones(len(CAPTURED)).double()
        observed = torch.zeros(len(CAPTURED)).bool()
        for t in pyro.markov(range(CAPTURED.shape[1])):
            with poutine.mask(mask=observed):
                alive = observed.double() * phi * z + (1 - observed.double())
                z = pyro.sample(f"z_{t}", dist.Bernoulli(alive))
                pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=CAPTURED[:, t])
            observed = observed | CAPTURED[:, t].bool()


def by_hand(phi=0.7, rho=0.4):
    """The same, animal by animal, from the first capture to the last and on."""
    total = 0.0
    for row in CAPTURED.tolist():
        first, last = row.index(1.0), len(row) - 1 - row[::-1].index(1.0)
        p = math.prod(phi * (rho if row[t] else 1 - rho) for t in range(first + 1, last + 1))
        never = 1.0
        for _ in range(len(row) - 1 - last):
            never = 1 - phi + phi * (1 - rho) * never
        total += math.log(p * never)
    return total


@pytest.mark.parametrize(
    "program",
    [masked_parent, padded_at_the_start, captured_and_recaptured],
    ids=lambda f: f.__name__,
)
def test_masked_latents_keep_their_distribution(program):
    found = float(Program(program).query([]).log_evidence)
    assert found == pytest.approx(enumerated(program), abs=1e-9)


def test_masked_latents_by_hand():
    assert float(Program(masked_parent).query([]).log_evidence) == pytest.approx(math.log(0.42))
    assert float(Program(captured_and_recaptured).query([]).log_evidence) == pytest.approx(
        by_hand()
    )
    found = Program(masked_parent).query("z")["z"].probs
    torch.testing.assert_close(found, double([0.18, 0.24]) / 0.42)


def halfway():
    mu = pyro.sample("mu", dist.Normal(double(0.0), 10.0))
    with pyro.plate("rows", 5):
        pyro.sample(
            "y",
            dist.Normal(mu, 1.0),
            obs=double([1.0, 2.0, 0.0, 0.0, 10.0]),
            obs_mask=torch.tensor([True, True, False, False, True]),
        )


def halfway_log_evidence():
    cov = 100.0 * torch.ones(3, 3).double() + torch.eye(3).double()
    return float(
        dist.MultivariateNormal(torch.zeros(3).double(), cov).log_prob(double([1, 2, 10.0]))
    )


def test_real_values_observed_in_part_of_a_plate_by_chains():
    found = Program(halfway).query("mu", engine=MCMC(seed=0, progress=False, samples=500))
    assert float(found["mu"].std) == pytest.approx((3 + 0.01) ** -0.5, rel=0.15)  # 0.576
    assert float(found["mu"].mean) == pytest.approx(13 / 3.01, abs=0.1)
    assert found.diagnostics["gradients"] < 20 * 1000


def test_real_values_observed_in_part_of_a_plate_by_a_guide():
    engine = Variational(
        guide=pgnn.FullRankNormal(),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.1), seed=0, progress=False,
        objective=pgnn.Elbo(10, path_only=True),
    )  # fmt: skip
    found = Program(halfway).query("mu", engine=engine)
    truth = halfway_log_evidence()
    assert truth - 0.3 < float(found.log_evidence) < truth + 0.05


def test_masked_sites_of_guides_keep_their_density():
    def model():
        x = pyro.sample("x", dist.Normal(double(0.0), 1.0))
        with pyro.plate("rows", 2), poutine.mask(mask=torch.tensor([True, False])):
            y = pyro.sample("y", dist.Normal(x, 1.0))
            pyro.sample("z", dist.Normal(y, 1.0), obs=double([0.5, 9.0]))

    def guide():
        pyro.sample("x", dist.Normal(double(0.1), 0.8))
        with pyro.plate("rows", 2), poutine.mask(mask=torch.tensor([True, False])):
            pyro.sample("y", dist.Normal(double([0.3, 0.0]), 0.9))

    found = Program(model, guide).query(
        [], engine=Variational(max_iterations=0, seed=0, num_samples=20_000, progress=False)
    )
    truth = float(dist.Normal(double(0.0), 3**0.5).log_prob(double(0.5)))
    assert float(found.diagnostics["importance_weighted"]) == pytest.approx(truth, abs=0.05)
    assert float(found.log_evidence) < truth


# --- scales ---------------------------------------------------------------------------------------


def mixture(scale=0.25, data=(0.3, -1.2, 2.2, 0.9)):
    def program():
        with poutine.scale(scale=scale), pyro.plate("rows", len(data)):
            z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
            loc, sd = double([-1.0, 1.0])[z], double([1.0, 0.5])[z]
            pyro.sample("x", dist.Normal(loc, sd), obs=double(data))

    return program


def given_rows():
    with pyro.plate("rows", 4, subsample=torch.tensor([1, 3])) as rows:
        z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
        pyro.sample("x", dist.Normal(z.double(), 1.0), obs=double([0.3, -1.0, 2.0, 0.5])[rows])


def a_batch_alone():
    with pyro.plate("rows", 8, subsample_size=4):
        z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
        pyro.sample("x", dist.Normal(z.double(), 1.0), obs=double([0.3, -1.0, 2.0, 0.5]))


@pytest.mark.parametrize(
    "program", [mixture(), mixture(3.0), given_rows, a_batch_alone, mixture(1.0)]
)
def test_one_scale_multiplies_the_log_evidence(program):
    model = Program(program)
    expected = enumerated(program)
    assert float(model.query([]).log_evidence) == pytest.approx(expected, abs=1e-9)
    assert float(model.log_prob({})) == pytest.approx(expected, abs=1e-9)


def test_one_scale_by_hand_and_marginals_without_it():
    found, whole = Program(mixture()).query("z"), Program(mixture(1.0)).query("z")
    assert float(found.log_evidence) == pytest.approx(-1.901745, abs=1e-6)
    torch.testing.assert_close(found["z"].probs, whole["z"].probs)


def test_scales_beside_unknown_reals():
    def program():
        loc = pyro.sample("loc", dist.Normal(double(0.0), 1.0))
        with poutine.scale(scale=0.5), pyro.plate("rows", 2):
            z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
            pyro.sample("x", dist.Normal(loc + z.double(), 1.0), obs=double([0.3, 1.0]))

    loc = double(0.7)
    parts = dist.Normal(loc + double([0.0, 1.0]), 1.0).log_prob(double([[0.3], [1.0]]))
    own = (parts + double([0.2, 0.8]).log()).logsumexp(1).sum()
    expected = dist.Normal(double(0.0), 1.0).log_prob(loc) + 0.5 * own
    found = Program(program).query(
        "loc", engine=Variational(guide=pgnn.Delta(), max_iterations=0, seed=0, progress=False)
    )
    at = float(found["loc"].mean)
    assert at == 0.0
    torch.testing.assert_close(Program(program).log_density({"loc": loc[None]})[0], expected)


def test_scales_that_differ_are_refused():
    def program():
        z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
        with poutine.scale(scale=2.0):
            y = pyro.sample("y", dist.Categorical(double([[0.2, 0.8], [0.5, 0.5]])[z]))
        pyro.sample("x", dist.Normal(y.double(), 1.0), obs=double(0.3))

    with pytest.raises(Unsupported, match=r"site 'y' .* has scale 2"):
        Program(program)

    def by_cell():
        with pyro.plate("rows", 2), poutine.scale(scale=double([1.0, 2.0])):
            pyro.sample("z", dist.Categorical(double([0.2, 0.8])))

    with pytest.raises(Unsupported, match=r"'z' is .* scale differs between cells"):
        Program(by_cell)


# --- NaN and impossible values --------------------------------------------------------------------


def observing(value, **how):
    def program():
        mu = pyro.sample("mu", dist.Normal(double(0.0), 1.0))
        with pyro.plate("rows", 3):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=double(value), **how)

    return program


def test_observations_that_are_nan_are_named():
    with pytest.raises(ModelError, match=r"site 'y' is observed as NaN at \[1\]"):
        Program(observing([1.0, math.nan, 2.0]))
    with pytest.raises(ModelError, match=r"site 'y' is observed as NaN;"):
        Program(lambda: pyro.sample("y", dist.Normal(double(0.0), 1.0), obs=double(math.nan)))


def test_masked_observations_may_be_nan():
    def program(value):
        def run():
            mu = pyro.sample("mu", dist.Normal(double(0.0), 1.0))
            with pyro.plate("rows", 3), poutine.mask(mask=torch.tensor([True, False, True])):
                pyro.sample("y", dist.Normal(mu, 1.0), obs=double(value))

        return Program(run)

    mu = double([0.4]).requires_grad_()
    found = program([1.0, math.nan, 2.0]).log_density({"mu": mu})
    expected = program([1.0, 0.0, 2.0]).log_density({"mu": mu})
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found.sum(), mu)[0].isfinite().all()


@pytest.mark.parametrize(
    ("fn", "value", "inside"),
    [
        (dist.Exponential(double(1.0)), -3.0, 1.0),
        (dist.Poisson(double(1.0)), 1.5, 1.0),
        (dist.Beta(double(2.0), double(2.0)), 3.0, 0.5),
        (dist.Bernoulli(logits=double(0.3)), 0.5, 1.0),
    ],
)
def test_values_outside_of_a_support_are_impossible(fn, value, inside):
    observed = Program(lambda: pyro.sample("x", fn, obs=double(value)))
    assert float(observed.log_prob({})) == -math.inf
    with pytest.raises(ImpossibleEvidence):
        observed.query([])
    if fn.has_enumerate_support:
        return
    latent = Program(lambda: pyro.sample("x", fn))
    assert latent.log_prob({"x": [value, inside]}).isneginf().tolist() == [True, False]
    with pytest.raises(ImpossibleEvidence):
        latent.query([], {"x": value})


# --- elements that to_event makes one -------------------------------------------------------------


BITS = double([0.2, 0.5, 0.6])


def vector():
    b = pyro.sample("b", dist.Bernoulli(BITS).to_event(1))
    pyro.sample("y", dist.Normal(b.sum(-1), 1.0), obs=double(2.2))


def vectors_in_a_plate():
    with pyro.plate("rows", 2):
        b = pyro.sample("b", dist.Bernoulli(BITS).to_event(1))
        pyro.sample("y", dist.Normal(b.sum(-1), 1.0), obs=double([2.2, 0.1]))


def test_elements_made_one_are_an_array():
    model = Program(vector)
    assert (model.variables["b"].shape, model.variables["b"].num_states) == ((3,), 2)
    joint = {}
    for bits in itertools.product([0, 1], repeat=3):
        p = math.prod(q if k else 1 - q for q, k in zip(BITS.tolist(), bits, strict=True))
        joint[bits] = p * math.exp(float(dist.Normal(float(sum(bits)), 1.0).log_prob(double(2.2))))
    total = sum(joint.values())
    found = model.query()
    assert float(found.log_evidence) == pytest.approx(math.log(total), abs=1e-9)
    for k in range(3):
        one = sum(p for bits, p in joint.items() if bits[k]) / total
        assert float(found["b"].probs[k, 1]) == pytest.approx(one, abs=1e-9)
    observed = model.query([], {("b", 1): 1}).log_evidence
    expected = sum(p for bits, p in joint.items() if bits[1])
    assert float(observed) == pytest.approx(math.log(expected), abs=1e-9)
    whole = model.query([], {"b": [1, 0, 1]}).log_evidence
    assert float(whole) == pytest.approx(math.log(joint[1, 0, 1]), abs=1e-9)
    assert model.sample(7, seed=0)["b"].shape == (7, 3)
    best = model.most_probable()["b"]
    assert tuple(int(x) for x in best) == max(joint, key=joint.get)


def test_elements_made_one_in_a_plate():
    model = Program(vectors_in_a_plate)
    assert model.variables["b"].shape == (2, 3)
    found = model.query()
    assert found["b"].probs.shape == (2, 3, 2)
    alone = Program(vector).query()
    torch.testing.assert_close(found["b"].probs[0], alone["b"].probs)
    held = {"b": torch.tensor([[1, -1, 0], [-1, -1, -1]])}
    done = model.execute(held, 0)
    assert done.values["b"][0, [0, 2]].tolist() == [1, 0]
    own = math.log(0.2) + math.log(0.4)
    rest = dist.Normal(done.values["b"].double().sum(-1), 1.0).log_prob(double([2.2, 0.1])).sum()
    assert float(done.log_weight) == pytest.approx(own + float(rest), abs=1e-9)


# --- evidence about some cells of a plate ---------------------------------------------------------


def plate_of_reals():
    z = pyro.sample("z", dist.Categorical(double([0.2, 0.8])))
    with pyro.plate("rows", 3):
        pyro.sample("y", dist.Normal(double([-1.0, 1.0])[z], 1.0))


def test_cells_that_were_not_observed_integrate_to_one():
    model = Program(plate_of_reals)
    parts = dist.Normal(double([-1.0, 1.0]), 1.0).log_prob(double([[1.0], [2.0]])).sum(0)
    expected = (parts + double([0.2, 0.8]).log()).logsumexp(0)
    forms = (
        {"y": [1.0, None, 2.0]},
        {"y": double([1.0, math.nan, 2.0])},
        {("y", 0): 1.0, ("y", 2): 2.0},
    )
    for observed in forms:
        found = model.query("z", observed)
        torch.testing.assert_close(found.log_evidence, expected)
    batch = model.query("z", {"y": [[1.0, None, 2.0], [None, None, None]]}).log_evidence
    torch.testing.assert_close(batch, torch.stack([expected, double(0.0)]))
    rows = model.query("z", {("y", 0): [1.0, None], ("y", 2): [2.0, 0.0]}).log_evidence
    torch.testing.assert_close(rows[0], expected)
    drawn = model.sample(5, {"y": [1.0, None, 2.0]}, seed=0)["y"]
    assert drawn[:, [0, 2]].tolist() == [[1.0, 2.0]] * 5
    assert len(set(drawn[:, 1].tolist())) == 5


def test_cells_and_the_whole_are_not_mixed():
    with pytest.raises(EvidenceError, match="given as a whole"):
        Program(plate_of_reals).query("z", {"y": [1.0, 2.0, 3.0], ("y", 0): 1.0})
    with pytest.raises(EvidenceError, match="unknown variable"):
        Program(plate_of_reals).query("z", {("y", 3): 1.0})


def test_cells_on_which_others_depend_must_be_observed():
    def program():
        with pyro.plate("rows", 2):
            x = pyro.sample("x", dist.Normal(double(0.0), 1.0))
            pyro.sample("y", dist.Normal(x, 1.0), obs=double([0.5, 0.1]))

    model, observed = Program(program), {"x": [1.0, None]}
    with pytest.raises(Unsupported, match="'x' is real and partially observed"):
        model.query([], observed, engine=pgnn.MCMC())
    answer = model.query([], observed, engine=pgnn.ExecutionSampling(seed=0))
    known = dist.Normal(double(0.0), 1.0).log_prob(double(1.0))
    known = known + dist.Normal(double(1.0), 1.0).log_prob(double(0.5))
    expected = known + dist.Normal(double(0.0), 2**0.5).log_prob(double(0.1))
    error = float(answer.diagnostics["log_evidence_standard_error"])
    assert abs(float(answer.log_evidence - expected)) < 4 * error < 0.1


def test_a_frame_as_long_as_a_plate_is_ambiguous():
    model, frame = Program(plate_of_reals), pd.DataFrame({"y": [1.0, 2.0, 3.0]})
    with pytest.raises(EvidenceError, match=r"cells of the array\? Write cells as .*to_numpy"):
        model.query("z", frame)
    expected = model.query("z", {"y": [1.0, 2.0, 3.0]}).log_evidence
    torch.testing.assert_close(
        model.query("z", {"y": frame["y"].to_numpy()}).log_evidence, expected
    )
    rows = pd.DataFrame({"y": [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]})
    torch.testing.assert_close(model.query("z", rows).log_evidence, expected.expand(2))
