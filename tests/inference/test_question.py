"""Names of questions as numbers of elements, matrices as evidence."""

from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn.errors import EvidenceError, Unsupported
from pgnn.inference.model_reader import reader_of
from pgnn.inference.question import Question, Targets, listed, scope_of, targets_of
from pgnn.inference.time.forward_backward import ForwardBackward


def network() -> pgnn.BayesianNetwork:
    """Names that are themselves iterable: a text, a number and a tuple."""
    edges = [("rain", 7), (7, ("pixel", 0))]
    return pgnn.BayesianNetwork(edges, states={"rain": 2, 7: 3, ("pixel", 0): 2})


@pytest.mark.parametrize(
    ("targets", "numbers"),
    [
        (None, [0, 1, 2]),
        ("rain", [0]),
        (7, [1]),
        (("pixel", 0), [2]),
        ([("pixel", 0), "rain"], [2, 0]),
        (("rain", 7), [0, 1]),
        ({"rain": 1}, [0]),
        ([], []),
    ],
)
def test_names_become_numbers(targets: Any, numbers: list[int]) -> None:
    found = targets_of(network(), targets)
    assert found.numbers.tolist() == numbers
    names = ["rain", 7, ("pixel", 0)]
    assert [v.name for v in found.variables] == [names[k] for k in numbers]


def test_wrong_names() -> None:
    model = network()
    with pytest.raises(EvidenceError, match="'rian'; did you mean 'rain'"):
        targets_of(model, "rian")
    with pytest.raises(EvidenceError, match="'rain' is named twice"):
        targets_of(model, ["rain", 7, "rain"])
    with pytest.raises(EvidenceError, match=r"a list of names, got \['rain'\]"):
        targets_of(model, [7, ["rain"]])


def test_real_variables_have_no_number() -> None:
    sex, dose = pgnn.Variable("sex", 2), pgnn.Variable("dose")
    conditional = pgnn.Neural(dose, [sex], torch.nn.Linear(2, 1))
    model = pgnn.BayesianNetwork([("sex", "dose")], {"dose": conditional}, {"sex": 2})
    with pytest.raises(Unsupported, match="'dose' has no states"):
        targets_of(model, ["dose"])


def with_reals() -> pgnn.BayesianNetwork:
    sex, dose = pgnn.Variable("sex", 2), pgnn.Variable("dose")
    conditional = pgnn.LinearGaussian(dose, [sex])
    return pgnn.BayesianNetwork([("sex", "dose")], {"dose": conditional}, {"sex": 2})


def over_time() -> pgnn.Model:
    return pgnn.HiddenMarkovModel(2, {"sex": 2})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sex", "sex"], "'sex' is named twice"),
        (3, "unknown variable.* 3"),
        ([["sex"]], r"a list of names, got \['sex'\]"),
        (["sax"], "unknown variable.* 'sax'; did you mean 'sex'"),
    ],
)
@pytest.mark.parametrize(
    ("make", "engine", "evidence"),
    [
        (over_time, None, {"T": [2]}),
        (with_reals, None, {}),
        (with_reals, pgnn.MCMC(chains=1, warmup=1, samples=4), {}),
        (with_reals, pgnn.Variational(), {}),
    ],
)
def test_every_engine_reads_names_alike(
    names: Any, message: str, make: Any, engine: Any, evidence: Any
) -> None:
    with pytest.raises(EvidenceError, match=message):
        make().query(names, evidence, engine=engine)


def test_lists_of_names() -> None:
    assert listed("rain") == ["rain"]
    assert listed(7) == [7]
    assert listed(name for name in "ab") == ["a", "b"]


def test_columns_follow_the_order_of_the_question() -> None:
    model = network()  # states side by side: rain 0, 1, then 7, then pixel
    elements = model.elements

    def of(*numbers: int) -> Targets:
        return Targets(tuple(elements.singles[k] for k in numbers), np.array(numbers), elements)

    assert of(2, 0).columns.tolist() == [5, 6, 0, 1]
    assert of(2, 0).mask.tolist() == [True, False, True]
    reordered = of(2, 0).order  # those of 7 left out: rain 0, 1, pixel 2, 3
    assert reordered is not None
    assert reordered.tolist() == [2, 3, 0, 1]
    reordered = of(2, 0, 1).order
    assert reordered is not None
    assert reordered.tolist() == [5, 6, 0, 1, 2, 3, 4]
    assert of(0, 2).order is None
    assert of(1).order is None
    assert Targets((), np.zeros(0, np.int64), elements).order is None


def scope(names: Any) -> list[int]:
    model = network()
    return scope_of(model.elements, model.variables, names)


def test_scopes_of_joint_tables() -> None:
    assert scope(("rain", 7)) == [0, 1]
    assert scope((("pixel", 0), 7)) == [2, 1]


def test_what_is_done_about_impossible_rows() -> None:
    casino = pgnn.HiddenMarkovModel(2, {"roll": 6})
    asked = [
        lambda errors: Question.read(network(), {"rain": 0}, errors=errors),
        lambda errors: ForwardBackward().read(casino, {"roll": [0]}, errors=errors),
    ]
    for ask in asked:
        assert ask("raise").errors == "raise"
        assert ask("nan").errors == "nan"
        with pytest.raises(EvidenceError, match="must be 'raise' or 'nan', got 'ignore'"):
            ask("ignore")


def test_matrices_are_evidence_by_column() -> None:
    model = network()
    for matrix in (np.array([[1, 2, 0]]), torch.tensor([[1, 2, 0]])):
        found = reader_of(model).read(matrix)
        assert found.codes.tolist() == [[1, 2, 0]]
        assert found.batched
    with pytest.raises(EvidenceError, match=r"needs 3 columns, .* got shape \(4, 2\)"):
        reader_of(model).read(np.zeros((4, 2), dtype=int))


@pytest.mark.parametrize("rows", [1, 3])
def test_fields_of_rows_have_the_layout_that_kernels_are_compiled_for(rows: int) -> None:
    """A copy of a broadcast array has columns first, and every kernel would be compiled again."""
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    question = Question.read(model, {"a": [1] * rows}, None, names=None, errors="raise")
    assert question.log_field().flags.c_contiguous
