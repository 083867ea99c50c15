"""Segment chains: every answer against all segmentations written down."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.inference.chains import segment_chain as module
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.segment_chain import SegmentChain

SEEDS = st.integers(0, 2**31)
some = settings(suppress_health_check=list(HealthCheck), max_examples=10)


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(module, "has_numba", lambda: False)
    return request.param


class Case:
    """Three ragged rows, one of them empty; all segmentations of a row with their weights."""

    def __init__(self, seed: int, zeros: bool, censored: bool, T: int = 5, K: int = 2) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.T, self.K, self.D, self.censored = T, K, int(rng.integers(1, 5)), censored
        self.initial, self.transition = rng.normal(size=K), rng.normal(size=(K, K))
        self.duration, self.field = rng.normal(size=(K, self.D)), rng.normal(size=(3, T, K))
        if zeros:
            for table in (self.transition, self.duration, self.field):
                table[rng.random(table.shape) < 0.3] = -math.inf
        self.lengths = np.array([rng.integers(0, T + 1), 0, T])

    @property
    def tensors(self):
        parts = (self.initial, self.transition, self.duration, self.field)
        return [torch.from_numpy(x.copy()) for x in parts]

    def chain(self, dtype=torch.float64):
        parts = [x.to(dtype) for x in self.tensors]
        return SegmentChain(*parts, torch.from_numpy(self.lengths), censored=self.censored)

    def segmentations(self, b: int, t: int = 0):
        """Pairs of a list of (state, duration) and the log of its weight."""
        n = int(self.lengths[b])
        if t >= n:
            yield [], 0.0
            return
        for k in range(self.K):
            for d in range(1, self.D + 1):
                if t + d > n and not self.censored:
                    continue
                score = self.duration[k, d - 1] + self.field[b, t : min(t + d, n), k].sum()
                for rest, more in self.segmentations(b, t + d):
                    step = self.transition[k, rest[0][0]] if rest else 0.0
                    yield [(k, d), *rest], score + step + more

    def answers(self, b: int):
        """Log Z, marginals, initial, transitions, durations, score of the best."""
        n, K = int(self.lengths[b]), self.K
        sums = [np.zeros((self.T, K)), np.zeros(K), np.zeros((K, K)), np.zeros((K, self.D))]
        total, best = 0.0, -math.inf
        for parts, score in self.segmentations(b):
            if parts:
                score += self.initial[parts[0][0]]
            weight = math.exp(score)
            total += weight
            best = max(best, score)
            states = [k for k, d in parts for _ in range(d)][:n]
            sums[0][np.arange(n), states] += weight
            if parts:
                sums[1][parts[0][0]] += weight
            for (i, _), (j, _) in itertools.pairwise(parts):
                sums[2][i, j] += weight
            for k, d in parts:
                sums[3][k, d - 1] += weight
        if not total:
            sums[0][:n] = math.nan
            return (-math.inf, *sums, -math.inf)
        return (math.log(total), *(x / total for x in sums), best)


def close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("censored", [False, True])
@some
@given(seed=SEEDS, size=st.sampled_from([(0, 2), (1, 2), (4, 3), (5, 2), (6, 1)]))
def test_by_enumeration(way, zeros, censored, seed, size):
    case = Case(seed, zeros, censored, *size)
    chain, weights = case.chain(), np.array([0.5, 3.0, 2.0])
    found, answers = (
        chain.expectations(torch.from_numpy(weights)),
        [case.answers(b) for b in range(3)],
    )
    log_z = np.array([a[0] for a in answers])
    close(chain.log_partition(), log_z)
    close(found.log_partition, log_z)
    close(found.marginals, np.stack([a[1] for a in answers]))
    for i, total in enumerate(found[2:], 2):
        parts = [w * a[i] for w, a in zip(weights, answers, strict=True) if a[0] > -math.inf]
        close(total, sum(parts, np.zeros(total.shape)))
    states, score = chain.best()
    close(score, [a[5] for a in answers])
    draws = chain.sample(3, seed=1)
    for b, n in enumerate(case.lengths):
        inside = n if log_z[b] > -math.inf else 0
        for paths in (states[b], draws[:, b]):
            assert (paths[..., :inside] >= 0).all()
            assert (paths[..., inside:] == -1).all()


@pytest.mark.parametrize("censored", [False, True])
def test_the_best_states_are_those_of_the_best_segmentation(way, censored):
    for seed in range(10):
        case = Case(seed, False, censored)
        states = case.chain().best()[0]
        for b, n in enumerate(case.lengths):
            scored = [
                (s + (case.initial[p[0][0]] if p else 0.0), p) for p, s in case.segmentations(b)
            ]
            path = [k for k, d in max(scored)[1] for _ in range(d)] if scored else []
            if scored:
                assert states[b, :n].tolist() == path[:n]


def test_durations_of_one_step_are_a_plain_chain():
    case = Case(0, False, False)
    initial, transition, _, field = case.tensors
    lengths = torch.from_numpy(case.lengths)
    chain = SegmentChain(initial, transition, torch.zeros(2, 1), field, lengths)
    plain = Chain(initial, transition, field, lengths)
    close(chain.log_partition(), plain.log_partition())
    close(chain.marginals(), plain.marginals())
    close(chain.expectations().transitions, plain.expectations().transitions)
    assert (chain.best()[0] == plain.best()[0]).all()


def test_geometric_durations_are_a_plain_chain():
    """Staying with probability s: durations (1 - s) s^(d-1), the last one censored."""
    stay, T = np.array([0.7, 0.4]), 12
    rng = np.random.default_rng(0)
    field = torch.from_numpy(rng.normal(size=(2, T, 2)))
    durations = torch.from_numpy(np.log((1 - stay)[:, None] * stay[:, None] ** np.arange(200)))
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double().log()
    initial = torch.tensor([0.5, 0.5]).double().log()
    table = torch.from_numpy(np.diag(stay) + np.diag(1 - stay)[:, ::-1]).log()
    plain = Chain(initial, table, field)
    chain = SegmentChain(initial, swap, durations, field, censored=True)
    close(chain.log_partition(), plain.log_partition())
    close(chain.marginals(), plain.marginals())


@pytest.mark.parametrize("censored", [False, True])
def test_derivatives(censored):
    case = Case(1, False, censored, 4)
    parts = [x.requires_grad_() for x in case.tensors]
    lengths = torch.from_numpy(case.lengths)

    def log_z(*parts):
        return SegmentChain(*parts, lengths, censored=censored).log_partition()

    def marginals(*parts):
        return SegmentChain(*parts, lengths, censored=censored).marginals()

    assert torch.autograd.gradcheck(log_z, parts)
    assert torch.autograd.gradgradcheck(log_z, parts)
    assert torch.autograd.gradcheck(marginals, parts)


def test_draws_follow_the_posterior(way):
    """Marginals of 2,000 draws within five standard deviations."""
    case, n = Case(5, False, True), 2000
    chain = case.chain()
    draws, marginals = chain.sample(n, seed=0), chain.marginals()
    share = torch.stack([(draws == k).double().mean(0) for k in range(case.K)], 2)
    assert ((share - marginals).abs() <= 5 * (marginals * (1 - marginals) / n).sqrt() + 1e-9).all()
    assert (chain.sample(5, seed=3) == chain.sample(5, seed=3)).all()


def test_single_precision():
    case = Case(2, False, False)
    wide, narrow = case.chain(), case.chain(torch.float32)
    assert narrow.log_partition().dtype == torch.float32
    close(narrow.marginals(), wide.marginals(), 1e-5)


def test_long_rows_and_strong_fields():
    rng = np.random.default_rng(0)
    field = torch.from_numpy(300.0 * rng.normal(size=(1, 300, 3)))
    duration = torch.from_numpy(rng.normal(size=(3, 20)))
    chain = SegmentChain(torch.zeros(3), torch.zeros(3, 3), duration, field)
    found = chain.expectations()
    parts = [torch.zeros(3).double(), torch.zeros(3, 3).double(), duration, field]
    twin = SegmentChain(*[p.clone().requires_grad_() for p in parts]).expectations()
    close(found.log_partition, twin.log_partition.detach())
    close(found.marginals, twin.marginals.detach(), 1e-7)
    close(found.durations, twin.durations.detach(), 1e-7)
    close((found.durations.sum(0) * torch.arange(1, 21)).sum(), 300, 1e-7)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (torch.zeros(3, 2), r"log_duration must be \(2, D\)"),
        (torch.zeros(2, 0), "D > 0"),
        (torch.full((2, 2), math.nan), "NaN"),
    ],
)
def test_bad_durations_are_refused(duration, words):
    with pytest.raises(ModelError, match=words):
        SegmentChain(torch.zeros(2), torch.zeros(2, 2), duration, torch.zeros(1, 3, 2))


def test_bad_weights_are_refused():
    with pytest.raises(ModelError, match="weights"):
        Case(0, False, False).chain().expectations(torch.ones(2))
