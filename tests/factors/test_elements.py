"""Numbers of elements, and variables that are arrays."""

import numpy as np
import pytest

from pgnn.errors import EvidenceError, ModelError, Unsupported
from pgnn.factors.elements import Elements
from pgnn.factors.variable import Variable

LABEL = Variable("label", ["cat", "dog", "owl"])
PIXEL = Variable("pixel", 2, shape=(2, 3))
SITE = Variable(("site", 7), 4)
HEIGHT = Variable("height", shape=(5,))
LINE = Variable("line", ["a", "b"], shape=(2,))
ALL = Elements([LABEL, PIXEL, HEIGHT, SITE, LINE])


def test_elements_are_numbered_in_row_major_order() -> None:
    assert len(ALL) == 10
    assert [v.name for v in ALL.variables] == ["label", "pixel", ("site", 7), "line"]
    assert dict(ALL.first) == {"label": 0, "pixel": 1, ("site", 7): 7, "line": 8}
    assert ALL.numbers("pixel").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert ALL.numbers("label").tolist() == 0
    assert ALL.card.tolist() == [3, 2, 2, 2, 2, 2, 2, 4, 2, 2]
    assert ALL.offset.tolist() == [0, 3, 5, 7, 9, 11, 13, 15, 19, 21, 23]
    assert not ALL.plain
    assert not Elements([Variable("x", 2, shape=(1,))]).plain
    assert Elements([LABEL, SITE, HEIGHT]).plain


def test_every_element_has_a_name_that_is_found() -> None:
    assert [v.name for v in ALL.singles] == [ALL.name(e) for e in range(10)]
    for number, single in enumerate(ALL.singles):
        found = ALL.find(single.name)
        assert found is not None
        assert (found[0], int(found[1])) == (single, number)
    assert ALL.find("label") == (LABEL, 0)
    found = ALL.find(("pixel", np.int64(1), np.int32(2)))
    assert found is not None
    assert found[0].name == ("pixel", 1, 2)
    assert all(type(i) is int for i in found[0].name[1:])  # type: ignore[index]
    assert ALL.owners([0, 1, 6, 7, 8, 9]).tolist() == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    "name",
    [
        "rain",
        "height",
        ("pixel",),
        ("pixel", 2, 0),
        ("pixel", 0, -1),
        ("pixel", 0),
        ("pixel", 0, 0, 0),
        ("pixel", 0, 1.0),
        ("pixel", 0, "a"),
        ("label", 0),
        ("height", 0),
        ("site", 8),
        (["pixel"], 0),
        ["pixel"],
        None,
    ],
)
def test_names_that_are_none(name: object) -> None:
    assert ALL.find(name) is None
    assert name not in ALL


def test_numbers_of_unknown_names() -> None:
    assert ("pixel", 1, 1) in ALL
    with pytest.raises(KeyError):
        ALL.numbers("rain")


def test_empty_arrays_have_no_elements() -> None:
    elements = Elements([Variable("x", 2, shape=(0, 3)), LABEL])
    assert len(elements) == 1
    assert elements.name(0) == "label"
    assert elements.numbers("x").shape == (0, 3)
    assert elements.singles == (LABEL,)


def test_a_name_must_not_be_that_of_an_element_of_an_array() -> None:
    with pytest.raises(ModelError, match=r"\('pixel', 0, 2\) is an element of the array 'pixel'"):
        Elements([Variable(("pixel", 0, 2), 2), PIXEL])
    assert len(Elements([Variable(("pixel", 0, 3), 2), PIXEL])) == 7


def test_axes_whose_length_only_data_knows() -> None:
    word = Variable("word", 5, shape=("T", 2))
    assert word.element(99, 1).name == ("word", 99, 1)
    with pytest.raises(Unsupported, match=r"'word' has the shape \('T', 2\).* named axis"):
        Elements([LABEL, word])
    with pytest.raises(Unsupported, match="'word'"):
        _ = word.num_elements


def test_elements_of_a_variable() -> None:
    single = LINE.element(1)
    assert single == Variable(("line", 1), ["a", "b"])
    assert (single.index("b"), single.decode([0])) == (1, ("a",))
    assert [v.name for v in LINE.elements()] == [("line", 0), ("line", 1)]
    assert list(LABEL.elements()) == [LABEL]
    assert (PIXEL.num_elements, LABEL.num_elements) == (6, 1)
    assert [PIXEL.position(index) for index in np.ndindex(2, 3)] == [*range(6)]
    with pytest.raises(
        EvidenceError, match=r"'pixel' has the shape \(2, 3\) and no element \[2, 0"
    ):
        PIXEL.element(2, 0)
    with pytest.raises(EvidenceError, match="no element"):
        LABEL.element(0)


def test_shapes() -> None:
    assert Variable("x", 2, shape=np.array([2, 3])).shape == (2, 3)
    assert all(type(n) is int for n in Variable("x", 2, shape=np.array([2, 3])).shape)
    for shape in (5, "T", None):
        with pytest.raises(ModelError, match="shape of 'x' must list lengths"):
            Variable("x", 2, shape=shape)  # type: ignore[arg-type]
    for shape in ((2.0,), (-1,), (True,), ("",), (None,)):
        with pytest.raises(ModelError, match="an axis of 'x' must be a length or a name"):
            Variable("x", 2, shape=shape)  # type: ignore[arg-type]
