"""Attributes read many at once, and one by one."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgnn.errors import EvidenceError
from pgnn.evidence import attribute_reader, pair_numbers
from pgnn.evidence.attribute_reader import AttributeReader
from pgnn.evidence.name_index import NameIndex
from pgnn.evidence.sequence_values import read_parts
from pgnn.evidence.values import Rule
from pgnn.factors.variable import Variable


class OneByOne(AttributeReader):
    """The slow twin: looks at each step, and each value, by itself."""

    def _add(self, steps: list[Any]) -> None:
        self._add_one_by_one(steps)


def arrays(reader: AttributeReader, sentences: Any) -> list[Any]:
    reader.read(sentences)
    lengths, counts, index, which, values = reader.arrays()
    return [lengths.tolist(), counts.tolist(), index.names, which.tolist(),
            None if values is None else values.tolist()]  # fmt: skip


NAMES = st.sampled_from(["a", "b", "c:d", ""])
VALUES = st.sampled_from(["x", "d", True, False, 1, 1.0, 2, -0.5, np.float64(0.25), None])
OTHERS = st.sampled_from([("x", "y"), ["x"], {"d": 2.0, "e": "x"}, np.float32(0.5), {"x"}])
LISTS = st.lists(NAMES, max_size=3) | st.tuples(NAMES, NAMES)
MAPPINGS = st.dictionaries(NAMES, VALUES, max_size=4)
KEYS = st.dictionaries(st.sampled_from([1, 1.0, True, "1", "a"]), VALUES, max_size=3)
ANY = LISTS | MAPPINGS | KEYS | st.dictionaries(NAMES, VALUES | OTHERS, max_size=3)


@given(st.one_of(*(st.lists(st.lists(x, max_size=4), max_size=4)
                   for x in (LISTS, MAPPINGS, KEYS, ANY))))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_steps_of_any_kind_are_read_as_one_by_one(sentences: Any) -> None:
    assert arrays(AttributeReader("x", NameIndex(), grows=True), sentences) == arrays(
        OneByOne("x", NameIndex(), grows=True), sentences
    )
    known = NameIndex(["c:d", "a", "a:x"])
    expected = arrays(OneByOne("x", known, grows=False), sentences)
    assert arrays(AttributeReader("x", known, grows=False), sentences) == expected
    assert known.names == ["c:d", "a", "a:x"]  # nothing was added to it


@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_that_are_read_together_make_no_difference(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = [[{"a": "x"}, {"b": 2.0}], [], [["a"], ("b:x", "a:x")], [{"a": None, "b": "x"}],
                 [{1: "x"}, {True: "x"}, {1.0: "x"}]]  # fmt: skip
    expected = arrays(OneByOne("x", NameIndex(), grows=True), sentences)
    monkeypatch.setattr(attribute_reader, "_AT_ONCE", size)
    assert arrays(AttributeReader("x", NameIndex(), grows=True), sentences) == expected


@pytest.mark.parametrize("limit", ["_MOST_NUMBERS", "_MOST_CELLS"])
def test_many_different_pairs_are_not_remembered(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_reader, "_AT_ONCE", 1)
    monkeypatch.setattr(pair_numbers, limit, 25)
    sentences = [[{"size": float(n + 10 * s), "word": "x"} for n in range(10)] for s in range(9)]
    reader = AttributeReader("x", NameIndex(), grows=True)
    assert arrays(reader, sentences) == arrays(OneByOne("x", NameIndex(), grows=True), sentences)
    assert (reader._pairs._table >= 0).sum() < 30  # of 91


def test_a_table_of_pairs_grows_with_texts_and_with_values() -> None:
    sentences = [
        [{f"key {k}": f"word {n}", "size": n} for n in range(k)] for k in range(0, 600, 40)
    ]
    expected = arrays(OneByOne("x", NameIndex(), grows=True), sentences)
    assert arrays(AttributeReader("x", NameIndex(), grows=True), sentences) == expected
    assert arrays(AttributeReader("x", NameIndex(), grows=True), sentences[::-1]) == arrays(
        OneByOne("x", NameIndex(), grows=True), sentences[::-1]
    )


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([["a", ["b"]]], r"must be text, got \['b'\]"),
        ([["a", math.nan]], "must be text, got nan"),
        ([{"a": "x"}, {"a": math.inf, "b": "x"}], "attribute 'a' of 'x' has the value inf"),
        ([{"a": 1.0}, {"b": -1e60}], r"attribute 'b' of 'x' has the value -1e\+60"),
        ([{"a": 1.0, "b": object()}], "attribute 'b' of 'x' must be text, a number"),
    ],
)
def test_what_is_no_attribute_is_named(
    grows: bool, steps: Any, message: str
) -> None:  # fmt: skip
    for kind in (AttributeReader, OneByOne):
        reader = kind("x", NameIndex(["a"]), grows=grows)
        with pytest.raises(EvidenceError, match=message):
            arrays(reader, [[["a"]], steps])


def test_an_index_in_another_order_finds_the_same_names() -> None:
    index = NameIndex(["a", "b", "c"])
    turned, fewer = index.renumbered([2, 0, 1]), index.renumbered([1, 0])
    for found, names in ((turned, ["c", "a", "b"]), (fewer, ["b", "a"])):
        slow = NameIndex(names)
        assert found.names == names
        assert len(found) == len(names)
        asked = ["b", "d", "a", "c", "c"]
        np.testing.assert_array_equal(found.find(asked), slow.find(asked))
        np.testing.assert_array_equal(found.numbers_of(index), slow.numbers_of(index))
    assert turned.renumbered([1, 2, 0]).find(["a", "b", "c", "d"]).tolist() == [0, 1, 2, -1]


LABELS = Variable("label", ["B", "I", "1"], ("T",))
CELLS = st.sampled_from(["B", "I", "1", "1.0", None])


@given(st.lists(st.lists(CELLS, max_size=4), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_labels_are_read_at_once_as_row_by_row(rows: list[list[Any]]) -> None:
    rule = Rule()
    fast, slow = (read_parts(LABELS, x, rule, None) for x in (rows, [tuple(r) for r in rows]))
    assert [r.tolist() for r in fast.rows] == [r.tolist() for r in slow.rows]
    assert (fast.batched, fast.soft) == (slow.batched, slow.soft)


def test_labels_that_are_none_are_named_with_row_and_step() -> None:
    with pytest.raises(EvidenceError, match=r"'label', row 1, step 1: .* no state 'X'"):
        read_parts(LABELS, [["B"], ["I", "X"]], Rule(), None)
