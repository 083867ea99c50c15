"""Walking back from the roots: the best states, and exact draws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgnn.inference.exact.cpu_executor import CpuExecutor
from pgnn.inference.exact.plan import make_task
from tests import oracle
from tests.inference.exact.kernels.test_execution import observed_always, plan_in_order, unary
from tests.inference.random_graphs import KINDS, RandomGraph, everything

SEEDS = st.integers(0, 2**31)
ROOM = 2**30


def decode(case: RandomGraph, maximize: np.ndarray, draws: int = 0, seed: int = 0):
    task = make_task(case.graph, observed_always(case), unary=unary(case), maximize=maximize,
                     prune=False)  # fmt: skip
    plan = plan_in_order(case, task)
    return CpuExecutor(case.graph, ROOM).decode(plan, case.codes, case.likelihoods, draws, seed)


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([0.0, 0.4, 1.0]), st.booleans(),
       st.sampled_from([1, 9]))  # fmt: skip
def test_best_states(seed: int, kind: str, share: float, soft: bool, rows: int) -> None:
    case = RandomGraph(seed, kind, rows=rows, share=share, soft=soft)
    states, top = decode(case, everything(case.graph))
    assert states.shape == (rows, 1, len(case.names))
    for b, joint in enumerate(case.joints):
        best = oracle.mode(joint)[1]
        assert top[b] == pytest.approx(best, abs=1e-9)
        found = case.assignment(states[b, 0])
        assert math.log(oracle.weight(joint, found)) == pytest.approx(best, abs=1e-9)


@given(SEEDS, st.sampled_from(KINDS), st.sampled_from([1, 9]))
def test_summed_first_then_maximised(seed: int, kind: str, rows: int) -> None:
    case = RandomGraph(seed, kind, rows=rows)
    maximize = case.rng.random(len(case.names)) < 0.5
    targets = [n for n, m in zip(case.names, maximize, strict=True) if m]
    states, top = decode(case, maximize)
    for b, joint in enumerate(case.joints):
        best = oracle.marginal_map(joint, targets)[1] if targets else oracle.log_evidence(joint)
        assert top[b] == pytest.approx(best, abs=1e-9)
        found = case.assignment(states[b, 0])
        chosen = {n: found[n] for n in targets}
        assert math.log(oracle.weight(joint, chosen)) == pytest.approx(best, abs=1e-9)
        rest = [n for n in case.names if n not in targets and n not in case.evidence[b]]
        assert all(found[n] == -1 for n in rest)


@pytest.mark.parametrize("kind", ["loop", "disconnected", "markov", "isolated"])
@pytest.mark.parametrize("rows", [1, 9])
def test_draws_follow_the_posterior(kind: str, rows: int) -> None:
    """Every joint state within five sigma (3 / n more for rare ones): 6e-7 each by chance."""
    n = 5000
    case = RandomGraph(12, kind, rows=rows, share=0.3, soft=True, num_variables=5)
    states, log_z = decode(case, ~everything(case.graph), n, seed=3)
    np.testing.assert_allclose(log_z, case.log_evidence, atol=1e-9)
    for b, joint in enumerate(case.joints):
        p = joint.table.ravel() / joint.table.sum()
        observed = np.ravel_multi_index(states[b].T, joint.table.shape)
        frequency = np.bincount(observed, minlength=p.size) / n
        assert (frequency[p == 0] == 0).all()
        assert (np.abs(frequency - p) <= 5 * np.sqrt(p * (1 - p) / n) + 3 / n).all()


def test_draws_are_independent_of_one_another() -> None:
    """Fair coins: neighbours in every direction agree half of the time."""
    case = RandomGraph(0, "isolated", rows=40, share=0.0, num_variables=10)
    case.cards = dict.fromkeys(case.names, 2)
    variables = tuple(type(v)(v.name, 2) for v in case.graph.variables)
    half = case.graph.factors[0].log_values.new_zeros(2)
    factors = tuple(type(f)([v], half) for f, v in zip(case.graph.factors, variables, strict=True))
    case.graph = type(case.graph)(variables, factors)
    draws = {}
    for seed in (0, 1, 1_000_003):
        states, _ = decode(case, ~everything(case.graph), 200, seed)
        draws[seed] = coins = 2 * states - 1
        for axis in (0, 1, 2):
            for lag in (1, 2, 8):
                first = np.take(coins, range(coins.shape[axis] - lag), axis)
                second = np.take(coins, range(lag, coins.shape[axis]), axis)
                _uncorrelated(first * second)
        _uncorrelated(coins)
    for shift in (0, 1, 2):
        for one, other in ((0, 1), (0, 1_000_003), (1, 1_000_003)):
            first = draws[one][..., : 10 - shift]
            _uncorrelated(first * draws[other][..., shift:])
            _uncorrelated(draws[one][..., shift:] * draws[other][..., : 10 - shift])


def _uncorrelated(products: np.ndarray) -> None:
    """A mean of n fair signs has standard deviation n ** -0.5."""
    assert abs(products.mean()) < 5 / math.sqrt(products.size)


def test_seeds() -> None:
    case = RandomGraph(4, "dense", rows=3)
    nobody = ~everything(case.graph)
    task = make_task(case.graph, nobody, unary=unary(case), prune=False)
    plan = plan_in_order(case, task)
    executor = CpuExecutor(case.graph, ROOM)
    first, again, other = (
        executor.decode(plan, case.codes, None, 100, seed)[0] for seed in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()
