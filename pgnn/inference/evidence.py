"""What was seen: findings in any form that people have them, turned into arrays for the engines."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError, Unsupported, closest
from pgnn.factors.variable import MISSING, Variable
from pgnn.inference.findings import Finding, is_column, read_discrete, read_real

_PLAIN = frozenset({str, int, bool, float, type(None)})


class UnknownVariable(EvidenceError, KeyError):
    """A name that is no variable here; also a ``KeyError``, as mappings promise."""

    def __init__(self, name: object, known: Iterable[object], what: str = "variable") -> None:
        super().__init__(f"unknown {what} {name!r}{closest(name, known)}")

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show its message in quotes


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What was seen in each of ``B`` rows, as arrays.

    Attributes:
        codes: ``(B, V)`` int32 state indices of the discrete variables, in order; -1 where a
            variable was not seen, or only softly.
        batched: Whether the findings came in rows. If not, ``B`` is 1 and answers have batch
            shape ``()``.
        soft: ``(B, S)`` likelihoods, the states of all discrete variables side by side, each
            variable's scaled to a largest entry of one; ones where there is none. ``None`` if no
            finding is soft.
        soft_scale: ``(B,)`` logarithms of the scales taken out of ``soft``, summed.
        soft_tensors: ``(B, K)`` unscaled likelihoods of the variables whose likelihoods came as
            tensors that want a gradient; ones in rows where the variable was not seen.
        reals: ``(B, *event)`` values of real variables; ``NaN`` where not seen.
        names: Variables that are seen in at least one row: discrete ones in order, then real ones.
        index: The data frame's index, if the evidence was one.
    """

    codes: NDArray[np.int32]
    batched: bool
    soft: NDArray[np.float64] | None
    soft_scale: NDArray[np.float64]
    soft_tensors: Mapping[Hashable, Tensor] = field(default_factory=dict)
    reals: Mapping[Hashable, Tensor] = field(default_factory=dict)
    names: tuple[Hashable, ...] = ()
    index: Any = None

    @property
    def num_rows(self) -> int:
        """Number of rows ``B``; 1 if nothing was batched."""
        return int(self.codes.shape[0])


class EvidenceReader:
    """Reads evidence on a fixed list of variables.

    A finding on a discrete variable is, in this order of precedence,

    - a *label* or a plain *index* (see :class:`~pgnn.factors.variable.Variable`), for all rows;
    - a float tensor or array ``(K,)`` or ``(B, K)``: a *likelihood*, in probability units, finite,
      not negative, not all zero; a row of ``NaN`` is not seen. Floats are likelihoods whatever
      their values, so that a batch that happens to have ``K`` rows means the same as any other;
    - the one exception, a float vector with a ``NaN`` in it: *indices*, ``NaN`` where not seen;
    - an integer or boolean tensor or array ``(B,)``: *indices*, -1 where not seen;
    - a list, Series or data frame column: *labels* (or plain indices), ``None`` or ``NaN`` where
      not seen. A list of floats, or of lists, is a likelihood where no label is a number.

    A finding on a real variable is a number or an array ``event`` or ``(B, *event)``, ``NaN``
    where not seen. Findings without a ``B`` hold for all rows; the others must agree on ``B``.

    Args:
        variables: All variables of a model.

    Example:
        >>> import torch
        >>> reader = EvidenceReader([Variable("rain", ["no", "yes"]), Variable("wet", 2)])
        >>> reader.read({"rain": "yes"}).codes
        array([[ 1, -1]], dtype=int32)
        >>> reader.read({"rain": ["yes", None], "wet": torch.tensor([0.2, 0.8])}).soft
        array([[1.  , 1.  , 0.25, 1.  ],
               [1.  , 1.  , 0.25, 1.  ]])
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = tuple(variables)
        self.discrete = tuple(v for v in self.variables if v.is_discrete)
        self._columns = {v.name: (k, v) for k, v in enumerate(self.discrete)}
        self._reals = {v.name: v for v in self.variables if not v.is_discrete}
        self._offset = np.cumsum([0, *(v.num_states for v in self.discrete)])

    def read(self, evidence: Any = None) -> Evidence:
        """Return the evidence as arrays.

        Args:
            evidence: ``None``, a mapping (or a Series) from variable to finding, or a data frame
                whose columns are variables.

        Raises:
            EvidenceError: If a name is unknown, a value is no state, a likelihood is negative,
                infinite or all zero, or shapes do not agree.
            Unsupported: If the finding is on an array of discrete variables.
        """
        if evidence is None:
            evidence = {}
        elif not isinstance(evidence, Mapping):
            if hasattr(evidence, "columns"):
                return self._read_frame(evidence)
            if not (is_column(evidence) and hasattr(evidence, "items")):
                raise EvidenceError(
                    "evidence must be a mapping from variable to finding or a data frame, got "
                    f"{type(evidence).__name__}"
                )
            evidence = dict(evidence.items())
        codes = np.full((1, len(self.discrete)), MISSING, dtype=np.int32)
        rest: list[tuple[Hashable, Any]] = []
        seen: list[int] = []
        for name, value in evidence.items():
            if type(value) in _PLAIN and name in self._columns:
                column, variable = self._columns[name]
                if not variable.shape:
                    code = variable.index(value)
                    if code != MISSING:
                        codes[0, column] = code
                        seen.append(column)
                    continue
            rest.append((name, value))
        if rest:
            return self._assemble(codes, [self._find(name, value) for name, value in rest])
        names = tuple([self.discrete[k].name for k in sorted(seen)])
        return Evidence(codes, False, None, np.zeros(1), names=names)

    def _read_frame(self, frame: Any) -> Evidence:
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise EvidenceError(f"column {twice!r} occurs twice in the data frame; keep one")
        codes = np.full((1, len(self.discrete)), MISSING, dtype=np.int32)
        findings = [self._find(name, column, "column") for name, column in frame.items()]
        return self._assemble(codes, findings, frame.index)

    def _find(self, name: Hashable, value: Any, what: str = "variable") -> Finding:
        if name in self._columns:
            variable = self._columns[name][1]
            if variable.shape:
                raise Unsupported(
                    f"{name!r} is an array of discrete variables of shape {variable.shape}; "
                    "give findings on its elements"
                )
            return read_discrete(variable, value)
        if name in self._reals:
            return read_real(self._reals[name], value)
        raise UnknownVariable(name, (v.name for v in self.variables), what)

    def _assemble(
        self, codes: NDArray[np.int32], findings: Sequence[Finding], index: Any = None
    ) -> Evidence:
        """Spread findings over the rows; ``codes`` holds those that hold for all rows."""
        rows = _common_rows(findings, None if index is None else len(index))
        size = 1 if rows is None else rows
        codes = np.repeat(codes, size, axis=0)
        soft: NDArray[np.float64] | None = None
        scale = np.zeros(size)
        tensors: dict[Hashable, Tensor] = {}
        reals: dict[Hashable, Tensor] = {}
        softly: set[int] = set()
        for f in findings:
            name = f.variable.name
            if f.real is not None:
                reals[name] = f.real.expand(size, *f.variable.shape)
            elif f.codes is not None:
                codes[:, self._columns[name][0]] = f.codes
            elif f.likelihood is not None:
                column = self._columns[name][0]
                softly.add(column)
                if soft is None:
                    soft = np.ones((size, int(self._offset[-1])))
                soft[:, self._offset[column] : self._offset[column + 1]] = f.likelihood
                scale += f.log_scale
                if f.tensor is not None:
                    tensors[name] = f.tensor.expand(size, f.variable.num_states)
        hard = np.flatnonzero(codes.max(axis=0, initial=MISSING) != MISSING).tolist()
        names = (*(self.discrete[k].name for k in sorted(softly.union(hard))), *reals)
        return Evidence(codes, rows is not None, soft, scale, tensors, reals, names, index)


def read_evidence(variables: Sequence[Variable], evidence: Any = None) -> Evidence:
    """Read evidence once; to read more on the same variables keep an :class:`EvidenceReader`.

    Args:
        variables: All variables of a model, discrete and real.
        evidence: ``None``, a mapping from variable to finding, or a data frame.

    Raises:
        EvidenceError: If a name, a state, a likelihood or a shape is wrong.
    """
    return EvidenceReader(variables).read(evidence)


def over_inputs(seen: Evidence, inputs: Mapping[Hashable, Tensor] | None) -> Evidence:
    """Return evidence with a row for each row of the inputs.

    Findings that hold for all rows are repeated; inputs ``(B, ...)`` make the answer a batch.

    Raises:
        EvidenceError: If the evidence, or another input, has another number of rows.
    """
    first, rows = "the evidence", seen.num_rows if seen.batched else None
    for name, value in (inputs or {}).items():
        size = len(value) if np.ndim(value) else None
        if size is None or (rows is not None and size != rows):
            what = (
                "no first axis for rows" if size is None else f"{size} rows but {first} has {rows}"
            )
            raise EvidenceError(f"input {name!r} has {what}; give it the shape (B, ...)")
        first, rows = f"input {name!r}", size
    if rows is None or seen.batched:
        return seen
    return replace(
        seen,
        codes=np.repeat(seen.codes, rows, axis=0),
        batched=True,
        soft=None if seen.soft is None else np.repeat(seen.soft, rows, axis=0),
        soft_scale=np.repeat(seen.soft_scale, rows),
        soft_tensors={n: x.expand(rows, *x.shape[1:]) for n, x in seen.soft_tensors.items()},
        reals={n: x.expand(rows, *x.shape[1:]) for n, x in seen.reals.items()},
    )


def _common_rows(findings: Sequence[Finding], index_rows: int | None) -> int | None:
    """The ``B`` on which all findings agree; ``None`` if nothing is batched."""
    first, rows = "the data frame", index_rows
    for f in findings:
        if f.rows is None:
            continue
        if rows is None:
            first, rows = repr(f.variable.name), f.rows
        elif f.rows != rows:
            raise EvidenceError(
                f"evidence for {f.variable.name!r} has {f.rows} rows but {first} has {rows}; "
                "give all of them the same number of rows, or one value for all rows"
            )
    return rows
