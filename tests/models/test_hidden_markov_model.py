"""Hidden Markov models as declared: what is read, refused, learnable, saved; beside hmmlearn."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError
from tests.inference.time.sequence_cases import enumerate_row, model_of, tables
from tests.inference.time.test_forward_backward import Driven


def casino(**more) -> pgnn.HiddenMarkovModel:
    return pgnn.HiddenMarkovModel(
        ["fair", "loaded"],
        {"roll": [[1 / 6] * 6, [0.1] * 5 + [0.5]]},
        [0.5, 0.5],
        [[0.95, 0.05], [0.1, 0.9]],
        **more,
    )


def test_what_is_not_given_is_learnable():
    model = pgnn.HiddenMarkovModel(3, {"x": 4, "y": ["low", "high"]})
    assert all(p.requires_grad for p in model.parameters())
    assert model.num_free_parameters == 2 + 3 * 2 + 3 * 3 + 3 * 1
    assert model.variables["y"].states == ("low", "high")
    assert model.variables["x"].shape == ("T",)
    assert not any(p.requires_grad for p in casino().parameters())
    assert model.hidden == ["state"]
    assert repr(model) == "HiddenMarkovModel(3 states, emits 'x', 'y')"


def test_a_state_of_another_name_and_callables():
    rng = np.random.default_rng(0)
    given = tables(rng, 2, {"x": 3})

    def emission(child, parents):
        assert child.shape == (2,)
        head = pgnn.NormalHead((2,), scale=1.0)
        return pgnn.Neural(child, parents, nn.Linear(2, 2).double(), head=head)

    model = pgnn.HiddenMarkovModel(
        ["a", "b"],
        {"x": given["emissions"]["x"], "v": emission},
        lambda child, parents: pgnn.Tabular(child, parents, given["initial"]),
        lambda child, parents: pgnn.Tabular(child, parents, given["transitions"]),
        shapes={"v": (2,)},
        name="weather",
    )
    found = model.smooth({"x": [0, 1]})
    np.testing.assert_allclose(
        found["weather"].probs, enumerate_row(given, {"x": [0, 1]}, 2).marginals(2)
    )
    assert model.decode({"x": [0, 1]})["weather"].shape == (2,)
    assert model.transitions.parents[0].name == ("weather", -1)


def test_labels_frames_and_codes_are_the_same():
    model = casino()
    rolls = [0, 2, 5, 5, 5, 5]
    want = model.smooth({"roll": rolls}).probs("state")
    frame = pd.DataFrame({"roll": rolls})
    torch.testing.assert_close(model.smooth(frame).probs("state"), want)
    torch.testing.assert_close(model.smooth([frame, frame]).probs("state")[1], want)
    torch.testing.assert_close(model.smooth({"roll": torch.tensor(rolls)}).probs("state"), want)
    known = model.smooth({"roll": rolls, ("state", 1): "loaded"})
    assert known["state"].probs[1].tolist() == [0, 1]
    assert model.decode(frame)["state"].tolist() == ["loaded"] * 6
    assert "fair" in str(known)
    assert len(known.frame()) == 12


def test_all_missing_is_the_chain_alone():
    model = casino()
    found = model.query(evidence={"roll": [[None] * 4, [None] * 2]})
    torch.testing.assert_close(found.log_evidence, torch.zeros(2, dtype=torch.float64))
    chance = np.array([0.5, 0.5])
    for t in range(4):
        np.testing.assert_allclose(found["state"].probs[0, t], chance)
        chance = chance @ np.array([[0.95, 0.05], [0.1, 0.9]])
    masked = model.query(evidence={"roll": np.zeros((2, 4), int), "T": np.zeros((2, 4), bool)})
    assert masked.log_evidence.tolist() == [0, 0]


def test_one_batch_equals_single_rows():
    rng = np.random.default_rng(3)
    model = model_of(tables(rng, 3, {"x": 4}))
    rows = [rng.integers(0, 4, t) for t in (5, 3, 1, 7)]
    smooth, best = model.smooth({"x": rows}), model.decode({"x": rows})
    for r, row in enumerate(rows):
        alone = model.smooth({"x": row})
        torch.testing.assert_close(alone.probs("state"), smooth.probs("state")[r, : len(row)])
        assert list(model.decode({"x": row})["state"]) == best["state"][r, : len(row)].tolist()


WRONG = [
    ({"transitions": [[0.5, 0.6], [0.5, 0.5]]}, "sum to"),
    ({"transitions": [[1.0, 0.0]]}, "shape"),
    ({"transitions": [[0.0, 0.0], [0.5, 0.5]]}, "sum to"),
    ({"initial": [0.5, 0.4]}, "sum to"),
    ({"emissions": {"state": 3}}, "'state' is the state"),
    ({"emissions": {"x": [0.5, 0.5]}}, r"emission of 'x' must be .* \(2, S\)"),
    ({"emissions": {"x": [[0.5, 0.5]] * 3}}, "shape"),
    ({"emissions": {"x": pgnn.Tabular(pgnn.Variable("y", 2))}}, "is one for 'y'"),
    (
        {"emissions": {"x": pgnn.Tabular(pgnn.Variable("x", 2), [pgnn.Variable("state", 3)])}},
        "disagree about",
    ),
    (
        {"emissions": {"x": pgnn.Tabular(pgnn.Variable("x", 2), [pgnn.Variable("z", 2)])}},
        "'z', which is not a variable",
    ),
    (
        {
            "emissions": {
                "y": 2,
                "x": pgnn.Tabular(pgnn.Variable("x", 2), [pgnn.Variable("y", 2)]),
            }
        },
        "use DynamicBayesianNetwork",
    ),
    ({"emissions": {"x": lambda child, parents: None}}, "must return a Conditional"),
    ({"mask": [[0, 0], [1, 1]]}, "out of every state"),
    ({"mask": np.eye(2), "transitions": np.eye(2)}, "mask= is for a learnable table"),
    (
        {
            "initial": pgnn.Tabular(
                pgnn.Variable("state", 2), [pgnn.Variable(("state", -1), 2)], np.eye(2)
            )
        },
        "cannot depend on",
    ),
    ({"states": 0}, "no states"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_declarations(given, message):
    with pytest.raises(ModelError, match=message):
        pgnn.HiddenMarkovModel(**{"states": 2, "emissions": {"x": 3}, **given})


def test_missing_inputs():
    driven = Driven()
    with pytest.raises(EvidenceError, match="needs a value of its input"):
        driven.model.query(evidence=driven.observed)


def test_a_posterior_that_stands_in_for_a_likelihood():
    """A network that tells states from what is observed, its posterior divided by the prior."""
    rng = np.random.default_rng(0)
    prior, posterior = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), size=4)
    moves = rng.dirichlet(np.ones(3), size=3)
    model = pgnn.HiddenMarkovModel(3, {"x": 2}, prior, moves)
    scaled = posterior / prior
    found = model.smooth({"state": scaled})
    from tests.inference.time.sequence_cases import Paths

    want = Paths.of(prior, moves, scaled)
    np.testing.assert_allclose(found["state"].probs, want.marginals(3), atol=1e-12)
    assert found.log_evidence.item() == pytest.approx(want.log_z, abs=1e-12)


@pytest.mark.parametrize("k", [2, 5])
def test_hmmlearn_agrees(k):
    hmm = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(k)
    given = tables(rng, k, {"x": 6})
    theirs = hmm.CategoricalHMM(k)
    theirs.startprob_, theirs.transmat_ = given["initial"], given["transitions"]
    theirs.emissionprob_ = given["emissions"]["x"]
    model, lengths = model_of(given), [50, 1, 200]
    rows = [rng.integers(0, 6, t) for t in lengths]
    flat = np.concatenate(rows)[:, None]
    for r, row in enumerate(rows):
        score, posteriors = theirs.score_samples(row[:, None])
        assert model.log_prob({"x": rows})[r].item() == pytest.approx(score, abs=1e-9)
        ours = model.smooth({"x": rows})["state"].probs[r, : len(row)]
        np.testing.assert_allclose(ours, posteriors, atol=1e-9)
    score, path = theirs.decode(flat, lengths)
    best = model.decode({"x": rows})
    assert best.log_prob.sum().item() == pytest.approx(score, abs=1e-9)
    found = [best["state"][r, :t] for r, t in enumerate(lengths)]
    np.testing.assert_array_equal(np.concatenate(found), path)


def test_hmmlearn_agrees_about_gaussians():
    hmm = pytest.importorskip("hmmlearn.hmm")
    rng = np.random.default_rng(0)
    given = tables(rng, 3, {"x": 6})
    means = rng.normal(size=(3, 2))
    roots = rng.normal(size=(3, 2, 2))
    covariances = roots @ roots.transpose(0, 2, 1) + np.eye(2)
    theirs = hmm.GaussianHMM(3, "full")
    theirs.startprob_, theirs.transmat_ = given["initial"], given["transitions"]
    theirs.means_, theirs.covars_ = means, covariances
    state, v = pgnn.Variable("state", 3), pgnn.Variable("v", shape=(2,))
    emission = pgnn.Gaussian(v, [state], means, covariances)
    model = pgnn.HiddenMarkovModel(3, {"v": emission}, given["initial"], given["transitions"])
    x = rng.normal(size=(100, 2))
    score, posteriors = theirs.score_samples(x)
    found = model.smooth({"v": x})
    assert found.log_evidence.item() == pytest.approx(score, abs=1e-9)
    np.testing.assert_allclose(found["state"].probs, posteriors, atol=1e-9)
    np.testing.assert_array_equal(model.decode({"v": x})["state"], theirs.decode(x)[1])


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "casino.safetensors"
    learnable = pgnn.HiddenMarkovModel(3, {"roll": 6, "y": ["a", "b"]})
    for model in (casino(), casino(name="die"), learnable):
        model.save(path)
        again = pgnn.load(path)
        assert repr(again) == repr(model)
        assert [p.requires_grad for p in again.parameters()] == [
            p.requires_grad for p in model.parameters()
        ]
        observed = {"roll": [[0, 5, 5], [1]]}
        assert torch.equal(again.log_prob(observed), model.log_prob(observed))
        assert again.hidden == model.hidden


@torch.no_grad()
def test_saved_and_loaded_with_networks(tmp_path):
    driven, other = Driven(0), Driven(1)
    path = tmp_path / "driven.safetensors"
    driven.model.save(path)
    modules = {"state": other.move, "v": other.mean, "x": other.emit}
    with pytest.raises(pgnn.DataError, match="'state'"):
        pgnn.load(path, modules)
    again = pgnn.load(path, {**modules, ("state", "initial"): other.start})
    torch.testing.assert_close(
        again.log_prob(driven.observed, inputs=driven.inputs),
        driven.model.log_prob(driven.observed, inputs=driven.inputs),
    )
    with pytest.raises(pgnn.DataError, match="no conditional that needs one"):
        pgnn.load(path, {**modules, ("state", "initial"): other.start, "z": other.start})


def test_answers_carry_gradients():
    model = model_of(tables(np.random.default_rng(0), 2, {"x": 3})).requires_grad_()
    found = model.smooth({"x": [0, 1, 2]}).probs("state")
    (slope,) = torch.autograd.grad(found[1, 0], model.transitions.logits)
    eps = 1e-6
    with torch.no_grad():
        model.transitions.logits[0, 1] += eps
    up = model.smooth({"x": [0, 1, 2]}).probs("state")[1, 0].item()
    assert slope[0, 1].item() == pytest.approx((up - found[1, 0].item()) / eps, abs=1e-5)


def test_a_long_row_does_not_underflow():
    model = casino()
    rolls = np.random.default_rng(0).integers(0, 6, 20_000)
    assert torch.isfinite(model.log_prob({"roll": rolls}))
    assert not model.smooth({"roll": rolls}).probs("state").isnan().any()


def test_shared_numbers_count_once():
    from pgnn.factors.conditionals.renamed import Renamed

    state, x = pgnn.Variable("state", 3), pgnn.Variable("x", 4)
    observed = pgnn.Tabular(x, [state], np.full((3, 4), 0.25)).requires_grad_()
    alone = pgnn.HiddenMarkovModel(3, {"x": observed})
    twice = pgnn.HiddenMarkovModel(3, {"x": observed, "y": Renamed(observed, {"x": "y"})})
    assert twice.num_free_parameters == alone.num_free_parameters
    own = pgnn.Tabular(pgnn.Variable("y", 4), [state], np.full((3, 4), 0.25)).requires_grad_()
    both = pgnn.HiddenMarkovModel(3, {"x": observed, "y": own})
    assert both.num_free_parameters == alone.num_free_parameters + 9


# --- shapes that data tells ---------------------------------------------------------------------


def _steps(shape: tuple[int, int]) -> np.ndarray:
    """Ten steps about five, ten about zero, and so on."""
    high = np.arange(shape[0]) % 20 < 10
    return np.random.default_rng(0).normal(size=shape) + 5.0 * high[:, None]


def _fitted(x: object, **lengths: object) -> pgnn.HiddenMarkovModel:
    model = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian})
    return model.fit({"x": x, **lengths}, seed=0, progress=False)


def test_data_tells_the_shape_of_an_emission_that_was_not_declared() -> None:
    flat = _steps((60, 2))
    declared = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}, shapes={"x": (2,)})
    parts = [flat[:40], flat[40:]]
    want = declared.fit({"x": parts}, seed=0, progress=False).emissions["x"].mean
    for found in (
        _fitted(parts),
        _fitted(flat, T=[40, 20]),
        _fitted(np.stack([flat[:20], flat[20:40], flat[40:]])),
    ):
        assert found.variables["x"].shape == ("T", 2)
    torch.testing.assert_close(_fitted(parts).emissions["x"].mean, want)
    torch.testing.assert_close(_fitted(flat, T=[40, 20]).emissions["x"].mean, want)
    again = _fitted(parts)
    again.fit({"x": flat}, seed=0, progress=False)  # it is declared now: one sequence of vectors
    assert again.filter({"x": flat})["state"].probs.shape == (60, 2)


def test_two_readings_of_an_array_are_an_error() -> None:
    for x in (_steps((299, 2)), _steps((100, 2))):
        model = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian})
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(EvidenceError, match=r"shapes=\{'x': \(2,\)\}.*\{'x': \(\)\}"):
            model.fit({"x": x}, progress=False)
        assert all(torch.equal(before[n], x) for n, x in model.state_dict().items())


def test_a_column_of_numbers_is_one_sequence() -> None:
    x = _steps((60, 1))
    column, row = _fitted(x), _fitted(x[:, 0])
    assert column.variables["x"].shape == ("T",)
    torch.testing.assert_close(column.emissions["x"].mean, row.emissions["x"].mean)
    assert column.smooth({"x": x})["state"].probs.shape == (60, 2)


def test_a_failed_fit_leaves_the_shape_undeclared() -> None:
    model = pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian})
    bad = [np.full((5, 3), np.inf)]
    with pytest.raises(DataError):
        model.fit({"x": bad}, progress=False)
    assert model.variables["x"].shape == ("T",)
    model.fit({"x": [_steps((40, 2))]}, seed=0, progress=False)
    assert model.variables["x"].shape == ("T", 2)


def test_declarations_that_disagree_are_both_shown() -> None:
    act = pgnn.Variable("act", ["walk", "shop"])
    table = pgnn.Tabular(act, [pgnn.Variable("state", 2)], [[0.5, 0.5], [0.1, 0.9]])
    with pytest.raises(pgnn.ModelError) as error:
        pgnn.HiddenMarkovModel(["rain", "sun"], {"act": table})
    assert "Variable('state', [0, 1])" in str(error.value)
    assert "Variable('state', ['rain', 'sun'])" in str(error.value)
