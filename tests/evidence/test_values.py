"""A value means the same in every container: the container never changes an answer."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pgnn
from pgnn.errors import EvidenceError
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.sequence_evidence import SequenceEvidence

LABELS: dict[str, list[Any]] = {
    "text": ["no", "yes", "maybe"],
    "plain": [0, 1, 2],
    "shifted": [1, 2, 3],
    "mixed up": [2, 0, 1],
    "spelled": ["1", "2", "3"],
    "truth": [True, False],
    "fractions": [0.5, 1.5, 2.0],
    "spelled truth": ["TRUE", "FALSE"],
}
NAN = float("nan")


def numbers_of(values: list[Any]) -> list[Any] | None:
    """The numbers that labels are or spell, None where missing; nothing if they are none."""
    if all(v is None or isinstance(v, int | float) for v in values):
        return values
    if all(v is None or v.isdigit() for v in values):
        return [None if v is None else int(v) for v in values]
    return None


def masked(values: list[Any], kind: Any) -> np.ma.MaskedArray:
    blank = next(v for v in values if v is not None)
    mask = [v is None for v in values]
    return np.ma.array(
        [blank if m else v for v, m in zip(values, mask, strict=True)], kind, mask=mask
    )


def containers(labels: list[Any], codes: list[int]) -> dict[str, Callable[[], Any]]:
    """The same values in every container that can hold them."""
    values = [None if k < 0 else labels[k] for k in codes]
    forms: dict[str, Callable[[], Any]] = {
        "list": lambda: list(values),
        "tuple": lambda: tuple(values),
        "object array": lambda: np.array(values, dtype=object),
        "list of NaN": lambda: [NAN if v is None else v for v in values],
        "list of NA": lambda: [pd.NA if v is None else v for v in values],
        "Series": lambda: pd.Series(values, dtype=object),
        "Series of another index": lambda: pd.Series(
            values, dtype=object, index=np.arange(len(values))[::-1]
        ),
        "Categorical": lambda: pd.Categorical(values, categories=labels[::-1]),
        "categorical Series": lambda: pd.Series(pd.Categorical(values, categories=labels)),
        "codes": lambda: pgnn.codes(list(codes)),
        "codes in an array": lambda: pgnn.codes(np.array(codes, dtype=np.int8)),
        "codes in a tensor": lambda: pgnn.codes(torch.tensor(codes)),
        "codes in floats": lambda: pgnn.codes(np.where(np.array(codes) < 0, NAN, codes)),
        "polars": lambda: polars.Series(values),
    }
    if any(v is not None for v in values):
        forms["masked objects"] = lambda: masked(values, object)
    if all(v is None or isinstance(v, str) for v in values):
        forms["string Series"] = lambda: pd.Series(values, dtype="string")
        forms["polars Categorical"] = lambda: polars.Series(values, dtype=polars.Categorical)
        if None not in values:
            forms["string array"] = lambda: np.array(values)
    numbers = numbers_of(values)
    if numbers is None or all(v is None for v in numbers):
        return forms
    forms["numbers"] = lambda: list(numbers)
    present = [v for v in numbers if v is not None]
    if all(isinstance(v, bool) for v in present):
        forms["boolean Series"] = lambda: pd.Series(numbers, dtype="boolean")
        forms["masked booleans"] = lambda: masked(numbers, bool)
        if None not in numbers:
            forms["boolean array"] = lambda: np.array(numbers)
            forms["boolean tensor"] = lambda: torch.tensor(numbers)
        return forms
    forms["Float64 Series"] = lambda: pd.Series(numbers, dtype="Float64")
    forms["floats in a Series"] = lambda: pd.Series(numbers, dtype=float)
    forms["polars floats"] = lambda: polars.Series(numbers, dtype=polars.Float64, strict=False)
    if all(isinstance(v, int) for v in present):
        unobserved = [-1 if v is None else v for v in numbers]
        forms["integers"] = lambda: list(unobserved)
        forms["integer array"] = lambda: np.array(unobserved)
        forms["int8 array"] = lambda: np.array(unobserved, dtype=np.int8)
        forms["float16 array of many"] = lambda: pd.Series(np.array(unobserved, dtype=np.float32))
        forms["tensor"] = lambda: torch.tensor(unobserved, dtype=torch.int32)
        forms["strided"] = lambda: np.repeat(unobserved, 2)[::2]
        forms["Int64 Series"] = lambda: pd.Series(numbers, dtype="Int64")
        forms["masked integers"] = lambda: masked(numbers, np.uint8)
        if None not in numbers:
            forms["uint8 array"] = lambda: np.array(numbers, dtype=np.uint8)
    return forms


CODES = {
    "observed": [0, 1, 1, 0, 1, 1, 0],
    "with gaps": [0, -1, 1, 0, -1, 1, 0],
    "long": [0, -1, 1, 1] * 100,
}
CASES = [
    pytest.param(labels, codes, form, id=f"{kind}, {size}, {form}")
    for kind, labels in LABELS.items()
    for size, codes in CODES.items()
    for form in containers(labels, codes)
]


@pytest.mark.parametrize(("labels", "codes", "form"), CASES)
def test_codes_in_every_container(labels: list[Any], codes: list[int], form: str) -> None:
    value = containers(labels, codes)[form]()
    before = copy.deepcopy(value)
    reader = EvidenceReader([pgnn.Variable("x", labels), pgnn.Variable("y", 2)])
    observed = reader.read({"x": value})
    assert observed.codes[:, 0].tolist() == codes
    assert observed.soft is None
    assert observed.batched
    sequence = SequenceEvidence.read([pgnn.Variable("x", labels, ("T",))], {"x": value})
    assert sequence.codes["x"].tolist() == [codes]
    assert repr(value) == repr(before)


@pytest.mark.parametrize("kind", LABELS)
def test_one_value_is_a_batch_of_one(kind: str) -> None:
    labels = LABELS[kind]
    reader = EvidenceReader([pgnn.Variable("x", labels)])
    for k, label in enumerate(labels):
        spelled = numbers_of([label]) or [label]
        forms = [label, spelled[0], pgnn.codes(k), np.array(label), [label], np.array([label])]
        forms += [np.array(spelled)[0], pd.Series([label]), pgnn.codes([k]), [spelled[0]]]
        if not isinstance(spelled[0], str):
            forms += [torch.tensor(spelled[0]), torch.tensor([spelled[0]])]
        for form in forms:
            assert reader.read({"x": form}).codes.tolist() == [[k]], form


@pytest.mark.parametrize(
    "value",
    [
        None,
        NAN,
        pd.NA,
        np.ma.masked,
        -1,
        np.array(-1),
        torch.tensor(-1),
        torch.tensor(NAN),
        pgnn.codes(-1),
        [None] * 2,
        [NAN, None],
        np.full(2, NAN),
        np.ma.array([1, 2], mask=True),
        torch.tensor([-1, -1]),
        pd.Series([None, None]),
        pd.Series([pd.NA, pd.NA], dtype="Int64"),
        pd.Categorical([None, None], categories=[1, 2]),
        polars.Series([None, None]),
        polars.Series([None, None], dtype=polars.Int64),
        pgnn.codes(np.array([-1, -1])),
        {1: NAN, 2: NAN, 3: NAN},
    ],
    ids=repr,
)
def test_missing_in_every_container_is_not_mentioned(value: Any) -> None:
    model = network(LABELS["shifted"])
    other = {"y": ["b", "a"]}
    want = model.query(None, other)
    got = model.query(None, {"x": value, **other})
    for name in ("x", "y"):
        torch.testing.assert_close(got.probs(name), want.probs(name))
    torch.testing.assert_close(got.log_evidence, want.log_evidence)
    hidden = SequenceEvidence.read([pgnn.Variable("x", [1, 2], ("T",))], {"T": 2}).codes
    assert not hidden


def network(labels: list[Any], seed: int = 0) -> pgnn.BayesianNetwork:
    rng = np.random.default_rng(seed)
    size = len(labels)
    tables = {"x": rng.dirichlet(np.ones(size)), "y": rng.dirichlet(np.ones(2), size=size)}
    return pgnn.BayesianNetwork([("x", "y")], tables, states={"x": labels, "y": ["a", "b"]})


def wholes(labels: list[Any], x: list[int], y: list[int]) -> dict[str, Callable[[], Any]]:
    """The same rows as whole evidence."""
    columns = {"x": [labels[k] for k in x], "y": ["ab"[k] for k in y]}
    number = numbers_of(columns["x"])
    forms: dict[str, Callable[[], Any]] = {
        "mapping": lambda: columns,
        "frame": lambda: pd.DataFrame(columns),
        "objects": lambda: pd.DataFrame(columns, dtype=object),
        "new types": lambda: pd.DataFrame(columns).convert_dtypes(),
        "categories": lambda: pd.DataFrame(columns).astype("category"),
        "polars": lambda: polars.DataFrame(columns),
        "rows": lambda: pd.DataFrame(columns, dtype=object).to_dict("records"),
        "matrix of codes": lambda: pgnn.codes(np.stack([x, y], axis=1)),
        "tensor of codes": lambda: pgnn.codes(torch.tensor([x, y]).T),
        "codes": lambda: pgnn.codes({"x": np.array(x), "y": torch.tensor(y)}),
        "with more": lambda: pgnn.observed(pd.DataFrame({"id": x, **columns}), ignore=["id"]),
    }
    if number is not None and all(type(v) is int for v in number):
        forms["matrix"] = lambda: np.stack([number, y], axis=1)
        forms["tensor"] = lambda: torch.tensor([number, y]).T
    return forms


@settings(deadline=None, max_examples=4)
@given(data=st.data(), kind=st.sampled_from(list(LABELS)))
def test_every_verb_answers_the_same(data: st.DataObject, kind: str) -> None:
    labels = LABELS[kind]
    rows = data.draw(st.integers(4, 9))
    x = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=rows, max_size=rows))
    y = data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))
    model = network(labels)
    answers: list[tuple[Any, ...]] = []
    for make in wholes(labels, x, y).values():
        fitted = pgnn.BayesianNetwork([("x", "y")], states={"x": labels, "y": ["a", "b"]})
        fitted.fit(make(), learner=pgnn.MaximumLikelihood(pgnn.Laplace()), progress=False)
        climbed = pgnn.BayesianNetwork([("x", "y")], states={"x": labels, "y": ["a", "b"]})
        climbed.fit(make(), learner=pgnn.Gradient(l2=1.0), seed=0, progress=False)
        answers.append(
            (
                model.log_prob(make()),
                fitted.query("y", None).probs("y"),
                climbed.query("y", None).probs("y"),
            )
        )
    for name in ("x", "y"):
        other = {"x": "y", "y": "x"}[name]
        forms = containers([*labels] if name == "x" else ["a", "b"], x if name == "x" else y)
        found = []
        for make in forms.values():
            observed = {name: make()}
            drawn = model.sample(3, observed, seed=1)
            best = model.most_probable(observed)
            found.append((model.query(other, observed).probs(other), best.codes, drawn.codes))
            assert model.sample(2, drawn_first(drawn, name), seed=2).codes.shape == (2, rows, 2)
        answers_agree(found)
    answers_agree(answers)


def drawn_first(drawn: Any, name: str) -> Any:
    """The states of one variable, as indices."""
    return {name: pgnn.codes(drawn[name][0])}


def answers_agree(answers: list[tuple[Any, ...]]) -> None:
    for answer in answers[1:]:
        for got, want in zip(answer, answers[0], strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("kind", LABELS)
def test_samples_and_assignments_are_evidence(kind: str) -> None:
    """Their tensors hold indices, whatever the labels."""
    labels = LABELS[kind]
    model = network(labels)
    drawn = model.sample(6, seed=0)
    want = model.log_prob(pgnn.codes({"x": drawn["x"], "y": drawn["y"]}))
    torch.testing.assert_close(model.log_prob(drawn), want)
    rows = model.most_probable({"y": ["a", "b"]})
    torch.testing.assert_close(model.log_prob(rows), rows.log_prob)
    one = model.most_probable({"y": "a"})
    torch.testing.assert_close(model.log_prob(one).reshape(()), one.log_prob)


@pytest.mark.parametrize("kind", LABELS)
def test_sequences_answer_the_same(kind: str) -> None:
    labels = LABELS[kind]
    table = np.random.default_rng(1).dirichlet(np.ones(len(labels)), size=2)
    symbol = pgnn.Variable("x", labels)
    state = pgnn.Variable("state", 2)
    emission = pgnn.Tabular(symbol, [state], table)
    model = pgnn.HiddenMarkovModel(2, {"x": emission}, [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]])
    codes = CODES["with gaps"]
    want = model.log_prob({"x": pgnn.codes(codes)})
    for form, make in containers(labels, codes).items():
        for evidence in ({"x": make()}, [make()]):
            found = model.log_prob(evidence).reshape(())
            torch.testing.assert_close(found, want, msg=f"{form} in {type(evidence)}")
    frames = [pd.DataFrame({"x": containers(labels, codes)["list"]()}, dtype=object)]
    frames.append(polars.DataFrame({"x": frames[0]["x"].to_list()}))
    for frame in frames:
        torch.testing.assert_close(model.log_prob(frame), want)
    halves = {"x": containers(labels, codes)["list"](), "T": [4, 3]}
    split = model.log_prob({"x": [halves["x"][:4], halves["x"][4:]]})
    torch.testing.assert_close(model.log_prob(halves), split)
    said = pgnn.observed(halves["x"], lengths=[4, 3])
    torch.testing.assert_close(model.log_prob(said), split)


@pytest.mark.parametrize("kind", ["text", "shifted", "spelled", "truth"])
def test_do_sets_what_evidence_sees(kind: str) -> None:
    labels = LABELS[kind]
    model = network(labels)
    for k, label in enumerate(labels):
        for form in (label, (numbers_of([label]) or [label])[0], np.array(label)):
            done = model.do({"x": form}).query("y").probs("y")
            torch.testing.assert_close(done, model.query("y", {"x": pgnn.codes(k)}).probs("y"))


SOFT = {
    "list": [0.2, 0.5, 0.0],
    "tuple": (0.2, 0.5, 0.0),
    "array": np.array([0.2, 0.5, 0.0]),
    "float32": np.array([0.2, 0.5, 0.0], dtype=np.float32),
    "tensor": torch.tensor([0.2, 0.5, 0.0]),
    "bfloat16": torch.tensor([0.25, 0.5, 0.0], dtype=torch.bfloat16),
    "objects": np.array([0.2, 0.5, 0.0], dtype=object),
    "mapping": {"yes": 0.5, "no": 0.2, "maybe": 0},
    "said": pgnn.likelihood([0.2, 0.5, 0.0]),
    "said of integers": pgnn.likelihood([2, 5, 0]),
    "said of a Series": pgnn.likelihood(pd.Series([0.2, 0.5, 0.0])),
}


@pytest.mark.parametrize("form", SOFT)
def test_likelihoods_in_every_container(form: str) -> None:
    model = network(LABELS["text"])
    want = model.query("y", {"x": pgnn.likelihood([0.2, 0.5, 0.0])}).probs("y")
    tolerance = {"bfloat16": 0.1}.get(form, 1e-6)
    found = model.query("y", {"x": SOFT[form]}).probs("y")
    torch.testing.assert_close(found, want, atol=tolerance, rtol=0)


def test_likelihoods_by_row() -> None:
    reader = EvidenceReader([pgnn.Variable("x", ["no", "yes"])])
    want = [[0.5, 1.0], [1.0, 1.0]]
    rows = [{"no": 0.2, "yes": 0.4}, None]
    for value in ([[0.2, 0.4], None], np.array([[0.2, 0.4], [NAN, NAN]]), rows):
        soft = reader.read({"x": value}).soft
        assert soft is not None
        np.testing.assert_allclose(soft, want)
    batch = reader.read({"x": {"yes": np.array([0.4, 1.0]), "no": np.array([0.2, 1.0])}}).soft
    assert batch is not None
    np.testing.assert_allclose(batch, want)


@pytest.mark.parametrize(
    "value",
    [[1.0, 0.0, 1.0], (1.0, 0.0, 1.0), np.array([1.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])],
    ids=lambda v: type(v).__name__,
)
def test_two_readings_are_an_error_that_spells_both(value: Any) -> None:
    reader = EvidenceReader([pgnn.Variable("x", 3)])
    with pytest.raises(EvidenceError, match=r"integers, \[1, 0, 1\].*likelihood\(\[1., 0., 1.\]\)"):
        reader.read({"x": value})
    assert reader.read({"x": pd.Series([1.0, 0.0, 1.0])}).codes[:, 0].tolist() == [1, 0, 1]
    assert reader.read({"x": np.array([1.0, NAN, 1.0])}).codes[:, 0].tolist() == [1, -1, 1]
    assert reader.read({"x": np.array([1.0, 0.0])}).codes[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"no": 1.0, "ye": 0.5}, "no state 'ye'"), ({"yes": 0.5}, "no weight for 'no'")],
)
def test_wrong_weights(weights: Any, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        EvidenceReader([pgnn.Variable("x", ["no", "yes"])]).read({"x": weights})


def test_what_is_ignored_and_what_is_unknown() -> None:
    model = network(LABELS["text"])
    frame = pd.DataFrame({"x": ["no", "never"], "id": [1, 2], "day": ["mon", "tue"]})
    with pytest.raises(EvidenceError, match=r"unknown columns 'id', 'day'.*ignore=\['id', 'day'\]"):
        model.query("y", frame)
    with pytest.raises(EvidenceError, match=r"'x', row 1: .*no state 'never'"):
        model.query("y", pgnn.observed(frame, ignore=["id", "day"]))
    said = pgnn.observed(frame, ignore=["id", "day"], unknown="missing")
    torch.testing.assert_close(
        model.query("y", said).probs("y"), model.query("y", {"x": ["no", None]}).probs("y")
    )
    with pytest.raises(EvidenceError, match="unknown must be 'error' or 'missing', got 'skip'"):
        pgnn.observed(frame, unknown="skip")


def test_a_written_model_reads_the_same_frame(tmp_path: Any) -> None:
    """BIF spells the labels."""
    model = network(LABELS["shifted"])
    pgnn.write(model, tmp_path / "model.bif")
    again = pgnn.read(tmp_path / "model.bif")
    assert again.variables["x"].states == ("1", "2", "3")
    for x in ([1, 3], np.array([1, 3]), pd.Series([1, 3]), ["1", "3"], np.array([1, 3], np.int8)):
        rows = {"x": x, "y": ["a", "b"]}
        torch.testing.assert_close(again.log_prob(rows), model.log_prob(rows))
