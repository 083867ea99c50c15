"""Arithmetic written down once: the same numbers, fewer operations, and refusals."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pgnn import Program
from pgnn.models.program_tape import Slot, record


def double(x):
    return torch.tensor(x, dtype=torch.float64)


def test_a_tape_computes_the_same_of_other_numbers():
    x, y = torch.rand(3, 4).double(), torch.rand(4).double()
    mixer = torch.rand(4, 4).double()

    def compute(x=x, y=y):
        parts = [(x @ mixer).log_softmax(-1) + y.exp() for _ in range(5)]
        top, where = parts[0].max(-1)
        return [torch.stack(parts), top, where, mixer, torch.cat([top, y])[torch.tensor([0, 5])]]

    tape = record(compute, [x, y])
    assert tape is not None
    names = [step.operation.__name__ for step in tape.steps]
    assert sum("mm" in n for n in names) == 1  # computed five times by the program
    for other in ([x, y], [x + 1.0, y * 2.0]):
        for found, expected in zip(tape.run(other), compute(*other), strict=True):
            assert torch.equal(found, expected)
    assert isinstance(tape.outputs[0], Slot)
    assert not isinstance(tape.outputs[3], Slot)


def test_a_tape_is_differentiable():
    x = torch.rand(3).double().requires_grad_()
    weight = torch.rand(3).double()

    def compute(x=x):
        return [(x * weight).logsumexp(0), x[0] ** 2]

    tape = record(compute, [x])
    other = torch.rand(3).double().requires_grad_()
    found = torch.autograd.grad(sum(tape.run([other])), other)[0]
    expected = torch.autograd.grad(sum(compute(other)), other)[0]
    torch.testing.assert_close(found, expected)


def reads_a_number(x):
    return [x * 2 if x[0] > 0.5 else x]


def writes_in_place(x):
    y = torch.zeros(3).double()
    y[1] = x[0]
    return [y]


def draws(x):
    return [torch.bernoulli(x)]


OTHER = torch.ones(3).double().requires_grad_()


def uses_another_parameter(x):
    return [x * OTHER]


@pytest.mark.parametrize(
    "compute", [reads_a_number, writes_in_place, draws, uses_another_parameter]
)
def test_what_cannot_be_repeated_is_refused(compute):
    x = torch.rand(3).double()
    with torch.random.fork_rng(devices=[]):
        assert record(lambda: compute(x), [x]) is None


class Chain(nn.Module):
    """Counts how often it runs."""

    def __init__(self, steps):
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, 9).reshape(3, 3).double())
        self.seen = nn.Parameter(torch.linspace(0, 2, 6).reshape(3, 2).double())
        self.steps, self.runs = steps, 0

    def forward(self, data):
        self.runs += 1
        x = torch.tensor(0)
        for t in range(self.steps):
            x = pyro.sample(f"x_{t}", dist.Categorical(logits=self.logits[x]))
            pyro.sample(f"y_{t}", dist.Categorical(logits=self.seen[x]), obs=data[t])

    def log_evidence(self, data):
        alpha = self.logits.log_softmax(-1)[0]
        for t in range(self.steps):
            alpha = alpha + self.seen.log_softmax(-1)[:, data[t]]
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
            chain.seen[0].mul_(1.1)
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
