"""Whether a graph can be eliminated with small tables, against elimination written down."""

import numpy as np
import pytest

from pgnn.inference.exact.kernels.bounded_width import has_bounded_width


def eliminate(
    scopes: list[tuple[int, ...]], bits: np.ndarray, free: np.ndarray, most: float
) -> bool:
    """Whether eliminating any variable that fits, again and again, leaves none.

    A variable fits if its neighbours and itself together have at most ``most`` bits. Eliminating
    those with the smallest tables first finds an order if this says so, which is proof.
    """
    near: dict[int, set[int]] = {int(v): set() for v in np.flatnonzero(free)}
    for scope in scopes:
        kept = [v for v in scope if free[v]]
        for v in kept:
            near[v] |= set(kept) - {v}
    while near:
        table = {v: bits[v] + sum(bits[u] for u in around) for v, around in near.items()}
        v = min(table, key=lambda u: table[u])
        if table[v] > most + 1e-9:
            return False
        around = near.pop(v)
        for u in around:
            near[u] |= around - {u}
            near[u].discard(v)
    return True


def exists(scopes: list[tuple[int, ...]], bits: np.ndarray, free: np.ndarray, most: float) -> bool:
    """Whether some elimination order has no larger table, by trying all (memoised by sets)."""
    num = len(bits)
    adjacent = [0] * num
    for scope in scopes:
        for v in scope:
            for u in scope:
                if u != v and free[u] and free[v]:
                    adjacent[v] |= 1 << u
    reached = {0}
    everything = sum(1 << int(v) for v in np.flatnonzero(free))
    ahead = [0]
    while ahead:
        gone = ahead.pop()
        if gone == everything:
            return True
        for v in np.flatnonzero(free).tolist():
            if gone >> v & 1 or (gone | 1 << v) in reached:
                continue
            # neighbours once those gone are eliminated: reached through them
            observed, stack, around = 1 << v, [v], 0.0
            while stack:
                for u in range(num):
                    if adjacent[stack[-1]] >> u & 1 and not observed >> u & 1:
                        break
                else:
                    stack.pop()
                    continue
                observed |= 1 << u
                if gone >> u & 1:
                    stack.append(u)
                else:
                    around += bits[u]
            if bits[v] + around <= most + 1e-9:
                reached.add(gone | 1 << v)
                ahead.append(gone | 1 << v)
    return False


def ask(scopes, bits, free, most) -> bool:
    ptr = np.cumsum([0, *map(len, scopes)]).astype(np.int64)
    var = np.array([v for s in scopes for v in s], dtype=np.int64)
    bits, free = np.asarray(bits, dtype=np.float64), np.asarray(free, dtype=np.bool_)
    kept = [x.copy() for x in (ptr, var, bits, free)]
    answer = has_bounded_width(ptr, var, bits, free, float(most))
    for before, after in zip(kept, (ptr, var, bits, free), strict=True):
        np.testing.assert_array_equal(before, after)
    return bool(answer)


def random_case(seed: int, num: int, factors: int):
    rng = np.random.default_rng(seed)
    scopes = [tuple(rng.permutation(num)[: rng.integers(1, 4)].tolist()) for _ in range(factors)]
    bits = np.log2(rng.integers(1, 5, size=num))
    free = rng.random(num) < 0.8
    return scopes, bits, free


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 6, 8, 10])
def test_yes_means_that_an_order_exists(most):
    answers = []
    for seed in range(60):
        scopes, bits, free = random_case(seed, 7, 8)
        answer = ask(scopes, bits, free, most)
        possible = exists(scopes, bits, free, most)
        assert possible or not answer
        answers.append((answer, possible))
    if most > 1:  # below, tables of no bits are all that is tried
        assert np.mean([a == b for a, b in answers]) > 0.9


def test_larger_graphs_against_greedy_elimination():
    agreed = []
    for seed in range(40):
        scopes, bits, free = random_case(seed, 60, 70)
        for most in (4, 8, 12, 16, 24, 40):
            agreed.append(ask(scopes, bits, free, most) == eliminate(scopes, bits, free, most))
    assert np.mean(agreed) > 0.95


def grid(height: int, width: int) -> list[tuple[int, int]]:
    at = np.arange(height * width).reshape(height, width)
    across = zip(at[:, :-1].ravel().tolist(), at[:, 1:].ravel().tolist(), strict=True)
    down = zip(at[:-1].ravel().tolist(), at[1:].ravel().tolist(), strict=True)
    return [*across, *down]


@pytest.mark.parametrize("side", [4, 6, 10])
def test_grids(side):
    """A grid has the treewidth of its side; tables one more."""
    bits, free = np.ones(side * side), np.ones(side * side, dtype=bool)
    assert not ask(grid(side, side), bits, free, side)
    assert ask(grid(side, side), bits, free, 2 * side)
    # two grids that evidence cuts apart
    free = free.reshape(side, side)
    free[:, side // 2] = False
    assert ask(grid(side, side), bits, free.ravel(), side)


@pytest.mark.parametrize("states", [2, 3, 16])
def test_trees_and_rings(states):
    rng = np.random.default_rng(states)
    bits = np.full(3000, np.log2(states))
    free = np.ones(3000, dtype=bool)
    links = [(k, int(rng.integers(k))) for k in range(1, 3000)]
    assert ask(links, bits, free, 2 * bits[0] + 2)
    assert not ask(links, bits, free, 1.5 * bits[0])
    ring = [(k, (k + 1) % 3000) for k in range(3000)]
    assert ask(ring, bits, free, 3 * bits[0] + 2)
    assert not ask(ring, bits, free, 2.5 * bits[0])


def test_a_long_strip():
    scopes = grid(5, 2000)
    bits = np.ones(10000)
    free = np.ones(10000, dtype=bool)
    assert ask(scopes, bits, free, 12)
    assert not ask(scopes, bits, free, 5)


def test_stars_and_large_factors():
    star = [(0, k) for k in range(1, 500)]
    bits, free = np.ones(500), np.ones(500, dtype=bool)
    assert ask(star, bits, free, 4)
    clique = [tuple(range(12))]
    assert ask(clique, bits[:12], free[:12], 12)
    assert not ask(clique, bits[:12], free[:12], 11)
    free[:8] = False  # observed
    assert ask(clique, bits[:12], free[:12], 4)


def test_nothing_to_eliminate():
    assert ask([(0, 1), (1, 2)], np.ones(3), np.zeros(3, dtype=bool), 1)
    assert ask([], np.ones(3), np.ones(3, dtype=bool), 2)
    assert ask([], np.zeros(0), np.zeros(0, dtype=bool), 2)
