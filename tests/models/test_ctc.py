"""Labels that steps say: every verb beside enumeration of all paths."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import CTC, PrefixSearch

Labels = tuple[str, ...]


def enumerated(scores: Tensor) -> dict[Labels, float]:
    """The probability of every sequence of labels, by all paths."""
    probs = scores.softmax(-1).numpy()
    total: dict[Labels, float] = {}
    for path in itertools.product(range(probs.shape[1]), repeat=len(probs)):
        z = tuple("ab"[s - 1] for k, s in enumerate(path) if s and (k == 0 or s != path[k - 1]))
        total[z] = total.get(z, 0.0) + float(np.prod(probs[range(len(path)), path]))
    return total


@pytest.fixture
def scores() -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return 2 * torch.randn(4, 5, 3, dtype=torch.float64, generator=rng)


@pytest.fixture
def model() -> CTC:
    return CTC(["a", "b"])


def test_log_prob(model: CTC, scores: Tensor) -> None:
    for row in scores:
        for z, p in enumerated(row).items():
            assert math.isclose(model.log_prob(list(z), inputs={"x": row}).exp(), p, rel_tol=1e-9)
    labels = [["a"], [], ["b", "b"], ["a", "b", "a"]]
    together = model.log_prob(labels, inputs={"x": scores})
    alone = [model.log_prob(z, inputs={"x": x}) for z, x in zip(labels, scores, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_ragged_batches(model: CTC, scores: Tensor) -> None:
    labels, steps = [["a"], ["b"], [], ["a", "a"]], [5, 1, 0, 2]
    cut = [x[:t] for x, t in zip(scores, steps, strict=True)]
    expected = [enumerated(x).get(tuple(z), 0.0) for x, z in zip(cut, labels, strict=True)]
    padded = model.log_prob(labels, inputs={"x": scores, "T": steps}).exp()
    np.testing.assert_allclose(padded, expected, atol=1e-12)
    np.testing.assert_allclose(
        model.log_prob(labels, inputs={"x": cut}).exp(), expected, atol=1e-12
    )


@pytest.mark.parametrize("k", [1, 4])
def test_decode_finds_the_best(model: CTC, scores: Tensor, k: int) -> None:
    found = model.decode(inputs={"x": scores}, k=k)
    codes = found.codes.reshape(4, k, -1).tolist()
    log_probs = found.log_prob.reshape(4, k)
    for row, own, logs in zip(scores, codes, log_probs, strict=True):
        best = sorted(enumerated(row).items(), key=lambda pair: -pair[1])[:k]
        assert [tuple("ab"[c] for c in z if c >= 0) for z in own] == [z for z, _ in best]
        np.testing.assert_allclose(logs.exp(), [p for _, p in best])
    if k == 1:
        assert isinstance(found, pgnn.Assignment)
        torch.testing.assert_close(found.upper_bound, found.log_prob)


def test_a_narrow_search_bounds_what_it_lost(model: CTC, scores: Tensor) -> None:
    scores = 0.2 * scores
    best = torch.tensor([max(enumerated(row).values()) for row in scores], dtype=torch.float64)
    for width in (0, 1, 2, 50):
        found = model.decode(inputs={"x": scores}, engine=PrefixSearch(width))
        assert isinstance(found, pgnn.Assignment)
        assert found.upper_bound is not None
        assert (found.log_prob.exp() <= best + 1e-12).all()
        assert (found.upper_bound.exp() >= best - 1e-12).all()
    assert torch.equal(found.upper_bound, found.log_prob)


def test_best_path_and_forced_alignment(model: CTC, scores: Tensor) -> None:
    free = model.most_probable(inputs={"x": scores})
    symbols = scores.argmax(-1)
    assert torch.equal(free["alignment"], symbols)
    torch.testing.assert_close(free.log_prob, scores.log_softmax(-1).amax(-1).sum(-1))
    forced = model.most_probable(["b", "a"], "alignment", inputs={"x": scores[0]})
    spoken = [s for s in dict.fromkeys(forced["alignment"]) if s != "-"]
    assert spoken == ["b", "a"]


def test_query_tells_which_steps_say_the_labels(model: CTC, scores: Tensor) -> None:
    labels = [["a"], ["b"], [], ["a", "b"]]
    posterior = model.query("alignment", labels, inputs={"x": scores})
    probs = posterior["alignment"].probs
    torch.testing.assert_close(probs.sum(-1), torch.ones(4, 5, dtype=torch.float64))
    assert (probs[2, :, 0] == 1).all()
    assert (probs[0, :, 2] == 0).all()
    torch.testing.assert_close(posterior.log_evidence, model.log_prob(labels, inputs={"x": scores}))
    free = model.query("alignment", inputs={"x": scores})["alignment"].probs
    torch.testing.assert_close(free, scores.softmax(-1))


def test_sample(model: CTC, scores: Tensor) -> None:
    drawn = model.sample(3000, inputs={"x": scores[0]}, seed=1)
    counts: dict[Labels, int] = {}
    for row in drawn["label"].tolist():
        z = tuple("ab"[c] for c in row if c >= 0)
        counts[z] = counts.get(z, 0) + 1
    for z, p in enumerated(scores[0]).items():  # five standard deviations
        assert abs(counts.get(z, 0) / 3000 - p) < 5 * math.sqrt(p * (1 - p) / 3000) + 1e-9
    again = model.sample(3000, inputs={"x": scores[0]}, seed=1)
    assert torch.equal(drawn.codes, again.codes)
    given = model.sample(5, [["a"]] * 4, inputs={"x": scores}, seed=0)
    assert given["label"].shape == (5, 4, 1)
    assert given["alignment"].shape == (5, 4, 5)
    assert (given["alignment"] != 2).all()
    assert (given["alignment"] == 1).any(-1).all()


def test_gradients_of_scores_sum_to_zero_over_symbols(model: CTC, scores: Tensor) -> None:
    scores.requires_grad_()
    labels = [["a", "b"], [], ["b", "b"], ["a", "a", "a", "a"]]
    log_probs = model.log_prob(labels, inputs={"x": scores})
    assert log_probs[3] == -math.inf
    (gradient,) = torch.autograd.grad(log_probs.sum(), scores)
    assert gradient.sum(-1).abs().max() < 1e-12
    assert gradient[3].eq(0).all()
    assert gradient[:3].ne(0).any()


class Net(nn.Module):
    """Scores from two neighbours and the step itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


def sounds(number: int) -> tuple[list[list[str]], list[Tensor]]:
    rng = np.random.default_rng(number)
    labels = [["ab"[k] for k in rng.integers(0, 2, rng.integers(0, 4))] for _ in range(number)]
    inputs = []
    for z in labels:
        steps = [2]
        for label in z:
            steps += ["ab".index(label)] * int(rng.integers(1, 4)) + [2]
        inputs.append(torch.eye(3)[steps])
    return labels, inputs


def test_fit_learns_without_alignments(tmp_path: Path) -> None:
    labels, inputs = sounds(60)
    torch.manual_seed(0)
    model = CTC(["a", "b"], Net())
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.05), batch_size=20,
                            max_iterations=40)  # fmt: skip
    model.fit(labels, inputs={"x": inputs}, learner=learner, seed=0, progress=False)
    found = model.decode(inputs={"x": inputs})
    assert [["ab"[c] for c in z if c >= 0] for z in found.codes.tolist()] == labels
    assert not model.log_prob(labels, inputs={"x": inputs}).requires_grad
    model.save(tmp_path / "model")
    again = pgnn.load(tmp_path / "model", modules={"x": Net()})
    torch.testing.assert_close(
        again.log_prob(labels, inputs={"x": inputs}), model.log_prob(labels, inputs={"x": inputs})
    )


def test_labels_that_cannot_be_said(model: CTC, scores: Tensor) -> None:
    labels = [["a"], ["a", "a", "a", "a"], ["b"], []]
    with pytest.raises(pgnn.ImpossibleEvidence, match=r"row 1: 4 labels need at least 7 steps"):
        model.query("alignment", labels, inputs={"x": scores})
    answered = model.query("alignment", labels, inputs={"x": scores}, errors="nan")
    assert answered["alignment"].probs.isnan().flatten(1).all(1).tolist() == [0, 1, 0, 0]
    with pytest.raises(pgnn.DataError, match=r"sequence 1, whose labels need 7 steps, .* has 5"):
        CTC(["a", "b"], Net()).fit(labels, inputs={"x": scores}, progress=False)


def test_nothing_to_say(model: CTC) -> None:
    assert model.decode(inputs={"x": torch.zeros(0, 4, 3)}).codes.shape == (0, 0)
    assert model.decode(inputs={"x": torch.zeros(2, 0, 3)}).codes.shape == (2, 0)
    assert model.sample(0, inputs={"x": torch.zeros(1, 2, 3)})["label"].shape == (0, 1, 0)
    assert model.query("alignment", [], inputs={"x": torch.zeros(0, 3)}).log_evidence == 0
    silent = torch.zeros(2, 3, 3)
    silent[1, 1] = -math.inf
    with pytest.raises(
        pgnn.ImpossibleEvidence, match=r"every symbol has probability zero \(first: row 1\)"
    ):
        model.decode(inputs={"x": silent})
    assert model.log_prob([["a"], ["a"]], inputs={"x": silent})[1] == -math.inf
    silent[1, 1, 0] = 0.0  # a blank
    assert model.decode(inputs={"x": silent}).log_prob.isfinite().all()


def test_wrong_questions(model: CTC, scores: Tensor) -> None:
    x = {"x": scores[0]}
    with pytest.raises(pgnn.ModelError, match=r"need 3 scores at each step, .* returns 2"):
        model.log_prob(["a"], inputs={"x": scores[0, :, :2]})
    with pytest.raises(pgnn.EvidenceError, match="no state 'c'"):
        model.log_prob(["c"], inputs=x)
    with pytest.raises(pgnn.EvidenceError, match="label 1 of row 0 is missing"):
        model.log_prob(["a", None], inputs=x)
    with pytest.raises(pgnn.EvidenceError, match="must be labels, got likelihoods"):
        model.log_prob({"label": pgnn.likelihood(np.full((2, 2), 0.5))}, inputs=x)
    with pytest.raises(pgnn.Unsupported, match="decode"):
        model.query("label", ["a"], inputs=x)
    with pytest.raises(pgnn.Unsupported, match="alignments such as CTC"):
        pgnn.BayesianNetwork([], {"a": [1.0]}, states={"a": 1}).query("a", engine=PrefixSearch())
    with pytest.raises(pgnn.ModelError, match="blank"):
        CTC(["-", "a"])
    with pytest.raises(pgnn.DataError, match="all sequences must have labels"):
        model.fit(None, inputs=x)
    broken = nn.Linear(3, 3)
    nn.init.constant_(broken.bias, math.nan)
    with pytest.raises(pgnn.ModelError, match="nan"):
        CTC(["a", "b"], broken).log_prob(["a"], inputs={"x": scores[0].float()})


def test_input_as_scores_is_loaded_without_modules(tmp_path: Path) -> None:
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    model = pgnn.CTC("ab", input_name="sound")
    model.save(tmp_path / "ctc.pgnn")
    loaded = pgnn.load(tmp_path / "ctc.pgnn")
    expected = model.log_prob(["a"], inputs={"sound": scores})
    torch.testing.assert_close(loaded.log_prob(["a"], inputs={"sound": scores}), expected)
