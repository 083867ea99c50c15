"""Filtering step by step against filtering at once."""

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, ImpossibleEvidence
from pgnn.inference.time.online_filter import OnlineFilter
from tests.inference.time.sequence_cases import model_of, tables
from tests.inference.time.test_forward_backward import Driven, autoregressive

GIVEN = tables(np.random.default_rng(1), 3, {"x": 4, "y": 2})


def test_one_sequence():
    model = model_of(GIVEN)
    x, y = [0, None, 2, None, 3], [1, 1, None, None, 0]
    want = model.filter({"x": x, "y": y})
    live = OnlineFilter(model)
    np.testing.assert_allclose(live.states, GIVEN["initial"])
    for t in range(5):
        observed = {n: v[t] for n, v in (("x", x), ("y", y)) if v[t] is not None}
        torch.testing.assert_close(live.update(observed), want.probs("state")[t])
        torch.testing.assert_close(
            live.log_evidence, want.diagnostics["log_increments"][: t + 1].sum()
        )
    assert live.num_steps == 5
    live.reset()
    np.testing.assert_allclose(live.states, GIVEN["initial"])
    assert live.log_evidence == 0


@pytest.mark.parametrize("kind", [torch.tensor, list, np.array])
def test_rows(kind):
    model = model_of(GIVEN)
    x = [[0, 1, 2], [3, -1, 0]]
    want = model.filter({"x": x})
    live = OnlineFilter(model)
    for t in range(3):
        found = live.update({"x": kind([row[t] for row in x])})
        torch.testing.assert_close(found, want.probs("state")[:, t])
    torch.testing.assert_close(live.log_evidence, want.log_evidence)
    after = model.predict({"x": x}, 1)
    torch.testing.assert_close(live.update(), after.probs("state")[:, 0])
    with pytest.raises(EvidenceError, match="2 rows before, now 3"):
        live.update({"x": torch.tensor([0, 1, 2])})


def test_likelihoods_and_known_states():
    model = model_of(GIVEN)
    soft = np.random.default_rng(0).random((3, 4))
    want = model.filter({"x": soft, "state": [-1, 2, -1]})
    live = OnlineFilter(model)
    for t in range(3):
        observed = {"x": soft[t], **({"state": 2} if t == 1 else {})}
        torch.testing.assert_close(live.update(observed), want.probs("state")[t])


@torch.no_grad()
def test_inputs_and_reals():
    driven = Driven()
    model, observed, inputs = driven.model, driven.observed, driven.inputs
    want = model.filter(observed, inputs=inputs)
    live, one = OnlineFilter(model), OnlineFilter(model)
    for t in range(5):
        now = {"v": observed["v"][:, t], "x": [row[t] for row in observed["x"]]}
        found = live.update(now, {n: x[:, t] for n, x in inputs.items()})
        torch.testing.assert_close(found, want.probs("state")[:, t])
        alone = {"v": observed["v"][0, t], "x": observed["x"][0][t]}
        found = one.update(alone, {n: x[0, t] for n, x in inputs.items()})
        torch.testing.assert_close(found, want.probs("state")[0, t])


@torch.no_grad()
def test_emissions_that_depend_on_their_past():
    model = autoregressive()
    v = [0.3, -1.0, 0.5, 1.5]
    want, live = model.filter({"v": v}), OnlineFilter(model)
    for t in range(4):
        torch.testing.assert_close(live.update({"v": v[t]}), want.probs("state")[t])


def test_impossible_updates_change_nothing():
    model = pgnn.HiddenMarkovModel(2, {"x": np.eye(2)}, [1.0, 0.0], np.eye(2))
    live = OnlineFilter(model)
    live.update({"x": 0})
    with pytest.raises(ImpossibleEvidence, match="impossible"):
        live.update({"x": 1})
    assert live.num_steps == 1
    assert live.states.tolist() == [1.0, 0.0]
    with pytest.raises(EvidenceError, match="no variable 'z'"):
        live.update({"z": 1})


def test_labels():
    model = pgnn.HiddenMarkovModel(
        ["sun", "rain"], {"umbrella": ["no", "yes"]}, [0.5, 0.5], [[0.7, 0.3], [0.3, 0.7]]
    )
    model.emissions["umbrella"].set_probs([[0.8, 0.2], [0.1, 0.9]])
    live = OnlineFilter(model)
    live.update({"umbrella": "yes"})
    # Russell & Norvig, Artificial Intelligence, section 15.2: 0.818 and 0.883
    assert live.states[1].item() == pytest.approx(0.818, abs=1e-3)
    assert live.update({"umbrella": ["yes"]})[0, 1].item() == pytest.approx(0.883, abs=1e-3)
