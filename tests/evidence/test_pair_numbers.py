import numpy as np
import pytest

from pgnn.evidence import pair_numbers
from pgnn.evidence.name_index import NameIndex
from pgnn.evidence.pair_numbers import PairNumbers


def test_numbers_and_values_of_many_calls_are_those_of_the_names() -> None:
    generator = np.random.default_rng(0)
    texts, words = [*"abcdefg"], [*map(str, range(300))]
    names = NameIndex([*texts, *(f"{t}:{w}" for t in texts for w in words[:200])])
    pairs = PairNumbers(names.find)
    for _ in range(20):
        chosen = [str(x) for x in generator.choice(texts, 50)]
        cells = [*map(str, generator.choice(words, 25)), *generator.normal(size=25).tolist()]
        found = pairs.find(chosen, cells)
        assert found is not None
        spelled = [
            f"{t}:{c}" if isinstance(c, str) else t for t, c in zip(chosen, cells, strict=True)
        ]
        np.testing.assert_array_equal(found[0], names.find(spelled))
        np.testing.assert_array_equal(found[1], [1.0 if isinstance(c, str) else c for c in cells])


def test_too_many_numbers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_numbers, "_MOST_NUMBERS", 10)
    pairs = PairNumbers(NameIndex(["size"]).find)
    assert pairs.find(["size"] * 10, [*map(float, range(10))]) is not None
    assert pairs.find(["size"], [0.5]) is None
    assert pairs.find(["size"], [1.0]) is None
    assert len(pairs._cells) == len(pairs._values) == 0


@pytest.mark.parametrize("size", [(5, 180), (30, 30), (1, 999)])
def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setattr(pair_numbers, "_MOST_CELLS", 1_000)
    texts, words = [f"t{k}" for k in range(size[0])], [f"w{k}" for k in range(size[1])]
    names = NameIndex([f"{t}:{w}" for t in texts for w in words])
    pairs = PairNumbers(names.find)
    for k, word in enumerate(words):
        text = texts[k % len(texts)]
        found = pairs.find([text, texts[0]], [word, word])
        assert found is not None
        np.testing.assert_array_equal(
            found[0], names.find([f"{text}:{word}", f"{texts[0]}:{word}"])
        )
        assert pairs._table.size <= 1_024  # which the first, empty table has
    assert pairs.find([*texts, "more"] * 400, [*map(str, range(400 * (len(texts) + 1)))]) is None
    assert pairs._table.size == 0
