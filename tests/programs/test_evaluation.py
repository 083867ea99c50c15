"""Programs run by their tapes: the same numbers, without Python once they are trusted."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pgnn import Program
from pgnn.tape.recorder import record


def double(x):
    return torch.tensor(x, dtype=torch.float64)


class Chain(nn.Module):
    """Counts how often it runs."""

    def __init__(self, steps):
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, 9).reshape(3, 3).double())
        self.observed = nn.Parameter(torch.linspace(0, 2, 6).reshape(3, 2).double())
        self.steps, self.runs = steps, 0

    def forward(self, data):
        self.runs += 1
        x = torch.tensor(0)
        for t in range(self.steps):
            x = pyro.sample(f"x_{t}", dist.Categorical(logits=self.logits[x]))
            pyro.sample(f"y_{t}", dist.Categorical(logits=self.observed[x]), obs=data[t])

    def log_evidence(self, data):
        alpha = self.logits.log_softmax(-1)[0]
        for t in range(self.steps):
            alpha = alpha + self.observed.log_softmax(-1)[:, data[t]]
            if t < self.steps - 1:
                alpha = (alpha[:, None] + self.logits.log_softmax(-1)).logsumexp(0)
        return alpha.logsumexp(0)


def test_a_program_runs_three_times_and_learns_on():
    chain, data = Chain(12), torch.tensor([0, 1] * 6)
    program = Program(chain, args=(data,))
    before = chain.runs
    for _ in range(8):
        with torch.no_grad():
            chain.logits.add_(torch.linspace(0.1, 0.5, 9).reshape(3, 3).double())
            chain.observed[0].mul_(1.1)
        found, expected = program.query([]).log_evidence, chain.log_evidence(data)
        torch.testing.assert_close(found, expected)
        for one, other in zip(
            torch.autograd.grad(found, [*chain.parameters()]),
            torch.autograd.grad(expected, [*chain.parameters()]),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
    # with and without gradients, each time the parameters changed: by Python three times only
    assert chain.runs == before + 3
    with torch.no_grad():
        data[3] = 0
    torch.testing.assert_close(program.query([]).log_evidence, chain.log_evidence(data))
    assert chain.runs > before + 3


def test_the_tape_has_no_step_for_each_site():
    chain, data = Chain(40), torch.tensor([0, 1] * 20)
    program = Program(chain, args=(data,))
    tape = record(lambda: [f.log_values for f in program.factors()], [*chain.parameters()])
    assert len(tape.steps) < 40


def test_programs_that_look_at_parameters_are_run_each_time():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(double(0.25))

        def forward(self):
            p = self.p if self.p < 0.5 else 1 - self.p
            pyro.sample("x", dist.Bernoulli(p))

    model = Looking()
    program = Program(model)
    for p in (0.1, 0.2, 0.3, 0.4, 0.9):
        with torch.no_grad():
            model.p.fill_(p)
        expected = p if p < 0.5 else 1 - p
        assert abs(program.query()["x"].probs[1].item() - expected) < 1e-12


def test_numbers_that_left_torch_are_noticed():
    class Leaving(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(double(0.25))

        def forward(self):
            pyro.sample("x", dist.Bernoulli(torch.from_numpy(self.p.detach().numpy().copy())))

    model = Leaving()
    program = Program(model)
    for p in (0.1, 0.2, 0.3, 0.4, 0.9):
        with torch.no_grad():
            model.p.fill_(p)
            assert abs(float(program.query()["x"].probs[1]) - p) < 1e-12


def test_rows_of_reals_are_run_at_once():
    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.runs = 0

        def forward(self):
            self.runs += 1
            slope = pyro.sample("slope", dist.Normal(double([0.0, 0.0]), 1.0).to_event(1))
            with pyro.plate("data", 4):
                z = pyro.sample("z", dist.Bernoulli(double(0.3)))
                pyro.sample("y", dist.Normal(slope[z.long()], 1.0), obs=double([1.0, 0.5, -1.0, 2]))

    model = Regression()
    program = Program(model)
    rng = torch.Generator().manual_seed(0)
    y = double([1.0, 0.5, -1.0, 2.0])
    for _ in range(4):
        slope = torch.randn(5, 2, generator=rng).double().requires_grad_()
        found = program.log_density({"slope": slope})
        joint = dist.Normal(slope[:, None, :], 1.0).log_prob(y[:, None]) + double([0.7, 0.3]).log()
        prior = dist.Normal(double(0.0), 1.0).log_prob(slope).sum(-1)
        expected = prior + joint.logsumexp(-1).sum(-1)
        torch.testing.assert_close(found, expected)
        one, other = (torch.autograd.grad(x.sum(), slope)[0] for x in (found, expected))
        torch.testing.assert_close(one, other)
    runs = model.runs
    program.log_density({"slope": torch.zeros(7, 2).double()})
    assert model.runs == runs
    none = program.log_density({"slope": torch.zeros(0, 2).double()})
    assert none.shape == (0,)


def test_many_evaluations_with_new_parameters_and_gradients_between_them():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(2).double())
            self.mean = nn.Parameter(double([[0.0, 1.0, 2.0], [2.0, 2.5, -1.0]]))

        def forward(self):
            z = pyro.sample("z", dist.Categorical(logits=self.logits))
            w = pyro.sample("w", dist.Categorical(double([0.2, 0.3, 0.5])))
            pyro.sample("y", dist.Normal(self.mean[z, w], double(1.0)), obs=double(0.3))

    model = Mixture()
    program = Program(model)

    def expected():
        likely = dist.Normal(model.mean, double(1.0)).log_prob(double(0.3))
        weights = model.logits.log_softmax(0)[:, None] + double([0.2, 0.3, 0.5]).log()
        return (weights + likely).logsumexp((0, 1))

    for k in range(60):
        with torch.no_grad():
            model.logits[0] += 0.1
            model.mean[1, 0] += 0.1
            torch.testing.assert_close(program.log_density({})[0], expected())
        if k % 7 == 0:
            slopes = torch.autograd.grad(program.log_density({}).sum(), [*model.parameters()])
            for a, b in zip(
                slopes, torch.autograd.grad(expected(), [*model.parameters()]), strict=True
            ):
                torch.testing.assert_close(a, b)


def test_the_order_in_which_reals_are_given_does_not_matter() -> None:
    def walk() -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        c = pyro.sample("c", dist.Normal(2.0 * a, 0.5))
        pyro.sample("d", dist.Bernoulli(logits=c - a))

    program = Program(walk)
    a, c = torch.tensor([0.5, -1.0]), torch.tensor([1.0, 2.0])
    for shift in range(5):  # enough for a tape
        program.log_density({"a": a + shift, "c": c}, {"d": 1})
    expected = (
        dist.Normal(0.0, 1.0).log_prob(a)
        + dist.Normal(2.0 * a, 0.5).log_prob(c)
        + torch.nn.functional.logsigmoid(c - a)
    )
    for reals in ({"a": a, "c": c}, {"c": c, "a": a}):
        assert program.log_density(reals, {"d": 1}).tolist() == pytest.approx(expected.tolist())
