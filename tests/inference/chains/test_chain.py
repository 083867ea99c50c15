"""Chains: every answer against all paths written down, against torch, and in both precisions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgnn.errors import ModelError
from pgnn.inference.chains import chain as chain_module
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.torch_chain import TorchChain, TorchChainPaths, prefixes
from tests.inference.chains.chain_cases import KINDS, ChainCase

SEEDS = st.integers(0, 2**31)
SIZES = st.sampled_from([(0, 2), (1, 3), (2, 2), (3, 1), (5, 3), (6, 2)])
WAYS = ["compiled", "torch", "scan"]
SIDE_BY_SIDE = [(1, 1.0), (2, 30.0), (3, 1.0), (6, 1.0), (6, 150.0), (9, 1.0), (35, 1.0)]
one_way = settings(suppress_health_check=list(HealthCheck), max_examples=12)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Answer by the compiled kernels, by torch's loop, or by its scan."""
    if request.param != "compiled":
        monkeypatch.setattr(chain_module, "has_numba", lambda: False)
        monkeypatch.setattr(
            "pgnn.inference.chains.torch_chain._scans", lambda tensors: request.param == "scan"
        )
    return request.param


def close(found, expected, tolerance=1e-9):
    found = found.numpy() if isinstance(found, torch.Tensor) else found
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def stacked(case, what):
    return np.stack([getattr(case.row(b), what)() for b in range(case.B)])


@pytest.mark.parametrize("kind", KINDS)
@one_way
@given(seed=SEEDS, size=SIZES)
def test_sums_by_enumeration(way, kind, seed, size):
    case = ChainCase(seed, kind, *size)
    chain = case.chain()
    close(chain.log_partition(), [case.row(b).log_z for b in range(case.B)])
    close(chain.marginals(), stacked(case, "marginals"))
    close(chain.pair_marginals(), stacked(case, "pairs"))
    close(chain.expected_transitions(), stacked(case, "transitions"))
    close(chain.entropy(), [case.row(b).entropy() for b in range(case.B)])


@pytest.mark.parametrize("kind", KINDS)
@one_way
@given(seed=SEEDS, size=SIZES)
def test_paths_by_enumeration(way, kind, seed, size):
    case = ChainCase(seed, kind, *size)
    chain = case.chain()
    for k in (1, 4):
        states, scores = chain.best(k)
        for b in range(case.B):
            expected = case.row(b).best(k)
            close(scores[b].reshape(k), expected[1])
            paths = states[b].reshape(k, -1)
            assert ((paths == -1).numpy() == (expected[0] == -1)).all()
            found = set()
            for path, score in zip(paths, expected[1].tolist(), strict=True):
                if score > -math.inf:
                    found.add(tuple(path.tolist()))
                    padded = states.new_zeros(case.B, case.T)
                    padded[b] = path
                    close(chain.log_score(padded)[b], score)
            assert len(found) == (expected[1] > -math.inf).sum()
            if case.kind != "gaps":  # there orders of the same steps tie but for rounding
                assert (paths.numpy() == expected[0]).all()


@pytest.mark.parametrize("kind", ["plain", "per row and step", "zeros", "left to right"])
@one_way
@given(seed=SEEDS, ties=st.booleans(), size=st.sampled_from([(1, 3), (2, 3), (4, 3), (5, 2)]))
def test_any_number_of_best_paths_by_enumeration(kind, seed, ties, size):
    """From one to more than there are; each once, best first, whole numbers tying exactly."""
    case = ChainCase(seed, kind, *size)
    if ties:
        for table in (case.initial, case.transition, case.field):
            table[...] = np.where(np.isfinite(table), np.round(table), table)
    chain, count = case.chain(), case.K**case.T
    for k in (1, 2, 3, count // 2, count - 1, count, count + 5):
        states, scores = chain.best(k)
        for b in range(case.B):
            row = case.row(b)
            expected_paths, expected = row.best(k)
            found, paths = scores[b].reshape(k).numpy(), states[b].reshape(k, -1).numpy()
            close(found, expected)
            if ties:  # of equal ones that with the smallest last state, and so on
                assert (paths == expected_paths).all()
            possible = expected > -math.inf
            assert (paths[~possible] == -1).all()
            assert (paths[:, row.n :] == -1).all()
            weights = dict(zip(map(tuple, row.paths.tolist()), row.scores, strict=True))
            own = [tuple(path) for path in paths[possible, : row.n].tolist()]
            assert len(set(own)) == len(own)
            close(np.array([weights[path] for path in own]), expected[possible])


@pytest.mark.parametrize("kind", KINDS)
@one_way
@given(seed=SEEDS, size=SIZES)
def test_filtered_is_the_last_marginal_of_what_was_observed(way, kind, seed, size):
    case = ChainCase(seed, kind, *size)
    states, increments = case.chain().filtered()
    total = np.zeros(case.B)
    for t in range(case.T):
        part = ChainCase(seed, kind, *size)
        part.mask[:, t + 1 :] = False
        part.lengths = np.minimum(part.lengths, t + 1)
        rows = [part.row(b) for b in range(case.B)]
        for b, row in enumerate(rows):
            inside = t < case.lengths[b]
            close(states[b, t], row.marginals()[t] if inside else np.zeros(case.K))
            before = total[b]
            total[b] = row.log_z
            if not inside:
                assert increments[b, t] == 0
            elif before == -math.inf:
                assert math.isnan(increments[b, t])
            else:
                close(increments[b, t], row.log_z - before)


@pytest.mark.parametrize("kind", KINDS)
@one_way
@given(seed=SEEDS, size=SIZES)
def test_expectations_are_weighted_sums(way, kind, seed, size):
    case = ChainCase(seed, kind, *size)
    weights = torch.from_numpy(case.rng.random(case.B))
    found = case.chain().expectations(weights)
    initial, pairs = np.zeros(case.K), np.zeros((max(case.T - 1, 0), case.K, case.K))
    for b, weight in enumerate(weights.tolist()):
        row = case.row(b)
        if row.possible and row.n:
            initial += weight * row.marginals()[0]
            pairs += weight * row.pairs()
    close(found.initial, initial)
    close(found.transitions, pairs if case.per_step else pairs.sum(0))
    close(found.marginals, stacked(case, "marginals"))
    close(found.log_partition, [case.row(b).log_z for b in range(case.B)])
    close(case.chain().expected_transitions(weights), pairs.sum(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=SEEDS, scale=st.sampled_from([1.0, 40.0, 400.0]), T=st.sampled_from([1, 9, 40]))
def test_compiled_is_torch(kind, dtype, seed, scale, T):
    """Also where exponentials underflow, in either precision."""
    case = ChainCase(seed, kind, T, 4, 5, scale)
    chain, twin = case.chain(dtype), TorchChain(case.chain(dtype).tensors.at(torch.arange(5)))
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    close(chain.log_partition(), twin.log_partition(), tolerance)
    close(chain.marginals(), twin.marginals(), tolerance)
    close(chain.filtered()[0], twin.filtered()[0], tolerance)
    close(chain.filtered()[1], twin.filtered()[1], tolerance)
    close(chain.expected_transitions(), twin.transitions(), tolerance)
    close(chain.best()[1], TorchChainPaths(twin.tensors).best()[1], tolerance)
    assert chain.marginals().dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
def test_gradients_are_expectations(kind, seed):
    """Rows with weights of their own, by the kernel, against the same by torch."""
    case = ChainCase(seed, kind)
    weights = torch.from_numpy(case.rng.normal(size=case.B))
    found = []
    for compiled in (True, False):
        parts = [x.requires_grad_() for x in case.tensors]
        chain = Chain(*parts, case.extent, per_step=case.per_step)
        log_z = chain.log_partition() if compiled else TorchChain(chain.tensors).log_partition()
        log_z = torch.where(log_z.isneginf(), 0.0, log_z)
        found.append(torch.autograd.grad(log_z @ weights, parts))
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("kind", ["plain", "per row and step", "gaps"])
def test_derivatives_by_differences(kind):
    case = ChainCase(3, kind, 4, 2, 3)
    parts = [x.requires_grad_() for x in case.tensors]

    def log_z(*parts):
        return Chain(*parts, case.extent, per_step=case.per_step).log_partition()

    def marginals(*parts):
        return Chain(*parts, case.extent, per_step=case.per_step).marginals()

    def entropy(*parts):
        return Chain(*parts, case.extent, per_step=case.per_step).entropy()

    assert torch.autograd.gradcheck(log_z, parts)
    assert torch.autograd.gradgradcheck(log_z, parts)
    assert torch.autograd.gradcheck(marginals, parts)
    assert torch.autograd.gradcheck(entropy, parts)


def test_one_gradient_alone():
    case = ChainCase(0)
    for i in range(3):
        parts = list(case.tensors)
        parts[i].requires_grad_()
        Chain(*parts, case.extent).log_partition().sum().backward()
        all_parts = [x.requires_grad_() for x in case.tensors]
        Chain(*all_parts, case.extent).log_partition().sum().backward()
        close(parts[i].grad, all_parts[i].grad)
        log_z = Chain(*parts, case.extent).log_partition().sum()
        (again,) = torch.autograd.grad(log_z, parts[i], create_graph=True)
        close(again.detach(), all_parts[i].grad)


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("kind", ["plain", "zeros", "left to right"])
def test_rows_do_not_depend_on_each_other(kind, rows):
    case = ChainCase(1, kind, 30, 5, rows, 1.0)
    whole = case.chain()
    expectations = whole.expectations()
    for b in range(0, rows, 7):
        initial, transition, field = case.tensors
        alone = Chain(initial, transition, field[b : b + 1], case.extent[b : b + 1])
        close(whole.log_partition()[b], alone.log_partition()[0])
        close(expectations.marginals[b], alone.marginals()[0])
        assert (whole.best()[0][b] == alone.best()[0][0]).all()
        close(whole.filtered()[0][b], alone.filtered()[0][0])


@pytest.mark.parametrize("kind", ["plain", "per step", "zeros", "left to right", "gaps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("K", "scale"), SIDE_BY_SIDE)
def test_many_rows_side_by_side(kind, dtype, K, scale):
    """Two tiles, the second one not full, and a few rows more; with weights and ties in length."""
    case = ChainCase(K, kind, 11, K, 45, scale)
    chain, weights = case.chain(dtype), torch.from_numpy(case.rng.random(45))
    twin = TorchChain(chain.tensors.at(torch.arange(45)))
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    log_z, found = twin.log_partition(), chain.expectations(weights)
    close(chain.log_partition(), log_z, tolerance)
    close(found.log_partition, log_z, tolerance)
    close(found.marginals, twin.marginals(), tolerance)
    for ours, theirs in zip(chain.filtered(), twin.filtered(), strict=True):
        close(ours, theirs, tolerance)
    pairs = twin.pairs().masked_fill(log_z.isneginf()[:, None, None, None], 0.0)
    total = torch.einsum("b,btij->tij", weights, pairs)
    close(found.transitions, total if case.per_step else total.sum(0), tolerance)
    states, scores = TorchChainPaths(twin.tensors).best()
    close(chain.best()[1], scores, tolerance)
    close(chain.log_score(chain.best()[0]), scores, tolerance)
    if dtype == torch.float64:
        assert (chain.best()[0] == states).all()


@pytest.mark.parametrize("states", [256, 257])
def test_best_paths_of_many_rows_of_many_states(states):
    """More states than a byte tells apart, as chains that remember several labels have."""
    case = ChainCase(states, "plain", 4, states, 20)
    case.field[..., -1] += 5.0
    chain = case.chain()
    expected, scores = TorchChainPaths(chain.tensors).best()
    found, log_scores = chain.best()
    assert (found == expected).all()
    assert found.max() == states - 1
    close(log_scores, scores)


@given(SEEDS)
def test_constants_move_log_z_alone(seed):
    case = ChainCase(seed, scale=1.0)
    initial, transition, field = case.tensors
    chain = Chain(initial, transition, field, case.extent)
    moved = Chain(initial - 800.0, transition + 900.0, field - 5000.0, case.extent)
    n = torch.from_numpy(case.lengths)
    shift = torch.where(n > 0, -800.0 + 900.0 * (n - 1) - 5000.0 * n, 0.0)
    close(moved.log_partition(), chain.log_partition() + shift)
    close(moved.marginals(), chain.marginals(), 1e-8)


@pytest.mark.parametrize("K", [2, 5])
def test_long_rows_stay_accurate(K):
    """A row of 100,000 steps is what its two halves are, joined by the state in between."""
    T, rng = 100_000, np.random.default_rng(0)
    initial = torch.from_numpy(rng.normal(size=K))
    transition = torch.from_numpy(rng.normal(size=(K, K)))
    field = torch.from_numpy(rng.normal(size=(1, T, K)))
    chain = Chain(initial, transition, field)
    marginals, half = chain.marginals(), T // 2
    close(marginals.sum(2), np.ones((1, T)))
    first = Chain(initial, transition, field[:, :half])
    joints = [
        first.log_partition()[0]
        + first.filtered()[0][0, -1].log()[i]
        + Chain(transition[i], transition, field[:, half:]).log_partition()[0]
        for i in range(K)
    ]
    log_z = torch.stack(joints).logsumexp(0)
    close(chain.log_partition()[0], log_z, 1e-12)
    close(marginals[0, half - 1], (torch.stack(joints) - log_z).exp(), 1e-9)
    narrow = Chain(initial.float(), transition.float(), field.float())
    close(narrow.marginals(), marginals, 1e-4)
    close(narrow.log_partition(), chain.log_partition(), 1e-6)
    close(narrow.log_score(narrow.best()[0]).double(), chain.best()[1], 1e-5)
    assert not narrow.entropy().isnan().any()


def test_a_path_that_underflow_would_lose():
    """State 1 is ruled out by e^-600 at first, then state 0 by even more."""
    field = torch.zeros(1, 4, 2, dtype=torch.float64)
    field[0, :2, 1] = -600.0
    field[0, 2:, 0] = -700.0
    stay = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]).double()
    chain = Chain(torch.zeros(2).double(), stay, field)
    close(chain.log_partition(), [-1200.0])
    close(chain.marginals()[0], [[0.0, 1.0]] * 4)
    close(chain.filtered()[0][0, :, 1], [0.0, 0.0, 0.0, 1.0])
    assert (chain.sample(5, seed=0) == 1).all()
    close(chain.entropy(), [0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("K", [2, 16])
def test_states_that_die_out_need_no_logs(dtype, rows, K):
    """From left to right: the first states become impossible but for less than can be held."""
    rng, T = np.random.default_rng(0), 400
    transition = torch.full((K, K), -math.inf).to(dtype)
    transition.diagonal()[:], transition.diagonal(1)[:] = math.log(0.9), math.log(0.1)
    initial = torch.full((K,), -math.inf).to(dtype)
    initial[0] = 0.0
    field = torch.from_numpy(rng.normal(size=(rows, T, K))).to(dtype)
    field[:, 20:, 0] -= 4.0
    field[0, 5, 0], field[1, 7, 1] = -math.inf, -math.inf
    chain = Chain(initial, transition, field, torch.from_numpy(rng.integers(300, T + 1, rows)))
    twin = TorchChain(chain.tensors.at(torch.arange(rows)))
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    for ours, theirs in zip(chain.filtered(), twin.filtered(), strict=True):
        close(ours, theirs, tolerance)
    close(chain.log_partition(), twin.log_partition(), tolerance)
    cpu = chain._cpu
    cpu._from_logs = None  # the slow way, which is not taken
    cpu.filtered(), cpu.sample(2, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("per_step", [40.0, 80.0, 500.0])
def test_states_that_come_back_are_not_lost(dtype, rows, per_step):
    """State 0 gets improbable step by step, until it alone explains what is observed."""
    T, half = 24, 12
    transition = torch.tensor([[0.9, 0.1], [0.0, 1.0]]).to(dtype).log()
    field = torch.zeros(rows, T, 2).to(dtype)
    field[:, 1:half, 0], field[:, half:, 1] = -per_step, -1.5 * per_step
    chain = Chain(torch.tensor([0.5, 0.5]).to(dtype).log(), transition, field)
    twin = TorchChain(chain.tensors.at(torch.arange(rows)))
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    close(chain.filtered()[0], twin.filtered()[0], tolerance)
    close(chain.log_partition(), twin.log_partition(), tolerance)
    assert (chain.sample(1, seed=0)[0, :, :half] == 0).all()


def test_draws_follow_the_posterior(way):
    """Counts of whole paths: chi-square below its mean plus five standard deviations."""
    case = ChainCase(2, "gaps", 4, 2, 3)
    n = 20_000
    draws = case.chain().sample(n, seed=0).numpy()
    assert (case.chain().sample(n, seed=0).numpy() == draws).all()
    assert not (case.chain().sample(n, seed=1).numpy() == draws).all()
    for b in range(case.B):
        row = case.row(b)
        assert (draws[:, b, row.n :] == -1).all()
        codes = draws[:, b, : row.n] @ 2 ** np.arange(row.n)
        counts = np.bincount(codes, minlength=2**row.n)
        expected = n * row.weights / row.total  # paths are in the order of their codes
        degrees = max(len(expected) - 1, 1)
        assert ((counts - expected) ** 2 / expected).sum() < degrees + 5 * math.sqrt(2 * degrees)


def test_ties_go_to_the_smallest_state(way):
    zero = torch.zeros(2, 3, 2, dtype=torch.float64)
    chain = Chain(zero[0, 0], zero[0, :2], zero, torch.tensor([3, 2]))
    assert chain.best()[0].tolist() == [[0, 0, 0], [0, 0, -1]]
    many = Chain(zero[0, 0], zero[0, :2], zero.repeat(20, 1, 1))
    assert (many.best()[0] == 0).all()
    assert chain.best(3)[0].tolist() == [
        [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
        [[0, 0, -1], [1, 0, -1], [0, 1, -1]],
    ]


def test_no_rows_and_no_steps(way):
    for B, T in ((0, 3), (2, 0), (0, 0)):
        chain = Chain(torch.zeros(2), torch.zeros(2, 2), torch.zeros(B, T, 2))
        assert chain.log_partition().tolist() == [0.0] * B
        assert chain.marginals().shape == (B, T, 2)
        assert chain.filtered()[1].shape == (B, T)
        assert chain.expected_transitions().shape == (B, 2, 2)
        assert chain.pair_marginals().shape == (B, max(T - 1, 0), 2, 2)
        assert chain.expectations().transitions.tolist() == [[0.0, 0.0], [0.0, 0.0]]
        assert chain.best()[0].shape == (B, T)
        assert chain.best(2)[1].shape == (B, 2)
        assert chain.sample(4, seed=0).shape == (4, B, T)
        assert chain.entropy().tolist() == [0.0] * B
        assert chain.log_score(torch.zeros(B, T, dtype=torch.int64)).tolist() == [0.0] * B


def test_what_the_caller_gave_is_unchanged():
    case = ChainCase(0, "gaps")
    parts, extent = case.tensors, case.extent
    chain = Chain(*parts, extent)
    chain.expectations(), chain.best(2), chain.sample(2, seed=0), chain.entropy()
    for before, after in zip(case.tensors, parts, strict=True):
        assert (before == after).all()
    assert (case.extent == extent).all()


K2, F = torch.zeros(2), torch.zeros(3, 4, 2)


def with_entry(value, *index):
    field = F.clone()
    field[index] = value
    return field


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(3), torch.zeros(2, 2), F), r"log_initial must be \(2,\), or \(3, 2\)"),
        ((K2, torch.zeros(3, 3), F), r"log_transition must be \(2, 2\)"),
        ((K2, torch.zeros(2, 2), F[0]), r"log_field must be \(B, T, K\)"),
        ((K2, torch.zeros(2, 2), F.long()), "floating-point"),
        ((K2, torch.zeros(2, 2), with_entry(math.nan, 1, 2, 0)), "row 1, step 2"),
        ((K2, torch.zeros(2, 2), with_entry(math.inf, 2, 3, 1)), "row 2, step 3"),
        ((K2, torch.full((2, 2), math.nan), F), r"log_transition .* entry \[0, 0, 0, 0\]"),
        ((torch.tensor([0.0, math.inf]), torch.zeros(2, 2), F), r"log_initial .* \[0, 1\]"),
        ((K2, torch.zeros(2, 2), F, torch.tensor([4, 5, 1])), "row 1 has 5"),
        ((K2, torch.zeros(2, 2), F, torch.tensor([4, 4, -1])), "row 2 has -1"),
        ((K2, torch.zeros(2, 2), F, torch.tensor([4, 4])), "integers or a"),
        ((K2, torch.zeros(2, 2), F, torch.ones(3, 3, dtype=torch.bool)), "mask must be"),
    ],
)
def test_bad_numbers_are_refused(arguments, words):
    with pytest.raises(ModelError, match=words):
        Chain(*arguments)


def test_bad_questions_are_refused():
    chain = Chain(K2, torch.zeros(2, 2), F)
    with pytest.raises(ModelError, match="k must be"):
        chain.best(0)
    with pytest.raises(ModelError, match=r"weights must be \(3,\)"):
        chain.expectations(torch.ones(2))


def test_nan_beyond_the_end_does_not_matter():
    chain = Chain(K2, torch.zeros(2, 2), with_entry(math.nan, 1, 3, 0), torch.tensor([4, 3, 4]))
    assert not chain.marginals().isnan().any()
    assert not chain.expectations().transitions.isnan().any()
    assert chain.best()[0][1].tolist() == [0, 0, 0, -1]
    field = with_entry(math.nan, 1, 3, 0).repeat(20, 1, 1)
    many = Chain(K2, torch.zeros(2, 2), field, torch.tensor([4, 3, 4] * 20))
    assert not many.expectations().transitions.isnan().any()
    assert not many.log_partition().isnan().any()
    assert (many.best()[0][1::3] == torch.tensor([0, 0, 0, -1])).all()


def test_hmmlearn_agrees():
    hmm = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    model = hmm.CategoricalHMM(4)
    model.n_features = 5
    model.startprob_, model.transmat_ = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 4)
    model.emissionprob_ = rng.dirichlet(np.ones(5), 4)
    observed, lengths = rng.integers(0, 5, (60, 1)), [25, 35]
    score, posterior = model.score_samples(observed, lengths)
    viterbi, path = model.decode(observed, lengths)
    field = torch.zeros(2, 35, 4).double()
    emission = torch.from_numpy(np.log(model.emissionprob_.T))
    field[0, :25], field[1] = emission[observed[:25, 0]], emission[observed[25:, 0]]
    logs = [torch.from_numpy(np.log(x)) for x in (model.startprob_, model.transmat_)]
    chain = Chain(*logs, field, torch.tensor(lengths))
    close(chain.log_partition().sum(), score)
    marginals, states = chain.marginals(), chain.best()
    close(torch.cat([marginals[0, :25], marginals[1]]), posterior)
    assert (torch.cat([states[0][0, :25], states[0][1]]).numpy() == path).all()
    close(states[1].sum(), viterbi)


@given(st.integers(0, 40))
def test_prefixes(T):
    numbers = torch.arange(1, T + 1)[None]
    assert (prefixes(numbers, lambda x, y: x + y) == numbers.cumsum(1)).all()
