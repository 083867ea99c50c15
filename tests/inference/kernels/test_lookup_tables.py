"""Scoring, counting and sampling complete rows: compiled, in NumPy, and by definition."""

import itertools
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgnn.errors import EvidenceError, Intractable, ModelError
from pgnn.factors import Tabular, Variable
from pgnn.inference import lookup_tables as module
from pgnn.inference import lookup_tables_numpy
from pgnn.inference.kernels import lookup_tables as compiled
from pgnn.inference.lookup_tables import LookupTables

KERNELS = [compiled, lookup_tables_numpy]


@pytest.fixture(params=KERNELS, ids=["compiled", "numpy"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: ModuleType = request.param
    monkeypatch.setattr(module, "_kernels", lambda: chosen)


def random_tables(rng: np.random.Generator) -> tuple[LookupTables, np.ndarray]:
    """A random network and its tables (flat probabilities), some entries exactly zero."""
    size = int(rng.integers(1, 7))
    variables = tuple(Variable(f"v{k}", int(rng.choice([1, 2, 3, 5, 17]))) for k in range(size))
    columns = rng.permutation(size)  # columns are not in topological order
    scopes = []
    for k in range(size):
        parents = rng.permutation(columns[:k])[: int(rng.integers(0, 4))]
        scopes.append((*(int(p) for p in parents), int(columns[k])))
    lookup = LookupTables(variables, tuple(scopes[k] for k in rng.permutation(size)))
    tables = []
    for shape in lookup.shapes:
        weights = rng.random(shape) * (rng.random(shape) < 0.8)
        weights[..., 0] += weights.sum(axis=-1) == 0
        tables.append((weights / weights.sum(axis=-1, keepdims=True)).ravel())
    return lookup, np.concatenate(tables)


def random_codes(rng: np.random.Generator, lookup: LookupTables, rows: int) -> np.ndarray:
    return np.stack([rng.integers(0, k, rows) for k in lookup.card], axis=1)


def entries(lookup: LookupTables, tables: list[np.ndarray], row: np.ndarray) -> list[float]:
    """The entry of each table that a row falls on, by definition."""
    return [t[tuple(row[list(s)])] for t, s in zip(tables, lookup.scopes, strict=True)]


@given(seed=st.integers(0, 10**6), rows=st.sampled_from([0, 1, 2, 50, 3000]))
def test_scores_and_counts_are_those_of_a_loop(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    lookup, probs = random_tables(rng)
    codes = random_codes(rng, lookup, rows)
    with np.errstate(divide="ignore"):
        logs = np.log(probs)
    weights = rng.random(rows)
    tables = lookup.split(logs)
    expected = np.array([sum(entries(lookup, tables, row)) for row in codes])
    counts = [np.zeros(shape, dtype=np.int64) for shape in lookup.shapes]
    weighted = [np.zeros(shape) for shape in lookup.shapes]
    for row, weight in zip(codes, weights, strict=True):
        for table, more, scope in zip(counts, weighted, lookup.scopes, strict=True):
            table[tuple(row[list(scope)])] += 1
            more[tuple(row[list(scope)])] += weight
    for chosen in KERNELS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_kernels", lambda chosen=chosen: chosen)
            np.testing.assert_allclose(lookup.score(codes, logs), expected, rtol=1e-12)
            np.testing.assert_array_equal(
                lookup.count(codes), np.concatenate([c.ravel() for c in counts])
            )
            flat = np.concatenate([c.ravel() for c in weighted])
            np.testing.assert_allclose(lookup.count(codes, weights), flat, rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 4097])
def test_both_kernels_draw_the_same_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(8):
        lookup, probs = random_tables(np.random.default_rng(seed))
        draws = []
        for chosen in KERNELS:
            monkeypatch.setattr(module, "_kernels", lambda chosen=chosen: chosen)
            draws.append(lookup.sample(rows, probs, seed=seed))
        np.testing.assert_array_equal(*draws)
        assert draws[0].dtype == np.int32
        assert draws[0].shape == (rows, len(lookup.variables))


@pytest.mark.usefixtures("kernels")
def test_a_layout_is_a_layout() -> None:
    rng = np.random.default_rng(3)
    lookup, _ = random_tables(rng)
    codes = random_codes(rng, lookup, 300).astype(np.int32)
    counts = lookup.count(codes)
    wide = np.repeat(codes, 2, axis=1)[:, ::2]
    for same in (np.asfortranarray(codes), wide, codes.astype(np.int8), torch.tensor(codes)):
        np.testing.assert_array_equal(lookup.count(same), counts)
    twice = lookup.count(codes[:100], out=lookup.count(codes[100:]))
    np.testing.assert_array_equal(twice, counts)
    assert counts.sum() == 300 * len(lookup.scopes)


@pytest.mark.usefixtures("kernels")
def test_seeds_fix_the_rows_however_they_are_cut() -> None:
    lookup, probs = random_tables(np.random.default_rng(5))
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    rows = lookup.sample(5000, probs, seed=11)
    np.testing.assert_array_equal(lookup.sample(5000, probs, seed=11), rows)
    pieces = [lookup.sample(n, probs, seed=11, first=k) for k, n in [(0, 2100), (2100, 2900)]]
    np.testing.assert_array_equal(np.concatenate(pieces), rows)
    assert (lookup.sample(5000, probs, seed=12) != rows).any()
    assert (lookup.sample(5000, probs) != lookup.sample(5000, probs)).any()
    lookup.sample(3, probs, seed=-1)
    lookup.sample(3, probs, seed=2**70)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.usefixtures("kernels")
def test_draws_have_the_joint_distribution() -> None:
    # Chi-square over all 18 configurations: mean 17, standard deviation sqrt(34) = 5.8; the bound
    # is exceeded by chance with probability 1e-6 (quantile of 17 degrees of freedom: 58.0).
    a, b, c = Variable("a", 2), Variable("b", 3), Variable("c", 3)
    rng = np.random.default_rng(0)
    lookup = LookupTables((c, a, b), ((1,), (1, 2), (2, 1, 0)))
    tables = [rng.dirichlet(np.full(s[-1], 3.0), s[:-1]) for s in lookup.shapes]
    joint = np.einsum("a,ab,bac->cab", *tables)
    n = 200_000
    rows = lookup.sample(n, np.concatenate([t.ravel() for t in tables]), seed=1)
    found = np.zeros(joint.shape)
    np.add.at(found, tuple(rows.T), 1)
    assert ((found - n * joint) ** 2 / (n * joint)).sum() < 58.0


def test_uniform_numbers_are_uniform_and_unrelated() -> None:
    # 256 cells of 2**18 / 256 expected pairs each: quantile 1 - 1e-6 of 255 degrees is 371.
    counter = np.arange(2**18, dtype=np.uint64)
    with np.errstate(over="ignore"):
        draws = [lookup_tables_numpy.uniform(module._key(seed), counter) for seed in (0, 1)]
    for x, y in [(draws[0], draws[1]), (draws[0][:-1], draws[0][1:])]:
        cells, _, _ = np.histogram2d(x, y, 16, [[0, 1], [0, 1]])
        expected = len(x) / 256
        assert ((cells - expected) ** 2 / expected).sum() < 371
    assert draws[0].min() >= 0
    assert draws[0].max() < 1
    assert compiled.uniform(module._key(1), 77) == draws[1][77]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("size", [2, 3, 12, 40])
def test_what_is_impossible_is_never_drawn(size: int) -> None:
    # Thirds do not add up to one exactly; the state after them has probability zero.
    probs = np.array([0.0, *[1.0 / (size - 1)] * (size - 1), 0.0])
    lookup = LookupTables((Variable("x", size + 1),), ((0,),))
    rows = lookup.sample(100_000, probs, seed=2)
    assert set(np.unique(rows)) == set(range(1, size))
    cdf = lookup._cumulative(probs)
    assert cdf[0] == 0.0
    assert cdf[-2] == 1.0  # uniform numbers stay below


def test_numpy_serves_where_numba_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._kernels() is compiled
    monkeypatch.setattr(module, "has_numba", lambda: False)
    assert module._kernels.__wrapped__() is lookup_tables_numpy


@pytest.mark.usefixtures("kernels")
def test_log_prob_is_differentiable_to_any_order() -> None:
    rng = np.random.default_rng(4)
    a, b = Variable("a", 2), Variable("b", 3)
    p_a = Tabular(a)
    p_b = Tabular(b, [a])
    lookup = LookupTables.of([a, b], [p_a, p_b])
    codes = random_codes(rng, lookup, 40)
    weights = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        flat = lookup.flatten([x.log_softmax(-1), y.log_softmax(-1)])
        return (lookup.log_prob(codes, flat) * weights).sum()

    x = torch.randn(2, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (x, y))
    assert torch.autograd.gradgradcheck(loss, (x, y))
    log_values = torch.tensor([-torch.inf, 0.0] + [0.0] * 6, requires_grad=True)
    out = lookup.log_prob(codes, log_values)
    assert out.dtype == torch.float32
    assert (out.isneginf().numpy() == (codes[:, 0] == 0)).all()
    out.sum().backward()
    assert log_values.grad is not None
    np.testing.assert_array_equal(log_values.grad.numpy(), lookup.count(codes))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("bad", [-1, 2, 2**32, -(2**40)])
def test_codes_out_of_range_are_refused(bad: int) -> None:
    lookup = LookupTables((Variable("a", 2), Variable("b", 2)), ((0,), (0, 1)))
    codes = np.zeros((10, 2), dtype=np.int64)
    codes[7, 1] = bad
    for verb in (lookup.count, lambda c: lookup.score(c, np.zeros(6))):
        with pytest.raises(EvidenceError, match=f"row 7 has code {bad} for 'b', expected .* 0..1"):
            verb(codes)
    with pytest.raises(EvidenceError, match=r"shape \(B, 2\), got float64 of shape \(4, 2\)"):
        lookup.count(np.zeros((4, 2)))
    with pytest.raises(EvidenceError, match=r"shape \(B, 2\)"):
        lookup.count(np.zeros((4, 3), dtype=int))
    with pytest.raises(EvidenceError, match=r"weights must have shape \(4,\)"):
        lookup.count(np.zeros((4, 2), dtype=int), np.ones(3))


def test_wrong_scopes_are_refused() -> None:
    a, b = Variable("a", 2), Variable("b", 2)
    with pytest.raises(
        ModelError, match=r"without cycles, got ('a' -> 'b' -> 'a'|'b' -> 'a' -> 'b')"
    ):
        LookupTables((a, b), ((0, 1), (1, 0))).sample(1, np.full(8, 0.5))
    with pytest.raises(ModelError, match="exactly one family"):
        LookupTables((a, b), ((0,),)).sample(1, np.full(2, 0.5))
    with pytest.raises(ModelError, match="needs 2 probabilities"):
        LookupTables((a,), ((0,),)).sample(1, np.full(3, 0.5))
    with pytest.raises(ModelError, match="needs 2 probabilities"):
        LookupTables((a,), ((0,),)).sample(1, np.array([np.nan, 1.0]))
    with pytest.raises(ModelError, match="no positive entry"):
        LookupTables((a,), ((0,),)).sample(1, np.zeros(2))
    many = tuple(Variable(k, 2) for k in range(31))
    with pytest.raises(Intractable, match="2,147,483,648 entries"):
        LookupTables(many, (tuple(range(31)),))


def test_order_of_scopes_does_not_matter() -> None:
    variables = tuple(Variable(name, 2) for name in "abc")
    scopes = ((0,), (0, 1), (0, 1, 2))
    rng = np.random.default_rng(9)
    tables = [rng.dirichlet([1.0, 1.0], (2,) * (len(s) - 1)) for s in scopes]
    rows = []
    for order in itertools.permutations(range(3)):
        lookup = LookupTables(variables, tuple(scopes[k] for k in order))
        probs = np.concatenate([tables[k].ravel() for k in order])
        rows.append(lookup.sample(500, probs, seed=3))
    assert all((r == rows[0]).all() for r in rows)
