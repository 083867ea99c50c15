import numpy as np

from pgnn.evidence.name_index import NameIndex


def test_a_renumbered_index_grows_by_itself() -> None:
    first = NameIndex(["a", "b", "c"])
    index = first.renumbered([2, 0, 1])
    np.testing.assert_array_equal(index.find(["a", "b", "c", "d"]), [1, 2, 0, -1])
    np.testing.assert_array_equal(index.add(["d", "a", "d"]), [3, 1, 3])
    np.testing.assert_array_equal(index.find(["a", "b", "c", "d"]), [1, 2, 0, 3])
    assert (index.since(2), index.names, len(index)) == (["b", "d"], ["c", "a", "b", "d"], 4)
    assert (first.names, len(first)) == (["a", "b", "c"], 3)
    assert first.renumbered([2, 0, 1]).since(1) == ["a", "b"]
