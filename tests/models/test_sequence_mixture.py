"""Mixtures of models over time: against the mixture of unrolled networks, and enumeration."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import ImpossibleEvidence, ModelError, Unsupported

WEIGHTS = [0.4, 0.6]
ROWS = {
    "x": [[0, 1, 1, None], [0, 0, 1, 0], [None] * 4],
    "y": [[0, None, 1, 1], [1, 1, None, 0], [1, 1, 1, 1]],
}
LABELLED = {**ROWS, "component": [None, "wild", "calm"]}


def chain(stay: float) -> pgnn.HiddenMarkovModel:
    emissions = {"x": [[0.9, 0.1], [0.3, 0.7]], "y": [[0.2, 0.8], [1 - stay, stay]]}
    return pgnn.HiddenMarkovModel(2, emissions, [0.3, 0.7], [[stay, 1 - stay], [0.4, 0.6]])


def mixture() -> pgnn.SequenceMixture:
    parts = [chain(0.9), chain(0.2)]
    return pgnn.SequenceMixture(parts, WEIGHTS, labels=["calm", "wild"])


def track(noise: float) -> pgnn.LinearDynamicalSystem:
    return pgnn.LinearDynamicalSystem(
        1, 1, [[0.9]], [[noise]], [[1.0]], observation_covariance=[[0.5]], initial_mean=[noise],
        initial_covariance=[[1.0]], observation_offset=[0.0], transition_offset=[noise],
    )  # fmt: skip


def cells(rows: dict, steps: int) -> dict:
    """The evidence on the unrolled network."""
    unrolled = {(n, t): [row[t] for row in rows[n]] for n in ("x", "y") for t in range(steps)}
    return unrolled | ({"component": rows["component"]} if "component" in rows else {})


@pytest.mark.parametrize("rows", [ROWS, LABELLED], ids=["plain", "labelled"])
def test_answers_equal_those_of_the_unrolled_mixture(rows: dict) -> None:
    model, exact = mixture(), pgnn.JunctionTree()
    twin, known = model.unroll(4), cells(rows, 4)
    own, other = model.query(None, rows), twin.query(None, known, engine=exact)
    assert own.kind == "exact"
    torch.testing.assert_close(own.log_evidence, other.log_evidence)
    torch.testing.assert_close(model.log_prob(rows), other.log_evidence)
    torch.testing.assert_close(own["component"].probs, other["component"].probs)
    best, expected = model.most_probable(rows), twin.most_probable(known, engine=exact)
    torch.testing.assert_close(best.log_prob, expected.log_prob)
    for name, t in itertools.product(("state", "x", "y"), range(4)):
        torch.testing.assert_close(own[name].probs[:, t], other[name, t].probs)
        assert torch.equal(best[name][:, t], expected[name, t])


@pytest.mark.parametrize("rows", [ROWS, LABELLED], ids=["plain", "labelled"])
def test_filtered_answers_are_those_of_the_beginnings(rows: dict) -> None:
    model = mixture()
    answer = model.filter(rows)
    for t in range(4):
        begun = {n: x if n == "component" else [r[: t + 1] for r in x] for n, x in rows.items()}
        so_far = model.query(None, begun)
        torch.testing.assert_close(answer["state"].probs[:, t], so_far["state"].probs[:, t])
        torch.testing.assert_close(answer["component"].probs[:, t], so_far["component"].probs)
    total = answer.diagnostics["log_increments"].sum(dim=1)
    torch.testing.assert_close(total, model.log_prob(rows))
    alone = model.filter({"x": ROWS["x"][1], "y": ROWS["y"][1]}, "component")
    assert alone["component"].probs.shape == (4, 2)
    unrolled = model.filter(rows, engine=pgnn.JunctionTree())  # has no increments
    torch.testing.assert_close(unrolled["component"].probs, answer["component"].probs)


def test_predictions_are_answers_about_more_steps() -> None:
    model = mixture()
    longer = {n: [[*row, None, None] for row in x] for n, x in ROWS.items()}
    ahead, whole = model.predict(ROWS, 2), model.query(["state", "x", "y"], longer)
    for name in ("state", "x", "y"):
        torch.testing.assert_close(ahead[name].probs, whole[name].probs[:, 4:])
    torch.testing.assert_close(ahead.log_evidence, whole.log_evidence)
    with pytest.raises(Unsupported, match=r"same at every step; use query\('component', evid"):
        model.predict(ROWS, 2, "component")


def test_the_best_paths_are_those_of_an_enumeration() -> None:
    model, x = mixture(), [0, 1, 1]
    known = {"x": x, "y": [0, 1, 0]}
    scores = {
        (c, z): float(model.log_prob({**known, "component": c, "state": [*z]}))
        for c in ("calm", "wild")
        for z in itertools.product([0, 1], repeat=3)
    }
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    best = model.decode(known, k=20)
    for found, (_, score) in zip(best, ranked, strict=True):  # some have the same score
        assert float(found.log_prob) == pytest.approx(score, abs=1e-12)
        own = scores[found["component"], tuple(found["state"].tolist())]
        assert own == pytest.approx(score, abs=1e-12)
    assert len({(b["component"], tuple(b["state"].tolist())) for b in best}) == 16
    batch = model.decode({n: [v, v] for n, v in known.items()}, k=3)
    assert batch.codes.shape == (2, 3, 4)
    assert batch[1]["state"].tolist() == [best[1]["state"].tolist()] * 2
    kinds = model.most_probable(known, "component", k=2)
    assert kinds[0].log_prob.logaddexp(kinds[1].log_prob) == pytest.approx(
        float(model.log_prob(known))
    )
    with pytest.raises(Unsupported, match="add 'component' to the targets"):
        model.most_probable(known, "state")


def test_samples_have_the_component() -> None:
    model, n = mixture(), 4000
    drawn = model.sample(n, ROWS, seed=0)
    answer = model.query(["component", "state"], ROWS)
    p = answer["component"].probs[:, 1]
    share = drawn["component"].double().mean(dim=0)
    assert bool(((share - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all())
    p = answer["state"].probs[..., 1]
    share = drawn["state"].double().mean(dim=0)
    assert bool(((share - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all())
    assert drawn["x"][:, 1].unique(dim=0).tolist() == [[0, 0, 1, 0]]
    one = model.sample(5, {"T": 7}, seed=0)
    assert (one["component"].shape, one["x"].shape) == ((5,), (5, 7))
    assert one.frame()["component"].isin(["calm", "wild"]).all()


def test_a_sequence_may_be_impossible_under_some_components() -> None:
    never = pgnn.HiddenMarkovModel(1, {"x": [[1.0, 0.0]]}, [1.0], [[1.0]])
    fair = pgnn.HiddenMarkovModel(1, {"x": [[0.5, 0.5]]}, [1.0], [[1.0]])
    model, rows = pgnn.SequenceMixture([never, fair], [0.5, 0.5]), {"x": [[0, 0, 1], [0, 0, 0]]}
    assert model.sample(20, rows, seed=0)["component"][:, 0].tolist() == [1] * 20
    expected = torch.tensor([[2 / 3, 1 / 3], [4 / 5, 1 / 5], [0, 1]]).double()
    torch.testing.assert_close(model.filter(rows)["component"].probs[0], expected)
    assert model.decode(rows)["component"].tolist() == [1, 0]
    sure = pgnn.SequenceMixture([never], [1.0])
    for verb in (sure.query, lambda _, e: sure.decode(e), lambda _, e: sure.sample(2, e)):
        with pytest.raises(ImpossibleEvidence, match="first: row 0, from step 2 on"):
            verb("component", rows)
    lost = sure.query(["component", "state"], rows, errors="nan")
    assert lost["component"].probs.isnan().tolist() == [[True], [False]]
    assert sure.decode(rows, errors="nan")["component"].tolist() == [-1, 0]


def test_unobserved_reals_have_the_moments_of_the_mixture() -> None:
    def one(mean: float, variance: float) -> pgnn.HiddenMarkovModel:
        emission = pgnn.Gaussian(
            pgnn.Variable("x"), [pgnn.Variable("state", 1)], mean=[mean], covariance=[variance]
        )
        return pgnn.HiddenMarkovModel(1, {"x": emission}, [1.0], [[1.0]])

    model = pgnn.SequenceMixture([one(0.0, 1.0), one(3.0, 4.0)], WEIGHTS)
    rows = {"x": [[0.1, None, 1.0], [2.0, 5.0, None]]}
    w = model.query("component", rows)["component"].probs
    mean = 3.0 * w[:, 1]
    std = (w[:, 0] * mean**2 + w[:, 1] * (4.0 + (3.0 - mean) ** 2) + w[:, 0]).sqrt()
    ahead = model.predict(rows, 2)
    torch.testing.assert_close(ahead["x"].mean, mean[:, None].expand(2, 2))
    torch.testing.assert_close(ahead["x"].std, std[:, None].expand(2, 2))
    whole = model.query(["component", "x"], rows)
    torch.testing.assert_close(whole["x"].mean[0, 1], mean[0])
    torch.testing.assert_close(whole["x"].std[1], torch.tensor([0.0, 0.0, float(std[1])]).double())
    torch.testing.assert_close(whole["component"].probs, w)
    assert "std" in str(whole)


def test_components_with_real_states() -> None:
    model = pgnn.SequenceMixture([track(0.1), track(2.0)], WEIGHTS)
    rows = {"observation": torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(0))}
    w = model.query("component", rows)["component"].probs
    parts = [c.smooth(rows)["state"] for c in model.components]
    mean = sum(w[:, k, None, None] * p.mean for k, p in enumerate(parts))
    torch.testing.assert_close(model.smooth(rows)["state"].mean, mean)
    torch.testing.assert_close(model.filter(rows)["component"].probs[:, -1], w)
    assert model.predict(rows, 3)["observation"].mean.shape == (2, 3, 1)


def test_lengths_and_batches() -> None:
    model, flat = mixture(), {n: [v for row in x for v in row[:3]] for n, x in ROWS.items()}
    rows, lengths = {n: [row[:3] for row in x] for n, x in ROWS.items()}, [3, 3, 3]
    for ask in (model.smooth, model.filter, model.predict):
        found, expected = ask(flat, lengths=lengths), ask(rows)
        assert found["state"].probs.equal(expected["state"].probs)
    learnt = pgnn.SequenceMixture([pgnn.HiddenMarkovModel(2, {"x": 2, "y": 2}) for _ in range(2)])
    data = model.sample(1, {"T": [12] * 30}, seed=0)
    data = {n: data[n][0] for n in ("x", "y")}
    for part in (slice(0, 15), slice(15, 30)):
        learnt.partial_fit({n: x[part] for n, x in data.items()}, seed=0)
    assert learnt.history["rows"] == 30


def test_is_kept(tmp_path: Path) -> None:
    model = mixture()
    model.save(tmp_path / "m")
    again = pgnn.load(tmp_path / "m")
    assert type(again) is pgnn.SequenceMixture
    assert again.log_prob(ROWS).equal(model.log_prob(ROWS))
    assert "SequencesByComponent (exact)" in str(model.explain("state", ROWS))


def test_wrong_declarations() -> None:
    rows = pgnn.BayesianNetwork([], states={"a": 2})
    with pytest.raises(ModelError, match="is one over time; use SequenceMixture"):
        pgnn.ModelMixture([chain(0.5)])
    with pytest.raises(ModelError, match="is one of rows; use ModelMixture"):
        pgnn.SequenceMixture([rows])
    with pytest.raises(Unsupported, match="mixtures of models over time, which a HiddenMarkov"):
        pgnn.SequencesByComponent().query(chain(0.5), None, {"x": [0]})
    with pytest.raises(Unsupported, match="gaps of rows, not of sequences; use smooth"):
        mixture().impute(ROWS)


def test_learning_by_gradients_leaves_a_symmetric_start() -> None:
    rng = np.random.default_rng(0)
    x = [*(rng.normal(size=(20, 6)) + 6.0 * np.repeat([0, 1], 10)[:, None])]
    model = pgnn.SequenceMixture([pgnn.HiddenMarkovModel(1, {"x": pgnn.Gaussian}) for _ in "ab"])
    model.fit({"x": x}, learner=pgnn.Gradient(), seed=0, progress=False)
    best = pgnn.SequenceMixture([pgnn.HiddenMarkovModel(1, {"x": pgnn.Gaussian}) for _ in "ab"])
    best.fit({"x": x}, learner=pgnn.EM(restarts=3), seed=0, progress=False)
    assert float(model.log_prob({"x": x}).sum()) == pytest.approx(
        float(best.log_prob({"x": x}).sum()), abs=1e-2
    )


def test_frames_by_steps_repeat_the_component() -> None:
    model, n = mixture(), 3
    best = model.decode(ROWS)
    frame = best.frame(steps=True)
    assert frame.shape == (3 * 4, 2)
    assert frame.loc[1, "component"].tolist() == [["calm", "wild"][best["component"][1]]] * 4
    assert frame.loc[1, "state"].tolist() == best["state"][1].tolist()
    drawn = model.sample(n, ROWS, seed=0)
    table = drawn.frame(steps=True)
    label = ["calm", "wild"][drawn["component"][2, 1]]
    assert table.loc[(2, 1), "component"].tolist() == [label] * 4
    assert table.loc[(2, 1), "x"].tolist() == drawn["x"][2, 1].tolist()
    answer = model.smooth(ROWS)
    share = answer.frame(steps=True).loc[0, ("component", "wild")]
    np.testing.assert_allclose(share, answer["component"].probs[0, 1].expand(4))
    alone = model.smooth({"x": [0, 1]}).frame(steps=True)
    assert alone[("component", "calm")].nunique() == 1


def test_answers_by_an_engine_of_bounds_say_so() -> None:
    found = mixture().query("component", ROWS, engine=pgnn.MeanField(seed=0))
    assert found.kind == "lower bound"
    exact = mixture().log_prob(ROWS)
    assert bool((found.log_evidence <= exact + 1e-9).all())


@pytest.mark.filterwarnings("ignore::pgnn.errors.NotConverged")
def test_hard_learning_chooses_the_component() -> None:
    rng = np.random.default_rng(0)
    x = [*(rng.normal(size=(20, 6)) + 6.0 * np.repeat([0, 1], 10)[:, None])]
    model = pgnn.SequenceMixture([pgnn.HiddenMarkovModel(1, {"x": pgnn.Gaussian}) for _ in "ab"])
    model.fit({"x": x}, learner=pgnn.EM(hard=True, restarts=3), seed=0, progress=False)
    means = sorted(c.emissions["x"].mean.item() for c in model.components)
    assert means == pytest.approx([np.mean(x[:10]), np.mean(x[10:])])
    assert model.weights.probs.tolist() == [0.5, 0.5]
