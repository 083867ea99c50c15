"""Evidence over time, with rows of different lengths and missing values."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pgnn.errors import EvidenceError, short_repr
from pgnn.evidence.evidence import Evidence, Floats
from pgnn.evidence.frames import columns_of, frame_columns, is_frame
from pgnn.evidence.row_lengths import lengths_array
from pgnn.evidence.sequence_labels import codes_of_labels, split_labels
from pgnn.evidence.sequence_values import Parts, event_shape, read_parts, step_codes
from pgnn.evidence.unknown_variable import unknown_columns
from pgnn.evidence.values import RawEvidence, Rule
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import MISSING, Variable


@dataclass(frozen=True, eq=False)
class SequenceEvidence(Evidence):
    """Evidence in ``B`` rows over ``T`` steps.

    Attributes:
        lengths: ``(B,)`` int64 number of steps of each row.
        steps: Largest number of steps ``T``.
        codes: ``(B, T)`` int64 states of discrete variables by name; -1 where not observed. Only
            variables with evidence.
        reals: ``(B, T, *event)`` values of real variables; NaN where not observed.
        soft: ``(B, T, K)`` likelihoods of discrete variables.
        batched: Whether the evidence was given in rows; if not, ``B`` is 1.
        index: Labels of the rows, or of the steps of a single data frame.
        weights: ``(B,)`` weight of each row in learning; ones if ``None``.
        inputs: ``(B, T, ...)`` covariates by name in learning.
        labels: ``(B,)`` states of the variable with one value for each sequence, -1 where not
            observed; None if none is.
    """

    lengths: Tensor
    steps: int
    codes: Mapping[Hashable, Tensor] = field(default_factory=dict)
    reals: Mapping[Hashable, Tensor] = field(default_factory=dict)
    soft: Mapping[Hashable, Tensor] = field(default_factory=dict)
    batched: bool = True
    index: Any = None
    weights: Floats | None = None
    inputs: Mapping[Hashable, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows ``B``."""
        return len(self.lengths)

    @property
    def inside(self) -> Tensor:
        """``(B, T)`` mask of the steps within the length of each row."""
        return torch.arange(self.steps) < self.lengths[:, None]

    def fully_observes(self, name: Hashable) -> bool:
        """Return whether a real variable was observed at all steps of all rows."""
        values = self.reals.get(name)
        return values is not None and not bool(values[self.inside].isnan().any())

    @property
    def is_empty(self) -> bool:
        """Whether there are no steps."""
        return not int(self.lengths.sum())

    @property
    def requires_grad(self) -> bool:
        """Whether a value, or a likelihood, requires a gradient."""
        return any(x.requires_grad for x in (*self.reals.values(), *self.soft.values()))

    def is_known(self, name: Hashable) -> bool:
        """Return whether the state of a discrete variable was observed at every step."""
        return name in self.codes and bool(((self.codes[name] >= 0) | ~self.inside).all())

    def take(self, rows: Any, steps: int | None = None) -> SequenceEvidence:
        """Return some of the rows.

        Args:
            rows: Indices of the rows.
            steps: Number of steps to keep; by default that of the longest row.
        """
        index = torch.as_tensor(rows)
        lengths = self.lengths[index]
        if steps is None:
            steps = max(1, int(lengths.max())) if len(lengths) else 0

        def cut(values: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
            return {n: x[index.to(x.device), :steps] for n, x in values.items()}

        return SequenceEvidence(
            lengths.clamp_max(steps),
            steps,
            cut(self.codes),
            cut(self.reals),
            cut(self.soft),
            batched=self.batched,
            weights=None if self.weights is None else self.weights[index.numpy(force=True)],
            inputs=cut(self.inputs),
            labels=None if self.labels is None else self.labels[index],
        )

    def shortened(self, lengths: Tensor, steps: int | None = None) -> SequenceEvidence:
        """Return rows truncated to given lengths.

        Args:
            lengths: ``(B,)`` new length of each row, at most its current length.
            steps: Number of steps to keep; by default that of the longest row.
        """
        steps = max([0, *lengths.tolist()]) if steps is None else steps
        beyond = torch.arange(steps) >= lengths[:, None]

        def cut(values: Mapping[Hashable, Tensor], missing: float) -> dict[Hashable, Tensor]:
            kept = {}
            for name, x in values.items():
                gone = beyond.to(x.device).reshape(*beyond.shape, *[1] * (x.dim() - 2))
                kept[name] = x[:, :steps].masked_fill(gone, missing)
            return kept

        return replace(
            self,
            lengths=lengths,
            steps=steps,
            codes=cut(self.codes, MISSING),
            reals=cut(self.reals, torch.nan),
            soft=cut(self.soft, 1.0),
            inputs={n: x[:, :steps] for n, x in self.inputs.items()},
        )

    @classmethod
    def of(
        cls, model: Any, evidence: Any, inputs: Mapping[Hashable, Any] | None = None
    ) -> SequenceEvidence:
        """Read evidence of a model over time, see :meth:`read`.

        Sequences without a name belong to the only variable that is not hidden, or the only
        variable.

        Args:
            model: The model.
            evidence: Evidence.
            inputs: Covariates by name, which may determine lengths (``model.input_lengths``).

        Raises:
            EvidenceError: If there are several such variables, lengths of evidence and inputs
                differ, or :meth:`read` raises it.
        """
        if isinstance(evidence, cls):
            return evidence
        label = model.sequence_label
        evidence, labels = (evidence, None) if label is None else split_labels(label, evidence)
        raw = RawEvidence.of(evidence)
        if _is_bare(raw.values):
            observed = [n for n in model.variables if n not in model.hidden] or [*model.variables]
            raw = replace(raw, values={_only(observed): raw.values})
        lengths = model.input_lengths(inputs)
        nothing = raw.values is None or (isinstance(raw.values, Sized) and not len(raw.values))
        if raw.lengths is None and nothing:
            lengths = model.input_lengths(inputs, alone=True) if lengths is None else lengths
            raw = raw if lengths is None else replace(raw, values={AXIS: lengths})
        rows = cls._read([v for v in model.variables.values() if v is not label], raw)
        if lengths is not None:
            _check_lengths(rows, np.asarray(lengths))
        if label is None or labels is None:
            return rows
        return replace(rows, labels=codes_of_labels(label, labels, rows.num_rows, rows.batched))

    @classmethod
    def event_shapes(
        cls, names: Collection[Hashable], evidence: Any
    ) -> dict[Hashable, tuple[int, ...]]:
        """Return the shapes of undeclared real variables, inferred from evidence.

        Args:
            names: Names of the variables.
            evidence: See :meth:`read`.

        Raises:
            EvidenceError: If the data is ambiguous.
        """
        raw = RawEvidence.of(evidence)
        if isinstance(raw.values, cls) or is_frame(raw.values):
            return {}
        if _is_bare(raw.values):
            columns: Mapping[Hashable, Any] = dict.fromkeys(names, raw.values)
        elif isinstance(raw.values, Mapping):
            columns = raw.values
        else:
            return {}
        length = columns.get(AXIS, raw.lengths)
        lengths = None if length is None else lengths_array(repr(AXIS), length)
        return {n: event_shape(n, columns[n], lengths) for n in names if n in columns}

    @classmethod
    def read(cls, variables: Sequence[Variable], evidence: Any) -> SequenceEvidence:
        """Read evidence over time in any supported form.

        Values have the meanings that ``EvidenceReader`` gives them, in every container.

        Args:
            variables: Variables of the model, with the axis ``"T"`` first in their shapes.
            evidence: Mapping of names to one sequence ``(T, ...)``, to rows of equal length
                ``(B, T, ...)``, to a list of sequences of any lengths, or to one sequence of
                concatenated rows, if there are several lengths: labels, state indices or reals,
                ``-1``, ``None`` or NaN where not observed; floats ``(T, K)`` or ``(B, T, K)`` of
                discrete variables are likelihoods. The name ``"T"`` stands for the lengths: a
                number, ``(B,)`` numbers, or a mask ``(B, T)`` of the observed steps. ``(name, t)``
                is the state at one step. Alternatively a data frame, whose rows are the steps of
                one sequence, or a list of frames. Sequences of the only variable need no name. Also
                :func:`pgnn.observed` of these, which accepts ``lengths=`` too, or a result of this
                method. Texts: see :func:`spelled`.

        Raises:
            EvidenceError: If a name or state is unknown, or lengths disagree.
        """
        if isinstance(evidence, cls):
            return evidence
        raw = RawEvidence.of(evidence)
        if _is_bare(raw.values):
            raw = replace(raw, values={_only([v.name for v in variables]): raw.values})
        return cls._read(variables, raw)

    @classmethod
    def _read(cls, variables: Sequence[Variable], raw: RawEvidence) -> SequenceEvidence:
        index = getattr(raw.values, "index", None) if is_frame(raw.values) else None
        findings = {n: x for n, x in _mapping(raw.values).items() if n not in raw.ignore}
        known = {v.name: v for v in variables}
        length = findings.pop(AXIS, None) if AXIS not in known else None
        argument, length = (repr(AXIS), length) if length is not None else ("lengths=", raw.lengths)
        at_steps: dict[Any, Any] = {n: findings.pop(n) for n in [*findings] if _is_step(n, known)}
        if wrong := [n for n in findings if n not in known]:
            what = "column" if is_frame(raw.values) else "variable of the model"
            raise unknown_columns(wrong, variables, what)
        row_lengths = None if length is None else lengths_array(argument, length)
        columns = {
            n: read_parts(known[n], x, raw.rule_of(x), row_lengths).cut(row_lengths)
            for n, x in findings.items()
        }
        rows, batched = _rows(columns, row_lengths, at_steps)
        lengths, mask = _lengths(columns, row_lengths, rows, argument)
        steps = max([int(lengths.max(initial=0)), *(c.steps for c in columns.values())])
        codes: dict[Hashable, Tensor] = {}
        reals: dict[Hashable, Tensor] = {}
        soft: dict[Hashable, Tensor] = {}
        for name, column in columns.items():
            held = soft if column.soft else codes if column.variable.is_discrete else reals
            held[name] = column.filled(rows, steps, lengths, mask)
        for (name, step), state in at_steps.items():
            rule = raw.rule_of(state)
            codes[name] = _with_step(known[name], codes.get(name), (rows, steps), step, state, rule)
        for name in codes.keys() & soft.keys():  # known where both have evidence
            hard = codes.pop(name)
            likely = one_hot(hard.clamp_min(0), known[name].num_states).to(soft[name])
            soft[name] = torch.where((hard >= 0).unsqueeze(-1), likely, soft[name])
        return cls(torch.from_numpy(lengths), steps, codes, reals, soft, batched, index)


def _check_lengths(rows: SequenceEvidence, lengths: np.ndarray) -> None:
    """Check that evidence and inputs have the same lengths."""
    if lengths.size != rows.num_rows:
        raise EvidenceError(
            f"{rows.num_rows} sequences, but the inputs are those of {lengths.size}"
        )
    pairs = zip(rows.lengths.tolist(), lengths.ravel(), strict=True)
    for row, (steps, input_steps) in enumerate(pairs):
        if steps != input_steps:
            raise EvidenceError(f"sequence {row} has {steps} steps, its inputs have {input_steps}")


def _is_bare(evidence: Any) -> bool:
    """Return whether evidence consists of sequences without the name of a variable."""
    if is_frame(evidence) or isinstance(evidence, Mapping):
        return False
    if isinstance(evidence, str | np.ndarray | Tensor) or hasattr(evidence, "to_numpy"):
        return True
    listed = isinstance(evidence, list | tuple) and len(evidence) > 0
    return listed and not any(isinstance(e, Mapping) or is_frame(e) for e in evidence)


def _only(names: Sequence[Hashable]) -> Hashable:
    if len(names) == 1:
        return names[0]
    if not names:
        raise EvidenceError("the model has no variable that these sequences could belong to")
    raise EvidenceError(
        f"sequences without a name could belong to {', '.join(map(repr, names))}",
        f"give a mapping such as {{{names[0]!r}: ...}}",
    )


def _mapping(evidence: Any) -> dict[Hashable, Any]:
    if evidence is None:
        return {}
    if isinstance(evidence, Mapping) or is_frame(evidence):
        return dict(columns_of(evidence))
    if isinstance(evidence, list | tuple) and all(map(is_frame, evidence)):
        frames = [dict(frame_columns(f)) for f in evidence]
        names = dict.fromkeys(n for f in frames for n in f)
        if any(set(f) != set(names) for f in frames):
            raise EvidenceError("the data frames of a list must have the same columns")
        return {n: [f[n] for f in frames] for n in names}
    raise EvidenceError(
        "evidence over time must be a mapping of names to sequences, a data frame (one sequence) "
        f"or a list of data frames, got {type(evidence).__name__}"
    )


def _is_step(name: object, known: Mapping[Hashable, Variable]) -> bool:
    """Return whether a name denotes one step, ``(name, t)``."""
    return (
        isinstance(name, tuple)
        and name not in known
        and len(name) == 2
        and name[0] in known
        and isinstance(name[1], int | np.integer)
    )


def _rows(
    columns: Mapping[Hashable, Parts], length: Any, at_steps: Mapping[Any, Any]
) -> tuple[int, bool]:
    """Return the number of rows, and whether the evidence was given in rows."""
    counts = {n: len(c.rows) for n, c in columns.items() if c.batched}
    for name, state in at_steps.items():
        if isinstance(state, np.ndarray | Tensor) and state.ndim == 1:
            counts[name] = len(state)
    if length is not None and np.ndim(length):
        counts[AXIS] = len(length)
    if len(set(counts.values())) > 1:
        raise EvidenceError(
            "evidence has different numbers of rows: "
            + ", ".join(f"{n} of {name!r}" for name, n in counts.items())
        )
    return (next(iter(counts.values())), True) if counts else (1, False)


def _lengths(
    columns: Mapping[Hashable, Parts], array: np.ndarray | None, rows: int, argument: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return ``(B,)`` lengths, and the mask if there is one."""
    steps = np.zeros(rows, dtype=np.int64)
    for name, column in columns.items():
        column_steps = np.array([len(p) for p in column.rows], dtype=np.int64)
        column_steps = column_steps if column.batched else np.repeat(column_steps, rows)
        clash = (steps > 0) & (column_steps > 0) & (steps != column_steps)
        if clash.any():
            row = int(clash.argmax())
            raise EvidenceError(
                f"{name!r} has {column_steps[row]} steps in row {row}, another {steps[row]}",
                "pad unobserved steps with None, NaN or -1",
            )
        steps = np.maximum(steps, column_steps)
    if array is None:
        return steps, None
    mask, given = None, array
    if array.ndim == 2 and array.dtype == np.bool_:
        mask = array
        positions = np.arange(1, array.shape[1] + 1)
        array = np.where(array, positions, 0).max(axis=1, initial=0)
    if array.ndim > 1 or array.dtype.kind not in "iu" or (array < 0).any():
        raise EvidenceError(
            f"{argument} must be a length, (B,) lengths or a boolean mask (B, T), got "
            f"{short_repr(given.tolist())}"
        )
    array = np.broadcast_to(array, (rows,)).astype(np.int64)
    longer = (steps > 0) & (array > steps)
    if columns and longer.any():
        row = int(longer.argmax())
        raise EvidenceError(f"row {row} has {steps[row]} steps, but {argument} says {array[row]}")
    return array, mask


def _with_step(
    variable: Variable,
    codes: Tensor | None,
    shape: tuple[int, int],
    step: int,
    state: Any,
    rule: Rule,
) -> Tensor:
    """Insert the states at one step into ``(B, T)`` codes."""
    if not variable.is_discrete:
        raise EvidenceError(f"{variable.name!r} is real", "give its whole sequence")
    if not 0 <= step < shape[1]:
        raise EvidenceError(
            f"step {step} of {variable.name!r} is not within the {shape[1]} steps",
            f"{AXIS!r} gives their number where no sequence does",
        )
    codes = torch.full(shape, MISSING) if codes is None else codes.clone()
    codes[:, step] = torch.from_numpy(step_codes(variable, state, rule, step))
    return codes
