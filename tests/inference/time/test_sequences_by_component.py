"""Answers of mixtures over time by other engines, about labelled rows, and with attributes."""

import itertools

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence, Unsupported

MOVES = [[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.5, 0.5]]]
X = [[0, 1, 1], [1, 0, 0]]


def mixture() -> pgnn.SequenceMixture:
    parts = [
        pgnn.HiddenMarkovModel(2, {"x": [[0.9, 0.1], [0.3, 0.7]]}, [0.3, 0.7], m) for m in MOVES
    ]
    return pgnn.SequenceMixture(parts, [0.4, 0.6])


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_an_engine_without_log_evidence_cannot_weight_components() -> None:
    engine = pgnn.Gibbs(samples=20, seed=0)
    with pytest.raises(Unsupported, match=r"Gibbs\(.*no log evidence.*use engine=ImportanceSampl"):
        mixture().query("component", {"x": X}, engine=engine)


def test_the_best_states_need_no_component_that_is_observed() -> None:
    model = mixture()
    found = model.most_probable({"x": X, "component": [0, 1]}, ["state"])
    for i, c in enumerate(model.components):
        scores = {
            z: float(c.log_prob({"x": X[i], "state": [*z]}))
            for z in itertools.product(range(2), repeat=3)
        }
        assert tuple(found["state"][i].tolist()) == max(scores, key=lambda z: scores[z])
    with pytest.raises(Unsupported, match="add 'component' to the targets"):
        model.most_probable({"x": X, "component": [0, None]}, ["state"])


def test_observed_values_have_variance_zero() -> None:
    def chain(mean: float) -> pgnn.HiddenMarkovModel:
        z, x = pgnn.Variable("state", 2), pgnn.Variable("x")
        normal = pgnn.Gaussian(x, [z], [mean, mean + 3.0], [1.0, 2.0])
        return pgnn.HiddenMarkovModel(2, {"x": normal}, [0.3, 0.7], MOVES[0])

    rows = {"x": [[0.1, None, 2.3], [0.7, 1.1, None]]}
    model = pgnn.SequenceMixture([chain(0.0), chain(-1.0)], [0.3, 0.7])
    answer = model.query(["x", "component"], rows)
    seen = torch.tensor([[0, 2], [0, 1]])
    assert answer["x"].variance.gather(1, seen).tolist() == [[0.0, 0.0]] * 2
    assert answer["x"].mean.gather(1, seen).tolist() == [[0.1, 2.3], [0.7, 1.1]]
    table = answer.frame(steps=True)
    assert table.index.names == ["row", "step"]
    np.testing.assert_array_equal(table["x", "mean"], answer["x"].mean.reshape(-1))
    np.testing.assert_array_equal(table["x", "std"], answer["x"].std.reshape(-1))
    shares = answer["component"].probs[:, 1].repeat_interleave(3)
    np.testing.assert_array_equal(table["component", 1], shares)
    ahead = model.predict(rows, 2)
    both = ahead.frame(steps=True)
    np.testing.assert_array_equal(both["x", "mean"], ahead["x"].mean.reshape(-1))
    np.testing.assert_array_equal(both["state", 1], ahead["state"].probs[..., 1].reshape(-1))
    share = answer["component"].probs[0]
    inner = [c.query(["x"], rows)["x"] for c in model.components]
    mean = sum(float(share[k] * m.mean[0, 1]) for k, m in enumerate(inner))
    square = sum(
        float(share[k] * (m.variance[0, 1] + m.mean[0, 1] ** 2)) for k, m in enumerate(inner)
    )
    assert float(answer["x"].mean[0, 1]) == pytest.approx(mean)
    assert float(answer["x"].variance[0, 1]) == pytest.approx(square - mean**2)


def test_fields_of_attributes_are_sampled() -> None:
    words = [[["w=a", "cap"], ["w=b"]], [["w=b"], ["w=a"]]]
    parts = [
        pgnn.ConditionalRandomField(2).fit(
            {"label": labels}, inputs={"attributes": words}, progress=False,
            learner=pgnn.Gradient(l2=0.1),
        )
        for labels in ([[0, 1], [1, 0]], [[1, 1], [0, 0]])
    ]  # fmt: skip
    model = pgnn.SequenceMixture(parts, [0.4, 0.6])
    drawn = model.sample(2000, {}, inputs={"attributes": words}, seed=0)
    share = drawn["label"].double().mean(dim=0).numpy()
    expected = model.query("label", {}, inputs={"attributes": words})["label"].probs[..., 1]
    np.testing.assert_allclose(share, expected.detach(), atol=0.06)  # five standard errors


def test_mixtures_of_fields_say_what_they_can_answer() -> None:
    fields = [pgnn.MarkovRandomField([("a", "b")], states={"a": 2, "b": 2}) for _ in range(2)]
    model = pgnn.ModelMixture(fields, [0.5, 0.5])
    with pytest.raises(Unsupported, match=r"no factors to compile; use query\(\)"):
        model.compile("component", ["a"])
    assert model.query("component", {"a": 1})["component"].probs.shape == (2,)
    plan = model.explain("component", {"a": 1})
    assert (plan.engine, plan.kind, plan.num_variables) == ("ByComponent", "exact", 3)
    own = fields[0].explain([], {"a": 1})
    assert (plan.num_sliced, plan.num_eliminated) == (own.num_sliced, own.num_eliminated + 1)
    assert plan.memory_bytes == 2 * own.memory_bytes
    assert "each component is queried" in str(plan)


def test_advice_about_impossible_rows_can_be_followed() -> None:
    stuck = pgnn.HiddenMarkovModel(2, {"x": np.eye(2)}, [0.5, 0.5], np.eye(2))
    model = pgnn.SequenceMixture([stuck, mixture().components[0]], [0.5, 0.5])
    rows = {"x": X, "component": [0, 0]}
    with pytest.raises(ImpossibleEvidence, match=r"from step 1 on\); leave these rows out$") as got:
        model.predict(rows, 2)
    assert (got.value.rows, got.value.steps) == ((0, 1), (1, 1))
    with pytest.raises(ImpossibleEvidence, match=r"from step 1 on\); errors='nan' answers the"):
        model.smooth(rows)
