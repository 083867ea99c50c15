"""Reading tables: every form that people write, every mistake that they make."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import Intractable, ModelError
from pgnn.factors import Tabular, Variable
from tests import oracle

A = Variable("a", ["n", "y"])
B = Variable("b", ["lo", "mid", "hi"])
C = Variable("c", ["no", "yes"])
P_C = np.array([[[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]], [[0.4, 0.6], [0.0, 1.0], [0.25, 0.75]]])


def rows() -> dict[tuple[str, str], list[float]]:
    return {(a, b): P_C[i, j].tolist() for i, a in enumerate("ny") for j, b in enumerate(B.states)}


@pytest.mark.parametrize(
    "table",
    [
        P_C.tolist(),
        P_C,
        P_C.astype(np.float32),
        torch.tensor(P_C),
        [[torch.tensor(r) for r in block] for block in P_C],
        rows(),
        {key: np.array(row) for key, row in reversed(rows().items())},
        {key: {"yes": row[1], "no": row[0]} for key, row in rows().items()},
    ],
)
def test_forms_of_a_table(table: object) -> None:
    p = Tabular(C, [A, B], table)
    np.testing.assert_allclose(p.probs.numpy(), P_C, atol=1e-7)
    assert p.logits.dtype == torch.float64


def test_frames_are_read_by_their_labels() -> None:
    frame = pd.DataFrame({"yes": [0.3, 0.1], "no": [0.7, 0.9]}, index=["y", "n"])
    expected = [[0.9, 0.1], [0.7, 0.3]]
    np.testing.assert_allclose(Tabular(C, [A], frame).probs, expected)
    np.testing.assert_allclose(
        Tabular(C, [A], pd.DataFrame([[0.9, 0.1], [0.7, 0.3]])).probs, expected
    )
    index = pd.MultiIndex.from_tuples(list(rows())[::-1])
    frame = pd.DataFrame(list(rows().values())[::-1], index=index, columns=["no", "yes"])
    np.testing.assert_allclose(Tabular(C, [A, B], frame).probs, P_C)
    series = pd.Series({"yes": 0.2, "no": 0.8})
    np.testing.assert_allclose(Tabular(C, [], series).probs, [0.8, 0.2])
    np.testing.assert_allclose(Tabular(C, [], {"yes": 0.2, "no": 0.8}).probs, [0.8, 0.2])
    frame = pd.DataFrame([[0.9, 0.1]] * 2, index=["y", "y"], columns=["no", "yes"])
    with pytest.raises(ModelError, match="duplicate row label"):
        Tabular(C, [A], frame)


def test_series_have_a_level_for_each_variable() -> None:
    index = pd.MultiIndex.from_product([["y", "n"], ["yes", "no"]])
    series = pd.Series([0.3, 0.7, 0.1, 0.9], index=index)
    np.testing.assert_allclose(Tabular(C, [A], series).probs, [[0.9, 0.1], [0.7, 0.3]])
    frame = pd.DataFrame({"a": ["y", "y", "n", "n"], "c": ["no", "yes", "no", "no"]})
    shares = frame.groupby("a")["c"].value_counts(normalize=True).unstack(fill_value=0.0)
    np.testing.assert_allclose(Tabular(C, [A], shares).probs, [[1.0, 0.0], [0.5, 0.5]])


def test_rows_or_columns_without_labels_are_in_the_order_of_the_states() -> None:
    expected = [[0.9, 0.1], [0.7, 0.3]]
    numbers = [[0.1, 0.9], [0.3, 0.7]]
    columns = pd.DataFrame(numbers, columns=["yes", "no"])
    np.testing.assert_allclose(Tabular(C, [A], columns).probs, expected)
    rows = pd.DataFrame(expected[::-1], index=["y", "n"])
    np.testing.assert_allclose(Tabular(C, [A], rows).probs, expected)
    one = pd.DataFrame([[0.2, 0.8]], columns=["yes", "no"], index=["probability"])
    np.testing.assert_allclose(Tabular(C, [], one).probs, [0.8, 0.2])
    np.testing.assert_allclose(Tabular(C, [], pd.Series([0.8, 0.2])).probs, [0.8, 0.2])


@pytest.mark.parametrize(
    ("parents", "table", "message"),
    [
        ([], pd.Series({"yes": 0.2, "maybe": 0.8}), "index of the table of 'c' must"),
        ([], pd.Series([0.2, 0.8], index=["yes", "yes"]), "duplicate label"),
        ([], pd.DataFrame([[0.2, 0.8]], columns=["p", "q"]), "columns of the table of 'c'"),
        (
            [A],
            pd.DataFrame([[1, 0]] * 2, columns=["n", "y"]),
            "columns of the table of 'c'",
        ),
        ([A], pd.DataFrame([[1, 0]] * 2, index=["no", "yes"]), "variable 'a' has no state 'no'"),
        ([A, B], pd.DataFrame([[1, 0]] * 4, index=list("abcd")), "labelled by the states of its"),
        ([A], pd.Series([1.0, 0.0], index=["no", "yes"]), "an index level for each of"),
    ],
)
def test_labels_that_are_no_states_are_refused(parents: list, table: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tabular(C, parents, table)


def test_tuples_as_labels_of_one_parent() -> None:
    pair = Variable("pair", [(0, 0), (0, 1)])
    p = Tabular(C, [pair], {(0, 1): [0.0, 1.0], (0, 0): [1.0, 0.0]})
    np.testing.assert_allclose(p.probs, np.eye(2))


def broken(where: tuple[int, ...], value: float) -> np.ndarray:
    table = P_C.copy()
    table[where] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((2, 6)), r"shape \(2, 3, 2\), axes \(a: 2, b: 3, c: 2\).*got \(2, 6\).*reshape"),
        (P_C.transpose(1, 0, 2), r"got \(3, 2, 2\); the number of entries fits"),
        (np.ones((2, 3)), r"got \(2, 3\)$"),
        (broken((1, 0, 1), -0.6), r"P\(c=yes \| a=y, b=lo\) is -0.6"),
        (broken((0, 2, 0), np.nan), r"P\(c=no \| a=n, b=hi\) is nan"),
        (broken((0, 2, 0), np.inf), r"P\(c=no \| a=n, b=hi\) is inf"),
        (
            broken((1, 2, 0), 0.26),
            r"row P\(c \| a=y, b=hi\) of the table of 'c' must sum to 1, but sums to 1.01, "
            r"off by \+0.01; correct",
        ),
        (P_C / 2, r"sums to 0.5, off by -0.5 \(and 5 other rows"),
        ([[[0.5, 0.5]], [[1.0]]], "'c' must be a rectangular array of numbers"),
        ("table", "'c' must be a rectangular array of numbers"),
        ({("n", "lo"): [0.5, 0.5]}, r"misses 5 of 6 rows, the first is P\(c \| a=n, b=mid\)"),
        ({("n", "low"): [0.5, 0.5]}, "'b' has no state 'low'; did you mean 'lo'"),
        ({("n", "lo"): [0.5, 0.5, 0.0]}, r"must have 2 entries, got shape \(3,\)"),
        ({("n", "lo"): {"no": 1.0}}, "misses state 'yes'"),
        ({("n", "lo"): {"no": 1.0, "yess": 0.0}}, "'c' has no state 'yess'"),
        ({"n": [0.5, 0.5]}, r"keyed by one state each of \('a', 'b'\)"),
        ({("n", None): [0.5, 0.5]}, "None is no state of 'b'"),
        ({("n", "lo"): [0.5, 0.5], (0, "lo"): [0.5, 0.5]}, "is given twice"),
    ],
)
def test_wrong_tables(table: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Tabular(C, [A, B], table)


def test_a_root_that_is_wrong() -> None:
    with pytest.raises(ModelError, match=r"row P\(c\) of the table of 'c' must sum to 1"):
        Tabular(C, [], [0.5, 0.4])


def test_printed_rows_are_used_normalised() -> None:
    thirds = Variable("x", 3)
    p = Tabular(thirds, [], [0.3333, 0.3333, 0.3333])
    np.testing.assert_allclose(p.probs.sum(), 1.0, rtol=1e-15)
    with pytest.raises(ModelError, match=r"off by -0\.00011"):
        Tabular(thirds, [], [0.33329, 0.3333, 0.3333])


def test_tensors_that_require_grad_are_refused_not_detached() -> None:
    table = torch.tensor(P_C, requires_grad=True)
    with pytest.raises(ModelError, match="requires grad"):
        Tabular(C, [A, B], table)
    assert table.requires_grad


def test_the_table_is_a_copy() -> None:
    table = torch.tensor(P_C)
    p = Tabular(C, [A, B], table)
    table.zero_()
    np.testing.assert_allclose(p.probs, P_C)


def test_set_probs_keeps_the_parameter() -> None:
    p = Tabular(C, [A, B])
    logits = p.logits
    p.set_probs(torch.tensor(P_C, requires_grad=True))
    assert p.logits is logits
    assert logits.requires_grad
    np.testing.assert_allclose(p.probs.detach(), P_C)
    with pytest.raises(ModelError, match="sum to 1"):
        p.set_probs(P_C * 2)
    np.testing.assert_allclose(p.probs.detach(), P_C)


def test_learnable_tables_are_bounded() -> None:
    with pytest.raises(Intractable, match=r"134\.2 million entries or more.*use NoisyOr"):
        Tabular(C, [Variable(k, 2) for k in range(29)])


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(oracle.KINDS))
def test_products_of_tables_are_the_joint(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    network = oracle.random_network(rng, kind, num_variables=5)
    variables = {name: Variable(name, k) for name, k in network.cards.items()}
    factors = [
        Tabular(
            variables[name],
            [variables[p] for p in network.parents[name]],
            network.probabilities[name],
        ).factor()
        for name in network.cards
    ]
    product = factors[0].product(*factors[1:])
    joint = network.joint()
    np.testing.assert_allclose(
        product.values.permute([product.names.index(n) for n in joint.names]),
        joint.table,
        atol=1e-14,
    )
    keep = list(rng.permutation(joint.names)[:2])
    got = product.marginalize([n for n in joint.names if n not in keep])
    np.testing.assert_allclose(got.values, oracle.marginal(joint, got.names), atol=1e-13)
