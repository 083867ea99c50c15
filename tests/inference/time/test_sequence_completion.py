"""Sequences made step by step with holes, beside the log probabilities of all whole ones."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import LanguageModel, SequenceCompletion, Variable
from pgnn.models.autoregressive_model import AutoregressiveModel
from pgnn.models.sequence_to_sequence import PointerNetwork
from pgnn.neural import CategoricalHead, Decoder, MixtureDensityHead

LETTERS = "abc"
EXACT, FEW = SequenceCompletion(), SequenceCompletion(max_completions=0, particles=4000, seed=0)


def wild(model: Any) -> Any:
    """A network whose steps depend on what was before."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 1.2)
    return model.double()


@pytest.fixture(scope="module", params=[False, True], ids=["lengths", "ends"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    return wild(LanguageModel(LETTERS, hidden=5, ends=request.param))


def completions(model: Any, observed: list[Any]) -> dict[str, float]:
    """Log probability of every whole sequence that agrees with what was observed."""
    every = itertools.product(*[[x] if x else LETTERS for x in observed])
    texts = ["".join(x) for x in every]
    return dict(zip(texts, model.log_prob(texts).tolist(), strict=True))


GAPS: list[list[Any]] = [
    ["a", None, "b", None],
    [None, None, "c"],
    ["b", "a"],
    [None, "a", "c", "b"],
]


@pytest.mark.parametrize("engine", [EXACT, FEW], ids=["exact", "particles"])
def test_marginals_and_evidence(model: LanguageModel, engine: SequenceCompletion) -> None:
    answer = model.query(evidence={"token": GAPS}, engine=engine)
    log_evidence = answer.log_evidence.detach()
    log_prob = model.log_prob({"token": GAPS}, engine=engine).detach()
    tolerance = 1e-9 if engine is EXACT else 0.1
    assert answer.kind == ("exact" if engine is EXACT else "estimate")
    for row, observed in enumerate(GAPS):
        ways = completions(model, observed)
        evidence = math.log(sum(map(math.exp, ways.values())))
        expected = np.zeros((4, 3))
        for text, x in ways.items():
            for t, letter in enumerate(text):
                expected[t, LETTERS.index(letter)] += math.exp(x - evidence)
        steps = len(observed)
        found = answer["token"].probs[row]
        np.testing.assert_allclose(found[:steps].detach(), expected[:steps], atol=tolerance)
        assert found[steps:].isnan().all()
        assert float(log_evidence[row]) == pytest.approx(evidence, abs=2 * tolerance)
        if row != 2:
            assert float(log_prob[row]) == pytest.approx(evidence, abs=2 * tolerance)
    assert float(log_prob[2]) == pytest.approx(completions(model, GAPS[2])["ba"])


def test_draws_and_the_best(model: LanguageModel) -> None:
    for observed in (GAPS[0], GAPS[3]):
        ways = completions(model, observed)
        ranked = sorted(ways, key=lambda s: -ways[s])
        best = model.most_probable({"token": observed}, k=5)
        words = ["".join(x for x in b["token"] if x) for b in best]
        assert words == ranked[:5]
        first = model.most_probable({"token": observed})
        assert (
            float(first.log_prob.detach())
            == pytest.approx(ways[ranked[0]])
            == float(first.upper_bound.detach())
        )
        total = math.log(sum(map(math.exp, ways.values())))
        for engine in (EXACT, FEW):
            drawn = model.sample(4000, {"token": observed}, engine=engine, seed=1)["token"]
            own = ["".join(LETTERS[c] for c in row) for row in drawn.tolist()]
            for text, x in ways.items():
                p = math.exp(x - total)  # of the particles, whose weights are uncertain as well
                assert (
                    abs(own.count(text) / 4000 - p)
                    < (5 if engine is EXACT else 12) * math.sqrt(p * (1 - p) / 4000) + 1e-9
                )


def test_the_future_of_a_beginning() -> None:
    torch.manual_seed(1)
    model = wild(LanguageModel(LETTERS, hidden=5))
    answer = model.query(evidence={"token": ["a"], "T": 3})
    ways = completions(model, ["a", None, None])
    evidence = math.log(sum(map(math.exp, ways.values())))
    last = [sum(math.exp(x - evidence) for s, x in ways.items() if s[2] == z) for z in LETTERS]
    torch.testing.assert_close(answer["token"].probs[2].detach(), torch.tensor(last).double())
    # the log probability of a beginning is that of its own steps
    assert float(answer.log_evidence.detach()) == pytest.approx(float(model.log_prob("a").detach()))


def test_missing_steps_are_learned_from_by_gradients() -> None:
    torch.manual_seed(2)
    model = wild(LanguageModel("ab", hidden=3))
    model.detached = False
    bias = model.heads[0].out.bias
    (slope,) = torch.autograd.grad(model.log_prob({"token": ["a", None, "b"]}), bias)
    whole = model.log_prob(["aab", "abb"])
    (expected,) = torch.autograd.grad(whole.logsumexp(0), bias)
    torch.testing.assert_close(slope, expected)


def test_reals_and_several_variables() -> None:
    torch.manual_seed(3)
    level = MixtureDensityHead(Variable("level", None, ("T",)), 4, 2)
    pen = CategoricalHead(Variable("pen", ["up", "down"], ("T",)), 4, 2)
    model = AutoregressiveModel([level, pen], Decoder(3, 4), 4).double()
    levels = [0.3, -0.2, 0.5]
    evidence = {"level": levels, "pen": ["up", None, None]}
    whole = {n: torch.tensor([levels] * 4).double() if n == "level" else
             [["up", a, b] for a in ("up", "down") for b in ("up", "down")]
             for n in ("level", "pen")}  # fmt: skip
    expected = model.log_prob(whole).logsumexp(0).detach()
    torch.testing.assert_close(model.log_prob(evidence).detach(), expected)
    many = SequenceCompletion(max_completions=0, particles=4000, seed=0)
    near = model.log_prob(evidence, engine=many)
    assert float(near) == pytest.approx(float(expected), abs=0.1)
    answer = model.query(evidence={"level": [0.3, None, 0.5], "pen": ["up", "up", "down"]})
    assert answer.kind == "estimate"
    grid = torch.linspace(-9.0, 9.0, 1501).double()
    rows = torch.stack([torch.full_like(grid, 0.3), grid, torch.full_like(grid, 0.5)], 1)
    logs = model.log_prob({"level": rows, "pen": [["up", "up", "down"]] * len(grid)}).detach()
    weights = logs.softmax(0)
    mean = float((weights * grid).sum())
    spread = float((weights * grid.square()).sum()) - mean**2
    found = answer["level"]
    assert abs(float(found.mean[1]) - mean) < 6 * math.sqrt(spread / 1000) + 0.02
    assert float(found.mean[0]) == pytest.approx(0.3)
    area = math.log(float(grid[1] - grid[0]))
    assert float(answer.log_evidence.detach()) == pytest.approx(
        float(logs.logsumexp(0)) + area, abs=0.1
    )


def test_places_that_an_input_does_not_have() -> None:
    torch.manual_seed(4)
    model = wild(PointerNetwork(1, places=4, hidden=4))
    x = torch.rand(3, 1).double()
    answer = model.query(evidence={"place": [None, 2, None]}, inputs={"x": x})
    probs = answer["place"].probs.detach()
    assert probs[:, 3].eq(0).all()
    every = [(a, 2, b) for a in range(3) for b in range(3)]
    logs = model.log_prob(every, inputs={"x": x.expand(9, 3, 1)}).detach()
    assert float(answer.log_evidence.detach()) == pytest.approx(float(logs.logsumexp(0)))


def test_wrong_questions() -> None:
    model = LanguageModel("ab", hidden=4)
    hole = {"token": ["a", None, "b"]}
    with pytest.raises(pgnn.EvidenceError, match="how many steps"):
        model.query()
    with pytest.raises(pgnn.EvidenceError, match="'T' says 1"):
        model.query(evidence={"token": ["a", "b"], "T": 1})
    with pytest.raises(pgnn.EvidenceError, match="nothing"):
        model.query("nothing", hole)
    with pytest.raises(pgnn.Unsupported, match="raise max_completions"):
        model.most_probable(hole, engine=SequenceCompletion(max_completions=1))
    with pytest.raises(pgnn.EvidenceError, match="SequenceCompletion"):
        model.sample(1, hole, engine=pgnn.BeamSearch())
    with pytest.raises(pgnn.Unsupported, match="generated step by step"):
        pgnn.HiddenMarkovModel(2, {"x": 2}).query(engine=SequenceCompletion())
    with pytest.raises(pgnn.ModelError, match="particles"):
        SequenceCompletion(particles=1)
    with pytest.raises(pgnn.Intractable):
        model.query(evidence={"T": 10**12})
    head = MixtureDensityHead(Variable("move", None, ("T", 2)), 4, 2)
    pen = AutoregressiveModel([head], Decoder(2, 4), 4)
    with pytest.raises(pgnn.EvidenceError, match="not all of its elements"):
        pen.log_prob({"move": [[0.1, math.nan], [0.2, 0.3]]})
    assert model.explain(evidence=hole).kind == "exact"
