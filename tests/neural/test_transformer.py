"""Transformers beside torch's own, step by step, and on words written backwards."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural
from pgnn.errors import ModelError
from pgnn.neural import Memory

SIZE = 8


def test_later_positions_are_earlier_ones_turned() -> None:
    places = neural.sinusoidal_positions(50, SIZE)
    for shift in (1, 7, 20):
        pairs = torch.arange(0, SIZE, 2).double() / SIZE
        angles = shift * 10_000.0**-pairs
        turn = torch.block_diag(
            *(torch.stack([a.cos(), a.sin(), -a.sin(), a.cos()]).reshape(2, 2) for a in angles)
        )
        torch.testing.assert_close(places[shift:], places[:-shift] @ turn.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(places[30:], neural.sinusoidal_positions(20, SIZE, first=30))


def reference(decoder: neural.TransformerDecoder) -> nn.TransformerDecoder:
    """Torch's decoder with the same weights."""
    layer = nn.TransformerDecoderLayer(SIZE, 2, 4 * SIZE, 0.0, batch_first=True, norm_first=True)
    torchs = nn.TransformerDecoder(layer, 2, nn.LayerNorm(SIZE)).double()
    for own, theirs in zip(decoder.layers, torchs.layers, strict=True):
        theirs.load_state_dict(own.state_dict())
    torchs.norm.load_state_dict(decoder.norm.state_dict())
    return torchs


@pytest.fixture
def decoder() -> neural.TransformerDecoder:
    torch.manual_seed(0)
    made = neural.TransformerDecoder(3, SIZE, layers=2, heads=2, memory=SIZE).double()
    for p in made.parameters():
        nn.init.normal_(p, std=0.5)
    return made


def memory(rows: int) -> Memory:
    inside = torch.arange(4) < torch.tensor([4, 2, 3])[:rows, None]
    return Memory(torch.randn(rows, 4, SIZE).double(), inside)


def test_the_decoder_is_torchs(decoder: neural.TransformerDecoder) -> None:
    x, looked = torch.randn(3, 5, 3).double(), memory(3)
    states, _ = decoder(x, None, looked)
    theirs = reference(decoder)(
        decoder.positions(decoder.first(x)), looked.values,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64),
        memory_key_padding_mask=~looked.inside,
    )  # fmt: skip
    torch.testing.assert_close(states, theirs, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3)])
def test_step_by_step(decoder: neural.TransformerDecoder, pieces: tuple[int, ...]) -> None:
    x, looked, state = torch.randn(3, 5, 3).double(), memory(3), None
    shown: list[Tensor] = []
    for piece in x.split(pieces, dim=1):
        out, state = decoder(piece, state, looked)
        shown.append(out)
    torch.testing.assert_close(torch.cat(shown, 1), decoder(x, None, looked)[0])


def test_a_row_without_input_is_one_that_looks_at_nothing(
    decoder: neural.TransformerDecoder,
) -> None:
    x, looked = torch.randn(2, 5, 3).double(), memory(2)
    none = looked._replace(inside=torch.zeros(2, 4, dtype=torch.bool))
    empty = Memory(torch.zeros(2, 0, SIZE).double(), torch.zeros(2, 0, dtype=torch.bool))
    torch.testing.assert_close(decoder(x, None, none)[0], decoder(x, None, empty)[0])


def test_the_encoder_does_not_look_beyond_the_ends() -> None:
    torch.manual_seed(0)
    encoder = neural.TransformerEncoder(5, SIZE, tokens=True)
    words = torch.tensor([[1, 2, 0, 0], [1, 2, 4, 4], [3, 3, 3, 3]])
    lengths = torch.tensor([2, 2, 0])
    values, inside = encoder(words, lengths)
    torch.testing.assert_close(values[0, :2], values[1, :2])
    torch.testing.assert_close(values[:1, :2], encoder(words[:1, :2], lengths[:1]).values)
    assert values.isfinite().all()
    assert inside.sum(1).tolist() == [2, 2, 0]


def word_model(ends: bool) -> pgnn.SequenceToSequence:
    torch.manual_seed(0)
    encoder = neural.TransformerEncoder(2, SIZE, tokens=True, layers=1, heads=2)
    decoder = neural.TransformerDecoder(SIZE, SIZE, layers=1, heads=2, memory=SIZE)
    return pgnn.SequenceToSequence(
        "ab", hidden=SIZE, encoder=encoder, decoder=decoder, ends=ends
    ).double()


def test_probabilities_of_written_words_sum_to_one(tmp_path: Path) -> None:
    model = word_model(ends=False)
    words = [[*w] for w in itertools.product("ab", repeat=3)]
    source = {"source": [["a", "b"]] * len(words)}
    logs = model.log_prob(words, inputs=source).detach()
    assert float(logs.exp().sum()) == pytest.approx(1.0)
    best = model.most_probable({"T": 3}, inputs={"source": ["a", "b"]})
    assert float(best.log_prob) == pytest.approx(float(logs.max()))
    model.save(tmp_path / "model")
    torch.testing.assert_close(
        pgnn.load(tmp_path / "model").log_prob(words, inputs=source).detach(), logs
    )


def test_a_language_model_of_attention(tmp_path: Path) -> None:
    body = neural.TransformerDecoder(4, SIZE, layers=1, heads=2)
    model = pgnn.LanguageModel("ab", hidden=SIZE, embedding=4, body=body).double()
    texts = ["".join(t) for t in itertools.product("ab", repeat=4)]
    logs = model.log_prob(texts).detach()
    assert float(logs.exp().sum()) == pytest.approx(1.0)
    assert model.sample(3, {"T": 4}, seed=0)["token"].shape == (3, 4)
    model.save(tmp_path / "model")
    torch.testing.assert_close(pgnn.load(tmp_path / "model").log_prob(texts).detach(), logs)


def test_words_are_reversed() -> None:
    """Words of three letters out of six; those that are asked about were not learned from."""
    letters = "abcd"
    words = [[*w] for n in (2, 3) for w in itertools.product(letters, repeat=n)]
    torch.manual_seed(0)
    order = torch.randperm(len(words)).tolist()
    known, asked = [words[k] for k in order[:60]], [words[k] for k in order[60:]]
    model = pgnn.SequenceToSequence(
        letters, hidden=32,
        encoder=neural.TransformerEncoder(len(letters), 32, tokens=True, layers=1),
        decoder=neural.TransformerDecoder(32, 32, layers=1, memory=32),
    )  # fmt: skip
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.005), batch_size=20, max_iterations=80
    )
    model.fit(
        [w[::-1] for w in known], inputs={"source": known}, learner=learner, seed=0, progress=False
    )
    best = model.most_probable(inputs={"source": asked})
    written = [[letters[k] for k in row if k >= 0] for row in best.codes.tolist()]
    right = sum(a == b[::-1] for a, b in zip(written, asked, strict=True)) / len(asked)
    assert right > 0.9


def test_a_body_of_a_conditional() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(neural.transformer(3, SIZE), neural.LastStep())
    kind = pgnn.Variable("kind", 4)
    network = nn.Sequential(body, nn.Linear(SIZE, 4))
    model = pgnn.BayesianNetwork([], [pgnn.Neural(kind, [], network, inputs=["x"])])
    x = torch.randn(5, 6, 3)
    assert model.query("kind", inputs={"x": x})["kind"].probs.shape == (5, 4)


def test_bad_sizes() -> None:
    with pytest.raises(ModelError, match="even"):
        neural.sinusoidal_positions(3, 5)
    with pytest.raises(ModelError, match="multiple of the 4 heads, got 6"):
        neural.TransformerEncoder(3, 6)
    with pytest.raises(ModelError, match="multiple of the 3 heads, got 8"):
        neural.TransformerDecoder(3, 8, heads=3)
