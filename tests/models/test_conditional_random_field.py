"""Conditional random fields: against enumeration, and what users of sequence taggers expect."""

import copy
import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence

WORDS = [
    ["the", "dog", "barks"],
    ["a", "cat", "sleeps", "well"],
    ["the", "cat"],
    ["dog"],
]
TAGS = [["DET", "NOUN", "VERB"], ["DET", "NOUN", "VERB", "ADV"], ["DET", "NOUN"], ["NOUN"]]
INPUTS = {"attributes": [[[f"w={w}", f"end={w[-1]}"] for w in s] for s in WORDS]}
STATES = ("ADV", "DET", "NOUN", "VERB")


def tagger(**settings: Any) -> pgnn.ConditionalRandomField:
    field = pgnn.ConditionalRandomField(**settings)
    return field.fit(TAGS, inputs=INPUTS, progress=False)


@pytest.fixture(scope="module")
def fitted() -> pgnn.ConditionalRandomField:
    return tagger(ends=True)


def weights_by_name(field: pgnn.ConditionalRandomField) -> dict[tuple[str, int], float]:
    part: Any = field.scores[0]
    pairs = zip(part.pair_names.tolist(), part.pair_labels.tolist(), strict=True)
    return {(part.names[a], k): w for (a, k), w in zip(pairs, part.weights.tolist(), strict=True)}


def enumerated(field: pgnn.ConditionalRandomField, row: int) -> dict[tuple[int, ...], float]:
    """Probabilities of all labellings of a sentence, by the formula."""
    weights, moves = weights_by_name(field), field.moves().tolist()
    first = field.first.tolist() if field.ends else [0.0] * 4
    last = field.last.tolist() if field.ends else [0.0] * 4
    attributes = INPUTS["attributes"][row]
    scores = {}
    for path in itertools.product(range(4), repeat=len(attributes)):
        total = first[path[0]] + last[path[-1]]
        for step, k in zip(attributes, path, strict=True):
            total += sum(weights.get((a, k), 0.0) for a in step)
        total += sum(moves[a][b] for a, b in itertools.pairwise(path))
        scores[path] = math.exp(total)
    z = sum(scores.values())
    return {path: s / z for path, s in scores.items()}


def test_every_verb_equals_enumeration(fitted: pgnn.ConditionalRandomField) -> None:
    log_prob = fitted.log_prob(TAGS, inputs=INPUTS)
    best = fitted.decode(inputs=INPUTS)
    marginals = fitted.query(inputs=INPUTS)["label"].probs
    for row, tags in enumerate(TAGS):
        probs = enumerated(fitted, row)
        path = tuple(STATES.index(t) for t in tags)
        assert float(log_prob[row]) == pytest.approx(math.log(probs[path]), abs=1e-10)
        top = max(probs, key=probs.__getitem__)
        assert best["label"][row, : len(tags)].tolist() == list(top)
        for t, k in itertools.product(range(len(tags)), range(4)):
            expected = sum(p for path, p in probs.items() if path[t] == k)
            assert float(marginals[row, t, k]) == pytest.approx(expected, abs=1e-10)


def test_missing_labels_are_summed_out(fitted: pgnn.ConditionalRandomField) -> None:
    partial = [["DET", None, "VERB"], [None, "NOUN", None, None], [None, None], [None]]
    log_prob = fitted.log_prob(partial, inputs=INPUTS)
    for row, tags in enumerate(partial):
        known = {t: STATES.index(x) for t, x in enumerate(tags) if x is not None}
        total = sum(
            p
            for path, p in enumerated(fitted, row).items()
            if all(path[t] == k for t, k in known.items())
        )
        assert float(log_prob[row]) == pytest.approx(math.log(total), abs=1e-10)
    given = fitted.query(None, partial, inputs=INPUTS)["label"].probs
    assert given[0, 0].tolist() == pytest.approx([0, 1, 0, 0])


def test_the_unrolled_field_says_the_same(fitted: pgnn.ConditionalRandomField) -> None:
    one = {"attributes": INPUTS["attributes"][1]}
    observed = {"label": [None, "NOUN", None, None]}
    exact, twin = {}, pgnn.JunctionTree()
    exact = fitted.query(None, observed, inputs=one)
    slow = fitted.query(None, observed, inputs=one, engine=twin)
    torch.testing.assert_close(slow["label"].probs, exact["label"].probs)
    assert slow.engine == "JunctionTree"
    assert float(slow.log_evidence) == pytest.approx(float(exact.log_evidence))
    scores = [fitted.log_prob(TAGS[1], inputs=one, engine=e) for e in (None, twin)]
    assert float(scores[0]) == pytest.approx(float(scores[1]))
    k_best = [fitted.decode(inputs=one, engine=e, k=3) for e in (None, twin)]
    for fast, exhaustive in zip(*k_best, strict=True):
        assert fast["label"].tolist() == exhaustive["label"].tolist()
    with pytest.raises(Unsupported, match="sequences of equal length"):
        fitted.query(inputs=INPUTS, engine=twin)


def test_draws_have_the_posterior_frequencies(fitted: pgnn.ConditionalRandomField) -> None:
    one = {"attributes": INPUTS["attributes"][0]}
    draws = fitted.sample(4000, inputs=one, seed=1)["label"]
    probs = fitted.query(inputs=one)["label"].probs
    shares = nn.functional.one_hot(draws.long(), 4).double().mean(0)
    assert float((shares - probs).abs().max()) < 4 * math.sqrt(0.25 / 4000)
    assert fitted.sample(5, inputs=one, seed=1)["label"].equal(draws[:5]) or len(draws) == 4000


def test_at_the_optimum_the_field_expects_what_was_counted() -> None:
    field = tagger(observed_transitions=True)
    part: Any = field.scores[0]
    expected = np.zeros((len(part.names), 4))
    counted = np.zeros_like(expected)
    moves, moved = np.zeros((4, 4)), np.zeros((4, 4))
    for row, tags in enumerate(TAGS):
        path = [STATES.index(t) for t in tags]
        for labels, p in [*enumerated(field, row).items(), (tuple(path), None)]:
            table, pairs = (expected, moves) if p is not None else (counted, moved)
            for step, k in zip(INPUTS["attributes"][row], labels, strict=True):
                for a in step:
                    table[part.names.index(a), k] += 1.0 if p is None else p
            for a, b in itertools.pairwise(labels):
                pairs[a, b] += 1.0 if p is None else p
    at = (part.pair_names.numpy(), part.pair_labels.numpy())
    # the prior has the precision 2: gradients of the log-likelihood are twice the weights
    np.testing.assert_allclose((counted - expected)[at], 2 * part.weights.detach(), atol=2e-5)
    observed = moved > 0
    np.testing.assert_allclose(
        (moved - moves)[observed], 2 * field.transitions.detach().numpy()[observed], atol=2e-5
    )
    assert not field.transitions.detach().numpy()[~observed].any()


def test_partly_labelled_data_is_learned_from() -> None:
    partial = [["DET", None, "VERB"], TAGS[1], [None, None], ["NOUN"]]
    field = pgnn.ConditionalRandomField(STATES)
    field.fit(partial, inputs=INPUTS, learner=pgnn.Gradient(l2=0.1), progress=False)
    assert field.decode(inputs=INPUTS)["label"][0, 1] == STATES.index("NOUN")
    part: Any = field.scores[0]
    assert part.weights.numel() == 4 * len(part.names)


def test_weights_count_sequences() -> None:
    twice = [*TAGS, TAGS[1]]
    inputs = {"attributes": [*INPUTS["attributes"], INPUTS["attributes"][1]]}
    learner = pgnn.Gradient(l2=0.3)
    a = pgnn.ConditionalRandomField().fit(twice, inputs=inputs, learner=learner, progress=False)
    b = pgnn.ConditionalRandomField().fit(
        TAGS, inputs=INPUTS, weights=[1, 2, 1, 1], learner=learner, progress=False
    )
    ours, theirs = weights_by_name(a), weights_by_name(b)
    assert ours.keys() == theirs.keys()
    for pair, weight in ours.items():
        assert weight == pytest.approx(theirs[pair], abs=1e-4)


def test_a_best_labelling_has_a_score(fitted: pgnn.ConditionalRandomField) -> None:
    one = {"attributes": INPUTS["attributes"][0]}
    best, ranked = fitted.decode(inputs=one), fitted.decode(inputs=one, k=2)
    assert "log score" in str(best)
    assert "log probability" not in str(best) + str(ranked)
    assert "log_score=" in repr(ranked[0])
    coin = pgnn.HiddenMarkovModel(2, {"y": 2}, initial=[0.5, 0.5])
    assert not coin.unroll(2).most_probable().is_score


def test_masks_forbid_transitions() -> None:
    labels = ["B", "I", "O"]
    mask = pgnn.bio_mask(labels)
    assert mask.tolist() == [[True, True, True], [True, True, True], [True, False, True]]
    field = pgnn.ConditionalRandomField(labels, mask=mask)
    inputs = {"attributes": [[["x"], ["y"], ["y"]]]}
    field.fit([["O", "B", "I"]], inputs=inputs, progress=False)
    assert float(field.log_prob([["O", "I", "I"]], inputs=inputs)) == -math.inf
    with pytest.raises(DataError, match="'I' follows 'O' in row 0, step 1"):
        field.fit([["O", "I", "I"]], inputs=inputs, progress=False)
    assert pgnn.bio_mask(["I-a", "B-b"]).tolist() == [[True, True], [False, True]]


def test_a_mask_that_allows_no_transition() -> None:
    field = pgnn.ConditionalRandomField(["a", "b"], mask=np.zeros((2, 2)))
    inputs = {"attributes": [[["x"]], [["y"]], [["x"], ["y"]]]}
    with pytest.raises(DataError, match="'b' follows 'a'"):
        field.fit([["a"], ["b"], ["a", "b"]], inputs=inputs, progress=False)
    one = {"attributes": inputs["attributes"][:2]}
    field.fit([["a"], ["b"]], inputs=one, progress=False)
    best = field.decode(inputs=inputs, errors="nan")["label"]
    assert best.tolist() == [[0, -1], [1, -1], [-1, -1]]
    assert float(field.log_prob([["a", "b"]], inputs={"attributes": [[["x"], ["y"]]]})) == -math.inf


class Recurrent(nn.Module):
    """A bidirectional network, which must not read the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        steps, _ = self.cells(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(
            steps, batch_first=True, total_length=x.shape[1]
        )
        return self.out(padded)


def test_attributes_and_a_network_together(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    inputs = {**INPUTS, "x": [rng.normal(size=(len(s), 3)).astype(np.float32) for s in WORDS]}
    parts = [pgnn.AttributeScores("attributes"), pgnn.NeuralScores(Recurrent(), "x", True)]
    field = pgnn.ConditionalRandomField(STATES, parts)
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05), batch_size=2, max_iterations=15
    )
    field.fit(TAGS, inputs=inputs, learner=learner, seed=0, progress=False)
    trace = field.history["trace"]["mean_log_likelihood"]
    assert trace[-1] > trace[0]
    together = field.log_prob(TAGS, inputs=inputs)
    for row, tags in enumerate(TAGS):  # alone and in a batch: nothing reads the padding
        one = {n: x[row] for n, x in inputs.items()}
        assert float(field.log_prob(tags, inputs=one)) == pytest.approx(
            float(together[row]), abs=1e-5
        )
    field.save(tmp_path / "field")
    again = pgnn.load(tmp_path / "field", modules={"x": Recurrent()})
    assert again.log_prob(TAGS, inputs=inputs).equal(together)


def test_dropout_of_attributes_keeps_the_mean(fitted: pgnn.ConditionalRandomField) -> None:
    part: Any = copy.deepcopy(fitted.scores[0])
    rows = SequenceEvidence.of(fitted, TAGS, INPUTS)
    covariates = fitted.covariates(INPUTS, rows)
    whole = part.scores(covariates, rows.inside).detach()
    part.dropout = 0.4
    assert part.scores(covariates, rows.inside).equal(whole)
    score = part.train().scorer(covariates, rows.inside)
    torch.manual_seed(0)
    draws = torch.stack([score().detach() for _ in range(2000)])
    assert draws.std(0).max() > 0.0
    error = draws.std(0) / 2000**0.5
    assert bool(((draws.mean(0) - whole).abs() <= 5.0 * error + 1e-12).all())
    field = pgnn.ConditionalRandomField(STATES, pgnn.AttributeScores(dropout=0.4))
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.1), max_iterations=2)
    again = [field.fit(TAGS, inputs=INPUTS, learner=learner, seed=s).log_prob(TAGS, inputs=INPUTS)
             for s in (0, 0, 1)]  # fmt: skip
    assert again[0].equal(again[1])
    assert not again[0].equal(again[2])
    with pytest.raises(ModelError, match="dropout"):
        pgnn.AttributeScores(dropout=1.0)


def test_a_file_keeps_it(tmp_path: Path, fitted: pgnn.ConditionalRandomField) -> None:
    fitted.save(tmp_path / "field")
    again = pgnn.load(tmp_path / "field")
    assert again.log_prob(TAGS, inputs=INPUTS).equal(fitted.log_prob(TAGS, inputs=INPUTS))
    assert again.decode(inputs=INPUTS)["label"].equal(fitted.decode(inputs=INPUTS)["label"])
    fixed = pgnn.ConditionalRandomField(STATES, transitions=np.eye(4))
    fixed.fit(TAGS, inputs=INPUTS, progress=False).save(tmp_path / "fixed")
    kept = pgnn.load(tmp_path / "fixed")
    assert not kept.transitions.requires_grad
    assert kept.transitions.detach().numpy() == pytest.approx(np.eye(4))


def test_forms_of_attributes_are_read_alike() -> None:
    import pandas as pd

    lists = [[["a", "b"], ["a"]], [["b"]]]
    sets = [[{"a", "b"}, {"a"}], [{"b"}]]
    mappings = [[{"a": True, "b": 1, "no": 0}, {"a": 1.0}], [{"b": 1, "none": None}]]
    sparse = [csr_array([[1, 1], [1, 0]]), csr_array([[0, 1]])]
    scores = []
    for form in (lists, sets, mappings, sparse):
        field = pgnn.ConditionalRandomField(["x", "y"])
        inputs: Any = {"attributes": form}
        field.fit([["x", "y"], ["y"]], inputs=inputs, progress=False)
        scores.append(field.log_prob([["x", "y"], ["y"]], inputs=inputs))
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0])
    frames: Any = {"attributes": [pd.DataFrame({"word": ["a", "b"], "length": [1.0, 2.5]})]}
    field = pgnn.ConditionalRandomField(["x", "y"]).fit([["x", "y"]], inputs=frames, progress=False)
    part: Any = field.scores[0]
    assert set(part.names) == {"word:a", "word:b", "length"}
    assert int(pgnn.ConditionalRandomField(2).input_lengths({"attributes": lists[0]})) == 2


def test_labels_in_a_frame() -> None:
    import pandas as pd

    frame = pd.DataFrame({"label": TAGS[0]})
    field = pgnn.ConditionalRandomField()
    field.fit([frame, pd.DataFrame({"label": TAGS[1]})],
              inputs={"attributes": INPUTS["attributes"][:2]}, progress=False)  # fmt: skip
    assert field.state.states == STATES


def test_unknown_attributes_count_nothing(fitted: pgnn.ConditionalRandomField) -> None:
    known = {"attributes": [["w=dog"], ["w=cat"]]}
    more = {"attributes": [["w=dog", "never"], ["new", "w=cat"]]}
    a, b = (fitted.query(inputs=x)["label"].probs for x in (known, more))
    assert a.equal(b)


def test_empty_sentences(fitted: pgnn.ConditionalRandomField) -> None:
    inputs: Any = {"attributes": [INPUTS["attributes"][0], []]}
    log_prob = fitted.log_prob([TAGS[0], []], inputs=inputs)
    assert float(log_prob[1]) == 0.0
    assert fitted.decode(inputs=inputs)["label"][1].tolist() == [-1, -1, -1]
    field = pgnn.ConditionalRandomField(ends=True).fit([TAGS[0], []], inputs=inputs, progress=False)
    assert field.history["rows"] == 2


def test_wrong_inputs_are_told(fitted: pgnn.ConditionalRandomField) -> None:
    with pytest.raises(EvidenceError, match="needs the input 'attributes'"):
        fitted.decode({"T": 3})
    with pytest.raises(EvidenceError, match="sequence 1 has 3 steps, its inputs have 4"):
        fitted.log_prob([TAGS[0], TAGS[1][:3]], inputs={"attributes": INPUTS["attributes"][:2]})
    with pytest.raises(EvidenceError, match="2 sequences, but the inputs are those of 4"):
        fitted.log_prob(TAGS[:2], inputs=INPUTS)
    for wrong, message in (
        ("text", "sequences of steps"),
        (["the dog"], "a step of the input"),
        ([3, 4], "a list of steps, got int"),
        ([[["a"], 3]], "a list of names or a mapping"),
        ([[[math.nan]]], "must be text"),
        ([[{"length": math.inf}]], "has the value inf"),
        ([[{"length": object()}]], "must be text, a number"),
    ):
        with pytest.raises(EvidenceError, match=message):
            fitted.decode(inputs={"attributes": wrong})  # type: ignore[dict-item]
    with pytest.raises(EvidenceError, match="'PRON'"):
        fitted.log_prob([["PRON"]], inputs={"attributes": [[["w=dog"]]]})
    with pytest.raises(Unsupported, match="pass the inputs of all steps"):
        fitted.predict(None, 2, inputs=INPUTS)
    with pytest.raises(ModelError, match="labels are not known yet"):
        pgnn.ConditionalRandomField().decode(inputs=INPUTS)
    with pytest.raises(ModelError, match="must have the shape \\(3, 3\\)"):
        pgnn.ConditionalRandomField(3, transitions=[[0.0, 1.0]])
    with pytest.raises(ModelError, match="same input"):
        pgnn.ConditionalRandomField(3, ["a", "a"])
    with pytest.raises(ModelError, match="3 labels, but the scores of 'x' have 2"):
        pgnn.ConditionalRandomField(3, pgnn.NeuralScores(nn.Linear(5, 2), "x")).decode(
            {"T": [4]}, inputs={"x": torch.zeros(1, 4, 5)}
        )


def test_a_failed_fit_changes_nothing(fitted: pgnn.ConditionalRandomField) -> None:
    field = tagger()
    before = field.log_prob(TAGS, inputs=INPUTS)
    with pytest.raises(DataError):
        field.fit([["DET", "NOUN"]], inputs=INPUTS, progress=False)
    with pytest.raises(DataError, match="no attribute that occurs"):
        field.fit([["A"]], inputs={"attributes": [[[]]]}, progress=False)
    with pytest.raises(Unsupported, match="EM"):
        field.fit(TAGS, inputs=INPUTS, learner=pgnn.EM(), progress=False)
    assert field.state.states == STATES
    assert field.log_prob(TAGS, inputs=INPUTS).equal(before)


def test_few_steps_need_no_table_of_all_attributes() -> None:
    rng = np.random.default_rng(0)
    many: Any = [[[f"a{k}" for k in rng.integers(0, 400, 3)] for _ in range(9)] for _ in range(50)]
    tags = [rng.choice(list("xyz"), 9).tolist() for _ in many]
    learner = pgnn.Gradient(l2=0.01, max_iterations=20, tolerance=1e-2)
    field = pgnn.ConditionalRandomField()
    field.fit(tags, inputs={"attributes": many}, learner=learner, progress=False)
    together = field.smooth(inputs={"attributes": many})["label"].probs
    field.requires_grad_()
    alone = field.smooth(inputs={"attributes": many[7]})["label"].probs
    torch.testing.assert_close(alone, together[7])
    part: Any = field.scores[0]
    gradients = []
    for rows in (slice(7, 8), slice(None)):  # by the attributes that occur, and by all
        log_prob = field.log_prob(tags[rows], inputs={"attributes": many[rows]})
        gradients += torch.autograd.grad(log_prob[0 if rows.start else 7], part.weights)
    torch.testing.assert_close(*gradients)
    unknown = field.query(inputs={"attributes": [["new"], []]})["label"].probs
    assert unknown.equal(field.query(inputs={"attributes": [["a"], ["b"]]})["label"].probs)


def test_the_pseudo_likelihood_is_that_of_each_label_given_its_neighbours(
    fitted: pgnn.ConditionalRandomField,
) -> None:
    rows = pgnn.evidence.sequence_evidence.SequenceEvidence.of(fitted, TAGS, INPUTS)
    free = dataclasses.replace(rows, codes={})
    found = fitted.chain(free, INPUTS).log_conditionals(rows.codes["label"])
    for row, tags in enumerate(TAGS):
        probs, path = enumerated(fitted, row), [STATES.index(t) for t in tags]
        for t in range(len(tags)):
            others = sum(p for q, p in probs.items() if [*q[:t], path[t], *q[t + 1 :]] == path)
            expected = math.log(probs[tuple(path)] / others)
            assert float(found[row, t].detach()) == pytest.approx(expected, abs=1e-10)
    assert not found[0, len(TAGS[0]) :].any()


def test_learning_by_pseudo_likelihood() -> None:
    field = pgnn.ConditionalRandomField(ends=True)
    learner = pgnn.PseudoLikelihood(l2=0.1)
    field.fit(TAGS, inputs=INPUTS, learner=learner, progress=False)
    assert field.history["converged"]
    best = field.decode(inputs=INPUTS)["label"]
    assert [[STATES[k] for k in b[: len(t)]] for b, t in zip(best, TAGS, strict=True)] == TAGS
    with pytest.raises(DataError, match="'label' are missing"):
        field.fit([["DET", None, "VERB"], *TAGS[1:]], inputs=INPUTS, learner=learner)
    with pytest.raises(Unsupported, match="has its own learner"):
        pgnn.HiddenMarkovModel(2, {"x": pgnn.Gaussian}).fit({"x": [0.0, 1.0]}, learner=learner)
