"""Sequences with an input that has its own steps, such as transcripts of sound or translations."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pgnn.errors import Advice, EvidenceError, closest, short_repr
from pgnn.evidence.covariates import input_sequences
from pgnn.evidence.row_lengths import lengths_array
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable


class InputSequences(NamedTuple):
    """An input of all rows, padded to one length.

    Attributes:
        values: ``(B, S, ...)`` values, zero beyond the ends.
        lengths: ``(B,)`` number of steps of each row.
        batched: Whether the input was given in rows.
    """

    values: Tensor
    lengths: Tensor
    batched: bool

    @staticmethod
    def read(name: Hashable, raw: Any, lengths: Any = None) -> InputSequences:
        """Read an input.

        Args:
            name: Name of the input, for messages.
            raw: A list of sequences; an array ``(B, S, D)``, or ``(B, S)`` of whole numbers; or one
                sequence, without the first axis.
            lengths: ``(B,)`` lengths of the rows of an array; values beyond are ignored.

        Raises:
            EvidenceError: If the shape is wrong, or a value is NaN or ``+inf``.
        """
        values, steps, batched = _padded(name, raw)
        if lengths is not None:
            array = lengths_array(repr(AXIS), lengths)
            try:
                given = torch.as_tensor(array).reshape(-1)
            except (TypeError, ValueError, RuntimeError):
                raise EvidenceError(
                    f"{AXIS!r} must be the lengths ({len(steps)},) of the input {name!r}, got "
                    f"{short_repr(lengths)}"
                ) from None
            if (
                given.shape != steps.shape
                or given.is_floating_point()
                or bool((given > steps).any())
            ):
                raise EvidenceError(
                    f"{AXIS!r} must be the lengths ({len(steps)},) of the input {name!r}, at most "
                    f"{values.shape[1]}, got {given.tolist()}"
                )
            steps = given.long()
        inside = torch.arange(values.shape[1]) < steps[:, None]
        valid = inside.to(values.device)
        # NaN compares as false; minus infinity is the log of zero
        if values.is_floating_point() and not bool((values[valid] < torch.inf).all()):
            wrong = ~(values.flatten(start_dim=2) < torch.inf).all(-1) & valid
            row, step = wrong.nonzero()[0].tolist()
            raise EvidenceError(
                f"the input {name!r} has NaN or +inf among its values, in row {row}, step {step}"
            )
        beyond = ~valid.reshape(*valid.shape, *[1] * (values.dim() - 2))
        return InputSequences(values.masked_fill(beyond, 0), steps, batched)


def _padded(name: Hashable, raw: Any) -> tuple[Tensor, Tensor, bool]:
    """Return the values and lengths of all rows, and whether they were given in rows."""
    raw = input_sequences(name, raw)
    try:
        if isinstance(raw, list | tuple) and raw and np.ndim(raw[0]):
            parts = [torch.as_tensor(x) for x in raw]
            if all(p.dim() >= 1 + p.is_floating_point() for p in parts):
                steps = torch.tensor([len(p) for p in _alike(name, parts)])
                return pad_sequence(parts, batch_first=True), steps, True
            raw = torch.stack(parts)
        values = torch.as_tensor(raw)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EvidenceError(
            f"the input {name!r} must be sequences (S, ...) of numbers: {error}"
        ) from None
    axes = 1 + values.is_floating_point()
    if values.dim() < axes:
        raise EvidenceError(
            f"the input {name!r} must be (B, S, D), (B, S) of whole numbers, or a list of "
            f"sequences, got {tuple(values.shape)}"
        )
    batched = values.dim() > axes
    values = values if batched else values[None]
    return values, torch.full((len(values),), values.shape[1]), batched


def _alike(name: Hashable, parts: list[Tensor]) -> list[Tensor]:
    """Return the rows' values after checking that all steps have the same shape."""
    for row, part in enumerate(parts):
        if part.shape[1:] != parts[0].shape[1:]:
            raise EvidenceError(
                f"the input {name!r} has steps of shape {tuple(part.shape[1:])} in row {row}, of "
                f"{tuple(parts[0].shape[1:])} in row 0"
            )
    return parts


@dataclass(frozen=True, eq=False)
class PairedSequences(SequenceEvidence):
    """Sequences with an input that has its own steps.

    Attributes:
        input_lengths: ``(B,)`` number of steps of the input of each row; the other attributes
            describe the sequences.
    """

    input_lengths: Tensor = torch.zeros(0, dtype=torch.int64)  # noqa: RUF009 - never changed

    def take(self, rows: Any, steps: int | None = None) -> PairedSequences:
        """Return some of the rows, see the base class; inputs are truncated to their longest."""
        index = torch.as_tensor(rows)
        part = super().take(rows, steps)
        lengths = self.input_lengths[index]
        most = int(lengths.max()) if len(lengths) else 0
        inputs = {n: x[index.to(x.device), :most] for n, x in self.inputs.items()}
        return _paired(part, lengths, inputs)

    def observed_steps(self, name: Hashable) -> Tensor:
        """Return a ``(B, T)`` mask of the steps at which a variable was observed.

        Raises:
            EvidenceError: If a vector is partially observed.
        """
        if name in self.codes:
            return self.codes[name] >= 0
        if name not in self.reals:
            return torch.zeros(self.num_rows, self.steps, dtype=torch.bool)
        numbers = ~self.reals[name].unsqueeze(-1).flatten(start_dim=2).isnan()
        partly = numbers.any(-1) & ~numbers.all(-1)
        if bool(partly.any()):
            row, step = partly.nonzero()[0].tolist()
            raise EvidenceError(
                f"{name!r} was observed in row {row}, step {step}, but not all of its elements",
                "give the whole vector, or none of it",
            )
        return numbers.all(-1)

    @classmethod
    def of_pair(
        cls,
        variables: Sequence[Variable],
        evidence: Any,
        inputs: Mapping[Hashable, Any] | None,
        name: Hashable | None,
    ) -> PairedSequences:
        """Read evidence and its input.

        Args:
            variables: Variables of the evidence.
            evidence: See :meth:`SequenceEvidence.read`; no evidence by default.
            inputs: The input by name, see :meth:`InputSequences.read`; the name ``"T"`` stands
                for its lengths.
            name: Name of the input; None if there is none.

        Raises:
            EvidenceError: If the input is missing, or the number of inputs differs from that of
                sequences.
        """
        if isinstance(evidence, cls):
            return evidence
        raw = dict(inputs or {})
        if name is None:
            return cls._alone(variables, evidence, raw)
        lengths = raw.pop(AXIS, None)
        if raw.keys() != {name}:
            wrong = next((n for n in raw if n != name), None)
            hint = "" if wrong is None else f", not {wrong!r}{closest(wrong, [name])}"
            advice = Advice(f"give inputs={{{name!r}: ...}}{hint}", "inputs")
            raise EvidenceError(f"the model needs the input {name!r}", advice)
        sequences = InputSequences.read(name, raw[name], lengths)
        if evidence is None:
            none = torch.zeros_like(sequences.lengths)
            observed = SequenceEvidence(none, 0, batched=sequences.batched)
        else:
            observed = SequenceEvidence.read(variables, _named(variables, evidence))
        if (observed.num_rows, observed.batched) != (len(sequences.lengths), sequences.batched):
            raise EvidenceError(
                f"the input {name!r} is {_count(sequences.batched, len(sequences.lengths))}, the "
                f"evidence is {_count(observed.batched, observed.num_rows)}",
                "give one for each",
            )
        return _paired(observed, sequences.lengths, {name: sequences.values})

    @classmethod
    def _alone(
        cls, variables: Sequence[Variable], evidence: Any, inputs: Mapping[Hashable, Any]
    ) -> PairedSequences:
        """Return evidence without input."""
        if inputs:
            raise EvidenceError(f"the model takes no inputs, got {next(iter(inputs))!r}")
        given = {} if evidence is None else _named(variables, evidence)
        observed = SequenceEvidence.read(variables, given)
        return _paired(observed, torch.zeros_like(observed.lengths), {})


def _named(variables: Sequence[Variable], evidence: Any) -> Any:
    """Return evidence in which an empty sequence without a name belongs to the only variable."""
    single = isinstance(evidence, str | list | tuple | np.ndarray | Tensor) and not len(evidence)
    return {variables[0].name: evidence} if single and len(variables) == 1 else evidence


def _count(batched: bool, rows: int) -> str:
    return f"a batch of {rows}" if batched else "a single one"


def _paired(
    observed: SequenceEvidence, lengths: Tensor, inputs: Mapping[Hashable, Tensor]
) -> PairedSequences:
    parts = {f.name: getattr(observed, f.name) for f in fields(SequenceEvidence)}
    return PairedSequences(**parts | {"inputs": inputs}, input_lengths=lengths)
