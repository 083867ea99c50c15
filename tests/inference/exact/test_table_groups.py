"""Tables in groups answer as the same tables on their own do, by the kernels and by torch."""

import math

import numpy as np
import pytest
import torch

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.groups.factor_group import TableGroup
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from pgnn.inference.exact import torch_executor
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph

ROWS = 5
PAIRS = np.array([[0, 1], [1, 2], [3, 4], [6, 5]])


def tensor(rng, *shape, scale=1.0):
    return torch.from_numpy(scale * rng.normal(size=shape)).requires_grad_()


def grouped(seed, rowwise, scale=1.0):
    """Seven variables of three states in four components; tables shared or not."""
    rng = np.random.default_rng(seed)
    batch = (ROWS,) if rowwise else ()
    return FactorGraph(
        tuple(Variable(k, 3) for k in range(7)),
        (
            TableGroup(np.arange(7)[:, None], tensor(rng, *batch, 7, 3, scale=scale)),
            TableGroup(PAIRS, tensor(rng, 1, 3, 3)),
            TableGroup(PAIRS[:2], tensor(rng, *batch, 1, 3, 3, scale=scale)),
            PottsGroup([[0, 2], [4, 5]], tensor(rng, 2), 3),
            TableGroup(np.zeros((2, 0)), tensor(rng, *batch, 2)),
        ),
    )


def alone(graph):
    return FactorGraph(graph.variables, graph.factors)


def codes(rng, share=0.3):
    drawn = rng.integers(0, 3, size=(ROWS, 7)).astype(np.int32)
    return np.where(rng.random(drawn.shape) < share, drawn, np.int32(-1))


def evidence(observed):
    return RowEvidence(observed, True, None, np.zeros(len(observed)))


def leaves(graph):
    return [g.numbers for g in graph.groups]


@pytest.mark.parametrize("rowwise", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_groups_answer_as_single_tables_do(seed, rowwise):
    made = grouped(seed, rowwise)
    observed = codes(np.random.default_rng(seed))
    wanted = np.ones(7, dtype=np.bool_)
    one, other = Solver(made), Solver(alone(made))
    for a, b in zip(one.marginals(observed, None, wanted), other.marginals(observed, None, wanted),
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose(
        one.joint(observed, None, [0, 5]), other.joint(observed, None, [0, 5])
    )
    for a, b in zip(
        one.best(observed, None, wanted), other.best(observed, None, wanted), strict=True
    ):
        np.testing.assert_allclose(a, b)
    states, log_z = one.draw(observed, None, 3, 0)
    again, log_z_again = other.draw(observed, None, 3, 0)
    np.testing.assert_array_equal(states, again)
    np.testing.assert_allclose(log_z, log_z_again)


@pytest.mark.parametrize("rowwise", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_those_that_torch_finds(seed, rowwise):
    made = grouped(seed, rowwise)
    rng = np.random.default_rng(seed)
    observed, weights = codes(rng), torch.from_numpy(rng.normal(size=ROWS))
    value = Differentiable(Solver(made), evidence(observed)).log_evidence()
    found = torch.autograd.grad(value @ weights, leaves(made))
    plain = torch.stack([
        torch_executor.log_partition(
            graph=made.at_rows(np.array([b])), order=[v for v in range(7) if observed[b, v] < 0],
            codes=torch.from_numpy(observed[b : b + 1]), unary={}, sliced=np.flatnonzero(observed[b]
            >= 0), used=range(made.num_factors),
        )[0]
        for b in range(ROWS)
    ])  # fmt: skip
    expected = torch.autograd.grad(plain @ weights, leaves(made))
    torch.testing.assert_close(value, plain)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_second_derivatives_pass_through_groups():
    made = grouped(0, False)
    observed = codes(np.random.default_rng(0))

    def slope(graph):
        value = Differentiable(Solver(graph), evidence(observed)).log_evidence().sum()
        (first,) = torch.autograd.grad(value, graph.sources[1], create_graph=True)
        return torch.autograd.grad((first**2).sum(), graph.sources[1])[0]

    lone = alone(made)
    value = Differentiable(Solver(lone), evidence(observed)).log_evidence().sum()
    (first,) = torch.autograd.grad(value, leaves(made)[1], create_graph=True)
    (expected,) = torch.autograd.grad((first**2).sum(), leaves(made)[1])
    torch.testing.assert_close(slope(made), expected)


def test_a_group_knows_its_children():
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.dirichlet(np.ones(3), size=1)).log()
    rows = torch.from_numpy(rng.dirichlet(np.ones(3), size=(1, 3))).log()
    made = FactorGraph(
        tuple(Variable(k, 3) for k in range(4)),
        (TableGroup([[0]], root, 0), TableGroup([[0, 1], [0, 2], [2, 3]], rows, 1)),
    )
    assert made.child_factor.tolist() == [0, 1, 2, 3]
    assert [f.child for f in made.factors] == [0, 1, 2, 3]
    nothing = np.full((1, 4), -1, dtype=np.int32)
    plan, _ = next(iter(Solver(made).plans(nothing, Ask(wanted=np.arange(4) == 2))))
    assert plan.task.dropped.tolist() == [False, True, False, True]


@pytest.mark.parametrize("rowwise", [False, True])
def test_what_is_flushed_in_one_component_does_not_depend_on_the_others(rowwise):
    # far states vanish in linear units; the sum over forty components is deep all the same
    count = 40
    field = torch.tensor([0.0, -800.0, -20.0]).double().repeat(count, 1)
    prior = torch.tensor([-225.0, 0.0, -201.0]).double()[None]
    pairs = torch.tensor([[-3.0, 0.0], [0.0, -3.0], [-3.0, -3.0]]).double()[None]
    if rowwise:
        field = field.expand(3, count, 3).contiguous()
    cells = np.arange(count)[:, None]
    made = FactorGraph(
        tuple(Variable(k, 3 if k < count else 2) for k in range(2 * count)),
        (
            TableGroup(cells, field),
            TableGroup(cells, prior),
            TableGroup(np.hstack([cells, cells + count]), pairs),
        ),
    )
    solver = Solver(made)
    assert solver.cpu is not None
    nothing = np.full((3, 2 * count), -1, dtype=np.int32)
    wanted = np.ones(2 * count, dtype=np.bool_)
    assert made.scaled_tables.flushed.all()
    plan, rows = next(iter(solver.plans(nothing, Ask(wanted=wanted))))
    log_z, found = np.zeros(3), np.zeros((3, int(made.offset[-1])))
    solver.cpu.answer(plan, nothing, None, rows, wanted, log_z, found)
    near, far = math.log1p(math.exp(-3.0)) - 225.0, math.log(2.0) - 3.0 - 221.0
    np.testing.assert_allclose(log_z, count * np.logaddexp(near, far), rtol=1e-12)
    belief = np.ones(made.num_factors, dtype=np.bool_)
    plan, _ = next(iter(solver.plans(nothing, Ask(belief=belief, prune=False))))
    *_, lost = solver.cpu.expect(plan, nothing, None, np.ones(3), made.rowwise)
    assert len(lost) == 0


@pytest.mark.parametrize("rowwise", [False, True])
def test_what_was_flushed_and_counts_is_looked_at_again(rowwise):
    # the only possible state of one component is one that linear units lose
    field = torch.tensor([[0.0, -800.0], [0.0, -1.0]]).double()
    walls = torch.tensor([[-math.inf, 0.0], [0.0, 0.0]]).double()
    if rowwise:
        field = field.expand(3, 2, 2).contiguous()
    field.requires_grad_()
    cells = np.arange(2)[:, None]
    made = FactorGraph(
        (Variable(0, 2), Variable(1, 2)), (TableGroup(cells, field), TableGroup(cells, walls))
    )
    nothing = np.full((3, 2), -1, dtype=np.int32)
    value = Differentiable(Solver(made), evidence(nothing)).log_evidence()
    expected = -800.0 + math.log1p(math.exp(-1.0))
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-12)
    (found,) = torch.autograd.grad(value.sum(), field)
    total = found if not rowwise else found.sum(0)
    near = 1.0 / (1.0 + math.exp(-1.0))
    np.testing.assert_allclose(
        total.numpy() / 3.0, [[0.0, 1.0], [near, 1.0 - near]], rtol=1e-12, atol=1e-300
    )
