"""Kalman filters that discrete states switch: against the unrolled network, and particles."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn import DynamicBayesianNetwork, Gaussian, JunctionTree, LinearGaussian, Variable
from pgnn.errors import ImpossibleEvidence, NotConverged, Unsupported
from pgnn.inference.time.switching_kalman_filter import SwitchingKalmanFilter

NAMES = ["kind", "x"]


def walk(
    jumps: float = 4.0, stay: float = 0.9, dtype: torch.dtype = torch.float64
) -> DynamicBayesianNetwork:
    """A number that creeps or jumps, measured with noise; a word tells of the kind."""
    kind, x, y = Variable("kind", ["creep", "jump"]), Variable("x", shape=(2,)), Variable("y")
    before = Variable(("x", -1), shape=(2,))
    weight = [[[1.0, 0.5], [0.0, 0.9]], [[0.5, 0.0], [0.1, 0.7]]]
    noise = [0.1 * np.eye(2), jumps * np.array([[1.0, 0.3], [0.3, 1.0]])]
    own = DynamicBayesianNetwork(
        [(("kind", -1), "kind"), (("x", -1), "x"), ("kind", "x"), ("x", "y"), ("kind", "word")],
        {
            "kind": [[stay, 1.0 - stay], [0.2, 0.8]],
            "x": LinearGaussian(x, [before, kind], weight, [[0.0, 0.0], [2.0, -1.0]], noise),
            "y": LinearGaussian(y, [x], [1.0, 0.3], 0.0, 0.5),
            "word": [[0.7, 0.3], [0.4, 0.6]],
        },
        initial={
            "kind": [0.5, 0.5],
            "x": Gaussian(x, [kind], np.zeros((2, 2)), np.stack([np.eye(2), 2 * np.eye(2)])),
        },
        states={"kind": ["creep", "jump"], "word": 2},
    )
    return own.to(dtype)


def observed(steps: int = 4) -> dict[str, list]:
    """Two rows, with gaps; the second is shorter by one step."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(2, steps)) * 3
    y[0, 1] = np.nan
    word = rng.integers(0, 2, (2, steps))
    word[:, 0] = -1
    return {"y": [y[0], y[1, :-1]], "word": [word[0], word[1, :-1]]}


def cells(data: dict, row: int, upto: int) -> dict:
    return {
        (n, t): x[row][t]
        for n, x in data.items()
        for t in range(min(upto, len(x[row])))
        if not (np.isnan(x[row][t]) if n == "y" else x[row][t] < 0)
    }


def expected(own: DynamicBayesianNetwork, data: dict, row: int, upto: int):
    steps = len(data["y"][row])
    asked = [(n, t) for n in NAMES for t in range(steps)]
    return own.unroll(steps).query(asked, cells(data, row, upto))


def check(found, right, row: int, t: int, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(found["kind"].probs[row, t], right["kind", t].probs, atol=tolerance)
    np.testing.assert_allclose(found["x"].mean[row, t], right["x", t].mean, atol=tolerance)
    np.testing.assert_allclose(found["x"].std[row, t], right["x", t].std, atol=tolerance)


def test_few_histories_are_summed_exactly() -> None:
    own, data = walk(), observed()
    smoothed, filtered, logs = own.smooth(data, NAMES), own.filter(data, NAMES), own.log_prob(data)
    assert (smoothed.kind, smoothed.engine) == ("exact", "JunctionTree")
    for row, steps in enumerate((4, 3)):
        right = expected(own, data, row, steps)
        assert float(logs[row]) == pytest.approx(float(right.log_evidence), abs=1e-10)
        assert float(smoothed.log_evidence[row]) == pytest.approx(
            float(right.log_evidence), abs=1e-10
        )
        for t in range(steps):
            check(smoothed, right, row, t)
            check(filtered, expected(own, data, row, t + 1), row, t)
    assert bool(smoothed["x"].mean[1, 3].isnan().all())
    lone = own.smooth({n: x[0] for n, x in data.items()}, NAMES)
    torch.testing.assert_close(lone["x"].mean, smoothed["x"].mean[0])
    levels = lone["x"].quantile([0.1, 0.9])
    assert levels.shape == (2, 4, 2)
    assert bool((levels[0] < levels[1]).all())


def test_best_paths_and_draws_of_few_histories() -> None:
    own, data = walk(), observed()
    best, ranked = own.decode(data), own.decode(data, k=3)
    assert best.engine == "JunctionTree"
    for row, steps in enumerate((4, 3)):
        asked = [(n, t) for n in NAMES for t in range(steps)]
        right = own.unroll(steps).most_probable(cells(data, row, steps), asked, k=3)
        for rank in range(3):
            assert float(ranked.log_prob[row, rank]) == pytest.approx(float(right[rank].log_prob))
            for t in range(steps):
                torch.testing.assert_close(ranked[rank]["x"][row, t], right[rank]["x", t])
                code = ["creep", "jump"].index(right[rank]["kind", t])
                assert int(ranked[rank]["kind"][row, t]) == code
        torch.testing.assert_close(best["x"][row, :steps], ranked[0]["x"][row, :steps])
    drawn, exact = own.sample(4000, data, seed=0), own.smooth(data, NAMES)
    error = (drawn["x"][:, 0].mean(0) - exact["x"].mean[0]) / exact["x"].std[0]
    assert float(error.abs().max()) < 5.0 / 4000**0.5


def test_what_is_exact_of_projected_answers() -> None:
    """One projection loses neither moments nor the evidence so far; nor do known states."""
    own, data, engine = walk(), observed(), SwitchingKalmanFilter()
    filtered = own.filter(data, NAMES, engine=engine)
    assert (filtered.kind, filtered.engine) == ("estimate", "SwitchingKalmanFilter")
    for row in range(2):
        for t in range(2):
            right = expected(own, data, row, t + 1)
            check(filtered, right, row, t)
            increments = filtered.diagnostics["log_increments"][row, : t + 1]
            assert float(increments.sum()) == pytest.approx(float(right.log_evidence), abs=1e-10)
    known = data | {"kind": [[0, 1, 1, 0], [1, 0, 1]]}
    smoothed = own.query(["x"], known, engine=engine)
    for row, steps in enumerate((4, 3)):
        told = cells(data, row, 9) | {("kind", t): known["kind"][row][t] for t in range(steps)}
        right = own.unroll(steps).query([("x", t) for t in range(steps)], told)
        assert float(smoothed.log_evidence[row]) == pytest.approx(
            float(right.log_evidence), abs=1e-10
        )
        for t in range(steps):
            np.testing.assert_allclose(smoothed["x"].mean[row, t], right["x", t].mean, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_projected_answers_are_the_nearer_the_more_they_remember(seed: int) -> None:
    own, steps = walk(jumps=3.0), 6
    y = own.sample(1, {"T": steps}, seed=seed)["y"][0].numpy().copy()
    y[3] = np.nan
    data = {"y": [y], "word": [np.array([-1, 0, 1, 1, 0, 0])]}
    right = expected(own, data, 0, steps)
    errors = []
    for memory in (1, 3, steps):
        found = own.smooth(data, NAMES, engine=SwitchingKalmanFilter(memory))
        error = [abs(float(found.log_evidence[0] - right.log_evidence))]
        for t in range(steps):
            error.append(float((found["kind"].probs[0, t] - right["kind", t].probs).abs().max()))
            error.append(float((found["x"].mean[0, t] - right["x", t].mean).abs().max()))
        errors.append(max(error))
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.1
    assert errors[2] < 1e-9


def test_long_sequences_are_projected_and_agree_with_particles() -> None:
    own = walk(jumps=1.0)
    y = own.sample(1, {"T": 40}, seed=2)["y"][0]
    found = own.filter({"y": y}, NAMES)
    assert (found.kind, found.engine) == ("estimate", "SwitchingKalmanFilter")
    particles = own.filter({"y": y}, NAMES, engine=pgnn.SequentialMonteCarlo(20_000, seed=0))
    error = (found["x"].mean - particles["x"].mean).abs() / particles["x"].std
    assert float(error.mean()) < 0.05
    assert float((found["kind"].probs - particles["kind"].probs).abs().mean()) < 0.02
    assert float(found.log_evidence) == pytest.approx(float(particles.log_evidence), abs=0.5)
    assert own.explain("x", {"y": y}).kind == "estimate"


def test_reals_that_tie_no_steps_are_told_exactly() -> None:
    kind, x = Variable("kind", 2), Variable("x")
    own = DynamicBayesianNetwork(
        [(("kind", -1), "kind"), ("kind", "x")],
        {"kind": [[0.9, 0.1], [0.2, 0.8]], "x": Gaussian(x, [kind], [0.0, 3.0], [1.0, 2.0])},
        initial={"kind": [0.5, 0.5]},
        states={"kind": 2},
    )
    values = np.array([0.0, np.nan, 2.5, np.nan, 4.0])
    found = own.query(None, {"x": values})
    assert (found.kind, [*found]) == ("exact", NAMES)
    told = {("x", t): v for t, v in enumerate(values) if not np.isnan(v)}
    right = own.unroll(5).query([("kind", t) for t in range(5)] + [("x", 1), ("x", 3)], told)
    for t in range(5):
        torch.testing.assert_close(found["kind"].probs[t], right["kind", t].probs)
    for t in (1, 3):
        torch.testing.assert_close(found["x"].mean[t], right["x", t].mean)
        torch.testing.assert_close(found["x"].std[t], right["x", t].std)
    assert float(found["x"].std[2]) < 1e-12
    assert own.query(None, {"x": np.nan_to_num(values)}).engine == "InterfaceAlgorithm"
    ahead = own.predict({"x": values}, 2)
    later = own.unroll(7).query([("x", 6)], told)
    torch.testing.assert_close(ahead["x"].mean[1], later["x", 6].mean)
    assert own.decode({"x": values}).engine == "InterfaceAlgorithm"


def test_frames_have_a_row_for_each_step() -> None:
    own, data = walk(), observed()
    smoothed = own.smooth(data, NAMES)
    table = smoothed.frame(steps=True)
    assert table.shape == (4 + 3, 2 + 2 * 5)
    means = smoothed["x"].mean[..., 1].reshape(-1)
    np.testing.assert_allclose(table["('x', 1)", "mean"], means[~means.isnan()])
    np.testing.assert_allclose(table["kind", "jump"][1][:3], smoothed["kind"].probs[1, :3, 1])
    lone = own.smooth({n: x[0] for n, x in data.items()}, ["x"]).frame(steps=True)
    assert list(lone.index) == [0, 1, 2, 3]
    np.testing.assert_allclose(lone["('x', 0)", "std"], smoothed["x"].std[0, :, 0])


def test_gradients_and_single_precision() -> None:
    data, engine = {"y": observed()["y"]}, SwitchingKalmanFilter()
    own = walk().requires_grad_()
    own.log_prob(data, engine=engine).sum().backward()
    for p in own.parameters():
        if p.grad is None:
            continue
        flat, gradient, h = p.data.view(-1), p.grad.view(-1), 1e-6
        before = float(flat[0])
        ends = []
        for moved in (before + h, before - h):
            flat[0] = moved
            with torch.no_grad():
                ends.append(float(own.log_prob(data, engine=engine).sum()))
        flat[0] = before
        assert float(gradient[0]) == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-5)
    single = walk(dtype=torch.float32).smooth(data, NAMES, engine=engine)
    double = walk().smooth(data, NAMES, engine=engine)
    torch.testing.assert_close(
        single["x"].mean.double(), double["x"].mean, rtol=1e-4, atol=1e-4, equal_nan=True
    )


def test_learning_by_gradients() -> None:
    """The likelihood of all histories rises; nothing is fixed but the numbers of the words."""
    truth = walk()
    data = {"y": truth.sample(1, {"T": [12] * 4}, seed=0)["y"][0]}
    own = walk().requires_grad_()
    with torch.no_grad():
        own.conditionals["x"].bias.add_(1.5)
        before = float(own.log_prob(data).sum())
    assert isinstance(own.default_learner(data), pgnn.Gradient)
    with pytest.warns(NotConverged):
        own.fit(data, learner=pgnn.Gradient(max_iterations=4), seed=0, progress=False)
    with torch.no_grad():
        assert float(own.log_prob(data).sum()) > before + 5.0


def test_what_is_refused() -> None:
    engine = SwitchingKalmanFilter()
    with pytest.raises(ImpossibleEvidence, match="from step 1 on"):
        walk(stay=1.0).smooth({"y": [0.0, 1.0], "kind": [0, 1]}, ["x"], engine=engine)
    other = DynamicBayesianNetwork([(("s", -1), "s")], states={"s": 70})
    with pytest.raises(Unsupported, match="at most 64 joint states"):
        other.smooth({"T": 3}, engine=engine)
    with pytest.raises(Unsupported, match="leave out engine="):
        walk().decode({"y": [1.0, 2.0]}, engine=engine)
    nothing = walk().smooth({"y": np.zeros((2, 0))}, NAMES, engine=engine)
    assert nothing["x"].mean.shape == (2, 0, 2)
    assert walk().log_prob({"y": np.zeros((2, 0))}, engine=engine).tolist() == [0.0, 0.0]
    assert walk().smooth({"y": [1.0]}, NAMES, engine=engine)["x"].mean.shape == (1, 2)
    bare = walk().smooth({"T": 3}, NAMES, engine=JunctionTree())
    torch.testing.assert_close(
        bare["x"].mean, walk().smooth({"T": 3}, NAMES, engine=engine)["x"].mean
    )
