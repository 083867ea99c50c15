"""Every kind's operations against the same factors written down as tables."""

import numpy as np
import pytest
import torch

from pgnn.errors import ModelError
from pgnn.factors.elements import Elements
from pgnn.factors.groups.factor_group import FactorGroup, TableGroup
from pgnn.factors.groups.grouping import grouped, merged
from pgnn.factors.groups.matrix_group import MatrixGroup, Sides
from pgnn.factors.groups.potts_group import PottsGroup
from pgnn.factors.variable import Variable
from tests.factors.groups.parity import ParityGroup

ROWS = 5
PAIRS = np.array([[0, 1], [2, 1], [3, 0]])


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


ALL = np.arange(4)
WITHIN = Sides(ALL, ALL)
GROUPS = {
    "own tables": TableGroup([[0, 1, 2], [3, 1, 0]], normal(0, 2, 3, 3, 3)),
    "a shared table": TableGroup(PAIRS, normal(1, 1, 3, 3)),
    "row-wise tables": TableGroup(PAIRS, normal(2, ROWS, 3, 3, 3)),
    "Potts": PottsGroup(PAIRS, normal(3, 3), 3),
    "shared Potts": PottsGroup(PAIRS, normal(4, 1), 3),
    "row-wise Potts": PottsGroup(PAIRS, normal(5, ROWS, 3), 3),
    "forbidden Potts": PottsGroup(PAIRS, torch.tensor([0.3, -np.inf, 0.0]).double(), 3),
    "parity": ParityGroup([[0, 1, 2], [2, 3, 0]], normal(6, 2)),
    "matrix": MatrixGroup(
        Sides(np.array([2, 0]), np.array([1, 3])),
        normal(60, 4, 3, 1),
        torch.eye(3).double(),
        normal(61, 3, 1),
    ),
    "matrix within": MatrixGroup(WITHIN, normal(62, 6, 2, 2), normal(63, 3, 2), normal(63, 3, 2)),
    "row-wise matrix": MatrixGroup(
        Sides(np.array([0, 3]), np.array([1])),
        normal(64, ROWS, 2, 1, 1),
        normal(65, 3, 1),
        normal(66, 3, 1),
    ),
    "row-wise parity": ParityGroup([[0, 1], [2, 3]], normal(7, ROWS, 2)),
}
KINDS = pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)


def states_of(g: FactorGroup, seed: int = 8) -> torch.Tensor:
    """``(E, B)`` states of all elements."""
    most = g.log_values.shape[-1]
    return torch.from_numpy(np.random.default_rng(seed).integers(0, most, size=(4, ROWS)))


def near(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want.to(got.dtype), rtol=1e-10, atol=1e-10)


@KINDS
def test_complete_rows(group: FactorGroup) -> None:
    tables, columns = group.as_tables(), states_of(group)
    states = columns.T[:, torch.from_numpy(group.scopes)]
    values = tables.log_values.expand(*tables.batch_shape, group.num_factors, -1, -1, *[-1] * (
        group.arity - 2)).expand(*(() if group.batch_shape else (ROWS,)), *[-1] * (
        group.arity + 1 + len(group.batch_shape)))  # fmt: skip
    want = torch.stack(
        [
            torch.stack([values[(b, f, *states[b, f])] for f in range(group.num_factors)])
            for b in range(ROWS)
        ]
    )
    near(group.look_up(states), want)
    near(group.score(columns), want.sum(1))
    near(group.score(columns.to(torch.uint8)), want.sum(1))
    rows = torch.tensor([4, 0, 4])
    near(group.look_up(states[rows], rows), want[rows])


@KINDS
def test_functions_of_one_place(group: FactorGroup) -> None:
    tables, columns = group.as_tables(), states_of(group)
    states = columns.T[:, torch.from_numpy(group.scopes)]
    num, rows = group.log_values.shape[-1], torch.tensor([3, 3, 0, 1])
    for place in range(group.arity):
        values = group.conditionals(states, place)
        near(values, tables.conditionals(states, place))
        for k in range(num):
            changed = states.clone()
            changed[..., place] = k
            near(values[..., k], group.look_up(changed))
        near(group.conditionals(states[rows], place, rows), values[rows])
        first = num * torch.from_numpy(group.scopes[:, place])
        begin = normal(9, ROWS, 4 * num)
        near(
            group.add_conditionals(begin, first, states, place),
            tables.add_conditionals(begin, first, states, place),
        )


@KINDS
@pytest.mark.parametrize("hard", [False, True])
def test_messages(group: FactorGroup, hard: bool) -> None:
    tables = group.as_tables()
    num, count = group.log_values.shape[-1], group.num_factors
    scale = torch.rand(count).double() + 0.5
    cavities = [normal(10 + k, ROWS, count, num) for k in range(group.arity)]
    own = group.messages(group.numbers, scale, hard)
    plain = tables.messages(tables.numbers, scale, hard)
    for got, want in zip(own.messages(cavities), plain.messages(cavities), strict=True):
        near(got, want)
    near(own.log_total(cavities), plain.log_total(cavities))
    near(own.beliefs(cavities), plain.beliefs(cavities).expand_as(own.beliefs(cavities)))


@KINDS
def test_gradients_of_messages(group: FactorGroup) -> None:
    """By its numbers: of the log totals, weighted by rows."""
    num, count = group.log_values.shape[-1], group.num_factors
    cavities = [normal(20 + k, ROWS, count, num) for k in range(group.arity)]
    weights = normal(30, ROWS)
    numbers = group.numbers.clone().requires_grad_()
    total = group.messages(numbers, 1.0, False).log_total(cavities)
    (want,) = torch.autograd.grad((total * weights[:, None]).sum(), numbers)
    want = torch.nan_to_num(want)
    near(group.messages(group.numbers, 1.0, False).gradient(cavities, weights), want)


@KINDS
def test_expectations(group: FactorGroup) -> None:
    num = group.log_values.shape[-1]
    q = [normal(40 + k, ROWS, group.num_factors, num).softmax(-1) for k in range(group.arity)]
    near(group.expected(q), group.as_tables().expected(q))


@KINDS
def test_what_kernels_read(group: FactorGroup) -> None:
    compiled = group.for_kernels()
    assert compiled.kernel_kind is not None
    assert (compiled is group) == (group.kernel_kind is not None)
    entries = compiled.entries()
    assert entries.shape == (*group.numbers.shape[: len(group.batch_shape) + 1],
                             compiled.num_entries)  # fmt: skip
    leaf = compiled.numbers.clone().requires_grad_()
    by_entry = normal(50, *entries.shape)
    (want,) = torch.autograd.grad(compiled.with_numbers(leaf).entries(), leaf, by_entry)
    near(compiled.numbers_gradient(by_entry), want)


@KINDS
def test_rows_and_factors(group: FactorGroup) -> None:
    rows, which = np.array([2, 2, 0]), torch.tensor([1, 0])
    table = group.log_values
    near(group.of_rows(rows).log_values, table[rows] if group.batch_shape else table)
    assert type(group.select(which)) is type(group)
    axis = len(group.batch_shape)
    spread = table.expand(*table.shape[:axis], group.num_factors, *table.shape[axis + 1 :])
    chosen = group.select(which).log_values
    near(chosen.expand_as(spread.index_select(axis, which)), spread.index_select(axis, which))
    assert (group.select(which).scopes == group.scopes[which]).all()
    leaf = group.with_numbers(group.numbers.clone().requires_grad_())
    copy = leaf.snapshot()
    assert type(copy) is type(group)
    with torch.no_grad():
        leaf.numbers.mul_(2)
    near(copy.log_values, table)


@KINDS
def test_joining(group: FactorGroup) -> None:
    elements = Elements([Variable("x", group.log_values.shape[-1], shape=(4,))])
    joined = merged([group, group])
    assert len(joined) == (2 if group.shared else 1)
    twice = [f.log_values for g in joined for f in g.factors(elements)]
    once = [f.log_values for f in group.factors(elements)]
    for got, want in zip(twice, [*once, *once], strict=True):
        near(got, want)


def test_joining_keeps_kinds_apart() -> None:
    potts, dense = GROUPS["Potts"], GROUPS["own tables"]
    assert merged([potts, dense, potts])[1] is dense
    assert len(merged([potts, potts.as_tables(), PottsGroup(PAIRS, normal(3, 3), 4)])) == 3


def test_shapes_are_checked() -> None:
    with pytest.raises(ModelError, match=r"need numbers of shape .* got \(2,\)"):
        PottsGroup(PAIRS, torch.zeros(2), 3)
    with pytest.raises(ModelError, match="over two elements"):
        PottsGroup([[0, 1, 2]], torch.zeros(1), 3)
    with pytest.raises(ModelError, match=r"scopes must have shape \(F, n\)"):
        TableGroup([0, 1], torch.zeros(1, 3, 3))


def test_factors_with_the_very_same_table_share_it_in_a_group() -> None:
    elements = Elements([Variable("x", 2, shape=(21,))])
    table = normal(70, 1, 2, 2)
    chain = TableGroup([[k, k + 1] for k in range(20)], table).factors(elements)
    (group,) = grouped(chain, elements)
    assert group.shared
    assert group.numbers.shape == (1, 2, 2)
    few = grouped(chain[:3], elements)
    assert [g.numbers.shape for g in few] == [(3, 2, 2)]
