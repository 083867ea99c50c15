"""Numbers of texts by a compiled table, and by a dictionary."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgnn.evidence.name_index import NameIndex
from pgnn.inference.chains import text_index
from pgnn.inference.chains.kernels import text_lookups
from pgnn.inference.chains.text_index import TextIndex, texts_of


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is used for few names, too."""
    monkeypatch.setattr(text_index, "FEW", 2)


TEXTS = st.sampled_from(["", "a", "b", "ab", "\u00e4", "\ud800", "\U0001f600", "a" * 40])
NAMES = TEXTS | st.sampled_from(["a\0b", "\0", 1, ("a", "b"), None])


def ask(index: NameIndex, calls: list[tuple[bool, list[Any]]]) -> list[list[int]]:
    return [(index.add if adds else index.find)(names).tolist() for adds, names in calls]


@pytest.mark.parametrize("names", [TEXTS, NAMES])
def test_a_table_numbers_names_as_a_dictionary_does(names: Any) -> None:
    @given(st.lists(names, unique=True), st.lists(st.tuples(st.booleans(), st.lists(names))))
    @settings(max_examples=300, deadline=None)
    def check(first: list[Any], calls: list[tuple[bool, list[Any]]]) -> None:
        fast, slow = TextIndex(first), NameIndex(first)
        assert ask(fast, calls) == ask(slow, calls)
        assert fast.names == slow.names
        assert len(fast) == len(slow)
        assert fast.since(len(slow) // 2) == slow.since(len(slow) // 2)
        assert pickle.loads(pickle.dumps(fast)).find(first).tolist() == [*range(len(first))]

    check()


def test_many_names_are_found_as_the_table_grows() -> None:
    random = np.random.default_rng(0)
    fast, slow = TextIndex(), NameIndex()
    for size in (1, 5, 100, 3000, 20, 40000):
        names = [f"name {n}" for n in random.integers(10**4, size=size)]
        np.testing.assert_array_equal(fast.add(names), slow.add(names))
    assert fast._table.count == len(slow)
    assert len(fast._dictionary) == 1  # of the first call, which was too short
    asked = [f"name {n}" for n in range(20_000)]
    np.testing.assert_array_equal(fast.find(asked), slow.find(asked))
    order = random.permutation(len(slow)).tolist()
    np.testing.assert_array_equal(
        fast.renumbered(order).find(asked), slow.renumbered(order).find(asked)
    )


def test_texts_with_the_same_hash_are_told_apart() -> None:
    fast = TextIndex(["a", "b"])
    fast.find(["a"])
    texts = texts_of(["c", "b", "a", "d"])
    assert texts is not None
    own = texts_of(["a", "b"])
    assert own is not None
    texts.hashes[:] = own.hashes[0]  # all those of "a"
    assert fast._table.find(texts).tolist() == [-1, -1, 0, -1]
    numbers, new = fast._table.add(texts)
    assert (numbers.tolist(), new) == ([2, 3, 0, 4], [0, 1, 3])
    assert fast._table.find(texts).tolist() == [2, 3, 0, 4]


def test_a_zero_inside_a_text_is_noticed() -> None:
    assert texts_of(["a\0b"]) is None
    assert texts_of(["a", "\0"]) is None
    texts = texts_of(["a", "", "bc"])
    assert texts is not None
    assert texts.starts.tolist() == [0, 2, 3, 6]
    fnv = 0xAF63DC4C8601EC8C  # of "a", from the authors' page
    assert int(texts.hashes[0]) == fnv
    assert text_lookups.EMPTY == -1


def test_without_compiled_code_there_is_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "has_numba", lambda: False)
    index = TextIndex(["a", "b", "c"])
    assert index.add(["c", "d"]).tolist() == [2, 3]
    assert index.find(["d", "e"]).tolist() == [3, -1]
    assert index._table.count == 0


def test_several_threads_ask_a_table_that_is_not_filled_yet() -> None:
    names = [f"name {n}" for n in range(100_000)]
    asked = names[::-1000]
    expected = [*range(99_999, -1, -1000)]
    for _ in range(3):
        index = TextIndex(names)
        with ThreadPoolExecutor(4) as pool:
            found = [*pool.map(lambda _, i=index: i.find(asked).tolist(), range(8))]
        assert found == [expected] * 8
        assert index._table.count == len(names)


def test_an_index_of_fewer_names_is_a_table_too() -> None:
    index = TextIndex(["a", "b", "c"]).renumbered([2, 0])
    assert isinstance(index, TextIndex)
    assert index.find(["a", "b", "c"]).tolist() == [1, -1, 0]
    assert copy.deepcopy(index).find(["a", "b", "c"]).tolist() == [1, -1, 0]
