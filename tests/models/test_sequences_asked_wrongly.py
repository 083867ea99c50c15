"""Models of sequences that are declared, given data or asked wrongly say what is wrong."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

import pgnn
from pgnn import ConditionalRandomField, LanguageModel, PointerNetwork, Variable
from pgnn.models.autoregressive_model import AutoregressiveModel
from pgnn.neural import CategoricalHead, Decoder, Encoder, MixtureDensityHead

TOKEN, MOVE = Variable("x", 2, ("T",)), Variable("x", None, ("T", 2))
ATTRIBUTES: Any = {"attributes": [[["a"], ["b"]]]}


def head() -> CategoricalHead:
    return CategoricalHead(TOKEN, 4, 2)


def field() -> ConditionalRandomField:
    return ConditionalRandomField(["A", "B"], pgnn.NeuralScores(nn.Linear(2, 2)))


def made(heads: Any, body: Any) -> AutoregressiveModel:
    return AutoregressiveModel(heads, body, 4)


def scored(labels: Any, x: Any) -> Any:
    return field().log_prob(labels, inputs={"x": x})


def pointed(x: Any) -> Any:
    return PointerNetwork(1, places=3, hidden=4).sample(1, inputs={"x": x})


MODEL, EVIDENCE, DATA = pgnn.ModelError, pgnn.EvidenceError, pgnn.DataError
CALLS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "hidden 0": (lambda: LanguageModel("ab", hidden=0), MODEL, "hidden"),
    "hidden 2.5": (lambda: LanguageModel("ab", hidden=2.5), MODEL, "hidden"),  # type: ignore[arg-type]
    "layers 0": (lambda: LanguageModel("ab", layers=0), MODEL, "layers"),
    "dropout": (lambda: LanguageModel("ab", dropout=math.nan), MODEL, "dropout"),
    "embedding": (lambda: LanguageModel("ab", embedding=0), MODEL, "width"),
    "no size": (lambda: pgnn.SequenceToSequence("ab", hidden=0), MODEL, "hidden"),
    "no inputs": (lambda: Encoder(0, 4), MODEL, "inputs"),
    "no components": (lambda: MixtureDensityHead(MOVE, 4, 0), MODEL, "components"),
    "density of states": (lambda: MixtureDensityHead(TOKEN, 4, 2), MODEL, "CategoricalHead"),
    "no axis": (lambda: CategoricalHead(Variable("x", 2), 4, 2), MODEL, "a value at each step"),
    "no head": (lambda: made([nn.Linear(1, 1)], Decoder(2, 4)), MODEL, "OutputHead"),
    "no body": (lambda: made([head()], None), MODEL, "torch modules"),
    "other width": (
        lambda: made([head()], Decoder(3, 4)).log_prob([0, 1]),
        MODEL, r"the body fails for arguments of \(1, 3, 2\)",
    ),
    "whole numbers": (
        lambda: pointed(torch.ones(3, 1).long()),
        MODEL, "1 real features at each step",
    ),
    "ragged mask": (lambda: ConditionalRandomField(2, mask=[[1], [0, 0]]), MODEL, "rectangular"),
    "numbers of chunks": (lambda: pgnn.bio_mask([0, 1]), MODEL, "strings such as 'B-NP'"),  # type: ignore[list-item]
    "forbidden labels": (
        lambda: ConditionalRandomField(["A", "B"], mask=[[1, 0], [1, 1]]).fit(
            [["A", "B"]], inputs=ATTRIBUTES, progress=False),
        DATA, "'B' follows 'A' in row 0, step 1",
    ),
    "forbidden segments": (
        lambda: pgnn.SemiMarkovField(["A", "B"], mask=[[1, 0], [1, 1]]).fit(
            [["A", "B"]], inputs=ATTRIBUTES, progress=False),
        DATA, "'B' follows 'A' in row 0, step 1",
    ),
    "steps of two shapes": (
        lambda: scored([["A"], ["B"]], [np.zeros((1, 2)), np.zeros((1, 3))]),
        EVIDENCE, "the same shape",
    ),
    "other numbers": (
        lambda: scored([["A"], ["B"]], np.zeros((2, 1, 3))),
        MODEL, r"network of 'x' fails for arguments of \(2, 1, 3\)",
    ),
    "text": (lambda: scored(["A"], "abc"), EVIDENCE, "array of numbers"),
    "nothing": (lambda: scored(["A"], None), EVIDENCE, "array of numbers"),
    "no input": (lambda: pgnn.CTC("ab").decode(), EVIDENCE, r"needs the input 'x'; give inputs="),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_told(name: str) -> None:
    call, kind, message = CALLS[name]
    with pytest.raises(kind, match=message):
        call()


def test_where_no_labels_are_possible_their_log_probability_is_minus_infinity() -> None:
    from pgnn.inference.chains.label_likelihood import LabelLikelihood

    likelihood = LabelLikelihood(torch.tensor([2, 1]), torch.tensor([0, 1, 1]))
    barred = torch.full((2, 2), -torch.inf)
    for scores in (likelihood, likelihood.by_torch):
        logs = scores(torch.zeros(3, 2), torch.zeros(2), barred)
        assert logs.tolist() == [-math.inf, pytest.approx(-math.log(2))]


def test_scalars_over_time_have_densities() -> None:
    scalar = MixtureDensityHead(Variable("x", None, ("T",)), 4, 2)
    model = AutoregressiveModel([scalar], Decoder(1, 4), 4)
    assert model.log_prob({"x": [0.1, 0.2]}).isfinite()
    assert model.sample(2, {"x": [0.1]}, seed=0)["x"][:, 0].tolist() == pytest.approx([0.1, 0.1])


def test_texts_are_sequences_of_characters() -> None:
    torch.manual_seed(0)
    pair = pgnn.SequenceToSequence("ab", hidden=4)
    texts = pair.log_prob(["ab", "a"], inputs={"source": ["ba", "a"]})
    lists = pair.log_prob([["a", "b"], ["a"]], inputs={"source": [["b", "a"], ["a"]]})
    assert torch.equal(texts, lists)
    one = pair.log_prob("ab", inputs={"source": "ba"})
    assert float(one.detach()) == pytest.approx(float(texts[0].detach()))


@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Series, pl.Series])
def test_containers_of_strings_are_read_alike(container: Callable[[list[str]], Any]) -> None:
    torch.manual_seed(0)
    model = LanguageModel("ab", hidden=4, ends=True)
    for texts, lists in ((["ab", "b"], [["a", "b"], ["b"]]), (["b", "a"], ["b", "a"])):
        expected = model.log_prob(lists)
        assert torch.equal(model.log_prob(container(texts)), expected)
        assert torch.equal(model.log_prob({"token": container(texts)}), expected)
        assert torch.equal(model.log_prob(pgnn.observed(container(texts))), expected)
    assert model.log_prob(["a", "b"]).shape == ()  # strings each of which is a state: one sequence
    assert model.log_prob(["", "b"]).shape == (2,)


def spelling() -> pgnn.HiddenMarkovModel:
    y = pgnn.Tabular(Variable("y", ["a", "b"]), [Variable("state", 2)], [[0.9, 0.1], [0.2, 0.8]])
    return pgnn.HiddenMarkovModel(2, {"y": y}, [0.3, 0.7], [[0.6, 0.4], [0.1, 0.9]])


def test_texts_are_sequences_in_every_family() -> None:
    hidden = spelling()
    assert torch.equal(hidden.log_prob(["ab", "b"]), hidden.log_prob([["a", "b"], ["b"]]))
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    spoken = pgnn.CTC("ab")
    texts, lists = ["ab", "b"], [["a", "b"], ["b"]]
    assert torch.equal(
        spoken.log_prob(texts, inputs={"x": x}), spoken.log_prob(lists, inputs={"x": x})
    )
    assert spoken.log_prob("ab", inputs={"x": x[0]}).shape == ()
    tagger = ConditionalRandomField(["A", "B"], pgnn.NeuralScores(nn.Linear(3, 2)))
    assert torch.equal(
        tagger.log_prob(["AB", "B"], inputs={"x": [x[0, :2], x[1, :1]]}),
        tagger.log_prob([["A", "B"], ["B"]], inputs={"x": [x[0, :2], x[1, :1]]}),
    )


def test_strings_that_are_no_states_are_missing_if_one_says_so() -> None:
    hidden = spelling()
    rows = pgnn.observed(["a", "zz"], unknown="missing")
    assert float(hidden.log_prob(rows)) == pytest.approx(float(hidden.log_prob(["a", None])))


@pytest.mark.parametrize("as_container", [torch.as_tensor, np.asarray])
def test_arrays_tell_their_steps_where_nothing_else_does(
    as_container: Callable[[Any], Any],
) -> None:
    tagger, x = field(), torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0))
    batch, listed = {"x": as_container(x)}, {"x": [x[0], x[1]]}
    lone = {"x": as_container(x[0])}
    assert torch.equal(tagger.decode(inputs=batch)["label"], tagger.decode(inputs=listed)["label"])
    expected = tagger.smooth(inputs=listed)["label"].probs
    assert torch.equal(tagger.smooth(inputs=batch)["label"].probs, expected)
    assert torch.allclose(tagger.smooth(inputs=lone)["label"].probs, expected[0])
    assert tagger.sample(3, inputs=batch, seed=0)["label"].shape == (3, 2, 4)
    assert tagger.decode(inputs=batch, lengths=[4, 2])["label"].tolist()[1][2:] == [-1, -1]
    assert tagger.smooth({"T": 4}, inputs=lone)["label"].probs.shape == (4, 2)
    symbols = ConditionalRandomField(2, pgnn.NeuralScores(nn.Embedding(5, 2)))
    for values, shape in (([1, 4, 2], (3,)), ([[1, 4, 2]], (1, 3))):
        assert np.shape(symbols.decode(inputs={"x": as_container(values)})["label"]) == shape
