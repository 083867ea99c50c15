"""A text as one variable of a network, beside all texts and Bayes' rule."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural
from pgnn.errors import EvidenceError, ImpossibleEvidence, ModelError

TOKENS, STEPS = 3, 3
TEXTS = torch.tensor([*itertools.product(range(TOKENS), repeat=STEPS)], dtype=torch.float64)
NAN = torch.nan


def conditional(body: nn.Module | None = None) -> pgnn.Neural:
    torch.manual_seed(0)
    topic, text = pgnn.Variable("topic", 2), pgnn.Variable("text", shape=(STEPS,))
    head = neural.SequenceHead((STEPS,), TOKENS, context=4, hidden=8, body=body)
    made = pgnn.Neural(text, [topic], nn.Linear(2, 4), head=head).double()
    for p in made.parameters():
        nn.init.normal_(p)
    return made


@pytest.fixture(params=["recurrent", "attention"])
def likelihood(request: pytest.FixtureRequest) -> pgnn.Neural:
    body = neural.TransformerDecoder(20, 8, layers=1, heads=2)
    return conditional(None if request.param == "recurrent" else body)


def table(likelihood: pgnn.Neural, texts: Tensor) -> Tensor:
    """``(N, 2)`` log probabilities of texts given each topic."""
    return likelihood.factor({"text": texts}).log_values.detach()


def test_texts_of_each_topic_sum_to_one(likelihood: pgnn.Neural) -> None:
    logs = table(likelihood, TEXTS)
    torch.testing.assert_close(logs.exp().sum(0), torch.ones(2).double())
    assert (logs[:, 0] - logs[:, 1]).abs().max() > 0.1


def test_missing_ends_are_summed_out(likelihood: pgnn.Neural) -> None:
    every = table(likelihood, TEXTS).exp()
    for known in range(STEPS):
        beginning = torch.full((1, STEPS), NAN).double()
        beginning[0, :known] = 2.0
        starts = (TEXTS[:, :known] == 2.0).all(1)
        torch.testing.assert_close(table(likelihood, beginning).exp()[0], every[starts].sum(0))


def test_draws_have_the_probabilities(likelihood: pgnn.Neural) -> None:
    """Within five standard errors of each text's share."""
    number = 4000
    torch.manual_seed(1)
    topics = torch.ones(number, dtype=torch.int64)
    drawn = likelihood.draw({"topic": topics}, rows=number)
    shares = (drawn[:, None] == TEXTS).all(-1).double().mean(0)
    expected = table(likelihood, TEXTS)[:, 1].exp()
    assert ((shares - expected).abs() < 5 * (expected / number).sqrt() + 1e-3).all()


def network() -> pgnn.BayesianNetwork:
    torch.manual_seed(0)
    topic, image = pgnn.Variable("topic", 2), pgnn.Variable("image", shape=(1, 4, 4))
    decoder = nn.Sequential(
        nn.Linear(2, 8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 1, 2, stride=2)
    )
    picture = pgnn.Neural(image, [topic], decoder, head=pgnn.BernoulliHead((1, 4, 4)))
    return pgnn.BayesianNetwork(
        [("season", "topic"), ("topic", "image"), ("topic", "text"), ("topic", "sold")],
        {"season": [0.3, 0.7], "topic": [[0.8, 0.2], [0.4, 0.6]], "image": picture.double(),
         "text": conditional(), "sold": [[0.9, 0.1], [0.5, 0.5]]},
        states={"season": 2, "topic": 2, "sold": 2},
    )  # fmt: skip


def test_the_discrete_rest_is_exact() -> None:
    """Posterior and evidence of a picture, a text and a table, by sums written out."""
    model = network()
    image = (torch.rand(2, 1, 4, 4) < 0.5).double()
    text = torch.tensor([[0.0, 1.0, 2.0], [2.0, NAN, NAN]]).double()
    each = [
        model.conditionals[name].factor({name: x}).log_values.exp().detach()
        for name, x in (("image", image), ("text", text))
    ]
    season, topic = torch.tensor([0.3, 0.7]), torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    sold = torch.tensor([[0.9, 0.1], [0.5, 0.5]])[:, 1]
    joint = season[:, None] * topic * (each[0] * each[1] * sold)[:, None]  # (B, season, topic)
    posterior = model.query(None, {"image": image, "text": text, "sold": 1})
    for name, axis in (("topic", 1), ("season", 2)):
        expected = joint.sum(axis) / joint.sum((1, 2))[:, None]
        torch.testing.assert_close(posterior[name].probs, expected)
    torch.testing.assert_close(posterior.log_evidence, joint.sum((1, 2)).log())


def test_parts_learn_together_from_rows_with_holes(tmp_path: Path) -> None:
    """The gradient of every part is that of the log evidence written out; learning raises it."""
    model = network()
    image = (torch.rand(6, 1, 4, 4) < 0.5).double()
    data = {"topic": [0, None, 1, None, 0, 1], "season": [0, 1, None, None, 1, 0], "sold": [1] * 6,
            "image": image, "text": TEXTS[:6]}  # fmt: skip
    before = model.log_prob(data)
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.02), max_iterations=10)
    model.fit(data, learner=learner, seed=0, progress=False)
    assert float((model.log_prob(data) - before).sum().detach()) > 1.0
    model.save(tmp_path / "model")
    module = {n: model.conditionals[n].module for n in ("image", "text")}
    loaded = pgnn.load(tmp_path / "model", modules=module)
    torch.testing.assert_close(loaded.log_prob(data), model.log_prob(data))


def test_bad_texts() -> None:
    likelihood = conditional()
    with pytest.raises(EvidenceError, match="only tokens at the end of a sequence"):
        table(likelihood, torch.tensor([[0.0, NAN, 1.0]]))
    for text in ([0.0, 0.5, 1.0], [0.0, 1.0, 7.0]):
        assert (table(likelihood, torch.tensor([text])) == -torch.inf).all()
        with pytest.raises(ImpossibleEvidence):
            network().query("topic", {"text": text})
    with pytest.raises(ModelError, match=r"\(T,\), got \(2, 3\)"):
        neural.SequenceHead((2, 3), 5, context=2)
    wrong = neural.SequenceHead((3,), 5, context=2)
    with pytest.raises(ModelError, match=r"\(rows, 2\), got \(4, 3\)"):
        wrong(torch.zeros(4, 3))
