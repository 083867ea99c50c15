"""Variables at single steps as targets: answers are those of the unrolled network."""

import functools

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Unsupported
from pgnn.evidence.unknown_variable import UnknownVariable
from tests.inference.time.sequence_cases import model_of, tables

SEEN = {"x": [0, 3, None, 2], "y": [None, 1, 1, 0]}
CELLS = {("x", 0): 0, ("x", 1): 3, ("x", 3): 2, ("y", 1): 1, ("y", 2): 1, ("y", 3): 0}


@functools.cache
def markov() -> pgnn.HiddenMarkovModel:
    return model_of(tables(np.random.default_rng(1), 3, {"x": 4, "y": 2}))


@functools.cache
def dynamic() -> pgnn.DynamicBayesianNetwork:
    edges = [(("a", -1), "a"), (("b", -1), "b"), ("a", "b"), ("a", "x"), ("b", "y")]
    model = pgnn.DynamicBayesianNetwork(edges, states={"a": 2, "b": 3, "x": 4, "y": 2})
    rng = np.random.default_rng(0)
    return model.fit(
        {n: rng.integers(0, k, (20, 30)) for n, k in zip("abxy", (2, 3, 4, 2), strict=True)}
    )


@functools.cache
def track() -> pgnn.LinearDynamicalSystem:
    return pgnn.LinearDynamicalSystem(
        2, 1, [[1.0, 1.0], [0.0, 1.0]], [[0.02, 0.0], [0.0, 0.02]], [[1.0, 0.0]],
        observation_covariance=[[1.0]], initial_mean=[0.0, 0.0],
        initial_covariance=[[9.0, 0.0], [0.0, 1.0]], observation_offset=[0.0],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "hidden", "engine", "error"),
    [
        (markov, "state", None, 1e-12),
        (markov, "state", pgnn.JunctionTree(), 1e-12),
        (markov, "state", pgnn.BeliefPropagation(), 1e-6),  # on a tree
        (dynamic, "b", None, 1e-12),
        (dynamic, "b", pgnn.JunctionTree(), 1e-12),
        (dynamic, "b", pgnn.SequentialMonteCarlo(seed=0), 0.05),
    ],
    ids=["chain", "tree", "propagation", "slices", "unrolled", "particles"],
)
def test_steps_are_those_of_the_unrolled_network(model, hidden, engine, error) -> None:
    made, wanted = model(), [(hidden, 2), ("x", 2), (hidden, 0)]
    found = made.query(wanted, SEEN, engine=engine)
    assert [*found] == wanted
    exact = made.unroll(4).query(wanted, CELLS, engine=pgnn.JunctionTree())
    for name in wanted:
        torch.testing.assert_close(found[name].probs, exact[name].probs, atol=error, rtol=0)
    if engine is None:
        assert found.kind == "exact"
        assert float(found.log_evidence) == pytest.approx(exact.log_evidence.item())
    assert set(found.frame().index.get_level_values("variable")) == set(wanted)


@pytest.mark.parametrize("step", range(4))
def test_filtered_steps_know_the_past_only(step) -> None:
    model = markov()
    found = model.filter(SEEN, ("state", step))
    past = {cell: v for cell, v in CELLS.items() if cell[1] <= step}
    exact = model.unroll(step + 1).query(("state", step), past)
    torch.testing.assert_close(found["state", step].probs, exact["state", step].probs)
    smooth = model.smooth(SEEN, ("state", step))["state", step].probs
    torch.testing.assert_close(smooth, model.smooth(SEEN)["state"].probs[step])


def test_rows_that_end_before_a_step_have_no_answer() -> None:
    model = markov()
    rows = {"x": [[0, 3, 1], [2], [1, 1]]}
    found = model.query([("state", 1), "y"], rows)
    assert found["state", 1].probs.shape == (3, 3)
    torch.testing.assert_close(
        found["state", 1].probs, model.query("state", rows)["state"].probs[:, 1], equal_nan=True
    )
    assert found["state", 1].probs.isnan().all(dim=1).tolist() == [False, True, False]
    assert found["y"].probs.shape == (3, 3, 2)


@pytest.mark.parametrize("seen", [[[0.5], [np.nan], [2.0]], [[[0.5], [np.nan], [2.0]], [[1.0]]]])
def test_real_states_at_steps(seen) -> None:
    model = track()
    whole = model.smooth({"observation": seen})
    found = model.smooth({"observation": seen}, [("state", 1, 0), ("state", 2, 1)])
    assert [*found] == [("state", 1, 0), ("state", 2, 1)]
    for name in found:
        for moment in ("mean", "std"):
            expected = getattr(whole["state"], moment)[..., name[1], name[2]]
            torch.testing.assert_close(getattr(found[name], moment), expected, equal_nan=True)
    particles = model.filter(
        {"observation": [[0.5], [np.nan], [2.0]]},
        ("state", 1, 0),
        engine=pgnn.SequentialMonteCarlo(20_000, seed=0),
    )
    exact = model.filter({"observation": [[0.5], [np.nan], [2.0]]})["state"]
    error = 6 * float(exact.std[1, 0]) / np.sqrt(20_000 / 4)
    assert float(particles["state", 1, 0].mean) == pytest.approx(float(exact.mean[1, 0]), abs=error)


def test_mixtures_of_normals_and_emissions_at_steps() -> None:
    model = pgnn.HiddenMarkovModel(
        2,
        {"x": lambda x, state: pgnn.Gaussian(x, state, mean=[0.0, 3.0], covariance=[1.0, 2.0])},
        initial=[0.5, 0.5],
        transitions=[[0.9, 0.1], [0.2, 0.8]],
    )
    seen = {"x": [0.0, 3.0, None]}
    found = model.query([("x", 2), ("state", 1)], seen)
    whole = model.query(["x", "state"], seen)
    torch.testing.assert_close(found["x", 2].mean, whole["x"].mean[2])
    torch.testing.assert_close(found["x", 2].std, whole["x"].std[2])
    torch.testing.assert_close(found["state", 1].probs, whole["state"].probs[1])
    assert [*found.summary().index] == ["('x', 2)"]
    with pytest.raises(EvidenceError, match="answers about later ones"):
        model.predict(seen, 2, [("x", 1)])


def test_wrong_steps_are_refused() -> None:
    model = markov()
    with pytest.raises(EvidenceError, match="step 4 of 'state' is not within the 4 steps"):
        model.query(("state", 4), SEEN)
    with pytest.raises(UnknownVariable, match=r"\('state', -1\)"):
        model.query([("state", -1)], SEEN)
    for targets in ([("state", 1), "state"], [("state", 1), ("state", 1)]):
        with pytest.raises(EvidenceError, match=r"\('state', 1\) is named twice"):
            model.query(targets, SEEN)
    with pytest.raises(Unsupported, match=r"unroll\(4\).most_probable") as caught:
        model.most_probable(SEEN, ("state", 1))
    assert "('state', 1)" in str(caught.value)
    with pytest.raises(EvidenceError, match="step 0 of the answer is the first after"):
        model.predict(SEEN, 2, ("state", 1))
    with pytest.raises(EvidenceError, match="expected the name of a variable"):
        model.query([("state", 1), ["y"]], SEEN)
