"""Batches of a single class: their rows wait for others, where no statistics are sufficient."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.inference.learning import batch_expansions
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, WeightedRows

Rows = dict[str, np.ndarray]


def drawn(kind: str) -> Rows:
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    if kind == "softmax":
        y = np.argmax(np.arange(3) * x[:, None] + rng.gumbel(size=(300, 3)), axis=1)
    else:
        y = (rng.random(300) < 1.0 / (1.0 + np.exp(0.3 - 1.5 * x))) * 1
    if kind == "parent":
        return {"k": rng.integers(0, 2, 300), "x": x, "y": y}
    return {"x": x, "y": y}


def model_of(kind: str) -> pgnn.BayesianNetwork:
    x, y = pgnn.Variable("x"), pgnn.Variable("y", 3 if kind == "softmax" else 2)
    if kind == "neural":

        def network(child: pgnn.Variable, parents: list[pgnn.Variable]) -> pgnn.Neural:
            linear = torch.nn.Linear(1, 2).double()
            for p in linear.parameters():
                torch.nn.init.zeros_(p)
            return pgnn.Neural(child, parents, linear)

        return pgnn.BayesianNetwork(
            [("x", "y")], {"x": pgnn.Gaussian, "y": network}, {"x": x, "y": y}
        )
    edges = [("x", "y"), ("k", "y")] if kind == "parent" else [("x", "y")]
    kinds = {"x": pgnn.Gaussian, "y": pgnn.Softmax}
    return pgnn.BayesianNetwork(
        edges, kinds, {"x": x, "y": y, **({"k": 2} if kind == "parent" else {})}
    )


def taken(rows: Rows, which: Any) -> Rows:
    return {n: x[which] for n, x in rows.items()}


@pytest.mark.parametrize("kind", ["logistic", "softmax", "neural", "parent"])
@pytest.mark.parametrize("learner", [pgnn.MaximumLikelihood(), pgnn.EM(decay=1.0)])
def test_classes_one_after_the_other_are_learned_as_together(
    kind: str, learner: Any, tmp_path: Path
) -> None:
    rows = drawn(kind)
    parts = [taken(rows, rows["y"] == k) for k in range(3 if kind == "softmax" else 2)]
    own = model_of(kind)
    for k, part in enumerate(parts):
        own.partial_fit(part, learner=learner)
        if kind != "neural":  # whose code is not in files
            own.save(tmp_path / str(k))
            own = pgnn.load(tmp_path / str(k))
    shares = np.ones(len(parts))
    if isinstance(learner, pgnn.EM):  # steps of (k + 2)^-1
        steps = [1.0, *(1.0 / (k + 2.0) for k in range(1, len(parts)))]
        left = np.append(np.cumprod(1.0 - np.array(steps[1:])[::-1])[::-1], 1.0)
        shares = np.array(steps) * left / [len(p["y"]) for p in parts]
    weights = np.repeat(shares, [len(p["y"]) for p in parts])
    sorted_rows = {n: np.concatenate([p[n] for p in parts]) for n in rows}
    whole = model_of(kind).fit(sorted_rows, weights=weights, progress=False)
    torch.testing.assert_close(own.log_prob(rows), whole.log_prob(rows), rtol=0, atol=2e-3)


def test_rows_of_other_classes_do_not_wait() -> None:
    rows = drawn("logistic")
    model = model_of("logistic").partial_fit(taken(rows, rows["y"] == 1))
    kept = model.history["running"]["waiting"]["y"]
    assert len(kept["weights"]) == int((rows["y"] == 1).sum())
    model.partial_fit(rows)
    assert len(model.history["running"]["waiting"]["y"]["weights"]) == len(kept["weights"])
    assert "waiting" not in model_of("logistic").partial_fit(rows).history["running"]
    assert "waiting" not in repr(model.history)


def test_too_many_rows_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn("logistic")
    zeros, ones = (taken(rows, rows["y"] == k) for k in range(2))
    monkeypatch.setattr(batch_expansions, "_MOST_WAITING", 200)
    with pytest.warns(pgnn.NotConverged, match="determine 'y' almost surely.*too many"):
        model_of("logistic").partial_fit(zeros)
    half, size = taken(zeros, slice(0, 40)), 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = model_of("logistic").partial_fit(half)
        model.partial_fit(taken(ones, slice(0, 20)))
        assert len(model.history["running"]["waiting"]["y"]["weights"]) == size + 20
        model.partial_fit(taken(ones, slice(20, 40)))  # those before, of two classes, are expanded
    assert len(model.history["running"]["waiting"]["y"]["weights"]) == 20
    both = {n: np.concatenate([half[n], ones[n][:40]]) for n in rows}
    whole = model_of("logistic").fit(both, progress=False)
    lost = float((whole.log_prob(both) - model.log_prob(both)).mean())
    assert 0.0 <= lost < 0.005


def test_rows_with_hidden_parents_wait_too() -> None:
    rows = drawn("parent")
    zeros, ones = (taken(rows, rows["y"] == k) for k in range(2))
    model = model_of("parent").partial_fit(zeros, learner=pgnn.EM())
    hidden = {n: x for n, x in ones.items() if n != "k"}
    model.partial_fit(hidden, learner=pgnn.EM())
    assert len(model.history["running"]["waiting"]["y"]["weights"]) == 300
    found = model.query("y", {"x": [-2.0, 2.0]})["y"].probs[:, 1]
    assert 0.0 < found[0] < 0.25 < 0.75 < found[1] < 1.0


def test_rows_of_another_form_are_not_joined() -> None:
    piece = model_of("logistic").conditionals["y"]
    values = {"x": torch.zeros(3, dtype=torch.float64)}
    old = {"y": WeightedRows(values, {}, torch.ones(3, 2))}
    same = WeightedRows(values, {}, torch.ones(3, 2))
    other = WeightedRows({**values, "y": torch.zeros(3)}, {}, torch.ones(3))
    for new, expected in ((same, []), (other, ["y"])):
        batch = ExpectedStatistics(0.0, 1.0, {}, {"y": new})
        assert [*batch_expansions.released_rows({"y": piece}, old, batch)] == expected
    assert not batch_expansions.released_rows({"y": piece}, old, ExpectedStatistics(0.0, 1.0))
