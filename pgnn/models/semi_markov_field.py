"""Semi-Markov conditional random fields: labelled segments with scores of durations."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pgnn.abilities import Inputs
from pgnn.errors import DataError, ModelError, Unsupported
from pgnn.evidence.sequence_evidence import SequenceEvidence
from pgnn.factors.piece import Settings
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.models.conditional_random_field import ConditionalRandomField
from pgnn.models.scores.label_automaton import LabelAutomaton
from pgnn.models.scores.step_scores import StepScores

if TYPE_CHECKING:
    from pgnn.inference.chains.attribute_chain import AttributeChain
    from pgnn.inference.chains.segment_chain import SegmentChain
    from pgnn.models.markov_random_field import MarkovRandomField


class SemiMarkovField(ConditionalRandomField):
    r"""Semi-Markov conditional random field: labelled segments given inputs.

    A sequence consists of segments with labels :math:`z_s` and durations :math:`d_s`:

    .. math:: p(z, d \mid x) = \frac{1}{Z(x)} \exp \Big( \sum_s g(z_s, d_s)
        + \sum_{s > 1} A(z_{s-1}, z_s) + \sum_t f_t(z(t); x) \Big)

    Adjacent segments have different labels, so the labels of all steps determine the segments.

    Args:
        labels: Number or names of the labels; by default, :meth:`fit` reads them from the data.
        longest: Maximum duration ``D`` of a segment, in steps.
        scores: See :class:`ConditionalRandomField`.
        mask: ``(K, K)`` whether a label can follow another one.
        ends: Whether the first and the last label of a sequence have additional scores.
        name: Name of the label.

    Attributes:
        lasts: ``(K, D)`` learnable scores of durations.

    Raises:
        ModelError: If an argument is invalid.

    Cost: :math:`O(T K (K + D))` per sequence, computed by torch.

    References:
        Sarawagi and Cohen (2004), Semi-Markov conditional random fields for information extraction.

    Example:
        >>> inputs = {"attributes": [[{"word": w} for w in "aabbbaa"]]}
        >>> field = SemiMarkovField(longest=4).fit([list("xxyyyxx")], inputs=inputs, progress=False)
        >>> unseen = {"attributes": [{"word": w} for w in "bbaa"]}
        >>> field.decode(inputs=unseen)["label"].tolist()
        ['y', 'y', 'x', 'x']
    """

    def __init__(
        self,
        labels: int | Iterable[Hashable] | None = None,
        longest: int = 8,
        scores: Hashable | StepScores | Sequence[StepScores] = "attributes",
        *,
        mask: Any = None,
        ends: bool = False,
        name: Hashable = "label",
    ) -> None:
        if isinstance(mask, LabelAutomaton):
            raise ModelError("the mask of segments must be a table (K, K), not an automaton")
        self.longest = whole_number("longest", longest, 1, ModelError)
        super().__init__(labels, scores, mask=mask, ends=ends, name=name)

    def _declare(self, label: Variable) -> None:
        super()._declare(label)
        k = label.num_states
        self.barred |= torch.eye(k, dtype=torch.bool)
        self.lasts = nn.Parameter(torch.zeros(k, self.longest, dtype=torch.float64))

    def forbidden(self) -> Tensor:
        """See the base class; a label can follow itself within a segment."""
        return self.barred & ~torch.eye(len(self.barred), dtype=torch.bool)

    def _prepare(self, rows: SequenceEvidence, inputs: Inputs | None) -> dict[Hashable, Tensor]:
        self.lasts = nn.Parameter(torch.zeros_like(self.lasts))
        covariates = super()._prepare(rows, inputs)
        self._check_segments(rows)
        return covariates

    def _check_segments(self, rows: SequenceEvidence) -> None:
        """Check that all labels can be divided into segments.

        Raises:
            DataError: If the labels of a row cannot.
        """
        from pgnn.inference.chains.segment_chain import SegmentChain

        k, codes = self.state.num_states, rows.codes.get(self.name)
        if codes is None:
            codes = torch.full((rows.num_rows, rows.steps), -1)
        other = (codes[..., None] >= 0) & (codes[..., None] != torch.arange(k))
        field = torch.zeros(other.shape, dtype=torch.float64).masked_fill(other, -torch.inf)
        moves = torch.zeros(k, k, dtype=torch.float64).masked_fill(self.barred.cpu(), -torch.inf)
        lasts = torch.zeros(k, self.longest, dtype=torch.float64)
        chain = SegmentChain(moves.new_zeros(k), moves, lasts, field, rows.lengths)
        lost = chain.log_partition().isneginf().nonzero()
        if len(lost):
            raise DataError(self._why(int(lost[0]), codes[lost[0, 0], : rows.lengths[lost[0, 0]]]))

    def _why(self, row: int, codes: Tensor) -> str:
        """Return the reason why the labels of a row cannot be divided into segments."""
        values, counts = torch.unique_consecutive(codes, return_counts=True)
        long = ((values >= 0) & (counts > self.longest)).nonzero()
        if not len(long):
            return (
                f"the labels of row {row} cannot be divided into segments of at most "
                f"{self.longest} steps that the mask allows"
            )
        first = int(long[0])
        label, start = self.state.decode([int(values[first])])[0], int(counts[:first].sum())
        return (
            f"label {label!r} lasts {int(counts[first])} steps in row {row}, from step {start}, "
            f"but segments last at most {self.longest}: increase longest"
        )

    def settings(self) -> Settings:
        """Return the labels, the parts and the longest duration."""
        settings = super().settings()
        for name in ("transitions", "observed_transitions", "mask", "order"):
            settings.pop(name)
        return settings | {"longest": self.longest}

    def chain(
        self, observed: SequenceEvidence, inputs: Inputs | None = None, *, best: bool = False
    ) -> SegmentChain:
        """Return the chain of segments given inputs, see the base class."""
        from pgnn.inference.chains.segment_chain import SegmentChain

        steps: Any = super().chain(observed, inputs, best=best)
        t = steps.tensors
        return SegmentChain(
            t.initial[0], t.transition[0, 0], self.lasts.to(t.field), t.field, observed.lengths
        )

    def log_likelihood(self, rows: SequenceEvidence) -> Callable[[], Tensor]:
        """Return a function that computes log probabilities, see the base class."""
        return lambda: self.log_prob(rows, inputs=rows.inputs)

    def attribute_chain(self, rows: SequenceEvidence) -> AttributeChain | None:
        """None: a chain of segments is not a chain of steps."""
        return None

    def unroll(self, steps: int) -> MarkovRandomField:
        """Not supported: segments cannot be unrolled step by step.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            "segments cannot be unrolled step by step", "leave out engine= to sum over them"
        )
