"""Reader of evidence in any form into arrays for the engines."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError, EvidenceError, closest
from pgnn.evidence.cell_names import CellNames
from pgnn.evidence.coded_columns import BLOCK, CodedColumns, MatrixColumns, check_matrix
from pgnn.evidence.framed_values import only_column
from pgnn.evidence.frames import are_rows, columns_of, is_frame
from pgnn.evidence.nameless_rows import nameless_rows
from pgnn.evidence.reading import Reading, check_apart, check_cells, common_rows, read_real
from pgnn.evidence.real_cells import joined_cells
from pgnn.evidence.row_evidence import RowEvidence
from pgnn.evidence.unknown_variable import unknown_columns
from pgnn.evidence.values import RawEvidence, Rule, read_discrete
from pgnn.evidence.wrappers import Codes
from pgnn.factors.elements import Elements
from pgnn.factors.labels import MISSING, Column
from pgnn.factors.sparse_rows import is_scipy_sparse, is_sparse
from pgnn.factors.variable import Variable


class EvidenceReader:
    """Reads evidence on a fixed list of variables; shared by all verbs.

    A value means the same in every container (see :class:`~pgnn.factors.labels.Labels`): an integer
    or boolean is a *label* if the labels are numbers or their text, an *index* if no label could be
    meant; a string is a label; ``None``, ``NaN``, ``NA``, masked cells and -1 mean “not observed”.
    Containers are scalars, (nested) lists and tuples, arrays of any dtype, masked arrays, tensors,
    Series and Categoricals, of pandas, polars or another library.

    - :func:`pgnn.codes` says that integers are state indices, whatever the labels.
    - Floats ``(K,)`` or ``(B, K)`` that could not be states are *likelihoods*, in probability
    units, finite, not negative, not all zero; a row of ``NaN`` is not observed. Mappings from label
    to weight and arguments of :func:`pgnn.likelihood` are likelihoods too. Ambiguous values are an
    error.
    - A finding on a real variable is a number or an array ``event`` or ``(B, *event)``.

    Findings without a ``B`` hold for all rows; the others must agree on ``B``. A finding on an
    array of discrete variables has its shape: states ``shape`` or ``(B, *shape)``, likelihoods
    ``(*shape, K)`` or ``(B, *shape, K)``. An element is a variable like any other, with the name
    ``("pixel", 3, 4)``; an array is given either as a whole or by elements.

    Args:
        variables: All variables of a model.
        elements: Numbered elements of the discrete variables, if known already.
        in_part: Real variables that may be partially ``NaN``, with the number of trailing axes that
            form a value observed as a whole.
        vector: Name of the variable that a bare array or list of rows belongs to; its rows are
            ``(N, *shape)`` or ``(N, n)``.
        columns: Names of its elements, which are then read like variables.
        constants: Values of real variables where they are not observed.

    Raises:
        Unsupported: If an axis of an array is named instead of having a length.

    Example:
        >>> reader = EvidenceReader([Variable("rain", ["no", "yes"]), Variable("wet", 2)])
        >>> reader.read({"rain": "yes"}).codes
        array([[ 1, -1]], dtype=int32)
        >>> reader.read({"rain": ["yes", None], "wet": [0.2, 0.8]}).soft
        array([[1.  , 1.  , 0.25, 1.  ],
               [1.  , 1.  , 0.25, 1.  ]])
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        elements: Elements | None = None,
        in_part: Mapping[Hashable, int] | None = None,
        vector: Hashable = None,
        columns: Sequence[Hashable] = (),
        constants: Mapping[Hashable, Tensor] | None = None,
    ) -> None:
        self.variables = tuple(variables)
        self._in_part = dict(in_part or {})
        self.elements = Elements(self.variables) if elements is None else elements
        self.discrete = self.elements.variables
        self._size = len(self.elements)
        self._unobserved = np.full((1, self._size), MISSING, dtype=np.int32)
        self._no_scale = np.zeros(1)
        self._single = {
            v.name: (self.elements.first[v.name], v) for v in self.elements.variables if not v.shape
        }
        plain = [(n, k, v.labels) for n, (k, v) in self._single.items() if not v.labels.are_large]
        self._codes = {name: (k, labels.codes) for name, k, labels in plain}
        self._name = {k: name for name, (k, _) in self._single.items()}
        self._reals = {v.name: v for v in self.variables if not v.is_discrete}
        self.constants = dict(constants or {})
        self._vector = vector
        self._array = next((v for v in self.variables if v.name == vector), None)
        self._cells = None if self._array is None else CellNames(self._array, columns)

    def read(self, evidence: Any = None, *, states_only: bool = False) -> RowEvidence:
        """Return the evidence as arrays.

        Args:
            evidence: ``None``, a mapping (or a Series) from variable to finding, a data frame whose
                columns are variables, a list of mappings, a matrix of states with a column for
                each element, :func:`pgnn.codes` or :func:`pgnn.observed` of these, or a result of
                this method.
            states_only: Whether likelihoods are excluded, as in training data.

        Raises:
            EvidenceError: If a name is unknown, a value is no state, a likelihood is negative,
                infinite or all zero, or shapes disagree.
        """
        return self.read_given(evidence, states_only).filled(self.constants)

    def read_given(self, evidence: Any, states_only: bool = False) -> RowEvidence:
        """Return the evidence without constants; see :meth:`read`."""
        if isinstance(evidence, RowEvidence):
            return evidence
        evidence = {} if evidence is None else evidence
        if isinstance(evidence, dict) and (known := self._read_labels(evidence)) is not None:
            return known
        raw = RawEvidence.of(evidence, states_only)
        values = raw.values
        array = None if self._array is None else nameless_rows(self._array, values)
        if array is not None:
            raw = replace(raw, rule=replace(raw.rule, rows=True))
            return self._assemble([self._find(self._vector, array, raw)])
        if self._is_only_real(values):
            return self._assemble([self._find(next(iter(self._reals)), values, raw)])
        if isinstance(values, Tensor | np.ndarray) and values.ndim > 1:
            return self._read_matrix(values, raw.rule)
        if isinstance(values, Mapping):
            items: Iterable[tuple[Hashable, Any]] = values.items()
        elif is_frame(values) or are_rows(values):
            items = columns_of(values).items()
        elif hasattr(values, "items") and hasattr(values, "dtype"):  # a Series
            items = values.items()
        else:
            what = "a mapping from variable to finding or a data frame"
            raise EvidenceError(f"evidence must be {what}, got {type(values).__name__}")
        frame, by_rows = is_frame(values), is_frame(values) or are_rows(values)
        cells = [(n, x) for n, x in items if n not in raw.ignore]
        if self._cells is not None:
            cells = self._cells.arranged(cells, by_rows, self._is_name)
        cells = joined_cells(cells, self._reals)
        self._check_names([n for n, _ in cells], "column" if frame else "variable")
        raw = replace(raw, rule=replace(raw.rule, rows=raw.rule.rows or by_rows))
        readings = [self._find(name, value, raw) for name, value in cells]
        if not by_rows:
            return self._assemble(readings)
        number = len(values)
        check_cells([r for _, r in readings], number)
        return self._assemble(readings, number, getattr(values, "index", None) if frame else None)

    def places(self, names: Sequence[Hashable]) -> dict[Hashable, Hashable]:
        """Return the variable or element that each column of a frame belongs to."""
        if self._cells is None:
            return {n: n for n in names}
        return self._cells.places(names, self._is_name)

    def columns(
        self, data: Any, names: Iterable[Hashable] | None = None, block: int = BLOCK
    ) -> CodedColumns:
        """Return columns of states that are coded block by block to avoid a large copy.

        Args:
            data: Data as for :meth:`read`, or its result.
            names: The single discrete variables to read; all by default.
            block: Number of rows in a block.

        Raises:
            DataError: If a column is missing or unknown, lengths differ, there are no rows, or a
                value is no state.
        """
        variables = [self._single[n][1] for n in (self._single if names is None else names)]
        if isinstance(data, RowEvidence):
            known = [self._element_name(k) for k in range(self._size)]
            return MatrixColumns(variables, data.codes, known, block)
        try:
            return self._coded(variables, RawEvidence.of(data, True), block)
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None

    # --- helpers ------------------------------------------------------------------------------

    def _read_labels(self, evidence: Mapping[Hashable, Any]) -> RowEvidence | None:
        """Return one row of plain labels (a fast path); None for any other evidence."""
        codes = self._unobserved.copy()
        numbers: list[int] = []
        row, known = codes[0], self._codes
        try:
            for name, value in evidence.items():
                number, labels = known[name]
                row[number] = labels[value]
                numbers.append(number)
        except (KeyError, TypeError, ValueError):  # not hashable, no label, another variable
            return None
        numbers.sort()
        names = tuple([self._name[k] for k in numbers])
        return RowEvidence(codes, False, None, self._no_scale, {}, {}, names)

    def _check_names(self, names: Sequence[Hashable], what: str) -> None:
        wrong = [n for n in names if not self._is_name(n)]
        if wrong:
            cells = self._cells if what == "column" else None
            hint = "" if cells is None else cells.hint(names, self._is_name)
            raise unknown_columns(wrong, self.variables, what, hint)

    def _is_name(self, name: Hashable) -> bool:
        return name in self._single or name in self._reals or self.elements.find(name) is not None

    def _find(self, name: Hashable, value: Any, raw: RawEvidence) -> tuple[int, Reading]:
        """Return the evidence on a variable and the index of its first element."""
        rule = raw.rule_of(value)
        if name in self._single:
            number, variable = self._single[name]
            return number, read_discrete(variable, value, rule)
        if name in self._reals:
            value = value.values if isinstance(value, Codes) else value
            return -1, read_real(self._reals[name], value, self._in_part.get(name))
        element = self.elements.find(name)
        if element is None:
            raise unknown_columns([name], self.variables, "variable")
        if element[0].shape:
            return self.elements.first[name], read_discrete(element[0], value, rule)
        return int(element[1]), read_discrete(element[0], value, rule)

    def _read_matrix(self, matrix: Any, rule: Rule) -> RowEvidence:
        """Read a column for each element, or an array ``(N, *shape)`` of the only variable."""
        rows, *rest = matrix.shape
        alone = len(self.variables) == 1 and self.variables[0].shape == tuple(rest)
        if alone or (self._vector is not None and rest != [len(self.elements)]):
            name = self.variables[0].name if alone else self._vector
            return self._assemble([self._find(name, matrix, RawEvidence(matrix, rule))])
        elements = self.elements
        if rest != [len(elements)]:
            what = "discrete variable" if elements.plain else "element of the discrete variables"
            raise EvidenceError(
                f"a matrix of state indices needs {len(elements)} columns, one for each {what} in "
                f"order, got shape {tuple(matrix.shape)}"
            )
        indices = self._indices(matrix, rule)
        if indices is not None:
            codes = check_matrix(indices, elements.card, self._element_name, 0)
            hard = np.flatnonzero(codes.max(axis=0, initial=MISSING) != MISSING)
            names = tuple(self._names(hard, set()))
            return RowEvidence(codes, True, None, np.zeros(rows), names=names)
        first = elements.first
        return self._assemble(
            [
                (
                    first[v.name],
                    read_discrete(
                        v,
                        matrix[:, first[v.name] : first[v.name] + v.num_elements].reshape(
                            rows, *v.shape
                        ),
                        replace(rule, rows=True),
                    ),
                )
                for v in elements.variables
            ]
        )

    def _is_only_real(self, values: Any) -> bool:
        """Whether a bare array has rows of the model's only real variable."""
        if len(self._reals) != 1:
            return False
        (variable,) = self._reals.values()
        if is_scipy_sparse(values):
            return tuple(values.shape[1:]) == variable.shape
        if isinstance(values, Tensor):
            floats = values.is_floating_point()
        else:
            floats = isinstance(values, np.ndarray) and values.dtype.kind == "f"
        return floats and values.ndim > 0 and tuple(values.shape[1:]) == variable.shape

    def _indices(self, matrix: Any, rule: Rule) -> NDArray[np.integer[Any]] | None:
        """Return an integer matrix whose values are state indices; None for any other matrix."""
        if isinstance(matrix, Tensor):
            if matrix.is_floating_point() or matrix.is_complex():
                return None
            matrix = matrix.numpy(force=True)
        if isinstance(matrix, np.ma.MaskedArray) or matrix.dtype.kind not in "iu":
            return None
        direct = rule.coded or all(v.labels.direct for v in self.discrete)
        return matrix if direct and not rule.ignore_unknown else None

    def _element_name(self, number: int) -> Hashable:
        return self.elements.name(number)

    def _assemble(
        self,
        placed: Sequence[tuple[int, Reading]],
        index_rows: int | None = None,
        index: Any = None,
    ) -> RowEvidence:
        """Expand the evidence on each variable to all rows."""
        readings = [r for _, r in placed]
        check_apart(readings)
        rows = common_rows(readings, index_rows)
        size = 1 if rows is None else rows
        codes = np.full((size, self._size), MISSING, dtype=np.int32)
        soft: NDArray[np.float64] | None = None
        scale = np.zeros(size)
        tensors: dict[Hashable, Tensor] = {}
        reals: dict[Hashable, Tensor] = {}
        softly: set[int] = set()
        for first, r in placed:
            v = r.variable
            if r.real is not None:
                reals[v.name] = r.real if is_sparse(r.real) else r.real.expand(size, *v.shape)
                continue
            count = 1 if r.rows is None else r.rows
            last = first + v.num_elements
            if r.column is not None:
                codes[:, first:last] = r.column.take().reshape(count, last - first)
            elif r.likelihood is not None:
                softly.add(first)
                offset = self.elements.offset
                if soft is None:
                    soft = np.ones((size, int(offset[-1])))
                width = int(offset[last] - offset[first])
                soft[:, offset[first] : offset[last]] = r.likelihood.reshape(count, width)
                scale += r.log_scale
                if r.tensor is not None:
                    tensors[v.name] = r.tensor.expand(size, *v.shape, v.num_states)
        hard = np.flatnonzero(codes.max(axis=0, initial=MISSING) != MISSING)
        names = (*self._names(hard, softly), *reals)
        whole = tuple(r.variable.name for r in readings if r.whole)
        return RowEvidence(
            codes, rows is not None, soft, scale, tensors, reals, names, index, whole=whole
        )

    def _names(self, hard: NDArray[np.intp], softly: set[int]) -> list[Hashable]:
        """Return the names of the variables of some elements, in order."""
        if self.elements.plain:
            return [self._name[k] for k in sorted(softly.union(hard.tolist()))]
        observed = np.union1d(self.elements.owners(hard), self.elements.owners(sorted(softly)))
        return [self.elements.variables[k].name for k in observed.astype(int).tolist()]

    def _coded(self, variables: Sequence[Variable], raw: RawEvidence, block: int) -> CodedColumns:
        values = raw.values
        if isinstance(values, Tensor | np.ndarray):
            named = self._matrix_columns(values)
            indices = self._indices(values, raw.rule)
            if indices is not None and len(indices):
                return MatrixColumns(variables, indices, list(named), block)
            values = {n: np.ascontiguousarray(x) for n, x in named.items()}
        else:
            values = columns_of(values)
        names = [n for n in values if n not in raw.ignore]
        known = [v.name for v in self.variables]
        if wrong := [n for n in names if not self._is_name(n)]:
            raise unknown_columns(wrong, self.variables)
        columns: list[Column] = []
        for v in variables:
            if v.name not in names:
                rest = [name for name in names if name not in known] or names
                raise DataError(
                    f"data has no column {v.name!r}{closest(v.name, rest)}",
                    "If it is latent, never observed, learn with EM()",
                )
            cells = only_column(values[v.name])
            shape = tuple(np.shape(cells)) if hasattr(cells, "shape") else (1,)
            if len(shape) != 1:
                raise DataError(
                    f"column {v.name!r} must hold one value for each row, shape (N,), got {shape}"
                )
            reading = read_discrete(v, cells, replace(raw.rule, rows=True))
            if reading.column is None or reading.rows is None:
                raise DataError(
                    f"column {v.name!r} must be a sequence with one value for each row, got "
                    f"{values[v.name]!r}"
                )
            columns.append(reading.column)
        lengths = {v.name: len(c.raw) for v, c in zip(variables, columns, strict=True)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns must have the same number of rows, got {lengths}")
        if not next(iter(lengths.values()), 0):
            raise DataError("data has no rows")
        return CodedColumns(variables, columns, block)

    def _matrix_columns(self, matrix: Any) -> dict[Hashable, Any]:
        names = [v.name for v in self.variables]
        expected = f"expected integer state indices of shape (N, {len(names)})"
        if matrix.ndim != 2 or matrix.shape[1] != len(names):
            shown = f"{names[:8]}{' and more' if len(names) > 8 else ''}"
            raise DataError(f"{expected}, columns in the order {shown}, got {tuple(matrix.shape)}")
        if isinstance(matrix, Tensor):
            matrix = matrix.numpy(force=True)
        if matrix.dtype.kind not in "iub":
            raise DataError(
                f"{expected}, got {matrix.dtype}",
                "give labels in a data frame or a mapping of columns, and -1 for missing indices",
            )
        return {name: matrix[:, k] for k, name in enumerate(names)}
