"""Derivatives at a fixed point against finite differences of propagation run again."""

import gc
import warnings

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Factor, MarkovRandomField, NotConverged, Unsupported, Variable
from pgnn.factors.elements import Elements
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.implicit_differentiation import (
    differentiable_beliefs,
    differentiable_log_partition,
    observed_field,
    solve,
)
from pgnn.inference.propagation.torch_propagation import TorchPropagation
from pgnn.inference.question import Question
from tests.inference.loopy_fields import LoopyField


def settle(propagation: TorchPropagation, messages: torch.Tensor | None = None) -> torch.Tensor:
    found = propagation.run(400, 1e-14, 0.1, messages=messages, progress=False)
    assert bool(found.converged.all())
    return found.messages


class Case:
    """A field whose numbers want gradients, and how its answers move."""

    def __init__(self, weighted: bool, temperature: float, zeros: float, observe: bool) -> None:
        self.made = LoopyField(17, rows=2, strength=0.5, zeros=zeros, observe=observe)
        rng = np.random.default_rng(0)
        count = self.made.graph.num_interactions
        self.weights = torch.from_numpy(rng.uniform(0.5, 1.0, count)) if weighted else None
        self.temperature = temperature
        self.leaves = [self.made.log_field.clone(), *(t.clone() for t in self.made.numbers)]
        self.directions = [torch.from_numpy(rng.normal(size=t.shape)) for t in self.leaves]

    def propagation(self, leaves: list[torch.Tensor]) -> TorchPropagation:
        return TorchPropagation(
            self.made.with_numbers(leaves[1:]),
            leaves[0],
            temperature=self.temperature,
            weights=self.weights,
        )

    def moved(self, which: tuple[int, ...], by: float) -> TorchPropagation:
        leaves = list(self.leaves)
        for k in which:
            leaves[k] = leaves[k] + by * self.directions[k]
        return self.propagation(leaves)

    def check(self, answer, differentiable) -> None:
        """Compare derivatives along directions with differences: field, Potts, shared, others."""
        wanted = [t.clone().requires_grad_() for t in self.leaves]
        live = self.propagation(wanted)
        fixed = settle(self.propagation(self.leaves))
        out = differentiable(live, fixed)
        by = torch.from_numpy(np.random.default_rng(1).normal(size=out.shape))
        gradients = torch.autograd.grad(out, wanted, by)
        h = 1e-4
        assert all(bool(g.isfinite().all()) for g in gradients)
        for which in [(0,), (2,), (1,), (3, 4, 5, 6)]:
            around = (self.moved(which, h), self.moved(which, -h))
            up, down = (answer(m, settle(m, fixed)) for m in around)
            want = float(((up - down) * by).sum()) / (2 * h)
            got = sum(float((gradients[k] * self.directions[k]).sum()) for k in which)
            # the difference is wrong by about h^2 times a third derivative
            assert got == pytest.approx(want, abs=3e-7), which
            assert abs(got) > 1e-6


CASES = pytest.mark.parametrize(
    ("weighted", "temperature", "zeros", "observe"),
    [
        (False, 1.0, 0.0, False),
        (True, 1.0, 0.0, False),
        (False, 0.7, 0.2, True),
        (True, 1.6, 0.2, True),
    ],
)


@CASES
def test_gradient_of_the_log_partition(weighted, temperature, zeros, observe):
    case = Case(weighted, temperature, zeros, observe)
    case.check(TorchPropagation.bethe, differentiable_log_partition)


@CASES
def test_gradient_of_marginals(weighted, temperature, zeros, observe):
    case = Case(weighted, temperature, zeros, observe)
    case.check(lambda m, fixed: m.beliefs(fixed).exp(), differentiable_beliefs)


def test_gradient_of_the_log_partition_is_the_beliefs():
    case = Case(False, 1.0, 0.1, True)
    wanted = [t.clone().requires_grad_() for t in case.leaves]
    live = case.propagation(wanted)
    fixed = settle(case.propagation(case.leaves))
    differentiable_log_partition(live, fixed).sum().backward()
    plain = case.propagation(case.leaves)
    torch.testing.assert_close(wanted[0].grad, plain.beliefs(fixed).exp())
    shared, rowwise = plain.factor_beliefs(fixed)[0], plain.factor_beliefs(fixed)[3]
    torch.testing.assert_close(wanted[1].grad, shared.exp().sum((0, 1))[None])
    torch.testing.assert_close(wanted[4].grad, rowwise.exp())


def test_gradient_equals_walking_back_through_all_iterations():
    case = Case(False, 1.0, 0.2, True)
    wanted = [t.clone().requires_grad_() for t in case.leaves]
    live = case.propagation(wanted)
    messages = live.init()
    for _ in range(60):
        messages = live.step(messages)
    out = live.beliefs(messages).exp()
    by = torch.rand_like(out)
    slow = torch.autograd.grad(out, wanted, by)
    assert not any(bool(s.isnan().any()) for s in slow)
    fast = torch.autograd.grad(
        differentiable_beliefs(case.propagation(wanted), messages.detach()), wanted, by
    )
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_structural_zeros_and_observed_states_have_no_gradient():
    case = Case(False, 1.0, 0.25, True)
    wanted = [t.clone().requires_grad_() for t in case.leaves]
    live = case.propagation(wanted)
    fixed = settle(case.propagation(case.leaves))
    for out in (differentiable_beliefs, differentiable_log_partition):
        found = out(live, fixed)
        gradients = torch.autograd.grad(found, wanted, torch.rand_like(found))
        for leaf, gradient in zip(case.leaves, gradients, strict=True):
            assert bool((gradient[leaf.isneginf()] == 0).all())
            assert bool(gradient.isfinite().all())


def test_impossible_rows_have_no_gradient():
    made = LoopyField(17, strength=0.4)
    made.log_field[1, :3] = -torch.inf
    numbers = [t.clone().requires_grad_() for t in made.numbers]
    live = TorchPropagation(made.with_numbers(numbers), made.log_field)
    fixed = live.run(200, 1e-12, progress=False).messages
    for out in (differentiable_beliefs, differentiable_log_partition):
        found = out(live, fixed)
        by = torch.rand_like(found)
        both = torch.autograd.grad(found, numbers, by)
        by[1] = 0.0
        first = torch.autograd.grad(out(live, fixed), numbers, by)
        if out is differentiable_log_partition:
            assert np.isneginf(float(found[1].detach()))
        for a, b in zip(both, first, strict=True):
            assert bool(a.isfinite().all())
            if out is differentiable_log_partition:  # beliefs apart from the impossible move
                torch.testing.assert_close(a, b)


def test_only_what_wants_a_gradient_gets_one():
    made = LoopyField(17, strength=0.4)
    numbers = [t.clone() for t in made.numbers]
    numbers[1].requires_grad_()
    live = TorchPropagation(made.with_numbers(numbers), made.log_field)
    fixed = settle(live)
    differentiable_beliefs(live, fixed)[:, 0].sum().backward()
    assert numbers[1].grad is not None
    assert all(t.grad is None for k, t in enumerate(numbers) if k != 1)
    with torch.no_grad():
        assert not differentiable_beliefs(live, fixed).requires_grad
        assert not differentiable_log_partition(live, fixed).requires_grad


def test_numbers_of_the_caller_are_not_changed():
    case = Case(False, 1.0, 0.1, False)
    before = [t.clone() for t in case.leaves]
    wanted = [t.requires_grad_() for t in case.leaves]
    live = case.propagation(wanted)
    fixed = settle(live)
    kept = fixed.clone()
    differentiable_beliefs(live, fixed).square().sum().backward()
    assert bool((fixed == kept).all())
    assert all(bool((a == b).all()) for a, b in zip(before, wanted, strict=True))
    assert all(t.requires_grad for t in wanted)


def peak_of_saved(propagation: TorchPropagation, messages: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = differentiable_beliefs(propagation, messages).sum()
        out = out + differentiable_log_partition(propagation, messages).sum()
    assert out.requires_grad
    return sum(sizes.values())


def test_memory_does_not_grow_with_iterations():
    case = Case(False, 1.0, 0.0, False)
    wanted = [t.clone().requires_grad_() for t in case.leaves]
    saved = []
    for steps in (2, 50):
        live = case.propagation(wanted)
        messages = live.run(steps, 0.0, progress=False).messages
        assert not messages.requires_grad
        saved.append(peak_of_saved(live, messages))
        gc.collect()
    assert saved[0] == saved[1]
    # the fixed messages, once or twice, and small change
    assert saved[1] <= 3 * messages.numel() * messages.element_size()


def strong_ring(coupling: float, length: int = 6) -> TorchPropagation:
    elements = Elements([Variable("x", 2, shape=(length,))])
    scopes = [[i, (i + 1) % length] for i in range(length)]
    numbers = torch.full((1,), coupling, dtype=torch.float64, requires_grad=True)
    graph = FactorGraph(elements, (PottsGroup(scopes, numbers, 2),))
    field = torch.zeros(1, 2 * length, dtype=torch.float64)
    field[0, 0] = 1e-3
    return TorchPropagation(graph, field)


def test_unsolved_systems_are_reported(monkeypatch):
    from pgnn.inference.propagation import implicit_differentiation

    monkeypatch.setattr(implicit_differentiation, "_MAX_ITERATIONS", 0)
    live = strong_ring(0.5)
    fixed = settle(live)
    with pytest.warns(NotConverged, match="adjoint"):
        differentiable_beliefs(live, fixed)[0, 0].backward()


def test_systems_that_plain_iteration_would_not_solve():
    # a field so strongly coupled that undamped steps run away from this unstable fixed point
    elements = Elements([Variable("x", 2, shape=(4,))])
    scopes = [[i, j] for i in range(4) for j in range(i)]
    numbers = torch.full((1,), -3.0, dtype=torch.float64, requires_grad=True)
    graph = FactorGraph(elements, (PottsGroup(scopes, numbers, 2),))
    live = TorchPropagation(graph, torch.zeros(1, 8, dtype=torch.float64))
    fixed = live.init()  # symmetric: at rest, but unstable
    torch.testing.assert_close(live.step(fixed), fixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jacobian = torch.autograd.functional.jacobian(live.step, fixed)[0, :, 0]
        assert float(torch.linalg.eigvals(jacobian).abs().max()) > 1
        field = live.log_field.clone().requires_grad_()
        out = differentiable_beliefs(live.at(field, live.numbers), fixed)
        (got,) = torch.autograd.grad(out[0, 0], field)
    messages = fixed.clone().requires_grad_()
    with torch.enable_grad():
        moved = live.at(field, live.numbers)
        first, direct = torch.autograd.grad(moved.beliefs(messages).exp()[0, 0], [messages, field])
        inverse = torch.linalg.inv(torch.eye(len(jacobian)) - jacobian.T)
        (through,) = torch.autograd.grad(moved.step(messages), field, (inverse @ first[0])[None])
    torch.testing.assert_close(got, direct + through)


def test_second_derivatives_and_maxima_are_refused():
    live = strong_ring(0.3)
    fixed = settle(live)
    (first,) = torch.autograd.grad(
        differentiable_log_partition(live, fixed).square().sum(), live.numbers, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    hard = TorchPropagation(live.graph, live.log_field, temperature=0.0)
    for out in (differentiable_beliefs, differentiable_log_partition):
        with pytest.raises(Unsupported, match="max-product"):
            out(hard, fixed)


def test_observed_field_is_that_of_the_question():
    a, b, c = Variable("a", 2), Variable("b", 3), Variable("c", 2)
    rng = np.random.default_rng(0)
    model = MarkovRandomField(
        [
            Factor([a], torch.from_numpy(rng.normal(size=2))),
            Factor([b, a], torch.from_numpy(rng.normal(size=(3, 2)))),
            Factor([b], torch.from_numpy(rng.normal(size=3))),
            Factor([c, b], torch.from_numpy(rng.normal(size=(2, 3)))),
        ]
    )
    soft = torch.tensor([[0.2, 0.5, 0.0], [3.0, 1.0, 0.5]], dtype=torch.float64)
    evidence = {"a": torch.tensor([1, -1]), "b": soft.requires_grad_()}
    question = Question.read(model, evidence, None)
    field = observed_field(question)
    np.testing.assert_allclose(field.detach().numpy(), question.log_field())
    assert bool(field.isneginf().any())
    live = TorchPropagation(question.graph, field)
    fixed = live.run(50, 1e-14, progress=False).messages
    total = differentiable_log_partition(live, fixed) + torch.from_numpy(
        question.observed.soft_scale
    )
    (got,) = torch.autograd.grad(total.sum(), soft)
    exact = model.query(evidence=evidence, engine=pgnn.JunctionTree())
    torch.testing.assert_close(total.detach(), exact.log_evidence.detach())
    (want,) = torch.autograd.grad(exact.log_evidence.sum(), soft)
    positive = soft.detach() > 0
    torch.testing.assert_close(got[positive], want[positive])
    assert bool(got.isfinite().all())


def test_soft_evidence_on_arrays_passes_gradients():
    model = MarkovRandomField.grid((2, 2), 3, coupling=0.7)
    soft = (torch.rand(2, 2, 2, 3, dtype=torch.float64) + 0.1).requires_grad_()
    question = Question.read(model, {"x": soft}, None)
    field = observed_field(question)
    np.testing.assert_allclose(field.detach().numpy(), question.log_field())
    (got,) = torch.autograd.grad(field[:, 4].sum(), soft)
    want = torch.zeros_like(soft)
    want[:, 0, 1, 1] = 1 / soft.detach()[:, 0, 1, 1]
    torch.testing.assert_close(got, want)


# --- batched gmres against dense solutions


def test_equals_dense_solutions():
    rng = np.random.default_rng(0)
    matrices = torch.from_numpy(np.eye(40) + 0.5 * rng.normal(size=(5, 40, 40)) / np.sqrt(40))
    right = torch.from_numpy(rng.normal(size=(5, 40)))
    right[3] = 0.0
    found, left = solve(lambda v: (matrices @ v[..., None])[..., 0], right, 1e-12, 2000)
    want = torch.linalg.solve(matrices, right)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-9)
    assert float(left.max()) <= 1e-12
    assert bool((found[3] == 0).all())


def test_nilpotent_systems_take_as_many_products_as_their_index():
    # identity minus a shift: what a chain's messages make of it
    calls = []

    def matrix(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return v - torch.cat([torch.zeros(1, 1).to(v), v[:, :-1]], dim=1)

    right = torch.zeros(1, 8, dtype=torch.float64)
    right[0, 0] = 1.0
    found, _ = solve(matrix, right, 1e-12, 100)
    torch.testing.assert_close(found, torch.ones(1, 8, dtype=torch.float64))
    assert len(calls) <= 9


def test_what_is_not_solved_is_told():
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(60, 60)))
    matrix = torch.from_numpy(rotation)
    right = torch.from_numpy(rng.normal(size=(1, 60)))
    found, left = solve(lambda v: v @ matrix.T, right, 1e-12, 26)
    rest = right - found @ matrix.T
    assert float(left[0]) > 1e-3
    assert float(left[0]) == float(rest.norm() / right.norm())


def test_empty():
    for shape in [(0, 4), (3, 0)]:
        found, left = solve(lambda v: v, torch.zeros(shape), 1e-6, 10)
        assert found.shape == shape
        assert left.shape == shape[:1]
