"""A kind of factors that was written outside the library gets right answers from every engine."""

import itertools

import numpy as np
import pytest
import torch

import pgnn
from pgnn import MarkovRandomField, TabularPotential, Variable
from tests.factors.groups.parity import Parity

SHAPE = (6,)
LOOPS = [(0, 1, 2), (2, 3, 4), (4, 5, 0), (1, 3, 5)]
TREE = [(0, 1, 2), (2, 3, 4), (4, 5)]
STATES = np.array(list(itertools.product([0, 1], repeat=6)))
LEVELS = [0.5, -0.3, 1.2, 0.1]
FIELD = np.array([[1.0, 2.0], [1.0, 0.6], [0.8, 1.0], [1.5, 1.0], [1.0, 1.1], [0.7, 1.0]])


def model(scopes: list[tuple[int, ...]]) -> MarkovRandomField:
    x = Variable("x", 2, shape=SHAPE)
    by_size = [[s for s in scopes if len(s) == n] for n in (2, 3)]
    parts = [Parity(x, s, LEVELS[: len(s)]) for s in by_size if s]
    return MarkovRandomField([*parts, TabularPotential(x, FIELD)])


def log_scores(scopes: list[tuple[int, ...]]) -> np.ndarray:
    """Of all states, from the definition."""
    total = np.log(FIELD[np.arange(6), STATES]).sum(1)
    for n in (2, 3):
        for level, scope in zip(LEVELS, [s for s in scopes if len(s) == n], strict=False):
            even = STATES[:, list(scope)].sum(1) % 2 == 0
            total += np.where(even, np.log1p(np.exp(level)), 0.0)
    return total


def enumerated(
    scopes: list[tuple[int, ...]], observed: dict[int, int]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log evidence, marginals ``(6, 2)`` and the best states."""
    possible = np.all([STATES[:, e] == s for e, s in observed.items()], axis=0)
    scores = np.where(possible, log_scores(scopes), -np.inf)
    weights = np.exp(scores)
    one = (weights[:, None] * STATES).sum(0) / weights.sum()
    return float(np.log(weights.sum())), np.stack([1 - one, one], 1), STATES[scores.argmax()]


def marginals(posterior: pgnn.Posterior) -> np.ndarray:
    return posterior["x"].probs.detach().numpy().reshape(6, 2)


SEEN = {("x", 3): 1}


@pytest.mark.parametrize(
    ("scopes", "engine", "close"),
    [
        (LOOPS, None, 1e-10),
        (LOOPS, pgnn.JunctionTree(), 1e-10),
        (TREE, pgnn.BeliefPropagation(progress=False), 1e-8),
        (LOOPS, pgnn.MeanField(blocks=[["x"]], seed=0, progress=False), 1e-6),
        (LOOPS, pgnn.Gibbs(samples=20_000, chains=4, seed=0, progress=False), 0.02),
        (LOOPS, pgnn.AnnealedImportanceSampling(chains=4_000, seed=0, progress=False), 0.04),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "query") else "",
)
def test_marginals(scopes: list[tuple[int, ...]], engine: object, close: float) -> None:
    log_z, want, _ = enumerated(scopes, {3: 1})
    found = model(scopes).query(None, SEEN, engine=engine)
    np.testing.assert_allclose(marginals(found), want, atol=close)
    if close < 0.01:
        assert float(found.log_evidence) == pytest.approx(log_z, abs=max(close, 1e-6))


def test_independent_mean_field_finds_the_bound_of_the_tables() -> None:
    engine = pgnn.MeanField(restarts=5, seed=0, progress=False)
    field = model(LOOPS)
    found = float(field.query(None, SEEN, engine=engine).log_evidence)
    assert found <= enumerated(LOOPS, {3: 1})[0]
    twin = MarkovRandomField(list(field.factors()))
    observed = {("x", 3): 1}
    again = twin.query(None, observed, engine=engine).log_evidence
    assert found == pytest.approx(float(again), abs=1e-6)


@pytest.mark.parametrize(
    "engine",
    [
        pgnn.JunctionTree(),
        pgnn.Annealing(seed=0, progress=False),
        pgnn.DualDecomposition(seed=0, progress=False),
    ],
    ids=lambda e: type(e).__name__,
)
def test_best_states(engine: object) -> None:
    _, _, want = enumerated(LOOPS, {3: 1})
    found = model(LOOPS).most_probable(SEEN, engine=engine)
    assert np.asarray(found["x"]).tolist() == want.tolist()
    assert float(found.log_prob) == pytest.approx(log_scores(LOOPS)[STATES[:, 3] == 1].max())


def test_complete_rows_are_looked_up() -> None:
    field = model(LOOPS)
    got = field.log_score({"x": torch.from_numpy(STATES)})
    np.testing.assert_allclose(got.detach().numpy(), log_scores(LOOPS), atol=1e-10)


@pytest.mark.parametrize("learner", ["Gradient", "PseudoLikelihood"])
def test_learning(learner: str) -> None:
    """What is fitted to all states, weighted by their probabilities, is what they came from."""
    weights = np.exp(log_scores(LOOPS))
    x = Variable("x", 2, shape=SHAPE)
    field = MarkovRandomField([Parity(x, LOOPS), TabularPotential(x, FIELD)])
    chosen = getattr(pgnn, learner)()
    field.fit({"x": STATES}, learner=chosen, weights=weights, progress=False)
    np.testing.assert_allclose(field.potentials[0].level.detach().numpy(), LEVELS, atol=2e-3)


def test_gradients_reach_its_numbers() -> None:
    """Of the log partition function, by exact inference and by propagation on a tree."""
    found = []
    for engine in (pgnn.JunctionTree(), pgnn.BeliefPropagation(progress=False)):
        field = model(TREE)
        for p in field.potentials[:2]:
            p.level.requires_grad_()
        value = field.query(engine=engine).log_evidence
        value.backward()
        found.append(torch.cat([p.level.grad for p in field.potentials[:2]]).numpy())
    assert (np.abs(found[0]) > 1e-3).all()
    np.testing.assert_allclose(found[0], found[1], atol=1e-7)
