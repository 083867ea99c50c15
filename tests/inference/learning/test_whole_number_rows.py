"""The kernel's sums of whole numbers are those that the conditional takes itself."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

import pgnn
from pgnn.errors import EvidenceError
from pgnn.factors.sparse_rows import compressed
from pgnn.inference.learning import whole_number_rows
from pgnn.inference.learning.whole_number_rows import statistics_of_whole_numbers

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 4000)
COUNTS = RNG.poisson(0.7, size=(4000, 7)).astype(float)
ONE_HOT = torch.nn.functional.one_hot(torch.from_numpy(LABELS), 3).double()


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr(whole_number_rows, "_MANY", 1)
    monkeypatch.setattr(whole_number_rows, "_NUMBERS", 999)


def make() -> pgnn.Multinomial:
    return pgnn.Multinomial(pgnn.Variable("x", shape=(7,)), [pgnn.Variable("class", 3)])


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_and_likelihood_are_those_of_the_rows(weighted: bool) -> None:
    counts = RNG.integers(0, 3, (4000, 1)) / 4 if weighted else np.ones((4000, 1))
    spread = ONE_HOT * torch.from_numpy(counts)
    own, values = make(), {"x": torch.from_numpy(COUNTS), "class": torch.from_numpy(LABELS)}
    fast, slow = statistics_of_whole_numbers(own, values, spread), own.statistics(values, spread)
    torch.testing.assert_close(fast[0], slow[0], rtol=1e-13, atol=0.0)
    own.maximize(fast)
    each = spread.sum(dim=1)
    likelihoods = [own.log_likelihood(s, values, each) for s in (fast, slow)]
    expected = (own.factor(values).log_values.detach() * each).sum()
    for value in likelihoods:
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("wrong", [-1.0, 0.5, np.inf, np.nan, 5000.0, 1e300])
def test_what_is_not_in_the_table_is_left_to_the_conditional(wrong: float) -> None:
    x = torch.from_numpy(COUNTS.copy())
    x[3999, 6] = wrong
    assert statistics_of_whole_numbers(make(), {"x": x}, ONE_HOT) is None


def test_what_is_left_to_the_conditional() -> None:
    x = torch.from_numpy(COUNTS)
    gaussian = pgnn.Gaussian(pgnn.Variable("x", shape=(7,)), [pgnn.Variable("class", 3)])
    for own, rows, spread in (
        (gaussian, x, ONE_HOT),
        (make(), x.float(), ONE_HOT),
        (make(), compressed(csr_array(COUNTS)), ONE_HOT),
        (make(), x, ONE_HOT / 2 + 0.1),
    ):
        assert statistics_of_whole_numbers(own, {"x": rows}, spread) is None


def test_fits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"class": LABELS, "x": COUNTS}
    fast = pgnn.NaiveBayes(3, {"x": pgnn.Multinomial}).fit(data)
    monkeypatch.setattr(whole_number_rows, "_MANY", 10**9)
    slow = pgnn.NaiveBayes(3, {"x": pgnn.Multinomial}).fit(data)
    fast_x, slow_x = (m.conditionals["x"].logits for m in (fast, slow))
    torch.testing.assert_close(fast_x, slow_x, rtol=1e-13, atol=0.0)
    likelihoods = [m.history["log_likelihood"] for m in (fast, slow)]
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-12)
    before = fast_x.clone()
    with pytest.raises(EvidenceError, match="'x' must hold counts"):
        fast.fit({"class": LABELS, "x": COUNTS - 1})
    assert torch.equal(fast_x, before)
