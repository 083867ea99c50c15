"""Connectionist temporal classification: label sequences without known alignment."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import networkx as nx
import torch
from torch import Tensor, nn

from pgnn.abilities import AlignmentModel, Inputs
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.evidence.paired_sequences import PairedSequences
from pgnn.factors.factor import Factor
from pgnn.factors.piece import Settings
from pgnn.factors.time_steps import AXIS
from pgnn.factors.variable import Variable
from pgnn.models.model import Model
from pgnn.models.scores.neural_scores import NeuralScores

if TYPE_CHECKING:
    from pgnn.inference.assignment import Assignment, KBest
    from pgnn.inference.engine import Engine
    from pgnn.inference.learner import Learner


class CTC(Model, AlignmentModel):
    r"""Connectionist temporal classification: a likelihood of labels, summed over alignments.

    .. math:: p(z \mid x) = \sum_{\pi : \mathcal{B}(\pi) = z} \prod_{t=1}^T p(\pi_t \mid x),
        \qquad p(\pi_t = k \mid x) \propto e^{f_t(k; x)}

    Each step emits a label or the blank; :math:`\mathcal{B}` removes repetitions, then blanks. The
    variables are ``"label"``, over a separate axis, and ``"alignment"``, over the steps of the
    input. Given labels, :meth:`query` returns the posterior of the alignment and
    :meth:`most_probable` the best alignment; without labels, :meth:`decode` finds them.

    Args:
        labels: Number or names of the labels, without the blank; the characters of a text.
        scores: A network that maps an input ``(B, T, ...)`` to ``(B, T, K + 1)`` scores, with the
            blank first; or :class:`NeuralScores`; by default, the input itself contains the scores.
        input_name: Name of the input of a network.
        name: Name of the label.
        blank: Name of the blank symbol.

    Raises:
        ModelError: If ``scores`` is not a network, or the blank is also a label.

    References:
        Graves, Fernandez, Gomez and Schmidhuber (2006), Connectionist temporal classification:
        labelling unsegmented sequence data with recurrent neural networks.

    Example:
        >>> model = CTC(["a", "b"])
        >>> scores = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]]).log()
        >>> round(float(model.log_prob(["a"], inputs={"x": scores}).exp()), 4)
        0.64
        >>> model.decode(inputs={"x": scores})["label"].tolist()
        ['a']
    """

    is_normalized = True

    def __init__(
        self,
        labels: int | Iterable[Hashable],
        scores: nn.Module | None = None,
        *,
        input_name: Hashable = "x",
        name: Hashable = "label",
        blank: Hashable = "-",
    ) -> None:
        super().__init__()
        network: Any = nn.Identity() if scores is None else scores
        self.scores = (
            network if isinstance(network, NeuralScores) else NeuralScores(network, input_name)
        )
        characters = [*labels] if isinstance(labels, str) else labels
        self._label = Variable(name, characters, ("U",))
        self.blank = blank
        if blank in (states := self._label.states or ()):
            raise ModelError(
                f"the blank {blank!r} is also a label", "give it another name by blank="
            )
        self._alignment = Variable("alignment", [blank, *states], (AXIS,))
        self.graph = nx.freeze(nx.DiGraph([("alignment", name)]))

    def settings(self) -> Settings:
        """Return the labels and the network."""
        return {
            "labels": self._label.states,
            "scores": None if self._is_bare else self.scores,
            "input_name": self.scores.input_name,
            "name": self._label.name,
            "blank": self.blank,
        }

    @property
    def _is_bare(self) -> bool:
        """Whether the input itself is the scores."""
        return type(self.scores.module) is nn.Identity and not self.scores.takes_lengths

    @property
    def label(self) -> Variable:
        """The labels."""
        return self._label

    @property
    def alignment(self) -> Variable:
        """The alignment: one symbol per step."""
        return self._alignment

    @property
    def variables(self) -> Mapping[Hashable, Variable]:
        """The variables of labels and alignment."""
        return {v.name: v for v in (self._label, self._alignment)}

    def factors(
        self, observed: Mapping[Hashable, Tensor] | None = None, inputs: Inputs | None = None
    ) -> tuple[Factor, ...]:
        """Not supported: the number of labels depends on the alignment.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported("CTC has no tables", "leave out engine=, or pass PrefixSearch(width=...)")

    def read(self, evidence: Any, inputs: Inputs | None = None) -> PairedSequences:
        """Read labels (optional) and the input; see the base class.

        Args:
            evidence: Sequences of labels; strings if labels are characters.
            inputs: The input by name: ``(B, T, D)``, a list of sequences ``(T, D)``, or a single
                sequence; ``"T"`` contains the lengths of padded sequences.
        """
        name = self.scores.input_name
        rows = PairedSequences.of_pair([self._label], evidence, inputs, name)
        if rows.soft:
            raise EvidenceError(f"{self._label.name!r} must be labels, got likelihoods")
        return rows

    def log_probs(self, observed: PairedSequences) -> Tensor:
        """Return ``(B, T, K + 1)`` log probabilities of the symbols, see the base class.

        Raises:
            ModelError: If the network has another number of outputs, or an output is NaN.
        """
        lengths, name = observed.input_lengths, self.scores.input_name
        steps = observed.inputs[name].shape[1]
        inside = torch.arange(steps) < lengths[:, None]
        scores = self.scores.padded(observed.inputs, inside)
        symbols = self._alignment.num_states
        if scores.shape[-1] != symbols:
            raise ModelError(
                f"{symbols - 1} labels and the blank need {symbols} scores at each step, but the "
                f"network of {name!r} returns {scores.shape[-1]}"
            )
        beyond = ~inside.to(scores.device)[..., None]
        scores = scores.masked_fill(beyond, 0.0)
        top = scores.detach().amax(-1, keepdim=True)
        if not bool((top < torch.inf).all()):  # NaN compares as false
            raise ModelError(f"the network of {name!r} returns NaN or infinite scores")
        lost = top.isneginf()
        return scores.masked_fill(lost, 0.0).log_softmax(-1).masked_fill(beyond | lost, -torch.inf)

    def log_likelihood(self, rows: PairedSequences) -> Callable[[], Tensor]:
        """Return a function of ``(B,)`` log probabilities of labels, see the base class."""
        from pgnn.inference.chains.alignments import Alignments

        labels, lengths = rows.codes[self._label.name] + 1, (rows.input_lengths, rows.lengths)

        def log_probs() -> Tensor:
            return Alignments(self.log_probs(rows), lengths[0], labels, lengths[1]).log_partition()

        return log_probs

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`LearningVerbs`; labels are read together with their inputs.

        Raises:
            DataError: If a sequence has more labels than its input can emit.
        """
        from pgnn.inference.time.prefix_search import steps_needed

        try:
            rows = self.read(data, inputs)
        except EvidenceError as error:
            raise DataError(error.reason, error.advice) from None
        if not rows.is_known(self._label.name):
            raise DataError("all sequences must have labels", "leave out sequences without")
        needed = steps_needed(rows.codes[self._label.name], rows.lengths)
        lost = (needed > rows.input_lengths).nonzero().flatten().tolist()
        if lost:
            raise DataError(
                f"{len(lost)} of {rows.num_rows} sequences have too many labels (first: sequence "
                f"{lost[0]}, whose labels need {int(needed[lost[0]])} steps, but its input has "
                f"{int(rows.input_lengths[lost[0]])})",
                "leave them out, or use longer inputs",
            )
        yield rows, None

    def default_learner(self, data: Any) -> Learner:
        """Return Adam with small steps, batches of 32 and clipped gradients."""
        from pgnn.inference.learning.gradient import Gradient

        return Gradient.of_networks(rate=0.01, passes=50)

    def default_engine(self) -> Engine:
        """Return ``PrefixSearch()``."""
        from pgnn.inference.time.prefix_search import PrefixSearch

        return PrefixSearch()

    def decode(
        self, *, inputs: Inputs | None = None, engine: Engine | None = None, k: int = 1
    ) -> Assignment | KBest:
        """Return the most probable labels, summed over all alignments.

        The ``upper_bound`` of the result equals its ``log_prob`` if it is exact.

        Args:
            inputs: See :meth:`read`.
            engine: ``PrefixSearch(width=...)``; width 0 is greedy.
            k: Number of label sequences.

        Returns:
            Labels by name; shorter sequences of a batch are padded with None, or with -1 if labels
            are indices.

        Raises:
            EvidenceError: If the input is missing.
        """
        return self.most_probable(None, self._label.name, inputs=inputs, engine=engine, k=k)
