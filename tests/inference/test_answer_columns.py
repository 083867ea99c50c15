"""Columns of variables, of arrays and of their elements."""

import pytest
import torch

from pgnn.errors import EvidenceError
from pgnn.factors.variable import Variable
from pgnn.inference.answer_columns import AnswerColumns

LABEL = Variable("label", 3)
PIXEL = Variable("pixel", 2, shape=(2, 2))
SITE = PIXEL.element(1, 1)


def test_a_column_an_element() -> None:
    columns = AnswerColumns([LABEL, PIXEL], "answer")
    table = torch.arange(10).reshape(2, 5)
    assert columns.num_columns == 5
    assert columns.cut(table, "label").tolist() == [0, 5]
    assert columns.cut(table, "pixel").tolist() == [[[1, 2], [3, 4]], [[6, 7], [8, 9]]]
    assert columns.cut(table, ("pixel", 0, 1)).tolist() == [2, 7]
    assert columns.cut(table[:0], "pixel").shape == (0, 2, 2)
    assert columns.find(("pixel", 1, 0)) == (PIXEL.element(1, 0), 3)
    assert list(columns) == ["label", "pixel"]


def test_a_column_a_state() -> None:
    columns = AnswerColumns([SITE, LABEL, PIXEL], "answer", states=True)
    table = torch.arange(26).reshape(2, 13)
    assert columns.num_columns == 13
    assert columns.cut(table, ("pixel", 1, 1))[0].tolist() == [0, 1]  # asked for on its own
    assert columns.cut(table, "label")[1].tolist() == [15, 16, 17]
    assert columns.cut(table, "pixel").shape == (2, 2, 2, 2)
    assert columns.cut(table, "pixel")[0, 1, 0].tolist() == [9, 10]
    assert columns.cut(table, ("pixel", 1, 0))[0].tolist() == [9, 10]
    assert columns.cut(table[:0], "pixel").shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    "name", ["dog", ("pixel", 2, 0), ("label", 0), ("pixel",), (["pixel"], 0), ["label"], {}]
)
def test_names_without_columns(name: object) -> None:
    columns = AnswerColumns([LABEL, PIXEL], "answer")
    assert name not in columns
    with pytest.raises(EvidenceError, match="unknown variable of answer"):
        columns.find(name)


def test_messages() -> None:
    with pytest.raises(KeyError, match=r"'pixel' has the shape \(2, 2\)"):
        AnswerColumns([PIXEL], "answer").find(("pixel", 2, 0))
    assert ("pixel", 0, 0) in AnswerColumns([PIXEL], "answer")
