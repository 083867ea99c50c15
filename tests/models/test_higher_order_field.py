"""Chains that remember several labels, and masks that are automata: against enumeration."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pgnn
from pgnn.errors import DataError, ImpossibleEvidence, Intractable, ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.inference.chains import wide_chain

K, T = 3, 5


def words(*sentences: str) -> dict[str, Any]:
    """Attributes of sentences of one-letter words."""
    return {"attributes": [[[w] for w in sentence] for sentence in sentences]}


LENGTHS = [5, 1, 0, 2, 4]
MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]])
# "c" comes at most once, and the last label is no "a"
ONCE = pgnn.LabelAutomaton(
    {
        "start": {"a": "a", "b": "no c", "c": "c"},
        "a": {"a": "a", "b": "no c", "c": "c"},
        "no c": {"a": "a", "b": "no c", "c": "c"},
        "c": {"b": "c", "a": "a after c"},
        "a after c": {"b": "c", "a": "a after c"},
    },
    "start",
    ["start", "no c", "c"],
)


def field_of(order: int, mask: Any) -> pgnn.ConditionalRandomField:
    """A field whose input is its scores, with random numbers in all its tables."""
    scores = pgnn.NeuralScores(nn.Identity(), "x")
    field = pgnn.ConditionalRandomField([*"abc"], scores, mask=mask, ends=True, order=order)
    rng = torch.Generator().manual_seed(order)
    with torch.no_grad():
        for p in field.parameters():
            p.copy_(torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return field


def allowed(path: tuple[int, ...], mask: Any) -> bool:
    if not isinstance(mask, pgnn.LabelAutomaton):
        table = torch.ones(K, K) if mask is None else mask
        return all(table[a, b] for a, b in itertools.pairwise(path))
    state = mask.start
    for k in path:
        if "abc"[k] not in mask.moves[state]:
            return False
        state = mask.moves[state]["abc"[k]]
    return state in mask.ends


@torch.no_grad()
def enumerated(field: Any, x: torch.Tensor, mask: Any) -> dict[tuple[int, ...], float]:
    """Weights of all labellings of one sequence, by the formula."""
    tables = [field.transitions]
    if field.histories is not None:
        tables += list(field.histories.tables)
    weights = {}
    for path in itertools.product(range(K), repeat=len(x)):
        if not path or not allowed(path, mask):
            continue
        score = field.first[path[0]] + field.last[path[-1]]
        score = score + sum(x[t, k] for t, k in enumerate(path))
        for table in tables:
            n = table.dim()
            score = score + sum(table[path[t : t + n]] for t in range(len(path) - n + 1))
        weights[path] = math.exp(float(score))
    return weights


CASES = [
    pytest.param(2, None, id="order 2"),
    pytest.param(2, MASK, id="order 2, mask"),
    pytest.param(3, None, id="order 3"),
    pytest.param(1, ONCE, id="automaton"),
    pytest.param(2, ONCE, id="order 2, automaton"),
]


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn((len(LENGTHS), T, K), generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize(("order", "mask"), CASES)
@pytest.mark.parametrize("at_once", [2**24, 1])
@torch.no_grad()
def test_every_verb_equals_enumeration(
    order: int, mask: Any, at_once: int, x: torch.Tensor, monkeypatch: Any
) -> None:
    monkeypatch.setattr(wide_chain, "_NUMBERS", at_once)
    field, inputs, rows = field_of(order, mask), {"x": x}, {"T": LENGTHS}
    answer = field.query(None, rows, inputs=inputs)
    best, three = (field.decode(rows, inputs=inputs, k=k) for k in (1, 3))
    draws = field.sample(3, rows, inputs=inputs, seed=0)["label"]
    for row, steps in enumerate(LENGTHS):
        if not steps:
            continue
        weights = enumerated(field, x[row, :steps], mask)
        z = sum(weights.values())
        assert float(answer.log_evidence[row]) == pytest.approx(math.log(z))
        for t, k in itertools.product(range(steps), range(K)):
            expected = sum(w for path, w in weights.items() if path[t] == k) / z
            assert float(answer["label"].probs[row, t, k]) == pytest.approx(expected, abs=1e-12)
        ranked = sorted(weights, key=lambda path: -weights[path])[:3]
        assert best["label"][row, :steps].tolist() == list(ranked[0])
        for rank, path in enumerate(ranked):
            assert three[rank]["label"][row, :steps].tolist() == list(path)
        assert all(tuple(d) in weights for d in draws[:, row, :steps].tolist())
        codes = [list(ranked[-1])]
        log_prob = field.log_prob(
            {"label": pgnn.codes(codes)}, inputs={"x": x[row : row + 1, :steps]}
        )
        assert float(log_prob) == pytest.approx(math.log(weights[ranked[-1]] / z))


@pytest.mark.parametrize(("order", "mask"), CASES)
@torch.no_grad()
def test_missing_labels_are_summed_out_and_filtering_looks_back(
    order: int, mask: Any, x: torch.Tensor
) -> None:
    field, known = field_of(order, mask), [None, "b", None, None]
    weights = enumerated(field, x[0, :4], mask)
    total = sum(weights.values())
    agreeing = {path: w for path, w in weights.items() if path[1] == 1}
    one = {"x": x[0, :4]}
    log_prob = field.log_prob({"label": known}, inputs=one)
    assert float(log_prob) == pytest.approx(math.log(sum(agreeing.values()) / total))
    filtered = field.filter(inputs=one)["label"].probs
    smoothed = field.smooth(inputs=one)["label"].probs
    torch.testing.assert_close(filtered[-1], smoothed[-1])
    chain: Any = field.chain(*_read(field, x[:1, :4]))
    entropy = -sum(w / total * math.log(w / total) for w in weights.values())
    assert float(chain.entropy()) == pytest.approx(entropy)


def _read(field: Any, x: torch.Tensor, labels: Any = None) -> tuple[Any, Any]:
    data = {"T": [x.shape[1]] * len(x)} if labels is None else {"label": pgnn.codes(labels)}
    return SequenceEvidence.of(field, data, {"x": x}), {"x": x}


@pytest.mark.parametrize(("order", "mask"), CASES)
@torch.no_grad()
def test_conditionals_equal_enumeration(order: int, mask: Any, x: torch.Tensor) -> None:
    field = field_of(order, mask)
    weights = enumerated(field, x[0], mask)
    chain: Any = field.chain(*_read(field, x[:1]))
    path = max(weights, key=lambda p: len(set(p)))
    logs = chain.log_conditionals(torch.tensor([path]))[0]
    for t in range(T):
        others = (weights.get((*path[:t], k, *path[t + 1 :]), 0.0) for k in range(K))
        assert float(logs[t]) == pytest.approx(math.log(weights[path] / sum(others)))


@pytest.mark.parametrize(("order", "mask"), CASES[:3])
@torch.no_grad()
def test_the_unrolled_field_says_the_same(order: int, mask: Any, x: torch.Tensor) -> None:
    field, one = field_of(order, mask), {"x": x[0]}
    fast, slow = (field.query(inputs=one, engine=e) for e in (None, pgnn.JunctionTree()))
    torch.testing.assert_close(fast["label"].probs, slow["label"].probs)
    assert float(fast.log_evidence) == pytest.approx(float(slow.log_evidence))
    assert slow.engine == "JunctionTree"


@pytest.mark.parametrize("at_once", [2**24, 20])
def test_what_is_learned_from_is_the_log_probability(
    at_once: int, x: torch.Tensor, monkeypatch: Any
) -> None:
    monkeypatch.setattr(wide_chain, "_NUMBERS", at_once)
    field = field_of(2, ONCE)
    labels = [[0, 1, 0, 2, 1], [1], [], [1, 2], [2, 0, 0, 1]]
    evidence, inputs = _read(field, x, labels)
    rows = replace(evidence, inputs=field.covariates(inputs, evidence))
    gradients = []
    for log_probs in (field.log_likelihood(rows), lambda: field.log_prob(evidence, inputs=inputs)):
        field.zero_grad()
        total = log_probs()
        total.sum().backward()
        gradients.append((total.detach(), *[p.grad.clone() for p in field.parameters()]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


WORDS = words("xyxyx", "yxyy", "xxy", "y", "")
TAGS = ["babca", "bcab", "bba", "c", ""]


def copies(field: Any, learner: Any = None) -> Any:
    return field.fit([list(t) for t in TAGS], inputs=WORDS, learner=learner, progress=False)


def test_a_second_label_back_is_learned_from(tmp_path: Path) -> None:
    # the label repeats that of two steps before: pairs do not tell it
    tags = [[*"abababab"], [*"aaaaaaaa"], [*"babababa"], [*"bbbbbbbb"]] * 3
    inputs = words(*("".join(row[:2]) + "......" for row in tags))
    codes = torch.tensor([["ab".index(k) for k in row] for row in tags])
    right = {}
    for order in (1, 2):
        field = pgnn.ConditionalRandomField([*"ab"], order=order)
        field.fit(tags, inputs=inputs, progress=False)
        right[order] = bool((field.decode(inputs=inputs)["label"] == codes).all())
    assert right == {1: False, 2: True}
    field.save(tmp_path / "field.pgnn")
    again = pgnn.load(tmp_path / "field.pgnn")
    assert again.order == 2
    torch.testing.assert_close(
        again.log_prob(tags, inputs=inputs), field.log_prob(tags, inputs=inputs)
    )


def test_an_automaton_is_kept_in_files(tmp_path: Path) -> None:
    field = pgnn.ConditionalRandomField([*"abc"], mask=ONCE)
    field.fit([list("ab"), list("cab")], inputs=words("xy", "yxy"), progress=False)
    field.save(tmp_path / "field.pgnn")
    again = pgnn.load(tmp_path / "field.pgnn")
    question = words("yyx")
    assert again.decode(inputs=question)["label"].tolist() == (
        field.decode(inputs=question)["label"].tolist()
    )
    assert float(again.log_prob(list("cca"), inputs=question)) == -math.inf


@pytest.mark.parametrize(
    "learner",
    [
        pgnn.Perceptron(max_iterations=3),
        pgnn.MaxMargin(max_iterations=3),
        pgnn.PseudoLikelihood(l2=0.1),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_other_learners_learn_runs_of_labels(learner: Any) -> None:
    field = copies(pgnn.ConditionalRandomField([*"abc"], order=2), learner)
    assert bool(field.histories.tables[0].any())
    assert bool(field.log_prob([list(t) for t in TAGS], inputs=WORDS).isfinite().all())


def test_runs_that_do_not_occur_score_zero() -> None:
    field = copies(pgnn.ConditionalRandomField([*"abc"], order=2, observed_transitions=True))
    (table,) = field.histories.tables
    occurring = {t[i : i + 3] for t in TAGS for i in range(len(t) - 2)}
    for run in itertools.product("abc", repeat=3):
        learned = bool(table["abc".index(run[0]), "abc".index(run[1]), "abc".index(run[2])])
        assert learned == ("".join(run) in occurring)


def test_a_failed_fit_leaves_the_runs_alone() -> None:
    field = copies(pgnn.ConditionalRandomField([*"abc"], order=2))
    before = [p.clone() for p in field.parameters()]
    with pytest.raises(DataError):
        field.fit([list("abd")], inputs=words("xyy"), progress=False)
    with pytest.raises(pgnn.errors.PgnnError):
        copies(field, pgnn.EM())
    for p, q in zip(field.parameters(), before, strict=True):
        assert torch.equal(p, q)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no order": (lambda: pgnn.ConditionalRandomField([*"ab"], order=0), ModelError, "order"),
    "half an order": (lambda: pgnn.ConditionalRandomField([*"ab"], order=1.5), ModelError, "order"),
    "a huge order": (
        lambda: pgnn.ConditionalRandomField(40, order=9),
        Intractable,
        "smaller order",
    ),
    "unknown state": (
        lambda: pgnn.LabelAutomaton({"x": {"a": "z"}}, "x"),
        ModelError,
        "no state 'z'",
    ),
    "unknown start": (lambda: pgnn.LabelAutomaton({"x": {}}, "y"), ModelError, "no state 'y'"),
    "no end": (lambda: pgnn.LabelAutomaton({"x": {}}, "x", []), ModelError, "name a state"),
    "no mapping": (lambda: pgnn.LabelAutomaton(["x"], "x"), ModelError, "moves must map"),  # type: ignore[arg-type]
    "unknown label": (
        lambda: pgnn.ConditionalRandomField([*"ab"], mask=ONCE),
        ModelError,
        "has a label 'c'",
    ),
    "NaN in a mask": (
        lambda: pgnn.ConditionalRandomField([*"ab"], mask=[[1, math.nan], [0, 1]]),
        ModelError,
        "NaN in row 0, column 1",
    ),
    "NaN in a mask of states": (
        lambda: pgnn.HiddenMarkovModel(2, {"y": 2}, mask=[[1, 1], [1, math.nan]]),
        ModelError,
        "NaN in row 1, column 1",
    ),
    "segments by an automaton": (
        lambda: pgnn.SemiMarkovField([*"abc"], mask=ONCE),
        ModelError,
        "not an automaton",
    ),
    "unrolled automaton": (
        lambda: pgnn.ConditionalRandomField([*"abc"], mask=ONCE).unroll(3),
        Unsupported,
        "whole sequences",
    ),
    "labels that may not come": (
        lambda: pgnn.ConditionalRandomField([*"abc"], mask=ONCE).fit(
            [list("ab"), list("cbc")],
            inputs=words("xy", "xyz"),
        ),
        DataError,
        "label 'c' at step 2 of row 1",
    ),
    "a first label that may not be": (
        lambda: pgnn.ConditionalRandomField(
            [*"ab"], mask=pgnn.LabelAutomaton({0: {"a": 1}, 1: {"b": 1}}, 0)
        ).fit([list("ba")], inputs=words("xy")),
        DataError,
        "label 'b' at step 0 of row 0 must not be the first",
    ),
    "a state that is none": (
        lambda: pgnn.LabelAutomaton({0: {"a": [1]}}, 0),  # type: ignore[dict-item]
        ModelError,
        "no state",
    ),
    "labels that may not end": (
        lambda: pgnn.ConditionalRandomField([*"abc"], mask=ONCE).fit(
            [list("ba")], inputs=words("xy")
        ),
        DataError,
        "end after 2 steps",
    ),
    "a mask that forbids everything": (
        lambda: pgnn.ConditionalRandomField([*"ab"], mask=pgnn.LabelAutomaton({"x": {}}, "x")).fit(
            [list("ab")], inputs=words("xy")
        ),
        ModelError,
        "forbids every label",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_told(case: str) -> None:
    make, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        make()


def test_sequences_longer_than_an_automaton_lets_be_are_impossible() -> None:
    two = pgnn.LabelAutomaton({0: {"a": 1}, 1: {"b": 2}, 2: {}}, 0)
    field = pgnn.ConditionalRandomField([*"ab"], mask=two)
    field.fit([list("ab")], inputs=words("xy"), progress=False)
    with pytest.raises(ImpossibleEvidence):
        field.decode(inputs=words("xyy"))
    rows = words("xy", "xyy")
    answer = field.smooth(inputs=rows, errors="nan")["label"].probs
    assert answer[0, 1].tolist() == [0.0, 1.0]
    assert bool(answer[1].isnan().all())
    labels = [[*"ab"], [*"abb"]]
    assert field.log_prob(labels, inputs=rows).tolist() == [0.0, -math.inf]
    partial = [["a", None], ["a", None, None]]
    assert field.log_prob(partial, inputs=rows).tolist() == [0.0, -math.inf]


def test_the_order_is_told_before_asking() -> None:
    inputs = words("xyxy")
    first = pgnn.ConditionalRandomField([*"abc"]).explain(inputs=inputs)
    second = pgnn.ConditionalRandomField([*"abc"], order=2).explain(inputs=inputs)
    assert (first.treewidth, first.multiply_adds) == (1, 2 * 4 * 3**2)
    # three states of one label, nine of two; each has three successors
    assert (second.treewidth, second.multiply_adds) == (2, 2 * 4 * (3 + 9) * 3)
    assert "a chain of order 2" in second.reason


def test_an_impossible_row_is_named() -> None:
    barred = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])
    rows = [["a", "a"], ["b", "a"], ["a", "b"], ["b", "b"]]
    field = pgnn.ConditionalRandomField([*"ab"], transitions=barred)
    for learner in (None, pgnn.Gradient(optimizer=lambda p: torch.optim.SGD(p, lr=0.1))):
        with pytest.raises(DataError, match="row 2, and perhaps others after it, is impossible"):
            field.fit(rows, inputs=words(*["xy"] * 4), learner=learner, progress=False)
    counted = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])  # rows that do not count are passed over
    rows = [["a", "a"], ["b", "a"], ["b", "b"], ["b", "b"], ["b", "b"], ["a", "b"]]
    with pytest.raises(DataError, match="row 5, and perhaps others after it, is impossible"):
        field.fit(rows, inputs=words(*["xy"] * 6), weights=counted, progress=False)
