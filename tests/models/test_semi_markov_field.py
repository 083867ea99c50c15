"""Fields of segments, against enumeration."""

import itertools
import math
from typing import Any

import pytest
import torch

import pgnn
from pgnn.errors import DataError, ModelError, Unsupported

ROWS = [list("aabbbc"), list("bbaa"), list("c")]
LABELS = [list("xxyyyz"), list("yyxx"), list("z")]
INPUTS = {"attributes": [[[f"w={w}"] for w in row] for row in ROWS]}


@pytest.fixture(scope="module")
def field() -> pgnn.SemiMarkovField:
    made = pgnn.SemiMarkovField(longest=4, ends=True)
    return made.fit(LABELS, inputs=INPUTS, learner=pgnn.Gradient(l2=0.05), progress=False)


def enumerated(made: pgnn.SemiMarkovField, row: int) -> dict[tuple[int, ...], float]:
    """Probabilities of all labellings, by the formula."""
    part: Any = made.scores[0]
    pairs = zip(part.pair_names.tolist(), part.pair_labels.tolist(), strict=True)
    weights = {
        (part.names[a], k): w for (a, k), w in zip(pairs, part.weights.tolist(), strict=True)
    }
    moves, lasts = made.transitions.tolist(), made.lasts.tolist()
    scores = {}
    for z in itertools.product(range(3), repeat=len(ROWS[row])):
        segments = [(k, len(list(run))) for k, run in itertools.groupby(z)]
        if max(d for _, d in segments) > 4:
            continue
        total = made.first[z[0]].item() + made.last[z[-1]].item()
        total += sum(lasts[k][d - 1] for k, d in segments)
        total += sum(moves[a][b] for (a, _), (b, _) in itertools.pairwise(segments))
        total += sum(weights.get((f"w={w}", k), 0.0) for w, k in zip(ROWS[row], z, strict=True))
        scores[z] = math.exp(total)
    whole = sum(scores.values())
    return {z: s / whole for z, s in scores.items()}


def test_every_verb_equals_enumeration(field: pgnn.SemiMarkovField) -> None:
    log_prob = field.log_prob(LABELS, inputs=INPUTS)
    best = field.decode(inputs=INPUTS)["label"]
    marginals = field.smooth(inputs=INPUTS)["label"].probs
    for row, labels in enumerate(LABELS):
        probs, path = enumerated(field, row), tuple("xyz".index(x) for x in labels)
        assert float(log_prob[row]) == pytest.approx(math.log(probs[path]), abs=1e-8)
        top = max(probs, key=probs.__getitem__)
        assert best[row, : len(labels)].tolist() == list(top)
        for t, k in itertools.product(range(len(labels)), range(3)):
            expected = sum(p for z, p in probs.items() if z[t] == k)
            assert float(marginals[row, t, k]) == pytest.approx(expected, abs=1e-8)


def test_missing_labels_are_summed_out(field: pgnn.SemiMarkovField) -> None:
    found = field.log_prob([["x", None, None, "y", None, "z"], [None] * 4, ["z"]], inputs=INPUTS)
    total = sum(p for z, p in enumerated(field, 0).items() if (z[0], z[3], z[5]) == (0, 1, 2))
    assert float(found[0]) == pytest.approx(math.log(total), abs=1e-8)
    assert float(found[1]) == pytest.approx(0.0, abs=1e-8)


def test_it_learns_how_long_segments_last(field: pgnn.SemiMarkovField) -> None:
    assert field.lasts[1, 2] > field.lasts[1, 0]
    slope = field.lasts.detach()
    assert bool((slope.abs().sum(1) > 0).all())
    learner = pgnn.Perceptron(max_iterations=20)
    other = pgnn.SemiMarkovField(longest=4).fit(LABELS, inputs=INPUTS, learner=learner, seed=0)
    assert other.history["converged"]
    best = other.decode(inputs=INPUTS)["label"]
    rows = [["xyz"[k] for k in b[: len(z)]] for b, z in zip(best, LABELS, strict=True)]
    assert rows == LABELS


def test_files_and_wrong_calls(field: pgnn.SemiMarkovField, tmp_path: Any) -> None:
    field.save(tmp_path / "field")
    again = pgnn.load(tmp_path / "field")
    torch.testing.assert_close(
        again.log_prob(LABELS, inputs=INPUTS), field.log_prob(LABELS, inputs=INPUTS)
    )
    with pytest.raises(ModelError, match="longest"):
        pgnn.SemiMarkovField(longest=0)
    with pytest.raises(Unsupported, match="one best segmentation"):
        field.decode(inputs=INPUTS, k=2)
    with pytest.raises(Unsupported, match="no pseudo-likelihood"):
        pgnn.SemiMarkovField().fit(LABELS, inputs=INPUTS, learner=pgnn.PseudoLikelihood())
    with pytest.raises(DataError, match="label 'y' lasts 3 steps in row 0, from step 2, but"):
        pgnn.SemiMarkovField(longest=2).fit(LABELS, inputs=INPUTS, progress=False)
    short = pgnn.SemiMarkovField([*"xy"], longest=1, mask=[[0, 1], [0, 0]])
    words = {"attributes": [[["w"]] * 2, [["w"]] * 3]}
    with pytest.raises(DataError, match=r"labels of row 1 .* at most 1 steps"):
        short.fit([["x", None], [None, None, None]], inputs=words, progress=False)
