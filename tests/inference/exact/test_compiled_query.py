"""Prepared queries: codes in, probabilities out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgnn
from pgnn.errors import EvidenceError, Intractable
from tests import oracle
from tests.zoo import ZOO

NAMES = ["sprinkler", "structural_zeros", "one_state", "odd_names", "noisy_max", "markov"]


def expected(name: str, codes: list[int]) -> tuple[float, np.ndarray]:
    """Log evidence and all marginals, side by side; zeros where the codes are impossible."""
    example = ZOO[name]
    row = dict(zip(example.names, codes, strict=True))
    joint = example.joint(0, row)
    log_z = oracle.log_evidence(joint)
    if log_z == -math.inf:
        return log_z, np.zeros(sum(example.cards.values()))
    return log_z, np.concatenate([oracle.marginal(joint, [n]) for n in example.names])


@given(st.sampled_from(NAMES), st.integers(0, 2**31), st.booleans())
def test_any_row_alone_and_in_a_batch(name: str, seed: int, known: bool) -> None:
    """Whether or not the observed variables were announced; those may still be unseen (-1)."""
    example = ZOO[name]
    model, rng = example.make(), np.random.default_rng(seed)
    size = len(example.names)
    chosen = rng.permutation(size)[: int(rng.integers(0, size + 1))] if known else np.arange(size)
    card = np.array([example.cards[example.names[v]] for v in chosen], dtype=np.int64)
    codes = rng.integers(-1, np.maximum(card, 1), (12, len(chosen)))
    query = model.compile(None, [example.names[v] for v in chosen] if known else None)
    batch = query(torch.from_numpy(codes))
    assert batch.marginals.shape == (12, sum(example.cards.values()))
    for row, code in enumerate(codes):
        whole = np.full(size, -1)
        whole[chosen] = code
        log_z, marginals = expected(name, whole.tolist())
        for answer in (query(code), query(torch.from_numpy(code))):
            assert answer.log_evidence.shape == ()
            assert float(answer.log_evidence) == pytest.approx(log_z, abs=1e-9)
            np.testing.assert_allclose(answer.marginals, marginals, atol=1e-9)
        assert float(batch.log_evidence[row]) == pytest.approx(log_z, abs=1e-9)
        np.testing.assert_allclose(batch.marginals[row], marginals, atol=1e-9)


def test_columns_are_in_the_order_of_the_targets() -> None:
    example = ZOO["structural_zeros"]
    model = example.make()
    targets = ["xray", "stage", "a"]
    query = model.compile(targets, ["b", "either"])
    assert query.targets == ("xray", "stage", "a")
    assert query.observed == ("b", "either")
    assert dict(query.columns) == {"xray": slice(0, 2), "stage": slice(2, 5), "a": slice(5, 7)}
    answer = query(torch.tensor([[1, 1], [0, 1]]))
    want = model.query(targets, {"b": torch.tensor([1, 0]), "either": torch.tensor([1, 1])})
    for name, columns in query.columns.items():
        np.testing.assert_allclose(answer.marginals[:, columns], want[name].probs, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_of_any_kind(dtype: torch.dtype) -> None:
    query = ZOO["sprinkler"].make().compile("rain", ["wet", "cloudy"])
    codes = torch.tensor([[1, 0], [0, 1]])
    assert torch.equal(query(codes.to(dtype)).marginals, query(codes).marginals)
    assert torch.equal(
        query(codes.numpy().astype(str(dtype)[6:])).marginals, query(codes).marginals
    )
    assert torch.equal(query(codes[0].to(dtype)).marginals, query(codes[0]).marginals)
    assert torch.equal(query([[1, 0], [0, 1]]).marginals, query(codes).marginals)


def test_answers_do_not_change_afterwards() -> None:
    query = ZOO["sprinkler"].make().compile("rain")
    first = query(torch.tensor([1, -1, -1, 1]))
    kept = first.marginals.clone(), first.log_evidence.clone()
    second = query(torch.tensor([0, -1, -1, 0]))
    assert not torch.equal(first.marginals, second.marginals)
    assert torch.equal(first.marginals, kept[0])
    assert torch.equal(first.log_evidence, kept[1])
    first.marginals.zero_()
    assert torch.equal(query(torch.tensor([1, -1, -1, 1])).marginals, kept[0])


def test_codes_are_not_changed() -> None:
    query = ZOO["sprinkler"].make().compile("rain")
    codes = torch.tensor([[1, -1, -1, 1], [0, 0, 0, -1]])
    before = codes.clone()
    query(codes)
    query(codes[0])
    assert torch.equal(codes, before)


def test_parameters_that_change_are_noticed() -> None:
    model = ZOO["learnable"].make()
    query = model.compile("a", ["c"])
    codes = torch.tensor([[0], [1]])
    before = query(codes[0]).marginals, query(codes).marginals
    model.conditionals["a"].set_probs([0.9, 0.1])
    after = query(codes[0]).marginals, query(codes).marginals
    np.testing.assert_allclose(before[0], [0.5, 0.5])
    np.testing.assert_allclose(after[0], [0.9, 0.1])
    np.testing.assert_allclose(after[1], [[0.9, 0.1]] * 2)


def test_impossible_rows_are_told_by_their_log_evidence() -> None:
    query = ZOO["structural_zeros"].make().compile(["stage", "a"], ["a", "xray"])
    answer = query(torch.tensor([[1, 0], [1, 1]]))
    assert answer.log_evidence.isneginf().tolist() == [True, False]
    assert (answer.marginals[0] == 0).all()
    alone = query(torch.tensor([1, 0]))
    assert alone.log_evidence == -math.inf
    assert (alone.marginals == 0).all()


def test_no_rows_and_no_columns() -> None:
    model = ZOO["sprinkler"].make()
    assert model.compile("rain")(torch.zeros(0, 4, dtype=torch.int64)).marginals.shape == (0, 2)
    nothing = model.compile("rain", [])
    for rows in (1, 3):
        answer = nothing(torch.zeros(rows, 0, dtype=torch.int64))
        np.testing.assert_allclose(answer.marginals, [[0.5, 0.5]] * rows)
    np.testing.assert_allclose(nothing(np.zeros(0, dtype=int)).marginals, [0.5, 0.5])
    only = model.compile([], ["wet"])(torch.tensor([[1]]))
    assert only.marginals.shape == (1, 0)
    log_z, _ = expected("sprinkler", [-1, -1, -1, 1])
    assert float(only.log_evidence[0]) == pytest.approx(log_z, abs=1e-12)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), "shape"),
        (torch.zeros(1, 1, 2, dtype=torch.int64), "shape"),
        (torch.zeros(3, dtype=torch.int64), "shape"),
        (torch.tensor(0), "shape"),
        (torch.tensor([[0, 2]]), "'rain' is out of range 0..1"),
        (torch.tensor([0, 2]), "'rain' is out of range 0..1"),
        (torch.tensor([[0, -2]]), "'rain' is out of range"),
        (torch.tensor([-2, 0]), "'wet' is out of range"),
        (torch.tensor([[0.0, 1.0]]), "integer"),
        (np.array([["yes", "no"]]), "integer"),
    ],
)
def test_wrong_codes(codes: object, message: str) -> None:
    query = ZOO["sprinkler"].make().compile("cloudy", ["wet", "rain"])
    with pytest.raises(EvidenceError, match=message):
        query(codes)


def test_too_large() -> None:
    variables = [pgnn.Variable(k, 2) for k in range(24)]
    pairs = [(variables[a], variables[b]) for b in range(24) for a in range(b)]
    model = pgnn.MarkovRandomField(pgnn.Factor(pair, torch.zeros(2, 2)) for pair in pairs)
    engine = pgnn.JunctionTree(max_bytes=2**20)
    with pytest.raises(Intractable, match="budget"):
        model.compile(0, engine=engine)(torch.full((24,), -1))
    observed = model.compile(0, range(1, 24), engine=engine)
    np.testing.assert_allclose(observed(torch.zeros(23, dtype=torch.int64)).marginals, [0.5, 0.5])


@pytest.mark.parametrize("code", [2**32, 2**32 + 1, 2**63])
def test_codes_beyond_32_bits_are_no_states(code: int) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]})
    query = model.compile(["a"], ["b"])
    codes = np.array([code], dtype=np.uint64)
    for rows in (codes, codes[None]):
        with pytest.raises(EvidenceError, match=r"state index of 'b' is out of range 0\.\.1"):
            query(rows)
