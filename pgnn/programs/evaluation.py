"""Repeated evaluation of the tables of a program, in Python at first and by a tape later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.programs.enumeration import Layout, SiteTable
from pgnn.tape.recorder import record
from pgnn.tape.tape import Tape

Tables = Mapping[str, SiteTable]
Run = Callable[[Mapping[str, Tensor]], Tables]

_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True, eq=False)
class _TapedTables:
    """A recorded tape that computes tables.

    Attributes:
        tape: Its outputs are the log values of the tables.
        tables: Table of each site, without log values.
        place: Index of the output of each site.
        watched: Versions of the tensors whose change invalidates the tape.
        inputs: Values of parameters and reals during the recording.
    """

    tape: Tape
    tables: Tables
    place: Mapping[str, int]
    watched: tuple[Any, ...]
    inputs: list[Tensor]

    @classmethod
    def of(
        cls, tape: Tape, tables: Tables, watched: tuple[Any, ...], inputs: list[Tensor]
    ) -> _TapedTables:
        """Record a tape; also return the tables computed during the recording."""
        empty = torch.empty(0)
        scopes = {n: SiteTable(t.scope, empty, t.shared) for n, t in tables.items()}
        place = {n: k for k, n in enumerate(scopes)}
        return cls(tape, scopes, place, watched, [x.detach().clone() for x in inputs])


class Replayed(Mapping[str, SiteTable]):
    """Tables computed by a tape.

    Attributes:
        pattern: Identifies the tape, and so the sites whose tables share tensors.
    """

    def __init__(self, pattern: _TapedTables, inputs: list[Tensor]) -> None:
        self.pattern, self._values = pattern, pattern.tape.run(inputs)

    def __getitem__(self, name: str) -> SiteTable:
        bare = self.pattern.tables[name]
        return SiteTable(bare.scope, self._values[self.pattern.place[name]], bare.shared)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pattern.tables)

    def __len__(self) -> int:
        return len(self._values)


class _Stage(Enum):
    """The stages of an evaluation."""

    NEW = "the program has not been executed"
    RUN = "the program has been executed once"
    RECORDED = "the tape has not been verified at other values"
    TRUSTED = "the tape replaces the program"
    REFUSED = "the program cannot be recorded"


class Evaluation:
    """Evaluates the tables of sites at parameters and real values.

    The first call executes the program, and the second call records its operations. The third call,
    at different values, compares the results of the tape with those of the program; afterwards only
    the tape runs. Everything except parameters, real values and watched tensors is assumed to be
    constant.

    Args:
        run: Executes the program with the values of real sites.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stage = _Stage.NEW
        self._tape: _TapedTables | None = None

    def tables(
        self,
        reals: Mapping[str, Tensor],
        parameters: Sequence[Tensor],
        watched: Iterable[Tensor],
    ) -> Tables:
        """Return the tables.

        Args:
            reals: Values of real sites.
            parameters: Tensors that change while learning.
            watched: Tensors whose change invalidates the tape.
        """
        state = tuple((x.data_ptr(), x._version, tuple(x.shape)) for x in watched)
        inputs = [*parameters, *reals.values()]
        if self._tape is not None and self._tape.watched != state:
            self._tape, self._stage = None, _Stage.NEW
        if self._stage is _Stage.NEW:
            self._stage = _Stage.RUN
            return self._run(reals)
        if self._stage is _Stage.RUN:
            return self._record(reals, inputs, state)
        if self._stage is _Stage.RECORDED:
            return self._compare(reals, inputs)
        return self.again(reals, parameters)

    def again(self, reals: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> Tables:
        """Evaluate the tables after :meth:`tables`, possibly mapped over rows of reals."""
        if self._stage is not _Stage.TRUSTED:
            return self._run(reals)
        assert self._tape is not None
        return Replayed(self._tape, [*parameters, *reals.values()])

    @property
    def trusted(self) -> bool:
        """Whether there is a valid tape, for which no watched object has changed."""
        return self._stage is _Stage.TRUSTED

    def _record(
        self, reals: Mapping[str, Tensor], inputs: list[Tensor], state: tuple[Any, ...]
    ) -> Tables:
        tables: dict[str, SiteTable] = {}

        def compute() -> list[Tensor]:
            tables.update(self._run(reals))
            return [t.log_values for t in tables.values()]

        with torch.set_grad_enabled(True):
            tape = record(compute, inputs)
        if tape is None:
            self._stage = _Stage.REFUSED
        else:
            self._stage = _Stage.RECORDED
            self._tape = _TapedTables.of(tape, tables, state, inputs)
        if torch.is_grad_enabled():
            return tables
        return {n: SiteTable(t.scope, t.log_values.detach(), t.shared) for n, t in tables.items()}

    def _compare(self, reals: Mapping[str, Tensor], inputs: list[Tensor]) -> Tables:
        assert self._tape is not None
        tables = self._run(reals)
        if all(torch.equal(x, y) for x, y in zip(inputs, self._tape.inputs, strict=True)):
            return tables  # identical values would verify nothing
        replayed = Replayed(self._tape, inputs)
        same = all(_are_close(tables[n].log_values, replayed[n].log_values) for n in tables)
        if same:
            self._stage = _Stage.TRUSTED
        else:
            self._tape, self._stage = None, _Stage.REFUSED
        return tables


def _are_close(one: Tensor, other: Tensor) -> bool:
    close = _CLOSE.get(one.dtype, 1e-2)
    return one.shape == other.shape and torch.allclose(one, other, rtol=close, atol=close)


def shaped(layout: Layout, reals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reshape ``(B, *sizes, *event)`` values to the shapes of the program, for each row."""
    return {n: x.reshape([len(x), *layout.sites[n].value.shape]) for n, x in reals.items()}


def tables_in_rows(run: Run, layout: Layout, reals: Mapping[str, Tensor]) -> Tables:
    """Return the table of each site; tables that depend on the reals have a first axis of rows.

    Args:
        run: Computes the tables for one row.
        layout: Layout of the sites.
        reals: Values of real sites, as :func:`shaped` returns them.
    """
    number = next(len(x) for x in reals.values())
    if number == 0:
        drawn = {n: layout.sites[n].value for n in reals}
        return {
            n: SiteTable(t.scope, t.log_values.expand(0, *t.log_values.shape), t.shared)
            for n, t in run(drawn).items()
        }
    try:
        return _mapped(run, reals)
    except (ModelError, RuntimeError):  # an operation that torch cannot vectorise
        return _looped(run, reals, number)


def _mapped(run: Run, reals: Mapping[str, Tensor]) -> Tables:
    """Evaluate all rows in one call; tables that do not depend on the reals are not repeated."""
    same: dict[str, SiteTable] = {}
    scopes: dict[str, SiteTable] = {}

    def values(row: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mapped = {}
        for name, table in run(row).items():
            if torch._C._functorch.is_batchedtensor(table.log_values):
                mapped[name], scopes[name] = table.log_values, table
            else:
                same[name] = table
        return mapped

    rows = torch.func.vmap(values, randomness="different")(dict(reals))
    varying = {n: SiteTable(scopes[n].scope, x, scopes[n].shared) for n, x in rows.items()}
    return {**same, **varying}


def _looped(run: Run, reals: Mapping[str, Tensor], number: int) -> Tables:
    """Evaluate row after row."""
    each = [run({n: x[k] for n, x in reals.items()}) for k in range(number)]
    return {
        n: SiteTable(t.scope, torch.stack([e[n].log_values for e in each]), t.shared)
        for n, t in each[0].items()
    }
