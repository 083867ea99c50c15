"""Reads the numbers of a BIF text."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from pgnn.errors import DataError, closest
from pgnn.factors.conditionals.table_reader import ROW_TOLERANCE
from pgnn.io.bif_structure import PROPERTY, Block, Structure, split_names
from pgnn.io.network_assembly import NORMALISE
from pgnn.io.number_words import NotANumber, read_numbers
from pgnn.io.scanner import until

_ROW = re.compile(r'\s*+\(([^()";]*+)\)([^;(){}"]*+);')
_QUOTED_ROW = re.compile(rf'\s*+\(({until("();")})\)([^;(){{}}"]*+);', re.DOTALL)
_WHOLE = re.compile(r'(table|default)\b([^;(){}"]*+);')
_OPENING = re.compile(rf"\({until('();')}|(?:table|default|property)\b", re.DOTALL)
_NUMBERS = re.compile(r'[^;(){}"]*+')
_NUMBER = re.compile(r"[^\s,;]+")


def read_values(structure: Structure, block: Block, normalise: bool) -> np.ndarray:
    """Return the numbers of one probability block, the child last.

    Args:
        structure: The blocks, of which the variables of this one are known.
        block: The block.
        normalise: Whether rows may have any sum.

    Raises:
        DataError: With line and column, if the numbers are not those of a conditional table.
    """
    return _TableReader(structure, block, normalise).read()


class _TableReader:
    def __init__(self, structure: Structure, block: Block, normalise: bool) -> None:
        self.structure, self.block = structure, block
        self.normalise = normalise
        self.text, self.source = structure.text, structure.source
        self.child = structure.variables[block.child]
        self.parents = [structure.variables[name] for name in block.parents]
        self.size = len(self.child.states)
        self.shape = [len(p.states) for p in self.parents]
        self.num_rows = math.prod(self.shape)
        self.rows: list[int] = []
        self.numbers: list[str] = []
        self.starts: list[int] = []
        self.whole: dict[str, re.Match[str]] = {}

    def read(self) -> np.ndarray:
        at = self._read_rows(self.block.start)
        while at < self.block.end:
            at = self._read_rows(self._read_other(at))
        values = self._from_table() if "table" in self.whole else self._from_rows()
        return values.reshape(*self.shape, self.size)

    def _read_rows(self, at: int) -> int:
        """Read the following entries ``(states) numbers;``."""
        text, end = self.text, self.block.end
        row = _ROW.match(text, at, end) or _QUOTED_ROW.match(text, at, end)
        while row:
            numbers = row.group(2).replace(",", " ").split()
            if len(numbers) != self.size:
                raise self._wrong_count(row.start(2), len(numbers), self.size)
            self.rows.append(self._row_index(row))
            self.starts.append(row.start(2))
            self.numbers += numbers
            at = row.end()
            row = _ROW.match(text, at, end) or _QUOTED_ROW.match(text, at, end)
        return at

    def _row_index(self, row: re.Match[str]) -> int:
        labels = split_names(row.group(1), len(self.parents))
        if len(labels) != len(self.parents):
            raise self.source.error(
                row.start(1),
                f"expected {len(self.parents)} states, one for each parent of "
                f"{self.block.child!r}, got {len(labels)}",
            )
        index = 0
        for k, (parent, label) in enumerate(zip(self.parents, labels, strict=True)):
            state = parent.index.get(label)
            if state is None:
                name, hint = self.block.parents[k], closest(label, parent.states)
                raise self.source.error(row.start(1), f"{name!r} has no state {label!r}{hint}")
            index = index * len(parent.states) + state
        return index

    def _read_other(self, at: int) -> int:
        text, end = self.text, self.block.end
        at = min(self.structure.skip_space(at), end)
        declaration = PROPERTY.match(text, at, end)
        if declaration or at == end:
            return declaration.end() if declaration else end
        match = _WHOLE.match(text, at, end)
        if match is None:
            raise self._malformed(at)
        if match.group(1) in self.whole:
            raise self.source.error(at, f"{self.block.child!r} has two '{match.group(1)}' entries")
        self.whole[match.group(1)] = match
        return match.end()

    def _malformed(self, at: int) -> DataError:
        """Return the error about a malformed entry."""
        opening = _OPENING.match(self.text, at, self.block.end)
        if opening is None:
            what = f"'(', 'table', 'default' or '}}' in the table of {self.block.child!r}"
            return self.structure.unexpected(at, what)
        stop = opening.end()
        if opening.group().startswith("("):
            if self.text[stop] != ")":
                return self.structure.unexpected(stop, "')' after the states of the parents")
            stop += 1
        numbers = _NUMBERS.match(self.text, stop, self.block.end)
        stop = numbers.end() if numbers else stop
        return self.structure.unexpected(stop, f"';' after the numbers of {self.block.child!r}")

    def _from_table(self) -> np.ndarray:
        match = self.whole["table"]
        if self.rows or "default" in self.whole:
            message = f"{self.block.child!r} has a 'table' and other entries too; keep one of them"
            raise self.source.error(match.start(), message)
        return self._whole_table(match)

    def _whole_table(self, match: re.Match[str]) -> np.ndarray:
        """All rows, from a single entry."""
        values = self._parse_entry(match, self.size * self.num_rows)
        # The child is the slowest axis of a BIF table and the last one of pgnn's.
        table = np.ascontiguousarray(values.reshape(self.size, self.num_rows).T)
        transposed = np.abs(values.reshape(self.num_rows, self.size).sum(axis=1) - 1)
        advice = ""
        if transposed.max() <= ROW_TOLERANCE:
            advice = "a 'table' runs through the child slowest, but these fit child fastest"
        self._check_sums(table, lambda _: match.start(2), range(self.num_rows), advice)
        return table

    def _from_rows(self) -> np.ndarray:
        values = self._parse(self.numbers, self.starts).reshape(-1, self.size)
        self._check_sums(values, self.starts.__getitem__, self.rows)
        if len(set(self.rows)) < len(self.rows):
            first = {row: k for k, row in reversed(list(enumerate(self.rows)))}
            twice = next(k for k, row in enumerate(self.rows) if first[row] != k)
            where = self._labels(self.rows[twice])
            raise self.source.error(
                self.starts[twice], f"row {where} of {self.block.child!r} occurs twice"
            )
        if len(self.rows) == self.num_rows:
            table = np.empty((self.num_rows, self.size))
        else:
            table = self._filled_with_default()
        table[self.rows] = values
        return table

    def _filled_with_default(self) -> np.ndarray:
        child = self.block.child
        if "default" not in self.whole:
            observed = set(self.rows)
            missing = self._labels(next(r for r in itertools.count() if r not in observed))
            what = f"{self.num_rows} rows of {child!r}, got {len(self.rows)}"
            example = f"{missing} is missing and there is no 'default'"
            if not self.parents:
                what, example = f"'table' and {self.size} numbers", f"{child!r} has none"
            raise self.source.error(self.block.end, f"expected {what}; {example}")
        match = self.whole["default"]
        if len(match.group(2).replace(",", " ").split()) == self.size * self.num_rows:
            return self._whole_table(match)
        row = self._parse_entry(match, self.size)
        self._check_sums(row.reshape(1, -1), lambda _: match.start(2), ["default"])
        return np.tile(row, (self.num_rows, 1))

    def _parse_entry(self, match: re.Match[str], size: int) -> np.ndarray:
        numbers = match.group(2).replace(",", " ").split()
        if len(numbers) != size:
            raise self._wrong_count(match.start(2), len(numbers), size)
        return self._parse(numbers, [match.start(2)])

    def _parse(self, numbers: list[str], starts: list[int]) -> np.ndarray:
        """Convert tokens to float64, all at once."""
        most = math.inf if self.normalise else 1 + ROW_TOLERANCE
        try:
            return read_numbers(numbers, most)
        except NotANumber as error:
            bad = error.index
        per_start = len(numbers) // len(starts)
        tokens = _NUMBER.finditer(self.text, starts[bad // per_start])
        offset = next(itertools.islice(tokens, bad % per_start, None)).start()
        what = "number not below 0" if self.normalise else "probability from 0 to 1"
        raise self.source.error(offset, f"expected a {what}, got {numbers[bad][:40]!r}")

    def _check_sums(
        self,
        values: np.ndarray,
        offset: Callable[[int], int],
        rows: Sequence[int | str],
        advice: str = "",
    ) -> None:
        if self.normalise:
            return
        sums = values.sum(axis=1)
        wrong = np.flatnonzero(np.abs(sums - 1) > ROW_TOLERANCE)
        if wrong.size:
            row, total = rows[wrong[0]], sums[wrong[0]]
            label = self._labels(row) if isinstance(row, int) else f"'{row}'"
            where = (
                f"row {label} of {self.block.child!r}"
                if self.parents
                else f"the table of {self.block.child!r}"
            )
            start = self.structure.skip_space(offset(int(wrong[0])))
            raise self.source.error(
                start,
                f"expected {where} to sum to 1, got {total:.10g}, {total - 1:+.3g} off",
                advice or NORMALISE,
            )

    def _labels(self, row: int) -> str:
        labels: list[str] = []
        for parent in reversed(self.parents):
            row, state = divmod(row, len(parent.states))
            labels.insert(0, parent.states[state])
        return f"({', '.join(labels)})"

    def _wrong_count(self, offset: int, got: int, expected: int) -> DataError:
        return self.source.error(
            self.structure.skip_space(offset),
            f"expected {expected} numbers for {self.block.child!r}, got {got}",
        )
