"""Arithmetic written down once: the same numbers, fewer operations, and refusals."""

import pytest
import torch

from pgnn.tape.recorder import opaque_step, record
from pgnn.tape.tape import Slot


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


def test_of_numbers_only_parameters_are_constants():
    x = torch.rand(3).double()
    tape = record(lambda: uses_another_parameter(x), [x], numbers_only=True)
    assert torch.equal(tape.run([x + 1.0])[0], x + 1.0)
    assert not tape.run([x])[0].requires_grad


def test_outputs_that_want_gradients_are_refused():
    x = torch.rand(3).double()
    assert record(lambda: [x * 2.0, OTHER * 2.0], [x]) is None


def test_results_that_are_written_into_are_never_shared():
    def compute(x):
        one, other = x.exp(), x.exp()
        one.mul_(2.0)
        view = other[1:]
        view.add_(1.0)
        view.add_(1.0)
        return [one, other, x.exp(), x.sin() + x.sin()]

    x = torch.rand(3).double()
    tape = record(lambda: compute(x), [x], numbers_only=True)
    names = [step.operation.__name__ for step in tape.steps]
    assert names.count("sin.default") == 1
    for found, expected in zip(tape.run([x + 1.0]), compute(x + 1.0), strict=True):
        assert torch.equal(found, expected)
    assert record(lambda: compute(x), [x]) is None


def into_the_input(x):
    return [x.mul_(2.0)]


def into_a_constant_that_was_used(x):
    held = torch.ones(3).double()
    y = x + held
    held.mul_(2.0)
    return [y + held]


def by_out(x):
    held = torch.ones(3).double()
    return [torch.exp(x, out=held)]


@pytest.mark.parametrize("compute", [into_the_input, into_a_constant_that_was_used, by_out, draws])
def test_writes_elsewhere_are_refused_always(compute):
    x = torch.rand(3).double()
    with torch.random.fork_rng(devices=[]):
        assert record(lambda: compute(x), [x], numbers_only=True) is None


def test_questions_become_guards():
    x = torch.full((3,), 0.75).double()
    tape = record(lambda: reads_a_number(x), [x], numbers_only=True)
    ((slot, answer),) = tape.guards
    assert answer is True
    assert any(slot.number in step.out for step in tape.steps)
    assert record(lambda: [x * x[0].item()], [x], numbers_only=True) is None


def test_whole_steps_are_steps_of_numbers_only():
    def compute(x):
        return opaque_step(lambda y: [torch.from_numpy(y.numpy() ** 3)], x + 1.0)

    x = torch.rand(3).double()
    torch.testing.assert_close(compute(x)[0], (x + 1.0) ** 3)
    tape = record(lambda: compute(x), [x], numbers_only=True)
    assert [step.is_opaque for step in tape.steps] == [False, True]
    assert torch.equal(tape.run([x * 2.0])[0], compute(x * 2.0)[0])
    assert record(lambda: compute(x), [x]) is None


def test_what_outputs_do_not_need_is_left_out():
    x = torch.rand(3).double()

    def compute():
        x.cos()
        return [x.sin()]

    assert len(record(compute, [x]).steps) == 1
