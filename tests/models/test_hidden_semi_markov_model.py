"""Hidden semi-Markov models against all segmentations and the unrolled network."""

import itertools
import math

import numpy as np
import pytest
import torch

import pgnn
from pgnn import (
    EM,
    HiddenMarkovModel,
    HiddenSemiMarkovModel,
    OnlineFilter,
    Tabular,
    Variable,
)
from pgnn.errors import ModelError, NotConverged, Unsupported

K, D, S = 2, 3, 3
ROWS = [[0, 1, 2, 1], [2, -1, 0], [1]]


def tables(seed: int = 0, d: int = D) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(S, K), (d, K), (K, 1), (K, K)]
    emits, lasts, first, moves = (rng.dirichlet(np.ones(n), k) for n, k in shapes)
    return [emits, lasts, first[0], moves]


def model_of(emits, lasts, first, moves) -> HiddenSemiMarkovModel:
    return HiddenSemiMarkovModel(K, {"x": emits}, lasts, first, moves)


def segmentations(steps: int):
    """Every way to cut steps into states and durations; the last one may be cut off."""
    if not steps:
        yield []
        return
    for state, last in itertools.product(range(K), range(1, D + 1)):
        if last >= steps:
            yield [(state, last)]
        else:
            for rest in segmentations(steps - last):
                yield [(state, last), *rest]


def weight(parts, row, emits, lasts, first, moves) -> float:
    states = [z for z, d in parts for _ in range(d)][: len(row)]
    total = first[parts[0][0]] * math.prod(lasts[z, d - 1] for z, d in parts)
    total *= math.prod(moves[a, b] for (a, _), (b, _) in itertools.pairwise(parts))
    return total * math.prod(emits[z, x] for z, x in zip(states, row, strict=True) if x >= 0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_all_segmentations(seed) -> None:
    given = tables(seed)
    model = model_of(*given)
    found = model.smooth({"x": ROWS})
    best = model.decode({"x": ROWS})
    for r, row in enumerate(ROWS):
        every = list(segmentations(len(row)))
        weights = np.array([weight(p, row, *given) for p in every])
        assert float(found.log_evidence[r]) == pytest.approx(math.log(weights.sum()), abs=1e-12)
        posterior = np.zeros((len(row), K))
        for parts, w in zip(every, weights / weights.sum(), strict=True):
            for t, z in enumerate([z for z, d in parts for _ in range(d)][: len(row)]):
                posterior[t, z] += w
        np.testing.assert_allclose(found["state"].probs[r, : len(row)], posterior, atol=1e-12)
        assert bool(found["state"].probs[r, len(row) :].isnan().all())
        # the last segment's whole duration is maximised too
        assert float(best.log_prob[r]) == pytest.approx(math.log(weights.max()), abs=1e-12)


def test_equals_the_unrolled_network() -> None:
    model = model_of(*tables(4))
    evidence = {"x": ROWS, "state": [[0, -1, -1, -1], [-1, -1, 1], [-1]]}
    ours = model.query(None, evidence)
    unrolled = model.query(None, evidence, engine=pgnn.JunctionTree())
    np.testing.assert_allclose(ours.log_evidence, unrolled.log_evidence, atol=1e-12)
    for name in ("state", "x"):
        np.testing.assert_allclose(ours[name].probs, unrolled[name].probs, atol=1e-12)
    filtered = model.filter({"x": ROWS[0]}, engine=pgnn.JunctionTree())["state"].probs
    for t in range(4):
        part = model.smooth({"x": ROWS[0][: t + 1]})["state"].probs[-1]
        np.testing.assert_allclose(filtered[t], part, atol=1e-12)


def test_segments_of_one_step_are_an_ordinary_chain() -> None:
    emits, _, first, moves = tables(5)
    semi = HiddenSemiMarkovModel(K, {"x": emits}, np.ones((K, 1)), first, moves)
    plain = HiddenMarkovModel(K, {"x": emits}, first, moves)
    one, two = semi.smooth({"x": ROWS}), plain.smooth({"x": ROWS})
    np.testing.assert_allclose(one.log_evidence, two.log_evidence, atol=1e-12)
    np.testing.assert_allclose(one["state"].probs, two["state"].probs, atol=1e-12)
    assert torch.equal(semi.decode({"x": ROWS})["state"], plain.decode({"x": ROWS})["state"])


def test_draws_have_the_durations() -> None:
    """Chi-square of the first segments' durations at 0.001, three degrees of freedom."""
    lasts = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    model = HiddenSemiMarkovModel(2, {"x": np.ones((2, 1))}, lasts, [1.0, 0.0])
    drawn = model.sample(2000, {"T": 6}, seed=0)["state"].numpy()
    first = (drawn != 0).argmax(axis=1)
    counts = np.bincount(first, minlength=5)[1:]
    expected = 2000 * lasts[0]
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_learning_never_falls_and_finds_durations() -> None:
    lasts = np.array([[0.0, 0.0, 0.2, 0.8], [0.7, 0.3, 0.0, 0.0]])
    emits = np.array([[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]])
    true = HiddenSemiMarkovModel(2, {"x": emits}, lasts)
    true.requires_grad_(False)
    x = true.sample(40, {"T": 50}, seed=1)["x"]
    model = HiddenSemiMarkovModel(2, {"x": 3}, 4)
    model.fit({"x": x}, learner=EM(), seed=0, progress=False)
    trace = np.array(model.history["trace"]["log_likelihood"])
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[:-1])).all()
    assert trace[-1] > float(true.log_prob({"x": x}).sum())
    found = model.durations.probs.detach().numpy()
    means = np.sort(found @ np.arange(1, 5))
    np.testing.assert_allclose(means, [1.3, 3.8], atol=0.15)
    assert bool((model.transitions.probs.detach().diagonal() == 0).all())


def test_a_step_counts_durations() -> None:
    """With all states known durations are relative frequencies; the last ones may last."""
    model = HiddenSemiMarkovModel(
        2, {"x": np.ones((2, 1))}, 3, transitions=[[0.0, 1.0], [1.0, 0.0]]
    )
    z = [[0, 0, 1, 0, 0, 0, 1, 1], [1, 0, 0, 1, 1, 0, 1, 1]]
    with pytest.warns(NotConverged):
        model.fit(
            {"x": torch.zeros(2, 8).long(), "state": z},
            learner=EM(max_iterations=1),
            progress=False,
        )
    # of state 0: 2, 3, 2, 1; of state 1: 1, 1, 2, and twice 2 or 3, which are equally likely
    np.testing.assert_allclose(model.durations.probs.detach()[0], [1 / 4, 2 / 4, 1 / 4])
    np.testing.assert_allclose(model.durations.probs.detach()[1], [2 / 5, 2 / 5, 1 / 5])


def test_gradients_equal_those_of_the_unrolled_network() -> None:
    model = model_of(*tables(6))
    model.requires_grad_()
    model.log_prob({"x": ROWS}).sum().backward()
    emission = model.emissions["x"].logits
    ours, emission.grad = emission.grad.clone(), None
    model.log_prob({"x": ROWS}, engine=pgnn.JunctionTree()).sum().backward()
    np.testing.assert_allclose(ours, emission.grad, atol=1e-10)


def test_saved_and_loaded(tmp_path) -> None:
    model = model_of(*tables(7))
    model.save(tmp_path / "model.pgnn")
    again = pgnn.load(tmp_path / "model.pgnn")
    assert repr(again) == repr(model)
    assert torch.equal(again.log_prob({"x": ROWS}), model.log_prob({"x": ROWS}))


def test_what_is_not_offered_is_said() -> None:
    model = model_of(*tables(0))
    with pytest.raises(Unsupported, match="engine=JunctionTree"):
        model.filter({"x": ROWS})
    with pytest.raises(Unsupported, match="find one best segmentation"):
        model.decode({"x": ROWS}, k=2)
    with pytest.raises(Unsupported, match="have no filtering"):
        OnlineFilter(model)


def test_wrong_durations() -> None:
    emits, lasts, *_ = tables(0)
    with pytest.raises(ModelError, match="at least 1"):
        HiddenSemiMarkovModel(K, {"x": emits}, 0)
    with pytest.raises(ModelError):
        HiddenSemiMarkovModel(K, {"x": emits}, lasts[:1])
    with pytest.raises(ModelError, match="given 'state' alone"):
        HiddenSemiMarkovModel(K, {"x": emits}, Tabular(Variable("duration", 2)))
