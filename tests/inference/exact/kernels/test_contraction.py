"""The one instruction against einsum, for every kind of operands."""

import itertools

import numpy as np
import pytest

from pgnn.inference.exact.kernels.contraction import contract, largest
from pgnn.inference.exact.kernels.program import HEADER, LOOP

SINGLE, TILE = (0,), (0,) * 8


def _encode(letters: str, operands: list[str], out: str, sizes: dict[str, int], wide: list[bool],
            starts: list[int], maximum: bool, lanes: int) -> np.ndarray:  # fmt: skip
    """One instruction: a loop for each letter, strides zero where an operand lacks it."""

    def stride(scope: str, letter: str, lane: int) -> int:
        if letter not in scope:
            return 0
        return lane * int(np.prod([sizes[c] for c in scope[scope.index(letter) + 1 :]], dtype=int))

    lane = [lanes if w else 1 for w in wide]
    loops = []
    for letter in letters:
        loops += [sizes[letter], stride(out, letter, lanes)]
        loops += [stride(s, letter, n) for s, n in zip(operands, lane, strict=True)]
    size = int(np.prod([sizes[c] for c in out], dtype=int))
    ternary = 3 if operands[2] or starts[3] else 2
    header = [HEADER + LOOP * len(letters), 1, starts[0], size, *starts[1:], sum(wide), ternary,
              len(letters), int(maximum), 0]  # fmt: skip
    return np.array([*header, *loops], dtype=np.int64)


@pytest.mark.parametrize("lanes", [SINGLE, TILE], ids=["single", "tile"])
@pytest.mark.parametrize("maximum", [False, True], ids=["sum", "max"])
@pytest.mark.parametrize("wide", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("operands", "out"),
    [
        (["ab", "b", ""], "a"),
        (["abc", "bd", "cd"], "ab"),
        (["ab", "ab", "ab"], ""),
        (["abcd", "d", "a"], "bc"),
        (["a", "b", "c"], "abc"),
        (["abc", "a", ""], "abc"),
    ],
)
def test_instruction(
    lanes: tuple[int, ...], maximum: bool, wide: int, operands: list[str], out: str
) -> None:
    width = len(lanes)
    sizes = {"a": 3, "b": 2, "c": 4, "d": 5}
    count = 3 if operands[2] else 2
    if wide > count:
        pytest.skip("fewer operands")
    rng = np.random.default_rng(wide)
    is_wide = [k < wide for k in range(3)]
    memory, starts = [np.ones(1)], [0]
    tables = []
    at = 1
    for k, scope in enumerate(operands[:count]):
        shape = [sizes[c] for c in scope] + ([width] if is_wide[k] else [])
        table = rng.random(shape)
        tables.append(table if is_wide[k] else table[..., None])
        memory.append(table.ravel())
        starts.append(at)
        at += table.size
    starts[0] = at
    size = int(np.prod([sizes[c] for c in out], dtype=int)) * width
    memory += [np.full(size, -7.0), np.full(8, 3.0)]  # old contents and scratch
    starts += [0] * (4 - len(starts))
    flat = np.concatenate(memory)
    before = flat[:at].copy()
    letters = "".join(sorted(set("".join(operands))))
    code = _encode(letters, operands, out, sizes, is_wide, starts, maximum, width)
    contract(flat, code, 0, lanes, np.zeros(8, np.int64), np.zeros(1, np.int64))
    got = flat[at : at + size].reshape([*(sizes[c] for c in out), width])
    spread = [
        t.reshape([*(sizes[c] if c in s else 1 for c in letters), t.shape[-1]])
        for s, t in zip(operands, tables, strict=False)
    ]
    product = np.ones([*(sizes[c] for c in letters), width])
    for table in spread:
        product = product * table
    gone = tuple(k for k, c in enumerate(letters) if c not in out)
    expected = product.max(axis=gone) if maximum else product.sum(axis=gone)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert (flat[:at] == before).all()


def test_largest_entry_of_each_lane() -> None:
    rng = np.random.default_rng(0)
    for lanes, size in itertools.product((SINGLE, TILE), (1, 5, 15, 16, 17, 29, 64)):
        width = len(lanes)
        for _ in range(20):
            table = rng.random((size, width))
            memory = np.concatenate([[1.0], table.ravel(), np.full(len(TILE), 9.0)])
            largest(memory, 1, size, lanes, size * width + 1)
            assert (memory[size * width + 1 :][:width] == table.max(axis=0)).all()
