"""Functions written down and run again, with steps in them that are no operations of torch."""

import gc
import weakref

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.inference.continuous.potential_energy import PotentialEnergy
from pgnn.tape import replay
from pgnn.tape.recorder import opaque_step
from pgnn.tape.replay import recorded


class Cube(torch.autograd.Function):
    """The third power by NumPy."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        (value, gradient) = opaque_step(Cube.step, x)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx, upstream):
        return upstream * ctx.saved_tensors[0]

    @staticmethod
    def step(x):
        Cube.calls += 1
        y = x.detach().numpy()
        return [torch.from_numpy(y**3), torch.from_numpy(3 * y**2)]


def gradients(q):
    with torch.enable_grad():
        x = q.detach().requires_grad_()
        total = (Cube.apply(x.sin()) + x.exp()).sum(1)
        (gradient,) = torch.autograd.grad(total.sum(), x)
    return total.detach(), gradient


def points(count, size, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(size=(4, size))) for _ in range(count)]


def test_whole_steps_are_run_again():
    observed = points(3, 2)
    fast = recorded(gradients, observed)
    assert fast is not None
    new = points(1, 2, seed=1)[0]
    before = Cube.calls
    value, gradient = fast(new)
    assert Cube.calls == before + 1
    expected = new.sin() ** 3 + new.exp()
    torch.testing.assert_close(value, expected.sum(1))
    torch.testing.assert_close(gradient, 3 * new.sin() ** 2 * new.cos() + new.exp())


def test_a_function_without_torch_between_whole_steps():
    def only(q):
        value, slope = opaque_step(Cube.step, q)
        return value.sum(1), slope

    observed = points(3, 2)
    fast = recorded(only, observed)
    assert fast is not None
    torch.testing.assert_close(fast(observed[2])[0], (observed[2] ** 3).sum(1))


def test_a_step_that_looks_aside_is_not_trusted():
    held = [0.0]

    def aside(q):
        held[0] += 1.0
        (value,) = opaque_step(lambda x: [x.sum(1) + held[0]], q)
        return value, torch.ones_like(q)

    assert recorded(aside, points(3, 2)) is None


@pytest.mark.parametrize("cells", [3, 40])
def test_potentials_of_mixtures_are_written_down_with_the_kernel_in_them(cells):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(cells, generator=generator).double()
    wide, one = torch.tensor([3.0, 1.0]).double()

    def mixture():
        weights = pyro.sample("w", dist.Dirichlet(torch.ones(2).double()))
        with pyro.plate("k", 2):
            mean = pyro.sample("mean", dist.Normal(torch.zeros(2).double(), wide))
        with pyro.plate("n", cells):
            z = pyro.sample("z", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(mean[z], one), obs=data)

    potential = PotentialEnergy(pgnn.Program(mixture), {})
    found = potential.start(3, 0)
    assert potential.compiled
    value, gradient = potential(found)
    q = torch.from_numpy(found).requires_grad_()
    reals, log_jacobian = potential.coordinates.constrain(q)
    logs = reals["w"].log()[:, None] + dist.Normal(reals["mean"][:, None], one).log_prob(
        data[:, None]
    )
    own = torch.logsumexp(logs, -1).sum(1) + dist.Normal(torch.zeros(2).double(), wide).log_prob(
        reals["mean"]
    ).sum(1)
    own = own + dist.Dirichlet(torch.ones(2).double()).log_prob(reals["w"]) + log_jacobian
    (slope,) = torch.autograd.grad(-own.sum(), q)
    np.testing.assert_allclose(value, -own.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-8, atol=1e-9)


def test_what_was_recorded_is_let_go():
    """Constants of a replay are kept by nobody else: a model may be asked a thousand times."""
    owner = np.ones(1000)
    alive = weakref.ref(owner)

    def potential(data):
        def function(q):
            with torch.enable_grad():
                x = q.detach().requires_grad_()
                total = (x * data).sin().sum(1)
                (gradient,) = torch.autograd.grad(total.sum(), x)
            return total.detach(), gradient

        return function

    fast = recorded(potential(torch.from_numpy(owner)), points(3, 1))
    assert fast is not None
    for _ in range(3):
        fast(points(1, 1)[0])
    del owner
    gc.collect()
    assert alive() is not None
    del fast
    gc.collect()
    assert alive() is None


def test_a_potential_is_freed_without_the_garbage_collector():
    """What holds large arrays is in no circle of references, which may wait long to be found."""
    data = torch.randn(100).double()

    def normal():
        mean = pyro.sample("mean", dist.Normal(torch.zeros(()).double(), 1.0))
        with pyro.plate("rows", 100):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=data)

    potential = PotentialEnergy(pgnn.Program(normal), {})
    potential.start(2, 0)
    assert potential.compiled
    alive = weakref.ref(potential)
    gc.disable()
    try:
        del potential
        assert alive() is None
    finally:
        gc.enable()


def test_slots_are_read_once(monkeypatch):
    observed = points(3, 2)
    fast = recorded(gradients, observed)
    assert fast is not None
    monkeypatch.setattr(replay, "slots_in", None)
    fast(points(1, 2, seed=2)[0])
