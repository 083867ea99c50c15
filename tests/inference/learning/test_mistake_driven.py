"""Perceptrons and margins: against updates by hand, their bound, and compiled against plain."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.inference.learning import mistake_driven
from pgnn.inference.learning.mistakes import SequenceMistakes

LEARNERS = [pgnn.Perceptron(max_iterations=3), pgnn.MaxMargin(max_iterations=3, cost=0.7)]
IDS = ["perceptron", "margin"]


def separable(rows: int = 40, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, their classes, and weights of unit length that tell them with a margin."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(classes, 2))
    u /= np.linalg.norm(u)
    x = rng.normal(size=(20 * rows, 2))
    scores = np.sort(x @ u.T, axis=1)
    x = x[scores[:, -1] - scores[:, -2] > 0.3][:rows]
    return x, (x @ u.T).argmax(1), u


def field(classes: int = 3) -> pgnn.MarkovRandomField:
    """A class that is told from a point by weights that are learned."""
    network = nn.Linear(2, classes, bias=False, dtype=torch.float64)
    nn.init.zeros_(network.weight)
    return pgnn.MarkovRandomField([pgnn.NeuralPotential(pgnn.Variable("y", classes), network, "x")])


def by_hand(x: Any, y: Any, learner: Any, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Last and mean weights, and how many corrections there were."""
    rng, w = np.random.default_rng(seed), np.zeros((3, 2))
    history, corrections = [], 0
    for _ in range(learner.max_iterations):
        before = corrections
        for n in rng.permutation(len(x)):
            scores = w @ x[n] + learner.rule.cost * (np.arange(3) != y[n])
            best = int(scores.argmax())
            if best != y[n]:
                step = np.zeros((3, 2))
                step[y[n]] += x[n]
                step[best] -= x[n]
                w = w + learner.rule.size(scores[best] - scores[y[n]], (step**2).sum()) * step
                corrections += 1
            history.append(w)
        if corrections == before:
            break
    return w, np.mean(history, axis=0), corrections


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("learner", LEARNERS, ids=IDS)
def test_corrections_are_those_by_hand(learner: Any, averaged: bool) -> None:
    x, y, _ = separable()
    learner = type(learner)(**{**vars(learner), "averaged": averaged})
    model = field().fit({"y": y}, inputs={"x": torch.from_numpy(x)}, learner=learner, seed=1)
    last, mean, _ = by_hand(x, y, learner, 1)
    weight = model.potentials[0].network.weight.detach().numpy()
    np.testing.assert_allclose(weight, mean if averaged else last, atol=1e-12)


def test_mistakes_are_bounded_by_radius_and_margin() -> None:
    x, y, u = separable()
    scores = x @ u.T
    right = scores[np.arange(len(x)), y]
    scores[np.arange(len(x)), y] = -np.inf
    margin, radius = (right - scores.max(1)).min(), np.sqrt(2) * np.linalg.norm(x, axis=1).max()
    learner = pgnn.Perceptron(averaged=False, max_iterations=100)
    model = field().fit({"y": y}, inputs={"x": torch.from_numpy(x)}, learner=learner, seed=0)
    mistakes = model.history["trace"]["mistakes"]
    assert model.history["converged"]
    assert mistakes[-1] == 0.0 < mistakes[0]
    assert sum(mistakes) <= (radius / margin) ** 2
    assert sum(mistakes) == by_hand(x, y, learner, 0)[2]
    best = model.most_probable(inputs={"x": torch.from_numpy(x)})["y"]
    assert best.tolist() == y.tolist()


def test_votes_are_those_of_all_weights_that_there_were() -> None:
    x, y, _ = separable()
    learner = pgnn.Perceptron(averaged=False, voted=True, max_iterations=2)
    inputs = {"x": torch.from_numpy(x)}
    model = field().fit({"y": y}, inputs=inputs, learner=learner, seed=1)
    voters = model.history.voters
    assert voters.votes.sum() == 2 * len(x) == model.history["iterations"] * model.history["rows"]
    weight = model.potentials[0].network.weight.detach().numpy().copy()
    np.testing.assert_array_equal(voters.parameters[-1], weight.reshape(-1))
    chosen = np.zeros((len(x), 3))
    for theta, votes in zip(voters.parameters, voters.votes, strict=True):
        chosen[np.arange(len(x)), (x @ theta.reshape(3, 2).T).argmax(1)] += votes
    best = voters.most_probable(model, inputs=inputs)["y"]
    assert best.tolist() == chosen.argmax(1).tolist()
    np.testing.assert_array_equal(model.potentials[0].network.weight.detach().numpy(), weight)


def test_a_margin_is_kept() -> None:
    x, y, _ = separable()
    learner = pgnn.MaxMargin(averaged=False, max_iterations=500, aggressiveness=100.0)
    model = field().fit({"y": y}, inputs={"x": torch.from_numpy(x)}, learner=learner, seed=0)
    assert model.history["converged"]
    scores = x @ model.potentials[0].network.weight.detach().numpy().T
    right = scores[np.arange(len(x)), y].copy()
    scores[np.arange(len(x)), y] = -np.inf
    assert (right - scores.max(1)).min() >= 1.0 - 1e-8


@pytest.mark.parametrize("learner", LEARNERS, ids=IDS)
def test_regressions_are_fields_without_a_partition_function(learner: Any) -> None:
    x, y, _ = separable()
    rows = {"a": x[:, 0], "b": x[:, 1], "y": y}
    learner = type(learner)(**{**vars(learner), "targets": "y", "max_iterations": 30})
    model = pgnn.LogisticRegression("y", ["a", "b"]).fit(rows, learner=learner, seed=0)
    assert (model.predict({"a": x[:, 0], "b": x[:, 1]}) == y).mean() > 0.9


def test_structures_of_log_linear_potentials() -> None:
    pixel = pgnn.Variable("pixel", 2, shape=(3, 4))
    observed = pgnn.Variable("observed", 2, shape=(3, 4))
    lattice = [((i, j), (i, j + 1)) for i in range(3) for j in range(3)]
    lattice += [((i, j), (i + 1, j)) for i in range(2) for j in range(4)]
    agree = {"same": lambda a, b: a == b}
    truth = pgnn.MarkovRandomField(
        [
            pgnn.LogLinear([pixel], agree, weights=[1.2], scopes=lattice),
            pgnn.LogLinear([pixel, observed], agree, weights=[1.0]),
        ]
    )
    drawn = truth.sample(60, seed=0)
    data = {n: drawn[n] for n in ("pixel", "observed")}
    found = pgnn.MarkovRandomField(
        [pgnn.LogLinear([pixel], agree, scopes=lattice), pgnn.LogLinear([pixel, observed], agree)]
    )
    right = {}
    for learner in LEARNERS:
        learner = type(learner)(**{**vars(learner), "targets": "pixel"})
        found.fit(data, learner=learner, seed=0)
        best = found.most_probable({"observed": data["observed"]}, "pixel")["pixel"]
        right[type(learner).__name__] = float((best == data["pixel"]).double().mean())
    alone = float((data["observed"] == data["pixel"]).double().mean())
    assert min(right.values()) > alone  # the neighbours help


WORDS = [["the", "dog", "barks"], ["a", "cat", "sleeps", "well"], ["the", "cat"], ["dog"], []]
TAGS = [["D", "N", "V"], ["D", "N", "V", "A"], ["D", "N"], ["V"], []]
INPUTS = {"attributes": [[{"w": w, "n": 0.5 * len(w)} for w in s] for s in WORDS]}


@pytest.mark.parametrize("settings", [{}, {"ends": True, "observed_transitions": True}], ids=str)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("learner", LEARNERS, ids=IDS)
def test_the_compiled_loop_does_the_same(
    learner: Any, averaged: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = type(learner)(**{**vars(learner), "averaged": averaged})
    weights = [1.0, 2.0, 0.5, 1.0, 1.0]
    told = {"inputs": INPUTS, "learner": learner, "seed": 3, "weights": weights}
    fast = pgnn.ConditionalRandomField(**settings).fit(TAGS, **told)
    monkeypatch.setattr(mistake_driven, "has_numba", lambda: False)
    made = []
    monkeypatch.setattr(
        mistake_driven, "SequenceMistakes", lambda *x: made.append(x) or SequenceMistakes(*x)
    )
    slow = pgnn.ConditionalRandomField(**settings).fit(TAGS, **told)
    assert made
    for (name, ours), (_, theirs) in zip(
        fast.named_parameters(), slow.named_parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10, msg=name)
    for figure, values in fast.history["trace"].items():
        assert values == pytest.approx(slow.history["trace"][figure])
    assert fast.decode(inputs=INPUTS)["label"].equal(slow.decode(inputs=INPUTS)["label"])


def test_networks_over_sequences_learn_from_mistakes() -> None:
    x = torch.randn(20, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = (x[..., 0] > 0).long()
    network = nn.Linear(3, 2)
    model = pgnn.ConditionalRandomField(["a", "b"], pgnn.NeuralScores(network, "x"))
    names = [["ab"[k] for k in row] for row in labels.tolist()]
    model.fit(names, inputs={"x": x}, learner=pgnn.Perceptron(), seed=0)
    best = model.decode(inputs={"x": list(x)})["label"]
    assert float((best == labels).double().mean()) > 0.9


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(DataError, match="no value of a target"):
        field().fit({"y": [0, -1]}, inputs={"x": torch.zeros(2, 2)}, learner=pgnn.Perceptron())
    with pytest.raises(DataError, match="'label' are missing"):
        pgnn.ConditionalRandomField().fit(
            [["D", None, "V"]],
            inputs={"attributes": INPUTS["attributes"][:1]},
            learner=pgnn.Perceptron(),
        )
    states = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian})
    with pytest.raises(Unsupported, match="HiddenMarkovModel has its own learner"):
        states.fit({"x": [0.0, 1.0]}, learner=pgnn.Perceptron())
    mask = np.ones((4, 4), dtype=bool)
    mask[1, 2] = False  # D before N
    barred = pgnn.ConditionalRandomField(["A", "D", "N", "V"], mask=mask)
    with pytest.raises(DataError, match="which the mask forbids"):
        barred.fit(TAGS, inputs=INPUTS, learner=pgnn.Perceptron(), progress=False)
    assert not barred.scores[0].names
    assert not barred.transitions.any()
    with pytest.raises(ModelError, match="aggressiveness"):
        pgnn.MaxMargin(aggressiveness=0.0)
    with pytest.raises(ModelError, match="engine must be"):
        pgnn.Perceptron(engine="exact")
