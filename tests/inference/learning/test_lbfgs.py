"""Where nothing tells hidden states apart the likelihood is flat, and that is no maximum."""

import numpy as np
import pytest
import torch

from pgnn import BayesianNetwork, Gradient, HiddenMarkovModel, MarkovRandomField
from pgnn.inference.learning import lbfgs


def votes(n: int = 400, children: int = 4) -> tuple[dict[str, np.ndarray], float, float]:
    """Noisy copies of a hidden bit; log-likelihoods of what drew them, and of independence."""
    rng = np.random.default_rng(0)
    h = rng.random(n) < 0.4
    data = {f"c{k}": (h ^ (rng.random(n) < 0.15)).astype(int) for k in range(children)}
    table = np.stack([*data.values()], axis=1)
    likely = [p * np.where(table == s, 0.85, 0.15).prod(axis=1) for s, p in ((1, 0.4), (0, 0.6))]
    share = table.mean(axis=0)
    alone = n * float((share * np.log(share) + (1 - share) * np.log(1 - share)).sum())
    return data, float(np.log(sum(likely)).sum()), alone


def latent(data: dict[str, np.ndarray]) -> BayesianNetwork:
    return BayesianNetwork([("h", c) for c in data], states={"h": 2} | dict.fromkeys(data, 2))


@pytest.mark.parametrize("seed", [0, 1, None])
def test_latent_variables_of_a_network_are_learnt(seed: int | None) -> None:
    data, truth, alone = votes()
    model = latent(data)
    model.fit(data, learner=Gradient(), seed=seed, progress=False)
    assert model.history["converged"]
    assert model.history["log_likelihood"] > truth - 0.5 > alone + 50


def test_a_column_without_any_value_is_latent() -> None:
    data, truth, _ = votes()
    model = latent(data)
    data["h"] = np.full(len(data["c0"]), -1)
    model.fit(data, learner=Gradient(), seed=0, progress=False)
    assert model.history["log_likelihood"] > truth - 0.5


def test_other_optimisers_leave_the_symmetric_start() -> None:
    data, truth, _ = votes(200)
    model = latent(data)
    adam = Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.1), max_iterations=150)
    model.fit(data, learner=adam, seed=1, progress=False)
    assert model.history["log_likelihood"] > truth - 1.0


def test_a_hidden_node_of_a_field_is_learnt() -> None:
    data, truth, alone = votes()
    field = MarkovRandomField([("h", c) for c in data], states={"h": 2} | dict.fromkeys(data, 2))
    field.fit(data, learner=Gradient(l2=1e-4), seed=0, progress=False)
    assert field.history["log_likelihood"] > truth - 2.0 > alone + 50


def test_states_of_a_chain_are_learnt_by_gradients() -> None:
    rng = np.random.default_rng(0)
    z = (rng.random((20, 40)) < 0.1).cumsum(axis=1) % 2
    x = np.where(rng.random(z.shape) < 0.1, 1 - z, z)
    model = HiddenMarkovModel(2, {"x": 2})
    model.fit({"x": x}, learner=Gradient(), seed=0, progress=False)
    share = x.mean()
    alone = x.size * (share * np.log(share) + (1 - share) * np.log(1 - share))
    assert model.history["log_likelihood"] > alone + 50


def test_a_saddle_is_left_where_the_start_is_not_symmetric(monkeypatch) -> None:
    """From a start at the saddle itself, without its symmetry being noticed."""
    data, truth, alone = votes()
    monkeypatch.setattr(Gradient, "break_symmetry", lambda *_: None)
    model = latent(data)
    model.fit(data, learner=Gradient(), seed=0, progress=False)
    assert model.history["log_likelihood"] > truth - 0.5
    monkeypatch.setattr(lbfgs, "leave_saddle", lambda _: False)
    stuck = latent(data)
    stuck.fit(data, learner=Gradient(), seed=0, progress=False)
    assert stuck.history["log_likelihood"] == pytest.approx(alone, abs=1e-3)


def test_a_maximum_is_no_saddle() -> None:
    data, _, _ = votes()
    model = latent(data)
    model.fit(data, learner=Gradient(), seed=0, progress=False)
    best, number = model.history["log_likelihood"], model.history["iterations"]
    model.fit(data, learner=Gradient(), seed=1, progress=False)
    assert model.history["log_likelihood"] == pytest.approx(best, abs=1e-6)
    assert model.history["iterations"] <= max(2, number)
