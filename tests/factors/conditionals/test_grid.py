"""Tables of distributions over the grid of states."""

import itertools

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Poisson

from pgnn import Variable
from pgnn.errors import Intractable, Unsupported
from pgnn.factors.conditionals.grid import (
    configurations,
    element_table,
    state_table,
    values_on_grid,
)

CPU = torch.device("cpu")
A, B = Variable("a", 2), Variable("b", 3)


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_configurations_are_those_of_nested_loops() -> None:
    values = configurations([A, B], 2, CPU)
    expected = [*itertools.product(range(2), range(3))] * 2
    assert [*zip(values["a"].tolist(), values["b"].tolist(), strict=True)] == expected
    assert configurations([], 2, CPU) == {}


def test_values_of_a_row_are_the_same_on_its_grid() -> None:
    rows, values = values_on_grid({"x": torch.tensor([5, 7])}, [A, B], CPU)
    assert rows == 2
    assert values["x"].tolist() == [5] * 6 + [7] * 6
    assert values["b"].tolist() == [0, 1, 2] * 4
    rows, values = values_on_grid({}, [A], CPU)
    assert (rows, values["a"].tolist()) == (None, [0, 1])


@pytest.mark.parametrize("rows", [None, 2])
def test_the_table_of_a_variable(rows: int | None) -> None:
    child, number = Variable("c", 4), (rows or 1) * 6
    dist = Categorical(logits=logits(number, 4))
    table = state_table(child, dist, rows, [2, 3], CPU)
    assert table.shape == ((2, 3, 4) if rows is None else (2, 2, 3, 4))
    cells = table.reshape(number, 4)
    for k in range(4):
        torch.testing.assert_close(cells[:, k], dist.log_prob(torch.tensor(k)))
    torch.testing.assert_close(table.exp().sum(-1), torch.ones(table.shape[:-1]))


def test_a_distribution_that_is_the_same_everywhere() -> None:
    dist = Categorical(logits=logits(4))
    table = state_table(Variable("c", 4), dist, None, [2], CPU)
    torch.testing.assert_close(table, dist.logits.expand(2, 4))


@pytest.mark.parametrize("rows", [None, 2])
def test_tables_of_the_elements_of_an_array(rows: int | None) -> None:
    child, number = Variable("c", 4, shape=(2, 5)), (rows or 1) * 3
    dist = Independent(Categorical(logits=logits(number, 2, 5, 4)), 2)
    table = element_table(child, [B], rows, dist, CPU)
    assert table.shape == ((3, 10, 4) if rows is None else (2, 3, 10, 4))
    states = torch.randint(4, (number, 2, 5), generator=torch.Generator().manual_seed(1))
    chosen = table.reshape(number, 10, 4).gather(-1, states.reshape(number, 10, 1))
    torch.testing.assert_close(chosen.sum((1, 2)), dist.log_prob(states))


def test_elements_that_depend_on_each_other_have_no_tables() -> None:
    child = Variable("c", 4, shape=(2,))
    parts = Independent(Categorical(logits=logits(3, 2, 4)), 1)
    mixture = MixtureSameFamily(Categorical(logits=logits(3)), parts)
    for dist in (mixture, Categorical(logits=logits(2, 4))):
        with pytest.raises(Unsupported, match="the elements of 'c' are not independent"):
            element_table(child, [], None, dist, CPU)


def test_tables_are_in_the_budget() -> None:
    wide = Variable("c", 2**20, shape=(2**14,))
    rates = torch.ones(()).expand(2**14)
    with pytest.raises(Intractable, match="the tables of 'c'"):
        element_table(wide, [], None, Independent(Poisson(rates), 1), CPU)
