"""Sequences made step by step, beside all short sequences, and beside themselves step by step."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pgnn
from pgnn import (
    AutoregressiveModel,
    BeamSearch,
    LanguageModel,
    PointerNetwork,
    SequenceToSequence,
    Variable,
)
from pgnn.errors import DataError, EvidenceError
from pgnn.neural import CategoricalHead, Decoder, MixtureDensityHead


def wild(model: Any, factor: float = 3.0) -> Any:
    """The same model, far from uniform, in double precision."""
    with torch.no_grad():
        for p in model.double().parameters():
            p.mul_(factor)
    return model


@pytest.fixture(params=[True, False], ids=["ends", "lengths"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    return wild(LanguageModel("ab", hidden=6, ends=request.param))


def texts(longest: int) -> list[str]:
    return ["".join(s) for n in range(longest + 1) for s in itertools.product("ab", repeat=n)]


def scores(model: LanguageModel, longest: int) -> dict[str, float]:
    every = texts(longest)
    return dict(zip(every, model.log_prob([[*s] for s in every]).tolist(), strict=True))


def test_probabilities_sum_to_one(model: LanguageModel) -> None:
    own = scores(model, 5)
    by_length = [sum(math.exp(x) for s, x in own.items() if len(s) == n) for n in range(6)]
    if not model.ends:
        np.testing.assert_allclose(by_length, 1.0)
        return
    assert sum(by_length) < 1
    # what is left goes on after five steps
    left = model.sample(4000, seed=0)["token"].ge(0).sum(1).gt(5).double().mean()
    assert 1 - sum(by_length) == pytest.approx(float(left), abs=5 * 0.5 / math.sqrt(4000))


def test_teacher_forcing_is_the_model_step_by_step(model: LanguageModel) -> None:
    with torch.no_grad():
        for text, expected in scores(model, 3).items():
            state, total = model.start(model.read(None)), 0.0
            for letter in text:
                going, _ = model.end_log_probs(state)
                code = torch.tensor(["ab".index(letter)])
                total += float(going + model.next_log_probs(state)[0, code])
                state = model.advance(state, {"token": code})
            total += float(model.end_log_probs(state)[1]) if model.ends else 0.0
            assert total == pytest.approx(expected)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_cells(cell: str) -> None:
    torch.manual_seed(1)
    model = wild(LanguageModel("ab", hidden=4, layers=2, cell=cell))
    state, total = model.start(model.read(None)), torch.zeros(1).double()
    for code in (0, 1, 1):
        total = total + model.next_log_probs(state)[:, code]
        state = model.advance(state, {"token": torch.tensor([code])})
    torch.testing.assert_close(model.log_prob(["abb"]), total)


def test_best_sequences(model: LanguageModel) -> None:
    if model.ends:
        own, asked = scores(model, 7), None
    else:
        own, asked = {s: x for s, x in scores(model, 4).items() if len(s) == 4}, {"T": 4}
    ranked = sorted(own.items(), key=lambda pair: -pair[1])
    best = model.most_probable(asked, engine=BeamSearch(30))
    assert "".join(best["token"]) == ranked[0][0]
    assert float(best.log_prob) == pytest.approx(ranked[0][1])
    assert torch.equal(best.upper_bound, best.log_prob)
    three = model.most_probable(asked, k=3, engine=BeamSearch(30))
    assert ["".join(x for x in a["token"] if x) for a in three] == [s for s, _ in ranked[:3]]
    np.testing.assert_allclose(three.log_prob, [x for _, x in ranked[:3]])


def test_a_narrow_beam_bounds_what_it_lost() -> None:
    torch.manual_seed(2)
    every = ["".join(t) for t in itertools.product("abc", repeat=4)]
    exact = []
    for _ in range(20):
        model = wild(LanguageModel("abc", hidden=4), 5.0)
        best = float(model.log_prob(every).detach().max())
        for width in (1, 2, 81):
            found = model.most_probable({"T": 4}, engine=BeamSearch(width))
            assert found.log_prob <= best + 1e-9
            assert found.upper_bound >= best - 1e-9
            exact.append(bool(found.log_prob > best - 1e-9))
    assert all(exact[2::3])
    assert 0 < sum(exact[::3]) < 20


def test_a_beam_that_is_cut_off_says_so() -> None:
    torch.manual_seed(0)
    model = wild(LanguageModel("ab", hidden=6, ends=True))
    with torch.no_grad():
        model.end.bias -= 6.0
    found = model.most_probable(engine=BeamSearch(4, max_length=3))
    assert found.upper_bound > found.log_prob


@pytest.mark.parametrize("ends", [False, True])
def test_the_next_token_given_beginnings(ends: bool) -> None:
    torch.manual_seed(0)
    model = LanguageModel("abc", hidden=4, ends=ends).double()
    beginnings = ["ab", "", "cab"]
    answer = model.predict(beginnings)
    for row, text in enumerate(beginnings):
        # what goes on from a beginning: ratios of the probabilities of longer ones
        longer = torch.stack([_begins(model, text + token, ends) for token in "abc"])
        shares = longer.exp() / longer.exp().sum()
        torch.testing.assert_close(answer["token"].probs[row, 0], shares)
        torch.testing.assert_close(answer.log_evidence[row], _begins(model, text, ends))
        if ends:
            left = 1.0 - float(longer.exp().sum() / _begins(model, text, ends).exp())
            assert float(answer.diagnostics["end"][row].detach()) == pytest.approx(left)
    lone = model.predict({"token": ["a", "b"]})
    torch.testing.assert_close(lone["token"].probs, answer["token"].probs[0])
    with pytest.raises(
        EvidenceError, match=r"row 0 was observed in 1 of 3 steps|give only their prefixes"
    ):
        model.predict({"token": [["a", None, None]]})
    given = model.fit(["abcabc"] * 3, seed=0, progress=False).predict("ab")["token"].probs
    assert not given.requires_grad


def _begins(model: LanguageModel, text: str, ends: bool) -> Tensor:
    """Log probability that a sequence begins so, of sequences that may go on."""
    if not text:
        return torch.zeros((), dtype=torch.float64)
    rows = model.read([text])
    state, total = model.start(rows), torch.zeros((), dtype=torch.float64)
    for t in range(len(text)):
        code = rows.codes["token"][:, t]
        going = model.end_log_probs(state)[0][0]
        total = total + going + model.next_log_probs(state)[0, code[0]]
        state = model.advance(state, {"token": code})
    return total.detach()


def test_perplexity() -> None:
    torch.manual_seed(0)
    for ends in (False, True):
        model = LanguageModel("ab", hidden=4, ends=ends)
        texts = ["ab", "bba", ""]
        total = float(model.log_prob(texts).detach().sum())
        steps = 5 + 3 * ends
        assert pgnn.metrics.perplexity(model, texts) == pytest.approx(math.exp(-total / steps))
    with pytest.raises(DataError, match="at least one observation"):
        pgnn.metrics.perplexity(LanguageModel("ab", hidden=4), [""])


def test_draws(model: LanguageModel) -> None:
    asked = None if model.ends else {"T": 3}
    drawn = model.sample(3000, asked, seed=4)["token"]
    own = ["".join("ab"[c] for c in row if c >= 0) for row in drawn.tolist()]
    for text, x in scores(model, 3).items():
        if model.ends or len(text) == 3:
            p = math.exp(x)  # five standard deviations
            assert abs(own.count(text) / 3000 - p) < 5 * math.sqrt(p / 3000)
    assert torch.equal(drawn, model.sample(3000, asked, seed=4)["token"])


def test_beginnings_are_kept() -> None:
    torch.manual_seed(0)
    model = wild(LanguageModel("ab", hidden=6))
    begun = {"token": [["b", "a"], ["a", None]], "T": [4, 3]}
    drawn = model.sample(200, begun, seed=0)["token"]
    assert drawn.shape == (200, 2, 4)
    assert (drawn[:, 0, :2] == torch.tensor([1, 0])).all()
    assert (drawn[:, 1, 0] == 0).all()
    assert (drawn[:, 1, 3] == -1).all()
    own = {s: x for s, x in scores(model, 4).items() if len(s) == 4 and s[:2] == "ba"}
    best = model.most_probable({"token": ["b", "a", None, None]}, engine=BeamSearch(4))
    assert "".join(best["token"]) == max(own, key=lambda s: own[s])
    assert float(best.log_prob) == pytest.approx(max(own.values()))


def pen_model() -> AutoregressiveModel:
    torch.manual_seed(3)
    move = MixtureDensityHead(Variable("move", None, ("T", 2)), 5, 3)
    pen = CategoricalHead(Variable("pen", ["up", "down"], ("T",)), 5, 4)
    return AutoregressiveModel([move, pen], Decoder(6, 5), 5).double()


def test_a_mixture_density_integrates_to_one() -> None:
    torch.manual_seed(0)
    head = MixtureDensityHead(Variable("move", None, ("T", 2)), 5, 3).double()
    hidden = torch.randn(1, 1, 5).double()
    line = torch.linspace(-12, 12, 400, dtype=torch.float64)
    values = torch.cartesian_prod(line, line)[None]
    density = head.log_prob(hidden.expand(1, len(line) ** 2, 5), values, None).detach().exp()
    area = float(line[1] - line[0]) ** 2
    assert float(density.sum()) * area == pytest.approx(1.0, abs=1e-6)
    drawn = head.draw(
        hidden[:, 0].expand(20000, 5), None, torch.Generator().manual_seed(0)
    ).detach()
    mean = (density[..., None] * values).sum(1)[0] * area
    spread = (density[..., None] * values.square()).sum(1)[0] * area
    assert ((drawn.mean(0) - mean).abs() < 5 * (spread / 20000).sqrt()).all()


def test_strokes_of_a_pen() -> None:
    model = pen_model()
    moves, pens = torch.randn(2, 4, 2).double(), [["up", "down", "up", "up"]] * 2
    together = model.log_prob({"move": moves, "pen": pens})
    with torch.no_grad():
        state, total = model.start(model.read({"T": [0, 0]})), torch.zeros(2).double()
        for t in range(4):
            total += model.end_log_probs(state)[0]
            for head, name in zip(model.heads, ("move", "pen"), strict=True):
                own = moves[:, t] if name == "move" else torch.tensor([[0, 1, 0, 0][t]] * 2)
                hidden = state.hidden[:, None]
                total += head.log_prob(hidden, own[:, None], None)[:, 0]
            code = torch.tensor([[0, 1, 0, 0][t]] * 2)
            state = model.advance(state, {"move": moves[:, t], "pen": code})
        total += model.end_log_probs(state)[1]
    torch.testing.assert_close(together.detach(), total)
    drawn = model.sample(3, {"move": moves[0, :2], "pen": ["up", "down"]}, seed=0)
    assert torch.equal(drawn["move"][0, :2], moves[0, :2])
    assert (drawn["pen"][:, :2] == torch.tensor([0, 1])).all()
    gone = drawn["pen"] < 0
    assert torch.equal(gone, drawn["move"].isnan().all(-1))
    with pytest.raises(pgnn.Unsupported, match="a single discrete variable"):
        model.most_probable()


def reversed_words(number: int) -> tuple[list[list[str]], list[list[str]]]:
    rng = np.random.default_rng(0)
    source = [["abc"[k] for k in rng.integers(0, 3, rng.integers(0, 4))] for _ in range(number)]
    return source, [s[::-1] for s in source]


def test_sequences_of_sequences(tmp_path: Path) -> None:
    source, target = reversed_words(60)
    torch.manual_seed(0)
    model = SequenceToSequence("abc", hidden=16)
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.02), batch_size=20,
                            max_iterations=25)  # fmt: skip
    model.fit(target, inputs={"source": source}, learner=learner, seed=0, progress=False)
    found = model.most_probable(inputs={"source": source})
    wrote = [["abc"[c] for c in row if c >= 0] for row in found.codes.tolist()]
    assert sum(a == b for a, b in zip(wrote, target, strict=True)) >= 55
    together = model.log_prob(target, inputs={"source": source})
    alone = [model.log_prob(t, inputs={"source": s}) for s, t in zip(source, target, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[:5], found.log_prob[:5].float(), rtol=1e-3, atol=1e-3)
    model.save(tmp_path / "model")
    again = pgnn.load(tmp_path / "model")
    assert torch.equal(again.log_prob(target, inputs={"source": source}), together)


def test_pointers() -> None:
    torch.manual_seed(0)
    model = wild(PointerNetwork(1, places=4, hidden=6), 2.0)
    numbers = torch.rand(3, 1).double()
    every = [*itertools.product(range(3), repeat=3)]
    logs = model.log_prob(every, inputs={"x": numbers.expand(27, 3, 1)})
    assert float(logs.detach().exp().sum()) == pytest.approx(1.0)
    best = model.most_probable(inputs={"x": numbers}, engine=BeamSearch(30))
    assert tuple(best["place"]) == every[int(logs.argmax())]
    drawn = model.sample(50, inputs={"x": [numbers, numbers[:2]]}, seed=0)["place"]
    assert drawn.shape == (50, 2, 3)
    assert (drawn[:, 1, 2] == -1).all()
    assert (drawn[:, 1, :2] < 2).all()


def test_long_data_is_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = wild(LanguageModel("ab", hidden=4))
    own = ["abba", "b", "", "ab"] * 3
    with torch.no_grad():
        whole = model.log_prob(own)
        monkeypatch.setattr("pgnn.models.autoregressive_model._STEPS", 11)
        torch.testing.assert_close(model.log_prob(own), whole)


def test_fit_is_maximum_likelihood() -> None:
    """Of a model that forgets nothing the best probabilities are shares of what was observed."""
    torch.manual_seed(0)
    model = LanguageModel("ab", hidden=8, ends=True).double()
    data = ["a"] * 6 + ["b"] * 3 + ["ab"] * 3
    model.fit(data, learner=pgnn.Gradient(max_iterations=200, tolerance=1e-3), seed=0,
              progress=False)  # fmt: skip
    torch.testing.assert_close(
        model.log_prob(["a", "b", "ab"]).exp(), torch.tensor([0.5, 0.25, 0.25]).double(),
        atol=0.01, rtol=0.0,
    )  # fmt: skip
    assert model.history["log_likelihood"] == pytest.approx(float(model.log_prob(data).sum()))


def refused() -> list[tuple[Any, type[Exception], str]]:
    model, ends = LanguageModel("ab", hidden=4), LanguageModel("ab", hidden=4, ends=True)
    pointer, numbers = PointerNetwork(1, places=5, hidden=4), torch.rand(3, 1)
    pair = SequenceToSequence("ab", hidden=4)
    evidence, broken = pgnn.EvidenceError, pgnn.ModelError
    return [
        (lambda: model.sample(2), evidence, "how many steps"),
        (lambda: model.query(engine=BeamSearch()), pgnn.Unsupported, "no marginals"),
        (lambda: model.log_prob(["a", None], engine=BeamSearch()), evidence, "row 0, step 1"),
        (lambda: model.log_prob("abc"), evidence, "no state 'c'"),
        (lambda: model.log_prob("ab", inputs={"x": 1}), evidence, "takes no inputs"),
        (
            lambda: model.sample(1, {"token": [None, "a"]}, engine=BeamSearch()),
            evidence,
            "only prefixes",
        ),
        (lambda: model.sample(1, {"token": ["a", "b"], "T": 1}), evidence, "'T' says 1"),
        (lambda: model.sample(1, {"T": 2.5}), evidence, "must be a length"),
        (lambda: ends.sample(1, {"T": 4}), evidence, "includes the end of sequences"),
        (lambda: model.fit([["a", None]]), pgnn.DataError, "row 0, step 1"),
        (lambda: model.factors(), pgnn.Unsupported, "no tables"),
        (lambda: pointer.log_prob([3], inputs={"x": numbers}), evidence, "has 3 steps"),
        (
            lambda: pointer.log_prob([0], inputs={"x": torch.rand(6, 1)}),
            evidence,
            "at most places=5",
        ),
        (lambda: pointer.log_prob([0], inputs={"x": torch.rand(3, 2)}), broken, r"\(1, 3, 2\)"),
        (lambda: pair.log_prob(["a"], inputs={"source": ["z"]}), evidence, "no state 'z'"),
        (lambda: pair.log_prob(["a"], inputs={"source": ["a", None]}), evidence, "row 0, step 1"),
        (lambda: pair.log_prob(["a"]), evidence, "needs the input 'source'"),
        (lambda: BeamSearch(0), broken, "width"),
        (lambda: LanguageModel("ab", cell="cnn"), broken, "lstm, gru, rnn"),
        (lambda: AutoregressiveModel([], Decoder(1, 2), 2), broken, "must have one head"),
        (lambda: model.query(engine=pgnn.PrefixSearch()), pgnn.Unsupported, "alignments"),
    ]


@pytest.mark.parametrize("number", range(21))
def test_wrong_questions(number: int) -> None:
    ask, kind, message = refused()[number]
    with pytest.raises(kind, match=message):
        ask()


def test_answers_leave_nothing_out() -> None:
    """Dropout is for learning alone; what is being trained stays in its mode."""
    torch.manual_seed(0)
    model = LanguageModel("ab", hidden=16, dropout=0.5)
    assert torch.equal(model.log_prob("abba"), model.log_prob("abba"))
    assert model.body.dropout.training
    rows = model.read("abba")
    assert not torch.equal(model.log_likelihood(rows)(), model.log_likelihood(rows)())


def test_broken_networks() -> None:
    model = LanguageModel("ab", hidden=4)
    with torch.no_grad():
        model.body.cells.weight_ih_l0.fill_(math.nan)
    for ask in (
        lambda: model.log_prob("ab"),
        lambda: model.sample(1, {"T": 3}),
        lambda: model.most_probable({"T": 3}),
    ):
        with pytest.raises(pgnn.ModelError, match="the network returns NaN"):
            ask()
    narrow = AutoregressiveModel(
        [CategoricalHead(Variable("x", 2, ("T",)), 3, 1)], Decoder(1, 4), 3
    )
    with pytest.raises(pgnn.ModelError, match=r"\(1, 3, 3\) and a state, got \(1, 3, 4\)"):
        narrow.log_prob([0, 1])


def test_large_questions_are_refused() -> None:
    model = LanguageModel(50, hidden=4)
    for ask in (
        lambda: model.sample(10**12, {"T": 3}),
        lambda: model.most_probable({"T": 3}, k=10**12),
        lambda: model.sample(1, {"T": 10**12}),
    ):
        with pytest.raises(pgnn.Intractable):
            ask()


def test_parts_of_the_caller(tmp_path: Path) -> None:
    class Counter(torch.nn.Module):
        """A state that counts steps, whatever is said."""

        def forward(self, features: Tensor, state: Any, memory: Any) -> tuple[Tensor, Tensor]:
            before = torch.zeros(len(features), 1) if state is None else state
            steps = before + torch.arange(1.0, 1.0 + features.shape[1])
            return steps[..., None], steps[:, -1:]

    torch.manual_seed(0)
    head = CategoricalHead(Variable("x", 2, ("T",)), 1, 1)
    model = AutoregressiveModel([head], Counter(), 1, ends=False)
    logs = head.log_probs(torch.arange(1.0, 4.0)[:, None], None)
    torch.testing.assert_close(model.log_prob([0, 1, 1]), logs[[0, 1, 2], [0, 1, 1]].sum())
    best = model.most_probable({"T": 3})
    assert best["x"].tolist() == logs.argmax(-1).tolist()
    with pytest.raises(pgnn.Unsupported, match="Counter"):
        model.save(tmp_path / "model")


def test_nothing_read_and_nothing_written() -> None:
    torch.manual_seed(0)
    assert LanguageModel("ab", hidden=4).sample(0, {"T": 3})["token"].shape == (0, 0)
    none = torch.zeros(0, 3, dtype=torch.int64)
    assert LanguageModel("ab", hidden=4).log_prob({"token": none}).shape == (0,)
    pair = SequenceToSequence("ab", hidden=4)
    both = pair.log_prob([[], ["a"]], inputs={"source": [[], ["b"]]})
    assert both.isfinite().all()
    assert LanguageModel("ab", hidden=4).log_prob([[], ["a"]])[0] == 0
    attention: Tensor = pair.body.attention(
        torch.zeros(1, 1, 4), pgnn.neural.Memory(torch.ones(1, 2, 4), torch.zeros(1, 2).bool())
    )
    assert attention.eq(0).all()
