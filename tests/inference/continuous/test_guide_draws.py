"""Batches of rows of a program's plates: right on average, and as Pyro counts them."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import nn

from pgnn import Elbo, ModelError, Program, Unsupported, Variational
from pgnn.inference.continuous.densities import SummedDensity
from pgnn.inference.continuous.guide_draws import PlateBatches
from pgnn.inference.continuous.model_and_guide import ModelAndGuide, by_row, make_generator
from pgnn.inference.model_reader import reader_of


def double(x):
    return torch.tensor(x, dtype=torch.float64)


ROWS, BATCH = 6, 2
DATA = double([1.5, -0.3, 2.2, 0.8, 3.1, 1.0])
TIMES = DATA.outer(double([1.0, 0.5, -1.0]))
THERE = torch.tensor([True, True, False, True, False, True])
ONE = double(1.0)


def normal_mean(size=BATCH):
    mean = pyro.sample("mean", dist.Normal(double(0.0), 3.0 * ONE))
    with pyro.plate("rows", ROWS, subsample_size=size) as rows:
        pyro.sample("y", dist.Normal(mean, ONE), obs=DATA[rows])


def with_local_reals(size=BATCH):
    mean = pyro.sample("mean", dist.Normal(double(0.0), 3.0 * ONE))
    with pyro.plate("rows", ROWS, subsample_size=size):
        own = pyro.sample("own", dist.Normal(mean, ONE))
        data = pyro.subsample(DATA, event_dim=0)
        pyro.sample("y", dist.Normal(own, 0.5 * ONE), obs=data)


def mixture(size=BATCH):
    means = pyro.sample("means", dist.Normal(torch.zeros(2).double(), 3.0 * ONE).to_event(1))
    with pyro.plate("rows", ROWS, subsample_size=size) as rows:
        scale = pyro.sample("scale", dist.Gamma(2.0 * ONE, ONE))
        z = pyro.sample("z", dist.Categorical(double([0.2, 0.5, 0.3])))
        w = pyro.sample("w", dist.Bernoulli(double([0.1, 0.6, 0.9])[z]))
        pyro.sample("y", dist.Normal(means[w.long()], scale), obs=DATA[rows])


def two_plates(size=BATCH):
    mean = pyro.sample("mean", dist.Normal(double(0.0), ONE))
    with pyro.plate("times", 3, dim=-1):
        drift = pyro.sample("drift", dist.Normal(mean, ONE))
    with pyro.plate("rows", ROWS, dim=-2, subsample_size=size) as rows:
        z = pyro.sample("z", dist.Bernoulli(double(0.3)))
        with pyro.plate("times_again", 3, dim=-1):
            pyro.sample("y", dist.Normal(drift + z, ONE), obs=TIMES[rows])


def ragged(size=BATCH):
    mean = pyro.sample("mean", dist.Normal(double(0.0), 3.0 * ONE))
    with pyro.plate("rows", ROWS, subsample_size=size) as rows, poutine.mask(mask=THERE[rows]):
        z = pyro.sample("z", dist.Categorical(double([0.2, 0.5, 0.3])))
        pyro.sample("y", dist.Normal(mean + z, ONE), obs=DATA[rows])


PROGRAMS = [normal_mean, with_local_reals, mixture, two_plates, ragged]
EVIDENCE = {
    "mixture": {"z": torch.tensor([-1, 1, 2, -1, 0, 0]), "w": torch.tensor([1, -1, 0, -1, -1, 1])},
    "with_local_reals": {"own": double([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])},
}
CASES = [(p, {}) for p in PROGRAMS] + [
    (p, EVIDENCE[p.__name__]) for p in PROGRAMS if p.__name__ in EVIDENCE
]


def begun(program, evidence=None, seed=0):
    """The density of all rows, batches, and draws of the latents."""
    whole = SummedDensity(program, reader_of(program).read(evidence or {}))
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name in whole.latents:
        shape = program.variables[name].shape
        values[name] = 0.5 + torch.rand(3, 1, *shape, generator=generator).double()
    return whole, PlateBatches.of(whole), values


def choose(batches, rows):
    batches.model._source.rows.rows["rows"].copy_(torch.tensor(rows))


@pytest.mark.parametrize(("program", "evidence"), CASES)
def test_batches_are_right_on_average(program, evidence):
    whole, batches, values = begun(Program(program), evidence)
    each = []
    for rows in itertools.combinations(range(ROWS), BATCH):
        choose(batches, rows)
        each.append(batches.density().log_density(by_row(batches.values(values))))
    mean = torch.stack(each).mean(0)
    torch.testing.assert_close(mean, whole.log_density(by_row(values)), rtol=1e-10, atol=1e-10)
    assert torch.stack(each).std(0).min() > 0.1  # they differ


@pytest.mark.parametrize("program", PROGRAMS)
def test_questions_see_all_rows(program):
    found, all_rows = Program(program), Program(lambda: program(None))
    assert {v.shape for v in found.variables.values()} == {
        v.shape for v in all_rows.variables.values()
    }
    _, _, values = begun(found)
    reals = {n: x[:, 0] for n, x in values.items()}
    torch.testing.assert_close(found.log_density(reals), all_rows.log_density(reals))
    assert all_rows.batch() is None


def test_exact_answers_of_a_program_without_reals():
    def program(size=BATCH):
        with pyro.plate("rows", ROWS, subsample_size=size) as rows:
            z = pyro.sample("z", dist.Categorical(double([0.2, 0.5, 0.3])))
            pyro.sample("y", dist.Normal(z.double(), ONE), obs=DATA[rows])

    one, other = Program(program).query(), Program(lambda: program(None)).query()
    torch.testing.assert_close(one.log_evidence, other.log_evidence)
    torch.testing.assert_close(one["z"].probs, other["z"].probs)


# --- beside Pyro --------------------------------------------------------------------------------


class Guide(nn.Module):
    """Points, so that both draw the same; a plate of some rows as in the model."""

    def __init__(self, program, values, size=BATCH):
        super().__init__()
        self.program, self.values, self.size = program, values, size

    def forward(self):
        local = {"own", "scale"}.intersection(self.values)
        for name in set(self.values) - local - {"drift"}:
            x = self.values[name]
            pyro.sample(name, dist.Normal(x, 0.5 * ONE).to_event(x.dim()))
        if "drift" in self.values:
            with pyro.plate("times", 3, dim=-1):
                pyro.sample("drift", dist.Normal(self.values["drift"], 0.5 * ONE))
        if local:
            with pyro.plate("rows", ROWS, subsample_size=self.size) as rows:
                for name in local:
                    pyro.sample(name, dist.LogNormal(self.values[name][rows], 0.1 * ONE))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_step_is_one_of_pyro(program):
    values = {n: x[0, 0] for n, x in begun(Program(program))[2].items()}
    guide = Guide(program, values)
    model = Program(program, guide)
    problem = ModelAndGuide.of(SummedDensity(model, reader_of(model).read({})), None, ())
    step = problem.redrawn(make_generator(0))
    rows = step.density.model._source.rows.rows["rows"]
    runs = {}
    original = step._part("local").executions.run

    def kept(n):
        runs["state"] = torch.random.get_rng_state()
        return original(n)

    step._part("local").executions.run = kept
    found = step.total(step.weighted(Elbo(), make_generator(1)), Elbo())

    enumerated = poutine.infer_config(
        program,
        lambda site: {"enumerate": "parallel"} if site["name"] in ("z", "w") else {},
    )

    class Rows(poutine.messenger.Messenger):
        def _pyro_sample(self, msg):
            if msg["name"] == "rows":
                msg["value"], msg["done"] = rows.clone(), True

    elbo = Trace_ELBO()
    if program in (mixture, two_plates, ragged):
        elbo = TraceEnum_ELBO(max_plate_nesting=2)
    with torch.random.fork_rng(devices=[]), Rows():
        torch.random.set_rng_state(runs["state"])
        loss = elbo.loss(enumerated, guide)
    torch.testing.assert_close(found.item(), -float(loss), rtol=1e-9, atol=1e-9)


# --- fits ---------------------------------------------------------------------------------------


def test_a_fit_by_batches_comes_to_the_closed_form():
    """Steps of batches are noisier: with a rate r the mean moves about the optimum with variance
    about r / 2 times the noise of Adam's normalised steps, far below the bounds."""
    engine = Variational(
        objective=Elbo(num_particles=10, path_only=True),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.995),
        max_iterations=900,
        tolerance=0,
        seed=0,
        progress=False,
    )
    precision = 1 / 9 + ROWS
    mean, std = DATA.sum() / precision, precision**-0.5
    posterior = Program(normal_mean).query(["mean"], {}, engine=engine)
    assert abs(posterior["mean"].mean - mean) < 0.25 * std
    assert abs(posterior["mean"].std / std - 1) < 0.25
    exact = dist.MultivariateNormal(
        torch.zeros(ROWS).double(), torch.eye(ROWS).double() + 9.0
    ).log_prob(DATA)
    assert exact - 0.2 < posterior.log_evidence < exact + 0.05
    again = Program(normal_mean).query(["mean"], {}, engine=engine)
    assert torch.equal(posterior["mean"].draws, again["mean"].draws)


def test_parameters_are_learned_by_batches():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(double(0.0))

        def forward(self):
            with pyro.plate("rows", ROWS, subsample_size=BATCH) as rows:
                own = pyro.sample("own", dist.Normal(self.mean, ONE))
                pyro.sample("y", dist.Normal(own, ONE), obs=DATA[rows])

    model = Learned()
    program = Program(model)
    state = torch.random.get_rng_state()
    engine = Variational(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.995),
        max_iterations=900,
        tolerance=0,
        seed=0,
        progress=False,
    )
    program.fit(learner=engine, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    assert abs(model.mean.item() - DATA.mean().item()) < 0.2  # std of the mean itself: 0.58


def test_steps_run_the_program_without_python():
    calls = []

    def program():
        calls.append(1)
        mixture()

    model, counts = Program(program), []
    for iterations in (40, 400):
        before = len(calls)
        engine = Variational(max_iterations=iterations, tolerance=0, seed=0, progress=False)
        model.query(["means"], {}, engine=engine)
        counts.append(len(calls) - before)
    assert counts[1] <= counts[0] < 30


def test_a_guide_sees_the_rows_that_the_model_sees():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.means = nn.Parameter(torch.zeros(ROWS).double())

        def forward(self):
            with pyro.plate("rows", ROWS, subsample_size=BATCH) as rows:
                pyro.sample("own", dist.Normal(self.means[rows], 0.7 * ONE))

    def program():
        with pyro.plate("rows", ROWS, subsample_size=BATCH) as rows:
            own = pyro.sample("own", dist.Normal(double(0.0), ONE))
            pyro.sample("y", dist.Normal(own, ONE), obs=DATA[rows])

    guide = Own()
    model = Program(program, guide)
    engine = Variational(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.995),
        max_iterations=900,
        tolerance=0,
        seed=0,
        progress=False,
    )
    model.fit(learner=engine, seed=0)
    torch.testing.assert_close(guide.means.detach(), DATA / 2, rtol=0, atol=0.25)
    posterior = model.query(["own"], {}, engine=Variational(max_iterations=0, progress=False))
    assert posterior["own"].mean.shape == (ROWS,)


# --- data that comes in batches -----------------------------------------------------------------


def data_in_batches(batch):
    mean = pyro.sample("mean", dist.Normal(double(0.0), 3.0 * ONE))
    with pyro.plate("rows", ROWS, subsample_size=len(batch)):
        z = pyro.sample("z", dist.Bernoulli(double(0.5)))
        pyro.sample("y", dist.Normal(mean + z, ONE), obs=batch)


def rows_given(rows):
    mean = pyro.sample("mean", dist.Normal(double(0.0), 3.0 * ONE))
    with pyro.plate("rows", ROWS, subsample=rows):
        z = pyro.sample("z", dist.Bernoulli(double(0.5)))
        pyro.sample("y", dist.Normal(mean + z, ONE), obs=DATA[rows])


@pytest.mark.parametrize("program", [data_in_batches, rows_given])
def test_programs_that_see_a_batch_stand_for_all_rows(program):
    rows = torch.tensor([1, 4])
    model = Program(program, args=(DATA[rows] if program is data_in_batches else rows,))
    found = model.query(["z"], {"mean": 0.3})
    problem = ModelAndGuide.of(SummedDensity(model, reader_of(model).read({})), None, ())
    assert problem.batches is None
    mean = double([0.3])
    both = (
        dist.Normal(mean + double([0.0, 1.0]), ONE).log_prob(DATA[rows, None]) - double(2.0).log()
    )
    expected = dist.Normal(double(0.0), 3.0 * ONE).log_prob(mean) + 3.0 * both.logsumexp(-1).sum()
    torch.testing.assert_close(problem.density.log_density({"mean": mean}), expected)
    torch.testing.assert_close(found.log_evidence, expected[0])
    torch.testing.assert_close(model.log_prob({"mean": mean}), expected)
    engine = Variational(max_iterations=5, tolerance=0, progress=False, seed=0)
    assert model.query(["mean"], {}, engine=engine)["mean"].draws.isfinite().all()


# --- refusals -----------------------------------------------------------------------------------


def test_cells_that_share_a_discrete_site_are_refused():
    def program():
        mean = pyro.sample("mean", dist.Normal(double(0.0), ONE))
        shared = pyro.sample("shared", dist.Bernoulli(double(0.5)))
        with pyro.plate("rows", ROWS, subsample_size=BATCH) as rows:
            z = pyro.sample("z", dist.Bernoulli(0.2 + 0.5 * shared))
            pyro.sample("y", dist.Normal(mean + z, ONE), obs=DATA[rows])

    model = Program(program)
    assert model.query(["shared"], {"mean": 0.0})["shared"].probs.shape == (2,)
    with pytest.raises(Unsupported, match=r"'z' \(in plate 'rows' of size 2\) has scale 3"):
        model.query(["mean"], {}, engine=Variational(progress=False))


def test_observed_cells_of_a_shared_discrete_site_are_refused():
    def program():
        mean = pyro.sample("mean", dist.Normal(double(0.0), ONE))
        shared = pyro.sample("shared", dist.Bernoulli(double(0.5)))
        with pyro.plate("rows", ROWS, subsample_size=BATCH) as rows:
            pyro.sample("y", dist.Normal(mean + shared, ONE), obs=DATA[rows])

    with pytest.raises(Unsupported, match=r"'y'.*has scale 3.*same scale"):
        Program(program).query(["mean"], {}, engine=Variational(progress=False))


def test_loops_over_some_rows_are_refused():
    def program():
        mean = pyro.sample("mean", dist.Normal(double(0.0), ONE))
        for k in pyro.plate("rows", ROWS, subsample_size=BATCH):
            pyro.sample(f"y_{k}", dist.Normal(mean, ONE), obs=DATA[k])

    model = Program(program)
    assert len(model.sites) == ROWS + 1
    with pytest.raises(Unsupported, match="plate 'rows' is a loop"):
        model.query(["mean"], {}, engine=Variational(progress=False))


def test_soft_evidence_is_refused():
    soft = torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(Unsupported, match="soft evidence"):
        Program(mixture).query(["w"], {"z": soft}, engine=Variational(progress=False))


def test_a_program_that_fails_with_any_rows():
    def program():
        with pyro.plate("rows", ROWS, subsample_size=BATCH):
            pyro.sample("y", dist.Normal(double(0.0), ONE), obs=DATA[:4])

    with pytest.raises(ModelError, match="'rows'"):
        Program(program)


def test_pyro_is_left_as_it_was():
    Program(mixture)
    pyro.set_rng_seed(0)
    with poutine.trace() as trace:
        normal_mean()
    assert trace.trace.nodes["y"]["value"].shape == (BATCH,)
