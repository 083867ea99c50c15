"""Factors against sums and products written out with einsum."""

import pytest
import torch

from pgnn.errors import EvidenceError, ModelError
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable

A, B, C = Variable("a", 2), Variable("b", 3), Variable("c", 1)
INF = float("inf")


def table(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values[values < 0.2] = 0.0
    return values


F_AB = Factor([A, B], table(2, 3).log())
F_BC = Factor([B, C], table(3, 1, seed=1).log())
F_BATCH = Factor([B], table(4, 3, seed=2).log())


def test_product_aligns_and_broadcasts() -> None:
    product = F_AB.product(F_BC, F_BATCH)
    assert product.names == ("a", "b", "c")
    assert product.batch_shape == (4,)
    expected = torch.einsum("ab,bc,nb->nabc", F_AB.values, F_BC.values, F_BATCH.values)
    torch.testing.assert_close(product.values, expected)


def test_product_with_scalars() -> None:
    half = Factor([], torch.tensor(0.5, dtype=torch.float64).log())
    rows = Factor([], torch.tensor([0.5, 0.25], dtype=torch.float64).log())
    torch.testing.assert_close(half.product(half).values.item(), 0.25)
    torch.testing.assert_close(half.product(rows).values.tolist(), [0.25, 0.125])
    torch.testing.assert_close(F_AB.product(half).values, F_AB.values / 2)
    assert F_AB.product(rows).batch_shape == (2,)


def test_marginalize_and_maximize() -> None:
    torch.testing.assert_close(F_AB.marginalize(["b"]).values, F_AB.values.sum(1))
    torch.testing.assert_close(F_AB.marginalize(["a", "b"]).values, F_AB.values.sum())
    torch.testing.assert_close(F_BATCH.marginalize(["b"]).values, F_BATCH.values.sum(1))
    torch.testing.assert_close(F_AB.maximize(["a"]).values, F_AB.values.amax(0))
    torch.testing.assert_close(F_BATCH.maximize(["b"]).values, F_BATCH.values.amax(1))
    assert F_AB.marginalize([]) is F_AB
    with pytest.raises(EvidenceError, match="no variable 'bb'; did you mean 'b'"):
        F_AB.marginalize(["bb"])


def test_condition_by_index_and_by_row() -> None:
    torch.testing.assert_close(F_AB.condition({"a": 1, "z": 0}).values, F_AB.values[1])
    rows = {"a": torch.tensor([0, 1, 1, 0]), "b": torch.tensor([2, 0, 1, 2], dtype=torch.int32)}
    expected = F_AB.values[rows["a"], rows["b"].long()]
    torch.testing.assert_close(F_AB.condition(rows).values, expected)
    torch.testing.assert_close(
        F_AB.condition({"b": rows["b"]}).values, F_AB.values[:, rows["b"].long()].T
    )
    torch.testing.assert_close(
        F_BATCH.condition({"b": rows["b"]}).values, F_BATCH.values[range(4), rows["b"].long()]
    )
    torch.testing.assert_close(F_BATCH.condition({"b": 2}).values, F_BATCH.values[:, 2])


@pytest.mark.parametrize("state", [2, -1, torch.tensor([0, 2]), torch.tensor([-1])])
def test_condition_refuses_what_is_no_state(state: object) -> None:
    with pytest.raises(EvidenceError, match=r"of 'a' is out of range 0\.\.1"):
        F_AB.condition({"a": state})  # type: ignore[dict-item]
    with pytest.raises(EvidenceError, match="integer indices"):
        F_AB.condition({"a": torch.tensor([0.5])})


def test_normalize() -> None:
    torch.testing.assert_close(F_AB.normalize().values, F_AB.values / F_AB.values.sum())
    empty = Factor([A], torch.tensor([[-INF, -INF], [0.0, 0.0]]))
    assert empty.normalize().values.tolist() == [[0.0, 0.0], [0.5, 0.5]]


def test_wrong_declarations() -> None:
    with pytest.raises(ModelError, match="twice"):
        Factor([A, A], torch.zeros(2, 2))
    with pytest.raises(ModelError, match=r"needs last axes \(2, 3\), got \(3, 2\)"):
        Factor([A, B], torch.zeros(3, 2))
    with pytest.raises(ModelError, match="real"):
        Factor([Variable("h")], torch.zeros(2))


def test_maximum_sends_its_gradient_to_one_entry() -> None:
    tied = torch.zeros(2, 3, requires_grad=True)
    Factor([A, B], tied).maximize(["b"]).log_values.sum().backward()
    assert tied.grad is not None
    assert sorted(tied.grad.flatten().tolist()) == [0, 0, 0, 0, 1, 1]
