"""Columns of variables, of arrays and of their elements."""

import pytest
import torch

from pgnn.errors import EvidenceError
from pgnn.factors.variable import Variable
from pgnn.inference.places import Places

LABEL = Variable("label", 3)
PIXEL = Variable("pixel", 2, shape=(2, 2))
SITE = PIXEL.element(1, 1)


def test_a_column_an_element() -> None:
    places = Places([LABEL, PIXEL], "answer")
    table = torch.arange(10).reshape(2, 5)
    assert places.num_columns == 5
    assert places.cut(table, "label").tolist() == [0, 5]
    assert places.cut(table, "pixel").tolist() == [[[1, 2], [3, 4]], [[6, 7], [8, 9]]]
    assert places.cut(table, ("pixel", 0, 1)).tolist() == [2, 7]
    assert places.cut(table[:0], "pixel").shape == (0, 2, 2)
    assert places.find(("pixel", 1, 0)) == (PIXEL.element(1, 0), 3)
    assert list(places) == ["label", "pixel"]


def test_a_column_a_state() -> None:
    places = Places([SITE, LABEL, PIXEL], "answer", states=True)
    table = torch.arange(26).reshape(2, 13)
    assert places.num_columns == 13
    assert places.cut(table, ("pixel", 1, 1))[0].tolist() == [0, 1]  # asked for on its own
    assert places.cut(table, "label")[1].tolist() == [15, 16, 17]
    assert places.cut(table, "pixel").shape == (2, 2, 2, 2)
    assert places.cut(table, "pixel")[0, 1, 0].tolist() == [9, 10]
    assert places.cut(table, ("pixel", 1, 0))[0].tolist() == [9, 10]
    assert places.cut(table[:0], "pixel").shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    "name", ["dog", ("pixel", 2, 0), ("label", 0), ("pixel",), (["pixel"], 0), ["label"], {}]
)
def test_names_without_columns(name: object) -> None:
    places = Places([LABEL, PIXEL], "answer")
    assert name not in places
    with pytest.raises(EvidenceError, match="unknown variable of answer"):
        places.find(name)


def test_messages() -> None:
    with pytest.raises(KeyError, match=r"'pixel' has the shape \(2, 2\)"):
        Places([PIXEL], "answer").find(("pixel", 2, 0))
    assert ("pixel", 0, 0) in Places([PIXEL], "answer")
