"""Mixtures of models over time with labels of components: against separate models and paths."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import pgnn
from pgnn.errors import ArgumentError, DataError, EvidenceError, ModelError, Unsupported

LABELS = [0, 1] * 6
LEARNER = pgnn.EM(tolerance=1e-9)


def sequences() -> list[list[float]]:
    rng = np.random.default_rng(0)
    steps = np.arange(8)
    return [(rng.normal(5.0 * k, 1.0, size=8) + 3.0 * (steps // 3 % 2)).tolist() for k in LABELS]


def declared() -> pgnn.SequenceMixture:
    return pgnn.SequenceMixture([pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}) for _ in range(2)])


def fitted(labels: list) -> pgnn.SequenceMixture:
    rows = {"component": labels, "x": sequences()}
    return declared().fit(rows, learner=LEARNER, seed=0, progress=False)


def test_each_component_is_fitted_to_its_own_sequences() -> None:
    model, rows = fitted(LABELS), sequences()
    for k, component in enumerate(model.components):
        own = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian})
        own.fit({"x": rows[k::2]}, learner=LEARNER, seed=0, progress=False)
        torch.testing.assert_close(
            component.log_prob({"x": rows[k::2]}), own.log_prob({"x": rows[k::2]}),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip
    torch.testing.assert_close(model.weights.probs.detach(), torch.full((2,), 0.5).double())
    unequal = fitted([0] * 9 + [1] * 3)
    torch.testing.assert_close(unequal.weights.probs.detach(), torch.tensor([0.75, 0.25]).double())


@pytest.mark.parametrize("missing", [None, -1, float("nan")])
def test_some_labels_order_the_components(missing: float | None) -> None:
    for first in (0, 1):
        model = fitted([first, 1 - first] + [missing] * 10)
        found = model.query("component", {"x": sequences()})["component"].probs.argmax(-1)
        assert found.tolist() == [first, 1 - first] * 6


def test_rows_with_some_labels_order_the_components() -> None:
    x = [0.0, 0.1, 5.0, 5.1] * 5
    parts = [pgnn.BayesianNetwork([], {"x": pgnn.Gaussian(pgnn.Variable("x"))}) for _ in range(2)]
    rows = {"component": [1, None, 0, None] + [None] * 16, "x": x}
    model = pgnn.ModelMixture(parts).fit(rows, seed=0, progress=False)
    assert [round(c.conditionals["x"].mean.item(), 3) for c in parts] == [5.05, 0.05]
    assert model.history["converged"]


def test_a_label_is_part_of_the_evidence() -> None:
    model, rows = fitted(LABELS), sequences()
    logs = torch.stack([c.log_prob({"x": rows}) for c in model.components], dim=1) + np.log(0.5)
    joint = model.log_prob({"component": LABELS, "x": rows})
    torch.testing.assert_close(joint, logs[torch.arange(12), torch.tensor(LABELS)])
    same = {"component": 1, "x": rows}
    torch.testing.assert_close(model.log_prob(same), logs[:, 1])
    lone = model.log_prob({"component": 1, "x": rows[0]})
    torch.testing.assert_close(lone, logs[0, 1])
    some = model.query("component", {"component": [1, None] * 6, "x": rows})
    expected = logs.softmax(dim=1)
    expected[::2] = torch.tensor([0.0, 1.0]).double()
    torch.testing.assert_close(some["component"].probs, expected)
    frames = [pd.DataFrame({"x": x, "component": k}) for x, k in zip(rows, LABELS, strict=True)]
    assert model.log_prob(frames).equal(joint)
    ignored = pgnn.observed({"component": LABELS, "x": rows}, ignore=["component"])
    torch.testing.assert_close(model.log_prob(ignored), logs.logsumexp(1))
    drawn = model.sample(50, {"component": 1, "x": [None] * 8}, seed=0)["x"]
    assert abs(float(drawn.mean()) - np.mean(rows[1::2])) < 0.5


def test_concatenated_sequences() -> None:
    rows, lengths = sequences(), [8] * 12
    flat, model = np.concatenate(rows), fitted(LABELS)
    assert model.log_prob(flat, lengths=lengths).equal(model.log_prob({"x": rows}))
    labelled = {"x": flat, "component": LABELS}
    joint = model.log_prob({"x": rows, "component": LABELS})
    assert model.log_prob(labelled, lengths=lengths).equal(joint)
    again = declared().fit(labelled, lengths=lengths, learner=LEARNER, seed=0, progress=False)
    assert again.log_prob({"x": rows}).equal(model.log_prob({"x": rows}))
    answer = model.query("component", flat, lengths=lengths)["component"].probs
    assert answer.equal(model.query("component", {"x": rows})["component"].probs)
    best = model.decode(flat, lengths=lengths)
    assert best.codes.equal(model.decode({"x": rows}).codes)


def test_shapes_are_taken_from_the_data() -> None:
    rows = [np.random.default_rng(k).normal(size=(30, 2)) for k in range(6)]
    model = declared().fit({"x": rows}, seed=0, progress=False)
    assert model.components[1].emissions["x"].mean.shape == (2, 2)


def test_decoding_equals_enumeration() -> None:
    def make(stay: float) -> pgnn.HiddenMarkovModel:
        moves = [[stay, 1 - stay], [1 - stay, stay]]
        return pgnn.HiddenMarkovModel(2, {"x": [[0.9, 0.1], [0.1, 0.9]]}, [0.5, 0.5], moves)

    model = pgnn.SequenceMixture([make(0.9), make(0.2)], [0.4, 0.6])
    for x in itertools.product([0, 1], repeat=3):
        best = model.decode({"x": [*x]})
        scores = {}
        for k, z in itertools.product([0, 1], itertools.product([0, 1], repeat=3)):
            known = {"component": k, "state": [*z], "x": [*x]}
            scores[k, z] = float(model.log_prob(known))
        assert float(best.log_prob) == pytest.approx(max(scores.values()), abs=1e-12)
        found = best["component"], tuple(best["state"].tolist())
        assert scores[found] == pytest.approx(max(scores.values()), abs=1e-12)
        assert "exact" in best.table()
    given = model.decode({"x": [0, 0, 1], "component": 1})
    alone = model.components[1].decode({"x": [0, 0, 1]})
    assert given["component"] == 1
    assert given["state"].tolist() == alone["state"].tolist()


def test_what_is_asked_wrongly() -> None:
    model, rows = fitted(LABELS), sequences()
    with pytest.raises(EvidenceError, match="got 2 labels of 12 sequences"):
        model.log_prob({"component": [0, 1], "x": rows})
    with pytest.raises(EvidenceError, match="labels of a lone sequence"):
        model.log_prob({"component": [1], "x": rows[0]})
    with pytest.raises(EvidenceError, match="has no state 'z'"):
        model.log_prob({"component": "z", "x": rows})
    with pytest.raises(DataError, match="got 2 labels of 12 sequences"):
        model.fit({"component": [0, 1], "x": rows}, progress=False)
    with pytest.raises(Unsupported, match="must be its label"):
        model.query("component", {"component": {0: 0.5, 1: 0.1}, "x": rows})
    mixed = pd.DataFrame({"x": rows[0], "component": [0, 1] * 4})
    with pytest.raises(EvidenceError, match="give a list of frames"):
        model.log_prob(mixed)
    single = pgnn.ModelMixture([pgnn.BayesianNetwork([], states={"a": 2})])
    with pytest.raises(ArgumentError, match="has no argument 'lengths'; it is for models over"):
        single.fit({"a": [0, 1]}, lengths=[1, 1])
    with pytest.raises(
        ArgumentError, match=r"Mixture.fit\(\) has no argument 'lengths'; it is for"
    ):
        pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": [1.0, 2.0]}, lengths=[1, 1])
    with pytest.raises(ModelError, match="has no argument 'sede'"):
        pgnn.Mixture(2, {"x": pgnn.Gaussian}).fit({"x": [1.0, 2.0]}, sede=0)
