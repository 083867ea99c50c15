"""Means and spreads of real emissions where nothing was observed of them."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EvidenceError, Unsupported

NAN = float("nan")
MEAN, SD = np.array([0.0, 10.0]), np.array([1.0, 2.0])
MOVES = np.array([[0.9, 0.1], [0.3, 0.7]])


def model(shape: tuple[int, ...] = ()) -> pgnn.HiddenMarkovModel:
    def emission(child, parents):
        mean = MEAN if not shape else np.stack([MEAN, MEAN + 1], axis=1)
        cov = SD**2 if not shape else np.stack([SD**2, SD**2 + 1], axis=1)
        form = pgnn.Full() if not shape else pgnn.Diagonal()
        return pgnn.Gaussian(child, parents, mean=mean, covariance=cov, form=form)

    return pgnn.HiddenMarkovModel(
        2, {"x": emission, "y": [[0.9, 0.1], [0.2, 0.8]]}, [0.5, 0.5], MOVES, shapes={"x": shape}
    )


def mixed(weights: np.ndarray, mean=MEAN, sd=SD) -> tuple[np.ndarray, np.ndarray]:
    first = weights @ mean
    return first, weights @ (sd**2 + mean**2) - first**2


def test_gaps_are_mixed_by_the_states():
    observed = {"x": [0.1, NAN, 9.0, NAN], "y": [0, 1, None, 1]}
    answer = model().query(["x", "y"], observed)
    weights = model().smooth(observed)["state"].probs.numpy()
    mean, variance = mixed(weights)
    np.testing.assert_allclose(answer["x"].mean[[1, 3]], mean[[1, 3]])
    np.testing.assert_allclose(answer["x"].variance[[1, 3]], variance[[1, 3]])
    np.testing.assert_allclose(answer["x"].mean[[0, 2]], [0.1, 9.0])
    assert answer["x"].std[0] == 0
    assert list(answer) == ["y", "x"]
    assert "x" in answer
    assert len(answer) == 2
    torch.testing.assert_close(answer["y"].probs, model().query("y", observed)["y"].probs)
    assert answer.log_evidence == model().query("y", observed).log_evidence


@pytest.mark.parametrize("shape", [(), (2,)])
def test_frames_and_texts_have_real_variables(shape: tuple[int, ...]):
    observed = {"x": [[0.5, 0.5], [NAN, NAN]] if shape else [0.5, NAN]}
    answer = model(shape).query(["x", "y"], observed)
    frame = answer.frame()
    means = frame.loc[[n for n in frame.index if "'x'" in n[0]], "mean"]
    np.testing.assert_allclose(means, answer["x"].mean.reshape(-1))
    assert "('x', 1" in str(answer)
    batch = model(shape).query(["x"], {"x": [observed["x"], observed["x"]]}).frame()
    assert batch.shape == (2, 2 * answer["x"].mean.numel())


def test_forecasts_follow_the_transitions():
    observed = {"x": [0.1, 0.3]}
    now = model().smooth(observed)["state"].probs[-1].numpy()
    ahead = np.stack([now @ np.linalg.matrix_power(MOVES, h) for h in (1, 2, 3)])
    mean, variance = mixed(ahead)
    answer = model().predict(observed, 3, "x")
    np.testing.assert_allclose(answer["x"].mean, mean)
    np.testing.assert_allclose(answer["x"].variance, variance)
    drawn = model().sample(20_000, {"x": [0.1, 0.3, NAN, NAN, NAN]}, seed=0)["x"][:, 2:]
    assert bool(((drawn.mean(0) - answer["x"].mean).abs() < 5 * answer["x"].std / 141).all())


def test_rows_of_different_lengths_and_vectors():
    rows = {"x": [[[0.0, 1.0], [NAN, NAN], [9.0, 9.0]], [[NAN, NAN]]]}
    own = model((2,))
    answer = own.query("x", rows)["x"]
    weights = own.smooth(rows)["state"].probs.numpy()
    np.testing.assert_allclose(
        answer.mean[0, 1], [weights[0, 1] @ MEAN, weights[0, 1] @ (MEAN + 1)]
    )
    assert answer.mean.shape == (2, 3, 2)
    assert bool(answer.mean[1, 1:].isnan().all())
    ahead = own.predict(rows, 2, "x")["x"]
    assert ahead.mean.shape == (2, 2, 2)
    assert not bool(ahead.mean.isnan().any())


def test_inputs_drive_the_means():
    child, state, net = pgnn.Variable("x"), pgnn.Variable("state", 2), torch.nn.Linear(3, 2)
    emission = pgnn.Neural(child, [state], net, inputs=["u"], head=pgnn.NormalHead())
    own = pgnn.HiddenMarkovModel(2, {"x": emission}, [0.5, 0.5], MOVES)
    u = torch.randn(4, 1, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([0.0, NAN, 1.0])
    answer = own.predict({"x": x}, 1, "x", inputs={"u": u})
    after = own.query("x", {"x": torch.tensor([0.0, NAN, 1.0, NAN])}, inputs={"u": u})
    torch.testing.assert_close(answer["x"].mean, after["x"].mean[3:])
    assert float(after["x"].std[1].detach()) > 0


def test_what_depends_on_its_own_past_is_refused():
    x, state = pgnn.Variable("x"), pgnn.Variable("state", 2)
    own = pgnn.HiddenMarkovModel(
        2, {"x": pgnn.LinearGaussian(x, [state, pgnn.Variable(("x", -1))])}, [0.5, 0.5], MOVES
    )
    with pytest.raises(Unsupported, match="depends on its own past"):
        own.predict({"x": [0.0, 1.0]}, 1, "x")
    with pytest.raises(EvidenceError, match="unknown variable"):
        own.query("z", {"x": [0.0, 1.0]})


def test_reals_are_printed():
    answer = model().query("x", {"x": [0.1, NAN, 9.0]})
    lines = str(answer).splitlines()
    assert lines[0].split() == ["mean", "std"]
    mean, std = answer["x"].mean[1], answer["x"].std[1]
    printed = [float(word) for word in lines[3].split()[-2:]]
    np.testing.assert_allclose(printed, [mean, std], atol=5e-5)
    assert "posterior probability" not in str(answer)  # nothing discrete was asked for
    both = str(model().query(["x", "state"], {"x": [0.1, NAN, 9.0]}))
    assert "posterior probability" in both
    assert f"{std:.4f}" in both
    rows = model((2,)).query("x", {"x": [[[0.1, 1.0], [NAN, NAN]], [[0.1, 1.0]]]})
    assert len(rows.summary()) == 4


def test_means_are_differentiable_with_respect_to_parameters():
    chain, observed = model().requires_grad_(), {"x": [0.1, NAN, 9.0], "y": [0, 1, None]}
    for answer in (chain.query("x", observed)["x"], chain.predict(observed, 2, "x")["x"]):
        figure = answer.mean.sum() + answer.variance.sum()
        parameters = [*chain.parameters()]
        gradients = torch.autograd.grad(figure, parameters)
        for p, gradient in zip(parameters, gradients, strict=True):
            direction = torch.linspace(-1.0, 1.0, p.numel(), dtype=p.dtype).reshape(p.shape)
            change = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    p.add_(step * direction)
                    again = chain.query("x", observed)["x"]
                    if answer.mean.shape != again.mean.shape:
                        again = chain.predict(observed, 2, "x")["x"]
                    change.append(float(again.mean.sum() + again.variance.sum()))
                    p.sub_(step * direction)
            expected = (change[0] - change[1]) / 2e-6
            assert float((gradient * direction).sum()) == pytest.approx(
                expected, rel=1e-5, abs=1e-6
            )
