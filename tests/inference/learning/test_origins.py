"""Regressions learned by EM far from zero: what is learned does not depend on the origin."""

import copy

import numpy as np
import pytest
import torch

import pgnn
from pgnn import EM, Gaussian, LinearGaussian, NormalWishart, Variable

FAR = 1e6


def rows(origin: float = 0.0) -> dict[str, np.ndarray]:
    """Two numbers that a latent one makes, and one that follows; a fifth are missing."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = 1.5 * a + 0.5 * rng.normal(size=200)
    c = -b + 0.3 * rng.normal(size=200)
    found = {n: x + origin for n, x in (("a", a), ("b", b), ("c", c))}
    for x in found.values():
        x[rng.random(200) < 0.2] = np.nan
    return found


def chain() -> pgnn.BayesianNetwork:
    a, b, c = (Variable(n) for n in "abc")
    own = {"a": Gaussian(a), "b": LinearGaussian(b, [a]), "c": LinearGaussian(c, [b])}
    return pgnn.BayesianNetwork([("a", "b"), ("b", "c")], own)


def test_a_network_with_holes() -> None:
    learner = EM(tolerance=1e-12, max_iterations=300)
    near, far = (chain().fit(rows(x), learner=learner, seed=0, progress=False) for x in (0, FAR))
    for name in "bc":
        one, other = near.conditionals[name], far.conditionals[name]
        torch.testing.assert_close(other.weight, one.weight, rtol=1e-5, atol=0.0)
        torch.testing.assert_close(other.covariance, one.covariance, rtol=1e-5, atol=0.0)
        assert float((other.bias - FAR * (1 - other.weight)).detach()) == pytest.approx(
            float(one.bias.detach()), abs=1e-5
        )
    likely = [float(m.log_prob(rows(x)).sum()) for m, x in ((near, 0), (far, FAR))]
    assert likely[1] == pytest.approx(likely[0], abs=1e-5)


def after_steps(model: pgnn.Model, data: dict) -> dict[str, torch.Tensor]:
    """Numbers after two steps of EM from given ones."""
    model.requires_grad_()
    with pytest.warns(pgnn.errors.NotConverged):
        model.fit(data, learner=EM(max_iterations=2, initialize=False), seed=0, progress=False)
    return {n: x.detach() for n, x in model.state_dict().items() if "origin" not in n}


def compare(near: dict[str, torch.Tensor], far: dict[str, torch.Tensor]) -> None:
    """All but what is at the origin."""
    for name, x in near.items():
        if name.endswith(("weight", "scale", "logits")):
            torch.testing.assert_close(far[name], x, rtol=1e-7, atol=1e-7)


def test_a_latent_cause() -> None:
    found = []
    for origin in (0.0, FAR):
        cause = Variable("cause")
        own: dict = {"cause": Gaussian(cause, [], 0.0, 1.0)}
        for n, weight in (("a", 1.0), ("b", 0.5), ("c", -1.0)):
            own[n] = LinearGaussian(Variable(n), [cause], [weight], origin, 0.7)
        model = pgnn.BayesianNetwork([("cause", n) for n in "abc"], own)
        found.append(after_steps(model, rows(origin)))
    compare(*found)


def test_chains_over_time() -> None:
    rng = np.random.default_rng(1)
    y = np.cumsum(rng.normal(size=(4, 30, 1)), axis=1)
    y[0, 3] = y[2, 10:12] = np.nan
    found = []
    for origin in (0.0, FAR):
        system = pgnn.LinearDynamicalSystem(
            1, 1, [[0.9]], [[1.0]], [[1.0]], [[0.5]], [0.0], [[1.0]], observation_offset=[origin]
        )
        found.append(after_steps(system, {"observation": y + origin}))
    compare(*found)
    x, before, s = Variable("x"), Variable(("x", -1)), Variable("s", 2)
    found = []
    for origin in (0.0, FAR):
        bias = [origin * 0.5, 1.0 + origin * 0.8]
        network = pgnn.DynamicBayesianNetwork(
            [(("x", -1), "x"), (("s", -1), "s"), ("s", "x")],
            {
                "x": LinearGaussian(x, [before, s], [[0.5], [0.2]], bias, [1.0, 2.0]),
                "s": [[0.9, 0.1], [0.2, 0.8]],
            },
            initial={"x": Gaussian(x, [s], [origin, origin + 1], [1.0, 2.0]), "s": [0.5, 0.5]},
            states={"s": 2},
        )
        found.append(after_steps(network, {"x": np.nan_to_num(y[..., 0], nan=0.5) + origin}))
    compare(*found)


def test_priors_and_fixed_biases_do_not_move_with_the_origin() -> None:
    """Of the same rows, statistics about any origin give the same numbers."""
    rng = np.random.default_rng(2)
    x, y = Variable("x", shape=(2,)), Variable("y", shape=(2,))
    values = {n: torch.from_numpy(rng.normal(size=(40, 2)) + 2.0) for n in "xy"}
    fixed = LinearGaussian(y, [x], bias=[0.3, -0.2])
    for own, prior in ((LinearGaussian(y, [x]), NormalWishart(0.5, 3.0, 4.0, 1.0)), (fixed, None)):
        about, plain = copy.deepcopy(own), copy.deepcopy(own)
        about.prepare(values)
        assert about.origin is not None
        for c in (about, plain):
            c.maximize(c.statistics(values, torch.ones(40)), prior)
        torch.testing.assert_close(about.weight, plain.weight)
        torch.testing.assert_close(about.bias, plain.bias)
        torch.testing.assert_close(about.covariance, plain.covariance)


def test_holes_in_vectors_are_filled_about_the_origin() -> None:
    rng = np.random.default_rng(3)
    x, y = Variable("x"), Variable("y", shape=(2,))
    own = LinearGaussian(y, [x], [[0.5], [1.0]], [1.0, 2.0], [[1.0, 0.4], [0.4, 0.8]])
    own.requires_grad_()
    values = {"x": torch.from_numpy(rng.normal(size=30) + 5.0)}
    values["y"] = torch.from_numpy(rng.normal(size=(30, 2)) + 7.0)
    values["y"][::3, 0] = torch.nan
    about = copy.deepcopy(own)
    about.prepare(values)
    for c in (about, own):
        c.maximize(c.statistics(values, torch.ones(30)))
    torch.testing.assert_close(about.weight, own.weight)
    torch.testing.assert_close(about.covariance, own.covariance)


def test_origins_are_kept_in_files_and_states(tmp_path) -> None:
    """Batches that come after a file was read are added about the same origin."""
    first, second = rows(FAR), {n: x[::-1].copy() for n, x in rows(FAR).items()}
    model = chain().partial_fit(first, learner=EM(), seed=0)
    model.save(tmp_path / "model.pgnn")
    again = pgnn.load(tmp_path / "model.pgnn")
    for own in (model, again):
        own.partial_fit(second, learner=EM())
    torch.testing.assert_close(again.conditionals["c"].weight, model.conditionals["c"].weight)
    bare, state = chain(), model.state_dict()
    bare.load_state_dict(state)
    assert torch.equal(bare.conditionals["b"].origin, model.conditionals["b"].origin)
    bare.load_state_dict({n: x for n, x in state.items() if not n.endswith("origin")})
    assert bare.conditionals["b"].origin is None
