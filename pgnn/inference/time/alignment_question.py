"""A question about labels and the steps that emit them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import AlignmentModel, Inputs
from pgnn.errors import EvidenceError
from pgnn.factors.evaluation_mode import evaluated
from pgnn.factors.variable import Variable
from pgnn.inference.base_question import BaseQuestion, Names
from pgnn.inference.chains.alignments import Alignments
from pgnn.inference.question import names_of


class AlignmentQuestion(BaseQuestion):
    """A model of labels, the labels of each row if known, and targets.

    Args:
        model: The model.
        evidence: Labels, or None.
        inputs: Inputs that emit the labels.
        names: Names of the queried variables, None for all.
        errors: Handling of impossible rows.

    Raises:
        EvidenceError: If a label is missing, or a name is unknown.
    """

    model: Any
    observed: Any

    def __init__(
        self,
        model: AlignmentModel,
        evidence: Any,
        inputs: Inputs | None,
        names: Names | None = None,
        errors: str = "raise",
    ) -> None:
        super().__init__(model, model.read(evidence, inputs), inputs, names=names, errors=errors)
        known = {v.name: v for v in (model.label, model.alignment)}
        queried = names_of(known if names is None else names, known, what="variable of the model")
        self.queried = set(queried)
        if self.knows_labels and not self.observed.is_known(model.label.name):
            gaps = (self.observed.codes[model.label.name] < 0) & self.observed.inside
            row, place = gaps.nonzero()[0].tolist()
            raise EvidenceError(
                f"label {place} of row {row} is missing: steps are aligned with all labels of a "
                "sequence, or with none"
            )

    @property
    def knows_labels(self) -> bool:
        """Whether labels were given, possibly an empty sequence."""
        return self.model.label.name in self.observed.codes

    @property
    def num_cells(self) -> int:
        """Number of labels and symbols of all rows."""
        return int(self.num_rows * (self.steps + self.observed.steps))

    @property
    def steps(self) -> int:
        """Largest number of steps of an input."""
        return int(self.observed.input_lengths.max()) if self.num_rows else 0

    @cached_property
    def log_probs(self) -> Tensor:
        """``(B, T, K + 1)`` log probabilities of the symbols."""
        with evaluated(self.model):
            logs: Tensor = self.model.log_probs(self.observed)
        return logs

    @cached_property
    def alignments(self) -> Alignments:
        """The paths that emit the labels."""
        codes = self.observed.codes[self.model.label.name]
        return self.aligned(codes, self.observed.lengths)

    def aligned(self, codes: Tensor, sizes: Tensor) -> Alignments:
        """Return the paths that emit given labels ``(B, U)``."""
        return Alignments(self.log_probs, self.observed.input_lengths, codes + 1, sizes)

    def over(self, variable: Variable, length: int) -> Variable:
        """Return a variable with a given length of its axis."""
        return Variable(variable.name, variable.states, (length,))

    @property
    def index(self) -> Any:
        """Index labels of the rows of a batch."""
        return self.observed.index if self.observed.batched else None


def collapsed(paths: Tensor) -> Tensor:
    """Return ``(..., U)`` labels emitted by paths ``(..., T)`` of symbols, -1 beyond the end.

    Example:
        >>> collapsed(torch.tensor([[0, 2, 2, 0, 2, 1]]))
        tensor([[1, 1, 0]])
    """
    before = torch.nn.functional.pad(paths[..., :-1], (1, 0), value=0)
    kept = (paths > 0) & (paths != before)
    place = kept.cumsum(-1) - 1
    most = int(kept.sum(-1).max()) if kept.numel() else 0
    labels = torch.full((*paths.shape[:-1], most + 1), -1)
    labels.scatter_(-1, torch.where(kept, place, most), paths - 1)
    return labels[..., :most]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ``(B, U)`` codes, -1 beyond the ends, and ``(B,)`` lengths."""
    sizes = torch.tensor([len(r) for r in rows], dtype=torch.int64)
    codes = torch.full((len(rows), int(sizes.max()) if len(rows) else 0), -1)
    for k, row in enumerate(rows):
        codes[k, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return codes, sizes
