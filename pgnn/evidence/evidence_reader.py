"""Reads what was seen, in any form that people have it, into arrays for the engines."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import EvidenceError
from pgnn.evidence.array_findings import check_apart, read_array
from pgnn.evidence.evidence import Evidence
from pgnn.evidence.findings import (
    Finding,
    common_rows,
    is_column,
    is_missing,
    read_discrete,
    read_real,
)
from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.elements import Elements
from pgnn.factors.variable import MISSING, Variable

_PLAIN = frozenset({str, int, bool, float, type(None)})


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

    A finding on an array of discrete variables has its shape: states ``shape`` or ``(B, *shape)``,
    as integers or booleans (indices) or as nested lists or object arrays (labels), or likelihoods
    ``(*shape, K)`` or ``(B, *shape, K)`` of floats; -1, ``NaN`` and ``None`` mean "not seen" of
    any cell. One element is a variable like any other, of the name ``("pixel", 3, 4)``; an array
    is given as a whole or by elements, not both.

    Args:
        variables: All variables of a model.
        elements: Those of the discrete variables, if they have been numbered already.
        in_part: Real variables of which some numbers may be ``NaN`` and others not.

    Raises:
        Unsupported: If an axis of an array has a name instead of a length.

    Example:
        >>> import torch
        >>> reader = EvidenceReader([Variable("rain", ["no", "yes"]), Variable("wet", 2)])
        >>> reader.read({"rain": "yes"}).codes
        array([[ 1, -1]], dtype=int32)
        >>> reader.read({"rain": ["yes", None], "wet": torch.tensor([0.2, 0.8])}).soft
        array([[1.  , 1.  , 0.25, 1.  ],
               [1.  , 1.  , 0.25, 1.  ]])
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        elements: Elements | None = None,
        in_part: Collection[Hashable] = (),
    ) -> None:
        self.variables = tuple(variables)
        self._in_part = frozenset(in_part)
        self.elements = Elements(self.variables) if elements is None else elements
        self.discrete = self.elements.variables
        self._size = len(self.elements)
        self._single = {
            v.name: (self.elements.first[v.name], v) for v in self.elements.variables if not v.shape
        }
        self._name = {k: name for name, (k, _) in self._single.items()}
        self._reals = {v.name: v for v in self.variables if not v.is_discrete}

    def read(self, evidence: Any = None) -> Evidence:
        """Return the evidence as arrays.

        Args:
            evidence: ``None``, a mapping (or a Series) from variable to finding, or a data frame
                whose columns are variables.

        Raises:
            EvidenceError: If a name is unknown, a value is no state, a likelihood is negative,
                infinite or all zero, or shapes do not agree.
        """
        if isinstance(evidence, Evidence):
            return evidence
        if isinstance(evidence, Tensor | np.ndarray) and evidence.ndim > 1:
            evidence = self._columns(evidence)
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
        codes = np.full((1, self._size), MISSING, dtype=np.int32)
        rest: list[tuple[Hashable, Any]] = []
        seen: list[int] = []
        for name, value in evidence.items():
            if type(value) in _PLAIN and name in self._single:
                number, variable = self._single[name]
                code = variable.index(value)
                if code != MISSING:
                    codes[0, number] = code
                    seen.append(number)
            else:
                rest.append((name, value))
        if rest:
            return self._assemble(codes, [self._find(name, value) for name, value in rest])
        names = tuple([self._name[k] for k in sorted(seen)])
        return Evidence(codes, False, None, np.zeros(1), names=names)

    def _read_frame(self, frame: Any) -> Evidence:
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise EvidenceError(f"column {twice!r} occurs twice in the data frame; keep one")
        codes = np.full((1, self._size), MISSING, dtype=np.int32)
        items = frame.items()
        if frame.columns.nlevels > 1:
            items = ((_without_padding(name), column) for name, column in items)
        findings = [self._find(name, column, "column") for name, column in items]
        return self._assemble(codes, findings, frame.index)

    def _columns(self, matrix: Any) -> dict[Hashable, Any]:
        """A matrix as findings by name, or an array ``(N, *shape)`` of the only variable."""
        rows, *rest = matrix.shape
        if len(self.variables) == 1 and (only := self.variables[0]).shape == tuple(rest):
            return {only.name: matrix}
        elements = self.elements
        if rest != [len(elements)]:
            what = "discrete variable" if elements.plain else "element of the discrete variables"
            raise EvidenceError(
                f"a matrix of state indices needs {len(elements)} columns, one for each {what} in "
                f"order, got shape {tuple(matrix.shape)}"
            )
        if elements.plain:
            return {v.name: matrix[:, k] for k, v in enumerate(elements.variables)}
        first = elements.first
        return {
            v.name: matrix[:, first[v.name] : first[v.name] + v.num_elements].reshape(
                rows, *v.shape
            )
            for v in elements.variables
        }

    def _find(self, name: Hashable, value: Any, what: str = "variable") -> tuple[int, Finding]:
        """A finding, and the number of its first element."""
        if name in self._single:
            number, variable = self._single[name]
            return number, read_discrete(variable, value)
        if name in self._reals:
            return -1, read_real(self._reals[name], value, name in self._in_part)
        found = self.elements.find(name)
        if found is None:
            raise unknown_variable(name, self.variables, what)
        if found[0].shape:
            return self.elements.first[name], read_array(found[0], value)
        return int(found[1]), read_discrete(found[0], value)

    def _assemble(
        self,
        codes: NDArray[np.int32],
        placed: Sequence[tuple[int, Finding]],
        index: Any = None,
    ) -> Evidence:
        """Spread findings over the rows; ``codes`` holds those that hold for all rows."""
        findings = [f for _, f in placed]
        check_apart(findings)
        rows = common_rows(findings, None if index is None else len(index))
        size = 1 if rows is None else rows
        codes = np.repeat(codes, size, axis=0)
        soft: NDArray[np.float64] | None = None
        scale = np.zeros(size)
        tensors: dict[Hashable, Tensor] = {}
        reals: dict[Hashable, Tensor] = {}
        softly: set[int] = set()
        for first, f in placed:
            v = f.variable
            if f.real is not None:
                reals[v.name] = f.real.expand(size, *v.shape)
                continue
            own = 1 if f.rows is None else f.rows
            last = first + v.num_elements
            if f.codes is not None:
                codes[:, first:last] = f.codes.reshape(own, last - first)
            elif f.likelihood is not None:
                softly.add(first)
                offset = self.elements.offset
                if soft is None:
                    soft = np.ones((size, int(offset[-1])))
                width = int(offset[last] - offset[first])
                soft[:, offset[first] : offset[last]] = f.likelihood.reshape(own, width)
                scale += f.log_scale
                if f.tensor is not None:
                    tensors[v.name] = f.tensor.expand(size, *v.shape, v.num_states)
        hard = np.flatnonzero(codes.max(axis=0, initial=MISSING) != MISSING)
        names = (*self._names(hard, softly), *reals)
        return Evidence(codes, rows is not None, soft, scale, tensors, reals, names, index)

    def _names(self, hard: NDArray[np.intp], softly: set[int]) -> list[Hashable]:
        """The names of the variables that some elements belong to, in order."""
        if self.elements.plain:
            return [self._name[k] for k in sorted(softly.union(hard.tolist()))]
        seen = np.union1d(self.elements.owners(hard), self.elements.owners(sorted(softly)))
        return [self.elements.variables[k].name for k in seen.astype(int).tolist()]


def read_evidence(variables: Sequence[Variable], evidence: Any = None) -> Evidence:
    """Read evidence once; to read more on the same variables keep an :class:`EvidenceReader`.

    Args:
        variables: All variables of a model, discrete and real.
        evidence: ``None``, a mapping from variable to finding, or a data frame.

    Raises:
        EvidenceError: If a name, a state, a likelihood or a shape is wrong.
    """
    return EvidenceReader(variables).read(evidence)


def _without_padding(name: tuple[Any, ...]) -> Hashable:
    """A tuple as it was before pandas made levels of tuples of different lengths."""
    parts = [part for part in name if not is_missing(part)]
    parts = [int(x) if isinstance(x, float) and x.is_integer() else x for x in parts]
    return parts[0] if len(parts) == 1 else tuple(parts)
