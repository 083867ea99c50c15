"""What torch answers in place of the compiled kernels is what they answer."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from tests import oracle

CARD = (2, 3, 2, 2)
SCOPES = ((0,), (0, 1), (1, 2), (0, 3), (2, 3))
CODES = np.array([[-1, -1, -1, -1], [1, -1, -1, 0], [-1, 2, -1, -1]], dtype=np.int32)
EVERY = np.ones(4, dtype=np.bool_)


def tables() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.exponential(size=[CARD[v] for v in scope]) for scope in SCOPES]


def solver(kernels: bool) -> Solver:
    variables = [pgnn.Variable(f"v{k}", size) for k, size in enumerate(CARD)]
    factors = tuple(
        pgnn.Factor([variables[v] for v in scope], torch.from_numpy(np.log(table)))
        for scope, table in zip(SCOPES, tables(), strict=True)
    )
    made = Solver(FactorGraph(tuple(variables), factors))
    if not kernels:
        made.cpu = None
    return made


def soft() -> np.ndarray:
    likelihoods = np.ones((3, sum(CARD)))
    likelihoods[:, 2:5] = [[0.2, 0.0, 1.0], [1.0, 1.0, 1.0], [0.5, 0.1, 0.7]]
    return likelihoods


@pytest.mark.parametrize("likelihoods", [None, soft()], ids=["hard", "soft"])
def test_both_executors_agree(likelihoods: np.ndarray | None) -> None:
    fast, slow = solver(kernels=True), solver(kernels=False)
    for ours, theirs in [
        (s.marginals(CODES, likelihoods, EVERY) for s in (fast, slow)),
        (s.best(CODES, likelihoods, EVERY) for s in (fast, slow)),
        (s.best(CODES, likelihoods, EVERY & (np.arange(4) < 2)) for s in (fast, slow)),
        (s.expected(CODES, likelihoods, np.array([1.0, 0.5, 2.0])) for s in (fast, slow)),
        ([s.joint(CODES, likelihoods, [3, 1])] for s in (fast, slow)),
    ]:
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(other, mine, rtol=1e-12, atol=1e-14)


def test_torch_agrees_with_enumeration() -> None:
    factors = list(zip(SCOPES, tables(), strict=True))
    cards = dict(enumerate(CARD))
    log_z, marginals = solver(kernels=False).marginals(CODES, None, EVERY)
    for row, codes in enumerate(CODES):
        observed = {v: int(state) for v, state in enumerate(codes) if state >= 0}
        joint = oracle.joint(cards, factors, observed)
        expected = np.concatenate(list(oracle.marginals(joint).values()))
        np.testing.assert_allclose(marginals[row], expected, rtol=1e-12)
        assert log_z[row] == pytest.approx(oracle.log_evidence(joint), rel=1e-12)


def test_draws_keep_the_evidence_and_the_seed() -> None:
    slow = solver(kernels=False)
    states, log_z = slow.draw(CODES, None, 50, seed=3)
    assert states.shape == (50, 3, 4)
    assert (states[:, CODES >= 0] == CODES[CODES >= 0]).all()
    np.testing.assert_array_equal(states, slow.draw(CODES, None, 50, seed=3)[0])
    np.testing.assert_allclose(log_z, slow.marginals(CODES, None, EVERY)[0], rtol=1e-12)


def test_only_variables_with_soft_evidence_get_likelihoods() -> None:
    slow = solver(kernels=False)
    ask = Ask(wanted=EVERY, soft=slow.softly(soft()))
    for plan, rows in slow.plans(CODES, ask):
        arguments = slow.torch_rows(plan, CODES, soft(), rows).arguments
        assert set(arguments["unary"]) <= {1}
        assert arguments["codes"].tolist() == CODES[rows].tolist()
