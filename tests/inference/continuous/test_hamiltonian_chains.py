import math

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import ModelError
from pgnn.inference.continuous.hamiltonian_chains import HamiltonianChains
from tests.inference.continuous.test_mcmc import check_mean, check_moments


def gaussian(precision: np.ndarray):
    def function(q: np.ndarray):
        slope = q @ precision
        return 0.5 * (q * slope).sum(axis=1), slope

    return function


def test_correlated_gaussian():
    covariance = np.array([[1.0, 9.0, 0.0], [9.0, 100.0, 0.0], [0.0, 0.0, 1e-4]])
    draws = HamiltonianChains(400, 500).run(
        gaussian(np.linalg.inv(covariance)), np.full((4, 3), 0.1), seed=3
    )
    x = torch.from_numpy(draws.points)
    check_moments(x, torch.zeros(3), torch.from_numpy(covariance.diagonal().copy()))
    check_mean(x[..., 0] * x[..., 1], 9.0)
    assert not draws.diverged.any()


class Twin:
    """One chain by plain recursion, with the same random numbers in the same order."""

    def __init__(self, function, point: np.ndarray, word: np.uint64, max_depth: int) -> None:
        self.function, self.max_depth = function, max_depth
        self.state = int(word)
        self.q = point
        self.u, self.g = self.at(point)
        self.step = 0.1
        self.variance = np.ones(len(point))

    def at(self, q: np.ndarray):
        u, g = self.function(q[None])
        return float(u[0]), g[0]

    def uniform(self) -> float:
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        x = self.state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return ((x ^ (x >> 31)) >> 11) / 2.0**53

    def momentum(self) -> np.ndarray:
        p = []
        for _ in range(0, len(self.q), 2):
            r = math.sqrt(-2.0 * math.log(1.0 - self.uniform()))
            angle = 2.0 * math.pi * self.uniform()
            p += [r * math.cos(angle), r * math.sin(angle)]
        return np.array(p[: len(self.q)]) / np.sqrt(self.variance)

    def energy(self, u: float, p: np.ndarray) -> float:
        return u + 0.5 * float((p * p * self.variance).sum())

    def leapfrog(self, state, step: float):
        q, p, g, _ = state
        p = p - 0.5 * step * g
        q = q + step * self.variance * p
        u, g = self.at(q)
        return q, p - 0.5 * step * g, g, u

    def search(self) -> None:
        first = 0
        while True:
            p = self.momentum()
            after = self.leapfrog((self.q, p, self.g, self.u), self.step)
            gain = self.energy(self.u, p) - self.energy(after[3], after[1])
            way = 1 if gain > math.log(0.8) else -1
            first = first or way
            if way != first:
                return
            self.step *= 2.0**way

    def turning(self, leaves) -> bool:
        momenta = [leaf[1] for leaf in leaves]
        rho = (sum(momenta) - 0.5 * (momenta[0] + momenta[-1])) * self.variance
        return bool(momenta[0] @ rho <= 0 or momenta[-1] @ rho <= 0)

    def subtree(self, state, depth: int, step: float):
        """Leaves in the order in which they are made, and whether the tree is to be left."""
        if depth == 0:
            state = self.leapfrog(state, step)
            loss = self.energy(state[3], state[1]) - self.start
            if loss > 1000.0:
                return [state], True
            self.weight_sub = np.logaddexp(self.weight_sub, -loss)
            if math.log(1.0 - self.uniform()) < -loss - self.weight_sub:
                self.candidate = state
            return [state], False
        first, left = self.subtree(state, depth - 1, step)
        if left:
            return first, True
        second, left = self.subtree(first[-1], depth - 1, step)
        both = first + second
        return both, left or self.turning(both)

    def transition(self) -> np.ndarray:
        p = self.momentum()
        self.start = self.energy(self.u, p)
        leaves, weight = [(self.q, p, self.g, self.u)], 0.0
        for depth in range(self.max_depth):
            sign = 1 if self.uniform() < 0.5 else -1
            self.weight_sub = -np.inf
            end = leaves[-1] if sign > 0 else leaves[0]
            more, left = self.subtree(end, depth, sign * self.step)
            if left:
                break
            if math.log(1.0 - self.uniform()) < self.weight_sub - weight:
                self.q, _, self.g, self.u = self.candidate
            weight = np.logaddexp(weight, self.weight_sub)
            leaves = leaves + more if sign > 0 else more[::-1] + leaves
            if self.turning(leaves):
                break
        return self.q


def quartic(q: np.ndarray):
    """Not a Gaussian: heavy in the middle, and a ridge."""
    u = 0.25 * (q**4).sum(axis=1) + 5.0 * (q[:, 0] - q[:, 1]) ** 2
    g = q**3
    g[:, 0] += 10.0 * (q[:, 0] - q[:, 1])
    g[:, 1] -= 10.0 * (q[:, 0] - q[:, 1])
    return u, g


@pytest.mark.parametrize("max_depth", [10, 2])
def test_equals_the_recursive_twin(max_depth):
    start = np.random.default_rng(5).normal(size=(3, 3))
    found = HamiltonianChains(0, 60, max_tree_depth=max_depth).run(quartic, start, seed=11)
    words = np.random.SeedSequence(11).generate_state(3, np.uint64)
    for c in range(3):
        twin = Twin(quartic, start[c].copy(), words[c], max_depth)
        twin.search()
        assert found.step_size[c] == pytest.approx(twin.step)
        own = np.stack([twin.transition() for _ in range(60)])
        # rounding grows along trajectories, slowly
        np.testing.assert_allclose(found.points[c], own, rtol=1e-6, atol=1e-6)
    assert found.depth.max() == min(max_depth, found.depth.max())
    assert len(np.unique(found.depth)) > 1 or max_depth == 2


def test_a_chain_does_not_depend_on_the_others():
    start = np.random.default_rng(5).normal(size=(3, 3))
    alone = HamiltonianChains(30, 20).run(quartic, start[:1], seed=2)
    together = HamiltonianChains(30, 20).run(quartic, start, seed=2)
    np.testing.assert_allclose(alone.points[0], together.points[0], rtol=1e-9)
    assert not np.allclose(together.points[0], together.points[1])


def test_windows_cover_the_warmup():
    assert HamiltonianChains(1000).windows().tolist() == [75, 100, 150, 250, 450, 950]
    for warmup in range(0, 400, 7):
        ends = HamiltonianChains(warmup).windows()
        assert (np.diff(ends) > 0).all()
        assert ends[-1] <= warmup


def test_stationary_from_exact_draws():
    """Draws that begin at exact ones stay exact: their ranks are uniform (Cook et al. 2006)."""
    exact = np.random.default_rng(1).standard_gamma(2.0, size=(400, 1))

    def log_gamma(q):
        return np.exp(q[:, 0]) - 2.0 * q[:, 0], np.exp(q) - 2.0

    draws = HamiltonianChains(0, 4).run(log_gamma, np.log(exact), seed=0)
    x = np.sort(np.exp(draws.points[:, -1, 0]))
    cdf = 1.0 - (1.0 + x) * np.exp(-x)
    distance = np.abs(cdf - (np.arange(400) + 0.5) / 400).max() + 0.5 / 400
    # Kolmogorov and Smirnov: P(sqrt(n) D > 1.95) < 2 exp(-2 * 1.95^2) = 0.001
    assert distance < 1.95 / math.sqrt(400)


# --- trajectories of given length ----------------------------------------------------------------


class StraightTwin(Twin):
    """The same with so many steps, the end accepted or not."""

    def transition(self) -> np.ndarray:
        p = self.momentum()
        start, state = self.energy(self.u, p), (self.q, p, self.g, self.u)
        for _ in range(self.max_depth):
            state = self.leapfrog(state, self.step)
            loss = self.energy(state[3], state[1]) - start
            if not loss <= 1000.0:
                return self.q
        if self.uniform() < min(1.0, math.exp(-loss)):
            self.q, _, self.g, self.u = state
        return self.q


@pytest.mark.parametrize("num_steps", [1, 7])
def test_paths_of_given_length_equal_their_twin(num_steps):
    start = np.random.default_rng(5).normal(size=(3, 3))
    found = HamiltonianChains(0, 60, num_steps=num_steps).run(quartic, start, seed=11)
    words = np.random.SeedSequence(11).generate_state(3, np.uint64)
    for c in range(3):
        twin = StraightTwin(quartic, start[c].copy(), words[c], num_steps)
        twin.search()
        own = np.stack([twin.transition() for _ in range(60)])
        np.testing.assert_allclose(found.points[c], own, rtol=1e-6, atol=1e-6)
    stayed = (np.diff(found.points, axis=1) == 0.0).all(axis=2)
    assert stayed.any()
    assert not stayed.all()
    assert (found.gradients[~found.diverged] == num_steps).all()


def test_paths_of_given_length_find_a_correlated_gaussian():
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 4.0, 0.0], [0.0, 0.0, 1e-2]])
    chains = HamiltonianChains(500, 1000, num_steps=5)
    draws = chains.run(gaussian(np.linalg.inv(covariance)), np.full((4, 3), 0.1), seed=3)
    x = torch.from_numpy(draws.points)
    check_moments(x, torch.zeros(3), torch.from_numpy(covariance.diagonal().copy()))
    check_mean(x[..., 0] * x[..., 1], 0.6)
    assert (draws.gradients == 5).all()


def test_paths_that_run_away_are_told_and_left():
    def wall(q):
        """Flat, and beyond 1 steeper than any step."""
        outside = np.maximum(np.abs(q) - 1.0, 0.0)
        return (1e8 * outside**2).sum(axis=1), 2e8 * outside * np.sign(q)

    draws = HamiltonianChains(0, 200, num_steps=30).run(wall, np.zeros((2, 1)), seed=0)
    assert draws.diverged.any()
    assert (draws.acceptance[draws.diverged] == 0.0).all()
    assert np.isfinite(draws.points).all()


def test_engine_with_paths_of_given_length():
    mean, y = pgnn.Variable("mean"), pgnn.Variable("y")
    model = pgnn.BayesianNetwork(
        [("mean", "y")],
        {
            "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
            "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
        },
    )
    engine = pgnn.MCMC(num_steps=4, warmup=200, samples=500, seed=0, progress=False)
    posterior = model.query("mean", {"y": 2.0}, engine=engine)
    check_moments(posterior["mean"].samples, 1.0, 0.5)
    with pytest.raises(ModelError, match="num_steps must be at least 1, got 0"):
        pgnn.MCMC(num_steps=0)
